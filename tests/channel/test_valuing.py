"""A method's predictions as a policy: three ways to choose, and a score in terms of what is asked for, or its Q."""

from pathlib import Path

import numpy as np
import pytest

import headrace
from headrace.channel.predictions import Predictions
from headrace.channel.recommend import recommend, values_of
from headrace.channel.valuing import actor
from headrace.errors import UserError
from headrace.journeys.seams import Bools
from headrace.journeys.store import Journeys
from headrace.journeys.views import View
from headrace.ope.policies import Worth

ACTION = np.array([[0.1, 0.6, 0.3]])
CLICK = np.array([[0.2, 0.1, 0.3]])
COST = np.array([[0.1, 0.1, 0.5]])


class Fixed:
    """Predicts the same of every row, the rows in reverse."""

    name = "fixed"
    reward_weights = {"click": 1.0}  # noqa: RUF012
    penalty = 1.0
    chooses_by = "value"

    def __init__(self, **more: np.ndarray):
        self.by_channel = {"click": CLICK, "cost": COST} | more

    def predict(self, journeys: Journeys, labels: Bools | View) -> Predictions:
        assert isinstance(labels, np.ndarray)
        rows = np.flatnonzero(labels)[::-1]
        n = len(rows)
        by_channel = {k: np.repeat(v, n, axis=0) for k, v in self.by_channel.items()}
        by_channel["click"] = by_channel["click"] * (1 + rows[:, None] / 100)
        return Predictions(rows, np.repeat(ACTION, n, axis=0), {}, by_channel)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    folder: Path = tmp_path_factory.mktemp("log") / "log"
    return headrace.simulate_log(headrace.Scenario.load("ads"), 20, 2, "uniform", 0, folder)


ROWS = np.array([2, 5, 9])


def test_value_greedy_and_policy_choose_as_they_say(log: Journeys) -> None:
    worth = Worth({"click": 1.0})
    assert actor(Fixed(), worth, "value")(log, ROWS).chances.argmax(axis=1).tolist() == [2, 2, 2]
    assert actor(Fixed(), worth, "greedy")(log, ROWS).chances.argmax(axis=1).tolist() == [1, 1, 1]
    assert actor(Fixed(), worth, "policy")(log, ROWS).chances[0].tolist() == pytest.approx(ACTION[0].tolist())


@pytest.mark.parametrize("by", ["value", "greedy", "policy"])
def test_the_score_is_the_largest_expected_gain_of_the_very_row(by: str, log: Journeys) -> None:
    found = actor(Fixed(), Worth({"click": 2.0}), by)(log, ROWS).score  # type: ignore[arg-type]
    assert found is not None
    assert found.tolist() == pytest.approx((2 * 0.3 * (1 + ROWS / 100)).tolist())


def test_the_cost_counts_against_a_channel_and_a_learnt_penalised_reward_comes_first(log: Journeys) -> None:
    assert actor(Fixed(), Worth({"click": 1.0}, 0.9), "value")(log, ROWS).chances.argmax(axis=1).tolist() == [0, 0, 0]
    learnt = Fixed(penalised=np.array([[0.0, 1.0, 0.5]]))
    assert actor(learnt, Worth({"click": 1.0}, 1.0), "value")(log, ROWS).chances[0].argmax() == 1
    assert actor(learnt, Worth({"click": 1.0}, 0.0), "value")(log, ROWS).chances[0].argmax() == 2


def test_a_gain_that_the_method_does_not_predict_has_no_value_and_no_score(log: Journeys) -> None:
    worth = Worth({"conversion": 1.0})
    with pytest.raises(UserError, match="predicts click, cost, which does not give conversion"):
        actor(Fixed(), worth, "value")(log, ROWS)
    assert actor(Fixed(), worth, "greedy")(log, ROWS).score is None


class ValueBased(Fixed):
    """Predicts no gains, only what each channel is worth; the third is ruled out."""

    def predict(self, journeys: Journeys, labels: Bools | View) -> Predictions:
        assert isinstance(labels, np.ndarray)
        return self.of(np.flatnonzero(labels)[::-1])

    def of(self, rows: np.ndarray) -> Predictions:
        values = np.array([[0.5, 0.2, -np.inf]]) + rows[:, None] / 100
        return Predictions(rows, np.repeat(ACTION, len(rows), axis=0), values=values)

    def predict_next(self, journeys: Journeys) -> Predictions:
        return self.of(np.arange(journeys.n_users))


def test_without_gains_the_values_choose_and_order_whatever_unit_is_asked_for(log: Journeys) -> None:
    for worth in (Worth({"click": 1.0}), Worth({"conversion": 1.0}, 3.0)):
        found = actor(ValueBased(), worth, "value")(log, ROWS)
        assert found.chances.argmax(axis=1).tolist() == [0, 0, 0]
        assert found.score is not None
        assert found.score.tolist() == pytest.approx((0.5 + ROWS / 100).tolist())
    assert actor(ValueBased(), worth)(log, ROWS).chances.argmax(axis=1).tolist() == [0, 0, 0]
    assert actor(ValueBased(), worth, "greedy")(log, ROWS).chances.argmax(axis=1).tolist() == [1, 1, 1]


class ByPolicy(ValueBased):
    """Its choice is its policy, as of IQL and MIREC."""

    chooses_by = "policy"


def test_a_method_whose_choice_is_its_policy_is_not_valued_by_its_largest_value(log: Journeys) -> None:
    worth = Worth({"click": 1.0})
    assert actor(ByPolicy(), worth)(log, ROWS).chances.argmax(axis=1).tolist() == [1, 1, 1]
    assert actor(ByPolicy(), worth, "value")(log, ROWS).chances.argmax(axis=1).tolist() == [0, 0, 0]
    table = recommend(ByPolicy(), log)
    assert set(table["channel"]) == {log.channels[1]}
    assert table["value"].to_list() == pytest.approx([0.2 + row / 100 for row in range(log.n_users)][::-1])
    assert set(recommend(ByPolicy(), log, by="value")["channel"]) == {log.channels[0]}


def test_users_are_recommended_in_the_order_of_their_values_and_a_budget_is_refused(log: Journeys) -> None:
    table = recommend(ValueBased(), log)
    assert table.equals(recommend(ValueBased(), log, by="value"))
    assert table.columns == ["user", "channel", "value", "propensity", "rank"]
    assert table["user"].to_list() == log.users[::-1].tolist()
    assert table["value"].to_list() == pytest.approx([0.5 + row / 100 for row in range(log.n_users)][::-1])
    assert set(table["channel"]) == {log.channels[0]}
    with pytest.raises(UserError, match="predicts no cost, so a budget of 5"):
        recommend(ValueBased(), log, budget=5)


def test_gains_of_a_method_that_predicts_none_are_refused() -> None:
    found = Predictions(np.arange(1), ACTION, values=CLICK)
    with pytest.raises(UserError, match="predicts no gains, and click was asked for"):
        values_of(found, {"click": 1.0}, 0.0)
