"""Can all demands be met together? If not: which of them clash, and the smallest change that mends it.

What users can be made to spend on each channel, all (M,) vectors of spends of fractional plans, is a polytope; its
corners are found as needed (Dantzig and Wolfe 1960). The program over the corners found so far, solved by HiGHS, asks
for the least money by which limits must be missed; its prices ask the users for the corner that would help most.

M channels, K corners, L limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linprog

from headrace.campaign.constraints import Limit
from headrace.campaign.money import MICROS
from headrace.campaign.problem import Problem, pick, sums
from headrace.errors import Refused
from headrace.journeys.seams import Floats

ROUNDS = 60
NEAR = 1e-6  # of the money asked for, below which nothing is missing


@dataclass(frozen=True, slots=True)
class Missed:
    """By how much limits are missed at least, and which of them matter."""

    money: Floats  # (L,)
    clash: tuple[int, ...]  # limits with a price

    @property
    def total(self) -> float:
        return float(self.money.sum())


def check(problem: Problem, limits: Sequence[Limit]) -> None:
    """Refused, with the limits that clash and the smallest relaxation, where no plan keeps them all."""
    if not any(limit.least and limit.micros > 0 for limit in limits):
        return
    corners = [np.zeros(problem.channels)]
    found = missed(problem, limits, corners)
    asked = max(limit.micros for limit in limits)
    if found.total <= NEAR * asked:
        return
    alone = {}
    for at in found.clash:
        only = missed(problem, limits, corners, at)
        if only.total < np.inf:
            alone[at] = only.total
    names = " and ".join(f"{limits[at].name} ({_money(limits[at].micros)})" for at in found.clash)
    if alone:
        ways = [_change(limits[at], money) for at, money in sorted(alone.items(), key=lambda e: e[1])]
        mend = ways[0] + (f", or {', or '.join(ways[1:])}" if ways[1:] else "")
    else:
        mend = " and ".join(_change(limits[at], m) for at, m in enumerate(found.money) if m > NEAR * asked)
    reach = "" if len(found.clash) > 1 else " is more than these users can be made to cost"
    together = " cannot be kept together" if len(found.clash) > 1 else ""
    raise Refused(f"no plan is possible: {names}{reach}{together}; smallest relaxation: {mend}")


def missed(problem: Problem, limits: Sequence[Limit], corners: list[Floats], only: int | None = None) -> Missed:
    """The least money by which the limits (or `only` one of them, the others kept) are missed; adds to `corners`."""
    free = replace(problem, gains=np.where(np.isneginf(problem.gains), -np.inf, 0.0))
    unit = max(1.0, *(float(limit.micros) for limit in limits))
    for _ in range(ROUNDS):
        money, prices, level, clash = _master(limits, corners, unit, only)
        # a user takes what the prices pay for: gain 0 less a negative rate times its price
        picks = np.concatenate([pick(free, -prices, rows)[0] for rows in free.chunks()])
        corner = sums(free, picks)[1]
        if prices @ corner / unit <= level + 1e-9 or any(np.array_equal(corner, c) for c in corners):
            break
        corners.append(corner)
    if only is not None and np.delete(money, only).sum() > NEAR * unit:
        return Missed(np.full(len(limits), np.inf), ())
    return Missed(money, clash)


def _master(
    limits: Sequence[Limit], corners: list[Floats], unit: float, only: int | None
) -> tuple[Floats, Floats, float, tuple[int, ...]]:
    """Money missed (L,), what money on each channel would mend (M,), the convexity row's price, limits with a price."""
    spends = np.array(corners) / unit  # (K, M)
    k, count = len(corners), len(limits)
    rows = np.zeros((count, k + count))
    right = np.zeros(count)
    for i, limit in enumerate(limits):
        spent = spends.sum(axis=1) if limit.channel < 0 else spends[:, limit.channel]
        sign = -1.0 if limit.least else 1.0
        rows[i, :k], right[i] = sign * spent, sign * limit.micros / unit
        rows[i, k + i] = -1.0
    dear = np.array([1.0 if only in (None, i) else 1e4 for i in range(count)])
    found = linprog(
        np.concatenate([np.zeros(k), dear]),
        A_ub=rows,
        b_ub=right,
        A_eq=np.concatenate([np.ones(k), np.zeros(count)])[None],
        b_eq=[1.0],
        method="highs",
    )
    prices = np.zeros(spends.shape[1])
    paid = -found.ineqlin.marginals  # >= 0
    for i, limit in enumerate(limits):
        change = paid[i] if limit.least else -paid[i]
        if limit.channel < 0:
            prices += change
        else:
            prices[limit.channel] += change
    clash = tuple(int(i) for i in np.flatnonzero(paid > 1e-9))
    return found.x[k:] * unit, prices, -float(found.eqlin.marginals[0]), clash


def _change(limit: Limit, money: float) -> str:
    least = np.ceil(money - 1e-3)
    new = limit.micros - least if limit.least else limit.micros + least
    return f"{'lower' if limit.least else 'raise'} {limit.name} by {_money(least)} to {_money(max(new, 0))}"


def _money(amount: float) -> str:
    return f"{amount / MICROS:,.10g}"
