"""Multi-touch attribution: what share of the conversions each channel is credited with, and so of the budget.

    last, first, linear    all to the last touch; to the first; equally to every touch
    time decay             touches weighted by 2^(-age / half-life)
    Markov                 removal effect in the first-order chain start -> channels -> conversion or end (Anderl et al.
                           2016): the share of the conversion probability that is lost without the channel
    Shapley                the channels as players, v(S) = conversion rate of the paths whose channels all lie in S, v
                           of no channel 0 (after Dalessandro et al. 2012): over all channel sets up to EXACT channels,
                           above by random orders

A path is a user's touches up to a conversion, or after the last one to the end. These are descriptions of a log: a
channel that is shown to those who would have bought anyway is credited too.

P paths, n touches, M channels, S channel sets.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace.errors import UserError
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.store import Journeys

EXACT = 12  # channels up to which every set is valued
ORDERS = 4_000  # random orders above
HALF_LIFE_S = 7 * 86_400.0  # of a touch's weight, on a log with a clock in known units
HALF_LIFE_STEPS = 3.0  # on any other


@dataclass(frozen=True, slots=True)
class Paths:
    """Touches path by path; path i holds touches offsets[i] : offsets[i + 1], at least one."""

    channel: Integers  # (n,)
    offsets: Integers  # (P + 1,)
    value: Floats  # (P,) of its conversion; 0: none
    age: Floats  # (n,) before the path's last touch, in half-lives
    channels: int

    @property
    def path(self) -> Integers:
        """(n,) of each touch."""
        return np.repeat(np.arange(len(self.value)), np.diff(self.offsets))


def paths_of(journeys: Journeys, gain: str) -> Paths:
    """A log's paths: each step whose gain is above 0 ends one. Gains that are not known count as none."""
    value = np.nan_to_num(np.asarray(journeys.gain(gain), dtype=np.float64))
    last = np.zeros(journeys.n_steps, dtype=np.bool_)
    last[journeys.offsets[1:][np.diff(journeys.offsets) > 0] - 1] = True
    ends = np.flatnonzero(last | (value > 0))
    offsets = np.concatenate([[0], ends + 1])
    to_end = np.repeat(ends, np.diff(offsets))
    unit = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "datetime": 1e3}.get(journeys.schema.time_unit)
    time = journeys.time
    if time is None or unit is None:
        age = (to_end - np.arange(journeys.n_steps)) / HALF_LIFE_STEPS
    else:
        age = (time[to_end] - time) / (HALF_LIFE_S * unit)
    return Paths(np.asarray(journeys.channel, np.int64), offsets, value[ends], age, len(journeys.channels))


def last_touch(paths: Paths) -> Floats:
    return _shares(_credit(paths.channel[paths.offsets[1:] - 1], paths.value, paths.channels))


def first_touch(paths: Paths) -> Floats:
    return _shares(_credit(paths.channel[paths.offsets[:-1]], paths.value, paths.channels))


def linear(paths: Paths) -> Floats:
    return _weighted(paths, np.ones(len(paths.channel)))


def time_decay(paths: Paths) -> Floats:
    return _weighted(paths, 0.5**paths.age)


def markov(paths: Paths) -> Floats:
    """Removal effects, divided by their sum. Paths count by whether they converted, not by the value."""
    m = paths.channels
    start, won, lost = m, m + 1, m + 2
    first, end = paths.channel[paths.offsets[:-1]], paths.channel[paths.offsets[1:] - 1]
    inner = np.ones(len(paths.channel), dtype=np.bool_)
    inner[paths.offsets[:-1]] = False
    after = np.flatnonzero(inner)
    counts = np.zeros((m + 3, m + 3))
    np.add.at(counts, (np.full_like(first, start), first), 1.0)
    np.add.at(counts, (paths.channel[after - 1], paths.channel[after]), 1.0)
    np.add.at(counts, (end, np.where(paths.value > 0, won, lost)), 1.0)
    chain = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)

    def reached(without: int | None) -> float:
        """The probability to get from start to the conversion; a removed channel leads nowhere."""
        states = [s for s in range(m + 1) if s != without]
        inside = np.eye(len(states)) - chain[np.ix_(states, states)]
        found, *_ = np.linalg.lstsq(inside, chain[states, won], rcond=None)
        return float(found[-1])

    whole = reached(None)
    return _shares(np.array([whole - reached(channel) for channel in range(m)]))


