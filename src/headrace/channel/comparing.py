"""Channel methods beside one another: one split, several seeds, the same data and trials, each cell a run folder.

    cells/METHOD-SEED/     a run, with what it predicts of the validation and the test steps
    cells/floor-NAME/      the same of a floor
    tuning/METHOD/         its study, where trials are asked for: as many for every method

Seeds change initialisation, dropout and the order of batches; the split stays, so that all are scored on the same rows.
A cell that is there is neither fitted nor asked again, so a method added later costs its own cells alone.

n rows, M channels.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.channel.methods import method_of
from headrace.channel.predictions import Predictions
from headrace.channel.tuning import FitAndMeasure, space_of, study_of
from headrace.errors import UserError
from headrace.evaluate.floors import fit_floors
from headrace.evaluate.metrics import Predicted
from headrace.evaluate.targets import Target
from headrace.journeys.seams import Integers
from headrace.journeys.splits import Split
from headrace.journeys.statistics import default_statistics, running
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import view
from headrace.learn.run import Run
from headrace.learn.tune import Trial, best_of, read_trials, tune

PARTS = ("validation", "test")  # whose predictions a cell keeps
TRIED = "action/log_loss"  # what tuning goes by: every method predicts the channel
TIMED_BATCHES = (2, 8)
USUAL_SHARE = 0.6  # of the epochs allowed that a fit uses before it stops early


@dataclass(frozen=True, slots=True)
class Setting:
    """What all cells of a comparison share."""

    journeys: Journeys
    split: Split
    out: Path
    told: Mapping[str, Any]  # of the split, in every run's config
    provenance: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """One training: a method under a seed."""

    method: str
    seed: int
    config: Any
    folder: Path

    @property
    def is_done(self) -> bool:
        return is_sealed(self.folder)


def is_sealed(folder: Path) -> bool:
    """Whether a run stands there that is whole."""
    return (folder / "config.json").is_file() and "files" in Run.open(folder).manifest


def cell_of(setting: Setting, method: str, seed: int, config: Any) -> Cell:
    """The cell of a method's config under a seed."""
    return Cell(method, seed, dataclasses.replace(config, seed=seed), setting.out / "cells" / f"{method}-{seed}")


def joining(setting: Setting, methods: Sequence[str], known: Iterable[str], seeds: int) -> list[str]:
    """Other methods whose cells under all of these seeds are done: they stand in the table too."""
    cells = setting.out / "cells"
    return [
        name
        for name in known
        if name not in methods and all(is_sealed(cells / f"{name}-{seed}") for seed in range(seeds))
    ]


def check_cell(setting: Setting, cell: Cell) -> None:
    """UserError where a finished cell is of other settings or data."""
    if cell.is_done:
        run = Run.open(cell.folder)
        same = run.config == _told(setting, cell) and run.manifest["provenance"] == dict(setting.provenance)
        if not same:
            raise UserError(f"{cell.folder}: a cell of other settings or data; choose another --out, or remove it")


def _told(setting: Setting, cell: Cell) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps({**method_of(cell.method)(cell.config).settings(), **setting.told}))
    return found


def fit_cell(setting: Setting, cell: Cell) -> None:
    """Fit a cell, or go on with it, and keep what it predicts."""
    kind, told = method_of(cell.method), _told(setting, cell)
    run = Run.create(cell.folder, told, resume=True, **setting.provenance)
    method = kind(cell.config).fit(setting.journeys, setting.split, run, progress=False)
    assert method.transforms is not None
    network = getattr(method, "network", None)
    sizes = {"parameters": 0 if network is None else sum(p.numel() for p in network.parameters())}
    stage = method.stage
    if stage is not None:
        sizes |= {"epochs": stage.epochs, "steps": stage.steps}
    so_far = running(setting.journeys, method.transforms.statistics)
    for part in PARTS:
        statistics = method.transforms.statistics
        steps = view(setting.journeys, setting.split, part, method.length, statistics, "exact", so_far)
        found = method.predict(setting.journeys, steps)
        run.write_weights(f"{part}.safetensors", packed(in_order(found, setting.split)))
    run.write_json("compute.json", sizes)
    run.seal()


def in_order(found: Predictions, split: Split) -> Predictions:
    """The predictions in the log's order; where a split samples windows, in theirs."""
    if split.windows is not None:
        return found
    return picked(found, np.argsort(found.rows, kind="stable"))


