"""Bounds beside the methods of a comparison: what none of them can exceed, on the very users and budget of a world.

    lp-bound             in expectation, whoever knows everything but the luck to come (simulate/relaxation.py)
    clairvoyant-bound    on this very luck, whoever knows it (simulate/clairvoyant.py); loose

They hold for clicks or for revenue, each alone, and where an advert's cost is not spread: a ledger charges a cost up to
what was said to be possible, so it lets pass what a bound counts in full.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from headrace.campaign.comparing import Cell, Contest
from headrace.campaign.money import MICROS
from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Record, Source, record
from headrace.learn import durable
from headrace.simulate.clairvoyant import clairvoyant
from headrace.simulate.relaxation import bound
from headrace.simulate.scenario import Scenario

BOUNDS = {"lp-bound": bound, "clairvoyant-bound": clairvoyant}
OBJECTIVES = {"click": "clicks", "revenue": "revenue"}


def why_none(scenario: Scenario, weights: Mapping[str, float]) -> str | None:
    """Why this world and these gains have no bound; None where they have."""
    if len(weights) != 1 or next(iter(weights)) not in OBJECTIVES:
        return f"bounds are known of clicks alone or of revenue alone, not of {' + '.join(weights)}"
    if any(channel.cost_spread for channel in scenario.ads.channels):
        return f"the costs of scenario {scenario.name} are spread, and bounds are known of fixed ones"
    return None


def bound_of(name: str, contest: Contest, weights: Mapping[str, float], seed: int, folder: Path) -> float:
    """The most that all users of a world can bring, adverts or not; computed once, and kept in the folder."""
    path = folder / f"{name}-{seed}" / "bound.json"
    if not path.is_file():
        ((gain, weight),) = weights.items()
        budget = contest.budget / MICROS / (1.0 if contest.price is None else contest.price)
        found = BOUNDS[name](contest.scenario, contest.users, contest.days, seed, budget, OBJECTIVES[gain])
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace_text(path, json.dumps(weight * found.total) + "\n")
    return float(json.loads(path.read_text(encoding="utf-8")))


def bound_records(source: Source, name: str, totals: Mapping[int, float], cells: Mapping[int, Cell]) -> list[Record]:
    """A bound's records by seed and in the mean of the seeds; `cells` of any method tell what no advert brings."""
    records = []
    for metric, without in (("true_value_bound", False), ("incremental_value_bound", True)):
        values = {s: total - (float(cells[s].without.sum()) if without else 0.0) for s, total in totals.items()}
        users = {s: len(cells[s].without) for s in totals}
        for seed, value in values.items():
            records.append(record(replace(source, seed=seed), name, metric, Interval(value, None, None), users[seed]))
        mean = Interval(float(np.mean(list(values.values()))), None, None)
        records.append(record(replace(source, seed=None), name, metric, mean, sum(users.values())))
    return records
