"""Thresholds: the share that was asked for, and no step depends on another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import UserError
from headrace.ope.selection import by_lot, threshold


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.floats(0.01, 1.0))
def test_the_share_is_met_on_the_scores_it_was_fixed_on_ties_included(scores: list[int], share: float) -> None:
    held = np.array(scores, dtype=np.float64)
    chances = threshold(held, share).chances(held)
    assert chances.mean() == pytest.approx(share)
    assert ((chances >= -1e-12) & (chances <= 1 + 1e-12)).all()
    order = np.argsort(held)
    assert (np.diff(chances[order]) >= -1e-12).all(), "a larger score is never less likely to be chosen"


def test_a_step_is_chosen_or_not_whoever_else_is_there() -> None:
    rng = np.random.default_rng(0)
    fixed = threshold(rng.random(200), 0.375)
    scores = rng.random(100)
    assert np.array_equal(fixed.chances(scores)[:10], fixed.chances(scores[:10]))


def test_without_a_score_every_step_has_the_same_chance() -> None:
    assert by_lot(3, 0.25).tolist() == [0.25] * 3


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_told(share: float) -> None:
    with pytest.raises(UserError, match="more than 0 and at most 1"):
        threshold(np.arange(4.0), share)