def picked(found: Predictions, at: Integers) -> Predictions:
    """Some of the rows."""

    def pick(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: held[at] for name, held in value.items()}
        return None if value is None else value[at]

    return Predictions(**{f.name: pick(getattr(found, f.name)) for f in dataclasses.fields(found)})


def packed(found: Predictions) -> dict[str, torch.Tensor]:
    """Predictions as named tensors: a field, or FIELD/NAME of a field that holds several."""
    arrays: dict[str, NDArray[Any]] = {}
    for f in dataclasses.fields(found):
        value = getattr(found, f.name)
        if isinstance(value, dict):
            arrays |= {f"{f.name}/{name}": held for name, held in value.items()}
        elif value is not None:
            arrays[f.name] = value
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def unpacked(tensors: Mapping[str, torch.Tensor]) -> Predictions:
    """The predictions of `packed`.

    >>> found = Predictions(np.arange(2), np.eye(2), {"click": np.ones(2)})
    >>> unpacked(packed(found)).reward["click"].tolist()
    [1.0, 1.0]
    """
    fields: dict[str, Any] = {}
    for key, tensor in tensors.items():
        name, slash, inner = key.partition("/")
        if slash:
            fields.setdefault(name, {})[inner] = tensor.numpy()
        else:
            fields[name] = tensor.numpy()
    return Predictions(**fields)


class Kept:
    """A finished cell: its reward, and what it predicts, without a network."""

    def __init__(self, cell: Cell):
        self.name, self.seed = cell.method, cell.seed
        self.config = cell.config
        self.run = Run.open(cell.folder)

    @cached_property
    def transforms(self) -> Transforms:
        return Transforms.from_dict(self.run.read_json("transforms.json"))

    @property
    def penalty(self) -> float:
        """What a unit of the log's cost takes off the gain."""
        return 0.0 if self.transforms.schema.cost is None else float(self.config.price)

    @property
    def reward_weights(self) -> dict[str, float]:
        return self.transforms.reward_weights

    @property
    def reward_gains(self) -> tuple[str, ...]:
        return tuple(self.reward_weights)

    def part(self, name: str) -> Predictions:
        """What it predicts of a part of the split."""
        return unpacked(self.run.read_weights(f"{name}.safetensors"))


def kept(cells: Sequence[Cell]) -> dict[tuple[str, int], Kept]:
    """The finished cells by method and seed."""
    return {(cell.method, cell.seed): Kept(cell) for cell in cells}


def floor_folder(setting: Setting, name: str) -> Path:
    return setting.out / "cells" / f"floor-{name}"


def fit_floor(setting: Setting, name: str, targets: Sequence[Target], rows: Mapping[Target, Integers]) -> None:
    """Fit a floor to each of the targets that it can have, and keep what it says of their rows."""
    told = {"floor": name, "targets": [_key(t) for t in targets], **setting.told}
    folder = floor_folder(setting, name)
    if is_sealed(folder) and Run.open(folder).config == told:
        return
    run = Run.create(folder, told, resume=True, **setting.provenance)
    started = time.perf_counter()
    reasons: dict[str, str] = {}
    arrays: dict[str, torch.Tensor] = {}
    fitted = fit_floors(setting.journeys, setting.split, targets, (name,), setting.split.seed)
    for target, found in fitted.items():
        floor = found.get(name)
        if isinstance(floor, str):
            reasons[_key(target)] = floor
        elif floor is not None:
            predicted = floor.predicted(rows[target], None)
            arrays[f"{_key(target)}/values"] = torch.from_numpy(np.ascontiguousarray(predicted.values))
            if predicted.choice is not None:
                arrays[f"{_key(target)}/choice"] = torch.from_numpy(np.ascontiguousarray(predicted.choice))
    run.write_json("reasons.json", reasons)
    run.write_weights("test.safetensors", arrays)
    run.add_seconds("all", time.perf_counter() - started)
    run.seal()


def floor_of(setting: Setting, name: str, target: Target, rows: Integers) -> Predicted | str | None:
    """What a floor that was fitted says of a target; a reason, or None, where it says nothing."""
    run = Run.open(floor_folder(setting, name))
    reasons = run.read_json("reasons.json")
    if _key(target) in reasons:
        return str(reasons[_key(target)])
    arrays = run.read_weights("test.safetensors")
    if f"{_key(target)}/values" not in arrays:
        return None
    choice = arrays.get(f"{_key(target)}/choice")
    values = arrays[f"{_key(target)}/values"].numpy()
    return Predicted(values, None if choice is None else choice.numpy(), rows)


