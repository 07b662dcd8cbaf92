"""What a fitted fusion policy is worth on a part of a log: off-policy values behind the gate, beside the log's own.

n rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.errors import UserError
from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Evaluation, Source, record
from headrace.fuse.method import FuseMethod
from headrace.fuse.replay import lacking, transitions, whole
from headrace.fuse.value import DECAY, directed, directed_act, own_values, value
from headrace.journeys.onward import unseen
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.ope.fqe import FQEConfig
from headrace.ope.intervals import Term, draw, estimate, ratios
from headrace.ope.transitions import returns


def evaluate(
    method: FuseMethod,
    journeys: Journeys,
    split: Split,
    part: str = "test",
    other: Journeys | None = None,
    leaky: bool = False,
    floors: Sequence[str] | None = None,
    progress: Callable[..., None] | None = None,
    updates: int | None = None,
) -> Evaluation:
    """Records of the policy and of `logged`, discounted rewards a session, on the part, or on another log.

    `updates`: of an estimator at most; by default as many as the method had, so that no preset waits longer for its
    value than its fit, and 20,000 at most. Of another log only the sessions of users that training never saw. There are
    no floors: what a fusion policy must beat is the policy that logged.
    """
    if floors:
        raise UserError("a fusion policy is compared with the policy that logged; leave --floors out")
    log = journeys if other is None else other
    lacks = lacking(log)
    source = Source(log.schema.name, split.protocol, part if other is None else "other", method.config.seed, {}, leaky)
    if lacks:
        why = f"the log lacks {', '.join(lacks)}"
        none = Interval(None, None, None, why)
        return Evaluation([record(source, method.name, m, none, 0) for m in ("value_fqe", "value_cfqe")], {})
    rows = split.rows(part) if other is None else np.flatnonzero(unseen(journeys, split, other))
    if not len(rows):
        raise UserError(
            f"{log.path}: all of its users are training users of the run; give users it never saw"
            if other is not None
            else f"{log.path}: no session in the part {part}; choose another --part"
        )
    rows = whole(log, rows)
    if not len(rows):
        raise UserError(f"{log.path}: no session begins in the part {part}; fit the run under --protocol time")
    method.reads(log)
    policy = method.policy()
    _tell(progress, "states")
    states = policy.state.of_rows(log, rows)
    of = directed(transitions(log, rows, states, policy.space, method.weights), policy.space)
    fqe = estimator(min(method.config.updates, 20_000) if updates is None else updates, method.config.gamma)
    _tell(progress, "the policy that logged")
    own = own_values(of, fqe)
    _tell(progress, method.name)
    worth = value(directed_act(policy.of_states, policy.space), of, fqe, own)
    sums = returns(of, fqe.gamma)
    group = of.group[of.starts]
    mean = ratios([Term(sums, np.ones(len(sums)))], group, of.groups)
    logged = estimate(draw({"v": mean}, of.groups, 1_000, 0)["v"], len(sums))
    records: list[dict[str, Any]] = []
    for name, found in [("logged", dict.fromkeys(worth.estimates, logged)), (method.name, worth.estimates)]:
        for metric, e in found.items():
            records.append(record(source, name, metric, Interval(e.value, e.low, e.high, e.refused), e.n))
    records.append(record(source, method.name, "far_from_log", Interval(worth.far, None, None), len(of)))
    return Evaluation(records, {})


def estimator(updates: int, gamma: float) -> FQEConfig:
    """Five fits side by side, of at most so many updates."""
    return FQEConfig(
        gamma=gamma,
        hidden=(64,),
        ensemble=5,
        weight_decay=DECAY,
        most_steps=updates,
        check_every=min(250, max(1, updates // 8)),
        progress=False,
    )


def _tell(progress: Callable[..., None] | None, what: str) -> None:
    if progress is not None:
        progress(what)
