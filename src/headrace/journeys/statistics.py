"""Running statistics: what a journey, or a whole log, has shown so far. Declared once, with two faces.

`running` computes a statistic for every step of a log at once; `Memory` (memory.py) updates it step by step. Both
count the same: a value enters the statistic of a step if and only if it was known strictly before that step's time, of
any part of the log, as production would have it. Without a clock the order within the user stands for time.

Sums are kept as integers of 2^-20, so that they are exact and do not depend on the order in which outcomes arrive: the
two faces agree bit for bit.

N steps, W values a step (1 for counts, 2 for a gain's count and sum; M times as many when kept for each channel).
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.schema import LogSchema
from headrace.journeys.seams import Floats
from headrace.journeys.store import Array, Journeys

SCALE = 2.0**20
CHUNK_STEPS = 200_000
GAP = "gap"  # time since the user's last step: a running value of every log that has a clock


@dataclass(frozen=True, slots=True)
class Statistic:
    """Counts of steps (`of` None), or count and sum of a gain, over all earlier steps with the same key.

    `by` holds "user" or names of features known before; "channel" in it keeps one count for each channel.
    """

    name: str
    by: tuple[str, ...]
    of: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(b for b in self.by if b != "channel")

    @property
    def by_channel(self) -> bool:
        return "channel" in self.by

    def width(self, channels: int) -> int:
        """W, the number of values a step."""
        return (1 if self.of is None else 2) * (channels if self.by_channel else 1)


def default_statistics(schema: LogSchema) -> tuple[Statistic, ...]:
    """The user's own counts and gains so far, and the same for each channel; labels only are left out."""
    if schema.user is None:
        return ()
    found = [Statistic("steps", ("user",))]
    gains = [g.name for g in schema.gains if g.known != "never"]
    found += [Statistic(g, ("user",), g) for g in gains]
    if schema.channel is not None:
        found.append(Statistic("steps_by_channel", ("user", "channel")))
        found += [Statistic(f"{g}_by_channel", ("user", "channel"), g) for g in gains]
    return tuple(found)


def check(statistics: tuple[Statistic, ...], schema: LogSchema) -> None:
    """Raise where a statistic would use what is not known before the decision."""
    for s in statistics:
        if s.of is not None and schema.gain(s.of).known == "never":
            raise UserError(
                f"statistic {s.name}: gain {s.of} is known = 'never' (a label only), so no statistic may use it"
            )
        for column in s.key:
            if column != "user" and schema.feature(column).known != "before":
                raise UserError(
                    f"statistic {s.name}: {column} is not known before the decision; key it by a feature that is"
                )
        if "user" not in s.by and schema.time is None:
            raise UserError(
                f"statistic {s.name}: counting across users needs a clock and schema {schema.name} has none"
            )


def fixed(values: Array) -> NDArray[np.int64]:
    """Values as integers of 2^-20; a missing value counts as 0."""
    return np.rint(np.nan_to_num(np.asarray(values, dtype=np.float64)) * SCALE).astype(np.int64)


def running(journeys: Journeys, statistics: tuple[Statistic, ...]) -> dict[str, Floats]:
    """Each statistic as known at each step, (N, W); with a clock also the gap since the user's last step, (N, 1)."""
    check(statistics, journeys.schema)
    channels = len(journeys.channels)
    out = {s.name: np.empty((journeys.n_steps, s.width(channels))) for s in statistics}
    for start, stop in user_chunks(journeys):
        rows = slice(start, stop)
        users = journeys.user_of_step[rows]
        for s in statistics:
            if s.key == ("user",):
                out[s.name][rows] = _running(journeys, s, rows, users)
    for s in statistics:
        if s.key != ("user",):
            everything = slice(0, journeys.n_steps)
            out[s.name][:] = _running(journeys, s, everything, _keys(journeys, s.key))
    if journeys.time is not None:
        out[GAP] = _gap(journeys)
    return out


def user_chunks(journeys: Journeys, steps: int = CHUNK_STEPS) -> list[tuple[int, int]]:
    """Row ranges of whole users, of about `steps` rows each."""
    bounds = [0]
    while bounds[-1] < journeys.n_steps:
        after = int(np.searchsorted(journeys.offsets, bounds[-1] + steps, side="left"))
        end = int(journeys.offsets[min(after, journeys.n_users)])
        bounds.append(end)
    return list(itertools.pairwise(bounds))