def shapley(paths: Paths, seed: int = 0) -> Floats:
    """Shapley values of the conversion rate, divided by their sum; values below 0 count as 0."""
    sets = np.bitwise_or.reduceat(np.int64(1) << paths.channel, paths.offsets[:-1])  # (P,)
    kinds, of = np.unique(sets, return_inverse=True)
    count, converted = np.bincount(of), np.bincount(of, paths.value > 0)

    def rate(coalitions: Integers) -> Floats:
        """(S,) the conversion rate of the paths within each set."""
        within = (kinds & ~coalitions[:, None]) == 0  # (S, kinds)
        found: Floats = (within @ converted) / np.maximum(within @ count, 1)
        return found

    return _shares(np.maximum(shapley_values(rate, paths.channels, seed), 0.0))


def shapley_values(value: Callable[[Integers], Floats], players: int, seed: int = 0, exact: int = EXACT) -> Floats:
    """(players,) of a game given by the value of coalitions, bit sets (S,) -> (S,); sampled above `exact` players.

    >>> shapley_values(lambda s: 6.0 * (s == 3), 2).tolist()
    [3.0, 3.0]
    """
    bits = np.int64(1) << np.arange(players)
    if players <= exact:
        sets = np.arange(1 << players)
        worth = np.concatenate([value(part) for part in np.array_split(sets, -(-len(sets) // 512))])
        size = np.array([int(s).bit_count() for s in sets])
        weight = np.ones(players)  # of a coalition of each size: size! (players - size - 1)! / players!
        for k in range(players):
            weight[k] = 1 / (players * math.comb(players - 1, k))
        found = np.zeros(players)
        for player in range(players):
            without = sets[(sets & bits[player]) == 0]
            found[player] = (weight[size[without]] * (worth[without | bits[player]] - worth[without])).sum()
        return found
    rng = np.random.default_rng(seed)
    found = np.zeros(players)
    for _ in range(ORDERS):
        order = rng.permutation(players)
        worth = value(np.concatenate([[0], np.bitwise_or.accumulate(bits[order])]))
        found[order] += np.diff(worth)
    return found / ORDERS


MODELS: dict[str, Callable[[Paths], Floats]] = {
    "last-touch": last_touch,
    "first-touch": first_touch,
    "linear": linear,
    "time-decay": time_decay,
    "markov": markov,
    "shapley": shapley,
}


def attribute(journeys: Journeys, gain: str) -> dict[str, Floats]:
    """(M,) shares by every model; they add up to 1. UserError where nothing of the gain is in the log."""
    paths = paths_of(journeys, gain)
    if not (paths.value > 0).any():
        raise UserError(f"{journeys.path}: no step has {gain} above 0, so there is nothing to attribute")
    return {name: model(paths) for name, model in MODELS.items()}


def _weighted(paths: Paths, weight: Floats) -> Floats:
    of_path = np.add.reduceat(weight, paths.offsets[:-1])
    credit = weight * np.repeat(paths.value / of_path, np.diff(paths.offsets))
    return _shares(_credit(paths.channel, credit, paths.channels))


def _credit(channel: Integers, value: Floats, channels: int) -> Floats:
    return np.bincount(channel, value, channels).astype(np.float64)


def _shares(credit: Floats) -> Floats:
    total = credit.sum()
    return credit / total if total > 0 else np.full(len(credit), 1 / len(credit))
