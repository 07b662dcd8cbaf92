"""What a policy is worth by a log of another one, beside what the log itself was worth; or why nobody knows.

    headrace.ope.estimate(policy, journeys)

Several policies valued together see the same rows, the same models and the same resamples, so that each difference is
a paired one. The value is the mean gain of a step; with a selector, of a step that is advertised at, and its difference
to the log is then split into what the choice of users brings and what the choice of channels brings.

n rows, M channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from headrace.errors import UserError
from headrace.evaluate.bootstrap import RESAMPLES
from headrace.journeys.seams import Bools, Estimate, Floats, Integers
from headrace.journeys.statistics import gain_values
from headrace.journeys.store import Journeys
from headrace.journeys.views import WHOLE
from headrace.ope import single
from headrace.ope.feedback import Chances, Feedback, feedback, known_rewards, per_row
from headrace.ope.intervals import Drawn, Functional, Term, draw, groups_of, refuse
from headrace.ope.intervals import estimate as estimate_of
from headrace.ope.models import Progress, reward_model
from headrace.ope.propensities import Propensities, propensities
from headrace.ope.support import OBSERVED, Gate, Support, logged_refused, support

ALL = "all"  # the group of all rows


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy to be valued: what it does at each row, and whom it advertises to (None: everybody)."""

    chances: Chances  # (n, M), or a policy
    select: Floats | None = None  # (n,) probability of advertising


@dataclass(frozen=True, slots=True)
class Value:
    """What one policy is worth to one group of rows."""

    estimates: dict[str, Estimate]  # by estimator
    support: Support
    over_logged: dict[str, Estimate] = field(default_factory=dict)  # paired difference to the log, by estimator
    selection: Estimate | None = None  # what choosing users brings, with the log's channels
    channel: dict[str, Estimate] = field(default_factory=dict)  # what choosing channels brings to those users

    @property
    def best(self) -> Estimate:
        """By the recommended estimator."""
        return self.estimates[single.recommended(list(self.estimates))]


@dataclass(frozen=True, slots=True)
class Valuation:
    """The values of several policies by one log."""

    logged: dict[str, Estimate]  # by group of rows
    values: dict[str, dict[str, Value]]  # by group of rows, then by policy
    differences: dict[tuple[str, str], dict[str, Estimate]]  # of two policies over all rows, by estimator
    propensities: Propensities
    weights: dict[str, Floats] = field(default_factory=dict)  # (n,) importance weights by policy
    left_out: int = 0  # rows whose reward is not known

    def __getitem__(self, policy: str) -> Value:
        return self.values[ALL][policy]


def reward_weights(journeys: Journeys) -> dict[str, float]:
    """The reward where none is named: the first gain that has a size."""
    usable = [g.name for g in journeys.schema.gains if g.kind != "classes"]
    if not usable:
        raise UserError(f"{journeys.path}: schema {journeys.schema.name} names no gain; a value needs one")
    return {usable[0]: 1.0}


def reward_of(journeys: Journeys, rows: Integers, weights: Mapping[str, float] | None = None, s: float = 0.0) -> Floats:
    """(n,) the sum of gains by their weights (None: the first gain) less s times the cost; NaN where one is unknown."""
    schema = journeys.schema
    total = np.zeros(len(rows))
    for name, weight in (reward_weights(journeys) if weights is None else weights).items():
        if schema.gain(name).kind == "classes":
            raise UserError(f"{journeys.path}: gain {name} has classes and no size; a value needs another gain")
        total += weight * gain_values(schema.gain(name), np.asarray(journeys.gain(name))[rows])
    if s:
        if schema.cost is None:
            raise UserError(f"{journeys.path}: schema {schema.name} has no cost to penalise; leave --penalty out")
        total -= s * np.asarray(journeys.column("cost"))[rows].astype(np.float64)
    return total


def estimate(
    policy: Chances,
    journeys: Journeys,
    rows: Integers | None = None,
    reward: Floats | None = None,
    propensity: str | Floats | None = None,
    select: Floats | None = None,
    estimators: Sequence[str] = single.ESTIMATORS,
    seed: int = 0,
) -> Value:
    """The value of one policy by the log; see `value`.

    The mean gain of the policy that logged is the mean gain of the log:

    >>> import headrace, tempfile
    >>> folder = tempfile.mkdtemp() + "/log"
    >>> log = headrace.simulate_log(headrace.Scenario.load("ads"), 200, 2, "uniform", 0, folder)
    >>> found = estimate(np.full((log.n_steps, len(log.channels)), 1 / len(log.channels)), log, estimators=["ips"])
    >>> bool(abs(found.estimates["ips"].value - log.gain("click").mean()) < 1e-12)
    True
    """
    found = value({"policy": Candidate(policy, select)}, journeys, rows, reward, propensity, estimators, seed=seed)
    return found["policy"]


