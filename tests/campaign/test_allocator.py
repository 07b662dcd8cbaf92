"""Rules spend what they are allowed on the forecast, and choose one user without a look at another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.campaign.allocator import (
    Forecast,
    Price,
    TopUsers,
)
from headrace.campaign.calibration import ADVERTS, EVENTS, Calibration
from headrace.campaign.config import PRESET_ALLOCATORS
from headrace.campaign.scores import Scores


def scores(n: int, m: int, seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    gain = rng.lognormal(0, 1, (n, 1)) * rng.lognormal(0, 0.3, (n, m))
    return Scores(gain, rng.lognormal(-1, 0.5, (n, m)), gain.mean(axis=1), rng.dirichlet(np.ones(m), n))


def forecast(found: Scores, allowance: float, weight: np.ndarray | None = None) -> Forecast:
    n, m = found.gain.shape
    weight = np.ones(n) if weight is None else weight
    return Forecast(found, weight, allowance, np.full(m, 1 / m))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(PRESET_ALLOCATORS)),
    seed=st.integers(0, 1_000),
    m=st.integers(1, 5),
    share=st.floats(0.01, 1.5),
)
def test_the_forecasts_expected_spend_is_its_allowance_at_most(name: str, seed: int, m: int, share: float) -> None:
    found = scores(400, m, seed)
    weight = np.random.default_rng(seed + 1).integers(1, 5, 400).astype(float)
    allowance = share * float(found.cost.min(axis=1).mean())
    chances = PRESET_ALLOCATORS[name].fix(forecast(found, allowance, weight)).chances(found)
    assert chances.shape == (400, m) and (chances >= 0).all() and (chances.sum(axis=1) <= 1 + 1e-12).all()
    spent = float((weight * (chances * found.cost).sum(axis=1)).sum())
    dearest = float((weight * found.cost.max(axis=1)).max())
    limit = allowance * weight.sum()
    assert spent <= limit + (dearest if name == "top-users" else 1e-9)  # at least one user is at the top
    if name == "price" and share < 0.5:
        assert spent >= limit - 2 * dearest


@pytest.mark.parametrize("name", sorted(PRESET_ALLOCATORS))
def test_a_rule_looks_at_one_user_at_a_time(name: str) -> None:
    rule = PRESET_ALLOCATORS[name].fix(forecast(scores(300, 3, 0), 0.1))
    others = scores(50, 3, 7)
    whole = rule.chances(others)
    for rows in (np.array([3]), np.array([49, 0, 20])):
        assert np.array_equal(rule.chances(others.of(rows)), whole[rows])


def test_price_buys_the_best_at_the_margin() -> None:
    found = Scores(
        np.array([[4.0, 9.0], [3.0, 3.5], [1.0, 1.0], [0.0, 0.0]]),
        np.array([[1.0, 3.0], [1.0, 3.0], [1.0, 3.0], [0.0, 0.0]]),
        np.zeros(4),
        np.full((4, 2), 0.5),
    )

    def chosen(allowance: float) -> list[list[float]]:
        return Price().fix(forecast(found, allowance)).chances(found).tolist()

    # by money: 4 gain for 1, then 3 for 1, then 5 more for 2 more (9 instead of 4), then 1 for 1
    assert chosen(0.25) == [[1, 0], [0, 0], [0, 0], [0, 0]]
    assert chosen(0.5) == [[1, 0], [1, 0], [0, 0], [0, 0]]
    assert chosen(1.0) == [[0, 1], [1, 0], [0, 0], [0, 0]]
    assert chosen(1.25) == [[0, 1], [1, 0], [1, 0], [0, 0]]


def test_top_users_follow_the_averaged_policy_of_line_12() -> None:
    found = scores(10, 2, 3)
    chances = TopUsers(share=0.3, eta=0.25).fix(forecast(found, 1.0)).chances(found)
    top = np.argsort(-found.reward)[:3]
    assert sorted(np.flatnonzero(chances.sum(axis=1) > 0)) == sorted(top)
    assert np.allclose(chances[top], 0.25 * found.policy[top] + 0.75 * 0.5)


def test_calibration_multiplies_by_what_was_seen_and_knows_nothing_too_early() -> None:
    calibration = Calibration(10, 2, window_days=2.0)
    before = calibration.factors(0)
    assert before.gain.tolist() == before.cost.tolist() == [1.0, 1.0]
    n = 1_000
    foreseen = Scores(np.full((n, 2), 0.2), np.full((n, 2), 1.0), np.zeros(n), np.full((n, 2), 0.5))
    channel, gain = np.arange(n) % 2, np.zeros(n)
    gain[channel == 1] = np.tile([1.0, 0.0], n // 4)  # channel 1 brings .5, channel 0 nothing
    calibration.add(0, channel, gain, np.where(channel == 0, 2.0, 1.0), foreseen)
    assert calibration.factors(2).gain.tolist() == [1.0, 1.0]  # the window of an advert late that day has not passed
    assert calibration.factors(1).cost[0] > 1.9
    factors = calibration.factors(3)
    assert factors.gain[0] == pytest.approx(EVENTS / (0.2 * n / 2 + EVENTS))
    assert factors.gain[1] == pytest.approx((0.5 * n / 2 + EVENTS) / (0.2 * n / 2 + EVENTS))
    paid = ADVERTS * 1.5
    assert factors.cost == pytest.approx([(n + paid) / (n / 2 + paid), 1.0])
    found = factors.apply(foreseen)
    assert np.allclose(found.gain, 0.2 * factors.gain) and np.array_equal(found.policy, foreseen.policy)
