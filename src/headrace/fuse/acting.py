"""Fusion policies at work in the world: the very states that the written log would give them, through a Memory.

The only module of this room, with cycle.py and comparing.py, that knows the world.

A requests, N users of the world, M members of a search, K weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.fuse.actions import Actions, Form
from headrace.fuse.exploration import Exploration
from headrace.fuse.policy import Act, FusionPolicy
from headrace.fuse.state import Floats32, Past, State
from headrace.journeys.memory import Memory
from headrace.journeys.seams import Floats, History
from headrace.journeys.statistics import Statistic
from headrace.simulate import draws
from headrace.simulate.draws import Purpose
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_policies import Action, box, rollout
from headrace.simulate.feed_requests import FeedOutcomes, Requests
from headrace.simulate.feed_schema import BEFORE, categories, schema, step_columns
from headrace.simulate.feed_value import FeedValue
from headrace.simulate.scenario import Scenario


class FeedMemory:
    """The histories of a world's users, kept as a service would."""

    def __init__(self, world: FeedWorld, steps: int, statistics: tuple[Statistic, ...] | None = None):
        """`steps`: how far back states look; `statistics` None: the default ones, as states have."""
        self.world = world
        named = {name.split("/", 1)[1]: values for name, values in categories(world.scenario).items()}
        features: dict[str, Any] = dict(world.own.features)
        self.memory = Memory(schema(world.scenario), len(world.users), 1, features, statistics, named)
        self.past = Past(len(world.users), steps)
        self._sums: dict[str, Floats] = {}  # of the users in turn
        self._days = 0  # whose return has been told
        self._steps: list[tuple[int, NDArray[np.int64], Floats]] = []  # day, rows, times

    def look(self, requests: Requests) -> History:
        """What is known of the users in turn, one step each; to be called once before each step is recorded."""
        self._tell_returns()
        rows = requests.context["row"]
        context = {"time": requests.context["time"]} | {n: requests.context[n].astype(np.float64) for n in BEFORE}
        held = self.memory.histories(rows, context)
        self._sums = {name: values[:, -1] for name, values in held.so_far.items()}
        return held

    def states(self, requests: Requests, state: State) -> Floats32:
        """(A, S) the states of the users in turn."""
        return state.of_histories(self.look(requests), self.past, requests.context["row"])

    def record(self, requests: Requests, outcomes: FeedOutcomes) -> None:
        """Append the step; whether the user comes back tomorrow is not known yet."""
        context = requests.context
        steps = step_columns(self.world, context, outcomes)
        steps["returned"] = np.full(len(requests), np.nan)
        self.memory.append(context["row"], steps)
        self.past.append(context["row"], self._sums)
        self._steps.append((int(context["day"][0]), context["row"], context["time"]))

    def _tell_returns(self) -> None:
        while self._days < len(self.world.returned):
            came, at = self.world.returned[self._days]
            for day, rows, time in self._steps:
                if day == self._days:
                    none = np.zeros(len(rows), dtype=np.int64)
                    self.memory.outcomes(rows, "returned", came[rows].astype(float), at[rows], time, none)
            self._days += 1
            self._steps = [step for step in self._steps if step[0] >= self._days]


class Rewards:
    """What each user's sessions brought of a reward, discounted from their starts: what off-policy values estimate."""

    def __init__(self, world: FeedWorld, weights: dict[str, float], gamma: float):
        """`weights`: of the log's gains."""
        self.world, self.weights, self.gamma = world, weights, gamma
        self._sums = np.zeros(len(world.users))
        self._discounts = np.zeros((world.days, len(world.users)))  # a day's, for what is known at its end

    def record(self, requests: Requests, outcomes: FeedOutcomes) -> None:
        brought = step_columns(self.world, requests.context, outcomes)
        rows, day = requests.context["row"], requests.context["day"]
        discount = self.gamma ** requests.context["request"].astype(np.float64)
        self._discounts[day, rows] += discount
        for name, weight in self.weights.items():
            if name != "returned":
                self._sums[rows] += weight * discount * brought[name]

    @property
    def total(self) -> Floats:
        """(N,) once all days have passed."""
        came = np.stack([came for came, _ in self.world.returned])
        later: Floats = self.weights.get("returned", 0.0) * (self._discounts * came).sum(axis=0)
        return self._sums + later


