"""Which room a method lives in: the one place that maps the names of the command line to methods."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.errors import UserError, unknown

if TYPE_CHECKING:
    from headrace.evaluate.results import Evaluation

# the rooms' own METHODS by name, so that a name is known before torch is imported
CHANNEL = "ag bc din discrete-cql discrete-iql dt gru4rec mirec mtorl odt r-bcq sasrec star wide-deep"
FUSE = "bcq bo cql-sac es iql td3 td3-bc unified uwac"
ROOMS = {"channel": CHANNEL.split(), "predict": ["rmtl"], "fuse": FUSE.split()}
HELD = {name: room for room, names in ROOMS.items() for name in names}
DOES = {"predict": "predicts what items bring", "fuse": "ranks the items of lists"}


def room_of(method: str) -> str:
    """The room of a method; raises with the nearest name where no room holds it."""
    if method not in HELD:
        raise unknown("method", method, HELD)
    return HELD[method]


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


def evaluate(method: Any, *arguments: Any, **named: Any) -> "Evaluation":
    """What a fitted method is worth, by the scoring of its room."""
    found: Evaluation = import_module(f"headrace.{room_of(method.name)}.scoring").evaluate(method, *arguments, **named)
    return found
