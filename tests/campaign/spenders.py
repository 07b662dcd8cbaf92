"""Processes that spend from one ledger, die by SIGKILL at any instant, and come back to what they were doing."""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.campaign.ledger import Ledger

FORK = multiprocessing.get_context("fork")
CHANNELS = 4


@dataclass(frozen=True)
class Work:
    """What each of `workers` processes asks of the ledger."""

    path: Path
    workers: int
    batches: int
    size: int

    @property
    def attempts(self) -> int:
        return self.workers * self.batches * self.size

    def batch(self, worker: int, number: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        """Keys, largest costs, costs and channels: a function of the two numbers."""
        rng = np.random.default_rng([worker, number])
        largest = np.ceil(rng.lognormal(9, 1.5, self.size)).astype(np.int64)
        cost = (largest * rng.random(self.size)).astype(np.int64)
        keys = [f"{worker}-{number}-{i}" for i in range(self.size)]
        return keys, largest, cost, rng.integers(0, CHANNELS, self.size)


def spend(work: Work, worker: int, life: int) -> None:
    """Go on from the last batch that this worker knows to be settled; now and then die between the two phases."""
    fate = random.Random(f"{worker} {life}")
    done = work.path.with_name(f"done-{worker}")
    with Ledger(work.path) as ledger:
        ids = np.array([ledger.open_account(f"channel/{c}", budget) for c, budget in budgets(work).items()])
        for number in range(int(done.read_text() or 0) if done.is_file() else 0, work.batches):
            keys, largest, cost, channel = work.batch(worker, number)
            admitted = ledger.reserve(keys, largest, [ids[channel]])
            if fate.random() < 0.5 / work.batches:
                os.kill(os.getpid(), signal.SIGKILL)
            ledger.settle([k for k, ok in zip(keys, admitted, strict=True) if ok], cost[admitted])
            beside = done.with_suffix(f".{life}")
            beside.write_text(str(number + 1))
            beside.replace(done)


def budgets(work: Work) -> dict[int, int]:
    """Channel budgets: the first ones run dry, the last never."""
    return {c: work.attempts * 4_000 * (c + 1) // CHANNELS for c in range(CHANNELS)}


def run(work: Work, kills: int, seed: int = 0) -> int:
    """Let all work until all is done, killing one at random every now and then; how many deaths there were."""
    chance = random.Random(seed)
    lives, deaths = dict.fromkeys(range(work.workers), 0), 0

    def born(worker: int) -> multiprocessing.process.BaseProcess:
        process = FORK.Process(target=spend, args=(work, worker, lives[worker]))
        process.start()
        return process

    running = {worker: born(worker) for worker in lives}
    while running:
        time.sleep(chance.random() * 0.05)
        if kills and chance.random() < 0.7:
            victim = running[chance.choice(list(running))]
            if victim.is_alive() and victim.pid:
                os.kill(victim.pid, signal.SIGKILL)
                kills -= 1
        for worker, process in list(running.items()):
            if process.is_alive():
                continue
            process.join()
            if process.exitcode == 0:
                del running[worker]
            else:
                assert process.exitcode == -signal.SIGKILL, process.exitcode
                deaths, lives[worker] = deaths + 1, lives[worker] + 1
                running[worker] = born(worker)
    return deaths
