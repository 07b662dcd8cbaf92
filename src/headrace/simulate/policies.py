"""Advertising policies by name, and the loop that lets any policy act in a world.

A policy is a callable: given what `AdsWorld.observe` shows of the A users in turn, it returns (A, M) probabilities of
the channels; what a row lacks to 1 is the probability of no advert. One that keeps a memory has `record` as well.

    uniform             every channel alike
    logged              what the log did that the scenario was fitted to: channel shares, preferences, repetition
    logging             softmax over noisy true click logits, mixed with uniform: informative, every channel possible
    constant:CHANNEL    always this channel
    none                no advert, ever
    greedy-click        the channel with the highest true click rate: a reference that sees the latent state
    greedy-profit       the channel with the highest true revenue less cost, no advert where that is negative
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, softmax

from headrace.errors import UserError, unknown
from headrace.simulate import draws
from headrace.simulate.ads import NO_AD, AdsWorld, Context, Integers, Outcomes
from headrace.simulate.draws import Floats, Purpose
from headrace.simulate.scenario import Scenario

LOGGING_NOISE = 0.7  # sd of the error of the logging policy's click logits, per user and channel
LOGGING_SHARPNESS = 1.2  # its softmax is over this times the logits
LOGGING_FLOOR = 0.15  # share of its exposures given to all channels alike

AdPolicy = Callable[[Context], Floats]
NAMES = ("uniform", "logged", "logging", "constant:CHANNEL", "none", "greedy-click", "greedy-profit")


@runtime_checkable
class Remembers(Protocol):
    """A policy that is told what came of its decisions, right after each step."""

    def record(self, context: Context, outcomes: Outcomes) -> None: ...


@runtime_checkable
class Binds(Protocol):
    """A policy that must know the world it acts in: to see the truth, or to keep a memory of its users.

    `together` says that its users share something (a budget), so that all of them must stand in one world.
    """

    @property
    def together(self) -> bool: ...

    def bind(self, world: AdsWorld) -> AdPolicy: ...


Acting = str | AdPolicy | Binds  # a name, a callable, or what is to be bound to each world first


@dataclass(frozen=True, slots=True)
class Exposures:
    """One step of a rollout: what was seen of A users, what was chosen how probably, what came of it."""

    context: Context
    propensity: Floats  # (A,) of the channel chosen, or of no advert
    outcomes: Outcomes


def rollout(world: AdsWorld, policy: AdPolicy) -> Iterator[Exposures]:
    """Let `policy` act until the world's days have passed."""
    while not world.done:
        context = world.observe()
        channel, propensity = choose(world, context, policy(context))
        outcomes = world.step(channel)
        if isinstance(policy, Remembers):
            policy.record(context, outcomes)
        yield Exposures(context, propensity, outcomes)


def binding(policy: Acting, scenario: Scenario) -> tuple[Callable[[AdsWorld], AdPolicy], bool]:
    """What binds `policy` to a world, and whether all users must stand in one world."""
    if isinstance(policy, str):
        return named(policy, scenario), False
    if isinstance(policy, Binds):
        return policy.bind, policy.together
    return lambda world: policy, True


def name_of(policy: Acting) -> str:
    """How a policy is called in notes and tables."""
    return policy if isinstance(policy, str) else str(getattr(policy, "name", type(policy).__name__))


