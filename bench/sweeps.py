"""MTORL's sweeps over n, lambda and mu (Figure 3), and what lambda trades: imitation of the log against worth.

    python bench/sweeps.py [--seeds 0 1 2 3 4] [--protocol users] [--part validation] [--out DIR] [--quick]

    n, lambda, mu    on the authors' samples: recall, F1, log loss of the next channel; AUC and log loss of the reward
    lambda's worth   the policy's SNIPS value on kuairand_random, whose exposure was random; clicks and profit a user
                     that it brings in the world, among users of whom there is no log, beside uniform choice

What is swept is chosen on validation, so that part is the default; give --part test once, when nothing is left to
choose. Seeds change the split, too, so what a value brings is told by its difference to the sweep's first value, paired
by seed. The folder gets results.json, report.html with a chart a sweep (intervals over seeds), each as an SVG, and
cost.json, seconds a fit; stopped, it goes on at the point it was at. --quick: two seeds, few users, a small net, two
values of each: shows that it runs, no more.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from mtorl import SAMPLES

from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.channel.scoring import evaluate
from headrace.channel.valuing import By, actor
from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Record, Source, aggregate, record, save
from headrace.journeys.prepare import prepare
from headrace.journeys.readers.samples import CRITEO, KUAIRAND
from headrace.journeys.store import Journeys
from headrace.learn.durable import replace_text
from headrace.learn.provenance import environment
from headrace.ope import estimate, reward_of
from headrace.ope.policies import Worth
from headrace.report.figures import save as save_figure
from headrace.report.figures import sweep
from headrace.report.page import write_page
from headrace.simulate.acting import MemoryPolicy
from headrace.simulate.log import simulate
from headrace.simulate.policies import Acting
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import true_value

SWEEPS: dict[str, tuple[str, tuple[float, ...]]] = {  # the paper's name: our field, the values
    "n": ("length", (5, 10, 15, 20, 25, 30)),
    "lambda": ("preference_weight", (0.0, 0.2, 0.6, 1.0, 1.4, 1.8, 2.4)),
    "mu": ("reward_weight", (0.0, 0.02, 0.04, 0.08, 0.2, 1.0)),
}
FIGURE_3 = ("action/recall_macro", "action/log_loss", "reward/auc", "reward/log_loss")
KEPT = (*FIGURE_3, "action/f1_macro")
STEPS = 64  # of a history in the world
# the calibrated policy of a log drawn by lot is near uniform whatever it learnt: its most probable channel is not
VALUED: dict[str, By] = {"value_snips": "policy", "value_snips_greedy": "greedy"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    users: int | None  # of a sample; None: all
    world_users: int
    days: int
    valued_users: int
    config: dict[str, Any]
    most: int | None  # values of a sweep, its ends among them


FULL = Size(None, 1_500, 14, 4_000, {}, None)
QUICK = Size(300, 200, 6, 300, {"width": 16, "epochs": 2, "heads": 2, "average": None}, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--samples", nargs="*", default=list(SAMPLES), help="none: the world alone")
    parser.add_argument("--sweeps", nargs="+", default=list(SWEEPS), choices=list(SWEEPS))
    parser.add_argument("--protocol", default="users")
    parser.add_argument("--part", default="validation", choices=["validation", "test"])
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/sweeps"))
    parser.add_argument("--no-world", action="store_true", help="lambda on the samples alone")
    parser.add_argument("--values", type=int, help="of a sweep, its ends among them; default: all")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    size = replace(size, most=given.values or size.most)
    seeds = given.seeds or ([0, 1] if given.quick else [0, 1, 2, 3, 4])
    given.out.mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    cost: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for sample in given.samples:
            journeys = sample_of(sample, given.data, Path(scratch), size)
            for name in given.sweeps:
                for value in values_of(name, size):
                    for seed in seeds:
                        key = f"{sample} {name}={value:g} seed {seed}"
                        make = partial(point, journeys, given.protocol, given.part, name, value, seed, size)
                        found, cost[key] = kept(given, key, make)
                        records += found
        if "lambda" in given.sweeps and not given.no_world:
            for seed in seeds:
                key = f"world lambda seed {seed}"
                found, cost[key] = kept(given, key, partial(world, Path(scratch), given.protocol, seed, size))
                records += found
    records += differences(records)
    if len(seeds) > 1:
        records = aggregate(records)
    save(records, given.out / "results.json")
    (given.out / "cost.json").write_text(json.dumps(cost, indent=1) + "\n", encoding="utf-8")
    write_page(given.out)
    for sample in given.samples:
        for name in given.sweeps:
            mine = [r for r in records if r["dataset"] == SAMPLES[sample][0] and set(r["setting"]) == {name}]
            for metric in dict.fromkeys(r["metric"] for r in mine):
                file = f"figure-{sample}-{name}-{metric.replace('/', '-')}.svg"
                if any(r["metric"] == metric and r["value"] is not None for r in mine):
                    save_figure(sweep(mine, metric, name), given.out / file)
    print(table(records))
    print(json.dumps({"out": str(given.out), "fits": len(cost), "seconds": round(sum(cost.values()))}))


def kept(given: argparse.Namespace, key: str, make: Callable[[], list[Record]]) -> tuple[list[Record], float]:
    """What a point measured and the seconds it took: read where this commit has left it, else made and left."""
    told = {"commit": environment()["commit"], "protocol": given.protocol, "part": given.part, "quick": given.quick}
    told |= {"values": given.values}
    path = given.out / "points" / f"{key.replace(' ', '-')}.json"
    if path.is_file():
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["told"] == told:
            return held["records"], held["seconds"]
    begun = time.perf_counter()
    records = make()
    seconds = round(time.perf_counter() - begun, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps({"told": told, "seconds": seconds, "records": records}) + "\n")
    print(key, file=sys.stderr, flush=True)
    return records, seconds


def sample_of(sample: str, data: Path, scratch: Path, size: Size) -> Journeys:
    """The journeys of a sample, of its first users where few are asked for."""
    schema, file = SAMPLES[sample]
    source = data / file
    if size.users is not None:
        user = {s.name: s.user for s in (CRITEO, KUAIRAND)}[schema]
        assert user is not None
        rows = pl.read_parquet(source)
        kept = rows[user].unique(maintain_order=True)[: size.users]
        source = scratch / f"{sample}.parquet"
        rows.filter(pl.col(user).is_in(kept.implode())).write_parquet(source)
    return prepare(source, schema, scratch / f"{sample}-journeys")


def values_of(name: str, size: Size) -> tuple[float, ...]:
    values = SWEEPS[name][1]
    return values if size.most is None else tuple(values[round(k)] for k in np.linspace(0, len(values) - 1, size.most))


def fitted(journeys: Journeys, protocol: str, name: str, value: float, seed: int, size: Size) -> MTORL:
    """MTORL with one field changed; lambda turns its loss on."""
    changes = size.config | {SWEEPS[name][0]: value, "seed": seed}
    if name == "lambda":
        changes["preference"] = "free"
    with tempfile.TemporaryDirectory() as run:
        return MTORL(MTORLConfig(**changes)).fit(journeys, journeys.split(protocol, seed), run, progress=False)


def point(journeys: Journeys, protocol: str, part: str, name: str, value: float, seed: int, size: Size) -> list[Record]:
    """The figures of one value and seed on a sample."""
    method = fitted(journeys, protocol, name, value, seed, size)
    split = journeys.split(protocol, seed)
    found = evaluate(method, journeys, split, part, floors=(), seed=seed).records
    made = [r | {"setting": {name: value}} for r in found if r["metric"] in KEPT and not r["setting"]]
    if name == "lambda" and journeys.schema.name == SAMPLES["kuairand"][0]:
        worth = Worth(method.reward_weights)
        rows = split.rows(part)
        gain = reward_of(journeys, rows, worth.weights)
        rows, gain = rows[~np.isnan(gain)], gain[~np.isnan(gain)]
        source = Source(journeys.schema.name, protocol, part, seed, {name: value})
        for metric, by in VALUED.items():
            chances = actor(method, worth, by)(journeys, rows).chances
            of = estimate(chances, journeys, rows, gain, "random", estimators=["snips"], seed=seed).estimates["snips"]
            made.append(record(source, method.name, metric, Interval(of.value, of.low, of.high, of.refused), of.n))
    return made


def world(scratch: Path, protocol: str, seed: int, size: Size) -> list[Record]:
    """Lambda in the world: the policy's imitation of the log on its test part, and what it brings to other users."""
    scenario = Scenario.load("ads")
    log = simulate(scenario, size.world_users, size.days, "logging", seed, scratch / f"world{seed}")
    made = brought(scenario, "uniform", "uniform", Source(log.schema.name, protocol, "validation", seed), size)
    for value in values_of("lambda", size):
        method = fitted(log, protocol, "lambda", value, seed, size)
        source = Source(log.schema.name, protocol, "validation", seed, {"lambda": value})
        found = evaluate(method, log, log.split(protocol, seed), "validation", floors=(), seed=seed).records
        made += [r | {"setting": {"lambda": value}} for r in found if r["metric"] == "action/log_loss"]
        assert method.transforms is not None
        policy = MemoryPolicy(method.policy(), method.length or STEPS, method.transforms.statistics)
        made += brought(scenario, policy, method.name, source, size)
        print(f"world lambda={value:g} seed {seed}", file=sys.stderr, flush=True)
    return made


