"""The best plan: the dual's prices say what each user takes, and those at the margin are settled exactly.

    few exposures       an integer program over all of them
    a budget alone      bisection over its price; at the price's two sides plans that spend a little less and a little
                        more; users go over to the dearer side while the money lasts. This is the linear program's
                        greedy solution of the multiple-choice knapsack (Sinha and Zoltners 1979), so that what it
                        loses against the bound is less than one exposure
    channels' limits    the dual's prices fix everyone but the CORE nearest to indifference; a linear program over
                        those, with the money that the others leave, has at most a fraction of a user for each limit

In each case single changes of the users nearest to the margin use up what is left. Every plan comes with the dual's
bound, so that what it may lack is known. Sums of whole prices are exact: no limit is exceeded by a unit.

N users, M channels, F exposures a user.
"""

from dataclasses import dataclass, replace

import numpy as np

from headrace.campaign.dual import Dual, bound, bracket, dual_of
from headrace.campaign.problem import Picks, Problem, pick, sums
from headrace.campaign.program import solve_relaxed, solve_whole
from headrace.journeys.seams import Bools, Floats, Integers

EXACT = 120  # exposures up to which the integer program is solved whole
CORE = 1_500  # users of the linear program at the margin; doubled until the bound is near
MOST = 6_000
LAST = 200  # users whose single changes use up what is left
CHANGES = 500
GAP = 1e-3  # to the bound, where the search for a better core ends


@dataclass(frozen=True, slots=True)
class Plan:
    """Exposures to buy, ordered by user and channel."""

    user: Integers  # (n,) index
    channel: Integers  # (n,) index
    gain: float
    spend: Floats  # (M,)
    bound: float  # no plan gains more
    dual: Dual
    short: Floats  # (M,) money missing to each channel's least

    @property
    def gap(self) -> float:
        """The share of the bound that the plan may lack at most."""
        return max(0.0, 1 - self.gain / self.bound) if self.bound > 0 else 0.0


def plan(problem: Problem, start: Dual | None = None) -> Plan:
    """The best plan; where `short` is above 0, no plan of whole exposures was found that meets that floor."""
    problem = affordable(problem)
    if problem.gains.size <= EXACT:
        relaxed = solve_relaxed(problem)
        picks = solve_whole(problem)
        if picks is not None:
            return _result(problem, _trimmed(problem, picks), Dual(*relaxed.multipliers), relaxed.value)
    return settle(problem, start)


def settle(problem: Problem, start: Dual | None = None) -> Plan:
    """The plan by prices, for any number of users."""
    problem = affordable(problem)
    return _by_limits(problem, start) if problem.bounded else _by_budget(problem, start)


def affordable(problem: Problem) -> Problem:
    """The problem without exposures that break a limit by themselves."""
    most = np.minimum(problem.budget, problem.upper)
    if not any((problem.prices[rows] > most).any() for rows in problem.chunks()):
        return problem
    return replace(problem, gains=np.where(problem.prices > most, -np.inf, problem.gains))


def _by_budget(problem: Problem, start: Dual | None) -> Plan:
    low, high, users, dearer, cheaper = bracket(problem, start)
    nothing = np.zeros(problem.channels)
    dual = Dual(high, nothing, nothing)
    picks = _picks(problem, dual)
    picks[users] = cheaper
    left = problem.budget - float(sums(problem, picks)[1].sum())
    blocked: list[int] = []
    for at, user in enumerate(users):
        more = float((sums(problem, dearer[[at]], users[[at]])[1] - sums(problem, cheaper[[at]], users[[at]])[1]).sum())
        if more <= left:
            picks[user] = dearer[at]
            left -= more
        elif len(blocked) < LAST // 2:
            blocked.append(int(user))
    if low > 0 or high > 0:
        picks = _trimmed(problem, picks)  # a tie that rounding breaks now one way, now the other, can cost too much
        picks = _polished(problem, picks, _last(problem, dual, np.array(blocked, dtype=np.int64)))
    return _result(problem, picks, dual)


def _by_limits(problem: Problem, start: Dual | None) -> Plan:
    few = problem.users <= CORE
    dual = Dual(0.0, np.zeros(problem.channels), np.zeros(problem.channels)) if few else dual_of(problem, start)
    best: Plan | None = None
    size = CORE
    while True:
        core = np.arange(problem.users) if few else _nearest(problem, dual, size)
        picks = _picks(problem, dual)
        relaxed = solve_relaxed(_left(problem, picks, core))
        halves: Bools = np.any(np.abs(relaxed.shares - np.round(relaxed.shares)) > 1e-6, axis=1)
        chosen = np.where(relaxed.shares > 0.5, np.arange(problem.channels), -1).astype(np.int16)
        chosen.sort(axis=1)
        picks[core] = np.where(halves[:, None], -1, chosen[:, problem.channels - problem.width :])
        new = Dual(*relaxed.multipliers)
        dual = new if few or bound(problem, new) < bound(problem, dual) else dual
        picks = _polished(problem, picks, _last(problem, dual, core[halves]))
        found = _result(problem, _trimmed(problem, picks), dual)
        if best is None or (found.short.sum(), -found.gain) < (best.short.sum(), -best.gain):
            best = found
        best = replace(best, bound=min(best.bound, found.bound), dual=dual)
        if few or (best.gap < GAP and not best.short.any()) or size >= min(MOST, problem.users):
            return best
        size *= 2


def _picks(problem: Problem, dual: Dual) -> Picks:
    return np.concatenate([pick(problem, dual.rates, rows)[0] for rows in problem.chunks()])


