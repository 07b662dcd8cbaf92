"""Does the gate let through what it should? Intervals of accepted and of refused estimates against the world's truth.

    python bench/ope_coverage.py --part check --logs 300 --out docs/tables/ope-coverage.md

Logs of the world's variants with overlap from excellent to none: the policy that logged and the one to be valued prefer
channels by what is seen of a user and the hour, more or less sharply, more or less alike; some logs never use a channel
that the other policy wants. The truth is the mean over many other users of the gain expected of the valued policy's
choice at each step (from the world's latent state). The variants are divided: thresholds are set on `set`, the verdict
is measured on `check`.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from made_by import made_by
from rich.console import Console
from rich.progress import Progress
from scipy.special import softmax

from headrace.ope.single import ESTIMATORS
from headrace.ope.valuation import Candidate, value
from headrace.simulate.ads import AdsWorld, Context
from headrace.simulate.calibrate import variants
from headrace.simulate.draws import Floats
from headrace.simulate.log import simulate
from headrace.simulate.policies import rollout
from headrace.simulate.scenario import Scenario

TRUTH_USERS = 20_000
GAINS = ("click", "click", "revenue")  # which gain a log is asked about, drawn at random


@dataclass(frozen=True)
class Preference:
    """Softmax over a random linear score of what is seen of a user and the hour; some channels never."""

    slopes: Floats  # (features, M)
    base: Floats  # (M,)
    floor: float  # share given to all its channels alike
    never: Floats  # (M,) 1 where a channel is never chosen

    def __call__(self, spend: Any, hour: Any, gap: Any) -> Floats:
        x = np.stack([np.log1p(spend) / 2 - 1.5, hour / 12 - 1, np.minimum(gap, 7) / 3.5 - 1], axis=1)
        scores = np.where(self.never, -np.inf, x @ self.slopes + self.base)
        able = (1 - self.never) / (1 - self.never).sum()
        return np.asarray(self.floor * able + (1 - self.floor) * softmax(scores, axis=1))

    def seen(self, context: Context) -> Floats:
        return self(context["past_spend"], context["hour"], context["days_since_last_visit"])


@dataclass
class Truth:
    """The logging policy, which notes at each step what the other one could expect."""

    logging: Preference
    valued: Preference
    sums: dict[str, float] = field(default_factory=lambda: {"click": 0.0, "revenue": 0.0, "steps": 0.0})
    together: bool = False

    def bind(self, world: AdsWorld) -> Any:
        def act(context: Context) -> Floats:
            rates, p = world.true_rates(), self.valued.seen(context)
            self.sums["click"] += float((p * rates.click).sum())
            self.sums["revenue"] += float((p * rates.revenue).sum())
            self.sums["steps"] += len(p)
            return self.logging.seen(context)

        return act


def pair(rng: np.random.Generator, m: int) -> tuple[Preference, Preference]:
    """A policy that logs and one to be valued."""
    sharpness = float(rng.choice([0.2, 0.5, 1.0, 2.0, 3.5]))
    alike = float(rng.uniform(-0.5, 1.0))
    slopes, base = rng.normal(size=(3, m)), rng.normal(size=m)
    others, another = rng.normal(size=(3, m)), rng.normal(size=m)
    never, none = np.zeros(m), np.zeros(m)
    if rng.random() < 0.2:
        never[rng.choice(m, int(rng.integers(1, m)), replace=False)] = 1
    floor = float(rng.choice([0.0, 0.02, 0.1, 0.3]))
    logging = Preference(sharpness * slopes, sharpness * base, floor, never)
    mixed, mixed_base = alike * slopes + (1 - abs(alike)) * others, alike * base + (1 - abs(alike)) * another
    sharper = sharpness * float(rng.choice([0.5, 1.0, 2.0, 8.0]))
    return logging, Preference(sharper * mixed, sharper * mixed_base, 0.0, none)


def one(variant: str, scenario: Scenario, seed: int) -> dict[str, Any]:
    """One log: the truth, every estimate with its interval, and the gate's verdict."""
    rng = np.random.default_rng([seed, 7])
    logging, valued = pair(rng, len(scenario.channels))
    users, days = int(np.exp(rng.uniform(np.log(100), np.log(3_000)))), int(rng.integers(2, 5))
    gain = GAINS[int(rng.integers(len(GAINS)))]
    noting = Truth(logging, valued)
    for first in range(0, TRUTH_USERS, 10_000):
        world = AdsWorld(scenario, np.arange(first, first + 10_000), 10_000 + seed, days)
        for _ in rollout(world, noting.bind(world)):
            pass
    truth = noting.sums[gain] / noting.sums["steps"]
    folder = Path(tempfile.mkdtemp())
    log = simulate(scenario, users, days, logging.seen, seed, folder / "log")
    of_step = np.asarray(log.feature("past_spend"))[log.user_of_step]
    chances = valued(of_step, np.asarray(log.feature("hour")), np.asarray(log.feature("days_since_last_visit")))
    reward = np.nan_to_num(np.asarray(log.gain(gain), dtype=np.float64))
    found = value({"other": Candidate(chances)}, log, None, reward, seed=seed)["other"]
    shutil.rmtree(folder)
    row: dict[str, Any] = {"variant": variant, "seed": seed, "gain": gain, "truth": truth, "users": users}
    row |= {"refused": found.support.refused, **{k: getattr(found.support, k) for k in SUPPORT}}
    for name, e in found.estimates.items():
        d = e.diagnostics
        raw = [d.get("raw_value", e.value), d.get("raw_low", e.low), d.get("raw_high", e.high)]
        row[name] = [*raw, d.get("percentile_low"), d.get("percentile_high"), d.get("normal_low"), d.get("normal_high")]
    return row


