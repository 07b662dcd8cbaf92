"""Features: what a model is given of each row, as ids and numbers. The state s_t of RMTL (section 2.4.1).

User, item, context, and running statistics as of the row's time: of the user, the item, its author, how often they
were met and how often each gain followed. A value enters if it was known strictly before the row (statistics.py).
Unlike a channel, an item is given when its gains are predicted, so its columns (`after` features) are inputs.

Everything is fitted on training rows: vocabularies with ids of their own for padding (0), unknown (1) and missing (2),
scales, means, quantiles for the bins. Held in memory: all of a log's statistics, and the encoded rows of a part.

n rows, N steps of the log, C category columns, F number columns, G gains, K tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from headrace.journeys.scales import BLANK, FIRST, Scale, Vocabulary
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.statistics import (
    GAP,
    Statistic,
    clock,
    events,
    keys,
    running_of,
    step_values,
    sums_before,
    to_floats,
)
from headrace.journeys.store import Array, Journeys
from headrace.journeys.transforms import Transforms
from headrace.predict.tasks import Task, parse

Key = tuple[str, ...]
QUANTILES_FROM = 200_000  # training rows at most that the bins are cut by


@dataclass(frozen=True, slots=True)
class Raw:
    """What is known of n rows, in the log's own values."""

    values: Mapping[str, Array]  # (n,) features
    strings: Mapping[str, Sequence[str]]  # what the codes of a text column stand for
    users: Integers  # (n,) ids of the users' vocabulary
    channel: Array | None  # (n,)
    gap: Floats | None  # (n,) time since the user's last earlier step
    sums: Mapping[Key, Floats]  # (n, 2G) number and sum of each gain so far


def statistics(journeys: Journeys, asked: Sequence[Key], gains: Sequence[str]) -> dict[Key, Floats]:
    """Number and sum of each gain known strictly before each step, by what they are counted for: (N, 2G)."""
    every = slice(0, journeys.n_steps)
    when = clock(journeys, every)
    found: dict[Key, Floats] = {}
    of = {gain: events(journeys, Statistic(gain, ("user",), gain), every, when) for gain in gains}
    for key in asked:
        codes = keys(journeys, key, every)
        if all(known is when for known, _ in of.values()):  # all known at once: one sum over all of them
            values = np.concatenate([v for _, v in of.values()], axis=1) if of else np.zeros((len(when), 0), np.int64)
            sums = sums_before(codes, when, when, values)
        else:
            sums = np.concatenate([sums_before(codes, when, known, v) for known, v in of.values()], axis=1)
        found[key] = to_floats(sums, Statistic("sums", key, "gains"))
    return found


