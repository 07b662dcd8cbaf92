"""A pre-trained user encoder inside another model (MTORL, section 4.5): taken from a run of MTORL, kept in the other's.

The encoder must have been trained on the very split of the model that reads it. One that saw the model's held-out users
would carry their outcomes into its inputs: a leak.
"""

import dataclasses
from typing import Any

from headrace.channel.mtorl import MTORL, MTORLConfig, Network
from headrace.errors import UserError
from headrace.journeys.splits import Split
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import WHOLE
from headrace.learn.run import Run


def open_encoder(path: str, split: Split, length: int | None, running: bool) -> MTORL:
    """The fitted MTORL of a run, for a model that reads `length` steps and, or not, running statistics.

    Raises UserError for a run of another method or another split, and where the model reads less than the encoder did
    or more steps than it ever saw.
    """
    run = Run.open(path)
    method = run.config.get("method")
    if method != MTORL.name:
        raise UserError(f"{path}: a run of {method}, expected one of {MTORL.name} as encoder; train one")
    told = run.manifest["provenance"]
    if told.get("split_fingerprint", told.get("split")) != split.fingerprint:
        raise UserError(
            f"{path}: the encoder was trained on another split, so it may know the users and steps held out here "
            f"(a leak); train it on this log with protocol {split.protocol}, seed {split.seed}, fold {split.fold}"
        )
    encoder = MTORL.load(run)
    if (length or WHOLE) > (encoder.length or WHOLE):
        raise UserError(
            f"{path}: the encoder was trained on {encoder.length} steps and is to read {length or WHOLE}; "
            f"set length={encoder.length}"
        )
    if encoder.config.running and not running:
        raise UserError(f"{path}: the encoder reads running statistics and running = False here; set running=true")
    return encoder


def description(encoder: MTORL) -> dict[str, Any]:
    """What a run keeps of an encoder beside its weights."""
    assert encoder.transforms is not None
    return {"config": dataclasses.asdict(encoder.config), "transforms": encoder.transforms.to_dict()}


def described(values: dict[str, Any]) -> tuple[Transforms, Network]:
    """The transforms and a network without its trained weights, from `description`."""
    transforms = Transforms.from_dict(values["transforms"])
    return transforms, Network(MTORLConfig(**values["config"]), transforms)
