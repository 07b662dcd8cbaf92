"""Views: batches of journeys as arrays, each value blank until it was known.

A view gathers a batch from the memory maps with one vectorised index per column. It decides what a step may see: its
own `before` features, what the last earlier step brought if that was known by then (`previous`), and running statistics
(`so_far`). The labels stand apart: the channel, gains, cost and `after` features of the step itself.

Two ways to cut journeys longer than `length`:
    "chunks"   overlapping pieces of `length` steps, each step labelled once, half a window of past or more (training)
    "exact"    each labelled step is seen with the last `length` steps, as it would be when served (evaluation)
Journeys of at most `length` steps are whole in both, and then both are the same.

B segments, T steps, M channels, W statistic width, N steps of the store.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.seams import Bools, Floats, History, Integers
from headrace.journeys.splits import Split
from headrace.journeys.statistics import (
    Statistic,
    check,
    clock,
    closed_at,
    default_statistics,
    gain_values,
    running,
    running_of,
)
from headrace.journeys.store import Array, Journeys, ragged_rows

Cut = Literal["chunks", "exact"]
PIECE = 16_384  # steps that are read at once
WHOLE = 256  # longest piece of a journey where no length is asked for


@dataclass(frozen=True, slots=True)
class Batch:
    """B pieces of journeys with what is known at each step, and the labels beside it."""

    history: History  # (B, T) and what belongs to it
    label: Bools  # (B, T) the steps that count
    rows: Integers  # (B, T) rows of the store, -1 on padding
    channel: Integers  # (B, T), 0 on padding
    gains: dict[str, Floats]  # (B, T) each, NaN where the log has none
    cost: Floats | None  # (B, T), 0 on padding
    context: dict[str, NDArray[Any]]  # (B, T) `after` features of the step itself
    propensity: Floats | None  # (B, T), 1 on padding

    def __len__(self) -> int:
        return len(self.rows)


class View:
    """Pieces of journeys with their labelled steps; `batches` gives them in an order that is a function of the seed."""

    def __init__(
        self,
        journeys: Journeys,
        labels: Bools,
        length: int | None = None,
        statistics: tuple[Statistic, ...] | None = None,
        cut: Cut = "chunks",
        so_far: dict[str, Floats] | None = None,
        starts: Integers | None = None,
        late: dict[str, Bools] | None = None,
    ):
        """`labels` (N,) marks the steps that count; `starts` fixes the pieces (windows of `length` steps from there).

        `so_far` may hand in statistics that were computed before, so that several views share them. `late` names gains
        and the steps (N,) whose outcome is not known to the one who looks: as labels they are blank there.
        """
        if length is not None and length < 1:
            raise UserError(f"a view of {length} steps: expected 1 or more, or None for whole journeys")
        self.journeys = journeys
        self.length = WHOLE if length is None else length
        self.statistics = default_statistics(journeys.schema) if statistics is None else statistics
        self.so_far = running(journeys, self.statistics) if so_far is None else so_far
        if starts is not None:
            self.start = np.asarray(starts, dtype=np.int64)
            self.steps = np.full(len(starts), self.length, dtype=np.int64)
            self.first_label = np.zeros(len(starts), dtype=np.int64)
        else:
            self.start, self.steps, self.first_label = _pieces(journeys, labels, self.length, cut)
        self.labels = labels
        self.late = late or {}

    def __len__(self) -> int:
        return len(self.start)

    def batch(self, pieces: Array) -> Batch:
        """The pieces of these indices as one batch, padded to the longest of them."""
        pieces = np.asarray(pieces, dtype=np.int64)
        steps = self.steps[pieces]
        t = np.arange(int(steps.max()))
        mask = t < steps[:, None]  # (B, T)
        rows = np.where(mask, self.start[pieces, None] + t, -1)
        label = mask & (t >= self.first_label[pieces, None]) & self.labels[rows]
        batch = gather(self.journeys, rows, mask, label, self.so_far)
        for gain, late in self.late.items():
            batch.gains[gain][late[rows] & mask] = np.nan
        return batch

    def batches(self, size: int, seed: int | None = None) -> Iterator[Batch]:
        """All pieces, `size` at a time; in order without a seed, else shuffled, pieces of like length together."""
        if seed is None:
            for first in range(0, len(self), size):
                yield self.batch(np.arange(first, min(first + size, len(self))))
            return
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self))
        bucket = 32 * size
        found = []
        for first in range(0, len(order), bucket):
            part = order[first : first + bucket]
            part = part[np.argsort(self.steps[part], kind="stable")]
            found += [part[k : k + size] for k in range(0, len(part), size)]
        for k in rng.permutation(len(found)):
            yield self.batch(found[k])


def view(
    journeys: Journeys,
    split: Split,
    part: str,
    length: int | None = None,
    statistics: tuple[Statistic, ...] | None = None,
    cut: Cut = "chunks",
    so_far: dict[str, Floats] | None = None,
) -> View:
    """The view of one part of a split; under `paper` its sampled windows, as they were drawn.

    Delayed gains that became known only after the cut in time are no labels of the train part: whoever trains then does
    not know them.
    """
    if part not in split.parts:
        split.rows(part)
    starts = None if split.windows is None else split.windows[part]
    if starts is not None:
        length = split.window_length
    late = {}
    if part == "train" or split.until is not None:
        delayed = [g.name for g in journeys.schema.gains if g.known.startswith("at:")]
        late = {name: ~known_for_training(journeys, split, name) for name in delayed}
    return View(journeys, split.parts[part], length, statistics, cut, so_far, starts, late)


def known_for_training(journeys: Journeys, split: Split, gain: str) -> Bools:
    """(N,) whether a step's gain may be a training label: its window had closed before the first held-out step.

    Judged by the window, not by when each outcome came: what comes early is mostly a yes, and a model trained on that
    alone would learn that everybody buys. Without a window, by when the outcome was known. True everywhere for gains
    without delay and for protocols that declare overlap in time; of a stream, what the end of the log knows.
    """
    delayed = journeys.schema.gain(gain).known.startswith("at:")
    cut = split.protocol in ("honest", "time") and "time" not in split.declared and journeys.time is not None
    if not delayed or not (cut or split.until is not None):
        return np.ones(journeys.n_steps, dtype=np.bool_)
    if split.until is not None:
        now = float(np.max(np.asarray(journeys.time)))
        return closed_at(journeys, gain) <= now
    held_out = split.parts["validation"] | split.parts["test"]
    pieces = [slice(k, min(k + PIECE, journeys.n_steps)) for k in range(0, journeys.n_steps, PIECE)]
    first = min(float(clock(journeys, p)[held_out[p]].min(initial=np.inf)) for p in pieces)
    return closed_at(journeys, gain) < first


def histories(
    journeys: Journeys, rows: Array, steps: int = WHOLE, statistics: tuple[Statistic, ...] | None = None
) -> History:
    """The History before each of these rows: the user's last `steps` steps, the row itself the last."""
    rows = np.asarray(rows, dtype=np.int64)
    outside = rows[(rows < 0) | (rows >= journeys.n_steps)]
    if len(outside):
        raise UserError(f"{journeys.path}: row {outside[0]} asked for, the log has rows 0 to {journeys.n_steps - 1}")
    chosen = default_statistics(journeys.schema) if statistics is None else statistics
    users = journeys.users_of(rows)
    first = np.maximum(rows - steps + 1, journeys.offsets[users])
    t = np.arange(steps)
    mask = t < (rows - first + 1)[:, None]
    index = np.where(mask, first[:, None] + t, -1)
    if any("user" not in s.by for s in chosen):
        return gather(journeys, index, mask, mask, running(journeys, chosen)).history
    check(chosen, journeys.schema)
    asked = np.unique(users)
    theirs = ragged_rows(journeys.offsets[asked], journeys.offsets[asked + 1] - journeys.offsets[asked])
    at = np.searchsorted(theirs, np.maximum(index, 0))
    return gather(journeys, index, mask, mask, running_of(journeys, chosen, theirs), at).history