@dataclass(frozen=True)
class Features:
    """Fitted on training rows; encodes any rows of a log of the same schema."""

    transforms: Transforms
    tasks: tuple[Task, ...]
    keys: tuple[Key, ...]
    gains: tuple[str, ...]  # those that running statistics are kept of
    users: Vocabulary | None
    strengths: tuple[float, ...]  # k of the smoothed rates (sum + k mean) / (number + k)
    scales: tuple[Scale, ...] = ()  # of each number column
    knots: tuple[tuple[float, ...], ...] = ()  # of each number column

    @classmethod
    def fit(
        cls,
        journeys: Journeys,
        rows: Integers,
        tasks: tuple[Task, ...],
        asked: tuple[Key, ...],
        so_far: Mapping[Key, Floats],
        min_count: int = 2,
        bins: int = 8,
        with_users: bool = True,
        strengths: tuple[float, ...] = (2.0, 20.0),
    ) -> "Features":
        """Fit on `rows`, the training rows; `so_far` are the log's `statistics` of the same keys."""
        transforms = Transforms.fit(journeys, rows, {}, statistics=(), min_count=min_count)
        users = None
        if with_users and journeys.schema.user is not None:
            codes, counts = np.unique(journeys.users_of(rows), return_counts=True)
            users = Vocabulary(tuple(sorted(journeys.users[codes[counts >= min_count]].tolist())))
        plain = cls(transforms, tasks, asked, known_gains(journeys, tasks), users, strengths)
        some = rows if len(rows) <= QUANTILES_FROM else rows[:: -(-len(rows) // QUANTILES_FROM)]
        numbers = plain.numbers(plain.raw(journeys, some, so_far))  # (n, F)
        scales = tuple(Scale(float(c.mean()), float(c.std()) or 1.0) for c in numbers.T)
        places = np.linspace(0, 1, bins + 1)
        standard = (numbers - [s.mean for s in scales]) / [s.std for s in scales]
        cuts = [np.unique(q) for q in np.quantile(standard, places, axis=0, method="nearest").T] if bins else []
        knots = tuple(tuple(q.tolist()) if len(q) > 2 else () for q in cuts)
        return cls(transforms, tasks, asked, plain.gains, users, strengths, scales, knots)

    @property
    def cardinalities(self) -> list[int]:
        """Number of ids of each category column."""
        found = [] if self.users is None else [self.users.size]
        found += [self.transforms.vocabularies[n].size for n in self._categories]
        return found + ([FIRST + len(self.transforms.channels)] if self.transforms.channels else [])

    @property
    def width(self) -> int:
        """F, the number columns."""
        return len(self.scales)

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """What each category column and each number column is."""
        ids = ["user"] * (self.users is not None) + self._categories + ["channel"] * bool(self.transforms.channels)
        numbers = [part for name in self._numeric for part in (name, f"{name} there")]
        numbers += ["gap"] * (GAP in self.transforms.scales)
        for key in self.keys if self.gains else ():
            by = "+".join(key)
            numbers += [f"met by {by}", *(f"{g} by {by} ({k:g})" for g in self.gains for k in self.strengths)]
        return ids, numbers

    @property
    def _categories(self) -> list[str]:
        return [f.name for f in self.transforms.schema.features if f.name in self.transforms.vocabularies]

    @property
    def _numeric(self) -> list[str]:
        return [f.name for f in self.transforms.schema.features if f.name in self.transforms.scales]

    def raw(self, journeys: Journeys, rows: Integers, so_far: Mapping[Key, Floats]) -> Raw:
        """What the log knows of these rows."""
        features = self.transforms.schema.features
        strings = {}
        for f in features:
            held = journeys.categories.get(f"{'user' if f.level == 'user' else 'feature'}/{f.name}")
            if held is not None:
                strings[f.name] = held
        gap = None
        if GAP in self.transforms.scales:
            gap = running_of(journeys, (), slice(0, journeys.n_steps))[GAP][rows, 0]
        return Raw(
            {f.name: step_values(journeys, f.name, rows) for f in features},
            strings,
            self._user_ids(journeys, rows),
            np.asarray(journeys.channel[rows]) if self.transforms.channels else None,
            gap,
            {key: so_far[key][rows] for key in self.keys},
        )

    def _user_ids(self, journeys: Journeys, rows: Integers) -> Integers:
        if self.users is None:
            return np.zeros(len(rows), dtype=np.int64)
        strings = journeys.categories.get("users")
        return self.users.encode(np.asarray(journeys.column("users"))[journeys.users_of(rows)], strings)

    def ids(self, raw: Raw) -> NDArray[np.int32]:
        """(n, C)"""
        columns = [] if self.users is None else [raw.users]
        columns += [self.transforms.vocabularies[n].encode(raw.values[n], raw.strings.get(n)) for n in self._categories]
        if raw.channel is not None:
            columns.append(np.where(raw.channel < 0, BLANK, FIRST + raw.channel))
        return np.stack(columns, axis=1).astype(np.int32) if columns else np.zeros((len(raw.users), 0), np.int32)

    def numbers(self, raw: Raw) -> NDArray[np.float64]:
        """(n, F), not yet scaled."""
        t = self.transforms
        columns = [t.scales[n].encode(raw.values[n].astype(np.float64)) for n in self._numeric]
        if raw.gap is not None:
            columns.append(t.scales[GAP].encode(np.log1p(np.maximum(raw.gap, 0.0) / t.gap_unit))[:, :1])
        for key in self.keys if self.gains else ():
            sums = raw.sums[key]
            columns.append(np.log1p(sums[:, :1]))
            for g, gain in enumerate(self.gains):
                number, total, mean = sums[:, 2 * g], sums[:, 2 * g + 1], t.means[gain]
                for k in self.strengths:
                    columns.append(self._rate(gain, (total + k * mean) / (number + k))[:, None])
        n = len(raw.users)
        return np.concatenate(columns, axis=1) if columns else np.zeros((n, 0))

    def _rate(self, gain: str, rate: Floats) -> Floats:
        """A smoothed rate about the training mean: in log-odds for a binary gain, else in standard deviations."""
        mean = self.transforms.means[gain]
        if gain in self.transforms.scales:
            return np.asarray(self.transforms.scales[gain].standardise(rate))
        return np.asarray(logit(rate) - logit(mean)) if 0 < mean < 1 else rate - mean

    def encode(self, raw: Raw) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """(n, C) ids and (n, F) standardised numbers."""
        scaled = (self.numbers(raw) - [s.mean for s in self.scales]) / [s.std for s in self.scales]
        return self.ids(raw), np.clip(scaled, -10, 10).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the transforms, and what is added to them."""
        return self.transforms.to_dict() | {
            "tasks": [str(t) for t in self.tasks],
            "keys": [list(k) for k in self.keys],
            "gains_counted": list(self.gains),
            "users": None if self.users is None else list(self.users.values),
            "strengths": list(self.strengths),
            "number_scales": [[s.mean, s.std] for s in self.scales],
            "number_knots": [list(k) for k in self.knots],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Features":
        """The features of `to_dict`'s values."""
        return cls(
            Transforms.from_dict(values),
            parse(",".join(values["tasks"])),
            tuple(tuple(k) for k in values["keys"]),
            tuple(values["gains_counted"]),
            None if values["users"] is None else Vocabulary(tuple(values["users"])),
            tuple(values["strengths"]),
            tuple(Scale(*s) for s in values["number_scales"]),
            tuple(tuple(k) for k in values["number_knots"]),
        )


def known_gains(journeys: Journeys, tasks: Sequence[Task]) -> tuple[str, ...]:
    """The gains that the tasks are made of and that become known: labels that never do are no input."""
    named = dict.fromkeys(g for task in tasks for g in task.gains)
    return tuple(g for g in named if journeys.schema.gain(g).known != "never")
