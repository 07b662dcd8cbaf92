"""The loop that fits every learner: epochs of steps, validation, early stopping, checkpoints, exact resume.

A method of several stages calls `fit_stage` several times under several names. Everything random in a step follows
from (seed, stage, epoch, step): torch's generator is set from them before the step and put back after it; the order of
an epoch's batches follows from (seed, stage, epoch). So a fit that is killed and resumed ends in the same bits,
metrics.jsonl included, on the same machine, threads and precision (on an accelerator, if its kernels are).
"""

import contextlib
import hashlib
import itertools
import math
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch

from headrace.errors import UserError
from headrace.learn import checkpoint
from headrace.learn.checkpoint import State
from headrace.learn.interrupt import Interrupted, Interruption
from headrace.learn.progress import Bar
from headrace.learn.run import Run


class Learner(Protocol):
    """What the loop drives. All that `step` changes belongs into `state`: networks, optimisers, running values."""

    def batches(self, seed: int) -> Iterator[Any]:
        """One epoch of batches, their order a function of the seed alone."""
        ...

    def step(self, batch: Any) -> dict[str, float]:
        """One update; its losses by name. Draws at random from torch's default generator only."""
        ...

    def validate(self) -> dict[str, float]:
        """Figures over the validation part; the first is watched by early stopping, smaller is better."""
        ...

    def state(self) -> State: ...

    def load(self, state: State) -> None: ...


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How long a stage runs and what it leaves on the way."""

    epochs: int = 20  # at most
    patience: int | None = 5  # epochs without a better validation value before it stops; None: early stopping off
    checkpoint_every_steps: int = 500  # besides the one at the end and, under early stopping, at each better epoch
    log_every_steps: int = 100  # a train line is the mean since the line before; one ends each epoch too
    seed: int = 0
    progress: bool = True  # a bar on stderr where that is a terminal

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "checkpoint_every_steps", "log_every_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"loop config: {name} = {value}, expected 1 or more; change it")


@dataclass(frozen=True, slots=True)
class StageResult:
    """How a stage ended; value and epoch are those of the state the learner is left with."""

    best_value: float | None  # of the watched validation figure; None if there was none
    best_epoch: int  # counted from 1; the last epoch where early stopping was off
    epochs: int
    steps: int


@dataclass(slots=True)
class Place:
    """Where a stage stands; a checkpoint's `place`, beside the bytes of metrics.jsonl."""

    config: dict[str, Any]  # the LoopConfig's fields that decide the outcome
    kept: str  # the checkpoint the stage hands on: "best", or "last" where early stopping is off
    epochs: int = 0  # whole ones, validated
    step: int = 0  # steps into the epoch under way
    steps: int = 0  # of the stage
    best_value: float | None = None
    best_epoch: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)  # loss: [sum, count] since the last train line
    finished: bool = False


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) from anything that prints.

    >>> derive_seed(0, "fit", 1) == derive_seed(0, "fit", 1) != derive_seed(0, "fit", 2)
    True
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it, torch's default generators start from `seed`; after it they stand where they stood."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


