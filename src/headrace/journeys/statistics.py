"""Running statistics: what a journey, or a whole log, has shown so far. Declared once, with two faces.

`running` computes a statistic for every step of a log at once; `Memory` (memory.py) updates it step by step. Both
count the same: a value enters the statistic of a step if and only if it was known strictly before that step's time, of
any part of the log, as production would have it. Without a clock the order within the user stands for time.

Sums are kept as integers of 2^-20, so that they are exact and do not depend on the order in which outcomes arrive: the
two faces agree bit for bit. Tables too large to hold stand in a temporary file, mapped like the columns of the store.

N steps, W values a step (1 for counts, 2 for a gain's count and sum; M times as many when kept for each channel).
"""

import io
import itertools
import os
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.schema import Gain, LogSchema
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.store import Array, Journeys

SCALE = 2.0**20
LARGEST = 2.0**40  # of a gain: 2^63 / SCALE with room for eight of them
CHUNK_STEPS = 16_384
IN_MEMORY = 2**26  # bytes of all tables of a log; larger ones are mapped from a file without a name
GAP = "gap"  # time since the user's last earlier step: a running value of every log that has a clock


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
    """The user's own counts and gains so far, and the same for each channel; not labels and classes."""
    if schema.user is None:
        return ()
    found = [Statistic("steps", ("user",))]
    gains = [g.name for g in schema.gains if g.known != "never" and g.kind != "classes"]
    found += [Statistic(g, ("user",), g) for g in gains]
    if schema.channel is not None:
        found.append(Statistic("steps_by_channel", ("user", "channel")))
        found += [Statistic(f"{g}_by_channel", ("user", "channel"), g) for g in gains]
    return tuple(found)


def check(statistics: tuple[Statistic, ...], schema: LogSchema) -> None:
    """Raise where a statistic would use what is not known before the decision."""
    names = [s.name for s in statistics] + ([GAP] if schema.time is not None else [])
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UserError(f"schema {schema.name}: two running statistics are called {twice[0]}; rename one, or its gain")
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
    numbers = np.asarray(values, dtype=np.float64)
    largest = np.nanmax(np.abs(numbers), initial=0.0)
    if largest > LARGEST:
        raise UserError(
            f"a gain of {largest:g} is more than running sums can hold (2^40); state it in a larger unit, or declare "
            "it known = 'never'"
        )
    return np.rint(np.nan_to_num(numbers) * SCALE).astype(np.int64)


def running(journeys: Journeys, statistics: tuple[Statistic, ...]) -> dict[str, Floats]:
    """Each statistic as known at each step, (N, W); with a clock also the gap since the last earlier one, (N, 1)."""
    check(statistics, journeys.schema)
    widths = {s.name: s.width(len(journeys.channels)) for s in statistics}
    if journeys.time is not None:
        widths[GAP] = 1
    large = 8 * journeys.n_steps * sum(widths.values()) > IN_MEMORY
    with ExitStack() as opened:
        files = {name: opened.enter_context(_scratch(journeys, large)) for name in widths}
        own = [s for s in statistics if "user" in s.by]
        for start, stop in user_chunks(journeys):
            for name, table in running_of(journeys, own, slice(start, stop)).items():
                files[name].write(table.tobytes())
        for s in [s for s in statistics if s not in own]:  # across users: keys and times of the whole log are held
            everything = slice(0, journeys.n_steps)
            when = clock(journeys, everything)
            known, values = events(journeys, s, everything, when)
            sums = sums_before(keys(journeys, s.key, everything), when, known, values)
            files[s.name].write(to_floats(sums, s).tobytes())
        return {name: _table(files[name], journeys.n_steps, width) for name, width in widths.items()}


def _scratch(journeys: Journeys, large: bool) -> IO[bytes]:
    """An empty file in memory, or one without a name beside the log: where that had room, so may its tables."""
    if not large:
        return io.BytesIO()
    return tempfile.TemporaryFile(dir=journeys.path if os.access(journeys.path, os.W_OK) else None)


def _table(file: IO[bytes], n: int, width: int) -> Floats:
    """(n, width) what was written to the file: mapped, or copied out of one in memory."""
    if isinstance(file, io.BytesIO):
        return np.frombuffer(file.getvalue(), dtype=np.float64).reshape(n, width)
    file.flush()
    return np.asarray(np.memmap(file, np.float64, "r", shape=(n, width)))


