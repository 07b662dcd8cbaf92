"""Campaigns beside one another: the same budget, users and luck for all, a cell a folder, resumable.

    cells/BUDGET/METHOD-SEED/cell.npz    what each user brought and cost; swapped in whole when the campaign is over

A seed is a world's: other users and other luck; the log and the run that contestants learn from stay. So intervals are
over users of all seeds, and tell nothing of another log or another training. N users, S seeds.
"""

import json
import math
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from headrace.campaign.account import of_gains
from headrace.campaign.config import CampaignConfig
from headrace.campaign.contestants import CONTESTANTS, OURS, REFERENCES, Contestant, Material
from headrace.campaign.money import MICROS
from headrace.campaign.procedure import Progress, run_campaign
from headrace.campaign.world_market import WorldMarket
from headrace.errors import UserError
from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Record, Source, record
from headrace.evaluate.significance import holm
from headrace.journeys.seams import Floats
from headrace.learn import durable
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import Z95

CELL = "cell.npz"
PROBE_USERS, PROBE_DAYS = 100, 2
WATCHED = 2_000  # users of another seed, whose visits tell how many opportunities to expect
FULL = "full-information"


@dataclass(frozen=True, slots=True)
class Cell:
    """What a campaign came to, user by user."""

    gross: Floats  # (N,) by the reward's weights
    without: Floats  # (N,)
    charged: Floats  # (N,) money
    channels: Floats  # (M,) adverts
    refused: int

    @property
    def increment(self) -> Floats:
        return self.gross - self.without


@dataclass(frozen=True, slots=True)
class Contest:
    """One comparison: where it is held, and for how much."""

    scenario: Scenario
    users: int
    budget: int  # micros
    days: int | None = None
    first_seed: int = 0
    price: float | None = None  # of a unit of a scaled cost

    def market(self, contestant: Contestant, seed: int, **changed: Any) -> WorldMarket:
        told = {"users": self.users, "days": self.days} | changed
        steps, statistics = contestant.memory or (4, None)
        return WorldMarket(self.scenario, told["users"], seed, told["days"], steps, statistics, self.price)

    def contestant(self, name: str, material: Material) -> Contestant:
        # a market's traffic is that of the next seed: none of those that are played
        market = WorldMarket(self.scenario, WATCHED, self.first_seed - 2, 1, 1, (), self.price)
        opportunities = market.traffic.sum() / WATCHED * self.users * self.scenario.days_of(self.days)
        return CONTESTANTS[name](material, self.budget / MICROS / max(opportunities, 1.0))

    def is_done(self, name: str, seed: int, folder: Path) -> bool:
        return (folder / f"{name}-{seed}" / CELL).is_file()

    def run(self, name: str, material: Material, seed: int, folder: Path, progress: Progress | None = None) -> Cell:
        """A cell, played or read."""
        path = folder / f"{name}-{seed}" / CELL
        if not path.is_file():
            contestant = self.contestant(name, material)
            market = self.market(contestant, seed)
            config = CampaignConfig(self.budget, **contestant.config)
            done = run_campaign(market, contestant.predictor, contestant.allocator, config, progress=progress)
            if not done.audit.sound or done.spent > self.budget:
                raise AssertionError(f"{name}: the ledger does not add up: {'; '.join(done.audit.problems)}")
            told = {
                "gross": done.value("gross"),
                "without": done.value("without"),
                "charged": done.charged / MICROS,
                "channels": np.sum([r["channels"] for r in done.rounds], axis=0, dtype=np.float64),
                "refused": np.array(sum(r["refused"] for r in done.rounds)),
            }
            path.parent.mkdir(parents=True, exist_ok=True)

            def fill(beside: Path) -> None:
                with beside.open("wb") as file:
                    np.savez(file, **told)  # type: ignore[arg-type]

            durable.replace(path, fill)
        try:
            with np.load(path, allow_pickle=False) as held:
                gross, without, charged, channels = (held[n] for n in ("gross", "without", "charged", "channels"))
                return Cell(gross, without, charged, channels, int(held["refused"]))
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: damaged ({error}); remove it, and the cell is played again") from None

    def expected_s(self, name: str, material: Material) -> float:
        """Seconds that a cell will about take, from a short campaign of few users."""
        contestant = self.contestant(name, material)
        users = min(PROBE_USERS, self.users)
        days = min(PROBE_DAYS, self.scenario.days_of(self.days))
        start = time.perf_counter()
        market = self.market(contestant, self.first_seed - 1, users=users, days=days)
        share = users * days / self.users / self.scenario.days_of(self.days)
        config = CampaignConfig(max(int(self.budget * share), 1), **contestant.config)
        run_campaign(market, contestant.predictor, contestant.allocator, config)
        return float((time.perf_counter() - start) / share**0.8)  # many users are predicted for together