def _key(target: Target) -> str:
    return f"{target.prefix}.{target.name}"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one fit of a method takes, from a few timed batches: seconds if it uses all of its epochs, and usually."""

    most_s: float
    usual_s: float


def cost_of(setting: Setting, cell: Cell) -> Cost:
    """Fit a cell of one epoch on as many users as make a few batches, then on more, and draw the line through both."""
    config, journeys = cell.config, setting.journeys
    statistics = default_statistics(journeys.schema) if config.running else ()

    def pieces(split: Split) -> int:
        return len(view(journeys, split, "train", config.length, statistics, so_far={}))

    whole = pieces(setting.split)
    found: list[tuple[int, float, float]] = []  # pieces, seconds of the fit's stages, and of all around them
    for batches in (TIMED_BATCHES[0], *TIMED_BATCHES):  # the first is to warm up
        small = shrunk(journeys, setting.split, min(1.0, batches * config.batch_size / max(whole, 1)))
        with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
            started = time.perf_counter()
            there = dataclasses.replace(setting, split=small, out=Path(scratch))
            one = cell_of(there, cell.method, cell.seed, dataclasses.replace(config, epochs=1))
            fit_cell(there, one)
            spent = sum(Run.open(one.folder).manifest["seconds"].values())
            found.append((pieces(small), spent, max(time.perf_counter() - started - spent, 0.0)))
    (few, short, less), (more, long, around) = found[1:]
    each = (long - short) / (more - few) if more > few and long > short else long / max(more, 1)
    once = max(long - each * more, 0.0)  # of an epoch, however short it is
    epochs = config.epochs * (once + each * whole)
    usual = epochs if config.patience is None else USUAL_SHARE * epochs
    around += max(around - less, 0.0) / max(more - few, 1) * (whole - more)  # what is calibrated on and predicted grows
    return Cost(around + epochs, around + usual)


def shrunk(journeys: Journeys, split: Split, share: float) -> Split:
    """The same split with about this share of the users of each part (or of its windows), one at least."""
    rng = np.random.default_rng(split.seed)
    if split.windows is not None:
        windows = {p: starts[: max(1, int(share * len(starts)))] for p, starts in split.windows.items()}
        return dataclasses.replace(split, windows=windows)
    parts = {}
    for part, mask in split.parts.items():
        users = np.unique(journeys.user_of_step[mask])
        some = rng.permutation(users)[: max(1, round(share * len(users)))]
        parts[part] = mask & np.isin(journeys.user_of_step, some)
    return dataclasses.replace(split, parts=parts)


def study_folder(setting: Setting, method: str) -> Path:
    return setting.out / "tuning" / method


def ended(setting: Setting, method: str) -> int:
    """How many trials of a method's study are over."""
    return len(read_trials(study_folder(setting, method)))


def search(
    setting: Setting, method: str, config: Any, trials: int, fixed: frozenset[str], jobs: int
) -> Iterable[Trial]:
    """Search a method's own space by the log loss of the channel on the validation part; trial 0 is the config itself.

    `fixed` are fields that every trial has. A study that was stopped goes on.
    """
    split, values = setting.split, dataclasses.asdict(config)
    told = {"method": method, "config": values, "trials": trials, "jobs": jobs, "metric": TRIED, **setting.told}
    folder = study_folder(setting, method)
    if is_sealed(folder):  # it was made by as many processes as it was; how many are asked for now changes nothing
        told["jobs"] = Run.open(folder).config["jobs"]
    run = Run.create(folder, told, resume=True, **setting.provenance)
    if "files" in run.manifest:
        return
    measure = FitAndMeasure(setting.journeys.path.resolve(), method, values, split.protocol, split.seed, TRIED)
    tuning = study_of(TRIED, method_of(method), trials, jobs, split.seed)
    yield from tune(measure, space_of(method, config, fixed), run, tuning)
    run.seal()


def tuned(setting: Setting, method: str, config: Any) -> Any:
    """The config of the study's best trial."""
    return dataclasses.replace(config, **best_of(read_trials(study_folder(setting, method))).changes)
