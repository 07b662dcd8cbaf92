"""Scores of another log leave training users out; recommendations weigh the gains of the reward."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from headrace.channel.mtorl import MTORL, PRESETS, MTORLConfig
from headrace.channel.recommend import recommend
from headrace.channel.scoring import evaluate
from headrace.errors import UserError
from headrace.journeys.store import Journeys, subset
from headrace.journeys.views import histories
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario

TINY = MTORLConfig(**PRESETS["tiny"])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Journeys:
    return simulate(Scenario.load("ads"), 120, None, "logging", 0, tmp_path_factory.mktemp("world") / "journeys")


def test_a_log_that_grew_is_scored_on_users_that_training_never_saw(world: Journeys, tmp_path: Path) -> None:
    early = subset(world, np.arange(60), tmp_path / "early")  # the first 60 users, then all 120
    split = early.split("users", 0)
    method = MTORL(TINY).fit(early, split, tmp_path / "run", progress=False)
    found = evaluate(method, early, split, other=world, floors=("prior",)).records
    trained = np.isin(world.users, early.users[np.unique(early.user_of_step[split.rows("train")])])
    expected = int(np.diff(world.offsets)[~trained].sum())
    assert {r["n"] for r in found if r["metric"] == "action/log_loss"} == {expected}
    assert {r["part"] for r in found} == {"other"}


def test_a_log_of_training_users_alone_is_refused(world: Journeys, tmp_path: Path) -> None:
    split = world.split("users", 0)
    method = MTORL(TINY).fit(world, split, tmp_path / "run", progress=False)
    users = np.unique(world.user_of_step[split.rows("train")])
    with pytest.raises(UserError, match="training users"):
        evaluate(method, world, split, other=subset(world, users, tmp_path / "same"), floors=())


def test_recommendations_weigh_the_gains_of_the_reward(world: Journeys, tmp_path: Path) -> None:
    split = world.split("users", 0)
    weights = {"click": 0.0, "conversion": 10.0}
    config = dataclasses.replace(TINY, reward_weights=weights, penalty=0.0)
    method = MTORL(config).fit(world, split, tmp_path / "run", progress=False)
    table = recommend(method, world)
    conversions = method.predict_next(world).reward_by_channel["conversion"]
    np.testing.assert_allclose(
        np.sort(table["expected_gain"].to_numpy()), np.sort(10.0 * conversions.max(axis=1)), rtol=1e-6
    )
    assert table["expected_gain"].is_sorted(descending=True)


def test_a_plain_gain_is_recommended_by_whatever_the_unit_of_cost_and_a_price_is_taken_off_when_asked_for(
    world: Journeys, tmp_path: Path
) -> None:
    method = MTORL(TINY).fit(world, world.split("users", 0), tmp_path / "run", progress=False)
    assert method.config.penalty > 0 and method.penalty == 0
    found = method.predict_next(world)
    gain, cost = found.reward_by_channel[method.reward_gains[0]], np.maximum(found.reward_by_channel["cost"], 0)
    table = recommend(method, world)
    np.testing.assert_allclose(table["expected_gain"].to_numpy(), np.sort(gain.max(axis=1))[::-1], rtol=1e-6)
    priced = recommend(method, world, penalty=3.0)
    value = (priced["expected_gain"] - 3.0 * priced["expected_cost"]).to_numpy()
    np.testing.assert_allclose(value, np.sort((gain - 3.0 * cost).max(axis=1))[::-1], rtol=1e-5)
    with pytest.raises(UserError, match="penalty nan, expected 0 or more"):
        recommend(method, world, penalty=float("nan"))


def test_the_value_policy_has_no_price_on_cost_but_the_one_it_is_given(world: Journeys, tmp_path: Path) -> None:
    method = MTORL(TINY).fit(world, world.split("users", 0), tmp_path / "run", progress=False)
    asked = histories(world, np.arange(40), 8)
    found = method.foresee(asked).reward_by_channel
    gain, cost = found[method.reward_gains[0]], np.maximum(found["cost"], 0)
    assert cost.min() > 0
    np.testing.assert_array_equal(method.value_policy().scores(asked), gain)
    np.testing.assert_array_equal(method.value_policy(3.0).scores(asked), gain - 3.0 * cost)
