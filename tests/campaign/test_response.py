"""Response curves: concave, in step with plans, and their intervals paired."""

import numpy as np
import pytest

from headrace.campaign.planner import settle
from headrace.campaign.problem import Problem
from headrace.campaign.response import FACTORS, response

RNG = np.random.default_rng(5)
PRICES = np.ceil(1e6 * RNG.gamma(3.0, 0.3, (3_000, 4)))
GAINS = RNG.beta(1, 20, (3_000, 1)) * RNG.lognormal(0, 0.5, (3_000, 4))
BUDGET = np.floor(0.15 * PRICES.mean(axis=1).sum())


def at(factor: float, capped: bool = False) -> Problem:
    upper = np.array([0.05 * BUDGET if capped else np.inf, np.inf, np.inf, np.inf])
    return Problem(GAINS, PRICES, BUDGET * factor, np.zeros(4), upper)


@pytest.mark.parametrize("capped", [False, True])
def test_the_curve_is_what_plans_at_those_budgets_gain(capped: bool):
    found = response(lambda f: at(f, capped))
    for k in (0, 6, 9):
        assert found.gain[k] == pytest.approx(settle(at(FACTORS[k], capped)).gain, rel=5e-3)


def test_more_money_never_gains_less_and_each_unit_brings_less_than_the_one_before():
    found = response(at)
    assert (np.diff(found.gain) >= 0).all()
    assert (np.diff(np.diff(found.gain) / np.diff(found.budget)) <= 1e-12).all()
    assert (np.diff(found.marginal) <= 0).all()
    assert (found.low <= found.gain).all() and (found.gain <= found.high).all()


def test_the_gain_of_a_tenth_more_lies_between_the_two_marginal_values():
    found = response(at)
    base, more = FACTORS.index(1.0), FACTORS.index(1.1)
    value, low, high = found.more(base, more)
    step = found.budget[more] - found.budget[base]
    assert found.marginal[more] * step <= value <= found.marginal[base] * step
    assert low <= value <= high
    assert high - low < found.high[base] - found.low[base]  # the resamples are shared


def test_the_interval_is_that_of_planning_anew_for_drawn_users():
    found = response(at, (1.0,))
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(60):
        users = rng.integers(0, 3_000, 3_000)
        drawn.append(settle(Problem.of(GAINS[users], PRICES[users], BUDGET)).gain)
    assert found.high[0] - found.low[0] == pytest.approx(3.92 * np.std(drawn), rel=0.35)
