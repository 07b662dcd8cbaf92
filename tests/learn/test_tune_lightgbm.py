"""Tuned boosted trees: never worse on validation than the floor as it stands, and blind to the test part."""

from pathlib import Path

import numpy as np
import pytest

from headrace.evaluate.floors import fit_floors, lightgbm_of
from headrace.evaluate.metrics import CLIP
from headrace.evaluate.targets import Target
from headrace.journeys.schema import Feature, Gain, LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.learn.tune_lightgbm import tune_lightgbm

pytest.importorskip("lightgbm")
STEPS, USERS = 8, 120


def log(path: Path, poisoned: bool = False) -> tuple[Journeys, Split]:
    """A gain that follows from a feature; in the test part, where poisoned, everything is another."""
    rng = np.random.default_rng(0)
    n = USERS * STEPS
    user = np.arange(n) // STEPS
    x = rng.random(n)
    click = (rng.random(n) < x).astype(np.float64)
    parts = {"train": user < 80, "validation": (user >= 80) & (user < 100), "test": user >= 100}
    if poisoned:
        x = np.where(parts["test"], 1e6, x)
        click = np.where(parts["test"], 1.0, click)
    made = LogSchema("small", user="user", features=(Feature("x"),), gains=(Gain("click"),))
    with JourneysWriter(path, made, {}) as writer:
        writer.append(np.arange(USERS), np.full(USERS, STEPS), {"feature/x": x, "gain/click": click})
        return writer.close(), Split("users", 0, None, parts)


def loss(p: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(np.clip(np.where(labels == 1, p, 1 - p), CLIP, 1 - CLIP)).mean())


def test_tuned_trees_are_no_worse_on_validation_and_one_trial_is_the_floor_itself(tmp_path: Path):
    journeys, split = log(tmp_path / "log")
    target, rows = Target("click"), split.rows("validation")
    labels = np.asarray(journeys.gain("click"))[rows]
    floor = fit_floors(journeys, split, [target], ["lightgbm"])[target]["lightgbm"]
    told: list[tuple[int, int]] = []
    tuned = tune_lightgbm(journeys, split, target, trials=6, progress=lambda done, of: told.append((done, of)))
    assert told == [(n, 6) for n in range(1, 6)]
    assert not isinstance(floor, str)
    once = tune_lightgbm(journeys, split, target, trials=1)
    assert np.array_equal(once.predict(rows), floor.predict(rows))
    assert loss(tuned.predict(rows), labels) < loss(floor.predict(rows), labels)


def test_parameters_reach_the_trees_and_their_loss_is_that_of_validation(tmp_path: Path):
    journeys, split = log(tmp_path / "log")
    fit = lightgbm_of(journeys, split, Target("click"))
    rows = split.rows("validation")
    floor, told = fit({"min_data_in_leaf": 100_000})
    assert np.ptp(floor.predict(rows)) == 0, "no split has that many rows, so all steps are alike"
    assert told == pytest.approx(loss(floor.predict(rows), np.asarray(journeys.gain("click"))[rows]))
    assert fit({})[1] < told


def test_the_test_part_is_never_read(tmp_path: Path):
    tuned = []
    for poisoned in (False, True):
        journeys, split = log(tmp_path / str(poisoned), poisoned)
        floor = tune_lightgbm(journeys, split, Target("click"), trials=4, seed=1)
        tuned.append(floor.predict(split.rows("validation")))
    assert np.array_equal(*tuned)