class Served:
    """A fusion policy as a feed policy of any world, exploring or not. `policy` may be exchanged between days."""

    def __init__(self, policy: FusionPolicy, exploration: Exploration | None = None):
        self.policy, self.exploration = policy, exploration
        self.memory: FeedMemory | None = None

    def __call__(self, requests: Requests) -> Action:
        if self.memory is None or self.memory.world is not requests.world:
            self.memory = FeedMemory(requests.world, self.policy.state.steps)
        return explored(requests, self.policy.weights_of(self.memory.states(requests, self.policy.state)), self)

    def record(self, requests: Requests, outcomes: FeedOutcomes) -> None:
        assert self.memory is not None  # it acted before
        self.memory.record(requests, outcomes)

    @property
    def space(self) -> Actions:
        return self.policy.space


@dataclass(frozen=True, slots=True)
class Fixed:
    """One set of weights for everybody: no memory is kept."""

    weights: Floats  # (K,)
    space: Actions
    exploration: Exploration | None = None

    def __call__(self, requests: Requests) -> Action:
        return explored(requests, np.broadcast_to(self.weights, (len(requests), len(self.weights))), self)


def explored(requests: Requests, weights: Floats, by: Any) -> Action:
    """The weights (A, K), or what exploration draws around them, with the log of its density."""
    if by.exploration is None:
        return Action(weights)
    world = requests.world
    luck = draws.uniform(world.keys[world.turn], world.day, world.number, Purpose.ACTION, weights.shape[1])
    low, high = np.array(by.space.low), np.array(by.space.high)
    made = by.exploration.draw(requests.context["user"], weights, luck, low, high)
    return Action(
        made.action,
        made.log_propensity,
        made.mean,
        np.broadcast_to(low, weights.shape),
        np.broadcast_to(high, weights.shape),
    )


def world_box(scenario: Scenario, form: Form = "box") -> Actions:
    """The space of a scenario's fusion weights."""
    low, high = box(scenario.feed_task)
    return Actions(tuple(low.tolist()), tuple(high.tolist()), form)


def together(
    scenario: Scenario,
    policies: Sequence[Act],
    users: NDArray[np.int64],
    days: int,
    seed: int,
    space: Actions,
    state: State | None = None,
    reward: dict[str, float] | None = None,
    gamma: float = 1.0,
) -> list[FeedValue]:
    """What each policy is worth to the same users with the same luck, all in one world; `state` None: none is read.

    With `reward`, weights of gains, its discounted sums over sessions are told, too: figure `reward_per_session`. Far
    quicker than a world each, and equal to it: a user's course does not depend on who else is there.
    """
    if space.form == "simplex":
        raise UserError("actions on a simplex weigh oriented scores, the world's own fusion does not; use box or unit")
    world = FeedWorld(scenario, np.tile(users, len(policies)), seed, days)
    member = np.repeat(np.arange(len(policies)), len(users))
    memory = None if state is None else FeedMemory(world, state.steps)
    rewards = None if reward is None else Rewards(world, reward, gamma)

    def act(requests: Requests) -> Floats:
        rows = requests.context["row"]
        seen: Floats32 = np.zeros((len(rows), 0), dtype=np.float32)
        if memory is not None and state is not None:
            seen = memory.states(requests, state)
        scaled = np.zeros((len(rows), space.size))
        for m in np.unique(member[rows]):
            at = member[rows] == m
            scaled[at] = policies[m](seen[at])
        return space.weights(scaled)

    for step in rollout(world, act):
        if memory is not None:
            memory.record(step.requests, step.outcomes)
        if rewards is not None:
            rewards.record(step.requests, step.outcomes)
    totals = world.totals if rewards is None else world.totals | {"reward": rewards.total}
    parts = {name: total.reshape(len(policies), -1) for name, total in totals.items()}
    return [
        FeedValue(str(m), days, {name: total[m] for name, total in parts.items()}, seed) for m in range(len(policies))
    ]


@dataclass(frozen=True, slots=True)
class WorldObjective:
    """What searches optimise in the world: dwell time per user and day, all members on the same users and luck."""

    scenario: Scenario
    users: NDArray[np.int64]  # their numbers
    days: int
    seed: int
    space: Actions
    state: State | None = None  # None: members that read no state, static weights
    figure: str = "dwell_time"

    def __call__(self, policies: Sequence[Act]) -> Floats:
        """(M,)."""
        found = together(self.scenario, policies, self.users, self.days, self.seed, self.space, self.state)
        return np.array([v[self.figure].value for v in found], dtype=np.float64)
