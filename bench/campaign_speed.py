"""How fast the ledger admits and settles, and how long a campaign's round over a million users takes.

    python bench/campaign_speed.py --out docs/tables/campaign-speed.md

The ledger: batches of 100,000 exposures of unequal cost over ten channels and a day, each reserved and settled, every
transaction on the disk; beside it the same with a batch an exposure, and a plain loop that admits, charges and settles
one exposure at a time in memory and keeps no file at all. The round: one million users of the world, the
predictions of an untrained MTORL network of the paper's n = 20 for all who come (first turn of the first day), then the
first turn of the second day, in which only those touched since, and those never seen before, are predicted anew.
"""

import argparse
import contextlib
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from made_by import made_by

from headrace.campaign.allocator import Price
from headrace.campaign.config import CampaignConfig
from headrace.campaign.ledger import Ledger
from headrace.campaign.procedure import run_campaign
from headrace.campaign.rounds import Record
from headrace.campaign.scores import Foreseeing
from headrace.campaign.world_market import WorldMarket
from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario

CHANNELS, BATCH, ALONE = 10, 100_000, 300
Rate = tuple[float, float]  # a second on the wall, and of the processor
Turn = tuple[Record, float, float]  # a round, its seconds on the wall, and of the processor


def clocks() -> tuple[float, float]:
    """Seconds on the wall, and of the processor."""
    return time.perf_counter(), time.process_time()


def rate(attempts: int, start: tuple[float, float]) -> Rate:
    """Attempts a second on either clock."""
    now = clocks()
    return attempts / (now[0] - start[0]), attempts / max(now[1] - start[1], 1e-9)