def gather(
    journeys: Journeys,
    rows: Integers,
    mask: Bools,
    label: Bools,
    so_far: dict[str, Floats],
    at: Integers | None = None,
) -> Batch:
    """The batch of these rows (B, T), consecutive, -1 being padding. The one place that decides what a step may see.

    `at` says where in the tables of `so_far` each row stands, where that is not at the row itself.
    """
    schema = journeys.schema
    safe = np.maximum(rows, 0)
    users = journeys.users_of(safe[:, 0])
    earlier = _earlier(journeys, safe, journeys.offsets[users][:, None])
    seen = mask & (earlier >= 0)
    earlier = np.maximum(earlier, 0)
    codes = {*journeys.categories, "channel"}

    def read(name: str, at: Integers) -> Array:
        return journeys.column(name)[at].astype(np.int64 if name in codes else np.float64)

    before: dict[str, Array] = {}
    brought: dict[str, Array] = {}
    context: dict[str, Array] = {}
    for f in schema.features:
        name = f"feature/{f.name}"
        if f.level == "user":
            continue
        if f.known == "before":
            before[f.name] = blank(read(name, safe), ~mask)
        else:
            brought[f.name] = blank(read(name, earlier), ~seen)
            context[f.name] = blank(read(name, safe), ~mask)
    channel = np.zeros_like(rows)
    if schema.channel is not None:
        channel = np.where(mask, read("channel", safe), 0)
        brought["channel"] = blank(read("channel", earlier), ~seen)
    gains: dict[str, Floats] = {}
    for g in schema.gains:
        name = f"gain/{g.name}"
        gains[g.name] = blank(gain_values(g, read(name, safe)), ~mask)
        if g.known == "never":
            continue
        known = seen
        if g.known.startswith("at:"):
            now, then = read("time", safe), read("time", earlier)
            known = seen & (np.maximum(then, read(f"known_at/{g.name}", earlier)) < now)  # never where that is missing
        brought[g.name] = blank(gain_values(g, read(name, earlier)), ~known)
    cost = None
    if schema.cost is not None:
        cost = np.where(mask, read("cost", safe), 0.0)
        brought["cost"] = blank(read("cost", earlier), ~seen)
    propensity = np.where(mask, read("propensity", safe), 1.0) if journeys.has("propensity") else None
    place = safe if at is None else at
    running_values = {name: np.where(mask[..., None], values[place], 0.0) for name, values in so_far.items()}
    history = History(before, brought, running_values, of_users(journeys, users), mask, None, _categories(journeys))
    return Batch(history, label, rows, channel, gains, cost, context, propensity)


