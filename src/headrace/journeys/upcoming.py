"""The step that comes next: each user's History at a step the log does not hold yet.

Its context (`before` features) is taken to be that of the user's last step. Everything known before `now` counts; of a
user without steps nothing is known.

B users, T steps, W statistic width.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.seams import Floats, History, Integers
from headrace.journeys.statistics import GAP, Statistic, clock, events, keys, known_at, to_floats
from headrace.journeys.store import Array, Journeys
from headrace.journeys.views import Batch, blank, gather, of_users


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
    if journeys.n_steps == 0:
        raise UserError(f"{journeys.path}: the log holds no step, so no next one; prepare one with rows")
    if journeys.time is None:
        if now is not None:
            raise UserError(f"{journeys.path}: now = {now}, but the log has no clock; leave it out")
        now = np.inf
    else:
        latest = float(journeys.time.max())
        if now is not None and now <= latest:
            raise UserError(
                f"{journeys.path}: now = {now} is not after the log's last step at {latest}; give a later one"
            )
        now = float(np.nextafter(latest, np.inf)) if now is None else now
    everyone = np.arange(journeys.n_users)
    across = {s.name: _totals(journeys, s, everyone, now) for s in statistics if "user" not in s.by}  # (U, W)
    for start in range(0, journeys.n_users, size):
        users = everyone[start : start + size]
        totals = {
            s.name: across[s.name][users] if s.name in across else _totals(journeys, s, users, now) for s in statistics
        }
        yield users, _upcoming(journeys, users, steps, totals, so_far, now)


def _upcoming(
    journeys: Journeys,
    users: Integers,
    steps: int,
    totals: dict[str, Floats],
    so_far: dict[str, Floats],
    now: float,
) -> History:
    begin, end = journeys.offsets[users], journeys.offsets[users + 1]
    first = np.maximum(end - max(steps - 1, 1), begin)
    length = end - first
    t = np.arange(int(length.max()) + 1)
    past = t < length[:, None]
    batch = gather(journeys, np.where(past, first[:, None] + t, -1), past, past, so_far)
    h = batch.history
    here, last = (np.arange(len(users)), length), (np.arange(len(users)), length - 1)
    for values in h.before.values():
        values[here] = values[last]
    for name, values in h.previous.items():
        values[here] = blank(_brought(journeys, batch, name, last, end - 1, now), length == 0)
    for name, table in h.so_far.items():
        table[here] = blank(now - clock(journeys, end - 1), length == 0)[:, None] if name == GAP else totals[name]
    before, previous, seen = h.before, h.previous, h.so_far
    mask = t <= length[:, None]
    if steps == 1:  # the next step alone: the last one was read for its context
        before = {name: values[here][:, None] for name, values in before.items()}
        previous = {name: values[here][:, None] for name, values in previous.items()}
        seen = {name: values[here][:, None] for name, values in seen.items()}
        mask = mask[here][:, None]
    return History(before, previous, seen, of_users(journeys, users), mask, None, h.categories)


def _brought(
    journeys: Journeys, batch: Batch, name: str, last: tuple[Integers, Integers], rows: Integers, now: float
) -> Array:
    """What the last step brought, (B,), blank where a gain is not known yet."""
    if name == "channel":
        return np.asarray(batch.channel[last])
    if name == "cost" and batch.cost is not None:
        return np.asarray(batch.cost[last])
    if name in batch.context:
        return np.asarray(batch.context[name][last])
    known = known_at(journeys, name, rows, clock(journeys, rows)) < now
    return np.where(known, batch.gains[name][last], np.nan)


def _totals(journeys: Journeys, s: Statistic, users: Integers, now: float) -> Floats:
    """A statistic over all steps of these adjacent users known before `now`, by the key of each one's last: (B, W)."""
    begin, end = journeys.offsets[users], journeys.offsets[users + 1]
    rows = slice(int(begin[0]), int(end[-1]))
    known, values = events(journeys, s, rows, clock(journeys, rows))
    _, key = np.unique(keys(journeys, s.key, rows), return_inverse=True)
    ripe = known < now
    sums: NDArray[np.int64] = np.zeros((int(key.max(initial=-1)) + 1, values.shape[1]), dtype=np.int64)
    np.add.at(sums, key[ripe], values[ripe])
    out = np.zeros((len(users), values.shape[1]))
    seen = end > begin
    out[seen] = to_floats(sums[key[end[seen] - 1 - rows.start]], s)
    return out
