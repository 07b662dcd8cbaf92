"""Folds pool into one table in which each step stands once."""

import numpy as np
import pytest

from headrace.evaluate.folds import pooled
from headrace.evaluate.metrics import Predicted, Steps


def fold(rows: list[int], prior: float, other: Predicted | str) -> tuple[Steps, dict[str, Predicted | str]]:
    n = len(rows)
    steps = Steps(np.ones(n), "binary", users=np.array(rows), rows=np.array(rows))
    return steps, {"prior": Predicted(np.full(n, prior), rows=np.array(rows)), "other": other}


def test_folds_stand_in_a_row() -> None:
    other = Predicted(np.array([0.5]))
    steps, methods = pooled([fold([3, 4], 0.1, Predicted(np.array([0.2, 0.3]))), fold([1], 0.4, other)])
    assert steps.rows is not None and steps.rows.tolist() == [3, 4, 1]
    prior, found = methods["prior"], methods["other"]
    assert isinstance(prior, Predicted) and isinstance(found, Predicted)
    assert prior.values.tolist() == [0.1, 0.1, 0.4]
    assert found.values.tolist() == [0.2, 0.3, 0.5]
    prior.check(steps, "prior")
    assert steps.index is None and prior.choice is None


def test_a_method_refused_in_one_fold_is_refused() -> None:
    _, methods = pooled([fold([3], 0.1, "no past"), fold([1], 0.4, Predicted(np.array([0.5])))])
    assert methods["other"] == "no past"


def test_a_step_tested_twice_is_an_error() -> None:
    other = Predicted(np.array([0.5]))
    with pytest.raises(ValueError, match="stands twice"):
        pooled([fold([3], 0.1, other), fold([3], 0.4, other)])
    with pytest.raises(ValueError, match="differ in their methods"):
        pooled([fold([3], 0.1, other), (fold([4], 0.1, other)[0], {})])
