"""Estimators from cumulated weights: identities, sums by hand, unbiasedness on a process whose value is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_sessions import BEHAVIOUR, GAMMA, TARGET, log_weight, play, true_q, true_value

from headrace.errors import UserError
from headrace.evaluate.bootstrap import resample
from headrace.journeys.seams import Floats
from headrace.ope.intervals import Functional
from headrace.ope.sequential import Episodes, cumulated, doubly_robust, pdis, weighted_pdis, weights

ALL = {"pdis": pdis, "weighted_pdis": weighted_pdis, "doubly_robust": doubly_robust}


def once(of: Functional, groups: int) -> float:
    return float(of.value(np.ones((1, groups)))[0])


def episodes_of(policy: Floats, sessions: int, seed: int, model: Floats | None = None) -> Episodes:
    """A log of BEHAVIOUR with the weights of a policy; q and v from a (S, A) model."""
    log = play(BEHAVIOUR, sessions, seed)
    model = np.zeros((2, 3)) if model is None else model
    return Episodes(
        log.offsets,
        log_weight(log, policy, BEHAVIOUR),
        log.reward,
        np.arange(sessions),
        sessions,
        GAMMA,
        q=model[log.state, log.action],
        v=(model * policy).sum(axis=1)[log.state],
    )


@st.composite
def logs(draw: st.DrawFn) -> Episodes:
    """Ragged episodes of anything, several of a user, some users with none."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = sum(lengths)
    return Episodes(
        np.concatenate([[0], np.cumsum(lengths)]),
        rng.normal(0, 0.7, n),
        rng.normal(0, 1, n),
        rng.integers(0, 5, len(lengths)),
        5,
        draw(st.sampled_from([0.5, 0.95, 1.0])),
        q=rng.normal(size=n),
        v=rng.normal(size=n),
    )


@given(logs())
def test_on_its_own_log_the_value_is_the_mean_return_exactly(of: Episodes) -> None:
    own = replace(of, log_weight=np.zeros(len(of.reward)))
    mean = np.add.reduceat(of.gamma**of.step * of.reward, of.offsets[:-1]).mean()
    assert once(pdis(own), 5) == pytest.approx(mean, rel=1e-12, abs=1e-12)
    assert once(weighted_pdis(own), 5) == pytest.approx(mean, rel=1e-9, abs=1e-12)


@given(logs())
def test_doubly_robust_without_a_model_is_pdis(of: Episodes) -> None:
    nothing = np.zeros(len(of.reward))
    assert once(doubly_robust(replace(of, q=nothing, v=nothing)), 5) == pytest.approx(once(pdis(of), 5), rel=1e-12)


@given(logs())
def test_the_correction_is_nil_where_the_model_equals_what_was_logged(of: Episodes) -> None:
    """Q(s_t, a_t) = r_t + gamma V(s_{t+1}) at every step: the value is the mean of V over the first states."""
    assert of.v is not None
    later = np.append(of.v[1:], 0.0)
    later[of.offsets[1:] - 1] = 0.0
    exact = replace(of, q=of.reward + of.gamma * later)
    assert once(doubly_robust(exact), 5) == pytest.approx(of.v[of.offsets[:-1]].mean(), rel=1e-9, abs=1e-9)


