"""Allocator: who gets which channel, by a threshold or a price that is fixed before the users of the round are seen.

So the choice of one user does not depend on another's, and has a propensity. `fix` looks at a forecast, predictions of
users as they stood before the round, and returns a rule; the rule looks at one user at a time.

    TopUsers    the paper's: users by predicted reward (section 3.7.2), channels by eta P_u + (1 - eta) P_initial
    Price       one price of money for all: the channel of the largest gain less price times cost, if that is above 0

S users of the forecast, n users in turn, M channels. Money in the budget's currency.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headrace.campaign.scores import Scores
from headrace.journeys.seams import Floats
from headrace.ope.selection import Threshold, threshold

HALVINGS = 60  # of the interval that holds a price


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known before a round."""

    scores: Scores  # of S users
    weight: Floats  # (S,) how often each is to be expected, relative to the others
    allowance: float  # money for a mean opportunity; infinity: no pacing
    initial: Floats  # (M,) P_initial


class Rule(Protocol):
    """A fixed threshold or price at work."""

    def chances(self, scores: Scores) -> Floats:
        """(n, M) probability of an advert over each channel; what a row lacks to 1 is that of none."""
        ...

    @property
    def told(self) -> dict[str, Any]:
        """What was fixed, for the record."""
        ...


class Allocator(Protocol):
    """Fixes a rule for a round."""

    @property
    def name(self) -> str: ...

    def fix(self, forecast: Forecast) -> Rule: ...


@dataclass(frozen=True, slots=True)
class TopUsers:
    """Algorithm 1, lines 6, 8 and 12: the top users by predicted reward, a channel drawn from the averaged policy.

    N is not printed; with None it is what the money for a mean opportunity suffices for.
    """

    share: float | None = None  # of the users in turn: N over their number
    eta: float = 0.5  # weight of P_u against P_initial; not printed
    name: str = "top-users"

    def fix(self, forecast: Forecast) -> Rule:
        scores = forecast.scores
        mixed = self.eta * scores.policy + (1 - self.eta) * forecast.initial
        share = self.share
        if share is None:
            order = np.argsort(-scores.reward, kind="stable")
            spent = np.cumsum((mixed * scores.cost).sum(axis=1)[order] * forecast.weight[order])
            fits = np.searchsorted(spent, forecast.allowance * forecast.weight.sum(), side="right")
            share = max(fits, 1) / len(scores)
        return _Top(threshold(scores.reward, share), self.eta, forecast.initial)


@dataclass(frozen=True, slots=True)
class _Top:
    threshold: Threshold
    eta: float
    initial: Floats

    def chances(self, scores: Scores) -> Floats:
        mixed = self.eta * scores.policy + (1 - self.eta) * self.initial
        return np.asarray(self.threshold.chances(scores.reward)[:, None] * mixed)

    @property
    def told(self) -> dict[str, Any]:
        return {"threshold": self.threshold.at, "tie": self.threshold.tie}


@dataclass(frozen=True, slots=True)
class Price:
    """The dual price at which the expected spend of the forecast is its allowance, found by halving."""

    name: str = "price"

    def fix(self, forecast: Forecast) -> Rule:
        scores, weight = forecast.scores, forecast.weight
        limit = forecast.allowance * weight.sum()

        def spent(price: float) -> float:
            return float((weight * (priced(scores, price) * scores.cost).sum(axis=1)).sum())

        low, high = 0.0, 1e-9
        if spent(low) <= limit:
            return _Priced(low)
        while spent(high) > limit and high < 1e18:
            low, high = high, 4 * high
        for _ in range(HALVINGS):
            if high - low <= 1e-4 * high:
                break
            middle = (low + high) / 2
            low, high = (middle, high) if spent(middle) > limit else (low, middle)
        return _Priced(high)


@dataclass(frozen=True, slots=True)
class _Priced:
    price: float

    def chances(self, scores: Scores) -> Floats:
        return priced(scores, self.price)

    @property
    def told(self) -> dict[str, Any]:
        return {"price": self.price}


def priced(scores: Scores, price: float | Floats) -> Floats:
    """(n, M) 1 at the channel of the largest gain less price times cost, where that is above 0; prices may be (M,)."""
    worth = scores.gain - price * scores.cost
    best = worth.argmax(axis=1)
    chosen = np.zeros(worth.shape)
    rows = np.arange(len(best))
    chosen[rows, best] = worth[rows, best] > 0
    return chosen
