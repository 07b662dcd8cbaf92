"""Random numbers that are a pure function of (seed, user, day, request, purpose): no state, no order of calls.

A draw is a 64-bit hash (the splitmix64 finaliser) of a key per user and a word that packs day, request, purpose and
index. So a user's luck is the same whoever else is simulated, and two policies meet the same luck in the same place.

N users, W values wanted for each (one a topic, one a channel).
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

_ALL = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Purpose(IntEnum):
    """What a draw decides. Numbers are part of every simulated log: add new ones, never renumber."""

    ACTIVITY = 0
    TASTE = 1
    INTENT = 2
    SPEND = 3
    CLICKINESS = 4
    SENSITIVITY = 5
    CAPACITY = 6
    FEATURE = 7
    LAST_VISIT = 8
    VISIT = 9
    EXPOSURES = 10
    DRIFT = 11
    HOUR = 12
    PLACEMENT = 13
    ACTION = 14
    CREATIVE = 15
    CLICK = 16
    COST = 23
    CONVERSION = 17
    DELAY = 18
    VALUE = 19
    ORGANIC = 20
    ORGANIC_VALUE = 21
    LOGGING = 22
    # 32-63: the feed
    ITEM_TOPIC = 32
    ITEM_QUALITY = 33
    ITEM_DURATION = 34
    HABIT = 35
    PATIENCE = 36
    TRAP = 37
    SOCIAL = 38
    FEED_FEATURE = 39
    SESSIONS = 40
    CANDIDATES = 41
    PREDICTION = 42
    FEED_CLICK = 43
    WATCH = 44
    REACTION = 45
    LEAVE = 46
    FICKLE = 47
    # 64-: campaigns
    HOLD_OUT = 64


def user_keys(seed: int, users: ArrayLike) -> Keys:
    """One key per user, (N,), from the seed and the users' own numbers."""
    base = _mix_word((seed & _ALL) + _GOLDEN)
    numbers = np.array(users, dtype=np.uint64, ndmin=1)
    return _mix(_mix(numbers * np.uint64(_GOLDEN) ^ np.uint64(base)) + np.uint64(base))


def bits(keys: Keys, day: int, request: int, purpose: int, width: int | None = None) -> Keys:
    """64 random bits per user: (N,), or (N, W) for `width` W. Day < 2^32, request < 2^16, purpose < 2^8, W <= 2^8."""
    if not (0 <= day < 1 << 32 and 0 <= request < 1 << 16 and (width is None or width <= 256)):
        raise ValueError(f"day {day}, request {request}, width {width}: beyond these draws would repeat others")
    word = (day << 32) | (request << 16) | (int(purpose) << 8)
    if width is None:
        return _mix(keys ^ np.uint64(_mix_word(word + _GOLDEN)))
    words = np.array([_mix_word((word | index) + _GOLDEN) for index in range(width)], dtype=np.uint64)
    return _mix(keys[:, None] ^ words)


def uniform(keys: Keys, day: int, request: int, purpose: int, width: int | None = None) -> Floats:
    """Uniforms of the open interval (0, 1), (N,) or (N, W).

    >>> many = uniform(user_keys(1, range(1000)), day=3, request=0, purpose=Purpose.CLICK)
    >>> alone = uniform(user_keys(1, [17]), day=3, request=0, purpose=Purpose.CLICK)
    >>> bool(alone[0] == many[17])
    True
    """
    fraction = (bits(keys, day, request, purpose, width) >> np.uint64(12)).astype(np.float64)
    fraction += 0.5
    fraction *= 2.0**-52
    return fraction


def normal(keys: Keys, day: int, request: int, purpose: int, width: int | None = None) -> Floats:
    """Standard normals, (N,) or (N, W), by the inverse distribution function (so monotone in the uniform)."""
    return np.asarray(ndtri(uniform(keys, day, request, purpose, width)))


def rehash(words: Keys, index: int) -> Keys:
    """64 fresh random bits for each of `words`, of any shape; another index gives others."""
    return _mix(words ^ np.uint64(_mix_word(index + _GOLDEN)))


def categorical(uniforms: Floats, cumulative: Floats) -> NDArray[np.int64]:
    """The category whose stretch of the cumulative distribution holds each uniform.

    uniforms (N,); cumulative (C,) shared or (N, C); a last entry short of 1 gives what is left to category C.

    >>> categorical(np.array([0.1, 0.5, 0.95]), np.array([0.2, 0.9])).tolist()
    [0, 1, 2]
    """
    if cumulative.ndim == 1:
        return np.searchsorted(cumulative, uniforms, side="right").astype(np.int64)
    found = np.zeros(len(uniforms), dtype=np.int64)
    for edge in cumulative.T:
        found += uniforms >= edge
    return found


def cumulative(weights: ArrayLike) -> Floats:
    """The cumulative distribution of weights along the last axis, its last entry exactly 1."""
    weights = np.asarray(weights, dtype=np.float64)
    total = np.cumsum(weights / weights.sum(axis=-1, keepdims=True), axis=-1)
    total[..., -1] = 1.0
    return total


def _mix(x: Keys) -> Keys:
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(_FIRST)
    x ^= x >> np.uint64(27)
    x *= np.uint64(_SECOND)
    x ^= x >> np.uint64(31)
    return x


def _mix_word(x: int) -> int:
    x &= _ALL
    x = ((x ^ (x >> 30)) * _FIRST) & _ALL
    x = ((x ^ (x >> 27)) * _SECOND) & _ALL
    return x ^ (x >> 31)
