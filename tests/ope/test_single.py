from dataclasses import replace

import numpy as np
import pytest
from feedbacks import drawn
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import UserError
from headrace.journeys.seams import Floats
from headrace.ope.feedback import Feedback
from headrace.ope.single import ESTIMATORS, MODELLED, WEIGHTED, Thresholds, difference, functional, logged, terms

SEEDS = st.integers(0, 10_000)


def worth(name: str, of: Feedback, q: Floats | None = None, thresholds: Thresholds | None = None) -> float:
    return float(functional(terms(name, of, q, thresholds), of).value(np.ones((1, of.groups)))[0])


def as_logged(of: Feedback) -> Feedback:
    """The policy that logged, valued by its own log: its chance of the logged channel is the propensity."""
    rest = (1 - np.exp(of.log_propensity)) / (of.policy.shape[1] - 1)
    policy = np.repeat(rest[:, None], of.policy.shape[1], axis=1)
    policy[np.arange(len(of)), of.action] = np.exp(of.log_propensity)
    return replace(of, policy=policy)


@given(SEEDS)
def test_weighted_estimates_of_the_logging_policy_are_the_mean_reward(seed: int) -> None:
    of = as_logged(drawn(60, seed=seed)[0])
    for name in WEIGHTED:
        assert worth(name, of) == pytest.approx(of.reward.mean(), abs=1e-12)


@given(SEEDS)
def test_the_correction_of_dr_is_zero_where_the_model_equals_the_logged_rewards(seed: int) -> None:
    of, expected = drawn(60, seed=seed)
    q = expected.copy()
    q[np.arange(len(of)), of.action] = of.reward
    for name in ("dr", "sndr", "switch-dr"):
        assert worth(name, of, q) == pytest.approx(worth("dm", of, q), abs=1e-12)


def test_the_correction_of_dr_has_mean_zero_where_the_model_is_right() -> None:
    found = [drawn(400, seed=seed) for seed in range(300)]
    corrections = np.array([worth("dr", of, q) - worth("dm", of, q) for of, q in found])
    assert abs(corrections.mean()) < 3 * corrections.std() / np.sqrt(len(corrections))
    spread = np.array([worth("ips", of) for of, _ in found])
    assert corrections.std() < spread.std()  # so the model did take part


def test_a_wrong_model_leaves_dr_unbiased_and_not_dm() -> None:
    errors = {name: [] for name in ("dm", "dr")}
    for seed in range(300):
        of, expected = drawn(400, seed=seed)
        truth = (of.policy * expected).sum(axis=1).mean()
        for name, found in errors.items():
            found.append(worth(name, of, expected + 0.3) - truth)
    assert np.mean(errors["dm"]) == pytest.approx(0.3, abs=0.01)
    assert abs(np.mean(errors["dr"])) < 3 * np.std(errors["dr"]) / np.sqrt(300)


@given(SEEDS)
def test_the_order_of_rows_changes_no_estimate(seed: int) -> None:
    of, q = drawn(50, seed=seed)
    order = np.random.default_rng(seed).permutation(len(of))
    parts = ("rows", "action", "reward", "log_propensity", "policy", "select", "codes")
    mixed = replace(of, **{name: getattr(of, name)[order] for name in parts})
    for name in ESTIMATORS:
        assert worth(name, mixed, q[order]) == pytest.approx(worth(name, of, q), abs=1e-12)


@given(SEEDS, st.floats(0.1, 100))
def test_estimates_scale_with_the_reward(seed: int, factor: float) -> None:
    of, q = drawn(50, seed=seed)
    scaled = replace(of, reward=factor * of.reward)
    for name in ESTIMATORS:
        assert worth(name, scaled, factor * q) == pytest.approx(factor * worth(name, of, q), rel=1e-9)


@given(SEEDS, st.floats(-5, 5))
def test_self_normalised_estimates_move_with_a_shift_of_the_reward(seed: int, shift: float) -> None:
    of, q = drawn(50, seed=seed)
    moved = replace(of, reward=of.reward + shift)
    for name in ("snips", "sndr"):
        assert worth(name, moved, q + shift) == pytest.approx(worth(name, of, q) + shift, abs=1e-9)


def test_every_estimator_by_hand() -> None:
    of = Feedback(
        np.arange(2),
        np.array([0, 1]),
        np.array([1.0, 3.0]),
        np.log([0.5, 0.25]),
        np.array([[0.25, 0.75], [0.0, 1.0]]),
        np.ones(2),
        np.arange(2),
        2,
    )
    q = np.array([[2.0, 1.0], [0.0, 2.0]])
    by_hand = {  # weights .5 and 4; q_pi 1.25 and 2; surprises -1 and 1
        "ips": (0.5 * 1 + 4 * 3) / 2,
        "clipped": (0.5 * 1 + 3 * 3) / 2,
        "snips": (0.5 * 1 + 4 * 3) / 4.5,
        "dm": (1.25 + 2) / 2,
        "dr": (1.25 - 0.5 + 2 + 4) / 2,
        "sndr": (1.25 + 2) / 2 + (-0.5 + 4) / 4.5,
        "switch-dr": (1.25 - 0.5 + 2) / 2,
    }
    for name, expected in by_hand.items():
        assert worth(name, of, q, Thresholds(clip=3.0, switch=3.0)) == pytest.approx(expected)


def test_a_selector_gives_the_value_of_the_steps_it_selects() -> None:
    of, q = drawn(200, seed=3)
    chosen = of.policy[:, 0] > 0.4
    parts = ("rows", "action", "reward", "log_propensity", "policy", "select", "codes")
    alone = replace(of, **{name: getattr(of, name)[chosen] for name in parts})
    for name in ESTIMATORS:
        assert worth(name, of.within(chosen), q) == pytest.approx(worth(name, alone, q[chosen]))


def test_a_difference_is_that_of_the_two_values() -> None:
    of, q = drawn(100, seed=4)
    two = difference(terms("dr", of, q), logged(of), of).value(np.ones((1, of.groups)))[0]
    assert two == pytest.approx(worth("dr", of, q) - of.reward.mean())


def test_a_modelled_estimator_without_a_model_is_an_error_and_an_unknown_one_is_named() -> None:
    of, _ = drawn(10)
    for name in MODELLED:
        with pytest.raises(ValueError, match="needs the gains"):
            terms(name, of)
    with pytest.raises(UserError, match="did you mean 'snips'"):
        terms("snip", of)
