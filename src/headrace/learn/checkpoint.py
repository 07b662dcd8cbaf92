"""Checkpoints: tensors as safetensors, all else as JSON, each read back only if its sha256 still holds.

    checkpoints/STAGE/last.json    {"tensors": file name, "sha256", "values", "place", "digest"}
    checkpoints/STAGE/last-….safetensors
    checkpoints/STAGE/best.json    the same for the state with the best validation value, under early stopping

The JSON file is swapped in after the tensors it points to are on disk, so a kill at any moment leaves the old
checkpoint or the new one. Tensor files are named by their content: none that a JSON file points to is overwritten.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from headrace.errors import UserError
from headrace.learn import durable

if TYPE_CHECKING:
    from headrace.learn.run import Run

State = tuple[dict[str, torch.Tensor], dict[str, Any]]  # tensors by name, and what JSON can hold


def save(folder: Path, name: str, state: State, place: dict[str, Any]) -> None:
    """Put a state, and the place in the fit it belongs to, where the older checkpoint of that name stands."""
    tensors, values = state
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{name}.safetensors.new"
    save_file(_apart(tensors), beside)
    durable.sync(beside)
    digest = durable.sha256(beside)
    file = f"{name}-{digest[:16]}.safetensors"
    beside.replace(folder / file)
    record = {"tensors": file, "sha256": digest, "values": values, "place": place}
    record["digest"] = _digest(record)
    durable.replace_text(folder / f"{name}.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    for old in folder.glob(f"{name}-*.safetensors"):
        if old.name != file:
            old.unlink()


def exists(folder: Path, name: str) -> bool:
    return (folder / f"{name}.json").is_file()


def load(folder: Path, name: str) -> tuple[State, dict[str, Any]]:
    """The state and the place that `save` was given; UserError names the file that is damaged or missing."""
    record = read_record(folder, name)
    file = folder / record["tensors"]
    if not file.is_file():
        raise UserError(f"{file}: the tensors of this checkpoint are missing; {_NEXT}")
    if durable.sha256(file) != record["sha256"]:
        raise UserError(f"{file}: damaged checkpoint, its sha256 is not the one in {name}.json; {_NEXT}")
    return (load_file(file), record["values"]), record["place"]


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """The JSON half of a checkpoint, checked against its own digest."""
    path = folder / f"{name}.json"
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; {_NEXT}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.pop("digest", None) != _digest(record):
        raise UserError(f"{path}: damaged checkpoint, its text does not match its own digest; {_NEXT}")
    return record


def read_weights(run: "Run", stage: str) -> dict[str, torch.Tensor]:
    """The tensors a finished stage ended with: its best state's, or its last one's where early stopping was off."""
    folder = run.checkpoints / stage
    if not exists(folder, "last"):
        stages = ", ".join(sorted(path.parent.name for path in run.checkpoints.glob("*/last.json"))) or "none"
        raise UserError(f"{run.path}: no stage {stage!r} was fitted here; stages: {stages}")
    place = read_record(folder, "last")["place"]
    if not place["finished"]:
        raise UserError(
            f"{run.path}: stage {stage!r} is not finished (epoch {place['epochs'] + 1}); go on with --resume"
        )
    return load(folder, place["kept"])[0][0]


def join(parts: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One flat dict of several, as a learner's state() needs it.

    >>> sorted(join({"net": {"w": torch.zeros(1)}, "optimiser": {"w": torch.zeros(1)}}))
    ['net/w', 'optimiser/w']
    """
    return {f"{name}/{key}": tensor for name, tensors in parts.items() for key, tensor in tensors.items()}


def part(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """What `join` put under a name.

    >>> sorted(part({"net/w": torch.zeros(1), "optimiser/w": torch.zeros(1)}, "net"))
    ['w']
    """
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}


_NEXT = "restore it from a copy, or fit again in a new folder"


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors on the CPU, contiguous, none sharing memory with another: safetensors takes no views."""
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        where = tensor.untyped_storage().data_ptr()
        if where in seen or tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(where)
        plain[name] = tensor
    return plain
