"""The channel methods by name."""

from typing import Any

from headrace.channel.mtorl import MTORL
from headrace.errors import unknown

METHODS: dict[str, type[MTORL]] = {MTORL.name: MTORL}


def method_of(name: str) -> type[MTORL]:
    """The class of a method; raises with the nearest name where there is none."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def load(run: Any) -> MTORL:
    """The fitted method that a run holds."""
    return method_of(run.config["method"]).load(run)
