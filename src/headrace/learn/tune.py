"""Tuning: trials of a search space in processes of their own, cut short where they fall behind, resumable after a kill.

An objective takes a configuration's changes and a folder, fits there and gives what it measured on the validation part.
While it fits, the folder's metrics.jsonl tells each epoch's validation loss: the study reads along and ends the process
of a trial whose best loss so far is above the median of the earlier trials' after as many epochs. Trial 0 changes
nothing, so the best is never worse than where the search began.

    trials.jsonl     a line a trial that ended, in order
    trials/N/        the fit of trial N, as long as it lasts

Of K processes at a time, trial n learns from trials 0 to n - K and from no other, however long each took. So equal
input, seed and K give equal trials; and a study that is killed goes on with the fits it was at, to the same bits.
"""

import json
import multiprocessing
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from os import _exit
from pathlib import Path
from typing import Any, Literal

import torch

from headrace.errors import UserError
from headrace.learn import durable
from headrace.learn.loop import derive_seed
from headrace.learn.run import Run
from headrace.learn.space import Changes, Space, importances, propose

Objective = Callable[[Changes, Path], Mapping[str, Any]]  # gives "value", smaller is better, and what else to keep
POLL_S = 0.2
IMPORTED_ONCE = (__name__, "torch._dynamo")  # and not by each trial: the first optimiser of a process asks for it


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """How a space is searched."""

    watch: str  # the validation figure of each epoch that pruning goes by, smaller is better
    trials: int = 30  # the first of them changes nothing
    jobs: int = 1  # K, processes at a time
    seed: int = 0
    prune_from: int = 3  # epochs that every trial may run
    prune_after: int = 4  # trials that ended before one is pruned

    def __post_init__(self) -> None:
        for name in ("trials", "jobs", "prune_from", "prune_after"):
            if getattr(self, name) < 1:
                raise UserError(f"tuning: {name} = {getattr(self, name)}, expected 1 or more; change it")


@dataclass(frozen=True, slots=True)
class Trial:
    """How a trial ended."""

    number: int
    changes: Changes
    ended: Literal["done", "pruned", "failed"]
    value: float | None = None  # of the objective; None unless done
    curve: list[float] = field(default_factory=list)  # the watched figure of each epoch
    reason: str | None = None  # of a trial that is not done
    kept: dict[str, Any] = field(default_factory=dict)  # what else the objective gave


def tune(objective: Objective, space: Space, run: Run, config: TuneConfig) -> Iterator[Trial]:
    """Search the space, giving each trial as it ends; those that ended before a kill are not run again.

    The objective goes to other processes, so it must pickle. Its UserError, and memory that does not suffice, fail the
    trial and not the study; whatever else ends its process raises UserError here.
    """
    path, folders = run.path / "trials.jsonl", run.path / "trials"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED_ONCE, objective.__class__.__module__])
    ended = {trial.number: trial for trial in read_trials(run.path)}
    live: dict[int, _Live] = {}
    with run.locked():
        for number in ended:
            shutil.rmtree(folders / str(number), ignore_errors=True)
        try:
            while not all(n in ended for n in range(config.trials)):
                for n in range(config.trials):
                    free = len(live) < config.jobs and n not in live and n not in ended
                    if free and all(k in ended for k in range(n - config.jobs + 1)):
                        before = [ended[k] for k in range(n - config.jobs + 1)]
                        changes = _next(space, before, n, config.seed)
                        process = context.Process(target=_fit, args=(objective, changes, folders / str(n), config.jobs))
                        process.start()
                        live[n] = _Live(n, changes, folders / str(n), process, before)
                wait([trial.process.sentinel for trial in live.values()], POLL_S)
                for n, trial in sorted(live.items()):
                    found = trial.look(config)
                    if found is None:
                        continue
                    del live[n]
                    ended[n] = found
                    lines = [json.dumps(asdict(ended[k]), allow_nan=False) + "\n" for k in sorted(ended)]
                    durable.replace_text(path, "".join(lines))
                    run.add_seconds(f"trial {n}", time.perf_counter() - trial.started)
                    shutil.rmtree(folders / str(n), ignore_errors=True)
                    yield found
        finally:
            for trial in live.values():
                trial.stop()
        shutil.rmtree(folders, ignore_errors=True)


