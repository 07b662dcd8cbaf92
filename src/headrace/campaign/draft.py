"""A plan as people read it: the exposures with their days, what each channel gets, and what other budgets would bring.

    1. exploration    users and channels drawn by lot, until its share of the budget is spent
    2. the plan       of the users left and the money left
    3. days           each exposure's, within what that day may spend
    4. response       the same at other budgets

N users, M channels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from headrace.campaign.constraints import Constraints, Limit, bounds_of, limits_of, pace
from headrace.campaign.feasible import check
from headrace.campaign.money import MICROS
from headrace.campaign.planner import Plan, plan
from headrace.campaign.problem import Problem
from headrace.campaign.response import FACTORS, Response, response
from headrace.errors import Refused, UserError
from headrace.journeys.seams import Bools, Floats, Integers

MORE = 1.1  # the budget that "10 % more" asks about


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be bought: the expected gain and cost of one exposure of each user on each channel."""

    users: np.ndarray[Any, Any]  # (N,) their ids
    channels: tuple[str, ...]
    gains: Floats  # (N, M); -inf: closed
    costs: Floats  # (N, M) in the cost's own unit
    price: float  # money for one unit of cost
    initial: Floats  # (M,) shares that exploration draws channels by (17)


@dataclass(frozen=True, slots=True)
class Draft:
    """The plan's rows, and what its page and results.json tell."""

    table: pl.DataFrame  # user, channel, expected_gain, expected_cost, price_micros, explores, day
    plan: Plan
    curve: Response
    factors: tuple[float, ...]  # of the curve's budgets
    explored: tuple[float, float]  # gain and micros of exploration
    left_out: int  # exposures that no day had room for
    short: Floats  # (M,) micros missing to each channel's least

    def by_channel(self, channels: tuple[str, ...]) -> list[dict[str, Any]]:
        """A row a channel: users, spend, expected gain, and what the next unit of money on it brings."""
        rates = self.plan.dual.rates * MICROS
        rows = []
        for at, name in enumerate(channels):
            mine = self.table.filter(pl.col("channel") == name)
            rows.append(
                {
                    "channel": name,
                    "users": mine["user"].n_unique(),
                    "spend": int(mine["price_micros"].sum()) / MICROS,
                    "gain": float(mine["expected_gain"].sum()),
                    "marginal": float(rates[at]),
                    "shadow": float((self.plan.dual.upper - self.plan.dual.lower)[at] * MICROS),
                }
            )
        return rows


