"""The policies that `headrace ope` values: what each would do at the rows, and whom it would advertise to.

n rows, M channels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.channel.methods import method_of
from headrace.channel.valuing import actor
from headrace.cli.rooms import load_channel
from headrace.cli.valuing_question import Asked
from headrace.errors import UserError
from headrace.journeys.seams import Floats
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.ope.policies import LEARNERS, Actor, named
from headrace.ope.selection import by_lot, threshold
from headrace.ope.valuation import Candidate

Tell = Callable[[str], None]


@dataclass(slots=True)
class Candidates:
    """The policies by name, and what ope.json tells of each."""

    of: dict[str, Candidate] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)


def candidates(asked: Asked, tell: Tell) -> Candidates:
    """Fit what learns, and ask every policy at the rows valued; thresholds come from the validation part."""
    made = Candidates()
    where, share = asked.place, asked.flags.select
    for name in asked.names:
        if name == "logged":
            continue
        run = asked.runs.get(name)
        fitted, split = (where.fitted, where.split) if run is None else where.homes.get(name, (None, None))
        act: Actor
        if run is not None:
            act = actor(load_channel(run), asked.worth, asked.flags.by)  # type: ignore[arg-type]  # checked with the flags
        elif name in LEARNERS and split is None:
            raise UserError(
                f"policy {name}: learns from the journeys that the run was fitted on, and they are gone; prepare them "
                f"again beside the run, or leave {name} out"
            )
        else:
            act = named(name, fitted or asked.log, split, asked.worth, asked.flags.seed, tell)
        tell(f"asking {name}")
        acts = act(asked.log, where.rows)
        told: dict[str, Any] = {"what": _what(name, run, asked.flags.by), "chosen": _chosen(acts.chances, asked.log)}
        select = None
        if share is not None:
            if acts.score is None:
                select = by_lot(len(where.rows), share)
            elif fitted is None or split is None:
                raise UserError(
                    f"--select: the threshold is fixed on the validation part of {name}'s own journeys, and they are "
                    "gone; prepare them again beside the run, or leave --select out"
                )
            else:
                scores = act(fitted, split.rows("validation")).score
                assert scores is not None
                fixed = threshold(scores, share)
                select = fixed.chances(acts.score)
                told["threshold"] = fixed.at
            told["selected"] = float(select.mean())
        made.of[name] = Candidate(acts.chances, select)
        made.told[name] = told
    return made


def _what(name: str, run: Run | None, by: str) -> str:
    if run is not None:
        best = "expected gain" if method_of(run.config["method"]).predicts_gains else "value"
        if by == "own":
            by = method_of(run.config["method"]).chooses_by.replace("policy", "greedy")
        how = {"value": f"the channel of the largest {best}", "policy": "drawn as its action decoder says"}
        return f"run {run.path.resolve().name}: {how.get(by, 'the most probable channel of its action decoder')}"
    if name.startswith("constant:"):
        return f"{name.removeprefix('constant:')} for everybody"
    return {
        "uniform": "every channel alike",
        "past-rate": "the channel of the user's largest past rate",
        "trees": "the channel of the largest gain that boosted trees expect",
    }[name]


def _chosen(chances: Floats, log: Journeys) -> dict[str, float]:
    """How often the policy would choose each channel; of many channels, the ten most frequent."""
    share = chances.mean(axis=0)
    return {log.channels[i]: float(share[i]) for i in np.argsort(-share, kind="stable")[:10]}
