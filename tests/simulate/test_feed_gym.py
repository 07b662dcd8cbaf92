"""The feed's gymnasium faces: gymnasium's own checks, and a vector that plays what its users would play alone."""

import warnings

import numpy as np
from gymnasium.utils.env_checker import check_env

from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_gym import FeedEnv, FeedVectorEnv
from headrace.simulate.scenario import Scenario

FEED = Scenario.load("feed")


def test_gymnasiums_checker_finds_nothing_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*not having a spec.*")
        warnings.filterwarnings("ignore", message=".*infinity.*")  # times and counts have no upper bound
        warnings.filterwarnings("ignore", message=".*normalized.*|.*symmetric.*")  # weights stand in the feed's own box
        check_env(FeedEnv(days=30))


def test_an_episode_pays_the_users_dwell_time() -> None:
    env = FeedEnv(days=4, seed=5)
    seen, info = env.reset(seed=1)
    user, weights = info["user"], np.full(12, 0.3)
    total, over = 0.0, False
    while not over:
        assert seen in env.observation_space
        seen, reward, terminated, over, _ = env.step(weights)
        assert not terminated
        total += reward
    world = FeedWorld(FEED, [user], seed=5, days=4)
    while not world.done:
        world.observe()
        world.step(weights)
    np.testing.assert_allclose(total, world.totals["dwell_s"][0])


def test_a_vector_pays_what_each_user_would_earn_alone() -> None:
    users, weights = [3, 8, 21], np.full(12, 0.3)
    envs = FeedVectorEnv(3, days=3, seed=5)
    envs.reset(options={"users": users})
    together, over = np.zeros(3), np.zeros(3, dtype=bool)
    while not over.all():
        _, reward, _, over, _ = envs.step(np.tile(weights, (3, 1)))
        together += reward
    world = FeedWorld(FEED, users, seed=5, days=3)
    while not world.done:
        world.observe()
        world.step(np.tile(weights, (len(world.turn), 1)))
    np.testing.assert_allclose(together, world.totals["dwell_s"])
