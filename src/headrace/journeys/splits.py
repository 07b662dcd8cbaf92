"""Splits: which steps train a method, which choose between variants, which are read once at the end.

Each protocol declares the overlap that it allows between its parts; everything else that the audit finds is a leak.

    honest     users disjoint 60/15/25, and where the log has a clock also later in time: training steps lie before the
               cut at 75 % of all steps, validation and test steps after it (what came earlier is history, not label).
               `fold` k of 5 takes a fifth of the users as test, so that five folds test each later step once.
    users      users disjoint 80/10/10; no cut in time                                     declares: time
    temporal   the first 80 / next 10 / last 10 % of each journey                          declares: users, time
    time       one global cut by session start, no session straddles (6:2:2)               declares: users
    paper      the released MTORL sampling: 4,000 windows of 20 steps drawn with replacement from users of 22 or more
               steps, shuffled, then cut 8:1:1. The same steps stand on both sides: kept to show what that does.

N steps, U users, W windows.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError, unknown
from headrace.journeys.store import Array, Journeys, ragged_rows

PARTS = ("train", "validation", "test")
PROTOCOLS = ("honest", "users", "temporal", "time", "paper")
FOLDS = 5
SHARES = {"honest": (0.60, 0.15, 0.25), "users": (0.8, 0.1, 0.1)}  # of the users, by part
PAPER_WINDOWS, PAPER_LENGTH, PAPER_MIN_STEPS = 4_000, 20, 22


@dataclass(frozen=True, slots=True)
class Split:
    """The labelled steps of each part; under `paper` also the windows that carry them."""

    protocol: str
    seed: int
    fold: int | None
    parts: dict[str, NDArray[np.bool_]]  # each (N,)
    declared: tuple[str, ...] = ()  # overlaps that the protocol allows: "users", "time"
    windows: dict[str, NDArray[np.int64]] | None = None  # part -> first rows, each (W,)
    window_length: int | None = None
    fingerprint: str = field(default="")
    until: float | None = None  # where a stream goes on (onward.py): what was before it had been learnt from

    def rows(self, part: str) -> NDArray[np.int64]:
        """The labelled steps of a part, in the store's order."""
        if part not in self.parts:
            raise unknown("part", part, self.parts)
        return np.flatnonzero(self.parts[part])


