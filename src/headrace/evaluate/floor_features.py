"""What the floors see of a step: the same that a learnt method is given, as one flat table.

Lags of the last three steps (channel, gains, cost, `after` features, time since), the user's counts and rates so far,
the step's `before` features and the user's. A value enters if it was known strictly before the step: rows of one user
at the same time do not see each other, delayed gains wait for their time, gains that are labels only never enter.
Columns named "step/..." are the step's own channel and `after` features, and its cost where the schema says that it is
paid for the exposure (billed by click, it tells the click), for the targets that are given them.

n rows asked for, B rows of a block of whole users, W widths, M channels.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from headrace.errors import UserError
from headrace.evaluate.targets import Given
from headrace.journeys.seams import Bools, Floats, Integers
from headrace.journeys.statistics import Statistic, clock, gain_values, known_at, running_of, sums_before
from headrace.journeys.store import Array, Journeys, ragged_rows

LAGS = 3
BLOCK_STEPS = 200_000
BY_CHANNEL = 32  # channels up to which rates are kept for each one
ColumnKind = Literal["number", "count", "category"]
Texts = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table; NaN where a value is not known."""

    values: Floats  # (n,)
    kind: ColumnKind = "number"
    running: bool = False  # a count or rate over the whole past


Table = dict[str, Column]


@dataclass(frozen=True, slots=True)
class Past:
    """Where the past of some rows lies, within a block of whole users."""

    block: Integers  # (B,) rows of the store
    when: Floats  # (B,) the clock, or the row number
    start: Integers  # (B,) place in the block of the user's first row
    first: Integers  # (B,) place of the first row at the same time: rows before it are the past
    asked: Integers  # (n,) places of the rows asked for

    def lag(self, k: int) -> tuple[Integers, Bools]:
        """The place of the k-th last step before each row asked for, (n,), and whether there is one."""
        place = self.first[self.asked] - k
        there = place >= self.start[self.asked]
        return np.where(there, place, 0), there

    def sums(self, journeys: Journeys, *by: str, of: str | None = None) -> Floats:
        """The running statistic of each row asked for, (n, W): counts, or count and sum of a gain."""
        statistic = Statistic("past", by, of)
        return running_of(journeys, [statistic], self.block)["past"][self.asked]


def pasts(journeys: Journeys, rows: Integers, steps: int = BLOCK_STEPS) -> Iterator[tuple[Integers, Past]]:
    """Blocks of whole users of about `steps` rows; with each the places in `rows` that it answers."""
    users = journeys.user_of_step[rows]
    chosen = np.unique(users)
    lengths = np.diff(journeys.offsets)[chosen]
    block_of = (np.cumsum(lengths) - lengths) // steps  # (users chosen,)
    of_row = block_of[np.searchsorted(chosen, users)]
    for b in np.unique(block_of):
        here = block_of == b
        block = ragged_rows(journeys.offsets[chosen[here]], lengths[here])
        when = clock(journeys, block)
        place = np.arange(len(block))
        start = np.repeat(np.cumsum(lengths[here]) - lengths[here], lengths[here])
        new = np.ones(len(block), dtype=np.bool_)
        new[1:] = (when[1:] != when[:-1]) | (start[1:] != start[:-1])
        first = np.maximum.accumulate(np.where(new, place, 0))
        where = np.flatnonzero(of_row == b)
        yield where, Past(block, when, start, first, np.searchsorted(block, rows[where]))


def known_before(journeys: Journeys, rows: Array, lags: int = LAGS, texts: Texts | None = None) -> Table:
    """The table of these rows; `texts` are the categories that codes stand for (those of the log fitted on)."""
    rows = np.asarray(rows, dtype=np.int64)
    texts = journeys.categories if texts is None else texts
    table: Table = {}
    for where, past in pasts(journeys, rows):
        part = _lags(journeys, past, lags, texts) | _running(journeys, past) | _own(journeys, past, texts)
        for name, column in part.items():
            if name not in table:
                table[name] = replace(column, values=np.full(len(rows), np.nan))
            table[name].values[where] = column.values
    return table


