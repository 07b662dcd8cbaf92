"""Attribution by hand: three channels, paths short enough to work out on paper."""

import numpy as np
import pytest

from headrace.campaign.attribution import (
    Paths,
    first_touch,
    last_touch,
    linear,
    markov,
    shapley,
    shapley_values,
    time_decay,
)

A, B, C = 0, 1, 2


def paths(*of: tuple[tuple[int, ...], float], channels: int = 3) -> Paths:
    touches = [list(channels_of) for channels_of, _ in of]
    ages = [float(k) for path in touches for k in reversed(range(len(path)))]
    offsets = np.cumsum([0, *map(len, touches)])
    values = np.array([value for _, value in of])
    return Paths(np.concatenate(touches), offsets, values, np.array(ages), channels)


def test_single_touch_models_credit_the_ends_and_linear_every_touch():
    log = paths(((A, B, B, C), 1.0), ((B,), 1.0), ((A, C), 0.0))
    assert last_touch(log).tolist() == [0.0, 0.5, 0.5]
    assert first_touch(log).tolist() == [0.5, 0.5, 0.0]
    assert linear(log).tolist() == pytest.approx([0.125, 0.75, 0.125])


def test_conversions_count_by_their_value():
    log = paths(((A,), 3.0), ((B,), 1.0))
    assert last_touch(log).tolist() == [0.75, 0.25, 0.0]


def test_time_decay_halves_a_touch_with_each_half_life():
    log = paths(((A, B, C), 1.0))  # weights 1/4, 1/2, 1
    assert time_decay(log).tolist() == pytest.approx([1 / 7, 2 / 7, 4 / 7])


def test_markov_shares_are_the_conversions_lost_without_a_channel():
    # start -> A, A -> B in half of the cases and to the end in the other half, B -> conversion:
    # without A nothing is reached, without B nothing; without C nothing is lost
    log = paths(((A, B), 1.0), ((A,), 0.0))
    assert markov(log).tolist() == pytest.approx([0.5, 0.5, 0.0])
    # start -> A (1/2) or B (1/2), each converts: without A half is lost, without B half
    assert markov(paths(((A,), 1.0), ((B,), 1.0))).tolist() == pytest.approx([0.5, 0.5, 0.0])
    # A converts 1 of 2, B 2 of 2: whole 3/4; without A 1/2 is left, without B 1/4: effects 1/4 and 2/4 of 3/4
    log = paths(((A,), 1.0), ((A,), 0.0), ((B,), 1.0), ((B,), 1.0))
    assert markov(log).tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])


def test_a_channel_met_again_and_again_is_no_trap_for_the_chain():
    assert markov(paths(((A, A, A, B), 1.0), ((C, C), 0.0))).tolist() == pytest.approx([0.5, 0.5, 0.0])


def test_shapley_shares_are_mean_marginal_conversion_rates():
    # v(A) = 1/2, v(B) = 0, v(AB) = 2/4: A gains 1/2 first and 1/2 second, B 0 and 0
    log = paths(((A,), 1.0), ((A,), 0.0), ((B,), 0.0), ((A, B), 1.0), channels=2)
    assert shapley(log).tolist() == pytest.approx([1.0, 0.0])
    # v(A) = 0, v(B) = 0, v(AB) = 1/3: the two share it
    assert shapley(paths(((A,), 0.0), ((B,), 0.0), ((A, B), 1.0), channels=2)).tolist() == [0.5, 0.5]


def test_shapley_values_of_the_glove_game_are_those_of_the_textbook():
    def pairs(s: np.ndarray) -> np.ndarray:  # A has a left glove, B and C a right one: a pair is worth 1
        return ((s & 1) > 0) * ((s & 6) > 0) * 1.0

    assert shapley_values(pairs, 3).tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_sampled_shapley_values_come_near_the_exact_ones():
    worth = np.random.default_rng(3).random(1 << 6)
    worth[0] = 0.0
    exact = shapley_values(lambda s: worth[s], 6)
    sampled = shapley_values(lambda s: worth[s], 6, seed=1, exact=5)
    assert sampled.tolist() == pytest.approx(exact.tolist(), abs=0.03)
    assert sampled.sum() == pytest.approx(worth[-1])


def test_more_channels_than_are_enumerated_are_sampled():
    log = paths(*[((c,), float(c < 2)) for c in range(14)], channels=14)
    assert shapley(log)[:2].sum() == pytest.approx(1.0, abs=0.05)
