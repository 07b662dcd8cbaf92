"""An upper bound on what any advertising policy can be worth: a linear program over user x channel x exposure count.

The policy may know everything but the luck of clicks and purchases to come, adapt to all that happens, and randomise.
Per user and channel m the program holds expectations: N exposures, Q the same weighted by the quality of their
opportunities, K clicks, y = v N + (1 - v) K their weight for purchases (v: view_through), x purchases; s_j the peak of
channel j's awareness share, t_j its mean over the nights, w_jm what carry-over from j adds to m; o organic purchases:

    maximise     sum_um value x  +  sum_u organic_value o  -  sum_um cost
    clicks       K <= most(p) + p N,  K <= most'(p) + p Q,  K >= p N - least(p)     prices p, saturation.py
    time         sum_m N <= opportunities,  sum_m Q <= sum of their qualities
    awareness    s_j <= share(N_j + c K_j),  t_j <= share(W (N_j + c K_j))          by tangents; share(a) = a / (1 + a)
    carry-over   w_jm <= Y_m s_j,  w_jm <= share(all) y_m,  w_jm <= Z_m share(W_m / Z_m (N_j + c K_j))
    purchases    x_m <= z_m = b_m y_m + g_m sum_j L_jm w_jm,   o <= z_0 = D (b_0 + g_0 sum_j O_j t_j)
    satedness    sum_m x_m + o <= most(p) + p (sum_m z_m + z_0)                     prices p, satedness.py
    budget       sum_um cost <= B

Every policy's expectations satisfy all lines and its worth is at most the objective, so the optimum bounds it; the
proof, line by line, stands in docs/world.md. What it gives away: carry-over counts at its peak or its mean, channels
share good opportunities only by their mean quality, satedness meets the average purchase. Where none of these acts the
bound is exact.

The program is solved whole by HiGHS, or, for many users, through the price of the budget (its dual): at a price the
users fall apart into blocks, and every price gives a bound, the best one that of the whole program.

N users, M channels, P prices, I opportunities.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array

from headrace.errors import UserError, unknown
from headrace.journeys.seams import Estimate
from headrace.simulate.ads import AdsWorld
from headrace.simulate.draws import Floats
from headrace.simulate.opportunities import Opportunities, opportunities
from headrace.simulate.satedness import most_purchases
from headrace.simulate.saturation import price_curve, schedule_value
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import mean_of

WHOLE = 200  # users up to which the program is solved at once
OBJECTIVES = ("profit", "revenue", "clicks")
_PURCHASE_PRICES = np.array([0.0, 0.2, 0.4, 0.55, 0.7, 0.8, 0.9, 0.96])
_AWARENESS = np.array([0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 4.0, 7.0, 12.0])  # where the share's tangents touch


@dataclass(frozen=True, slots=True)
class Bound:
    """No policy's expected worth on these users is more than `total`. Money per user in `per_user`."""

    objective: str
    total: float  # over all users
    per_user: Floats  # (N,) adds up to total
    spent: float  # what the program spends
    price: float  # of the budget: 0 where it does not bind

    @property
    def estimate(self) -> Estimate:
        """The mean over users, with the interval that drawing users leaves."""
        return mean_of(self.per_user)