def play(
    contest: Contest,
    material: Material,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    tell: Callable[..., None] | None = None,
) -> Iterator[tuple[str, int, Cell]]:
    """Every method under every seed."""
    total = len(methods) * len(seeds)
    for number, (seed, name) in enumerate((s, m) for s in seeds for m in methods):

        def show(
            record: Any, spent: int, value: float, number: int = number, name: str = name, seed: int = seed
        ) -> None:
            if tell is not None:
                tell(f"{name}, seed {seed}, day {record['day']}: {spent / MICROS:,.2f} spent", number, total)

        yield name, seed, contest.run(name, material, seed, folder, show)


def compare(source: Source, found: Mapping[tuple[str, int], Cell]) -> tuple[list[Record], dict[str, float]]:
    """The records of every method and seed and of all seeds together; two-sided p-values of ours against each rival."""
    methods = list(dict.fromkeys(name for name, _ in found))
    seeds = list(dict.fromkeys(seed for _, seed in found))
    records = []
    for name in methods:
        cells = [found[name, seed] for seed in seeds]
        for seed, cell in zip(seeds, cells, strict=True):
            records += _figures(replace(source, seed=seed), name, [cell], _fulls(found, [seed]))
        records += _figures(replace(source, seed=None), name, cells, _fulls(found, seeds))
    p_values: dict[str, float] = {}
    for name in methods if OURS in methods else []:
        if name == OURS:
            continue
        for metric, of in (("true_value", "gross"), ("incremental_value", "increment")):
            pairs = [getattr(found[OURS, s], of) - getattr(found[name, s], of) for s in seeds]
            figure = mean_total(pairs)
            records.append(record(source, OURS, metric, figure, sum(map(len, pairs)), name))
            if metric == "incremental_value" and name not in REFERENCES:
                error = (
                    (figure.high - figure.low) / (2 * Z95) if figure.high is not None and figure.low is not None else 0
                )
                p_values[name] = float(2 * stats.norm.sf(abs(figure.value or 0.0) / error)) if error else 1.0
    return records, p_values


def _fulls(found: Mapping[tuple[str, int], Cell], seeds: Sequence[int]) -> list[Cell] | None:
    return [found[FULL, s] for s in seeds] if (FULL, seeds[0]) in found else None


def _figures(source: Source, name: str, cells: Sequence[Cell], fulls: Sequence[Cell] | None) -> list[Record]:
    n = sum(len(c.gross) for c in cells)
    spent = [float(c.charged.sum()) for c in cells]
    gross = [c.gross for c in cells]
    figures = {
        "spend": Interval(float(np.mean(spent)), min(spent), max(spent)),
        "true_value": of_gains(mean_total(gross), *gross),
        "incremental_value": mean_total([c.increment for c in cells]),
    }
    records = [record(source, name, metric, figure, n) for metric, figure in figures.items()]
    if fulls is not None and name != FULL:
        regret = mean_total([f.gross - c.gross for f, c in zip(fulls, cells, strict=True)])
        records.append(record(source, name, "regret", regret, n, FULL))
        share = share_of([c.increment for c in cells], [f.increment for f in fulls])
        records.append(record(source, name, "share_of_full_information", share, n))
    return records


def mean_total(per_user: Sequence[Floats]) -> Interval:
    """The sum over users, mean over seeds, with its 95 % interval over users; `per_user` (N,) of each seed."""
    value = float(np.mean([v.sum() for v in per_user]))
    if min(len(v) for v in per_user) < 2:
        return Interval(value, None, None)
    half = Z95 * math.sqrt(sum(len(v) * float(v.var(ddof=1)) for v in per_user)) / len(per_user)
    return Interval(value, value - half, value + half)


def share_of(ours: Sequence[Floats], whole: Sequence[Floats]) -> Interval:
    """One sum over another, with its 95 % interval over users by the delta method."""
    a, b = np.concatenate(ours), np.concatenate(whole)
    if b.sum() <= 0:
        return Interval(None, None, None, "full information brings nothing")
    ratio = float(a.sum() / b.sum())
    half = Z95 * math.sqrt(len(a)) * float((a - ratio * b).std(ddof=1)) / float(b.sum()) if len(a) > 1 else math.nan
    return Interval(ratio, ratio - half, ratio + half) if len(a) > 1 else Interval(ratio, None, None)


def write_p_values(path: Path, p_values: Mapping[str, Mapping[str, float]]) -> None:
    """p_values.json: ours against each rival at each budget, all of them one family after Holm."""
    family = holm({(budget, rival): p for budget, of in p_values.items() for rival, p in of.items()})
    told = {budget: {rival: family[budget, rival] for rival in of} for budget, of in p_values.items()}
    durable.replace_text(path, json.dumps(told, indent=1) + "\n")
