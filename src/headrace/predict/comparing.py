"""Variants beside one another: on one split, over several seeds, with equal steps, each cell a run folder.

Seeds change initialisation, dropout and the order of batches; the split stays, so that all are scored on the same rows.
What variants have in common is fitted once: stage A of a backbone and seed, and its critics, are copied into the other
cells, bit for bit what they would have fitted themselves. A cell that is there is not fitted again.

S seeds, n rows, K tasks.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import UserError
from headrace.evaluate.comparison import compare
from headrace.evaluate.metrics import Predicted, Steps
from headrace.journeys.seams import Floats
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.learn import checkpoint
from headrace.learn.run import Run
from headrace.predict.balance import BY_GRADIENT
from headrace.predict.methods import variant
from headrace.predict.retrain import MultiTask
from headrace.predict.rmtl import RMTL, Prepared, RMTLConfig, prepare
from headrace.predict.scoring import Tables, fit_floors, kind_of
from headrace.predict.weights import BY_CRITIC

Scored = dict[str, tuple[Steps, dict[str, list[Predicted]]]]  # by task: the rows, and S predictions of each method


@dataclass(frozen=True, slots=True)
class Cell:
    """One training: a variant under a seed."""

    method: str
    seed: int
    config: RMTLConfig
    folder: Path

    @property
    def is_done(self) -> bool:
        return (self.folder / "manifest.json").is_file() and "files" in Run.open(self.folder).manifest


def cells(
    methods: Sequence[str],
    seeds: int,
    base: Mapping[str, Any],
    out: Path,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Cell]:
    """Every variant under every seed, those that others copy from first. `more` adds named changes of variants."""
    known = dict(more or {})
    changes = {name: known[name] if name in known else variant(name) for name in methods}
    first = {"none": 0, "rl": 1}
    order = sorted(changes, key=lambda name: first.get(changes[name].get("weights", "rl"), 2))
    return [
        Cell(name, seed, RMTLConfig(**{**base, **changes[name], "seed": seed}), out / f"{name}-{seed}")
        for seed in range(seeds)
        for name in order
    ]


def expected_s(prepared: Prepared, plan: Sequence[Cell]) -> float:
    """Seconds that the cells that are not done will about take, from a few steps of each; stages B count as A does."""
    left = [cell for cell in plan if not cell.is_done]
    total, seen = 0.0, set()
    step_s: dict[tuple[str, int], float] = {}
    for cell in left:
        c = cell.config
        size = (c.backbone, c.batch_size)
        if size not in step_s:
            method = RMTL(c)
            method.features = prepared.features
            trial = MultiTask(
                method.new_network(), prepared.train, prepared.validation, method.optimiser(), c.batch_size
            )
            batches = list(trial.batches(0))[:4]
            trial.step(batches[0])
            started = time.perf_counter()
            for batch in batches[1:] or batches:
                trial.step(batch)
            step_s[size] = (time.perf_counter() - started) / max(len(batches) - 1, 1)
        epoch = step_s[size] * -(-len(prepared.train) // c.batch_size)
        for stage, epochs in (("A", c.epochs / 2), ("B", c.critic_epochs / 2 if c.weights in BY_CRITIC else 0)):
            if (c.backbone, c.seed, stage) not in seen and epochs:
                seen.add((c.backbone, c.seed, stage))
                total += epochs * epoch
        share = 1.5 if c.weights in BY_CRITIC else 2.0 if c.weights in BY_GRADIENT else 1.0
        total += c.retrain_epochs * epoch * share * (c.weights != "none")
    return total


def fit_cells(
    plan: Sequence[Cell],
    journeys: Journeys,
    split: Split,
    prepared: Prepared,
    settings: Callable[[dict[str, Any]], dict[str, Any]],
    provenance: Mapping[str, Any],
) -> Iterator[tuple[Cell, RMTL]]:
    """Each cell's method, fitted or loaded; `settings` makes a run's config.json of a method's."""
    for cell in plan:
        if cell.is_done:
            run = Run.open(cell.folder)
            if run.config != settings(RMTL(cell.config).settings()) or run.manifest["provenance"] != dict(provenance):
                raise UserError(f"{cell.folder}: a cell of other settings or data; choose another --out, or remove it")
            yield cell, RMTL.load(run)
            continue
        run = Run.create(cell.folder, settings(RMTL(cell.config).settings()), resume=True, **provenance)
        for stage in ("model", "critics"):
            donor = next((c for c in plan if c != cell and _gives(c, cell, stage)), None)
            if donor is not None:
                donate(Run.open(donor.folder), run, stage)
        yield cell, RMTL(cell.config).fit(journeys, split, run, progress=False, prepared=prepared)
        run.seal()


