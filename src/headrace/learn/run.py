"""A run: one directory that holds everything a fit made, and what is needed to trust it.

    config.json      the resolved config
    manifest.json    config, version, commit, machine, threads, data and split fingerprints, seconds, files with sha256
    transforms.json  vocabularies and scalers, fitted on train
    checkpoints/     a folder a stage (learn/checkpoint.py)
    metrics.jsonl    {"stage", "epoch", "step", "part", "metric", "value"} a line
    results.json, report.html
    tensorboard/     only where asked for

Equal input and seed give equal bytes in every file but manifest.json and tensorboard's: no clock writes anywhere else.
"""

import contextlib
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from headrace.errors import UserError, no_run
from headrace.learn import checkpoint, durable
from headrace.learn.provenance import environment

FORMAT = 1


class Run:
    """An opened run; make one with `Run.create`, come back to it with `Run.open`."""

    def __init__(self, path: Path, track: bool = False):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.jsonl"
        self._board = _tensorboard(path / "tensorboard") if track else None

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        resume: bool = False,
        track: bool = False,
        **provenance: Any,
    ) -> "Run":
        """A new run; with `resume`, the one that stands there, or a new one where none does.

        `provenance` goes into the manifest (data and split fingerprints). Resuming asks for the same config and
        provenance. Raises UserError for a run that is there already, a folder of something else, or a difference.
        """
        path = Path(path)
        config = json.loads(json.dumps(config))
        provenance = json.loads(json.dumps(provenance))
        if (path / "config.json").is_file():
            if not resume:
                raise UserError(f"{path}: a run is there already; go on with --resume, or choose another --out")
            run = cls.open(path, track)
            run._refuse_difference("config", run.config, config)
            run._refuse_difference("provenance", run.manifest["provenance"], provenance)
            with run.locked():
                run.settle_metrics()
                run._write_manifest(run.manifest | {"resumed": [*run.manifest.get("resumed", []), environment()]})
            return run
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file, expected a folder to write the run to; choose another --out")
        if path.exists() and any(entry.name not in _UNBORN for entry in path.iterdir()):
            raise UserError(
                f"{path}: holds files and is not a run (no config.json); choose an empty folder or a new --out"
            )
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, track)
        run._write_manifest({"format": FORMAT, "config": config, "provenance": provenance, **environment()})
        run.write_json("config.json", config)  # last: from here on the folder is a run
        return run

    @classmethod
    def open(cls, path: str | Path, track: bool = False) -> "Run":
        """The run in a folder; UserError if there is none."""
        path = Path(path)
        if not (path / "config.json").is_file():
            raise no_run(path)
        run = cls(path, track)
        if run.manifest.get("format") != FORMAT:
            raise UserError(
                f"{path}: run format {run.manifest.get('format')}, this version reads {FORMAT}; train again"
            )
        return run

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def config(self) -> dict[str, Any]:
        return self._read_table("config.json")

    @property
    def manifest(self) -> dict[str, Any]:
        return self._read_table("manifest.json")

    def log(self, stage: str, epoch: int, step: int, part: str, metrics: Mapping[str, float]) -> None:
        """Append one line a metric; a value that is not finite (no AUC over one class) is written as null."""
        place = {"stage": stage, "epoch": epoch, "step": step, "part": part}
        values = {name: float(value) for name, value in metrics.items()}
        lines = [
            json.dumps(place | {"metric": name, "value": value if math.isfinite(value) else None}) + "\n"
            for name, value in values.items()
        ]
        with self._metrics.open("a", encoding="utf-8", newline="\n") as file:
            file.write("".join(lines))
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{stage}/{name}/{part}", value, step)
            self._board.flush()

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl, in order."""
        if not self._metrics.is_file():
            return []
        lines = self._metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def sync_metrics(self) -> int:
        """Have the lines so far on disk; their bytes, which a checkpoint notes."""
        if not self._metrics.is_file():
            return 0
        durable.sync(self._metrics)
        return self._metrics.stat().st_size

    def settle_metrics(self) -> None:
        """Cut the lines that no checkpoint knows: a resumed fit writes them again, and each counts once."""
        records = [checkpoint.read_record(path.parent, "last") for path in sorted(self.checkpoints.glob("*/last.json"))]
        settled = max((record["place"]["metrics_bytes"] for record in records), default=0)
        size = self.sync_metrics()
        if size < settled:
            raise UserError(
                f"{self._metrics}: {size} bytes, expected the {settled} that the checkpoints know of; "
                f"restore it from a copy, or fit again in a new folder"
            )
        if size > settled:
            os.truncate(self._metrics, settled)

    def write_json(self, name: str, value: Any) -> None:
        """Write one of the run's JSON files, whole or not at all. NaN and infinity are a ValueError."""
        self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write one of the run's files, whole or not at all."""
        durable.replace_text(self.path / name, text)

    def read_json(self, name: str) -> Any:
        """One of the run's JSON files; UserError if it is missing or damaged."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{path}: this run has no {name}; its command has not finished, go on with --resume"
            ) from None
        except ValueError as error:
            raise UserError(f"{path}: damaged, not JSON ({error}); restore it from a copy, or fit again") from None

    def _read_table(self, name: str) -> dict[str, Any]:
        found = self.read_json(name)
        if not isinstance(found, dict):
            raise UserError(f"{self.path / name}: damaged, not a table; restore it from a copy, or fit again")
        return found

    def write_weights(self, name: str, weights: Mapping[str, torch.Tensor]) -> None:
        """Write a network's weights as safetensors, whole or not at all."""
        tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in weights.items()}
        durable.replace(self.path / name, lambda path: save_file(tensors, path))

    def read_weights(self, name: str) -> dict[str, torch.Tensor]:
        """The weights of `write_weights`; UserError if they are missing or damaged."""
        path = self.path / name
        if not path.is_file():
            raise UserError(f"{path}: this run has no {name}; its command has not finished, go on with --resume")
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path}: damaged ({error}); restore it from a copy, or fit again") from None

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Note time spent on a stage, in the manifest: durations are never equal twice."""
        manifest = self.manifest
        spent = manifest.setdefault("seconds", {})
        spent[stage] = round(spent.get(stage, 0.0) + seconds, 3)
        self._write_manifest(manifest)

    def seal(self) -> None:
        """Write the sha256 of every file into the manifest."""
        paths = sorted(path for path in self.path.rglob("*") if path.is_file())
        names = {path.relative_to(self.path).as_posix(): path for path in paths}
        self._write_manifest(
            self.manifest
            | {
                "files": {
                    name: durable.sha256(path)
                    for name, path in names.items()
                    if name != "manifest.json" and not path.name.startswith(".") and not name.startswith("tensorboard/")
                }
            }
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from fitting into the same run; the lock goes with the process that holds it."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise UserError(
                f"{self.path}: another process is writing this run; wait for it, or choose another --out"
            ) from None
        except OSError:
            pass  # a network file system without locks
        try:
            yield
        finally:
            os.close(handle)

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        self.write_json("manifest.json", manifest)

    def discard(self) -> None:
        """Clear the folder away where nothing was learnt yet, so that a mistaken call leaves nothing in the way."""
        if not self.checkpoints.exists():
            shutil.rmtree(self.path)

    def _refuse_difference(self, kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        was, is_ = _leaves(before), _leaves(now)
        differing = [key for key in sorted(was.keys() | is_.keys()) if was.get(key) != is_.get(key)]
        if differing:
            told = ", ".join(f"{key!r} is {is_.get(key)!r} and was {was.get(key)!r}" for key in differing[:TOLD])
            more = f", and {len(differing) - TOLD} more differ" if len(differing) > TOLD else ""
            raise UserError(
                f"{self.path}: cannot resume, {kind} {told}{more}; resume with what it was, or choose another --out"
            )


TOLD = 4  # differences that an error names


def _leaves(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """
    >>> _leaves({"a": 1, "b": {"c": 2, "d": {}}})
    {'a': 1, 'b.c': 2, 'b.d': {}}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, Mapping) and value
        found |= _leaves(value, f"{above}{key}.") if inner else {above + key: value}
    return found


_UNBORN = ("manifest.json", ".manifest.json.new", ".config.json.new")  # left by a kill inside `create`


def _tensorboard(path: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "tensorboard is not installed and tracking was asked for; "
            "pip install 'headrace[track]', or leave tracking out"
        ) from None
    return SummaryWriter(str(path))
