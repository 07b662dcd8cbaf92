"""The planning problem: which exposures to buy, at most `per_user` of a user and one of each (user, channel).

    maximise    sum gain_um x_um                       x_um = 1: user u is shown an advert on channel m
    budget      sum price_um x_um <= budget
    channels    lower_m <= sum_u price_um x_um <= upper_m
    users       sum_m x_um <= per_user

Gains of a user's exposures add up: what one does to the next is the next plan's business. A rate is gain per unit of
money; at rates (M,) a user's exposure is worth gain_um - rate_m * price_um, and each user takes the best ones above 0.

N users, M channels, F = per_user.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.journeys.seams import Floats, Integers

CHUNK = 65_536  # users looked at together
Picks = NDArray[np.int16]  # (n, F) channels of each user in ascending order, -1 in front where fewer are chosen


@dataclass(frozen=True, slots=True)
class Problem:
    """Expected gains and prices of every exposure, and what may be spent.

    Prices in whole micros make all sums exact. Raises ValueError for shapes or values that make no sense.
    """

    gains: Floats  # (N, M); -inf: the channel is closed to the user
    prices: Floats  # (N, M) >= 0
    budget: float
    lower: Floats  # (M,) the least to spend on a channel; 0: none
    upper: Floats  # (M,) the most; inf: none
    per_user: int = 1

    def __post_init__(self) -> None:
        n, m = self.gains.shape
        if self.prices.shape != (n, m) or self.lower.shape != (m,) or self.upper.shape != (m,):
            raise ValueError(f"gains {self.gains.shape}, prices {self.prices.shape}, bounds {self.lower.shape}")
        if not self.budget >= 0 or (self.lower < 0).any() or (self.upper < 0).any() or self.per_user < 1:
            raise ValueError("budget and bounds are 0 or more, a user has at least one exposure")
        for rows in self.chunks():
            if not np.isfinite(self.prices[rows]).all() or (self.prices[rows] < 0).any():
                raise ValueError("prices are finite and not negative")
            if np.isnan(self.gains[rows]).any() or np.isposinf(self.gains[rows]).any():
                raise ValueError("gains are numbers, or -inf")

    @classmethod
    def of(cls, gains: Floats, prices: Floats, budget: float, per_user: int = 1) -> "Problem":
        """A problem of one budget alone."""
        m = gains.shape[1]
        return cls(gains, prices, budget, np.zeros(m), np.full(m, np.inf), per_user)

    @property
    def users(self) -> int:
        return len(self.gains)

    @property
    def channels(self) -> int:
        return int(self.gains.shape[1])

    @property
    def width(self) -> int:
        """F, at most one exposure a channel."""
        return min(self.per_user, self.channels)

    @property
    def bounded(self) -> bool:
        """Whether channels have limits of their own."""
        return bool((self.lower > 0).any() or np.isfinite(self.upper).any())

    def chunks(self) -> Iterator[slice]:
        for start in range(0, self.users, CHUNK):
            yield slice(start, min(start + CHUNK, self.users))

    def part(self, users: Integers, share: float | None = None) -> "Problem":
        """The problem of some users; with `share`, with that share of all the money."""
        share = 1.0 if share is None else share
        at = (self.budget * share, self.lower * share, self.upper * share)
        return Problem(self.gains[users], self.prices[users], *at, self.per_user)


def pick(problem: Problem, rates: Floats, rows: slice | Integers) -> tuple[Picks, Floats]:
    """What these users take at `rates`, and what they are worth then: (n, F), (n,)."""
    worth = problem.gains[rows] - rates * problem.prices[rows]  # (n, M)
    f = problem.width
    if f == 1:
        top = worth.argmax(axis=1)[:, None]
    elif f < problem.channels:
        top = np.argpartition(-worth, f - 1, axis=1)[:, :f]
    else:
        top = np.broadcast_to(np.arange(problem.channels), worth.shape)
    value = np.take_along_axis(worth, top, axis=1)
    picks = np.where(value > 0, top, -1).astype(np.int16)
    if f > 1:
        picks.sort(axis=1)
    return picks, np.maximum(value, 0.0).sum(axis=1)


def sums(problem: Problem, picks: Picks, rows: slice | Integers | None = None) -> tuple[float, Floats]:
    """Gain, and money by channel (M,), of these users' picks."""
    gain, spend = 0.0, np.zeros(problem.channels)
    for part in problem.chunks() if rows is None else [rows]:
        mine = picks[part] if rows is None else picks
        user, place = np.nonzero(mine >= 0)
        channel = mine[user, place].astype(np.int64)
        gain += float(problem.gains[part][user, channel].sum())
        spend += np.bincount(channel, problem.prices[part][user, channel], problem.channels)
    return gain, spend
