"""Which room a method lives in: the one place that maps the names of the command line to methods."""

from importlib import import_module
from typing import Any

from headrace.errors import unknown
from headrace.evaluate.results import Evaluation

ROOMS = ("channel", "predict", "fuse")


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


def evaluate(method: Any, *arguments: Any, **named: Any) -> Evaluation:
    """What a fitted method is worth, by the scoring of its room."""
    found: Evaluation = import_module(f"headrace.{room_of(method.name)}.scoring").evaluate(method, *arguments, **named)
    return found