def given(table: Table, what: Given) -> Table:
    """The columns that a target may see: all but the step's own, its channel, or everything."""
    if what == "context":
        return table
    return {n: c for n, c in table.items() if not n.startswith("step/") or (what == "channel" and n == "step/channel")}


class Tables:
    """Tables of a log's rows and of others like it; the last few are kept, as floors of one log ask for the same."""

    def __init__(self, fitted: Journeys, keep: int = 3):
        self.texts = fitted.categories
        self.keep = keep
        self.kept: dict[tuple[str, bytes], Table] = {}

    def of(self, journeys: Journeys, rows: Integers) -> Table:
        key = journeys.fingerprint, hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=16).digest()
        if key not in self.kept:
            while len(self.kept) >= self.keep:
                del self.kept[next(iter(self.kept))]
            self.kept[key] = known_before(journeys, rows, texts=self.texts)
        return self.kept[key]


def read(journeys: Journeys, name: str, rows: Array, texts: Texts) -> Floats:
    """A column at rows as numbers, NaN where missing; text as its code in `texts`, unknown text as one more."""
    values = np.asarray(journeys.column(name)[rows])
    if name not in journeys.categories:
        return values.astype(np.float64)
    known = {text: code for code, text in enumerate(texts.get(name, ()))}
    to = np.array([known.get(text, len(known)) for text in journeys.categories[name]] + [np.nan], dtype=np.float64)
    return to[values.astype(np.int64)]  # a code of -1 is the last entry: missing


def _lags(journeys: Journeys, past: Past, lags: int, texts: Texts) -> Table:
    schema = journeys.schema
    table: Table = {}
    now = past.when[past.asked]
    for k in range(1, lags + 1):
        place, there = past.lag(k)
        at = past.block[place] if len(place) else place

        def lagged(name: str, kind: ColumnKind, known: Bools, at: Integers = at) -> Column:
            return Column(np.where(known, read(journeys, name, at, texts), np.nan), kind)

        if schema.channel is not None:
            table[f"channel.{k}"] = lagged("channel", "category", there)
        for gain in schema.gains:
            if gain.known == "never":
                continue
            known = there & (known_at(journeys, gain.name, past.block, past.when)[place] < now)
            kind: ColumnKind = "category" if gain.kind == "classes" else "number"
            table[f"{gain.name}.{k}"] = lagged(f"gain/{gain.name}", kind, known)
        if schema.cost is not None:
            table[f"cost.{k}"] = lagged("cost", "number", there)
        for feature in schema.features:
            if feature.level == "step" and feature.known == "after":
                kind = "category" if feature.kind == "categorical" else "number"
                table[f"{feature.name}.{k}"] = lagged(f"feature/{feature.name}", kind, there)
        if journeys.time is not None:
            table[f"gap.{k}"] = Column(np.where(there, now - past.when[place], np.nan), "count")
    return table


def _running(journeys: Journeys, past: Past) -> Table:
    schema = journeys.schema
    m = len(journeys.channels)
    steps = past.sums(journeys, "user")[:, 0]
    table = {"steps": Column(steps, "count")}
    by_channel = schema.channel is not None and m <= BY_CHANNEL
    if by_channel:
        counts = past.sums(journeys, "user", "channel")
        for c in range(m):
            table[f"steps.of.{c}"] = Column(counts[:, c], "count")
            table[f"log_share.of.{c}"] = Column(np.log((counts[:, c] + 0.5) / (steps + 0.5 * m)))
    for gain in schema.gains:
        if gain.known == "never" or gain.kind == "classes":
            continue
        sums = past.sums(journeys, "user", of=gain.name)
        table[f"{gain.name}.sum"] = Column(sums[:, 1], "count" if gain.kind == "binary" else "number")
        table[f"{gain.name}.rate"] = Column(_rate(sums))
        if by_channel:
            sums = past.sums(journeys, "user", "channel", of=gain.name)
            for c in range(m):
                table[f"{gain.name}.rate.of.{c}"] = Column(_rate(sums[:, 2 * c : 2 * c + 2]))
    return {name: replace(column, running=True) for name, column in table.items()}