OF_MODEL = {"weights", "lambda_", "decay", "gamma", "soft_update", "critic_output", "critics", "start", "critics_from"}
OF_MODEL |= {"retrain_rate", "critic_rate", "critic_epochs", "critic_patience", "retrain_epochs"}  # leave stage A alone
OF_CRITICS = {"weights", "lambda_", "decay", "critics", "start", "retrain_rate", "retrain_epochs"}  # nor stage B


def _gives(donor: Cell, cell: Cell, stage: str) -> bool:
    """Whether a finished cell went through the very same stage."""
    if not donor.is_done or not checkpoint.exists(donor.folder / "checkpoints" / stage, "last"):
        return False
    if stage == "critics" and (cell.config.weights not in BY_CRITIC or cell.config.critics_from is not None):
        return False
    free = OF_MODEL if stage == "model" else OF_CRITICS
    ours, theirs = dataclasses.asdict(cell.config), dataclasses.asdict(donor.config)
    return all(ours[name] == theirs[name] for name in ours if name not in free)


def donate(donor: Run, run: Run, stage: str) -> None:
    """Copy a finished stage into a run that has come as far: its checkpoint, and the lines of metrics up to its end."""
    theirs, ours = donor.checkpoints / stage, run.checkpoints / stage
    if checkpoint.exists(ours, "last"):
        return
    end = checkpoint.read_record(theirs, "last")["place"]["metrics_bytes"]
    (run.path / "metrics.jsonl").write_bytes((donor.path / "metrics.jsonl").read_bytes()[:end])
    beside = ours.with_name(f".{stage}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(theirs, beside)
    beside.rename(ours)


def predictions(
    found: Mapping[tuple[str, int], Floats],
    journeys: Journeys,
    split: Split,
    prepared: Prepared,
    part: str,
    floors: Sequence[str],
    progress: Callable[[str], None] | None = None,
) -> Scored:
    """By task, the rows of the part and what each method (of each seed) and floor says of them; `found` (n, K) each."""
    config, features = prepared.config, prepared.features
    tables = Tables(journeys, journeys, features, config.session, config.session_gap_minutes)
    held = prepared.parts[part]
    learnt = fit_floors(tables, split, floors, progress) if floors else {}
    columns = tables.columns(held) if floors else {}
    scored: Scored = {}
    for k, task in enumerate(features.tasks):
        labels = task.labels(journeys, held.rows)
        known = ~np.isnan(labels)
        rows = held.rows[known]
        users = None if journeys.schema.user is None else journeys.users_of(rows)
        steps = Steps(labels[known], kind_of(task), users=users, rows=rows, sessions=held.session[known])
        methods: dict[str, list[Predicted]] = {}
        for (name, _), p in found.items():
            methods.setdefault(name, []).append(Predicted(p[known, k], rows=rows))
        for name, floor in learnt.get(task.name, {}).items():
            methods[name] = [Predicted(np.clip(floor(columns), 0, 1)[known], rows=rows)]
        scored[task.name] = steps, methods
    return scored


def rivals(method: str, names: Sequence[str]) -> list[str]:
    """What a variant is compared with: its backbone, its control of equal steps, an RMTL with all controls, and floors.

    >>> rivals("rmtl-ple", ["ple", "ple-constant", "rmtl-ple", "ple-focal", "mmoe", "trees"])
    ['ple', 'ple-constant', 'ple-focal', 'trees']
    """
    floors = [name for name in names if name in ("prior", "logistic", "trees", "lightgbm")]
    if method in floors:
        return []
    backbone = method.removeprefix("rmtl-").removeprefix("d-").partition("-")[0]
    same = [
        n for n in names if n != method and n.removeprefix("rmtl-").removeprefix("d-").partition("-")[0] == backbone
    ]
    wanted = same if method.startswith("rmtl-") else [n for n in same if n in (backbone, f"{backbone}-constant")]
    return wanted + floors


__all__ = [
    "Cell",
    "Prepared",
    "cells",
    "compare",
    "donate",
    "expected_s",
    "fit_cells",
    "predictions",
    "prepare",
    "rivals",
]