def running_of(journeys: Journeys, statistics: Iterable[Statistic], rows: slice | Integers) -> dict[str, Floats]:
    """The same at all n steps of some users, `rows` ascending: (n, W) of each statistic that is a user's own."""
    index = np.r_[rows]
    n = len(index)
    users = journeys.users_of(index)
    when = clock(journeys, rows)
    is_first, is_later = np.ones(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)
    is_first[1:] = users[1:] != users[:-1]
    is_later[1:] = is_first[1:] | (when[1:] != when[:-1])
    first = np.maximum.accumulate(np.where(is_first, np.arange(n), 0))  # where the step's journey begins
    together = np.maximum.accumulate(np.where(is_later, np.arange(n), 0))  # where the steps of its time begin
    out: dict[str, Floats] = {}
    for s in statistics:
        known, values = events(journeys, s, rows, when)
        if s.key == ("user",) and known is when:
            total = np.zeros((n + 1, values.shape[1]), dtype=np.int64)
            np.cumsum(values, axis=0, out=total[1:])
            sums = total[together] - total[first]
        else:
            sums = sums_before(keys(journeys, s.key, rows), when, known, values)
        out[s.name] = to_floats(sums, s)
    if journeys.time is not None:
        gap = when - when[np.maximum(together - 1, 0)]
        out[GAP] = np.where(together > first, gap, np.nan)[:, None]
    return out


def user_chunks(journeys: Journeys, steps: int = CHUNK_STEPS) -> list[tuple[int, int]]:
    """Row ranges of whole users, of about `steps` rows each."""
    bounds = [0]
    while bounds[-1] < journeys.n_steps:
        after = int(np.searchsorted(journeys.offsets, bounds[-1] + steps, side="left"))
        end = int(journeys.offsets[min(after, journeys.n_users)])
        bounds.append(end)
    return list(itertools.pairwise(bounds))


def clock(journeys: Journeys, rows: slice | Integers) -> Floats:
    """When each step happened; where the log has no clock, the row number, which orders a user's steps."""
    if journeys.time is None:
        return np.asarray(np.r_[rows], dtype=np.float64)
    return np.asarray(journeys.time[rows], dtype=np.float64)


def gain_values(gain: Gain, raw: Array) -> Floats:
    """A gain's values as numbers, NaN where the log has none (a class that is missing is stored as -1)."""
    values = np.asarray(raw).astype(np.float64)
    return np.where(values < 0, np.nan, values) if gain.kind == "classes" else values


def known_at(journeys: Journeys, gain: str, rows: slice | Integers, when: Floats) -> Floats:
    """When the gain of each step is known: its own time `when`, the time in the log, or never (infinity)."""
    known = journeys.schema.gain(gain).known
    if known == "never":
        return np.full(len(when), np.inf)
    if known.startswith("at:"):
        at = journeys.column(f"known_at/{gain}")[rows].astype(np.float64)
        return np.where(np.isnan(at), np.inf, np.maximum(when, at))
    return when


def closed_at(journeys: Journeys, gain: str) -> Floats:
    """(N,) when each step's gain is settled: its label window's end, or without a window when it became known."""
    window = journeys.schema.label_window
    found = np.empty(journeys.n_steps)
    for k in range(0, journeys.n_steps, CHUNK_STEPS):
        rows = slice(k, min(k + CHUNK_STEPS, journeys.n_steps))
        when = clock(journeys, rows)
        found[rows] = known_at(journeys, gain, rows, when) if window is None else when + window
    return found


def events(journeys: Journeys, s: Statistic, rows: slice | Integers, when: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """When what each step adds to a statistic is known, (n,), and what it adds, (n, W)."""
    if s.of is None:
        known, values = when, np.ones((len(when), 1), dtype=np.int64)
    else:
        known = known_at(journeys, s.of, rows, when)
        values = count_and_sum(gain_values(journeys.schema.gain(s.of), journeys.gain(s.of)[rows]))
    if s.by_channel:
        values = by_channel(values, journeys.channel[rows], len(journeys.channels))
    return known, values


def count_and_sum(gain: Floats) -> NDArray[np.int64]:
    """(n, 2) what each outcome adds to a gain's statistic: 1 and its value, or nothing where it is missing."""
    return np.stack([(~np.isnan(gain)).astype(np.int64), fixed(gain)], axis=1)


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


def keys(journeys: Journeys, columns: tuple[str, ...], rows: slice | Integers) -> Integers:
    """(n,) one number for each distinct combination of key columns among these rows."""
    index = np.r_[rows]
    key = np.zeros(len(index), dtype=np.int64)
    for column in columns:
        values = journeys.users_of(index) if column == "user" else step_values(journeys, column, index)
        _, code = np.unique(values, return_inverse=True)
        key = key * (int(code.max(initial=0)) + 1) + code
    return key


def step_values(journeys: Journeys, feature: str, rows: Integers) -> Array:
    """A feature's value at these steps, (n,), also where it is kept once a user."""
    at = journeys.users_of(rows) if journeys.schema.feature(feature).level == "user" else rows
    return np.asarray(journeys.feature(feature)[at])
