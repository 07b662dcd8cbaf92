"""Feed policies by name, and the loop that lets any policy act in a world.

A policy is a callable: given the `Requests` of the A users in turn it returns fusion weights (A, 12), scores (A, C), or
an `Action` that also says how probable it was. One that keeps a memory has `record` as well.

    shuffle             the candidates in random order
    score:BEHAVIOUR     by one predicted score
    static              fixed fusion weights, set by hand
    random              fusion weights from a wide truncated normal around the middle of the box
    uniform             fusion weights uniform in the box
    explore             the static weights plus truncated normal noise
    groups              half of the users `random`, the other half `explore`
    greedy-click        by the true click probability: a reference that sees the truth and is myopic
    greedy-watch        by the true expected play time of the next item: likewise
    long-horizon        the searched references of feed_references.py, for scenarios that they were searched for:
    best-static         seeing the truth, one set of weights for everybody, weights per user
    per-user

Densities are exact: a normal truncated to the box has density  phi(z) / (s (Phi(high) - Phi(low)))  in each dimension.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.errors import UserError, unknown
from headrace.journeys.truncated import log_density, truncated_normal
from headrace.simulate import draws
from headrace.simulate.draws import Floats, Purpose
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_requests import FeedOutcomes, Requests
from headrace.simulate.feed_scenario import BEHAVIOURS, Feed
from headrace.simulate.items import Floats32
from headrace.simulate.scenario import Scenario

RANDOM_SPREAD = 0.5  # sd of `random`, in half widths of the box
EXPLORE_SPREAD = 0.1  # sd of `explore`, likewise
STATIC = {"play_time": 0.5, "positive": 0.3, "exit": -0.3}  # weights of `static`, in half widths; the others are 0
NAMES = (
    "shuffle",
    "score:BEHAVIOUR",
    "static",
    "random",
    "uniform",
    "explore",
    "groups",
    "greedy-click",
    "greedy-watch",
    "long-horizon",
    "best-static",
    "per-user",
)


@dataclass(frozen=True, slots=True)
class Action:
    """What a policy does for A requests: weights (A, 12) or scores (A, C), with the log of its probability (density).

    `log_propensity` None: the action was certain. `mean`, `low`, `high` (A, 12): of a density over a box.
    """

    values: NDArray[Any]
    log_propensity: Floats | None = None
    mean: Floats | None = None
    low: Floats | None = None
    high: Floats | None = None


FeedPolicy = Callable[[Requests], "ArrayLike | Action"]


@runtime_checkable
class Remembers(Protocol):
    """A policy that is told what came of its decisions, right after each step."""

    def record(self, requests: Requests, outcomes: FeedOutcomes) -> None: ...


@dataclass(frozen=True, slots=True)
class FeedStep:
    """One step of a rollout."""

    requests: Requests
    action: Action
    outcomes: FeedOutcomes
    session: NDArray[np.int64]  # (A,) the user's sessions before this one
    planes: Floats32 | None  # (12, A, C) the scores, where they were to be kept


def rollout(world: FeedWorld, policy: FeedPolicy, keep_scores: bool = False) -> Iterator[FeedStep]:
    """Let `policy` act until the world's days have passed."""
    while not world.done:
        requests = world.observe()
        session = world.session_number[world.turn]
        given = policy(requests)
        action = given if isinstance(given, Action) else Action(np.asarray(given))
        _check_propensity(action, len(requests))
        planes = world.score_planes() if keep_scores else None
        outcomes = world.step(action.values)
        if isinstance(policy, Remembers):
            policy.record(requests, outcomes)
        yield FeedStep(requests, action, outcomes, session, planes)


def _check_propensity(action: Action, requests: int) -> None:
    """Raise a UserError where the log of a probability or density of what was done can't be one."""
    if action.log_propensity is None:
        return
    given = np.asarray(action.log_propensity, dtype=np.float64)
    if given.shape != (requests,) or not np.isfinite(given).all():
        raise UserError(
            f"policy: log_propensity has the shape {given.shape} and {int((~np.isfinite(given)).sum())} values that "
            f"are not finite; expected ({requests},) finite ones, or None for a certain action"
        )


