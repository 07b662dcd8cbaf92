"""The seams that the rooms speak through: History, Decisions, Policy, Predictor, Reward, Estimate.

B journeys, T steps, M channels, K behaviours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class History:
    """What is known of B users at each of their last T steps, the last one being the step to decide.

    Journeys are left-aligned: valid steps first, padding behind them. Values are the log's own: numbers as float64, the
    channel and text as int64 codes. A value that was not known yet is blank: NaN for a number, -1 for a code.
    """

    before: dict[str, NDArray[Any]]  # (B, T) features known before the decision of their step
    previous: dict[str, NDArray[Any]]  # (B, T) what the step before brought: channel, gains, cost, `after` features
    so_far: dict[str, Floats]  # (B, T, W) running statistics over everything known by then
    user: dict[str, NDArray[Any]]  # (B,) static user features
    mask: Bools  # (B, T) true where a step is, false on padding
    allowed: Bools | None = None  # (B, M) channels that may be chosen at the last step; None: all
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what the codes of a string column stand for

    def __len__(self) -> int:
        return len(self.mask)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a policy did for B histories, with the logarithm of the probability (density) of doing it."""

    action: NDArray[Any]  # (B,) a channel, (B, A) a point in a box, (B, k) a ranking
    log_propensity: Floats  # (B,)
    mean: Floats | None = None  # (B, A) of a density
    box: tuple[Floats, Floats] | None = None  # (A,), (A,) its bounds


@dataclass(frozen=True, slots=True)
class Channel:
    """The action is one of M channels."""

    channels: int


@dataclass(frozen=True, slots=True)
class Box:
    """The action is a point between `low` and `high`, both (A,)."""

    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Ranking:
    """The action is an order of the first k of a step's candidates."""

    k: int


class Policy(Protocol):
    """Chooses an action for each history and can say how probable any action is."""

    @property
    def actions(self) -> Channel | Box | Ranking: ...

    def act(self, histories: History, rng: np.random.Generator) -> Decisions: ...

    def log_prob(self, histories: History, actions: NDArray[Any]) -> Floats: ...


class ChannelPolicy(Policy, Protocol):
    """A policy over channels: it also gives the whole distribution, (B, M), 0 for forbidden channels."""

    def probabilities(self, histories: History) -> Floats: ...


class Predictor(Protocol):
    """Predicts K behaviours for each candidate: (B, K), or (B, C, K) where a step holds C candidates."""

    behaviours: tuple[str, ...]

    def predict(self, histories: History, candidates: dict[str, NDArray[Any]]) -> Floats: ...


class Reward(Protocol):
    """Turns a step's gains and cost into the number that a policy is to make large."""

    def __call__(self, gains: dict[str, NDArray[Any]], cost: NDArray[Any] | None) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval and n; or a refusal: value None, and the reason."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    diagnostics: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
