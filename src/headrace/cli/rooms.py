"""Which room a method lives in: the one place that maps the names of the command line to methods."""

from importlib import import_module
from typing import Any

from headrace.errors import UserError, unknown
from headrace.evaluate.results import Evaluation

ROOMS = ("channel", "predict", "fuse")
DOES = {"predict": "predicts what items bring", "fuse": "ranks the items of lists"}


def room_of(method: str) -> str:
    """The room of a method; raises with the nearest name where no room holds it."""
    held = {name: room for room in ROOMS for name in import_module(f"headrace.{room}.methods").METHODS}
    if method not in held:
        raise unknown("method", method, held)
    return held[method]


def method_of(name: str) -> Any:
    """The class of a method."""
    return import_module(f"headrace.{room_of(name)}.methods").METHODS[name]


def load(run: Any) -> Any:
    """The fitted method that a run holds."""
    return method_of(run.config["method"]).load(run)


def load_channel(run: Any) -> Any:
    """The fitted channel method that a run holds; UserError for a run of another room, with the command that fits."""
    name = run.config.get("method")
    if name is None:
        raise UserError(f"{run.path}: holds no fitted method; expected a run that  headrace train  left")
    room = room_of(name)
    if room != "channel":
        raise UserError(
            f"{run.path}: a run of {name}, which {DOES[room]}; expected one that chooses channels, such as of mtorl; "
            f"this one is for  headrace rank {run.path}  and  headrace evaluate {run.path}"
        )
    return load(run)


def evaluate(method: Any, *arguments: Any, **named: Any) -> Evaluation:
    """What a fitted method is worth, by the scoring of its room."""
    found: Evaluation = import_module(f"headrace.{room_of(method.name)}.scoring").evaluate(method, *arguments, **named)
    return found
