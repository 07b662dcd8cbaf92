"""The planning problem as a linear program (its relaxation) or an integer program, solved by HiGHS.

One variable an exposure; rows: users, budget, most and least a channel may spend. The least may be missed at a price
(FORGIVE), so that there always is an answer.

n users, M channels, V variables.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array, csr_array

from headrace.campaign.problem import Picks, Problem
from headrace.journeys.seams import Floats, Integers

PATIENCE_S = 20.0  # with the integer program of a small problem, which takes milliseconds
FORGIVE = 1e3  # what a unit of money short of a floor costs, in the largest gain per unit of money


@dataclass(frozen=True, slots=True)
class Relaxed:
    """The linear program's answer."""

    value: float
    shares: Floats  # (n, M) of each exposure
    multipliers: tuple[float, Floats, Floats]  # of the budget, of the channels' most (M,) and least (M,)


@dataclass(frozen=True, slots=True)
class _Program:
    user: Integers  # (V,)
    channel: Integers  # (V,)
    cost: Floats  # (V + M,) to minimise; the last M: money short of each floor
    rows: csr_array
    limits: Floats
    capped: NDArray[np.bool_]  # (M,)
    floored: NDArray[np.bool_]  # (M,)
    gain_unit: float
    money_unit: float


def _program(problem: Problem, forgive: bool) -> _Program:
    n, m = problem.gains.shape
    user, channel = np.nonzero(np.isfinite(problem.gains))
    gains, prices = problem.gains[user, channel], problem.prices[user, channel]
    # powers of two keep whole numbers exact; HiGHS's tolerances are absolute
    money = 2.0 ** (np.floor(np.log2(prices.max(initial=0.0) or 1.0)) - (10 if forgive else 0))
    gain = 2.0 ** (np.floor(np.log2(np.abs(gains).max(initial=0.0) or 1.0)) - (10 if forgive else 0))
    p = prices / money
    capped, floored = np.isfinite(problem.upper), problem.lower > 0
    v = len(user)
    at = np.arange(v)
    cap_row, floor_row = n + np.cumsum(capped), n + capped.sum() + np.cumsum(floored)  # row n is the budget's
    in_cap, in_floor, short = capped[channel], floored[channel], np.flatnonzero(floored)
    row = np.concatenate(
        [user, np.full(v, n), cap_row[channel[in_cap]], floor_row[channel[in_floor]], floor_row[short]]
    )
    column = np.concatenate([at, at, at[in_cap], at[in_floor], v + short])
    entry = np.concatenate([np.ones(v), p, p[in_cap], -p[in_floor], -np.ones(len(short))])
    height = n + 1 + int(capped.sum()) + int(floored.sum())
    rows = coo_array((entry, (row, column)), shape=(height, v + m)).tocsr()
    money_limits = np.concatenate([[problem.budget], problem.upper[capped], -problem.lower[floored]]) / money
    limits = np.concatenate([np.full(n, float(problem.per_user)), money_limits])
    paid = p > 0
    dear = FORGIVE * max(1e-6, float((np.abs(gains[paid]) / gain / p[paid]).max(initial=0.0)))
    cost = np.concatenate([-gains / gain, np.full(m, dear)])
    return _Program(user, channel, cost, rows, limits, capped, floored, gain, money)


def solve_relaxed(problem: Problem) -> Relaxed:
    """The linear program; floors that cannot be met are missed by as little as can be."""
    made = _program(problem, forgive=False)
    n, m = problem.gains.shape
    v = len(made.user)
    upper = np.concatenate([np.ones(v), np.full(m, np.inf)])
    found = linprog(
        made.cost, A_ub=made.rows, b_ub=made.limits, bounds=np.stack([np.zeros(v + m), upper], axis=1), method="highs"
    )
    if found.x is None:
        raise RuntimeError(f"HiGHS: {found.message}")
    shares = np.zeros((n, m))
    shares[made.user, made.channel] = found.x[:v]
    money = -found.ineqlin.marginals[n:] * made.gain_unit / made.money_unit
    caps, floors = np.zeros(m), np.zeros(m)
    caps[made.capped] = money[1 : 1 + made.capped.sum()]
    floors[made.floored] = money[1 + made.capped.sum() :]
    value = -float(made.cost[:v] @ found.x[:v]) * made.gain_unit
    return Relaxed(value, shares, (float(money[0]), caps, floors))


def solve_whole(problem: Problem) -> Picks | None:
    """The best plan of whole exposures, (n, F), for small problems; None where HiGHS takes too long to find it."""
    made = _program(problem, forgive=True)
    v, m = len(made.user), problem.channels
    whole = np.concatenate([np.ones(v), np.zeros(m)])
    upper = np.concatenate([np.ones(v), np.full(m, np.inf)])
    found = milp(
        made.cost,
        constraints=LinearConstraint(made.rows, -np.inf, made.limits),
        integrality=whole,
        bounds=Bounds(np.zeros(v + m), upper),
        options={"mip_rel_gap": 0.0, "time_limit": PATIENCE_S},
    )
    if found.status != 0:
        return None
    return picks_of(problem, made.user, made.channel, found.x[:v] > 0.5)


def picks_of(problem: Problem, user: Integers, channel: Integers, on: NDArray[np.bool_]) -> Picks:
    """(n, F) from a list of exposures, at most F of a user."""
    user, channel = user[on], channel[on]
    order = np.lexsort((channel, user))
    user, channel = user[order], channel[order]
    count = np.bincount(user, minlength=problem.users)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    place = problem.width - count[user] + np.arange(len(user)) - first[user]
    picks = np.full((problem.users, problem.width), -1, np.int16)
    picks[user, place] = channel
    return picks
