"""Reference policies of the feed: what is to be had with the truth, with one set of weights, with a set per user.

    latent      scores each candidate by a linear rule over the true latent state: the long-horizon reference
    static      one set of fusion weights for everybody
    per_user    fusion weights that are a linear function of the user's true latent traits and mood

What was found for a packaged scenario stands in references/SCENARIO.toml, with the digest of the scenario it holds for.
Parameters are searched by the cross-entropy method on some users and seeds and valued on fresh ones. All members
of a generation act in one world at once, each on its own copy of the same users, with the same luck.

P members of a generation, D parameters, n users each, A requests, C candidates, F features of a user.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.simulate.draws import Floats
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_policies import FeedPolicy, box, rollout, static_weights
from headrace.simulate.feed_requests import Requests
from headrace.simulate.feed_scenario import BEHAVIOURS
from headrace.simulate.scenario import Scenario

LATENT_TERMS = ("log watch", "enjoyment", "fickle x enjoyment", "fatigue", "mood x enjoyment", "click")
USER_TERMS = ("sensitive", "fickle", "patience", "mood")
GROUPS = {  # weights that `per_user` moves together
    "click": ("click",),
    "watch": ("play_time", "long_view"),
    "finish": ("finish_rate",),
    "like": ("like", "follow", "share", "comment", "profile_visit", "positive"),
    "leave": ("hate", "exit"),
}
MYOPIC = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # of `latent`, that rank by the next item's expected play time alone


def latent_scores(world: FeedWorld, parameters: Floats) -> Floats:
    """(A, C) scores under parameters (A, D) over LATENT_TERMS, all true."""
    truth, turn = world.truth(), world.turn
    joy = truth.expected_enjoyment
    fickle, mood = world.fickle_factor[turn][:, None] - 1, world.mood[turn][:, None]
    p = parameters.T[:, :, None]
    score = p[0] * np.log(truth.watch_s) + (p[1] + p[2] * fickle + p[4] * mood) * joy
    return np.asarray(score - p[3] * truth.fatigue + p[5] * np.log(truth.click))


def user_terms(world: FeedWorld) -> Floats:
    """(A, F) what `per_user` sees of the users in turn: their true latent traits and state."""
    turn = world.turn
    return np.stack(
        [world.trap_factor[turn] - 1, world.fickle_factor[turn] - 1, world.own.patience[turn], world.mood[turn]], axis=1
    )


def per_user_weights(world: FeedWorld, parameters: Floats) -> Floats:
    """(A, 12) weights under parameters (A, 12 + F x G): a start, and what USER_TERMS move GROUPS by; cut to the box."""
    start, moves = parameters[:, : len(BEHAVIOURS)], parameters[:, len(BEHAVIOURS) :]
    theta = moves.reshape(len(parameters), len(USER_TERMS), len(GROUPS))
    group = np.array([[name in members for name in BEHAVIOURS] for members in GROUPS.values()], dtype=np.float64)
    low, high = box(world.feed)
    moved = np.einsum("af,afg->ag", user_terms(world), theta)
    return np.asarray(np.clip(start + moved @ group, low, high))


def latent(parameters: Floats) -> Callable[[FeedWorld], FeedPolicy]:
    """The policy that scores by these parameters (D,) over LATENT_TERMS."""
    return lambda world: lambda requests: latent_scores(world, _alike(parameters, requests))


def static(weights: Floats) -> Callable[[FeedWorld], FeedPolicy]:
    """The policy that gives everybody these fusion weights (12,)."""
    return lambda world: lambda requests: _alike(weights, requests)


def per_user(parameters: Floats) -> Callable[[FeedWorld], FeedPolicy]:
    """The policy that gives each user weights by these parameters (12 + F x G,)."""
    return lambda world: lambda requests: per_user_weights(world, _alike(parameters, requests))


@dataclass(frozen=True, slots=True)
class Search:
    """How a reference is searched."""

    users: int = 300  # n, fresh ones in each generation
    first_user: int = 1_000_000  # they are numbered from here, so that the users of a valuation stay fresh
    days: int = 3
    generations: int = 15
    members: int = 40  # P
    elite: float = 0.25  # share that the next generation is drawn around
    smooth: float = 0.7  # share of the new mean and sd
    seed: int = 0
    figure: str = "dwell_s"  # the total to make large


@dataclass(frozen=True, slots=True)
class Found:
    """A searched reference: its parameters (D,), and the mean figure per user and day of each generation's elite."""

    parameters: Floats
    history: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class References:
    """The searched parameters of the three, (D,) each."""

    latent: Floats
    static: Floats
    per_user: Floats


