"""Response curves: what the best plan gains at every budget, and what a little more would bring.

At each budget the dual's prices are found once; D at those prices, or between, bounds the best gain from above and
equals it, with many users, but for an exposure. Drawing users again changes only the users' sum in D, so that all
resamples of all budgets come from one table (G groups, K prices). The interval says how far the gain would vary with
other users of the same kind; it takes the predictions as they are.

N users, K budgets, G groups, R resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from headrace.campaign.dual import Dual, dual_of, mix, worths
from headrace.campaign.planner import affordable
from headrace.campaign.problem import Problem
from headrace.evaluate.bootstrap import RESAMPLES, resample
from headrace.journeys.seams import Floats

FACTORS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)
BETWEEN = (0.2, 0.4, 0.6, 0.8)  # of the way from one budget's prices to the next's
GROUPS = 2_000  # users are merged at random into as many


@dataclass(frozen=True, slots=True)
class Response:
    """Gain against budget; (K,) each, `resampled` (R, K)."""

    budget: Floats
    gain: Floats
    low: Floats
    high: Floats
    marginal: Floats  # gain per unit of money of the next unit
    resampled: Floats

    def more(self, frm: int, to: int) -> tuple[float, float, float]:
        """The gain of the budget `to` over `frm`, with its interval (paired)."""
        low, high = np.percentile(self.resampled[:, to] - self.resampled[:, frm], (2.5, 97.5))
        value = float(self.gain[to] - self.gain[frm])
        return value, min(float(low), value), max(float(high), value)


def response(
    problem_at: Callable[[float], Problem],
    factors: Sequence[float] = FACTORS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Response:
    """The curve over multiples of the budget; `problem_at` gives the same users' problem at each."""
    problems = [affordable(problem_at(f)) for f in factors]
    duals: list[Dual] = []
    for k, problem in enumerate(problems):
        duals.append(dual_of(problem, duals[-1] if duals else None))
        if progress is not None:
            progress(k + 1, len(problems))
    between = [mix(a, b, w) for a, b in pairwise(duals) for w in BETWEEN]  # resamples may settle anywhere
    tried = [*duals, *between]
    users = problems[-1].users
    groups = min(users, GROUPS)
    group = np.random.default_rng(seed).permutation(users) % groups
    table = np.stack([np.bincount(group, worths(problems[-1], d.rates), groups) for d in tried], axis=1)  # (G, K)
    fixed = np.array([[d.fixed(p) for d in tried] for p in problems])  # (K budgets, K prices)

    def gains(counts: Floats) -> Floats:
        found: Floats = (fixed + (counts @ table)[:, None, :]).min(axis=2)  # (R, K)
        return found

    gain = gains(np.ones((1, groups)))[0]
    drawn = np.concatenate([gains(counts) for counts in resample(groups, RESAMPLES, seed)])
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    budgets = np.array([p.budget for p in problems])
    marginal = np.array([d.budget for d in duals])
    return Response(budgets, gain, np.minimum(low, gain), np.maximum(high, gain), marginal, drawn)