def bound(
    scenario: Scenario,
    users: int,
    days: int | None = None,
    seed: int = 0,
    budget: float | None = None,
    objective: str = "profit",
) -> Bound:
    """The bound for users 0 .. `users` - 1 of this seed: the same as `true_value` meets.

    `budget` is what all of them may cost over all days, in the scenario's currency. `objective`: "profit" is gross
    revenue less cost (true_value's profit), "revenue" gross revenue with purchases that no advert was shown for,
    "clicks" clicks. Raises UserError for another objective.
    """
    check(objective, budget)
    world = AdsWorld(scenario, users, seed, days)
    facts = _Facts.of(world, opportunities(world))
    if users <= WHOLE:
        return _solve(facts, np.arange(users), objective, budget, 0.0)
    blocks = np.array_split(np.arange(users), -(-users // WHOLE))

    def at(price: float) -> Bound:
        parts = [_solve(facts, block, objective, None, price) for block in blocks]
        paid = price * (budget or 0.0)
        per_user = np.concatenate([part.per_user for part in parts]) + paid / users
        return Bound(objective, float(per_user.sum()), per_user, sum(part.spent for part in parts), price)

    best = at(0.0)
    if budget is None or best.spent <= budget:
        return best
    low, high = 0.0, 1.0
    while (found := at(high)).spent > budget and high < 1e6:
        low, high = high, 4 * high
    best = min(best, found, key=lambda b: b.total)
    while high - low > 0.02 * high:
        middle = (low + high) / 2
        found = at(middle)
        best = min(best, found, key=lambda b: b.total)
        low, high = (middle, high) if found.spent > budget else (low, middle)
    return best


def check(objective: str, budget: float | None) -> None:
    """Raise a UserError for an objective or a budget that is none."""
    if objective not in OBJECTIVES:
        raise unknown("objective", objective, OBJECTIVES)
    if budget is not None and not budget >= 0:
        raise UserError(f"budget is {budget}, expected 0 or more")


@dataclass(frozen=True, slots=True)
class _Facts:
    """The users' numbers in the program."""

    scenario: Scenario
    days: int
    opportunities: Floats  # (N,)
    quality: Floats  # (N,) summed over opportunities
    price: Floats  # (N, M, P) of exposures
    quality_price: Floats  # (N, M, P) of a unit of quality
    most: Floats  # (N, M, P)
    most_by_quality: Floats  # (N, M, P)
    least: Floats  # (N, M, P)
    weight: Floats  # (N, M) Z: what all opportunities could count for purchases, without saturation
    later_weight: Floats  # (N, M) the most of it that follows an exposure, weighted by the awareness that is then left
    bought: Floats  # (N, M) b: purchase probability after a click, nothing carried over, not sated
    steeper: Floats  # (N, M) g: its slope in what is carried over
    organic: Floats  # (N,) b_0
    organic_steeper: Floats  # (N,) g_0
    night_weight: Floats  # (N,) the most that an exposure adds to the mean awareness of the nights
    most_purchases: Floats  # (N, P)
    value: Floats  # (N, M) of a purchase
    organic_value: Floats  # (N,)
    cost_per_exposure: Floats  # (M,)
    cost_per_click: Floats  # (M,)
    lifts: Floats  # (M, M)
    organic_lift: Floats  # (M,)

    @classmethod
    def of(cls, world: AdsWorld, seen: Opportunities) -> "_Facts":
        ads, t, r = world.scenario.ads, world.tables, world.response
        saturation, carry = ads.saturation_half_life_days, ads.carry_over_half_life_days
        price = price_curve(seen.click.max(axis=1), r.capacity, seen.time.shape[1])
        price = np.concatenate([price, np.zeros((*price.shape[:2], 1))], axis=2)
        quality = np.where(seen.valid, seen.quality, 0.0)
        mean = seen.click.sum(axis=1) / np.maximum(quality.sum(axis=1), 1e-300)[:, None]
        by_quality = np.concatenate(
            [price_curve(mean, r.capacity, seen.time.shape[1]), np.zeros((*price.shape[:2], 1))], axis=2
        )
        counts = ads.view_through + (1 - ads.view_through) * seen.click  # for purchases, (N, I, M)
        counts = np.where(seen.valid[..., None], counts, 0.0)
        hazard = t.conversion_rate * r.readiness[:, None]
        organic = ads.organic_rate * r.readiness
        nights = np.arange(1, world.days + 1)
        ahead = nights - seen.time[..., None]  # (N, I, nights)
        kept = np.where((ahead > 0) & seen.valid[..., None], np.exp2(-ahead / carry), 0.0)
        dear = t.cost_per_click > 0  # elsewhere more clicks are never worse
        least = np.zeros_like(price)
        priced = Opportunities(seen.count, seen.time, seen.click[:, :, dear])
        least[:, dear] = schedule_value(priced, r.capacity[:, dear], saturation, price[:, dear], least=True)
        return cls(
            scenario=world.scenario,
            days=world.days,
            opportunities=seen.count.astype(np.float64),
            quality=quality.sum(axis=1),
            price=price,
            most=schedule_value(seen, r.capacity, saturation, price),
            most_by_quality=schedule_value(seen, r.capacity, saturation, by_quality, quality),
            least=least,
            quality_price=by_quality,
            weight=counts.sum(axis=1),
            later_weight=seen.left(carry, counts).max(axis=1),
            bought=-np.expm1(-hazard),
            steeper=hazard * np.exp(-hazard),
            organic=-np.expm1(-organic),
            organic_steeper=organic * np.exp(-organic),
            night_weight=kept.sum(axis=2).max(axis=1, initial=0.0) / world.days,
            most_purchases=_most_purchases(world, seen, counts),
            value=t.value * r.spend[:, None],
            organic_value=ads.organic_value * r.spend,
            cost_per_exposure=t.cost_per_exposure,
            cost_per_click=t.cost_per_click,
            lifts=t.lifts,
            organic_lift=t.organic_lift,
        )


def _most_purchases(world: AdsWorld, seen: Opportunities, counts: Floats) -> Floats:
    """satedness.py's bound with every opportunity and midnight at the most that any channel and awareness can do."""
    ads, t, ready = world.scenario.ads, world.tables, world.response.readiness
    full = (1 + ads.click_carry_over) * seen.count.astype(np.float64)
    share = (full / (1 + full))[:, None]
    hazard = t.conversion_rate * ready[:, None] * (1 + share * t.lifts.sum(axis=0))  # (N, M)
    at_night = ads.organic_rate * ready * (1 + share[:, 0] * t.organic_lift.sum())
    n, days = len(ready), world.days
    time = np.concatenate(
        [np.where(seen.valid, seen.time, days + 1.0), np.broadcast_to(np.arange(1.0, days + 1), (n, days))], axis=1
    )
    cap = np.concatenate(
        [(counts * -np.expm1(-hazard)[:, None]).max(axis=2), np.broadcast_to(-np.expm1(-at_night)[:, None], (n, days))],
        axis=1,
    )
    order = np.argsort(time, axis=1, kind="stable")
    return most_purchases(
        np.take_along_axis(time, order, axis=1),
        np.take_along_axis(cap, order, axis=1),
        np.maximum(hazard.max(axis=1), at_night),
        world.scenario.users.sated_by_purchase,
        world.scenario.users.sated_half_life_days,
        _PURCHASE_PRICES,
    )


Term = tuple[int, Floats | float]  # a variable's number within a user, its coefficient


@dataclass
class _Lines:
    """Inequalities  sum of coefficient * variable <= limit,  a line a user at a time."""

    users: int
    lines: int = 0
    row: list[NDArray[np.int64]] = field(default_factory=list)
    column: list[NDArray[np.int64]] = field(default_factory=list)
    coefficient: list[Floats] = field(default_factory=list)
    limit: list[Floats] = field(default_factory=list)

    def add(self, limit: Floats | float, *terms: Term) -> None:
        """One line a user."""
        each = np.arange(self.users)
        for variable, coefficient in terms:
            self.row.append(self.lines + each)
            self.column.append(variable * self.users + each)
            self.coefficient.append(np.broadcast_to(np.asarray(coefficient, dtype=np.float64), self.users))
        self.limit.append(np.broadcast_to(np.asarray(limit, dtype=np.float64), self.users))
        self.lines += self.users


def _solve(facts: _Facts, users: NDArray[np.int64], objective: str, budget: float | None, price: float) -> Bound:
    """The program of these users: whole with its budget, or at a price of the budget."""
    f, n, m = facts, len(users), facts.value.shape[1]
    ads = f.scenario.ads
    v, c = ads.view_through, ads.click_carry_over
    pairs = [(j, k) for j in range(m) for k in range(m) if f.lifts[j, k] > 0]
    number = itertools.count()
    shown, by_quality, clicks, purchases = ([next(number) for _ in range(m)] for _ in range(4))
    carried = {pair: next(number) for pair in pairs}
    peak = {j: next(number) for j in sorted({j for j, _ in pairs})}
    nightly = {int(j): next(number) for j in np.flatnonzero(f.organic_lift)}
    organic = next(number)
    variables = next(number)
    lines = _Lines(n)

    for k in range(m):
        for p in range(f.price.shape[2]):
            slope = f.price[users, k, p]
            lines.add(f.most[users, k, p], (clicks[k], 1.0), (shown[k], -slope))
            lines.add(f.most_by_quality[users, k, p], (clicks[k], 1.0), (by_quality[k], -f.quality_price[users, k, p]))
            if f.cost_per_click[k] > 0:
                lines.add(f.least[users, k, p], (clicks[k], -1.0), (shown[k], slope))
    lines.add(f.opportunities[users], *((variable, 1.0) for variable in shown))
    lines.add(f.quality[users], *((variable, 1.0) for variable in by_quality))

    def share_of(variable: int, scale: Floats | float, weight: Floats | float, j: int) -> None:
        """variable <= scale * share(weight * awareness of channel j)"""
        for a in _AWARENESS:
            slope = scale * weight / (1 + a) ** 2
            lines.add(scale * (a / (1 + a)) ** 2, (variable, 1.0), (shown[j], -slope), (clicks[j], -slope * c))

    for j, variable in peak.items():
        share_of(variable, 1.0, 1.0, j)
    for j, variable in nightly.items():
        share_of(variable, 1.0, f.night_weight[users], j)
    full = (1 + c) * f.opportunities[users]
    for (j, k), variable in carried.items():
        most_weight = v * f.opportunities[users] + (1 - v) * f.most[users, k, -1]  # Y: at the price 0
        lines.add(0.0, (variable, 1.0), (peak[j], -most_weight))
        share = full / (1 + full)
        lines.add(0.0, (variable, 1.0), (shown[k], -share * v), (clicks[k], -share * (1 - v)))
        z = f.weight[users, k]
        share_of(variable, z, f.later_weight[users, k] / np.maximum(z, 1e-300), j)

    fresh: list[list[Term]] = []  # z: purchases if nobody were sated
    for k in range(m):
        b, g = f.bought[users, k], f.steeper[users, k]
        terms: list[Term] = [(shown[k], b * v), (clicks[k], b * (1 - v))]
        terms += [(carried[j, i], g * f.lifts[j, i]) for j, i in pairs if i == k]
        fresh.append(terms)
        lines.add(0.0, (purchases[k], 1.0), *((variable, -1.0 * x) for variable, x in terms))
    base = f.days * f.organic[users]
    nights: list[Term] = [(t, f.days * f.organic_steeper[users] * f.organic_lift[j]) for j, t in nightly.items()]
    lines.add(base, (organic, 1.0), *((variable, -1.0 * x) for variable, x in nights))
    for p, each in enumerate(_PURCHASE_PRICES):
        bought: list[Term] = [(variable, 1.0) for variable in (*purchases, organic)]
        paid: list[Term] = [(variable, -each * x) for terms in (*fresh, nights) for variable, x in terms]
        lines.add(f.most_purchases[users, p] + each * base, *bought, *paid)

    cost, gain = np.zeros((variables, n)), np.zeros((variables, n))
    cost[shown] = f.cost_per_exposure[:, None]
    cost[clicks] = f.cost_per_click[:, None]
    if objective == "clicks":
        gain[clicks] = 1.0
    else:
        gain[purchases], gain[organic] = f.value[users].T, f.organic_value[users]
    return _optimum(lines, cost, gain, objective, budget, price)


def _optimum(lines: _Lines, cost: Floats, gain: Floats, objective: str, budget: float | None, price: float) -> Bound:
    worth = gain - (price + (1.0 if objective == "profit" else 0.0)) * cost  # (variables, N)
    row, column = np.concatenate(lines.row), np.concatenate(lines.column)
    coefficient, limit = np.concatenate(lines.coefficient), np.concatenate(lines.limit)
    if budget is not None:
        spending = np.flatnonzero(cost.ravel())
        row = np.concatenate([row, np.full(len(spending), len(limit))])
        column, coefficient = np.concatenate([column, spending]), np.concatenate([coefficient, cost.ravel()[spending]])
        limit = np.append(limit, budget)
    matrix = coo_array((coefficient, (row, column)), shape=(len(limit), worth.size)).tocsr()
    found = linprog(-worth.ravel(), A_ub=matrix, b_ub=limit, bounds=(0, None), method="highs")
    if found.status != 0:
        raise RuntimeError(f"the relaxation was not solved: {found.message}")
    solution = found.x.reshape(worth.shape)
    per_user, spent = (worth * solution).sum(axis=0), (cost * solution).sum(axis=0)
    if budget is not None:  # in the dual's form: what a user is worth at the budget's price, and a share of the budget
        price = max(-float(found.ineqlin.marginals[-1]), 0.0)
        per_user = per_user + price * (budget / lines.users - spent)
    return Bound(objective, -float(found.fun), per_user, float(spent.sum()), price)
