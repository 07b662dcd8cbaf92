"""From a column's raw values to ids (Vocabulary) or standardised numbers (Scale), learnt from pieces of the column."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.store import Array

PADDING, UNKNOWN, BLANK, FIRST = 0, 1, 2, 3
LARGEST = 1e150  # larger numbers count as this in a mean, so that its spread is finite


@dataclass(frozen=True)
class Vocabulary:
    """Raw values to ids. Strings are kept as strings, so that another log's codes find the same ids."""

    values: tuple[Any, ...]  # sorted; behind them those that joined later
    grown: int = 0  # how many joined after the first fit
    _tables: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, raw: Iterator[Array], strings: list[str] | None, min_count: int) -> "Vocabulary":
        """The values of a column, given in pieces, that stand there `min_count` times or more."""
        found = [np.unique(piece, return_counts=True) for piece in raw]
        seen = np.concatenate([values for values, _ in found]) if found else np.zeros(0)
        values, where = np.unique(seen, return_inverse=True)
        counts = np.bincount(where, np.concatenate([counts for _, counts in found]) if found else None, len(values))
        values = values[counts >= min_count]
        if strings is not None:
            return cls(tuple(sorted(strings[int(v)] for v in values[values >= 0])))
        numbers = values.astype(np.float64)
        return cls(tuple(numbers[~np.isnan(numbers)].tolist()))

    @property
    def size(self) -> int:
        return FIRST + len(self.values)

    def encode(self, raw: Array, strings: Sequence[str] | None) -> Integers:
        """Ids of raw values; `strings` says what codes stand for where the column holds codes."""
        if not self.values:
            return np.where(_missing(raw), BLANK, UNKNOWN)
        if isinstance(self.values[0], str) != (strings is not None):
            raise UserError(
                "a column holds text here and held numbers in training, or the reverse; "
                "prepare the log with the schema of the run"
            )
        if strings is not None:
            return self._of_codes(strings)[raw]
        order, known = self._known
        at = np.minimum(np.searchsorted(known, raw), len(known) - 1)
        ids = np.where(known[at] == raw, FIRST + order[at], UNKNOWN)
        return np.where(_missing(raw) & (known[at] != raw), BLANK, ids)

    def extend(self, seen: "Vocabulary") -> "Vocabulary":
        """The same ids, and behind them new ones for what was `seen` and had none."""
        new = sorted(set(seen.values) - set(self.values))
        return Vocabulary((*self.values, *new), self.grown + len(new))

    @cached_property
    def _known(self) -> tuple[Array, Array]:
        """The places of the values in ascending order, and the values so."""
        values = np.asarray(self.values)
        order = np.argsort(values, kind="stable")
        return order, values[order]

    def _of_codes(self, strings: Sequence[str]) -> Integers:
        """(codes + 1,) the id of each code; the last entry is that of code -1: blank. Made once for each log."""
        if self._tables.get("strings") is not strings:
            place = {value: FIRST + i for i, value in enumerate(self.values)}
            table = np.array([*(place.get(s, UNKNOWN) for s in strings), BLANK], dtype=np.int64)
            self._tables.update(strings=strings, table=table)
        return np.asarray(self._tables["table"])


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and spread of a number in training."""

    mean: float
    std: float

    @classmethod
    def of(cls, raw: Iterator[Array]) -> "Scale":
        """Mean and spread of a column given in pieces; 0 and 1 where it has none."""
        n, mean, squares = 0, 0.0, 0.0  # squares: the sum of squared distances from the mean
        for piece in raw:
            values = piece[np.isfinite(piece)].astype(np.float64)
            values = np.clip(values, -LARGEST, LARGEST)
            if len(values):
                share = len(values) / (n + len(values))
                step = float(values.mean()) - mean
                squares += float(values.var()) * len(values) + step * step * n * share
                mean += step * share
                n += len(values)
        std = math.sqrt(squares / n) if n else 0.0
        return cls(mean, std if std > 1e-12 else 1.0)

    def encode(self, raw: Array) -> Floats:
        """(..., 2): the standardised value (0 where missing) and the flag that it was there."""
        there = ~np.isnan(raw)
        z = np.where(there, self.standardise(raw), 0.0)
        return np.stack([z, there.astype(np.float64)], axis=-1)

    def standardise(self, raw: Array) -> Floats:
        """Standard deviations from the mean, far ones squeezed."""
        with np.errstate(over="ignore", invalid="ignore"):
            return squeeze(np.clip((raw - self.mean) / self.std, -LARGEST, LARGEST))


def squeeze(z: Floats) -> Floats:
    """sign(z) log(1 + |z|): nearly z about 0, and far values kept in order without drowning the rest."""
    return np.asarray(np.sign(z) * np.log1p(np.abs(z)))


def _missing(raw: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isnan(raw) if raw.dtype.kind == "f" else raw < 0)
