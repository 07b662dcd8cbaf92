"""The gymnasium faces: gymnasium's own checks, seeds, and a vector that plays what its users would play alone."""

import dataclasses
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from headrace.simulate.ads import AdsWorld
from headrace.simulate.gym import AdsEnv, AdsVectorEnv
from headrace.simulate.scenario import Scenario

ADS = Scenario.load("ads")
M = len(ADS.channels)


def test_gymnasiums_checker_finds_nothing_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*not having a spec.*")
        warnings.filterwarnings("ignore", message=".*infinity.*")  # counts and spends have no upper bound
        check_env(AdsEnv(days=4))


def test_registered_environments_are_made_by_name() -> None:
    gymnasium.register("HeadraceAds-v0", AdsEnv, vector_entry_point=AdsVectorEnv)
    env = gymnasium.make("HeadraceAds-v0", days=3)
    env.reset(seed=1)
    assert env.step(0)[1] <= 50
    envs = gymnasium.make_vec("HeadraceAds-v0", num_envs=3, vectorization_mode="vector_entry_point", days=3)
    assert envs.reset(seed=1)[0]["clicks"].shape == (3, M)


def test_seed_decides_the_user_and_the_course() -> None:
    def play(seed: int) -> list[Any]:
        env = AdsEnv(days=6)
        seen, info = env.reset(seed=seed)
        course: list[Any] = [seen, info["user"]]
        over = False
        while not over:
            seen, reward, terminated, truncated, _ = env.step(len(course) % M)
            course += [seen, reward]
            over = terminated or truncated
        return course

    assert data_equivalence(play(3), play(3), exact=True)
    assert not data_equivalence(play(3)[:2], play(4)[:2])


def test_an_episode_is_truncated_when_the_days_are_over_and_pays_the_users_profit() -> None:
    env = AdsEnv(days=9, seed=5)
    seen, _ = env.reset(options={"user": 11})
    total, over = 0.0, False
    world = AdsWorld(ADS, [11], seed=5, days=9)
    while not over:
        assert seen in env.observation_space
        seen, reward, terminated, truncated, info = env.step(1)
        world.step(1)
        assert not terminated and info["user"] == 11
        total, over = total + reward, truncated
    assert world.done
    t = world.totals
    assert total == pytest.approx((t["revenue"] + t["organic_revenue"] - t["cost"])[0])


def test_what_happened_before_the_first_decision_is_no_reward() -> None:
    eager = dataclasses.replace(ADS, ads=dataclasses.replace(ADS.ads, organic_rate=0.8))
    worlds = ((user, AdsWorld(eager, [user], seed=5, days=9)) for user in range(100))
    user, world = next((user, world) for user, world in worlds if world.totals["organic_revenue"][0] > 0)
    before = world.totals["organic_revenue"][0]
    env = AdsEnv(eager, days=9, seed=5)
    env.reset(options={"user": user})
    total, over = 0.0, False
    while not over:
        _, reward, _, over, _ = env.step(1)
        world.step(1)
        total += reward
    t = world.totals
    assert total == pytest.approx((t["revenue"] + t["organic_revenue"] - t["cost"])[0] - before)


def test_no_advert_is_an_action_and_costs_nothing() -> None:
    env = AdsEnv(days=5, reward=lambda totals: -totals["cost"])
    env.reset(seed=0)
    assert -1 in env.action_space and M not in env.action_space
    assert env.step(-1)[1] == 0
    with pytest.raises(ValueError, match="channels must lie in"):
        env.step(M)


def test_the_vector_keeps_gymnasiums_contract() -> None:
    envs = AdsVectorEnv(7, days=3)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.observation_space == batch_space(envs.single_observation_space, 7)
    assert envs.action_space == batch_space(envs.single_action_space, 7)
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(np.zeros(7, dtype=int))
    seen, info = envs.reset(seed=1)
    envs.action_space.seed(1)
    ends = 0
    for _ in range(60):
        assert seen in envs.observation_space
        assert info["in_turn"].shape == (7,)
        before = {name: values.copy() for name, values in seen.items()}
        new, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
        assert data_equivalence(before, seen, exact=True)  # what was handed out is not written over
        assert reward.shape == terminated.shape == truncated.shape == (7,)
        assert terminated.dtype == truncated.dtype == bool and reward.dtype == np.float64
        assert truncated.all() or info["in_turn"].any()
        if truncated.any():
            ends += 1
            envs.action_space.sample()
            new, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
            assert not (reward.any() or terminated.any() or truncated.any())
            assert not new["exposures"][info["in_turn"]].any()
        seen = new
    assert ends >= 2
    assert data_equivalence(AdsVectorEnv(7, days=3).reset(seed=4), AdsVectorEnv(7, days=3).reset(seed=4), exact=True)


def test_a_vector_plays_what_its_users_would_play_alone() -> None:
    users = np.array([3, 8, 1_000_000, 15])
    envs = AdsVectorEnv(len(users), days=6, seed=2)
    seen, info = envs.reset(options={"users": users})
    rows: list[list[Any]] = [[] for _ in users]
    rewards = np.zeros(len(users))
    over = False
    while not over:
        turn = info["in_turn"]
        action = np.array([len(r) % (M + 1) - 1 for r in rows])
        for i in np.flatnonzero(turn):
            rows[i].append(({name: values[i] for name, values in seen.items()}, action[i], rewards[i]))
            rewards[i] = 0.0
        seen, reward, _, truncated, info = envs.step(action)
        rewards += reward
        over = bool(truncated.all())
    for i, user in enumerate(users):
        env = AdsEnv(days=6, seed=2)
        alone, _ = env.reset(options={"user": user})
        for index, (theirs, action, _) in enumerate(rows[i]):
            assert all(np.array_equal(alone[name], theirs[name]) for name in alone)
            alone, reward, _, truncated, _ = env.step(action)
            following = rows[i][index + 1][2] if index + 1 < len(rows[i]) else rewards[i]
            assert reward == pytest.approx(following)
        assert truncated