def _earlier(journeys: Journeys, rows: Integers, first: Integers) -> Integers:
    """The user's last step before the time of each row (B, T), -1 where none is; `first` (B, 1) begins the journey."""
    earlier = rows - 1
    if journeys.time is not None:
        now = journeys.time[rows]
        while (together := (earlier >= first) & (journeys.time[np.maximum(earlier, 0)] == now)).any():
            earlier -= together  # steps at the same time happen together: none sees what another brought
    return np.where(earlier >= first, earlier, -1)


def of_users(journeys: Journeys, users: Integers) -> dict[str, Array]:
    """The static features of these users, (B,) each."""
    found = {}
    for name in (f.name for f in journeys.schema.features if f.level == "user"):
        code = f"user/{name}" in journeys.categories
        found[name] = journeys.feature(name)[users].astype(np.int64 if code else np.float64)
    return found


def blank(values: Array, where: Bools) -> Array:
    """The values with NaN (numbers) or -1 (codes) where they were not known."""
    return np.where(where, np.nan if values.dtype.kind == "f" else -1, values)


def _categories(journeys: Journeys) -> dict[str, list[str]]:
    return {k.split("/", 1)[1]: v for k, v in journeys.categories.items() if k.startswith(("feature/", "user/"))}


def _pieces(journeys: Journeys, labels: Bools, length: int, cut: Cut) -> tuple[Integers, Integers, Integers]:
    """First row, number of steps and first labelled step of each piece that holds a label."""
    offsets = journeys.offsets
    rows = np.flatnonzero(labels)
    users = np.flatnonzero(np.diff(np.searchsorted(rows, offsets)))
    last = np.searchsorted(rows, offsets[users + 1]) - 1
    end = rows[last] + 1  # steps after the last label are of no use
    used = end - offsets[users]
    short = used <= length
    start, steps, first = [offsets[users[short]]], [used[short]], [np.zeros(int(short.sum()), dtype=np.int64)]
    long = np.flatnonzero(~short)
    if len(long) and cut == "exact":
        start.append(offsets[users[long]])
        steps.append(np.full(len(long), length))
        first.append(np.zeros(len(long), dtype=np.int64))
        tail = ragged_rows(offsets[users[long]] + length, used[long] - length)
        tail = tail[labels[tail]]
        start.append(tail - length + 1)
        steps.append(np.full(len(tail), length))
        first.append(np.full(len(tail), length - 1))
    elif len(long):
        stride = max(length // 2, 1)
        count = 1 + -(-(used[long] - length) // stride)
        piece = ragged_rows(np.zeros(len(long), dtype=np.int64), count)
        begin = np.repeat(offsets[users[long]], count) + piece * stride
        start.append(begin)
        steps.append(np.minimum(length, np.repeat(end[long], count) - begin))
        first.append(np.where(piece == 0, 0, length - stride))
    begin, size, label_from = np.concatenate(start), np.concatenate(steps), np.concatenate(first)
    next_label = np.append(rows, journeys.n_steps)[np.searchsorted(rows, begin + label_from)]
    has_label = next_label < begin + size
    order = np.argsort(begin[has_label], kind="stable")
    return begin[has_label][order], size[has_label][order], label_from[has_label][order]
