"""feed_value: what a feed policy is worth in a world, by rollout.

Every rollout of a scenario and seed meets the same luck, so policies are compared user by user: the paired interval of
a difference is narrower than that of two separate rollouts. Intervals are over users, for the items of that seed: all
users share one catalogue, and another seed's catalogue moves a level further than its interval says.

N users.
"""

import math
from dataclasses import dataclass

import numpy as np

from headrace.errors import unknown
from headrace.journeys.seams import Estimate, Predictor
from headrace.simulate.blocks import blocks
from headrace.simulate.draws import Floats
from headrace.simulate.feed import TOTALS, FeedWorld
from headrace.simulate.feed_policies import FeedPolicy, named, rollout
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import check_paired, interval

BLOCK = 8192  # users simulated at once by named policies
# Figures as a ratio of two sums over users; "" is one for every user and day.
FIGURES = {
    "dwell_time": ("dwell_s", ""),  # seconds a user and day
    "dwell_per_session": ("dwell_s", "sessions"),
    "positive_interactions": ("positive", ""),  # a user and day
    "positive_interaction_rate": ("positive", "seen"),
    "visits": ("days", ""),  # share of days with a visit
    "sessions": ("sessions", ""),  # a user and day
    "requests_per_session": ("requests", "sessions"),
    "items_per_session": ("seen", "sessions"),
    "return_rate": ("returns", "days"),  # share of days with a visit that the next one follows
    "click_rate": ("click", "seen"),
    "long_view_rate": ("long_view", "seen"),
    "hate_rate": ("hate", "seen"),
}
LEARNT = {"reward_per_session": ("reward", "sessions")}  # of values whose users' discounted rewards are told, too


@dataclass(frozen=True, slots=True)
class FeedValue:
    """A policy's worth. `per_user` holds each user's totals over all the days."""

    policy: str
    days: int
    per_user: dict[str, Floats]  # (N,) each of TOTALS, and "reward" where one was asked for
    seed: int | None = None

    @property
    def estimates(self) -> dict[str, Estimate]:
        """FIGURES with 95 % intervals over users."""
        return {name: self[name] for name in FIGURES}

    def __getitem__(self, name: str) -> Estimate:
        value, pulls = self._pulls(name)
        return interval(value, pulls)

    def less(self, other: "FeedValue", name: str) -> Estimate:
        """The difference of one figure to another policy, with its paired interval.

        Raises UserError where the two did not meet the same users, days and seed.
        """
        check_paired(self, other)
        (mine, my_pulls), (theirs, their_pulls) = self._pulls(name), other._pulls(name)
        return interval(mine - theirs, my_pulls - their_pulls)

    def relative(self, other: "FeedValue", name: str) -> Estimate:
        """The difference as a share of the other policy's figure, with its paired interval; raises as `less` does."""
        check_paired(self, other)
        (mine, my_pulls), (theirs, their_pulls) = self._pulls(name), other._pulls(name)
        return interval(mine / theirs - 1, my_pulls / theirs - mine * their_pulls / theirs**2)

    def gap_closed(self, low: "FeedValue", high: "FeedValue", name: str) -> Estimate:
        """How far this policy's figure goes from that of `low` to that of `high`, as a share of the way, with its
        paired interval; refused where `high` is no better. Raises as `less` does."""
        check_paired(self, low)
        check_paired(high, low)
        (mine, my_pulls), (bottom, low_pulls), (top, high_pulls) = (v._pulls(name) for v in (self, low, high))
        if not top > bottom:
            reason = f"{high.policy} has no better {name.replace('_', ' ')}, so there is no gap"
            return Estimate(None, None, None, len(my_pulls), refused=reason)
        share = (mine - bottom) / (top - bottom)
        return interval(share, (my_pulls - low_pulls - share * (high_pulls - low_pulls)) / (top - bottom))

    def _pulls(self, name: str) -> tuple[float, Floats]:
        """A figure, and how far each user pulls it: the linear part of a ratio of sums, (N,), mean 0."""
        known = FIGURES | (LEARNT if "reward" in self.per_user else {})
        if name not in known:
            raise unknown("figure", name, known)
        above, below = known[name]
        top = self.per_user[above]
        bottom = self.per_user[below] if below else np.full(len(top), float(self.days))
        if bottom.sum() == 0:
            return math.nan, np.full(len(top), math.nan)
        ratio = float(top.sum() / bottom.sum())
        return ratio, (top - ratio * bottom) / bottom.mean()


def feed_value(
    scenario: Scenario,
    policy: str | FeedPolicy,
    users: int,
    days: int | None = None,
    seed: int = 0,
    predictor: Predictor | None = None,
) -> FeedValue:
    """The value of `policy`, a name or a callable, to `users` users over `days` (None: the scenario's).

    >>> from headrace.simulate.scenario import Scenario
    >>> value = feed_value(Scenario.load("feed"), "shuffle", users=100, days=2)
    >>> value["dwell_time"].n
    100
    """
    bind = named(policy, scenario) if isinstance(policy, str) else None
    days = scenario.days_of(days)
    parts: dict[str, list[Floats]] = {name: [] for name in TOTALS}
    for members in blocks(users, BLOCK if bind else users):
        world = FeedWorld(scenario, members, seed, days, predictor)
        acting = bind(world) if bind else policy
        assert not isinstance(acting, str)
        for _ in rollout(world, acting):
            pass
        for name in TOTALS:
            parts[name].append(world.totals[name])
    label = policy if isinstance(policy, str) else type(policy).__name__
    return FeedValue(label, days, {name: np.concatenate(values) for name, values in parts.items()}, seed)