def _margins(problem: Problem, rates: Floats) -> Floats:
    """(N,) how much an average exposure's rate must change before a user chooses otherwise."""
    found = []
    f = problem.width
    for rows in problem.chunks():
        worth = problem.gains[rows] - rates * problem.prices[rows]
        worth = -np.sort(-worth, axis=1)  # (n, M) best first
        worth = np.concatenate([worth, np.full((len(worth), 1), -np.inf)], axis=1)
        taken = (worth[:, :f] > 0).sum(axis=1)
        at = np.arange(len(worth))
        following = worth[at, taken]
        outside = np.where(taken == f, np.maximum(following, 0.0), following)  # what would come in
        inside = np.where(taken > 0, worth[at, np.maximum(taken, 1) - 1], np.inf)
        margin = np.where(taken == f, inside - outside, np.minimum(inside, -outside))
        found.append(margin / (problem.prices[rows].mean(axis=1) + 1e-300))
    return np.concatenate(found)


def _nearest(problem: Problem, dual: Dual, size: int) -> Integers:
    """The users nearest to indifference."""
    margins = _margins(problem, dual.rates)
    size = min(size, problem.users)
    return np.sort(np.argpartition(margins, size - 1)[:size])


def _last(problem: Problem, dual: Dual, users: Integers, size: int = LAST) -> Integers:
    """These users, with those nearest to indifference up to `size`."""
    near = _nearest(problem, dual, size)
    near = near[~np.isin(near, users)][: max(0, size - len(users))]
    return np.concatenate([users, near])


def _left(problem: Problem, picks: Picks, users: Integers) -> Problem:
    """The problem of these users with what the others leave."""
    spend = sums(problem, picks)[1]
    others = spend - sums(problem, picks[users], users)[1]
    return Problem(
        problem.gains[users],
        problem.prices[users],
        max(problem.budget - float(others.sum()), 0.0),
        np.maximum(problem.lower - others, 0.0),
        np.maximum(problem.upper - others, 0.0),
        problem.per_user,
    )


def _polished(problem: Problem, picks: Picks, users: Integers) -> Picks:
    """The picks after the best single changes of these users' exposures: first those that fill a channel's least, then
    those that gain, as long as there are any that fit."""
    m = problem.channels
    picks = picks.copy()
    spend = sums(problem, picks)[1]
    gains = np.concatenate([problem.gains[users], np.zeros((len(users), 1))], axis=1)  # (n, M + 1), the last: none
    prices = np.concatenate([problem.prices[users], np.zeros((len(users), 1))], axis=1)
    upper = np.append(problem.upper, np.inf)
    lower = np.append(problem.lower, 0.0)
    for _ in range(CHANGES):
        now = picks[users].astype(np.int64)  # (n, F), -1 is the last column
        held = np.append(spend, 0.0)
        row = np.arange(len(users))[:, None]
        gained = gains[:, None, :] - gains[row, now][:, :, None]  # (n, F, M + 1)
        paid, freed = prices[:, None, :], prices[row, now][:, :, None]
        stays = now[:, :, None] == np.arange(m + 1)
        there = held - np.where(stays, freed, 0.0) + paid  # money of the channel that comes in
        fits = (spend.sum() - freed + paid <= problem.budget) & (there <= upper)
        taken = (now[:, :, None] == np.arange(m)).any(axis=1)  # (n, M)
        fits[:, :, :m] &= ~taken[:, None, :]
        fits &= ~(now[:, :, None] % (m + 1) == np.arange(m + 1)) & np.isfinite(gained)
        lack = np.maximum(lower - held, 0.0)
        more = np.maximum((lower - held)[now][:, :, None] + freed, 0.0) - lack[now][:, :, None]
        short = np.maximum(lower - there, 0.0) - lack + more
        short[np.abs(short) < 1e-9] = 0.0
        fits &= (short < 0) | ((short == 0) & (gained > 0))
        if not fits.any():
            break
        least = np.where(fits, short, np.inf).min()
        best = np.where(fits & (short == least), gained, -np.inf).argmax()
        user, place, channel = np.unravel_index(best, fits.shape)
        old = int(picks[users[user], place])
        if old >= 0:
            spend[old] -= prices[user, old]
        if channel < m:
            spend[channel] += prices[user, channel]
        picks[users[user], place] = channel if channel < m else -1
        picks[users[user]].sort()
    picks.sort(axis=1)
    return picks


def _trimmed(problem: Problem, picks: Picks) -> Picks:
    """The picks without the exposures of least worth that a tolerance or rounding let in above a limit."""
    spend = sums(problem, picks)[1]
    over = spend > problem.upper
    while spend.sum() > problem.budget or over.any():
        user, place = np.nonzero((picks >= 0) & (over[picks] | (not over.any())))
        channel = picks[user, place]
        prices = problem.prices[user, channel]
        ratio = np.where(prices > 0, problem.gains[user, channel] / np.where(prices > 0, prices, 1.0), np.inf)
        worst = int(ratio.argmin())
        picks = picks.copy()
        picks[user[worst], place[worst]] = -1
        picks.sort(axis=1)
        spend = sums(problem, picks)[1]
        over = spend > problem.upper
    return picks


def _result(problem: Problem, picks: Picks, dual: Dual, least: float | None = None) -> Plan:
    gain, spend = sums(problem, picks)
    user, place = np.nonzero(picks >= 0)
    most = bound(problem, dual) if least is None else least
    short = np.maximum(problem.lower - spend, 0.0)
    return Plan(user, picks[user, place].astype(np.int64), gain, spend, max(most, gain), dual, short)
