"""The feed behind gymnasium's faces (gym.py): fusion weights for each request of a user's days.

An observation holds the request's context, the user's features and the 12 scores of the C candidates; the action is
the 12 weights of the fusion, in the feed's box. An episode is a user's days, ended by truncation; "request" 0 begins a
session, and whoever leaves comes back, or not, in a later one.

N users, A of them in turn, C candidates.
"""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from headrace.simulate.draws import Floats
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_policies import box
from headrace.simulate.feed_scenario import BEHAVIOURS
from headrace.simulate.feed_schema import categories
from headrace.simulate.feed_users import FEED_USER_FEATURES
from headrace.simulate.gym import Array, Observation, Reward, WorldEnv, WorldVectorEnv
from headrace.simulate.scenario import Scenario

BEFORE = ("day", "session_of_day", "request", "hour", "days_since_last_visit")


def dwell(totals: dict[str, Floats]) -> Floats:
    """Seconds spent watching."""
    return totals["dwell_s"]


class FeedTask:
    """Ranking a feed by fusion weights, (12,) at each request. The reward is what `reward` makes of the totals."""

    def __init__(self, scenario: Scenario | str | Path, days: int | None = None, seed: int = 0, reward: Reward = dwell):
        self.scenario = scenario if isinstance(scenario, Scenario) else Scenario.load(scenario)
        self.days, self.seed, self.reward = days, seed, reward
        feed = self.scenario.feed_task
        texts = categories(self.scenario)
        seen: dict[str, spaces.Space[Any]] = {name: spaces.Box(0, np.inf, (1,), np.float64) for name in BEFORE}
        for name in FEED_USER_FEATURES:
            text = texts.get(f"user/{name}")
            seen[name] = spaces.Box(-np.inf, np.inf, (1,), np.float64) if text is None else spaces.Discrete(len(text))
        seen["scores"] = spaces.Box(-np.inf, np.inf, (feed.candidates, len(BEHAVIOURS)), np.float32)
        self.observation_space = spaces.Dict(seen)
        low, high = box(feed)
        self.action_space: spaces.Space[Any] = spaces.Box(low, high, dtype=np.float64)

    def world(self, users: Array) -> FeedWorld:
        return FeedWorld(self.scenario, users, self.seed, self.days)

    def observe(self, world: FeedWorld) -> tuple[Array, Observation]:
        if world.done:
            return np.zeros(0, dtype=np.int64), {}
        requests = world.observe()
        seen = {name: requests.context[name] for name in self.observation_space if name != "scores"}
        return requests.context["row"], seen | {"scores": requests.scores}

    def act(self, world: FeedWorld, actions: Any) -> None:
        world.step(np.asarray(actions, dtype=np.float64))

    def worth(self, world: FeedWorld) -> Floats:
        return self.reward(world.totals)

    def ended(self, world: FeedWorld) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        n = len(world.users)
        return np.zeros(n, dtype=np.bool_), np.full(n, world.done)


class FeedEnv(WorldEnv):
    """A feed for one user."""

    def __init__(
        self, scenario: Scenario | str | Path = "feed", days: int | None = None, seed: int = 0, reward: Reward = dwell
    ):
        super().__init__(FeedTask(scenario, days, seed, reward))


class FeedVectorEnv(WorldVectorEnv):
    """A feed for N users at once."""

    def __init__(
        self,
        num_envs: int,
        scenario: Scenario | str | Path = "feed",
        days: int | None = None,
        seed: int = 0,
        reward: Reward = dwell,
    ):
        super().__init__(FeedTask(scenario, days, seed, reward), num_envs)
