"""true_value: what a policy is worth in a world, by rollout, gross and as the increment over no advert.

Every rollout of a scenario and seed meets the same luck, so policies are compared user by user: the paired interval of
a difference is narrower than that of two separate rollouts. Intervals take users to be independent, which they are but
for what a policy lets them share (a budget).

N users. Money in the scenario's currency, a user over all the days.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headrace.errors import UserError
from headrace.journeys.seams import Estimate
from headrace.simulate.ads import TOTALS, AdsWorld
from headrace.simulate.blocks import blocks
from headrace.simulate.draws import Floats
from headrace.simulate.log import BLOCK
from headrace.simulate.policies import Acting, binding, name_of, rollout
from headrace.simulate.scenario import Scenario

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class TrueValue:
    """A policy's worth per user. `per_user` holds the rollout's values and, as incremental_..., the paired increments.

    exposures, clicks, conversions, revenue, cost: of the adverts; organic_...: of purchases without one in front of the
    user; gross_...: both together; profit: gross revenue less cost; incremental_...: less the same users' rollout
    without any advert.
    """

    policy: str
    per_user: dict[str, Floats]  # (N,) each
    days: int | None = None
    seed: int | None = None

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The means over users with 95 % intervals."""
        return {name: mean_of(values) for name, values in self.per_user.items()}

    def __getitem__(self, name: str) -> Estimate:
        return mean_of(self.per_user[name])

    def less(self, other: "TrueValue", name: str) -> Estimate:
        """The mean difference of one figure to another policy, with its paired interval.

        Raises UserError where the two did not meet the same users, days and seed.
        """
        check_paired(self, other)
        return mean_of(self.per_user[name] - other.per_user[name])


def true_value(scenario: Scenario, policy: Acting, users: int, days: int | None = None, seed: int = 0) -> TrueValue:
    """The value of `policy` to `users` users over `days` (None: the scenario's).

    >>> from headrace.simulate.scenario import Scenario
    >>> value = true_value(Scenario.load("ads"), "constant:search", users=200, days=2)
    >>> value["clicks"].n
    200
    """
    with_ads, without = (totals(scenario, p, users, days, seed) for p in (policy, "none"))
    per_user = dict(with_ads)
    for name in ("gross_conversions", "gross_revenue", "profit"):
        per_user[f"incremental_{name.removeprefix('gross_')}"] = with_ads[name] - without[name]
    return TrueValue(name_of(policy), per_user, scenario.days_of(days), seed)


def totals(scenario: Scenario, policy: Acting, users: int, days: int | None = None, seed: int = 0) -> dict[str, Floats]:
    """What happened per user in one rollout, (N,) each: `true_value` without its comparison to no advert."""
    bind, together = binding(policy, scenario)
    parts: dict[str, list[Floats]] = {name: [] for name in TOTALS}
    for members in blocks(users, users if together else BLOCK):
        world = AdsWorld(scenario, members, seed, days)
        for _ in rollout(world, bind(world)):
            pass
        for name in TOTALS:
            parts[name].append(world.totals[name])
    found = {name: np.concatenate(values) for name, values in parts.items()}
    found["gross_conversions"] = found["conversions"] + found["organic_conversions"]
    found["gross_revenue"] = found["revenue"] + found["organic_revenue"]
    found["profit"] = found["gross_revenue"] - found["cost"]
    return found


class Valued(Protocol):
    """What a rollout's value says of its users."""

    @property
    def policy(self) -> str: ...

    @property
    def days(self) -> int | None: ...

    @property
    def seed(self) -> int | None: ...

    @property
    def per_user(self) -> dict[str, Floats]: ...


def check_paired(one: Valued, other: Valued) -> None:
    """Raise a UserError where two values are not of the same users, days and seed, so that users don't pair."""
    met = [(len(next(iter(v.per_user.values()))), v.days, v.seed) for v in (one, other)]
    if met[0] != met[1]:
        told = [f"{users} users, {days} days, seed {seed}" for users, days, seed in met]
        raise UserError(
            f"{one.policy} was valued on {told[0]}, {other.policy} on {told[1]}; a paired difference needs the same"
        )


def mean_of(values: Floats) -> Estimate:
    """The mean over users, (N,), with its 95 % interval."""
    return interval(float(values.mean()), values)


def interval(value: float, pulls: Floats) -> Estimate:
    """A figure with its 95 % interval, from how far each user pulls it, (N,)."""
    n = len(pulls)
    half = Z95 * float(pulls.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(value, value - half, value + half, n)