def load(scenario: Scenario) -> References:
    """What was found for this very scenario; raises UserError where nothing was."""
    for entry in (resources.files("headrace.simulate") / "references").iterdir():
        if entry.name.endswith(".toml"):
            values = tomllib.loads(entry.read_text(encoding="utf-8"))
            if values["scenario_sha256"] == scenario.sha256:
                return References(*(np.array(values[name]) for name in ("latent", "static", "per_user")))
    raise UserError(
        f"scenario {scenario.name}: its references were not searched for in these numbers; "
        "search them with headrace.simulate.feed_references.search"
    )


def search(scenario: Scenario, settings: "Search") -> References:
    """All three, with the same budget each but the latent one, which needs fewer."""
    fixed = search_static(scenario, settings).parameters
    moved = search_per_user(scenario, replace(settings, seed=settings.seed + 1), fixed).parameters
    return References(search_latent(scenario, settings).parameters, fixed, moved)


Act = Callable[[FeedWorld, Floats], NDArray[Any]]


def search_latent(scenario: Scenario, settings: Search, start: Floats | None = None) -> Found:
    """The long-horizon reference: CEM over a policy that sees the true latent state."""
    first = np.array(MYOPIC) if start is None else start
    return cem(scenario, latent_scores, first, np.full(len(first), 0.7), settings)


def search_static(scenario: Scenario, settings: Search) -> Found:
    """The best static weights: CEM over 12 numbers in the box."""
    low, high = box(scenario.feed_task)

    def weights(world: FeedWorld, parameters: Floats) -> Floats:
        return np.asarray(np.clip(parameters, low, high))

    found = cem(scenario, weights, static_weights(scenario.feed_task), (high - low) / 4, settings)
    return Found(np.clip(found.parameters, low, high), found.history)


def search_per_user(scenario: Scenario, settings: Search, start: Floats) -> Found:
    """Weights as a function of the user's true state: CEM around static weights `start` (12,)."""
    moves = len(USER_TERMS) * len(GROUPS)
    start = 0.6 * start  # ranks as before, and leaves room in the box
    low, high = box(scenario.feed_task)
    spread = np.concatenate([np.full(len(start), 1e-3), np.full(moves, float((high - low).mean()) / 8)])
    return cem(scenario, per_user_weights, np.concatenate([start, np.zeros(moves)]), spread, settings)


def cem(scenario: Scenario, act: Act, mean: Floats, spread: Floats, settings: Search) -> Found:
    """Cross-entropy search: parameters are drawn around a mean, the best ones move it.

    `act(world, parameters)`: weights or scores for the users in turn under parameters (A, D).
    """
    rng = np.random.default_rng(settings.seed)
    best, history = max(2, round(settings.elite * settings.members)), []
    floor = 0.02 * spread
    for generation in range(settings.generations):
        members = mean + spread * rng.standard_normal((settings.members, len(mean)))
        members[0] = mean
        first = settings.first_user + generation * settings.users
        values = members_values(scenario, act, members, np.arange(first, first + settings.users), settings)
        elite = members[np.argsort(-values, kind="stable")[:best]]
        mean = (1 - settings.smooth) * mean + settings.smooth * elite.mean(axis=0)
        spread = np.maximum((1 - settings.smooth) * spread + settings.smooth * elite.std(axis=0), floor)
        history.append(float(np.sort(values)[-best:].mean()))
    return Found(mean, tuple(history))


def members_values(scenario: Scenario, act: Act, members: Floats, users: NDArray[np.int64], settings: Search) -> Floats:
    """(P,) the figure per user and day of each member (P, D), all on the same users."""
    world = FeedWorld(scenario, np.tile(users, len(members)), settings.seed, settings.days)
    member = np.repeat(np.arange(len(members)), len(users))
    for _ in rollout(world, lambda requests: act(world, members[member[requests.context["row"]]])):
        pass
    figure = world.totals[settings.figure]
    return np.asarray(figure.reshape(len(members), len(users)).mean(axis=1) / settings.days)


def _alike(parameters: Floats, requests: Requests) -> Floats:
    return np.broadcast_to(parameters, (len(requests), len(parameters)))
