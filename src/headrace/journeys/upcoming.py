"""The step that comes next: each user's History at a step the log does not hold yet.

Its context (`before` features) is taken to be that of the user's last step. Everything known before `now` counts.

B users, T steps, W statistic width.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.journeys.seams import Floats, History, Integers
from headrace.journeys.statistics import GAP, Statistic, by_channel, fixed, gain_known_at, to_floats
from headrace.journeys.store import Journeys
from headrace.journeys.views import Batch, gather


def upcoming(
    journeys: Journeys,
    steps: int,
    statistics: tuple[Statistic, ...],
    so_far: dict[str, Floats],
    now: float | None = None,
    size: int = 512,
) -> Iterator[tuple[Integers, History]]:
    """(user indices, their History with the next step last), `size` users at a time.

    `now` is the time of that step in the log's unit, by default just after the log's last one.
    """
    if now is None and journeys.time is not None:
        now = float(np.nextafter(np.asarray(journeys.time).max(), np.inf))
    for start in range(0, journeys.n_users, size):
        users = np.arange(start, min(start + size, journeys.n_users))
        yield users, _upcoming(journeys, users, steps, statistics, so_far, np.inf if now is None else now)


def _upcoming(
    journeys: Journeys,
    users: Integers,
    steps: int,
    statistics: tuple[Statistic, ...],
    so_far: dict[str, Floats],
    now: float,
) -> History:
    begin, end = journeys.offsets[users], journeys.offsets[users + 1]
    first = np.maximum(end - (steps - 1), begin)
    length = end - first
    t = np.arange(int(length.max()) + 1)
    past = t < length[:, None]
    rows = np.where(past, first[:, None] + t, -1)
    batch = gather(journeys, rows, past, past, so_far)
    here = (np.arange(len(users)), length)  # where the next step stands
    last = (here[0], length - 1)
    h = batch.history
    for values in h.before.values():
        values[here] = values[last]
    for name, values in h.previous.items():
        values[here] = _brought(journeys, batch, name, last, end - 1, now)
    totals = _totals(journeys, users, statistics, now)
    for name, table in h.so_far.items():
        if name == GAP:
            time = np.asarray(journeys.time, dtype=np.float64)
            table[(*here, 0)] = now - time[end - 1]
        else:
            table[here] = totals[name]
    return History(h.before, h.previous, h.so_far, h.user, t <= length[:, None], None, h.categories)


def _brought(
    journeys: Journeys, batch: Batch, name: str, last: tuple[Any, Any], rows: Integers, now: float
) -> NDArray[Any]:
    """What the last step brought, (B,), blank where a gain is not known yet."""
    if name == "channel":
        return batch.channel[last]
    if name == "cost" and batch.cost is not None:
        return batch.cost[last]
    if name in batch.context:
        return np.asarray(batch.context[name][last])
    span = slice(int(rows[0]), int(rows[-1]) + 1)
    known = gain_known_at(journeys, name, span)[rows - rows[0]] < now
    return np.where(known, batch.gains[name][last], np.nan)


def _totals(journeys: Journeys, users: Integers, statistics: tuple[Statistic, ...], now: float) -> dict[str, Floats]:
    """Each statistic over everything known before `now`, (B, W); those across users are not known and 0."""
    start, stop = int(journeys.offsets[users[0]]), int(journeys.offsets[users[-1] + 1])
    rows = slice(start, stop)
    edges = journeys.offsets[users] - start
    out: dict[str, Floats] = {}
    for s in statistics:
        if s.key != ("user",):
            out[s.name] = np.zeros((len(users), s.width(len(journeys.channels))))
            continue
        if s.of is None:
            values = np.ones((stop - start, 1), dtype=np.int64)
        else:
            gain = np.asarray(journeys.column(f"gain/{s.of}")[rows], dtype=np.float64)
            known = (gain_known_at(journeys, s.of, rows) < now) & ~np.isnan(gain)
            values = np.stack([known.astype(np.int64), np.where(known, fixed(gain), 0)], axis=1)
        if s.by_channel:
            values = by_channel(values, np.asarray(journeys.channel[rows]), len(journeys.channels))
        out[s.name] = to_floats(np.add.reduceat(values, edges, axis=0), s)
    return out