SUPPORT = ("n", "ess", "ess_groups", "ess_gains", "largest_share", "mean_weight", "mean_weight_error", "never_logged")


BANDS = (0, 25, 100, 300, 1_000, np.inf)
HONEST = ("ips", "snips", "dr", "sndr")  # whose intervals claim to hold the truth


def holds(row: dict[str, Any], name: str) -> bool:
    low, high = row[name][1:3]
    return bool(low is not None and low <= row["truth"] <= high)


def good(row: dict[str, Any], name: str) -> bool:
    """Whether the interval, accepted or not, holds the truth and is narrower than 20 % of it to either side."""
    return holds(row, name) and (row[name][2] - row[name][1]) / 2 < 0.2 * row["truth"]


def summary(rows: list[dict[str, Any]]) -> str:
    """Markdown: for each estimator how often intervals held the truth, and whether the good ones were let through."""
    lines = [
        "| estimator | accepted | of these hold the truth | refused | of these would have held it "
        "| good ones | of these accepted | bias of the accepted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for e in ESTIMATORS:
        given = [r for r in rows if r[e][1] is not None]
        accepted = [r for r in given if r["refused"] is None]
        refused = [r for r in given if r["refused"] is not None]
        fine = [r for r in given if good(r, e)]
        bias = np.mean([r[e][0] - r["truth"] for r in accepted]) / np.mean([r["truth"] for r in accepted])
        lines.append(
            f"| {e} | {len(accepted)} | {np.mean([holds(r, e) for r in accepted]):.1%} | {len(refused)} "
            f"| {np.mean([holds(r, e) for r in refused]):.1%} | {len(fine)} "
            f"| {np.mean([r['refused'] is None for r in fine]):.1%} | {bias:+.1%} |"
        )
    lines += [
        "",
        "Among the accepted of each band (all of a band where none was):",
        "",
        "| effective users | logs | accepted | " + " | ".join(HONEST) + " |",
        "|---|---|---|---|---|---|---|",
    ]
    for low, high in pairwise(BANDS):
        band = [r for r in rows if low <= r["ess_groups"] < high]
        if band:
            through = sum(r["refused"] is None for r in band)
            counted = [r for r in band if r["refused"] is None] or band
            shares = [np.mean([holds(r, e) for r in counted]) for e in HONEST]
            name = f"{low:g} to {high:g}" if high < np.inf else f"{low:g} and more"
            lines.append(f"| {name} | {len(band)} | {through} | " + " | ".join(f"{s:.1%}" for s in shares) + " |")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--part", choices=("set", "check"), default="check")
    arguments.add_argument("--logs", type=int, default=300)
    arguments.add_argument("--out", type=Path, help="the table, as Markdown")
    arguments.add_argument("--rows", type=Path, help="every log, as JSON")
    given = arguments.parse_args()
    every = sorted(variants(Scenario.load("ads")).items())
    scenarios = [named for i, named in enumerate(every) if i % 2 == (given.part == "check")]
    first = 100_000 * (given.part == "check")
    rows = []
    with Progress(console=Console(stderr=True)) as shown:
        for i in shown.track(range(given.logs), description=f"{given.part}: logs"):
            rows.append(one(*scenarios[i % len(scenarios)], first + i))
    print(summary(rows))
    if given.out:
        told = f"{given.logs} logs of the variants {', '.join(name for name, _ in scenarios)}. "
        told += made_by(f"python bench/ope_coverage.py --part {given.part} --logs {given.logs}")
        given.out.write_text(f"{summary(rows)}\n\n{told}\n", encoding="utf-8")
    if given.rows:
        given.rows.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
