"""What is expected of users: the predictions a campaign decides by, kept from one turn to the next.

n users asked about, N of the market, M channels. Gains by the reward's weights; costs in the budget's currency.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.campaign.allocation import increment
from headrace.campaign.market import Market
from headrace.channel.predictions import Predictions
from headrace.channel.recommend import values_of
from headrace.journeys.seams import Bools, Floats, History, Integers


@dataclass(frozen=True, slots=True)
class Scores:
    """Predictions for n users."""

    gain: Floats  # (n, M) expected of an advert over each channel
    cost: Floats  # (n, M) expected
    reward: Floats  # (n,) expected before the channel is chosen: user-level allocation sorts by it (section 3.7.2)
    policy: Floats  # (n, M) the recommendation policy P_u (11)

    def __len__(self) -> int:
        return len(self.reward)

    def of(self, rows: Integers) -> "Scores":
        return Scores(self.gain[rows], self.cost[rows], self.reward[rows], self.policy[rows])

    def only(self, fits: Bools) -> "Scores":
        """Channels that the money does not fit, `fits` (M,), bring minus infinity, and P_u recommends none of them."""
        policy = self.policy * fits
        shares = policy / np.maximum(policy.sum(axis=1, keepdims=True), 1e-300)
        return Scores(np.where(fits, self.gain, -np.inf), self.cost, self.reward, shares)

    def times(self, gain: Floats, cost: Floats) -> "Scores":
        """Gains and costs of each channel multiplied by (M,) factors."""
        return Scores(self.gain * gain, self.cost * cost, self.reward, self.policy)


class Predictor(Protocol):
    """Says what adverts to users would bring now."""

    @property
    def weights(self) -> Mapping[str, float]:
        """How much each gain of the market counts."""
        ...

    def predict(self, market: Market, users: Integers) -> Scores: ...


class Method(Protocol):
    """What a campaign needs of a fitted channel method."""

    @property
    def reward_weights(self) -> dict[str, float]: ...

    def foresee(self, histories: History) -> Predictions: ...


@dataclass(frozen=True, slots=True)
class Foreseeing:
    """A fitted channel method (MTORL, DIN) as predictor."""

    method: Method
    price: float = 1.0  # of a unit of the cost that the method predicts, in the budget's currency
    batch: int = 8_192  # users whose histories are assembled at once

    @property
    def weights(self) -> Mapping[str, float]:
        return self.method.reward_weights

    def predict(self, market: Market, users: Integers) -> Scores:
        parts = [self._some(market, users[k : k + self.batch]) for k in range(0, max(len(users), 1), self.batch)]
        columns = zip(*((p.gain, p.cost, p.reward, p.policy) for p in parts), strict=True)
        return Scores(*(np.concatenate(column) for column in columns))

    def _some(self, market: Market, users: Integers) -> Scores:
        found = self.method.foresee(market.histories(users))
        gain, cost, _ = values_of(found, self.method.reward_weights, 0.0)
        reward = np.zeros(len(users))
        for name, weight in self.method.reward_weights.items():
            reward += weight * found.reward[name]
        policy = found.action.astype(np.float64)
        return Scores(gain, self.price * cost, reward, policy / policy.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class OverNoAd:
    """A predictor's gains above those of the channel that stands for no advert, which is itself closed."""

    predictor: Predictor
    no_ad: int

    @property
    def weights(self) -> Mapping[str, float]:
        return self.predictor.weights

    def predict(self, market: Market, users: Integers) -> Scores:
        found = self.predictor.predict(market, users)
        gain = increment(found.gain, self.no_ad)
        return Scores(gain, found.cost, gain.max(axis=1, initial=-np.inf), found.policy)


class ScoreMemory:
    """The last predictions of every user, as float32, and whose must be renewed."""

    def __init__(self, users: int, channels: int):
        self._gain, self._cost, self._policy = (np.zeros((users, channels), dtype=np.float32) for _ in range(3))
        self._reward = np.zeros(users, dtype=np.float32)
        self.known: Bools = np.zeros(users, dtype=np.bool_)
        self.stale: Bools = np.ones(users, dtype=np.bool_)

    def put(self, users: Integers, columns: Mapping[str, NDArray[Any]]) -> None:
        """Keep the predictions of users; `columns` are those of `narrow`."""
        for name in ("gain", "cost", "reward", "policy"):
            getattr(self, f"_{name}")[users] = columns[name]
        self.known[users], self.stale[users] = True, False

    def of(self, users: Integers) -> Scores:
        gain, cost, reward, policy = (
            column[users].astype(np.float64) for column in (self._gain, self._cost, self._reward, self._policy)
        )
        return Scores(gain, cost, reward, policy / np.maximum(policy.sum(axis=1, keepdims=True), 1e-12))

    @property
    def reward(self) -> Floats:
        """(N,) minus infinity where nothing is known."""
        return np.where(self.known, self._reward.astype(np.float64), -np.inf)


def narrow(scores: Scores) -> dict[str, NDArray[np.float32]]:
    """The columns as they are kept."""
    columns = {"gain": scores.gain, "cost": scores.cost, "reward": scores.reward, "policy": scores.policy}
    return {name: values.astype(np.float32) for name, values in columns.items()}