def split(
    journeys: Journeys,
    protocol: str = "honest",
    seed: int = 0,
    fold: int | None = None,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> Split:
    """Cut a log into parts; `fractions` applies to `time`, `fold` (0 to 4) to `honest` and `users`.

    The part of a user depends on its id and the seed alone, so a log that grows keeps its users where they were.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    if fold is not None and (protocol not in ("honest", "users") or not 0 <= fold < FOLDS):
        raise UserError(f"fold {fold}: folds 0 to {FOLDS - 1} exist for the protocols honest and users")
    if journeys.n_steps == 0:
        raise UserError(f"{journeys.path}: the log holds no step, so there is nothing to split; prepare one with rows")
    windows = None
    declared: tuple[str, ...] = ()
    if protocol == "honest":
        parts = by_users(journeys, seed, fold, SHARES[protocol])
        if journeys.time is not None:
            time = journeys.time
            at = int(0.75 * len(time))
            cut = np.partition(time, at)[at]
            parts = {p: mask & ((time < cut) if p == "train" else (time >= cut)) for p, mask in parts.items()}
    elif protocol == "users":
        parts, declared = by_users(journeys, seed, fold, SHARES[protocol]), ("time",)
    elif protocol == "temporal":
        parts, declared = _temporal(journeys), ("users", "time")
    elif protocol == "time":
        parts, declared = _time(journeys, fractions), ("users",)
    else:
        parts, windows = _paper(journeys, seed)
    empty = [p for p in PARTS if not parts[p].any() and not (protocol == "time" and fractions[PARTS.index(p)] == 0)]
    if empty:
        raise UserError(
            f"{journeys.path}: protocol {protocol} leaves no step for {', '.join(empty)} "
            f"({journeys.n_users} users, {journeys.n_steps} steps); give more users or another --protocol"
        )
    digest = hashlib.sha256(f"{protocol}:{seed}:{fold}:{journeys.fingerprint}".encode())
    for part in PARTS:
        digest.update(np.packbits(parts[part]).tobytes())
        if windows is not None:
            digest.update(windows[part].tobytes())
    length = PAPER_LENGTH if windows is not None else None
    return Split(protocol, seed, fold, parts, declared, windows, length, digest.hexdigest())


def uniform_of_users(journeys: Journeys, seed: int, purpose: str) -> NDArray[np.float64]:
    """(U,) a number in [0, 1) for each user, a function of its id, the seed and the purpose."""
    ids = journeys.users
    if ids.dtype.kind in "iu":
        salt = int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:8], "little")
        bits = _mix(ids.astype(np.uint64) ^ np.uint64(salt))
    else:
        digests = (hashlib.blake2b(f"{seed}:{purpose}:{u}".encode(), digest_size=8).digest() for u in ids)
        bits = np.frombuffer(b"".join(digests), dtype="<u8")
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: each output bit depends on each input bit."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def by_users(
    journeys: Journeys, seed: int, fold: int | None, shares: tuple[float, float, float]
) -> dict[str, NDArray[np.bool_]]:
    """(N,) the steps of the users of each part; a user's part depends on its id and the seed alone."""
    u = uniform_of_users(journeys, seed, "part")
    train, validation, _ = shares
    if fold is None:
        test_user = u >= train + validation
        validation_user = (u >= train) & ~test_user
    else:
        test_user = np.floor(u * FOLDS).astype(int) == fold
        again = uniform_of_users(journeys, seed, f"validation of fold {fold}")
        validation_user = (again < validation / (train + validation)) & ~test_user
    lengths = np.diff(journeys.offsets)
    test, val = np.repeat(test_user, lengths), np.repeat(validation_user, lengths)
    return {"train": ~test & ~val, "validation": val, "test": test}


def _temporal(journeys: Journeys) -> dict[str, NDArray[np.bool_]]:
    lengths = np.diff(journeys.offsets)
    index = np.arange(journeys.n_steps) - np.repeat(journeys.offsets[:-1], lengths)
    share = index / np.repeat(np.maximum(lengths, 1), lengths)
    return {"train": share < 0.8, "validation": (share >= 0.8) & (share < 0.9), "test": share >= 0.9}


def _time(journeys: Journeys, fractions: tuple[float, float, float]) -> dict[str, NDArray[np.bool_]]:
    if journeys.time is None:
        raise UserError(
            f"{journeys.path}: protocol time needs a clock and this log has none; use honest, users or temporal"
        )
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise UserError(f"fractions {fractions}: expected three shares of 0 or more that add up to 1")
    start = session_starts(journeys)
    order = np.sort(start)
    n = len(order)

    def at(share: float) -> float:
        return float(order[int(share * n)]) if int(share * n) < n else float("inf")

    first, second = at(fractions[0]), at(1 - fractions[2])
    return {
        "train": start < first,
        "validation": (start >= first) & (start < second),
        "test": start >= second,
    }


def session_starts(journeys: Journeys) -> NDArray[np.float64]:
    """(N,) the time at which the step's session began; a step without a session is a session of its own."""
    if journeys.time is None:
        raise UserError(f"{journeys.path}: sessions by time need a clock and this log has none")
    time = journeys.time.astype(np.float64)
    if not journeys.has("session"):
        return time
    session = journeys.column("session")
    order = np.lexsort((time, session, journeys.user_of_step))
    user, code = journeys.user_of_step[order], session[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (user[1:] != user[:-1]) | (code[1:] != code[:-1]) | (code[1:] == -1)
    starts = np.empty(len(order))
    starts[order] = time[order][np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    return starts


def _paper(journeys: Journeys, seed: int) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.int64]]]:
    lengths = np.diff(journeys.offsets)
    long = np.flatnonzero(lengths >= PAPER_MIN_STEPS)
    if len(long) == 0:
        raise UserError(
            f"{journeys.path}: protocol paper samples users of {PAPER_MIN_STEPS} or more steps and there are none"
        )
    rng = np.random.default_rng([seed, 4000])
    users = rng.choice(long, size=PAPER_WINDOWS)
    first = rng.integers(0, lengths[users] - PAPER_LENGTH + 1)
    starts: Array = (journeys.offsets[users] + first).astype(np.int64)
    cuts = np.split(starts, [int(0.8 * PAPER_WINDOWS), int(0.9 * PAPER_WINDOWS)])
    windows = dict(zip(PARTS, cuts, strict=True))
    parts = {}
    for part, begin in windows.items():
        parts[part] = np.zeros(journeys.n_steps, dtype=np.bool_)
        parts[part][ragged_rows(begin, np.full(len(begin), PAPER_LENGTH))] = True
    return parts, windows