def _rate(sums: Floats) -> Floats:
    out = np.full(len(sums), np.nan)
    np.divide(sums[:, 1], sums[:, 0], out=out, where=sums[:, 0] > 0)
    return out


def _own(journeys: Journeys, past: Past, texts: Texts) -> Table:
    schema = journeys.schema
    rows = past.block[past.asked]
    table: Table = {}
    for feature in schema.features:
        user = feature.level == "user"
        name = f"user/{feature.name}" if user else f"feature/{feature.name}"
        kind: ColumnKind = "category" if feature.kind == "categorical" else "number"
        values = read(journeys, name, journeys.user_of_step[rows] if user else rows, texts)
        before = user or feature.known == "before"
        table[feature.name if before else f"step/{feature.name}"] = Column(values, kind)
    if schema.channel is not None:
        table["step/channel"] = Column(read(journeys, "channel", rows, texts), "category")
    if schema.cost is not None and schema.cost.context:
        table["step/cost"] = Column(read(journeys, "cost", rows, texts))
    return table


def check_same_schema(fitted: Journeys, other: Journeys) -> None:
    """Raise UserError unless `other` has the channels, features and gains that the floors were fitted on."""
    if fitted.channels != other.channels:
        raise UserError(
            f"{other.path}: channels {', '.join(other.channels)}; the floors were fitted on "
            f"{', '.join(fitted.channels)}; prepare this log with the same schema"
        )
    for what in ("features", "gains", "cost"):
        if getattr(fitted.schema, what) != getattr(other.schema, what):
            raise UserError(
                f"{other.path}: its {what} differ from {fitted.path}'s; prepare this log with the same schema"
            )


def last_value(journeys: Journeys, rows: Array, gain: str | None = None) -> Integers:
    """The channel (or the outcome of a gain of classes) of the step before each row, (n,); -1 where none is known."""
    rows = np.asarray(rows, dtype=np.int64)
    out = np.full(len(rows), -1, dtype=np.int64)
    for where, past in pasts(journeys, rows):
        place, there = past.lag(1)
        raw = np.asarray((journeys.channel if gain is None else journeys.gain(gain))[past.block[place]])
        values = np.where(np.isnan(raw.astype(np.float64)), -1, raw).astype(np.int64)
        when = past.when if gain is None else known_at(journeys, gain, past.block, past.when)
        known = there & (when[place] < past.when[past.asked])
        out[where] = np.where(known, values, -1)
    return out


def past_counts(journeys: Journeys, rows: Array, classes: int, gain: str | None = None) -> Floats:
    """How often the user met each channel (or each outcome of a gain of classes) before each row, (n, M)."""
    rows = np.asarray(rows, dtype=np.int64)
    out = np.zeros((len(rows), classes))
    for where, past in pasts(journeys, rows):
        if gain is None:
            out[where] = past.sums(journeys, "user", "channel")
            continue
        values = gain_values(journeys.schema.gain(gain), journeys.gain(gain)[past.block])
        which = (values[:, None] == np.arange(classes)).astype(np.int64)
        known = known_at(journeys, gain, past.block, past.when)
        out[where] = sums_before(past.start, past.when, known, which)[past.asked]
    return out


def past_sums(journeys: Journeys, rows: Array, gain: str) -> tuple[Floats, Floats]:
    """Number and sum of the user's gains known before each row, each (n,)."""
    rows = np.asarray(rows, dtype=np.int64)
    out = np.zeros((len(rows), 2))
    for where, past in pasts(journeys, rows):
        out[where] = past.sums(journeys, "user", of=gain)
    return out[:, 0], out[:, 1]
