"""Actions stand for weights and back; a scaled log-sum ranks alike."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.errors import UserError
from headrace.fuse.actions import Actions
from headrace.fuse.fusion import Cells, LogSum, Power, Weighted, fusion_of, kendall, oriented, quantile_cells, top

LOW, HIGH = (-1.0, 0.0, 0.5), (1.0, 2.0, 3.0)
points = st.lists(st.floats(-1, 1), min_size=3, max_size=3)


@given(points)
def test_weights_of_a_box_come_back_as_the_action_that_made_them(action: list[float]):
    space = Actions(LOW, HIGH)
    weights = space.weights([action])
    assert (weights >= LOW).all() and (weights <= HIGH).all()
    assert np.allclose(space.scaled(weights), [action], atol=1e-12)


@given(points)
@example([-1.0, -1.0, -1.0])  # a sum of nothing
@example([0.0, 0.0, 0.0])  # no direction
def test_unit_weights_have_norm_one_and_simplex_weights_add_up_to_one(action: list[float]):
    assert np.isclose(np.linalg.norm(Actions(LOW, HIGH, "unit").weights([action])), 1.0)
    on_simplex = Actions(LOW, HIGH, "simplex").weights([action])
    assert (on_simplex >= 0).all() and np.isclose(on_simplex.sum(), 1.0)
    back = Actions(LOW, HIGH, "simplex").weights(Actions(LOW, HIGH, "simplex").scaled(on_simplex))
    assert np.allclose(back, on_simplex)


def test_logged_weights_outside_their_box_are_named():
    with pytest.raises(UserError, match="score 2 lie outside their box, 0 to 1"):
        Actions((0.0, 0.0), (1.0, 1.0)).scaled([[0.5, 0.5], [0.2, 5.0]])


def test_an_action_outside_the_box_is_clipped_and_a_weight_below_zero_is_no_simplex():
    assert Actions(LOW, HIGH).weights([[5.0, -5.0, 0.0]]).tolist() == [[1.0, 0.0, 1.75]]
    with pytest.raises(UserError, match="simplex"):
        Actions(LOW, HIGH, "simplex").scaled([[-0.5, 1.0, 0.5]])


@given(st.integers(0, 1000), st.floats(0.1, 10.0))
def test_scaling_the_weights_leaves_a_log_sums_ranking(seed: int, factor: float):
    rng = np.random.default_rng(seed)
    scores, weights = rng.random((4, 9, 3)), rng.normal(size=(4, 3))
    fusion = LogSum((0.01,) * 3)
    first, second = fusion(scores, weights), fusion(scores, factor * weights)
    assert (np.argsort(first, axis=1) == np.argsort(second, axis=1)).all()
    assert np.allclose(kendall(fusion, scores, weights, factor * weights), 1.0)


def test_fusions_agree_with_their_formulas_by_hand():
    scores, weights = np.array([[[0.5, 0.2]]]), np.array([[2.0, -1.0]])
    assert np.isclose(LogSum((0.0, 0.1))(scores, weights)[0, 0], 2 * np.log(0.5) - np.log(0.3))
    assert np.isclose(Power((0.0, 0.1))(scores, weights)[0, 0], 0.25 / 0.3)
    assert np.isclose(Weighted()(scores, weights)[0, 0], 0.8)
    cells = Cells(((0.0, 1.0), (0.0, 0.4)), ((0.0, 2.0), (0.0, 1.0)))
    assert np.isclose(cells(scores, weights)[0, 0], 2 * 1.0 - 0.5)


@given(st.integers(0, 100))
def test_a_monotone_cell_never_ranks_the_better_of_equal_items_lower(seed: int):
    rng = np.random.default_rng(seed)
    cells = quantile_cells(rng.random((200, 2)))
    low, more = rng.random(2), rng.random(2)
    scores = np.stack([low, np.minimum(low + more, 1.0)])[None]
    fused = cells(scores, np.array([[1.0, 0.5]]))[0]
    assert fused[1] >= fused[0]


def test_heights_that_fall_and_unknown_fusions_are_mistakes():
    with pytest.raises(UserError, match="monotone"):
        Cells(((0.0, 1.0),), ((1.0, 0.0),))
    with pytest.raises(UserError, match="did you mean 'log-sum'"):
        fusion_of("logsum", (1e-3, 1e-3))


def test_top_takes_the_first_of_equal_candidates_and_never_one_that_is_none():
    fused = np.array([[1.0, 3.0, 3.0, np.nan]])
    assert top(fused, 4).tolist() == [[1, 2, 0, -1]]
    assert oriented(np.array([0.2]), np.array([True])).tolist() == [0.8]