def named(name: str, scenario: Scenario) -> Callable[[FeedWorld], FeedPolicy]:
    """The policy of this name, to be bound to a world; raises UserError for an unknown one."""
    feed = scenario.feed_task
    low, high = box(feed)
    kind, _, behaviour = name.partition(":")
    if kind == "score":
        if behaviour not in BEHAVIOURS:
            raise unknown("behaviour", behaviour, BEHAVIOURS, "policy score:BEHAVIOUR")
        k = BEHAVIOURS.index(behaviour)
        sign = -1 if behaviour in ("hate", "exit") else 1
        return lambda world: lambda requests: sign * world.score_planes()[k]
    if name == "shuffle":
        return _shuffle
    if name == "static":
        return lambda world: lambda requests: np.broadcast_to(static_weights(feed), (len(requests), len(BEHAVIOURS)))
    if name == "random":
        return lambda world: BoxNormal(world, (low + high) / 2, RANDOM_SPREAD * (high - low) / 2)
    if name == "uniform":
        return lambda world: BoxNormal(world, (low + high) / 2, np.full(len(BEHAVIOURS), np.inf))
    if name == "explore":
        return lambda world: BoxNormal(world, static_weights(feed), EXPLORE_SPREAD * (high - low) / 2)
    if name == "groups":
        return _groups
    if name == "greedy-click":
        return lambda world: lambda requests: world.truth().click
    if name == "greedy-watch":
        return lambda world: lambda requests: world.truth().watch_s
    if name in ("long-horizon", "best-static", "per-user"):
        from headrace.simulate import feed_references as searched  # it builds on this module

        found = searched.load(scenario)
        if name == "long-horizon":
            return searched.latent(found.latent)
        return searched.static(found.static) if name == "best-static" else searched.per_user(found.per_user)
    raise unknown("policy", name, NAMES)


def box(feed: Feed) -> tuple[Floats, Floats]:
    """The bounds of the fusion weights, (12,) each."""
    return np.array([p.low for p in feed.predictions]), np.array([p.high for p in feed.predictions])


def static_weights(feed: Feed) -> Floats:
    """The hand-set fusion weights, (12,), within the box."""
    low, high = box(feed)
    wished = np.array([STATIC.get(name, 0.0) for name in BEHAVIOURS])
    return np.asarray(np.clip((low + high) / 2 + wished * (high - low) / 2, low, high))


class BoxNormal:
    """Fusion weights from independent normals around `mean`, truncated to the scenario's box; sd inf: uniform.

    `mean`: (12,), or a callable that gives (A, 12) for requests. The same user, day and request draw the same luck.
    """

    def __init__(self, world: FeedWorld, mean: ArrayLike | Callable[[Requests], Floats], spread: ArrayLike):
        self.world, self.mean = world, mean
        self.low, self.high = box(world.feed)
        self.spread = np.broadcast_to(np.asarray(spread, dtype=np.float64), self.low.shape)
        if not (self.spread > 0).all():
            raise UserError(
                f"policy: spreads {self.spread.tolist()}; expected numbers above 0, without noise no density"
            )

    def __call__(self, requests: Requests) -> Action:
        a, world = len(requests), self.world
        given = self.mean(requests) if callable(self.mean) else self.mean
        mean = np.broadcast_to(np.asarray(given, dtype=np.float64), (a, len(self.low)))
        low, high = (np.broadcast_to(edge, mean.shape) for edge in (self.low, self.high))
        luck = draws.uniform(world.keys[world.turn], world.day, world.number, Purpose.ACTION, len(self.low))
        weights = truncated_normal(luck, mean, self.spread, low, high)
        return Action(weights, log_density(weights, mean, self.spread, low, high), mean, low, high)


def _shuffle(world: FeedWorld) -> FeedPolicy:
    feed = world.feed
    orders = -sum(math.log(feed.candidates - position) for position in range(feed.shown))

    def act(requests: Requests) -> Action:
        luck = draws.uniform(world.keys[world.turn], world.day, world.number, Purpose.ACTION, feed.candidates)
        return Action(luck, np.full(len(requests), orders))

    return act


def _groups(world: FeedWorld) -> FeedPolicy:
    low, high = box(world.feed)
    half = (high - low) / 2
    wide = draws.uniform(world.keys, 0, 0, Purpose.LOGGING) < 0.5
    parts = [
        BoxNormal(world, static_weights(world.feed), EXPLORE_SPREAD * half),
        BoxNormal(world, low + half, RANDOM_SPREAD * half),
    ]

    def act(requests: Requests) -> Action:
        first, second = (part(requests) for part in parts)
        at = wide[world.turn]
        pick = at[:, None]
        assert first.mean is not None and second.mean is not None
        assert first.log_propensity is not None and second.log_propensity is not None
        return Action(
            np.where(pick, second.values, first.values),
            np.where(at, second.log_propensity, first.log_propensity),
            np.where(pick, second.mean, first.mean),
            first.low,
            first.high,
        )

    return act