def batch(n: int, seed: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Keys, largest costs, costs, channels."""
    rng = np.random.default_rng(seed)
    largest = np.ceil(rng.lognormal(11, 1, n)).astype(np.int64)
    return (
        [f"{seed}-{i}" for i in range(n)],
        largest,
        (largest * rng.random(n)).astype(np.int64),
        rng.integers(0, 10, n),
    )


def ledger_rate(path: Path, batches: int) -> Rate:
    """Attempts, each reserved and, where admitted, settled."""
    with Ledger.create(path, batches * BATCH * 50_000) as ledger:
        ids = np.array([ledger.open_account(f"channel/{c}", batches * BATCH * 8_000) for c in range(CHANNELS)])
        day = np.full(BATCH, ledger.open_account("day/0", batches * BATCH * 45_000))
        start = clocks()
        for seed in range(batches):
            keys, largest, cost, channel = batch(BATCH, seed)
            admitted = ledger.reserve(keys, largest, [ids[channel], day])
            ledger.settle([k for k, ok in zip(keys, admitted.tolist(), strict=True) if ok], cost[admitted])
        found = rate(batches * BATCH, start)
        assert ledger.audit().sound
    return found


def plain_rate() -> Rate:
    """The same in a plain loop over dictionaries, nothing kept on disk."""
    keys, largest, cost, channel = batch(BATCH, 0)
    free = {"total": BATCH * 50_000, "day": BATCH * 45_000} | {f"{c}": BATCH * 8_000 for c in range(CHANNELS)}
    entries: dict[str, int] = {}
    start = clocks()
    for key, most, paid, c in zip(keys, largest.tolist(), cost.tolist(), channel.tolist(), strict=True):
        accounts = ("total", "day", f"{c}")
        if key not in entries and all(free[a] >= most for a in accounts):
            for a in accounts:
                free[a] -= most
            entries[key] = most
            for a in accounts:
                free[a] += most - paid
    return rate(BATCH, start)


def alone_rate(path: Path) -> Rate:
    """The ledger with batches of one exposure: two transactions an exposure."""
    with Ledger.create(path, 10**12) as ledger:
        keys, largest, cost, _ = batch(ALONE, 0)
        start = clocks()
        for i, key in enumerate(keys):
            ledger.reserve([key], largest[i : i + 1])
            ledger.settle([key], cost[i : i + 1])
        return rate(ALONE, start)


def fitted(folder: Path, width: int) -> MTORL:
    """A network of the paper's n that learnt for one epoch: its speed is all that is asked for."""
    log = simulate(Scenario.load("ads"), 200, 4, "logging", 0, folder / "log")
    config = MTORLConfig(width=width, length=20, epochs=1)
    return MTORL(config).fit(log, log.split("honest", 0), folder / "run", progress=False)


def rounds(folder: Path, users: int, width: int, budget: float) -> tuple[list[Turn], dict[str, float]]:
    """The rounds of the first day and the first of the second, with their seconds."""
    method = fitted(folder, width)
    assert method.transforms is not None
    start = time.perf_counter()
    market = WorldMarket(Scenario.load("ads"), users, 0, 4, 20, method.transforms.statistics)
    made = time.perf_counter() - start
    found: list[Turn] = []
    last = [time.perf_counter(), time.process_time()]

    class Enough(Exception):
        pass

    def note(record: Record, spent: int, value: float) -> None:
        now, worked = time.perf_counter(), time.process_time()
        found.append((record, now - last[0], worked - last[1]))
        print(
            f"  {record['day']}.{record['turn']}: {record['reachable']:,} reachable, {record['scored']:,} predicted, "
            f"{record['shown']:,} shown, {now - last[0]:.1f} s",
            flush=True,
        )
        last[:] = now, worked
        if record["day"] == 1 and record["turn"] == 1:
            raise Enough

    config = CampaignConfig(int(budget * 1e6))
    predictor = Timed(Foreseeing(method))
    with contextlib.suppress(Enough):
        run_campaign(market, predictor, Price(), config, folder / "campaign", progress=note)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found, {"market_s": made, "peak_gib": peak, "predict_s": predictor.seconds, "predicted": predictor.users}


class Timed:
    """A predictor that notes how long it takes."""

    def __init__(self, predictor: Any):
        self.predictor, self.weights, self.seconds, self.users = predictor, predictor.weights, 0.0, 0

    def predict(self, market: Any, users: Any) -> Any:
        start = time.perf_counter()
        found = self.predictor.predict(market, users)
        self.seconds, self.users = self.seconds + time.perf_counter() - start, self.users + len(users)
        return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--users", type=int, default=1_000_000)
    arguments.add_argument("--batches", type=int, default=10)
    arguments.add_argument("--width", type=int, default=32)
    arguments.add_argument("--budget", type=float, default=100_000.0)
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours = ledger_rate(Path(folder) / "ledger", given.batches)
        plain, alone = plain_rate(), alone_rate(Path(folder) / "alone")
        print(f"attempts a second: ledger {ours[0]:,.0f}, plain loop {plain[0]:,.0f}, one at a time {alone[0]:,.0f}")
        turns, more = rounds(Path(folder), given.users, given.width, given.budget)
    shown = _named(turns)
    lines = [
        f"| ledger, {given.batches * BATCH:,} attempts in batches of {BATCH:,} "
        "| attempts a second | a processor second |",
        "|---|---|---|",
        f"| headrace, on disk, full sync | {ours[0]:,.0f} | {ours[1]:,.0f} |",
        f"| the same, batches of one | {alone[0]:,.0f} | {alone[1]:,.0f} |",
        f"| a plain loop in memory, nothing kept | {plain[0]:,.0f} | {plain[1]:,.0f} |",
        "",
        f"Batches are {ours[0] / alone[0]:,.0f} times as fast as one exposure at a time; keeping every entry costs "
        f"{plain[1] / ours[1]:.1f} times the processor time of a loop that keeps none.",
        "",
        f"| rounds over {given.users:,} users, MTORL width {given.width}, n = 20 "
        "| reachable | predicted | shown | s | processor s |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {r['reachable']:,} | {r['scored']:,} | {r['shown']:,} | {s:.1f} | {w:.1f} |"
            for name, (r, s, w) in shown.items()
        ),
        "",
        f"Predictions: {more['predicted']:,} in {more['predict_s']:.0f} s, histories included. Making the market: "
        f"{more['market_s']:.0f} s. Peak memory {more['peak_gib']:.1f} GiB.",
    ]
    print("\n".join(lines))
    if given.out:
        told = "\n".join([*lines, "", made_by("python bench/campaign_speed.py")]) + "\n"
        given.out.write_text(told, encoding="utf-8")
        figures = {"ledger": ours, "alone": alone, "plain": plain, "rounds": turns} | more
        given.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _named(turns: list[Turn]) -> dict[str, Turn]:
    """The rounds that the table tells of."""
    found: dict[str, Turn] = {}
    for turn in turns:
        record = turn[0]
        if record["turn"] < 2:
            found[f"day {record['day'] + 1}, turn {record['turn'] + 1}, {record['stage']}"] = turn
    return found


if __name__ == "__main__":
    main()
