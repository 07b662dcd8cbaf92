"""Exploration online: who gets which kind, what is drawn, and its exact log density (Zhang et al. 2022, 3.3).

    random         a wide normal around the middle of the box, no knowledge used
    action-noise   pi(s) plus a narrow normal                                          (8)
    mixed          one group of users random, the other action-noise
    bounded        uniform in a band about pi(s), the same for everybody

Normals are cut to the box: clipping a draw would pile up mass at the edges, where no density is. The paper's
N(0, .1) leaves open whether .1 is a variance; here it is a standard deviation, in half widths of the box. A user's
group follows from a hash of its id, so that it stays; the groups' sessions differ in number, so `balanced` takes
equally many of each for training.

A requests, n rows, K weights.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from headrace.errors import UserError, unknown
from headrace.journeys.seams import Bools, Decisions, Floats, Integers
from headrace.journeys.store import Array, Journeys
from headrace.journeys.truncated import log_density, truncated_normal

Kind = Literal["random", "action-noise", "mixed", "bounded"]


@dataclass(frozen=True, slots=True)
class Exploration:
    """How widely is explored; standard deviations in half widths of the box."""

    kind: Kind = "mixed"
    random_sd: float = 0.5
    noise_sd: float = 0.1
    band: float = 0.2  # of `bounded`, to either side
    seed: int = 0  # of the users' groups

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown("exploration", self.kind, get_args(Kind))
        if min(self.random_sd, self.noise_sd, self.band) <= 0:
            raise UserError(
                "exploration: standard deviations or a band of 0 or less; without noise there is no density"
            )

    def is_random(self, users: Array) -> Bools:
        """(A,) whether these users (their ids) are in the random group."""
        if self.kind == "mixed":
            return group(users, self.seed) < 0.5
        return np.full(len(users), self.kind == "random")

    def draw(self, users: Array, policy: Floats, luck: Floats, low: Floats, high: Floats) -> Decisions:
        """Weights of A users explored around the policy's (A, K), by uniforms `luck` (A, K), with their log density."""
        half = (high - low) / 2
        if self.kind == "bounded":
            mean = np.clip(policy, low, high)
            least, most = np.maximum(mean - self.band * half, low), np.minimum(mean + self.band * half, high)
            density = -np.log(most - least).sum(axis=1)
            return Decisions(least + luck * (most - least), density, mean, (low, high))
        wide = self.is_random(users)[:, None]
        mean = np.where(wide, (low + high) / 2, np.clip(policy, low, high))
        spread = np.where(wide, self.random_sd, self.noise_sd) * half
        box = np.broadcast_to(low, mean.shape), np.broadcast_to(high, mean.shape)
        weights = truncated_normal(luck, mean, spread, *box)
        return Decisions(weights, log_density(weights, mean, spread, *box), mean, (low, high))


def group(users: Array, seed: int = 0) -> Floats:
    """(A,) a number in [0, 1) for each user id, the same wherever it is asked."""
    digests = (hashlib.blake2b(f"{seed}:explore:{u}".encode(), digest_size=8).digest() for u in users.tolist())
    bits = np.frombuffer(b"".join(digests), dtype="<u8")
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def balanced(journeys: Journeys, rows: Integers, is_random: Bools, seed: int = 0) -> Integers:
    """The rows of equally many sessions of both groups, drawn at random from the larger one; `is_random` is by user."""
    users, session = journeys.users_of(rows), journeys.column("session")[rows]
    first = np.append(True, (users[1:] != users[:-1]) | (session[1:] != session[:-1]))
    number = np.cumsum(first) - 1
    of_random = is_random[users[first]]
    parts = [np.flatnonzero(of_random), np.flatnonzero(~of_random)]
    least = min(len(part) for part in parts)
    if least == 0:
        raise UserError(f"{journeys.path}: one of the two groups of exploration has no session; log more users")
    chance = np.random.default_rng([seed, 5])
    kept = np.zeros(len(of_random), dtype=np.bool_)
    for part in parts:
        kept[chance.choice(part, least, replace=False)] = True
    chosen: Integers = rows[kept[number]]
    return chosen