def brought(scenario: Scenario, policy: Acting, name: str, source: Source, size: Size) -> list[Record]:
    """Clicks a user, and profit above no advert at all, among users that no log has seen."""
    found = true_value(scenario, policy, size.valued_users, size.days, 50_000 + (source.seed or 0))
    made = []
    for metric, of in (("true_value", found["clicks"]), ("incremental_value", found["incremental_profit"])):
        made.append(record(source, name, metric, Interval(of.value, of.low, of.high, of.refused), of.n))
    return made


def differences(records: list[Record]) -> list[Record]:
    """Of each figure to that of the sweep's first value with the same seed."""
    first: dict[tuple[Any, ...], tuple[Any, float | None]] = {}
    made = []
    for r in records:
        for name, value in r["setting"].items():
            key = (r["dataset"], r["part"], r["metric"], r["seed"], name)
            begin, figure = first.setdefault(key, (value, r["value"]))
            if value != begin and figure is not None and r["value"] is not None:
                more = {"value": r["value"] - figure, "low": None, "high": None, "against": f"{name} {begin:g}"}
                made.append(r | more)
    return made


def table(records: list[Record]) -> str:
    """Markdown: a line a value, its figures with intervals."""
    shown = [*FIGURE_3, *VALUED, "true_value", "incremental_value"]
    lines = ["| log | method | swept | " + " | ".join(shown) + " |", "|---|---|---|" + "---|" * len(shown)]
    rows: dict[tuple[str, str, str], dict[str, Record]] = {}
    for r in records:
        swept = ", ".join(f"{name} {value:g}" for name, value in r["setting"].items())
        swept += f" minus {r['against']}" if r["against"] else ""
        rows.setdefault((r["dataset"], r["method"], swept), {})[r["metric"]] = r
    for key, found in rows.items():
        lines.append(
            f"| {' | '.join(key)} | " + " | ".join(figure(found[m]) if m in found else "" for m in shown) + " |"
        )
    return "\n".join(lines)


def figure(of: Record) -> str:
    if of["value"] is None:
        return f"refused: {of['refused']}"
    return f"{of['value']:.4f}" + ("" if of["low"] is None else f" [{of['low']:.4f}, {of['high']:.4f}]")


if __name__ == "__main__":
    main()