def choose(world: AdsWorld, context: Context, probabilities: Floats) -> tuple[Integers, Floats]:
    """Channels drawn from `probabilities` (A, M), -1 for none, and their propensities (A,).

    Raises UserError where a row is not a distribution.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    expected = (len(context["row"]), len(world.scenario.channels))
    if p.shape != expected:
        raise UserError(
            f"policy: probabilities have the shape {p.shape}, expected {expected}: users in turn x channels"
        )
    return draw(p, context["user"], world.keys[context["row"]], world.day, world.slot)


def draw(p: Floats, users: NDArray[Any], keys: draws.Keys, day: int, slot: int) -> tuple[Integers, Floats]:
    """The same for users of these names and keys, (A,) each, at a slot of a day: nothing else decides their luck."""
    total = p.sum(axis=1)
    wrong = np.flatnonzero(~((p >= 0).all(axis=1) & (total <= 1 + 1e-9)))
    if len(wrong):
        row = wrong[0]
        raise UserError(
            f"policy: probabilities of {len(wrong)} users are no distribution, first user {users[row]}: "
            f"{p[row].tolist()}; expected values of 0 or more that sum to at most 1"
        )
    luck = draws.uniform(keys, day, slot, Purpose.ACTION)
    channel = draws.categorical(luck, np.cumsum(p, axis=1))
    beyond = np.flatnonzero(channel == p.shape[1])
    if len(beyond):  # no advert, or a sum that rounding left short of 1
        last = p.shape[1] - 1 - np.argmax(p[beyond, ::-1] > 0, axis=1)
        channel[beyond] = np.where(total[beyond] < 1 - 1e-9, NO_AD, last)
    taken = np.take_along_axis(p, np.maximum(channel, 0)[:, None], axis=1)[:, 0]
    return channel, np.where(channel == NO_AD, 1 - total, taken)


def named(name: str, scenario: Scenario) -> Callable[[AdsWorld], AdPolicy]:
    """The policy of this name, to be bound to a world; raises UserError for an unknown one."""
    m = len(scenario.channels)
    kind, _, channel = name.partition(":")
    if kind == "constant":
        alike = np.eye(m)[scenario.channel(channel)]
    elif name == "uniform":
        alike = np.full(m, 1 / m)
    elif name == "none":
        alike = np.zeros(m)
    elif name == "logged":
        return _Logged
    elif name == "logging":
        return _logging
    elif name == "greedy-click":
        return lambda world: lambda context: _best(world.true_rates().click)
    elif name == "greedy-profit":
        return _greedy_profit
    else:
        raise unknown("policy", name, NAMES)
    return lambda world: lambda context: np.broadcast_to(alike, (len(context["row"]), m))


def _logging(world: AdsWorld) -> AdPolicy:
    m = len(world.scenario.channels)
    noise = LOGGING_NOISE * draws.normal(world.keys, 0, 0, Purpose.LOGGING, m)

    def probabilities(context: Context) -> Floats:
        believed = logit(world.true_rates().click) + noise[context["row"]]
        return np.asarray(LOGGING_FLOOR / m + (1 - LOGGING_FLOOR) * softmax(LOGGING_SHARPNESS * believed, axis=1))

    return probabilities


class _Logged:
    """p(m) = repeat [m is the last channel] + (1 - repeat) likes(m), likes = softmax(log shares + preference).

    A user's first advert follows `likes` alone.
    """

    def __init__(self, world: AdsWorld):
        self._habits = world.scenario.ads.logging
        m = len(world.scenario.channels)
        shares = np.array(self._habits.shares or np.ones(m))
        preference = self._habits.preference_spread * draws.normal(world.keys, 0, 0, Purpose.LOGGING, m)
        self._likes = softmax(np.log(shares) + preference, axis=1)
        self._last = np.full(len(world.users), NO_AD)

    def __call__(self, context: Context) -> Floats:
        likes, last = self._likes[context["row"]], self._last[context["row"]]
        again = np.where(last >= 0, self._habits.repeat, 0.0)[:, None]
        return np.asarray(again * np.eye(likes.shape[1])[last] + (1 - again) * likes)

    def record(self, context: Context, outcomes: Outcomes) -> None:
        shown = outcomes.channel != NO_AD
        self._last[context["row"][shown]] = outcomes.channel[shown]


def _greedy_profit(world: AdsWorld) -> AdPolicy:
    def probabilities(context: Context) -> Floats:
        rates = world.true_rates()
        profit = rates.revenue - rates.cost
        return np.asarray(_best(profit) * (profit.max(axis=1, keepdims=True) > 0))

    return probabilities


def _best(scores: Floats) -> Floats:
    return np.asarray(np.eye(scores.shape[1])[np.argmax(scores, axis=1)])