def clock(journeys: Journeys, rows: slice) -> Floats:
    """When each step happened; where the log has no clock, the row number, which orders a user's steps."""
    if journeys.time is None:
        return np.arange(rows.start, rows.stop, dtype=np.float64)
    return np.asarray(journeys.time[rows], dtype=np.float64)


def gain_known_at(journeys: Journeys, gain: str, rows: slice) -> Floats:
    """When each step's gain is known: its own time, the time in the log, or never (infinity)."""
    when = clock(journeys, rows)
    known = journeys.schema.gain(gain).known
    if known == "never":
        return np.full(len(when), np.inf)
    if known.startswith("at:"):
        at = np.asarray(journeys.column(f"known_at/{gain}")[rows], dtype=np.float64)
        return np.where(np.isnan(at), np.inf, np.maximum(when, at))
    return when


def _running(journeys: Journeys, s: Statistic, rows: slice, keys: NDArray[np.int64]) -> Floats:
    when = clock(journeys, rows)
    if s.of is None:
        known, values = when, np.ones((len(when), 1), dtype=np.int64)
    else:
        gain = np.asarray(journeys.column(f"gain/{s.of}")[rows], dtype=np.float64)
        known = gain_known_at(journeys, s.of, rows)
        values = np.stack([(~np.isnan(gain)).astype(np.int64), fixed(gain)], axis=1)
    if s.by_channel:
        values = by_channel(values, np.asarray(journeys.channel[rows]), len(journeys.channels))
    return to_floats(sums_before(keys, when, known, values), s)


def by_channel(values: NDArray[np.int64], channel: Array, channels: int) -> NDArray[np.int64]:
    """(N, w) values put into their channel's columns: (N, M * w), zero elsewhere."""
    n, w = values.shape
    spread = np.zeros((n, channels, w), dtype=np.int64)
    spread[np.arange(n), channel] = values
    return spread.reshape(n, channels * w)


def to_floats(sums: NDArray[np.int64], s: Statistic) -> Floats:
    """Integer counts and fixed-point sums as numbers."""
    out = sums.astype(np.float64)
    if s.of is not None:
        out[:, 1::2] /= SCALE
    return out


def sums_before(keys: Array, asked: Array, known: Array, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row, the sum of the values of all rows of its key that were known strictly before it asks.

    keys, asked, known (N,); values (N, W); returns (N, W).

    >>> same = np.zeros(3, dtype=int)
    >>> t = np.array([1.0, 1.0, 2.0])  # two steps at the same time do not see each other
    >>> sums_before(same, t, t, np.array([[1], [2], [4]])).ravel().tolist()
    [0, 0, 3]
    """
    n = len(keys)
    both = np.concatenate([keys, keys])
    when = np.concatenate([asked, known])
    is_event = np.repeat([False, True], n)
    order = np.lexsort((is_event, when, both))  # at equal times the question comes before the answer
    event = is_event[order]
    flow = np.zeros((2 * n, values.shape[1]), dtype=np.int64)
    flow[event] = values[order[event] - n]
    total = np.cumsum(flow, axis=0)
    sorted_keys = both[order]
    first = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]]) if n else np.zeros(0, dtype=np.int64)
    base = np.zeros((len(first), values.shape[1]), dtype=np.int64)
    base[1:] = total[first[1:] - 1] if len(first) > 1 else base[1:]
    lengths = np.diff(np.r_[first, 2 * n])
    total -= np.repeat(base, lengths, axis=0)
    out = np.empty_like(values)
    out[order[~event]] = total[~event]
    return out


def _keys(journeys: Journeys, columns: tuple[str, ...]) -> NDArray[np.int64]:
    """(N,) one number for each distinct combination of key columns."""
    key = np.zeros(journeys.n_steps, dtype=np.int64)
    for column in columns:
        values = journeys.user_of_step if column == "user" else step_values(journeys, column)
        _, code = np.unique(values, return_inverse=True)
        key = key * (int(code.max()) + 1) + code
    return key


def step_values(journeys: Journeys, feature: str) -> Array:
    """A feature's value at each step, (N,), also where it is kept once a user."""
    values = journeys.feature(feature)
    return values[journeys.user_of_step] if journeys.schema.feature(feature).level == "user" else np.asarray(values)


def _gap(journeys: Journeys) -> Floats:
    time = clock(journeys, slice(0, journeys.n_steps))
    gap = np.full((journeys.n_steps, 1), np.nan)
    gap[1:, 0] = np.diff(time)
    starts = journeys.offsets[:-1]
    gap[starts[starts < journeys.n_steps], 0] = np.nan
    return gap