def read_trials(folder: Path) -> list[Trial]:
    """The trials that ended, in order."""
    path = folder / "trials.jsonl"
    if not path.is_file():
        return []
    try:
        return [Trial(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError):
        raise UserError(f"{path}: damaged, not a line a trial; restore it from a copy, or tune again") from None


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial of the smallest value, the first of equals; UserError where none is done."""
    done = [(t.value, t.number, t) for t in trials if t.value is not None]
    if not done:
        raise UserError(
            f"tuning: none of {len(trials)} trials came to a value; the first ended with: {trials[0].reason}"
        )
    return min(done)[2]


def importances_of(space: Space, trials: Sequence[Trial]) -> dict[str, float]:
    """The share of each parameter in how the values of the finished trials vary, largest first."""
    return importances(space, [(t.changes, t.value) for t in trials if t.value is not None and t.changes])


def behind(curve: Sequence[float], others: Sequence[Sequence[float]], config: TuneConfig) -> bool:
    """Whether the best of a curve is above the median of the best that the others had after as many epochs.

    >>> config = TuneConfig("loss", prune_from=2, prune_after=3)
    >>> behind([0.9, 0.8], [[0.7], [0.9, 0.6], [0.5, 0.9]], config), behind([0.9, 0.6], [[0.7], [0.9, 0.6]], config)
    (True, False)
    """
    others = [other for other in others if other]
    if len(curve) < config.prune_from or len(others) < config.prune_after:
        return False
    return min(curve) > statistics.median(min(other[: len(curve)]) for other in others)


def _next(space: Space, before: Sequence[Trial], number: int, seed: int) -> Changes:
    """What a trial tries: a pruned trial counts as if it had come to the worst of the finished ones."""
    if number == 0:
        return {}
    worst = max((t.value for t in before if t.value is not None), default=0.0)
    seen = [(t.changes, worst if t.value is None else t.value) for t in before]
    return propose(space, seen, derive_seed(seed, "trial", number))


@dataclass(frozen=True, slots=True)
class _Live:
    """A trial at work."""

    number: int
    changes: Changes
    folder: Path
    process: BaseProcess
    before: list[Trial]  # those that it learns from
    started: float = field(default_factory=time.perf_counter)

    def look(self, config: TuneConfig) -> Trial | None:
        """How it ended; None while it should go on."""
        over = not self.process.is_alive()  # asked first: what it wrote is then there to read
        curve = self._curve(config.watch)
        others = [trial.curve for trial in self.before]
        for epoch in range(1, len(curve) + 1):
            if behind(curve[:epoch], others, config):
                self.stop()
                reason = f"pruned after {epoch} epochs: its {config.watch} was above the median"
                return Trial(self.number, self.changes, "pruned", None, curve[:epoch], reason)
        if not over:
            return None
        self.process.join()
        outcome = self.folder / "outcome.json"
        if outcome.is_file():
            kept = json.loads(outcome.read_text(encoding="utf-8"))
        elif self.process.exitcode == -signal.SIGKILL:
            kept = {"failed": "its process was killed, as it is where memory does not suffice"}
        else:
            raise UserError(
                f"{self.folder}: the process of trial {self.number} ended with exit code {self.process.exitcode}, "
                "what it said stands above; mend that and go on with --resume"
            )
        if "failed" in kept:
            return Trial(self.number, self.changes, "failed", None, curve, kept["failed"])
        return Trial(self.number, self.changes, "done", float(kept.pop("value")), curve, None, kept)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()

    def _curve(self, watch: str) -> list[float]:
        if not self.folder.is_dir():
            return []
        lines = [x for x in Run(self.folder).read_metrics() if (x["part"], x["metric"]) == ("validation", watch)]
        return [sys.float_info.max if x["value"] is None else x["value"] for x in lines]


def _fit(objective: Objective, changes: Changes, folder: Path, jobs: int) -> None:
    """A trial's process, with its share of the threads."""
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study hears it too, and ends its trials
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_go_with_parent, daemon=True).start()
    try:
        outcome = dict(objective(changes, folder))
    except (UserError, MemoryError, torch.OutOfMemoryError) as error:
        outcome = {"failed": " ".join(str(error).split()) or "memory does not suffice"}
    folder.mkdir(parents=True, exist_ok=True)
    durable.replace_text(folder / "outcome.json", json.dumps(outcome, allow_nan=False))


def _go_with_parent() -> None:
    """End this process when the study's ends, however that ended: a fit without a study would never be heard of."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    _exit(1)
