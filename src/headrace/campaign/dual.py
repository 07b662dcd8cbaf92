"""The prices of money: the Lagrangian dual of the planning problem, minimised over one multiplier a constraint.

    D(l, k, f) = l budget + k . upper - f . lower + sum_u max over its exposures of (gain - (l + k - f) price)

D bounds every plan's gain from above, at any multipliers; its least value is that of the linear program (Geoffrion
1974). With a budget alone, D is minimised by bisection over l: a user's best worth is convex in l, so who chooses the
same at both ends of the bracket does so within it and is looked at no more. With channels' limits, by a quasi-Newton
search (D of many users is nearly smooth) that starts from the linear program of a sample.

N users, M channels.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from headrace.campaign.problem import Picks, Problem, pick, sums
from headrace.campaign.program import solve_relaxed
from headrace.journeys.seams import Floats, Integers

SAMPLE = 1_500  # users of the linear program that the search starts from
TOLERANCE = 1e-7  # of the search, relative


@dataclass(frozen=True, slots=True)
class Dual:
    """Multipliers: what one more unit of money would bring, of the budget and of each channel's limits."""

    budget: float
    upper: Floats  # (M,) of the most a channel may spend
    lower: Floats  # (M,) of the least, taken off

    @property
    def rates(self) -> Floats:
        """(M,) what an exposure must bring per unit of money."""
        return self.budget + self.upper - self.lower

    def fixed(self, problem: Problem) -> float:
        """The part of D that no user is in."""
        upper = np.where(self.upper > 0, problem.upper, 0.0)  # 0 * inf counts as 0
        return float(self.budget * problem.budget + self.upper @ upper - self.lower @ problem.lower)


def mix(a: Dual, b: Dual, weight: float) -> Dual:
    """The point between two, `weight` of the way to `b`."""
    parts = ((1 - weight) * x + weight * y for x, y in ((a.upper, b.upper), (a.lower, b.lower)))
    return Dual((1 - weight) * a.budget + weight * b.budget, *parts)


def worths(problem: Problem, rates: Floats) -> Floats:
    """(N,) each user's part of D."""
    return np.concatenate([pick(problem, rates, rows)[1] for rows in problem.chunks()] or [np.zeros(0)])


def bound(problem: Problem, dual: Dual) -> float:
    """D: no plan gains more."""
    return dual.fixed(problem) + float(worths(problem, dual.rates).sum())


def dual_of(problem: Problem, start: Dual | None = None) -> Dual:
    """The multipliers that minimise D (of a budget alone: the largest that spend no more than it)."""
    if not problem.bounded:
        rate = bracket(problem, start)[1]
        return Dual(rate, np.zeros(problem.channels), np.zeros(problem.channels))
    if problem.users <= 2 * SAMPLE:
        return Dual(*solve_relaxed(problem).multipliers)
    return _search(problem, _sampled(problem) if start is None else start)


def bracket(problem: Problem, start: Dual | None = None) -> tuple[float, float, Integers, Picks, Picks]:
    """Adjacent rates of a budget alone, the money of the first exceeding it, that of the second not (both 0 where the
    budget does not bind); the users that choose otherwise at the two, and what they choose, (n, F) each."""
    m = problem.channels
    everyone = np.arange(problem.users)

    def at(rate: float, users: Integers) -> tuple[Picks, float]:
        rates = np.full(m, rate)
        if len(users) < problem.users:
            picks, _ = pick(problem, rates, users)
            return picks, float(sums(problem, picks, users)[1].sum())
        picks = np.concatenate([pick(problem, rates, rows)[0] for rows in problem.chunks()])
        return picks, float(sums(problem, picks)[1].sum())

    none = np.zeros((0, problem.width), np.int16)
    low, high = 0.0, _most(problem)
    low_picks, spent = at(0.0, everyone)
    if spent <= problem.budget:
        return 0.0, 0.0, everyone[:0], none, none
    high_picks, _ = at(high, everyone)
    guess = start.budget if start is not None else _guess(problem)
    tries = [guess * f for f in (1.0, 0.97, 1.03, 0.8, 1.25)] if guess > 0 else []
    users, outside = everyone, 0.0  # outside: money of those no more looked at
    for _ in range(400):
        rate = next((r for r in tries if low < r < high), (low + high) / 2)
        tries = [r for r in tries if r != rate]
        if not low < rate < high:
            break
        picks, spent = at(rate, users)
        if spent + outside > problem.budget:
            low, low_picks = rate, picks
        else:
            high, high_picks = rate, picks
        differs = (low_picks != high_picks).any(axis=1)
        if differs.sum() < 0.7 * len(users):
            outside += float(sums(problem, high_picks[~differs], users[~differs])[1].sum())
            users, low_picks, high_picks = users[differs], low_picks[differs], high_picks[differs]
        if not len(users):
            break
    differs = (low_picks != high_picks).any(axis=1)
    return low, high, users[differs], low_picks[differs], high_picks[differs]


def _most(problem: Problem) -> float:
    """A rate at which nothing that costs is worth its money."""
    most = 0.0
    for rows in problem.chunks():
        gains, prices = problem.gains[rows], problem.prices[rows]
        paid = (prices > 0) & (gains > 0)
        most = max(most, float((gains[paid] / prices[paid]).max(initial=0.0)))
    return most * (1 + 1e-9) + 1e-300


def _guess(problem: Problem) -> float:
    """The rate of an evenly spaced sample, 0 where all users are few."""
    if problem.users <= 20 * SAMPLE:
        return 0.0
    some = np.arange(0, problem.users, problem.users // SAMPLE)
    return bracket(problem.part(some, len(some) / problem.users))[1]


def _sampled(problem: Problem) -> Dual:
    """The multipliers of the linear program of an evenly spaced sample, with its share of the money."""
    some = np.arange(0, problem.users, max(1, problem.users // SAMPLE))
    budget, upper, lower = solve_relaxed(problem.part(some, len(some) / problem.users)).multipliers
    return Dual(budget, upper, lower)


def _search(problem: Problem, start: Dual) -> Dual:
    """Minimise D by L-BFGS-B from `start`; its gradient is money allowed less money taken."""
    m = problem.channels
    capped, floored = np.isfinite(problem.upper), problem.lower > 0
    unit = max(start.budget, float(np.abs(start.rates).max()), _most(problem) * 1e-6)  # rates near 1
    size = max(problem.budget, 1e-300)

    def unpack(y: Floats) -> Dual:
        upper, lower = np.zeros(m), np.zeros(m)
        upper[capped], lower[floored] = y[1 : 1 + capped.sum()] * unit, y[1 + capped.sum() :] * unit
        return Dual(float(y[0] * unit), upper, lower)

    def value(y: Floats) -> tuple[float, Floats]:
        dual = unpack(y)
        total, spend = dual.fixed(problem), np.zeros(m)
        for rows in problem.chunks():
            picks, worth = pick(problem, dual.rates, rows)
            total += float(worth.sum())
            spend += sums(problem, picks, rows)[1]
        slope = [
            np.array([problem.budget - spend.sum()]),
            (problem.upper - spend)[capped],
            (spend - problem.lower)[floored],
        ]
        return total / (unit * size), np.concatenate(slope) / size

    first = np.concatenate([[start.budget], start.upper[capped], start.lower[floored]]) / unit
    found = minimize(
        value, first, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(first), options={"ftol": TOLERANCE}
    )
    return unpack(found.x if found.fun <= value(first)[0] else first)
