"""Targets: methods that know of fewer classes than the log are scored on the log's."""

from pathlib import Path

import numpy as np
import pytest
from small_logs import random_columns, write

from headrace.evaluate.metrics import Predicted
from headrace.evaluate.results import Source, score
from headrace.evaluate.targets import Target, pad_classes, steps_of


def test_a_method_that_never_met_a_class_gives_it_no_probability_and_is_scored(tmp_path: Path) -> None:
    columns = random_columns(np.random.default_rng(0), np.ones(3, dtype=int))
    columns["gain/rating"] = np.array([0.0, 1, 2])
    log = write(tmp_path / "a", np.ones(3, dtype=int), columns)
    steps = steps_of(log, np.arange(3), Target("rating"))
    padded = pad_classes(np.full((3, 2), 0.5), steps.classes)
    np.testing.assert_array_equal(padded, [[0.5, 0.5, 0]] * 3)
    records = score(Source("s", "users"), "rating", steps, {"mine": Predicted(padded)}, resamples=5).records
    loss = next(r["value"] for r in records if r["metric"] == "rating/log_loss")
    assert loss == pytest.approx((2 * np.log(2) - np.log(1e-7)) / 3)


def test_steps_have_as_many_classes_as_a_method_knows_of(tmp_path: Path) -> None:
    columns = random_columns(np.random.default_rng(0), np.ones(3, dtype=int))
    columns["gain/rating"] = np.array([0.0, 1, 1])
    log = write(tmp_path / "a", np.ones(3, dtype=int), columns)
    assert steps_of(log, np.arange(3), Target("rating")).classes == 2
    assert steps_of(log, np.arange(3), Target("rating"), classes=4).classes == 4
    assert steps_of(log, np.arange(3), Target("click"), classes=4).classes == 0
    with pytest.raises(ValueError, match="4 classes predicted for 2"):
        pad_classes(np.full((3, 4), 0.25), 2)
