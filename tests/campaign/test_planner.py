"""Plans: never above a limit, within one exposure of the linear program's bound, and exact where they are small."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.campaign.planner import Plan, affordable, plan, settle
from headrace.campaign.problem import Problem
from headrace.campaign.program import solve_relaxed

NO = np.inf


def best_by_trying_all(problem: Problem) -> float:
    """The largest gain of a plan that keeps every limit; -inf where there is none."""
    n, m = problem.gains.shape
    of_user = [s for k in range(problem.width + 1) for s in itertools.combinations(range(m), k)]
    best = -np.inf
    for chosen in itertools.product(of_user, repeat=n):
        gain, spend = 0.0, np.zeros(m)
        for user, channels in enumerate(chosen):
            for channel in channels:
                gain += problem.gains[user, channel]
                spend[channel] += problem.prices[user, channel]
        if spend.sum() <= problem.budget and (spend <= problem.upper).all() and (spend >= problem.lower).all():
            best = max(best, gain)
    return best


def keeps_every_limit(problem: Problem, found: Plan) -> bool:
    gain = problem.gains[found.user, found.channel].sum()
    spend = np.bincount(found.channel, problem.prices[found.user, found.channel], problem.channels)
    assert found.gain == pytest.approx(gain)
    assert (found.spend == spend).all()
    assert len(set(zip(found.user.tolist(), found.channel.tolist(), strict=True))) == len(found.user)
    assert np.bincount(found.user, minlength=1).max(initial=0) <= problem.width
    return bool(spend.sum() <= problem.budget and (spend <= problem.upper).all())


@st.composite
def problems(draw: st.DrawFn, users: int, channels: int, bounded: bool, per_user: int = 2) -> Problem:
    """Whole prices and gains, many of them equal, so that ties and exact fits occur."""
    n, m = draw(st.integers(1, users)), draw(st.integers(1, channels))
    whole = st.integers(0, 8)
    table = st.lists(st.lists(whole, min_size=m, max_size=m), min_size=n, max_size=n)
    gains, prices = np.array(draw(table), dtype=float), np.array(draw(table), dtype=float)
    budget = float(draw(st.integers(0, 8 * n)))
    lower, upper = np.zeros(m), np.full(m, NO)
    if bounded:
        upper = np.array(draw(st.lists(st.sampled_from([0.0, 2.0, 5.0, NO]), min_size=m, max_size=m)))
    return Problem(gains, prices, budget, lower, upper, draw(st.integers(1, per_user)))


@settings(max_examples=60, deadline=None)
@given(problems(users=4, channels=3, bounded=True))
def test_a_small_plan_is_the_best_of_all_plans(problem: Problem):
    found = plan(problem)
    assert keeps_every_limit(problem, found)
    assert found.gain == pytest.approx(best_by_trying_all(problem))
    assert found.bound >= found.gain


@settings(max_examples=100, deadline=None)
@given(problems(users=40, channels=4, bounded=False, per_user=1))
def test_a_plan_under_a_budget_is_within_one_exposure_of_the_bound(problem: Problem):
    found = settle(problem)
    assert keeps_every_limit(problem, found)
    possible = affordable(problem)
    assert found.gain >= solve_relaxed(possible).value - possible.gains.max(initial=0.0) - 1e-9
    assert found.bound >= found.gain


def test_a_tie_that_rounding_breaks_both_ways_does_not_exceed_the_budget():
    """At the rate .2 the second user's two channels are worth the same, but for the last bit."""
    gains = np.array([[0, 0, 2], [0, 5, 6], [0, 0, 1], [0, 0, 2], [0, 0, 2], [2, 3, 0]], dtype=float)
    prices = np.array([[0, 0, 8], [0, 2, 7], [0, 0, 0], [0, 0, 7], [0, 0, 0], [0, 5, 0]], dtype=float)
    problem = Problem(gains, prices, 21.0, np.zeros(3), np.full(3, NO), 1)
    found = settle(problem)
    assert keeps_every_limit(problem, found)
    assert found.gain == best_by_trying_all(problem)


@settings(max_examples=60, deadline=None)
@given(problems(users=40, channels=4, bounded=True))
def test_a_plan_under_channels_limits_lacks_no_more_than_an_exposure_for_each_limit(problem: Problem):
    found = settle(problem)
    assert keeps_every_limit(problem, found)
    bound = solve_relaxed(affordable(problem)).value
    limits = 1 + int(np.isfinite(problem.upper).sum())
    assert found.gain >= bound - limits * problem.gains.max() - 1e-9
    assert found.bound >= bound - 1e-6


def market(users: int, channels: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prices = np.ceil(1e6 * rng.gamma(2.0, 0.5, (1, channels)) * rng.gamma(4.0, 0.25, (users, channels)))
    return rng.beta(1, 20, (users, 1)) * rng.lognormal(-1, 0.7, (users, channels)), prices


@pytest.mark.parametrize("per_user", [1, 3])
def test_many_users_with_floors_and_caps_come_near_the_linear_program(per_user: int):
    gains, prices = market(3_000)
    budget = np.floor(0.2 * prices.mean(axis=1).sum())
    lower = np.floor(np.array([0, 0, 0.3, 0, 0]) * budget)
    upper = np.array([np.floor(0.1 * budget), NO, NO, np.floor(0.2 * budget), NO])
    problem = Problem(gains, prices, budget, lower, upper, per_user)
    found = settle(problem)
    assert keeps_every_limit(problem, found)
    assert (found.spend >= lower).all()
    assert found.gain >= 0.995 * solve_relaxed(problem).value
    assert found.gap < 0.005


def test_a_budget_without_end_takes_every_user_s_best_channel():
    gains, prices = market(200)
    found = plan(Problem.of(gains, prices, 1e18))
    assert found.gain == pytest.approx(gains.max(axis=1).sum())
    assert found.dual.budget == 0.0


def test_no_money_buys_free_exposures_alone():
    gains, prices = np.array([[1.0, 5.0], [2.0, 1.0], [-1.0, 3.0]]), np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 2.0]])
    found = plan(Problem.of(gains, prices, 0.0))
    assert list(zip(found.user.tolist(), found.channel.tolist(), strict=True)) == [(0, 0), (1, 0)]


def test_the_budget_s_multiplier_is_what_a_little_more_money_brings():
    gains, prices = market(4_000)
    budget = np.floor(0.1 * prices.mean(axis=1).sum())
    less, more = (settle(Problem.of(gains, prices, budget * f)).gain for f in (0.995, 1.005))
    rate = settle(Problem.of(gains, prices, budget)).dual.budget
    assert rate == pytest.approx((more - less) / (0.01 * budget), rel=0.05)


def test_a_closed_channel_is_never_used():
    gains, prices = market(500)
    gains[:, 2] = -np.inf
    assert 2 not in plan(Problem.of(gains, prices, prices.mean() * 50, per_user=2)).channel


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_gains_that_are_no_numbers_are_refused(wrong: float):
    with pytest.raises(ValueError, match="gains"):
        Problem.of(np.full((2, 2), wrong), np.ones((2, 2)), 1.0)
