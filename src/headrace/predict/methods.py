"""The methods of prediction by name, and the variants that a comparison knows: backbones, and what weighs a loss."""

from typing import Any

from headrace.errors import unknown
from headrace.predict.backbones import BACKBONES
from headrace.predict.rmtl import RMTL, label_of
from headrace.predict.weights import WEIGHTS

METHODS: dict[str, type[RMTL]] = {RMTL.name: RMTL}

VARIANTS: dict[str, dict[str, Any]] = {
    label_of(backbone, weights): {"backbone": backbone, "weights": weights}
    for weights in WEIGHTS
    for backbone in BACKBONES
}


def method_of(name: str) -> type[RMTL]:
    """The class of a method; raises with the nearest name where there is none."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def load(run: Any) -> RMTL:
    """The fitted method that a run holds."""
    return method_of(run.config["method"]).load(run)


def variant(name: str) -> dict[str, Any]:
    """The fields of the config that a variant's name stands for.

    >>> variant("rmtl-ple"), variant("mmoe")
    ({'backbone': 'ple', 'weights': 'rl'}, {'backbone': 'mmoe', 'weights': 'none'})
    """
    if name not in VARIANTS:
        raise unknown("method", name, VARIANTS)
    return VARIANTS[name]
