"""Which rows of a log policies are valued on, and where they may learn.

A policy is valued on steps that it did not learn from. N steps, n rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from headrace.cli.fitting import audited
from headrace.cli.measuring import is_own, own_journeys, own_split
from headrace.errors import UserError
from headrace.evaluate.floor_features import read
from headrace.journeys.audit import has_leak
from headrace.journeys.onward import unseen
from headrace.journeys.seams import Bools, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.learn.run import Run

MOST_VALUES = 8  # of a subgroup's feature that stand by themselves
TUNED = " (what learns or selects was tuned on it, so these values flatter: use them to choose, not to tell)"
MOST_NUMBERS = 8  # different numbers up to which each is a group; more are cut into quarters


@dataclass(frozen=True, slots=True)
class Place:
    """The rows, and the journeys and split that policies learn from and thresholds are fixed on."""

    rows: Integers  # (n,)
    protocol: str
    part: str
    words: str
    fitted: Journeys | None = None
    split: Split | None = None
    leaky: bool = False
    homes: dict[str, tuple[Journeys, Split]] = field(default_factory=dict)  # of the runs whose journeys are there


def place(log: Journeys, runs: Mapping[str, Run], learns: bool, protocol: str | None, part: str, seed: int) -> Place:
    """Where to value. UserError where no row is left, or the flags contradict a run's own split."""
    if runs:
        return _of_runs(log, runs, protocol, part)
    if learns or protocol is not None or part != "test":
        split = log.split(protocol or "honest", seed)
        leaky = has_leak(audited(log, split))
        words = f"the {part} part under protocol {split.protocol}" + (TUNED if learns and part == "validation" else "")
        return Place(split.rows(part), split.protocol, part, words, log, split, leaky)
    if log.n_steps == 0:
        raise UserError(f"{log.path}: the log holds no step; prepare one with rows")
    return Place(np.arange(log.n_steps), "none", "all", "all steps of the log")


def _of_runs(log: Journeys, runs: Mapping[str, Run], protocol: str | None, part: str) -> Place:
    free: Bools = np.ones(log.n_steps, dtype=np.bool_)
    homes: dict[str, tuple[Journeys, Split]] = {}
    own = []
    for name, run in runs.items():
        if protocol not in (None, run.config["protocol"]):
            raise UserError(
                f"--protocol {protocol}: {run.path} was fitted under {run.config['protocol']} and is valued on the "
                "steps that it did not learn from; leave --protocol out"
            )
        own.append(is_own(run, log))
        there = log if own[-1] else own_journeys(run)
        split = own_split(run, there)
        if there is not None:
            homes[name] = (there, split)
        free &= split.parts[part] if own[-1] else unseen(there or log, split, log)
    if not free.any():
        raise UserError(
            f"{log.path}: no step is left that {' and '.join(str(run.path) for run in runs.values())} did not "
            "learn from; give users that training never saw"
        )
    first, run = next(iter(runs.items()))
    fitted, home = homes.get(first, (None, None))
    leaky = any(f["verdict"] == "leak" for run in runs.values() for f in run.read_json("audit.json"))
    words = f"the {part} part of the run's own split" if all(own) else "the steps of users that the run never saw"
    words += TUNED if any(own) and part == "validation" else ""
    named = part if all(own) else "other"
    return Place(np.flatnonzero(free), run.config["protocol"], named, words, fitted, home, leaky, homes)


def subgroups(log: Journeys, rows: Integers, feature: str) -> dict[str, Bools]:
    """The rows of each value of a feature known before the decision, (n,) each; many numbers are cut into quarters."""
    found = log.schema.feature(feature)
    if found.known != "before":
        raise UserError(
            f"--subgroup {feature}: known only after the decision, so the groups would depend on what was chosen; "
            "name a feature that is known before"
        )
    user = found.level == "user"
    column = f"user/{feature}" if user else f"feature/{feature}"
    values = read(log, column, log.user_of_step[rows] if user else rows, log.categories)
    there = values[~np.isnan(values)]
    distinct, counts = np.unique(there, return_counts=True)
    groups: dict[str, Bools] = {}
    if found.kind == "numeric" and len(distinct) > MOST_NUMBERS:
        edges = np.unique(np.quantile(there, (0, 0.25, 0.5, 0.75, 1)))
        for i, (low, high) in enumerate(pairwise(edges)):
            last = i == len(edges) - 2
            held = (values >= low) & ((values <= high) if last else (values < high))
            groups[f"{feature} {low:.4g} to {high:.4g}"] = held
    else:
        texts = log.categories.get(column)
        kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_VALUES])
        for value in distinct[kept]:
            name = texts[int(value)] if texts is not None else f"{value:g}"
            groups[f"{feature}={name}"] = values == value
        if len(distinct) > MOST_VALUES:
            groups[f"{feature}: the other {len(distinct) - MOST_VALUES} values"] = np.isin(
                values, np.delete(distinct, kept)
            )
    if np.isnan(values).any():
        groups[f"{feature} unknown"] = np.isnan(values)
    return groups
