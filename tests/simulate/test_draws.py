"""Draws are a pure function of their coordinates, and behave like independent uniforms."""

import numpy as np
import pytest
from scipy import stats

from headrace.simulate import draws
from headrace.simulate.draws import Purpose


def test_users_0_to_99_of_1000_draw_as_100_alone() -> None:
    many, few = draws.user_keys(5, range(1000)), draws.user_keys(5, range(100))
    assert np.array_equal(many[:100], few)
    for width in (None, 4):
        for draw in (draws.bits, draws.uniform, draws.normal):
            assert np.array_equal(draw(many, 3, 2, Purpose.CLICK, width)[:100], draw(few, 3, 2, Purpose.CLICK, width))


def test_draws_have_no_state_and_any_order_gives_the_same() -> None:
    keys = draws.user_keys(0, range(50))
    first = draws.uniform(keys, 1, 2, Purpose.VALUE)
    draws.uniform(keys, 9, 9, Purpose.CLICK)
    assert np.array_equal(first, draws.uniform(keys, 1, 2, Purpose.VALUE))
    backwards = draws.uniform(draws.user_keys(0, range(49, -1, -1)), 1, 2, Purpose.VALUE)
    assert np.array_equal(first, backwards[::-1])


def test_draws_are_pinned_so_that_old_logs_can_be_made_again() -> None:
    keys = draws.user_keys(7, [0, 1, 2**40])
    assert keys.tolist() == [4493941535925921523, 9560025717796754659, 11340660353643704284]
    assert draws.bits(keys, 3, 2, Purpose.CLICK).tolist() == [
        6140697733478201033,
        10165090049741744549,
        16326027620543156466,
    ]


@pytest.mark.parametrize(("day", "place", "width"), [(1 << 32, 0, None), (0, 1 << 16, None), (0, 0, 257), (-1, 0, 2)])
def test_draws_that_would_repeat_others_are_refused(day: int, place: int, width: int | None) -> None:
    with pytest.raises(ValueError, match="would repeat"):
        draws.bits(draws.user_keys(0, [1]), day, place, Purpose.REACTION, width)


@pytest.mark.parametrize("coordinate", ["seed", "user", "day", "request", "purpose", "width"])
def test_uniforms_are_uniform_along_every_coordinate(coordinate: str) -> None:
    n = 20_000
    one = draws.user_keys(1, [3])
    if coordinate == "seed":
        u = np.concatenate([draws.uniform(draws.user_keys(s, [3]), 1, 1, Purpose.CLICK) for s in range(n)])
    elif coordinate == "user":
        u = draws.uniform(draws.user_keys(1, range(n)), 1, 1, Purpose.CLICK)
    elif coordinate == "day":
        u = np.concatenate([draws.uniform(one, d, 1, Purpose.CLICK) for d in range(n)])
    elif coordinate == "request":
        u = np.concatenate([draws.uniform(one, 1, r, Purpose.CLICK) for r in range(n)])
    elif coordinate == "purpose":
        u = np.concatenate([draws.uniform(one, d, 1, p) for p in range(200) for d in range(100)])
    else:
        u = draws.uniform(draws.user_keys(1, range(100)), 1, 1, Purpose.CLICK, 200).ravel()
    assert u.min() > 0 and u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 4 / np.sqrt(n)
    pairs = np.histogram2d(u[0::2], u[1::2], bins=10, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


def test_neighbouring_coordinates_are_uncorrelated() -> None:
    n = 50_000
    keys = draws.user_keys(1, range(n))
    base = draws.uniform(keys, 1, 1, Purpose.CLICK)
    others = [
        draws.uniform(keys, 2, 1, Purpose.CLICK),
        draws.uniform(keys, 1, 2, Purpose.CLICK),
        draws.uniform(keys, 1, 1, Purpose.CONVERSION),
        draws.uniform(keys, 1, 1, Purpose.CLICK, 2)[:, 1],
        draws.uniform(draws.user_keys(2, range(n)), 1, 1, Purpose.CLICK),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / np.sqrt(n)


def test_no_bit_is_stuck_and_none_repeats() -> None:
    bits = draws.bits(draws.user_keys(0, range(100_000)), 0, 0, Purpose.CLICK)
    shares = [((bits >> np.uint64(b)) & np.uint64(1)).mean() for b in range(64)]
    assert np.abs(np.array(shares) - 0.5).max() < 4.5 * 0.5 / np.sqrt(len(bits))
    assert len(np.unique(bits)) == len(bits)


def test_normals_are_normal() -> None:
    z = draws.normal(draws.user_keys(3, range(20_000)), 0, 0, Purpose.TASTE)
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_categories_come_in_proportion() -> None:
    u = draws.uniform(draws.user_keys(3, range(50_000)), 0, 0, Purpose.CREATIVE)
    shared = draws.cumulative([1, 2, 5])
    assert np.bincount(draws.categorical(u, shared)) / len(u) == pytest.approx([0.125, 0.25, 0.625], abs=0.01)
    rows = np.broadcast_to(shared, (len(u), 3))
    assert np.array_equal(draws.categorical(u, shared), draws.categorical(u, rows))


def test_a_category_of_weight_zero_never_comes() -> None:
    u = np.concatenate([draws.uniform(draws.user_keys(3, range(10_000)), 0, 0, Purpose.CREATIVE), [0.5, 0.25]])
    assert set(draws.categorical(u, draws.cumulative([0, 1, 0, 1, 0])).tolist()) == {1, 3}
