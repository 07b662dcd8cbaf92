"""Gymnasium faces of the world: one user (`AdsEnv`), or N users at once (`AdsVectorEnv`).

    env = AdsEnv("ads")
    observation, info = env.reset(seed=0)                  # some user of the world, at the first opportunity
    observation, reward, terminated, truncated, info = env.step(2)      # channel 2; -1 is no advert

An episode is one user's days. Its end is a truncation: the days are over, the user is still there. `terminated` is for
tasks whose users can leave. What happened before the first decision is nobody's reward. `reset(seed=...)` decides which
users of the world are met; `options={"user": 17}` (or "users": [...] for many) names them. The world's own luck is the
constructor's `seed`.

All users of a vector live on one calendar, so at a step only some are in turn: `info["in_turn"]` says who. The actions
of the others have no effect, but purchases that people make meanwhile count to their rewards. From a user's first turn
on, leaving those rows out (and adding up their rewards) gives the single user's episode. Who has ended waits for the
rest; when all have, the next step starts new episodes (autoreset at the next step). In the advertising task all end
together.

What a task must offer is in `Task`; WorldEnv and WorldVectorEnv know nothing of adverts. N users, A in turn.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from headrace.simulate.ads import NO_AD, AdsWorld
from headrace.simulate.draws import Floats
from headrace.simulate.scenario import Scenario
from headrace.simulate.users import USER_FEATURES, feature_categories

Array = NDArray[Any]
Observation = dict[str, Any]
Reward = Callable[[dict[str, Floats]], Floats]  # what has added up per user, (N,) each -> the reward so far, (N,)
MOST_USERS = 2**31


class Task(Protocol):
    """What the faces need of a task: a world for some users, what they see, how they act, what it is worth."""

    observation_space: spaces.Dict
    action_space: spaces.Space[Any]

    def world(self, users: Array) -> Any:
        """A world of these users (N,) before their first decision."""
        ...

    def observe(self, world: Any) -> tuple[Array, Observation]:
        """Rows (A,) of the users in turn, and what they see, (A, ...) each; nobody in turn when all is over."""
        ...

    def act(self, world: Any, actions: Any) -> None:
        """Let the users in turn act, (A, ...), and go on to the next turn."""
        ...

    def worth(self, world: Any) -> Floats:
        """The sum of each user's rewards so far, (N,)."""
        ...

    def ended(self, world: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Who has left for good (terminated), and whose time is over (truncated), (N,) each."""
        ...


def profit(totals: dict[str, Floats]) -> Floats:
    """Revenue with and without an advert in front of the user, less cost."""
    return totals["revenue"] + totals["organic_revenue"] - totals["cost"]


class AdsTask:
    """Advertising: a channel or none (-1) at each opportunity. The reward is what `reward` makes of the totals."""

    def __init__(
        self, scenario: Scenario | str | Path, days: int | None = None, seed: int = 0, reward: Reward = profit
    ):
        self.scenario = scenario if isinstance(scenario, Scenario) else Scenario.load(scenario)
        self.days, self.seed, self.reward = days, seed, reward
        m = len(self.scenario.channels)
        features = feature_categories(self.scenario)
        seen: dict[str, spaces.Space[Any]] = {
            "day": _box(0, np.inf),
            "hour": _box(0, 24),
            "placement": spaces.Discrete(len(self.scenario.ads.placements)),
            "days_since_last_visit": _box(0, np.inf),
            "exposures": _box(0, np.inf, m),
            "clicks": _box(0, np.inf, m),
        }
        for name in USER_FEATURES:
            seen[name] = spaces.Discrete(len(features[name])) if name in features else _box(-np.inf, np.inf)
        self.observation_space = spaces.Dict(seen)
        self.action_space: spaces.Space[Any] = spaces.Discrete(m + 1, start=NO_AD)

    def world(self, users: Array) -> AdsWorld:
        return AdsWorld(self.scenario, users, self.seed, self.days)

    def observe(self, world: AdsWorld) -> tuple[Array, Observation]:
        if world.done:
            return np.zeros(0, dtype=np.int64), {}
        context = world.observe()
        return context["row"], {name: context[name] for name in self.observation_space}

    def act(self, world: AdsWorld, actions: Any) -> None:
        world.step(actions)

    def worth(self, world: AdsWorld) -> Floats:
        return self.reward(world.totals)

    def ended(self, world: AdsWorld) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        n = len(world.users)
        return np.zeros(n, dtype=np.bool_), np.full(n, world.done)


class _Play:
    """The episodes of N users in one world: what each saw last, and what it was worth until then."""

    def __init__(self, task: Task, users: Array):
        self._task, self._users = task, users
        self._world = task.world(users)
        n = len(users)
        self.seen: Observation = {
            name: np.zeros((n, *space.shape), dtype=space.dtype)  # type: ignore[misc]
            for name, space in task.observation_space.items()
        }
        self.in_turn = np.zeros(n, dtype=np.bool_)
        self._worth = task.worth(self._world).copy()
        self._look()

    def step(self, actions: Any) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Rewards since the last step, terminated, truncated, (N,) each."""
        rows, _ = self._task.observe(self._world)
        self._task.act(self._world, np.asarray(actions)[rows])
        self._look()
        worth = self._task.worth(self._world).copy()
        reward, self._worth = worth - self._worth, worth
        return reward, *self._task.ended(self._world)

    def _look(self) -> None:
        rows, seen = self._task.observe(self._world)
        self.in_turn = np.zeros(len(self._users), dtype=np.bool_)
        self.in_turn[rows] = True
        for name, values in seen.items():
            self.seen[name][rows] = np.reshape(values, (len(rows), *self.seen[name].shape[1:]))


class WorldEnv(gymnasium.Env[Observation, Any]):
    """One user of a task's world; see the module's head."""

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's own name)

    def __init__(self, task: Task):
        self.task = task
        self.observation_space, self.action_space = task.observation_space, task.action_space
        self.render_mode = None
        self._play: _Play | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        wanted = (options or {}).get("user")
        while True:
            user = int(self.np_random.integers(MOST_USERS)) if wanted is None else int(wanted)
            self._play, self._user = _Play(self.task, np.array([user])), user
            if self._play.in_turn[0]:
                return self._seen(), {"user": user}
            if wanted is not None:
                raise ValueError(f"user {user} never comes in these days, so there is nothing to decide; take another")

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self._play is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        reward, terminated, truncated = self._play.step(np.asarray([action]))
        info = {"user": self._user}
        return self._seen(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def _seen(self) -> Observation:
        assert self._play is not None
        spaces_ = self.task.observation_space
        return {
            name: np.int64(values[0]) if isinstance(spaces_[name], spaces.Discrete) else values[0].copy()
            for name, values in self._play.seen.items()
        }


class WorldVectorEnv(VectorEnv[Observation, Any, Array]):
    """N users of a task's world, on one calendar; see the module's head."""

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (gymnasium's own name)

    def __init__(self, task: Task, num_envs: int):
        self.task, self.num_envs = task, num_envs
        self.single_observation_space, self.single_action_space = task.observation_space, task.action_space
        self.observation_space = batch_space(task.observation_space, num_envs)
        self.action_space = batch_space(task.action_space, num_envs)
        self.render_mode = None
        self._play: _Play | None = None
        self._over = np.zeros(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        users = (options or {}).get("users")
        self._users = (
            self.np_random.integers(MOST_USERS, size=self.num_envs) if users is None else np.array(users, dtype=int)
        )
        if self._users.shape != (self.num_envs,):
            raise ValueError(f"options name {len(self._users)} users for {self.num_envs} environments")
        self._play = _Play(self.task, self._users)
        self._over[:] = False
        return self._seen(), self._info()

    def step(self, actions: Any) -> tuple[Observation, Array, Array, Array, dict[str, Any]]:
        if self._play is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        if self._over.all():
            seen, info = self.reset()
            no = np.zeros(self.num_envs, dtype=np.bool_)
            return seen, np.zeros(self.num_envs), no, no.copy(), info
        reward, terminated, truncated = self._play.step(actions)
        self._over |= terminated | truncated
        return self._seen(), reward, terminated, truncated, self._info()

    def _seen(self) -> Observation:
        assert self._play is not None
        return {name: values.copy() for name, values in self._play.seen.items()}

    def _info(self) -> dict[str, Any]:
        assert self._play is not None
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        return {"in_turn": self._play.in_turn.copy(), "_in_turn": everyone, "user": self._users, "_user": everyone}


class AdsEnv(WorldEnv):
    """Advertising to one user."""

    def __init__(
        self, scenario: Scenario | str | Path = "ads", days: int | None = None, seed: int = 0, reward: Reward = profit
    ):
        super().__init__(AdsTask(scenario, days, seed, reward))


class AdsVectorEnv(WorldVectorEnv):
    """Advertising to N users at once."""

    def __init__(
        self,
        num_envs: int,
        scenario: Scenario | str | Path = "ads",
        days: int | None = None,
        seed: int = 0,
        reward: Reward = profit,
    ):
        super().__init__(AdsTask(scenario, days, seed, reward), num_envs)


def _box(low: float, high: float, width: int = 1) -> spaces.Box:
    return spaces.Box(low, high, shape=(width,), dtype=np.float64)