def draft(offer: Offer, wanted: Constraints, seed: int = 0, progress: Callable[..., None] | None = None) -> Draft:
    """Plan `offer` within `wanted`; Refused, with the smallest relaxation, where the demands clash."""
    tell = progress or (lambda *_: None)
    if wanted.total_micros <= 0:
        which = "daily_budget" if wanted.daily_budget == 0 else "budget"
        raise UserError(f"{which} is 0, so there is nothing to plan; give a larger --{which.replace('_', '-')}")
    prices = np.ceil(offer.costs * offer.price * MICROS - 1e-6)  # (N, M) whole micros
    gains = offer.gains
    limits = limits_of(wanted, offer.channels)
    closed = [limit.channel for limit in limits if limit.name.startswith("frozen") and limit.micros == 0]
    if closed:
        gains = gains.copy()
        gains[:, closed] = -np.inf
    problem = _problem(gains, prices, limits, wanted.per_user)
    tell("constraints")
    check(problem, limits)
    chosen, channel = explore(problem, offer.initial, wanted.exploration, limits, np.random.default_rng(seed))
    explored = np.bincount(channel, prices[chosen, channel], problem.channels).astype(np.float64)
    lot = float(gains[chosen, channel].sum())
    rest: Bools = np.ones(len(gains), dtype=np.bool_)
    rest[chosen] = False
    mine, theirs = gains[rest], prices[rest]

    def at(factor: float) -> tuple[Problem, list[Limit]]:
        """The users that exploration leaves, at a multiple of the budget."""
        there = limits if factor == 1 else limits_of(wanted, offer.channels, round(wanted.total_micros * factor))
        left = [replace(li, micros=max(0, li.micros - _taken(li, factor * explored))) for li in there]
        return _problem(mine, theirs, left, wanted.per_user), left

    first, left = at(1.0)
    if len(chosen):
        try:
            check(first, left)
        except Refused as error:
            raise Refused(f"with {wanted.exploration:.4g} of the budget spent by lot, {error}") from None
    tell("planning")
    made = plan(first)
    factors = tuple(f for f in FACTORS if f in (1.0, MORE) or _possible(*at(f)))
    curve = response(lambda f: at(f)[0], factors, seed, lambda k, n: tell("response", k, n))
    extra = lot * np.array(factors)
    curve = replace(
        curve,
        budget=curve.budget + explored.sum() * np.array(factors),
        gain=curve.gain + extra,
        low=curve.low + extra,
        high=curve.high + extra,
        resampled=curve.resampled + extra,
    )
    users = np.concatenate([np.flatnonzero(rest)[made.user], chosen])
    channels = np.concatenate([made.channel, channel])
    table = pl.DataFrame(
        {
            "user": offer.users[users],
            "channel": np.asarray(offer.channels)[channels],
            "expected_gain": gains[users, channels],
            "expected_cost": offer.costs[users, channels],
            "price_micros": prices[users, channels].astype(np.int64),
            "explores": np.arange(len(users)) >= len(made.user),
        }
    )
    worth = gains[users, channels] - made.dual.rates[channels] * prices[users, channels]
    # even days are alike: by lot; otherwise the best come first
    order = np.argsort(-worth, kind="stable")
    if wanted.pacing == "even" and wanted.days > 1:
        order = np.random.default_rng([seed, 1]).permutation(len(users))
    day = np.full(len(users), -1, dtype=np.int64)
    day[order] = pace(prices[users, channels][order], wanted.days, wanted.day_micros, wanted.pacing == "even")
    table = table.with_columns(pl.Series("day", day), pl.Series("worth", worth))
    out = int((day < 0).sum())
    table = table.filter(pl.col("day") >= 0).sort(["day", "worth"], descending=[False, True], maintain_order=True)
    kept = day >= 0
    spend = np.bincount(channels[kept], prices[users, channels][kept], problem.channels)
    short = np.maximum(problem.lower - spend, 0.0)
    return Draft(table.drop("worth"), made, curve, factors, (lot, float(explored.sum())), out, short)


def explore(
    problem: Problem, initial: Floats, share: float, limits: list[Limit], rng: np.random.Generator
) -> tuple[Integers, Integers]:
    """(users, channels) drawn by lot: users uniformly, channels by `initial`, until `share` of the budget is spent.

    Every user stands in the same lottery, so that what these exposures bring is an unbiased sample. Draws that a limit
    forbids are passed over. Refused where all users together cannot spend the share.
    """
    none = np.zeros(0, dtype=np.int64)
    if share <= 0:
        return none, none
    users = rng.permutation(problem.users)
    channels = rng.choice(problem.channels, size=problem.users, p=initial / initial.sum())
    prices = problem.prices[users, channels]
    ok = np.isfinite(problem.gains[users, channels])
    for at in range(problem.channels):
        here = np.flatnonzero(ok & (channels == at))
        ok[here] = np.cumsum(prices[here]) <= problem.upper[at]
    users, channels, prices = users[ok], channels[ok], prices[ok]
    paid = np.cumsum(prices)
    goal = share * problem.budget
    if not len(paid) or paid[-1] < goal:
        most = (paid[-1] if len(paid) else 0.0) / problem.budget
        raise Refused(
            f"no plan is possible: exploration ({share:.4g} of the budget) is more than one exposure of each user by "
            f"lot costs; smallest relaxation: lower exploration to {np.floor(most * 1e4) / 1e4:.4g}"
        )
    stop = int(np.searchsorted(paid, goal)) + 1
    stop -= int(paid[stop - 1] > problem.budget)
    return users[:stop], channels[:stop]


def _problem(gains: Floats, prices: Floats, limits: list[Limit], per_user: int) -> Problem:
    lower, upper = bounds_of(limits, prices)
    return Problem(gains, prices, float(limits[0].micros), lower, upper, per_user)


def _taken(limit: Limit, spend: np.ndarray[Any, Any]) -> int:
    return round(float(spend.sum() if limit.channel < 0 else spend[limit.channel]))


def _possible(problem: Problem, limits: list[Limit]) -> bool:
    try:
        check(problem, limits)
    except Refused:
        return False
    return True
