"""What is given wrongly is told in one line, with what was expected; nothing of it becomes a number."""

from collections.abc import Callable

import numpy as np
import pytest

import headrace
from headrace.errors import UserError
from headrace.journeys.store import Journeys

Call = Callable[[Journeys, np.ndarray], object]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    folder = tmp_path_factory.mktemp("mistakes") / "log"
    return headrace.simulate_log(headrace.Scenario.load("ads"), 60, 2, "uniform", 3, folder)


class Shaped:
    """A policy whose probabilities have this shape."""

    def __init__(self, *shape: int):
        self.shape = shape

    def probabilities(self, history: object) -> np.ndarray:
        return np.full(self.shape, 1 / self.shape[-1])


def estimated(**given: object) -> Call:
    return lambda log, alike: headrace.ope.estimate(alike, log, **({"estimators": ["ips"]} | given))  # type: ignore[arg-type]


WRONG: dict[str, tuple[Call, str]] = {
    "too few rows": (lambda log, p: headrace.ope.estimate(p[:-1], log), "expected .*: rows x channels"),
    "one row alone": (lambda log, p: headrace.ope.estimate(p[0], log), "expected .*: rows x channels"),
    "no policy": (lambda log, p: headrace.ope.estimate("uniform", log), r"a str, expected .*named"),
    "an actor": (lambda log, p: headrace.ope.estimate(headrace.ope.named("uniform", log), log), "named"),
    "a policy of other rows": (lambda log, p: headrace.ope.estimate(Shaped(3, 5), log), "expected .*: rows x channels"),
    "a policy of one row": (lambda log, p: headrace.ope.estimate(Shaped(5), log), "expected .*: rows x channels"),
    "chances that are none": (lambda log, p: headrace.ope.estimate(p * np.nan, log), "no distribution"),
    "chances above one": (lambda log, p: headrace.ope.estimate(2 * p, log), "no distribution"),
    "reward of other rows": (estimated(reward=np.ones(5)), "reward: has the shape"),
    "reward unknown": (lambda log, p: headrace.ope.estimate(p, log, reward=np.full(len(p), np.nan)), "no reward"),
    "select of other rows": (estimated(select=np.ones(5)), "select: has the shape"),
    "select above one": (lambda log, p: headrace.ope.estimate(p, log, select=np.full(len(p), 7.0)), "from 0 to 1"),
    "select unknown": (lambda log, p: headrace.ope.estimate(p, log, select=np.full(len(p), np.nan)), "from 0 to 1"),
    "propensity of other rows": (estimated(propensity=np.ones(5)), "propensity: has the shape"),
    "propensity of zero": (
        lambda log, p: headrace.ope.estimate(p, log, propensity=np.zeros(len(p))),
        "more than 0 and at most 1",
    ),
    "propensity unknown": (estimated(propensity="rnd"), "did you mean 'random'"),
    "a mask for rows": (
        lambda log, p: headrace.ope.estimate(p, log, rows=np.arange(len(p)) < 9),  # type: ignore[arg-type]
        "flatnonzero",
    ),
    "rows twice": (lambda log, p: headrace.ope.estimate(p[:3], log, rows=np.array([1, 1, 2])), "each once"),
    "rows beyond the log": (lambda log, p: headrace.ope.estimate(p[:1], log, rows=np.array([len(p)])), "from 0 to"),
    "no rows": (lambda log, p: headrace.ope.estimate(p[:0], log, rows=np.array([], dtype=np.int64)), "at least one"),
    "no estimators": (estimated(estimators=[]), "add one of dr"),
    "a biased estimator alone": (estimated(estimators=["dm", "switch-dr", "clipped"]), "add one of dr"),
    "one user": (
        lambda log, p: headrace.ope.estimate(p[:5], log, rows=np.arange(5)),
        "1 user, and models are fitted on other users",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told(name: str, log: Journeys) -> None:
    call, words = WRONG[name]
    assert (log.user_of_step[:5] == log.user_of_step[0]).all()
    with pytest.raises(UserError, match=words) as told:
        call(log, np.full((log.n_steps, len(log.channels)), 1 / len(log.channels)))
    assert "\n" not in str(told.value)


def test_two_users_are_no_mistake(log: Journeys) -> None:
    rows = np.flatnonzero(log.user_of_step < 2)
    alike = np.full((len(rows), len(log.channels)), 1 / len(log.channels))
    assert headrace.ope.estimate(alike, log, rows=rows).best.refused is not None


def test_the_best_estimate_is_one_that_can_stand_alone(log: Journeys) -> None:
    alike = np.full((log.n_steps, len(log.channels)), 1 / len(log.channels))
    found = headrace.ope.estimate(alike, log, estimators=["clipped", "dm", "snips", "dr"])
    assert found.best is found.estimates["dr"]
    found = headrace.ope.estimate(alike, log, estimators=["clipped", "ips", "snips"])
    assert found.best is found.estimates["snips"]