def fit_stage(learner: Learner, run: Run, stage: str, config: LoopConfig) -> StageResult:
    """Fit one named stage, or go on with it from its checkpoint, or load it if it is finished.

    Leaves the learner with the state of the best validation value, or with the last state where early stopping is off.
    SIGTERM and SIGINT: finishes the step, saves, and raises Interrupted (exit code 143 or 130). Raises UserError for a
    loss that is not finite, naming stage, epoch, step and loss; the last good checkpoint stays.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", stage):
        raise ValueError(f"stage {stage!r}: small letters, digits, _ and - only, it names a folder")
    started = time.perf_counter()
    try:
        with run.locked(), Interruption() as interruption, Bar(stage, config.epochs, config.progress) as bar:
            try:
                return _fit(learner, run, stage, config, interruption, bar)
            finally:
                run.add_seconds(stage, time.perf_counter() - started)
    except Interrupted as interrupted:
        sys.stderr.write(f"{interrupted}\n")
        raise


def _fit(
    learner: Learner, run: Run, stage: str, config: LoopConfig, interruption: Interruption, bar: Bar
) -> StageResult:
    folder = run.checkpoints / stage
    decisive = {
        name: value for name, value in asdict(config).items() if name not in ("checkpoint_every_steps", "progress")
    }
    place = Place(config=decisive, kept="last" if config.patience is None else "best")
    saved_step = 0

    def save() -> None:
        nonlocal saved_step
        checkpoint.save(folder, "last", learner.state(), asdict(place) | {"metrics_bytes": run.sync_metrics()})
        saved_step = place.steps

    def stop_if_asked() -> None:
        if interruption.received is not None:
            save()
            name = signal.Signals(interruption.received).name
            done = "finished" if place.finished else f"saved at epoch {place.epochs + 1}, step {place.steps}"
            raise Interrupted(
                f"{run.path}: stopped by {name}, stage {stage!r} is {done}; go on with --resume", interruption.received
            )

    def not_finite(what: str, step: int) -> UserError:
        return UserError(
            f"{run.path}: stage {stage!r}, epoch {place.epochs + 1}, step {step}: {what}, expected a finite number; "
            f"lower the learning rate or look for extreme inputs (the checkpoint of step {saved_step} is kept)"
        )

    def log_train() -> None:
        means = {name: total / count for name, (total, count) in place.sums.items()}
        run.log(stage, place.epochs + 1, place.steps, "train", means)
        place.sums = {}

    if checkpoint.exists(folder, "last"):
        run.settle_metrics()
        state, record = checkpoint.load(folder, "last")
        record.pop("metrics_bytes")
        place = Place(**record)
        saved_step = place.steps
        if place.config != decisive:
            raise UserError(
                f"{run.path}: stage {stage!r} was begun with {place.config}, "
                f"expected the same and not {decisive}; choose a new folder"
            )
        learner.load(state)
    else:
        save()

    while not place.finished:
        epoch = place.epochs + 1
        batches = learner.batches(derive_seed(config.seed, stage, epoch))
        for batch in itertools.islice(batches, place.step, None):
            try:
                with seeded(derive_seed(config.seed, stage, epoch, place.steps)):
                    losses = learner.step(batch)
            except FloatingPointError as error:
                raise not_finite(str(error), place.steps + 1) from error
            for name, value in losses.items():
                if not math.isfinite(value):
                    raise not_finite(f"loss {name!r} is {value}", place.steps + 1)
                total, count = place.sums.get(name, [0.0, 0])
                place.sums[name] = [total + float(value), count + 1]
            place.step += 1
            place.steps += 1
            bar.step(epoch, place.step, losses)
            if place.steps % config.log_every_steps == 0:
                log_train()
            if place.steps % config.checkpoint_every_steps == 0:
                save()
            stop_if_asked()
        if place.step == 0:
            raise UserError(
                f"{run.path}: stage {stage!r} has no batches, the train part is empty; "
                f"choose other data or another protocol"
            )
        log_train()

        with seeded(derive_seed(config.seed, stage, epoch, "validation")):
            figures = learner.validate()
        run.log(stage, epoch, place.steps, "validation", figures)
        name, watched = next(iter(figures.items()), ("", None))
        if config.patience is None:
            place.best_value, place.best_epoch = (
                (watched if watched is not None and math.isfinite(watched) else None),
                epoch,
            )
        elif watched is None:
            raise UserError(
                f"{run.path}: stage {stage!r} has no validation figure to stop by; "
                f"give a validation part, or patience None"
            )
        elif not math.isfinite(watched):
            raise not_finite(f"validation {name!r} is {watched}", place.steps)
        elif place.best_value is None or watched < place.best_value:
            place.best_value, place.best_epoch = float(watched), epoch
            checkpoint.save(folder, "best", learner.state(), {"epoch": epoch, "value": float(watched)})
        bar.epoch(place.step, watched, place.best_value, place.best_epoch)
        place.epochs, place.step = epoch, 0
        waited = config.patience is not None and epoch - place.best_epoch >= config.patience
        if waited or epoch == config.epochs:
            place.finished = True
            save()
        stop_if_asked()

    learner.load(checkpoint.load(folder, place.kept)[0])
    return StageResult(place.best_value, place.best_epoch, place.epochs, place.steps)
