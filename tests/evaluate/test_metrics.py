"""Metrics: equal to scikit-learn's where it has them, by hand where it has not, refused where they mean nothing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from headrace.evaluate.bootstrap import Metric, draws, interval, resample
from headrace.evaluate.metrics import (
    MetricOf,
    Predicted,
    Steps,
    accuracy,
    auc,
    calibration,
    ctr_top_share,
    ece,
    f1_macro,
    f1_macro_per_step,
    log_loss,
    metrics_of,
    mse,
    precision_macro,
    recall_macro,
    session_log_loss,
)


def value(metric: Metric, groups: int) -> float:
    assert metric.draw is not None, metric.refused
    return float(metric.draw(np.ones((1, groups)))[0])


def class_case(seed: int, n: int = 60, m: int = 4) -> tuple[Steps, Predicted]:
    rng = np.random.default_rng(seed)
    users = np.sort(rng.integers(0, 9, size=n))
    steps = Steps(rng.integers(0, m, size=n), "classes", m, users, rng.integers(0, 5, size=n))
    return steps, Predicted(rng.dirichlet(np.ones(m), size=n))


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_class_metrics_equal_scikit_learns(seed: int, n: int, m: int) -> None:
    steps, predicted = class_case(seed, n, m)
    guess = predicted.values.argmax(1)
    groups = steps.groups[1]
    nothing: dict[str, Any] = {"average": "macro", "zero_division": 0}
    assert value(f1_macro(steps, predicted), groups) == pytest.approx(sk.f1_score(steps.labels, guess, **nothing))
    assert value(precision_macro(steps, predicted), groups) == pytest.approx(
        sk.precision_score(steps.labels, guess, **nothing)
    )
    assert value(recall_macro(steps, predicted), groups) == pytest.approx(
        sk.recall_score(steps.labels, guess, **nothing)
    )
    assert value(accuracy(steps, predicted), groups) == pytest.approx(sk.accuracy_score(steps.labels, guess))
    assert value(log_loss(steps, predicted), groups) == pytest.approx(
        sk.log_loss(steps.labels, predicted.values, labels=range(m))
    )
    assert steps.index is not None
    each = [
        sk.f1_score(steps.labels[steps.index == i], guess[steps.index == i], **nothing) for i in np.unique(steps.index)
    ]
    assert value(f1_macro_per_step(steps, predicted), groups) == pytest.approx(np.mean(each))


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_auc_equals_scikit_learns_with_ties(seed: int, n: int, distinct: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size=n)
    labels[:2] = [0, 1]
    steps = Steps(labels, "binary", users=rng.integers(0, 5, size=n))
    predicted = Predicted(rng.integers(0, distinct, size=n) / distinct)
    expected = sk.roc_auc_score(labels, predicted.values)
    assert value(auc(steps, predicted), steps.groups[1]) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [f1_macro, f1_macro_per_step, precision_macro, recall_macro, accuracy, log_loss])
def test_a_resample_of_users_equals_the_metric_of_the_drawn_rows(metric: MetricOf) -> None:
    steps, predicted = class_case(4)
    codes, groups = steps.groups
    counts = next(resample(groups, 20, seed=2))
    drawn = metric(steps, predicted).draw
    assert drawn is not None
    for row, got in zip(counts, drawn(counts), strict=True):
        rows = np.concatenate([np.tile(np.flatnonzero(codes == g), int(c)) for g, c in enumerate(row)]).astype(int)
        assert steps.index is not None
        again = Steps(steps.labels[rows], "classes", steps.classes, None, steps.index[rows])
        assert got == pytest.approx(value(metric(again, Predicted(predicted.values[rows])), len(rows)))


@pytest.mark.parametrize("metric", [auc, log_loss, mse])
def test_a_resample_of_users_equals_the_binary_metric_of_the_drawn_rows(metric: MetricOf) -> None:
    rng = np.random.default_rng(8)
    steps = Steps(rng.integers(0, 2, size=50), "binary", users=rng.integers(0, 8, size=50))
    predicted = Predicted(rng.integers(1, 6, size=50) / 7)
    codes, groups = steps.groups
    counts = next(resample(groups, 20, seed=2))
    drawn = metric(steps, predicted).draw
    assert drawn is not None
    for row, got in zip(counts, drawn(counts), strict=True):
        rows = np.concatenate([np.tile(np.flatnonzero(codes == g), int(c)) for g, c in enumerate(row)]).astype(int)
        again = Steps(steps.labels[rows], "binary")
        assert got == pytest.approx(value(metric(again, Predicted(predicted.values[rows])), len(rows)))


def test_auc_of_one_class_is_refused_with_the_reason() -> None:
    metric = auc(Steps(np.zeros(5), "binary"), Predicted(np.full(5, 0.1)))
    assert metric.draw is None
    assert metric.refused == "AUC needs both classes; all 5 labels are 0"


def test_a_certain_and_wrong_prediction_costs_the_clipped_loss() -> None:
    wrong = log_loss(Steps(np.array([1]), "binary"), Predicted(np.array([0.0])))
    assert value(wrong, 1) == pytest.approx(-np.log(1e-7))
    right = log_loss(Steps(np.array([0, 0]), "classes", 2), Predicted(np.array([[1.0, 0.0], [0.0, 1.0]])))
    assert value(right, 2) == pytest.approx(-np.log(1e-7) / 2, rel=1e-6)


def test_uniform_probabilities_score_as_drawing_at_random_would() -> None:
    steps = Steps(np.array([0, 0, 0, 1]), "classes", 4)
    assert value(accuracy(steps, Predicted(np.full((4, 4), 0.25))), 4) == pytest.approx(0.25)


def test_a_point_prediction_stands_beside_its_probabilities() -> None:
    steps = Steps(np.array([0, 1]), "classes", 2)
    prior = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert value(accuracy(steps, Predicted(prior)), 2) == 0.5
    assert value(accuracy(steps, Predicted(prior, choice=np.array([0, 1]))), 2) == 1.0


def test_session_log_loss_weighs_sessions_equally() -> None:
    labels, p = np.array([1, 1, 1, 1]), np.array([0.5, 0.5, 0.5, 0.25])
    users = np.array([0, 0, 0, 1])
    steps = Steps(labels, "binary", users=users, sessions=np.array([4, 4, 4, 4]))  # sessions nest in users
    assert value(session_log_loss(steps, Predicted(p)), 2) == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert session_log_loss(Steps(labels, "binary"), Predicted(p)).refused == "the log has no sessions"


def test_steps_without_a_session_are_sessions_of_their_own() -> None:
    p = np.array([0.5, 0.5, 0.25, 0.125])
    steps = Steps(np.ones(4), "binary", users=np.zeros(4), sessions=np.array([7, 7, -1, -1]))
    assert value(session_log_loss(steps, Predicted(p)), 1) == pytest.approx(np.log([2, 4, 8]).mean())


def test_without_users_the_session_is_the_unit() -> None:
    p = np.array([0.5, 0.5, 0.5, 0.25, 0.125])
    steps = Steps(np.ones(5), "binary", sessions=np.array([3, 3, 3, 9, -1]))
    codes, groups = steps.groups
    assert groups == 3 and codes.tolist() == [0, 0, 0, 1, 2]
    assert value(session_log_loss(steps, Predicted(p)), 3) == pytest.approx(np.log([2, 4, 8]).mean())
    assert value(log_loss(steps, Predicted(p)), 3) == pytest.approx(np.log([2, 2, 2, 4, 8]).mean())


def test_best_share_takes_ties_at_the_edge_in_part() -> None:
    labels = np.array([1, 1, 0, 0, 1, 0, 0, 0])
    steps = Steps(labels, "binary")
    assert value(ctr_top_share(steps, Predicted(np.full(8, 0.3))), 8) == pytest.approx(3 / 8)
    first = np.array([0.9, 0.8, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1])  # 37.5 % of 8 are 3
    assert value(ctr_top_share(steps, Predicted(first)), 8) == pytest.approx(2 / 3)
    half = np.array([0.9, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert value(ctr_top_share(steps, Predicted(half)), 8) == pytest.approx((2 + 1 / 6) / 3)


def test_calibration_error_by_hand_and_its_interval_holds_the_value() -> None:
    p = np.repeat([0.2, 0.8], 10)
    labels = np.r_[np.ones(4), np.zeros(6), np.ones(7), np.zeros(3)]
    steps = Steps(labels, "binary")
    assert value(ece(steps, Predicted(p)), 20) == pytest.approx((0.2 + 0.1) / 2)
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    honest = Steps((rng.random(4000) < p).astype(int), "binary")
    metric = ece(honest, Predicted(p))
    found = interval(draws({"x": metric}, 4000, 200)["x"], 4000, metric.reflect)
    assert found.low is not None and found.high is not None and found.value is not None
    assert found.low <= found.value <= found.high
    assert found.low < 0.005  # a calibrated prediction is not called miscalibrated


def test_calibration_curve_counts_every_step_once() -> None:
    rng = np.random.default_rng(3)
    p = np.round(rng.random(500), 1)
    steps = Steps((rng.random(500) < p).astype(int), "binary", users=rng.integers(0, 50, size=500))
    curve = calibration(steps, Predicted(p), resamples=100)
    assert sum(int(b["n"] or 0) for b in curve) == 500
    assert len(curve) <= 10
    for b in curve:
        assert b["low"] is not None and b["high"] is not None and b["observed"] is not None
        assert b["low"] <= b["observed"] <= b["high"]


def test_each_kind_of_target_has_its_metrics() -> None:
    assert "f1_macro_per_step" in metrics_of(Steps(np.array([0]), "classes", 2))
    assert list(metrics_of(Steps(np.array([0]), "binary", sessions=np.array([0]))))[-1] == "session_log_loss"
    assert value(mse(Steps(np.array([1.0, 3.0]), "continuous"), Predicted(np.array([1.0, 1.0]))), 2) == 2.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 2), 0.5), "shape"),
        (np.full((2, 2), 0.4), "sum to one"),
        (np.array([[1.5, -0.5]] * 2), "outside"),
        (np.full((2, 2), np.nan), "finite"),
    ],
)
def test_predictions_that_are_none_are_not_scored(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predicted(values).check(Steps(np.array([0, 1]), "classes", 2), "mine")


def test_steps_of_unknown_outcome_are_not_scored() -> None:
    with pytest.raises(ValueError, match="finite"):
        Steps(np.array([0.0, np.nan]), "binary")
    with pytest.raises(ValueError, match="0 or 1"):
        Steps(np.array([0.0, 0.5]), "binary")
    with pytest.raises(ValueError, match="classes 0 to 1"):
        Steps(np.array([0, 2]), "classes", 2)
    with pytest.raises(ValueError, match="no labelled steps"):
        Steps(np.array([]), "binary")