def value(
    candidates: Mapping[str, Candidate],
    journeys: Journeys,
    rows: Integers | None = None,
    reward: Floats | None = None,
    propensity: str | Floats | None = None,
    estimators: Sequence[str] = single.ESTIMATORS,
    subgroups: Mapping[str, Bools] | None = None,
    gate: Gate | None = None,
    thresholds: single.Thresholds | None = None,
    steps: int = WHOLE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
    paired: bool = True,
) -> Valuation:
    """Value policies by the rows of a log (None: all of them); everything given per row is (n,).

    `reward` defaults to the first gain (`reward_of` makes others); `propensity` is "logged", "random", "estimated" or
    values; `subgroups` names parts of the rows that get values of their own; `paired` asks for the difference of every
    two policies. Refused estimates have value None, the reason, and the raw number in `diagnostics` alone. Rows whose
    reward is unknown are left out (`left_out`); where that depends on the reward, values are biased.
    """
    single.recommended(estimators)
    rows = _rows(journeys, rows)
    reward = reward_of(journeys, rows) if reward is None else per_row("reward", reward, len(rows))
    if propensity is not None and not isinstance(propensity, str):
        propensity = per_row("propensity", propensity, len(rows))
    known = known_rewards(journeys, rows, reward)
    users = None if journeys.schema.user is None else journeys.user_of_step[rows[known]]
    codes, groups = groups_of(users, int(known.sum()), seed)
    given = propensity[known] if isinstance(propensity, np.ndarray) else propensity
    logged_with = propensities(journeys, rows[known], codes, given, seed, progress)
    chance = np.ones(len(rows))
    chance[known] = logged_with.values
    of = {
        name: feedback(journeys, rows, c.chances, reward, chance, _select(c.select, len(rows)), steps, seed)
        for name, c in candidates.items()
    }
    alike = np.full((len(rows), len(journeys.channels)), 1 / len(journeys.channels))
    base = feedback(journeys, rows, alike, reward, chance, None, steps, seed)
    q = None
    if of and set(estimators) & set(single.MODELLED):
        q = reward_model(journeys, rows[known], reward[known], codes, seed, progress=progress)
    wanted: dict[str, Functional] = {}
    parts = {ALL: np.ones(len(rows), dtype=np.bool_)} | dict(subgroups or {})
    for part, mask in parts.items():
        everybody = single.logged(base, mask[known])
        wanted[f"{part}/logged"] = single.functional(everybody, base)
        for name, whole in of.items():
            here = whole.within(mask[known])
            as_logged = [Term(here.select * here.reward, here.select)]
            for e in estimators:
                terms = single.terms(e, here, q, thresholds)
                wanted[f"{part}/{name}/{e}"] = single.functional(terms, here)
                wanted[f"{part}/{name}/{e}/over"] = single.difference(terms, everybody, here)
                if candidates[name].select is not None:
                    wanted[f"{part}/{name}/{e}/channel"] = single.difference(terms, as_logged, here)
            if candidates[name].select is not None:
                wanted[f"{part}/{name}/selection"] = single.difference(as_logged, everybody, here)
    pairs = list(combinations(of, 2)) if paired else []
    for a, b in pairs:
        for e in estimators:
            ours, theirs = (single.terms(e, of[name], q, thresholds) for name in (a, b))
            wanted[f"difference/{a}/{b}/{e}"] = single.difference(ours, theirs, of[a])
    if progress is not None:
        progress(f"{len(wanted)} intervals over {groups:,} groups")
    drawn = draw(wanted, groups, resamples, seed)
    return _collect(candidates, of, base, parts, pairs, known, drawn, estimators, logged_with, gate)


def _rows(journeys: Journeys, rows: Integers | None) -> Integers:
    """(n,) row numbers in the log's order, each once."""
    if rows is None:
        return np.arange(journeys.n_steps)
    found = np.asarray(rows)
    if found.dtype == np.bool_ or found.ndim != 1:
        raise UserError("rows: expected numbers of rows, (n,); of a mask give  np.flatnonzero(mask)")
    found = found.astype(np.int64)
    if not len(found) or (np.diff(found) <= 0).any() or found[0] < 0 or found[-1] >= journeys.n_steps:
        raise UserError(
            f"rows: expected at least one number from 0 to {journeys.n_steps - 1}, rising and each once; "
            "give  np.unique(rows)"
        )
    return found


def _select(select: Floats | None, n: int) -> Floats | None:
    if select is None:
        return None
    found = per_row("select", select, n)
    if not ((found >= 0) & (found <= 1)).all():
        raise UserError("select: expected the probability of advertising at each row, from 0 to 1")
    return found


def _collect(
    candidates: Mapping[str, Candidate],
    of: Mapping[str, Feedback],
    base: Feedback,
    parts: Mapping[str, Bools],
    pairs: Sequence[tuple[str, str]],
    known: Bools,
    drawn: Mapping[str, Drawn],
    estimators: Sequence[str],
    logged_with: Propensities,
    gate: Gate | None,
) -> Valuation:
    values: dict[str, dict[str, Value]] = {}
    logged = {}
    refusals = {}
    for part, mask in parts.items():
        n = int(mask[known].sum())
        few = logged_refused(base.within(mask[known]), OBSERVED)
        logged[part] = refuse(estimate_of(drawn[f"{part}/logged"], n), few)
        values[part] = {}
        for name, whole in of.items():
            here = whole.within(mask[known])
            overlap = support(here, gate, logged_with.doubt)
            refusals[part, name] = overlap.refused

            def judged(key: str, n: int = n, why: str | None = overlap.refused) -> Estimate:
                return refuse(estimate_of(drawn[key], n), why)

            selects = candidates[name].select is not None
            values[part][name] = Value(
                {e: judged(f"{part}/{name}/{e}") for e in estimators},
                overlap,
                {e: judged(f"{part}/{name}/{e}/over") for e in estimators},
                refuse(estimate_of(drawn[f"{part}/{name}/selection"], n), logged_refused(here, gate))
                if selects
                else None,
                {e: judged(f"{part}/{name}/{e}/channel") for e in estimators} if selects else {},
            )
    differences: dict[tuple[str, str], dict[str, Estimate]] = {}
    for a, b in pairs:
        why = refusals[ALL, a] or refusals[ALL, b]
        found = {e: estimate_of(drawn[f"difference/{a}/{b}/{e}"], int(known.sum())) for e in estimators}
        differences[a, b] = {e: refuse(estimate, why) for e, estimate in found.items()}
    return Valuation(
        logged, values, differences, logged_with, {name: f.weight for name, f in of.items()}, int((~known).sum())
    )