@given(logs(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_the_episodes_does_not_matter(of: Episodes, random: object) -> None:
    order = np.random.default_rng(len(of)).permutation(len(of))
    rows = np.concatenate([np.arange(of.offsets[i], of.offsets[i + 1]) for i in order])
    assert of.q is not None and of.v is not None
    shuffled = Episodes(
        np.concatenate([[0], np.cumsum(of.lengths[order])]),
        of.log_weight[rows],
        of.reward[rows],
        of.group[order],
        5,
        of.gamma,
        of.q[rows],
        of.v[rows],
    )
    for estimator in ALL.values():
        assert once(estimator(shuffled), 5) == pytest.approx(once(estimator(of), 5), rel=1e-9, abs=1e-9)


@given(logs(), st.floats(0.1, 50))
def test_rewards_in_another_unit_give_the_value_in_that_unit(of: Episodes, unit: float) -> None:
    assert of.q is not None and of.v is not None
    other = replace(of, reward=unit * of.reward, q=unit * of.q, v=unit * of.v)
    for estimator in ALL.values():
        assert once(estimator(other), 5) == pytest.approx(unit * once(estimator(of), 5), rel=1e-9, abs=1e-9)


@given(logs())
def test_drawing_a_user_twice_is_having_its_episodes_twice(of: Episodes) -> None:
    drawn = next(iter(resample(5, 1, seed=1)))[0]
    times = drawn[of.group].astype(int)
    if times.sum() == 0:
        return
    chosen = np.repeat(np.arange(len(of)), times)
    rows = np.concatenate([np.arange(of.offsets[i], of.offsets[i + 1]) for i in chosen])
    assert of.q is not None and of.v is not None
    copied = Episodes(
        np.concatenate([[0], np.cumsum(of.lengths[chosen])]),
        of.log_weight[rows],
        of.reward[rows],
        of.group[chosen],
        5,
        of.gamma,
        of.q[rows],
        of.v[rows],
    )
    for estimator in ALL.values():
        assert float(estimator(of).value(drawn[None])[0]) == pytest.approx(once(estimator(copied), 5), abs=1e-9)


def test_two_episodes_by_hand() -> None:
    """Ratios 2, 3 | .5, 2, 1; rewards 1, 1 | 4, 2, 8; gamma .5."""
    of = Episodes(
        np.array([0, 2, 5]),
        np.log([2.0, 3.0, 0.5, 2.0, 1.0]),
        np.array([1.0, 1.0, 4.0, 2.0, 8.0]),
        np.array([0, 1]),
        2,
        0.5,
    )
    assert np.exp(cumulated(of)).tolist() == pytest.approx([2.0, 6.0, 0.5, 1.0, 1.0])
    assert once(pdis(of), 2) == pytest.approx(((2 + 3) + (2 + 1 + 2)) / 2)
    weighted = (2 * 1 + 0.5 * 4) / 2.5 + 0.5 * (6 * 1 + 1 * 2) / 7 + 0.25 * (1 * 8) / (6 + 1)  # the first stays at 6
    assert once(weighted_pdis(of), 2) == pytest.approx(weighted)
    found = weights(of)
    assert found.mean_weight_by_step.tolist() == pytest.approx([1.25, 3.5, 3.5])
    assert found.ess_by_step.tolist() == pytest.approx([2.5**2 / 4.25, 49 / 37, 1.0])
    assert found.largest_share == pytest.approx(6 / 7) and found.largest_weight == pytest.approx(6)
    assert found.running.tolist() == [2, 2, 1]
    assert [found.horizon(e) for e in (1.4, 1.3, 1.0)] == [1, 2, 3]


def test_a_step_the_policy_would_never_take_ends_the_episodes_weight() -> None:
    of = Episodes(
        np.array([0, 3, 4]), np.array([0.0, -np.inf, 5.0, 0.0]), np.array([1.0, 9.0, 9.0, 3.0]), np.arange(2), 2, 1.0
    )
    assert once(pdis(of), 2) == 2.0
    assert once(weighted_pdis(of), 2) == 2.0
    assert weights(of).ess == 1.0


def test_a_log_without_any_weight_left_has_no_weighted_value() -> None:
    of = Episodes(np.array([0, 1]), np.array([-np.inf]), np.ones(1), np.zeros(1, dtype=np.int64), 1, 1.0)
    assert np.isnan(once(weighted_pdis(of), 1)) and weights(of).ess == 0.0


def test_a_propensity_of_nothing_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="gives no chance to what was done"):
        Episodes(np.array([0, 1]), np.array([np.inf]), np.ones(1), np.zeros(1, dtype=np.int64), 1, 1.0)


def test_weights_of_long_episodes_neither_overflow_nor_vanish() -> None:
    n = 3_000
    of = Episodes(np.array([0, n]), np.tile([3.0, -3.0], n // 2), np.ones(n), np.zeros(1, dtype=np.int64), 1, 0.99)
    assert weights(of).mean_weight == pytest.approx(1.0)
    assert np.isfinite(once(pdis(of), 1))
    rising = replace(of, log_weight=np.full(n, 3.0))
    assert np.isfinite(once(weighted_pdis(rising), 1))


MODEL = {"a good model": true_q(TARGET), "a poor model": np.array([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])}


@pytest.mark.parametrize("name", ["pdis", *MODEL])
def test_the_mean_over_many_small_logs_is_the_truth(name: str) -> None:
    logs = [episodes_of(TARGET, 50, seed, MODEL.get(name)) for seed in range(150)]
    estimator = pdis if name == "pdis" else doubly_robust
    found = np.array([once(estimator(of), 50) for of in logs])
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert error < 0.05
    assert abs(found.mean() - true_value(TARGET)) < 3 * error


def test_a_good_model_narrows_doubly_robust_and_weighting_narrows_pdis() -> None:
    logs = [episodes_of(TARGET, 100, seed, true_q(TARGET)) for seed in range(60)]
    spread = {name: np.std([once(f(of), 100) for of in logs]) for name, f in ALL.items()}
    assert spread["doubly_robust"] < 0.7 * spread["pdis"]
    assert spread["weighted_pdis"] < spread["pdis"]


def test_the_weighted_estimate_comes_near_the_truth_on_a_large_log() -> None:
    """Sessions last longer under the target than in the log: weights of steps and of those still running differ."""
    of = episodes_of(TARGET, 6_000, 7)
    assert once(weighted_pdis(of), 6_000) == pytest.approx(true_value(TARGET), rel=0.03)
    assert weights(of).mean_weight == pytest.approx(1.0, abs=4 * weights(of).mean_weight_error)


@pytest.mark.parametrize("name", list(ALL))
def test_the_standard_error_is_the_spread_over_logs(name: str) -> None:
    logs = [episodes_of(TARGET, 200, seed, true_q(TARGET)) for seed in range(80)]
    found = [ALL[name](of) for of in logs]
    spread = np.std([once(f, 200) for f in found], ddof=1)
    told = np.mean([float(f.error(np.ones((1, 200)))[0]) for f in found if f.error is not None])
    assert told == pytest.approx(spread, rel=0.25)


@given(logs())
@settings(max_examples=30)
def test_the_standard_error_sums_up_what_each_user_moves_the_value(of: Episodes) -> None:
    """By finite differences in how often each user is drawn."""
    slopes = np.eye(5) * 1e-6
    for estimator in ALL.values():
        found = estimator(of)
        moved = (found.value(1 + slopes) - found.value(1 - slopes)) / 2e-6
        told = float(found.error(np.ones((1, 5)))[0]) if found.error is not None else np.nan
        assert told == pytest.approx(np.sqrt((moved**2).sum() * 5 / 4), rel=1e-4, abs=1e-7)
