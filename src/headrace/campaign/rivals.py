"""Rivals: the allocators that ours is compared with, and predictors that stand for other methods.

    Means        what the log's users did on each channel in the mean
    Best         a channel method's own best channel, and what it is worth there

    ByLot        users by lot, as many as the money suffices for; channels by fixed shares, or by the run's own policy
    FixedPrice   a price set before the campaign and never again
    Dual         the linear program: the planner's dual prices, per channel where shares are capped or floored

S users of the forecast, n users in turn, M channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headrace.campaign.allocator import Forecast, Rule, priced
from headrace.campaign.dual import dual_of
from headrace.campaign.market import Market
from headrace.campaign.problem import Problem
from headrace.campaign.scores import Method, Scores
from headrace.channel.recommend import worth
from headrace.errors import UserError
from headrace.journeys.seams import Floats, Integers

SAMPLE = 1_500  # users that channels' limits are priced on: the linear program of so many is solved whole


@dataclass(frozen=True, slots=True)
class Means:
    """Every user is expected to do what the log's users did on each channel in the mean."""

    weights: Mapping[str, float]
    gain: tuple[float, ...]  # (M,) of an exposure
    cost: tuple[float, ...]  # (M,)

    def predict(self, market: Market, users: Integers) -> Scores:
        n, m = len(users), len(self.gain)
        gain, cost = (np.tile(np.array(values), (n, 1)) for values in (self.gain, self.cost))
        return Scores(gain, cost, gain.max(axis=1), np.full((n, m), 1 / m))


@dataclass(frozen=True, slots=True)
class Best:
    """A channel method as it would be used alone: each user's best channel, and users by what it is worth there.

    Worth is the gain, or Q of a value-based method; since that predicts no costs, all are expected to cost the log's
    means.
    """

    method: Method
    means: Means
    batch: int = 8_192  # users whose histories are assembled at once

    @property
    def weights(self) -> Mapping[str, float]:
        return self.method.reward_weights

    def predict(self, market: Market, users: Integers) -> Scores:
        known = self.means.predict(market, users)
        value = np.zeros_like(known.gain)
        for k in range(0, len(users), self.batch):
            found = self.method.foresee(market.histories(users[k : k + self.batch]))
            value[k : k + self.batch] = worth(found, self.method.reward_weights, 0.0)
        policy = np.eye(value.shape[1])[value.argmax(axis=1)]
        return Scores(known.gain, known.cost, value.max(axis=1), policy)


@dataclass(frozen=True, slots=True)
class ByLot:
    """Users drawn by lot; a channel from eta P_u + (1 - eta) shares."""

    shares: tuple[float, ...] | None = None  # (M,); None: P_initial
    of: Literal["adverts", "money"] = "adverts"  # what is shared
    eta: float = 0.0
    name: str = "by-lot"

    def fix(self, forecast: Forecast) -> Rule:
        scores, weight = forecast.scores, forecast.weight
        shares = forecast.initial if self.shares is None else np.array(self.shares, dtype=np.float64)
        if shares.shape != forecast.initial.shape:
            raise UserError(f"by-lot: {len(shares)} shares, expected {len(forecast.initial)}, one a channel")
        if self.of == "money":
            shares = shares / np.maximum(np.average(scores.cost, axis=0, weights=weight), 1e-12)
        shares = shares / shares.sum()
        mixed = self.eta * scores.policy + (1 - self.eta) * shares
        cost = float(np.average((mixed * scores.cost).sum(axis=1), weights=weight))
        return _Lot(min(1.0, forecast.allowance / max(cost, 1e-12)), self.eta, shares)


@dataclass(frozen=True, slots=True)
class _Lot:
    lot: float
    eta: float
    shares: Floats

    def chances(self, scores: Scores) -> Floats:
        return np.asarray(self.lot * (self.eta * scores.policy + (1 - self.eta) * self.shares))

    @property
    def told(self) -> dict[str, Any]:
        return {"lot": self.lot}


@dataclass(frozen=True, slots=True)
class FixedPrice:
    """The channel of the largest gain less price times cost, where that is above 0, at one price for good."""

    price: float
    name: str = "fixed-price"

    def fix(self, forecast: Forecast) -> Rule:
        return Rated(np.full(len(forecast.initial), self.price))


@dataclass(frozen=True, slots=True)
class Dual:
    """The prices at which the linear program over the forecast spends its allowance; channels may have the least and
    the most of the money."""

    caps: tuple[float, ...] | None = None  # (M,) shares of the money, at most
    floors: tuple[float, ...] | None = None  # (M,) at least
    name: str = "dual"

    def fix(self, forecast: Forecast) -> Rule:
        bounded = self.caps is not None or self.floors is not None
        rows = np.arange(0, len(forecast.scores), -(-len(forecast.scores) // SAMPLE) if bounded else 1)
        scores, weight = forecast.scores.of(rows), forecast.weight[rows]
        gains, prices = scores.gain * weight[:, None], np.maximum(scores.cost, 0.0) * weight[:, None]
        m = gains.shape[1]
        money = min(forecast.allowance * float(weight.sum()), float(prices.sum()) + 1.0)
        problem = Problem(gains, prices, money, money * _of(self.floors, m, 0.0), money * _of(self.caps, m, np.inf))
        return Rated(dual_of(problem).rates)


def _of(shares: tuple[float, ...] | None, m: int, otherwise: float) -> Floats:
    found = np.full(m, otherwise) if shares is None else np.array(shares, dtype=np.float64)
    if found.shape != (m,):
        raise UserError(f"dual: {len(found)} shares, expected {m}, one a channel")
    return found


@dataclass(frozen=True, slots=True)
class Rated:
    """The channel of the largest gain less its rate times cost, where that is above 0."""

    rates: Floats  # (M,)

    def chances(self, scores: Scores) -> Floats:
        return priced(scores, self.rates)

    @property
    def told(self) -> dict[str, Any]:
        return {"rates": self.rates.tolist()}
