"""Transforms: from a log's raw values to the numbers a network reads. Fitted on training steps, saved, never refitted.

Categories become ids (0 padding, 1 unknown, 2 not known yet, 3 and up the values seen in training); numbers are
standardised, a missing one becomes 0 beside a flag that says so. Counts enter as log(1 + count), gains as smoothed
rates (sum + k p) / (count + k) with p the training mean, in log-odds about p: a journey without a past starts at 0.

B journeys, T steps, M channels, C category columns, F number columns.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from headrace.errors import UserError
from headrace.journeys.scales import BLANK, FIRST, PADDING, UNKNOWN, Scale, Vocabulary, squeeze
from headrace.journeys.schema import LogSchema
from headrace.journeys.seams import Floats, History, Integers
from headrace.journeys.statistics import GAP, Statistic, default_statistics, gain_values, step_values
from headrace.journeys.store import Array, Journeys
from headrace.journeys.views import Batch

Categories = Literal["embedded", "numbers", "both"]  # how categories that are stored as numbers are read

PIECE = 100_000  # steps that are read at once


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a network reads at each step, (B, T, ...); the float columns are float32."""

    ids: NDArray[np.int64]  # (B, T, C)
    numbers: NDArray[np.float32]  # (B, T, F)
    mask: NDArray[np.bool_]  # (B, T)


def stored_as_numbers(journeys: Journeys) -> list[str]:
    """The categorical features of a log that it stores as numbers, not as text."""
    text = {name.split("/", 1)[1] for name in journeys.categories if "/" in name}
    return [f.name for f in journeys.schema.features if f.kind == "categorical" and f.name not in text]


@dataclass(frozen=True, slots=True)
class Transforms:
    """Everything fitted on a split's training steps that stands between a log and a network."""

    schema: LogSchema
    statistics: tuple[Statistic, ...]
    vocabularies: dict[str, Vocabulary]  # categorical features, by name
    scales: dict[str, Scale]  # features read as numbers, cost and continuous gains, by name; the gap as "gap"
    means: dict[str, float]  # training mean of each gain
    classes: dict[str, int]  # number of classes of each gain of kind classes
    reward_weights: dict[str, float]  # the gains that make up the reward, with their weights; empty: no reward
    reward_range: tuple[float, float]  # training minimum and maximum of gain - s * cost, equation (3)
    penalty: float  # s of equation (3)
    gap_unit: float = 1.0  # the usual time between two steps of a user; gaps enter as log(1 + gap / unit)
    min_count: int = 2  # a category seen less often in training is unknown
    smoothing: tuple[float, ...] = (2.0, 20.0)  # strengths k of the smoothed rates
    channels: tuple[str, ...] = field(default=())
    bins: int = 0  # of each number of `encode`, at most
    context_bins: int = 0  # the same of `encode_context`
    knots: tuple[tuple[float, ...], ...] = ()  # where each number of `encode` is cut into bins (knots.py)
    context_knots: tuple[tuple[float, ...], ...] = ()  # the same of `encode_context`

    @classmethod
    def fit(
        cls,
        journeys: Journeys,
        rows: Array,
        reward_weights: dict[str, float] | None = None,
        penalty: float = 0.5,
        statistics: tuple[Statistic, ...] | None = None,
        categories: Categories = "embedded",
        min_count: int = 2,
    ) -> "Transforms":
        """Fit on `rows`, the training steps. `categories` says how those that are stored as numbers are read.

        The reward is the weighted sum of gains less `penalty` times the cost, min-max scaled (equations 3 and 18); by
        default the first gain that is not a label only.

        A category seen fewer than `min_count` times is unknown, so that the unknown id is trained too.
        """
        schema = journeys.schema
        rows = np.asarray(rows, dtype=np.int64)
        if np.any(rows[1:] <= rows[:-1]):
            rows = np.unique(rows)
        pieces = [rows[k : k + PIECE] for k in range(0, len(rows), PIECE)]  # a column is never read as a whole

        def gain(name: str) -> Iterator[Floats]:
            return (gain_values(schema.gain(name), journeys.gain(name)[piece]) for piece in pieces)

        def cost() -> Iterator[Floats]:
            return (journeys.column("cost")[piece].astype(np.float64) for piece in pieces)

        vocabularies: dict[str, Vocabulary] = {}
        scales: dict[str, Scale] = {}
        for f in schema.features:
            strings = journeys.categories.get(f"{'user' if f.level == 'user' else 'feature'}/{f.name}")
            as_ids = f.kind == "categorical" and (categories != "numbers" or strings is not None)
            if as_ids:
                raw = (step_values(journeys, f.name, piece) for piece in pieces)
                vocabularies[f.name] = Vocabulary.of(raw, strings, min_count)
            if not as_ids or (categories == "both" and strings is None):
                scales[f.name] = Scale.of(step_values(journeys, f.name, piece) for piece in pieces)
        means: dict[str, float] = {}
        classes: dict[str, int] = {}
        for g in schema.gains:
            means[g.name] = Scale.of(gain(g.name)).mean
            if g.kind == "continuous":
                scales[g.name] = Scale.of(gain(g.name))
            if g.kind == "classes":
                classes[g.name] = 1 + max((int(np.nanmax(values, initial=0.0)) for values in gain(g.name)), default=0)
        if schema.cost:
            scales["cost"] = Scale.of(cost())
        gap_unit = 1.0
        if journeys.time is not None and schema.user is not None:
            gap_unit = math.exp(Scale.of(np.log(g) for g in _gaps(journeys, rows)).mean)
            scales[GAP] = Scale.of(np.log1p(g / gap_unit) for g in _gaps(journeys, rows))
        if reward_weights is None:
            reward_weights = {g.name: 1.0 for g in [g for g in schema.gains if g.known != "never"][:1]}
        low, high = np.inf, -np.inf
        for piece in pieces if reward_weights else []:
            gains = {g: gain_values(schema.gain(g), journeys.gain(g)[piece]) for g in reward_weights}
            reward = _reward(gains, reward_weights)
            if schema.cost:
                reward = reward - penalty * journeys.column("cost")[piece]
            low, high = float(np.nanmin(reward, initial=low)), float(np.nanmax(reward, initial=high))
        if low > high:
            low, high = 0.0, 1.0
        used = default_statistics(schema) if statistics is None else statistics
        return cls(
            schema,
            used,
            vocabularies,
            scales,
            means,
            classes,
            reward_weights,
            (low, high),
            penalty,
            gap_unit,
            min_count,
            channels=journeys.channels,
        )

    def extend(self, journeys: Journeys, rows: Array) -> "Transforms":
        """The same with ids for categories that `rows` of a later log show `min_count` times or more, and had none.

        Ids in use stay what they are; scales, means, knots and the reward's range stay, too. Raises UserError for a log
        of another schema or with other channels.
        """
        self.fits(journeys)
        rows = np.unique(np.asarray(rows, dtype=np.int64))
        vocabularies = {}
        for name, known in self.vocabularies.items():
            level = "user" if self.schema.feature(name).level == "user" else "feature"
            strings = journeys.categories.get(f"{level}/{name}")
            known.encode(np.zeros(0, dtype=np.int64), strings)  # raises for text where numbers were, or the reverse
            pieces = (step_values(journeys, name, rows[k : k + PIECE]) for k in range(0, len(rows), PIECE))
            vocabularies[name] = known.extend(Vocabulary.of(pieces, strings, self.min_count))
        return replace(self, vocabularies=vocabularies)

    @property
    def grown(self) -> list[int]:
        """Of each category column of `encode`, how many ids joined after the first fit."""
        added = [v.grown for f in self.schema.features if (v := self.vocabularies.get(f.name))]
        return added + [0] * (len(self.cardinalities) - len(added))

    @property
    def cardinalities(self) -> list[int]:
        """Number of ids of each category column of `encode`, in order."""
        return [n for _, n in self._category_columns()]

    @property
    def width(self) -> int:
        """F, the number of number columns of `encode`: what the last step brought, then the running statistics."""
        return self.own_width + sum(self._width_of(s, len(self.channels)) for s in self.statistics)

    @property
    def own_width(self) -> int:
        """The number columns of `encode` ahead of the running statistics."""
        n = 2 * sum(f.name in self.scales for f in self.schema.features)
        n += 2 * sum(g.known != "never" and g.kind != "classes" for g in self.schema.gains) + 2 * (
            self.schema.cost is not None
        )
        return n + 2 * self.reward_is_input + 2 * (GAP in self.scales)

    def _width_of(self, s: Statistic, channels: int) -> int:
        """A count for each value; for a gain also one rate a strength of smoothing."""
        return (channels if s.by_channel else 1) * (1 if s.of is None else 1 + len(self.smoothing))

    @property
    def reward_is_input(self) -> bool:
        """Whether the last step's reward may be read: not where one of its gains is a label only."""
        return bool(self.reward_weights) and all(self.schema.gain(g).known != "never" for g in self.reward_weights)

    @property
    def context_cardinalities(self) -> list[int]:
        return [self.vocabularies[f.name].size for f in self._context() if f.name in self.vocabularies]

    @property
    def context_grown(self) -> list[int]:
        """Of each category column of `encode_context`, how many ids joined after the first fit."""
        return [self.vocabularies[f.name].grown for f in self._context() if f.name in self.vocabularies]

    @property
    def context_width(self) -> int:
        return 2 * sum(f.name in self.scales for f in self._context()) + 2 * self._cost_is_context

    def reward(self, gains: dict[str, Array], cost: Array | None) -> Floats:
        """Equations (3) and (18): the min-max scaled weighted gains less s * cost; NaN where a gain is not known."""
        low, high = self.reward_range
        total = _reward(gains, self.reward_weights) - (self.penalty * cost if cost is not None else 0.0)
        with np.errstate(over="ignore"):
            return np.clip((total - low) / max(high - low, 1e-12), 0.0, 1.0)

    def encode(self, history: History) -> Encoded:
        """What is known before the decision of each step, as ids and numbers."""
        shape = history.mask.shape
        ids, numbers = [], []
        for f in self.schema.features:
            raw = self._raw(history, f.name)
            if f.name in self.vocabularies:
                id_of = self.vocabularies[f.name].encode(raw, history.categories.get(f.name))
                ids.append(np.broadcast_to(id_of, shape))
            if f.name in self.scales:
                numbers.append(np.broadcast_to(self.scales[f.name].encode(raw), (*shape, 2)))
        if self.schema.channel is not None:
            ids.append(np.where(history.previous["channel"] < 0, BLANK, FIRST + history.previous["channel"]))
        for g in self.schema.gains:
            if g.known == "never":
                continue
            raw = history.previous[g.name]
            if g.kind == "classes":  # an id of its own each: classes have no order
                known = np.where(raw < self.classes[g.name], FIRST + np.nan_to_num(raw), UNKNOWN)
                ids.append(np.where(np.isnan(raw), BLANK, known).astype(np.int64))
            else:
                numbers.append(self._gain_input(g.name, raw))
        if self.schema.cost is not None:
            numbers.append(self.scales["cost"].encode(history.previous["cost"]))
        if self.reward_is_input:
            r = self.reward(history.previous, history.previous.get("cost"))
            numbers.append(np.stack([np.nan_to_num(r), (~np.isnan(r)).astype(np.float64)], axis=-1))
        if GAP in self.scales:
            gap = np.maximum(history.so_far[GAP][..., 0], 0.0) / self.gap_unit
            numbers.append(self.scales[GAP].encode(np.log1p(gap)))
        numbers += [self._statistic(s, history.so_far[s.name]) for s in self.statistics]
        return _assemble(ids, numbers, history.mask)

    def encode_context(self, batch: Batch) -> Encoded:
        """The `after` features of the step itself, its cost where that is paid for the exposure; never its gains."""
        ids, numbers = [], []
        for f in self._context():
            if f.name in self.vocabularies:
                strings = batch.history.categories.get(f.name)
                ids.append(self.vocabularies[f.name].encode(batch.context[f.name], strings))
            if f.name in self.scales:
                numbers.append(self.scales[f.name].encode(batch.context[f.name]))
        if self._cost_is_context and batch.cost is not None:
            numbers.append(self.scales["cost"].encode(batch.cost))
        return _assemble(ids, numbers, batch.history.mask)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema": self.schema.to_dict(),
            "statistics": [{"name": s.name, "by": list(s.by), "of": s.of} for s in self.statistics],
            "vocabularies": {k: list(v.values) for k, v in self.vocabularies.items()},
            "grown": {k: v.grown for k, v in self.vocabularies.items() if v.grown},
            "scales": {k: asdict(v) for k, v in self.scales.items()},
            "means": self.means,
            "classes": self.classes,
            "reward_weights": self.reward_weights,
            "reward_range": list(self.reward_range),
            "penalty": self.penalty,
            "gap_unit": self.gap_unit,
            "min_count": self.min_count,
            "smoothing": list(self.smoothing),
            "channels": list(self.channels),
            "bins": self.bins,
            "context_bins": self.context_bins,
            "knots": [list(k) for k in self.knots],
            "context_knots": [list(k) for k in self.context_knots],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Transforms":
        """The transforms of `to_dict`'s values."""
        return cls(
            LogSchema.from_dict(values["schema"], "transforms"),
            tuple(Statistic(s["name"], tuple(s["by"]), s["of"]) for s in values["statistics"]),
            {k: Vocabulary(tuple(v), values.get("grown", {}).get(k, 0)) for k, v in values["vocabularies"].items()},
            {k: Scale(**v) for k, v in values["scales"].items()},
            values["means"],
            values["classes"],
            values["reward_weights"],
            (values["reward_range"][0], values["reward_range"][1]),
            values["penalty"],
            values["gap_unit"],
            values["min_count"],
            tuple(values["smoothing"]),
            tuple(values["channels"]),
            values.get("bins", 0),  # runs of older versions have none
            values.get("context_bins", 0),
            tuple(tuple(k) for k in values.get("knots", ())),
            tuple(tuple(k) for k in values.get("context_knots", ())),
        )

    def save(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Transforms":
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    def fits(self, journeys: Journeys) -> None:
        """Raise where another log does not have the columns and channels that these transforms were fitted on."""
        ours, theirs = self.schema, journeys.schema
        different = [f.name for f in ours.features if f not in theirs.features]
        different += [g.name for g in ours.gains if g not in theirs.gains]
        if ours.cost != theirs.cost:
            different.append("cost")
        if (ours.time is None, ours.time_unit) != (theirs.time is None, theirs.time_unit):
            different.append("time")
        if different:
            raise UserError(
                f"{journeys.path}: the run was trained with {', '.join(different[:5])}, which this log lacks or "
                "declares otherwise; prepare it with the schema of the run"
            )
        new = [name for name in journeys.channels if name not in self.channels]
        if new:
            raise UserError(
                f"{journeys.path}: the run was fitted without channel {', '.join(new[:5])}; fit one on a log that has "
                "it, or prepare this log again without those rows"
            )
        if self.channels != journeys.channels:
            raise UserError(
                f"{journeys.path}: its channels are not the run's in their order; name those in the schema, "
                f" channels = [{', '.join(repr(name) for name in self.channels)}] , and prepare again"
            )

    def _category_columns(self) -> list[tuple[str, int]]:
        found = [(f.name, self.vocabularies[f.name].size) for f in self.schema.features if f.name in self.vocabularies]
        if self.schema.channel is not None:
            found.append(("previous channel", FIRST + len(self.channels)))
        for g in self.schema.gains:
            if g.known != "never" and g.kind == "classes":
                found.append((g.name, FIRST + self.classes[g.name]))
        return found

    @property
    def _cost_is_context(self) -> bool:
        return self.schema.cost is not None and self.schema.cost.context

    def _context(self) -> list[Any]:
        return [f for f in self.schema.features if f.known == "after" and f.level == "step"]

    def _raw(self, history: History, name: str) -> Array:
        """(B, T) a step's feature, or (B, 1) a user's."""
        if name in history.user:
            return np.asarray(history.user[name][:, None])
        return history.before[name] if name in history.before else history.previous[name]

    def _gain_input(self, name: str, raw: Array) -> Floats:
        if name in self.scales:
            return self.scales[name].encode(raw)
        there = ~np.isnan(raw)
        return np.stack([squeeze(np.nan_to_num(raw)), there.astype(np.float64)], axis=-1)

    def _statistic(self, s: Statistic, values: Floats) -> Floats:
        if s.of is None:
            return np.log1p(values)
        count, total = values[..., 0::2], values[..., 1::2]
        rates = [self._rate(s.of, (total + k * self.means[s.of]) / (count + k)) for k in self.smoothing]
        return np.concatenate([np.log1p(count), *rates], axis=-1)

    def _rate(self, gain: str, rate: Floats) -> Floats:
        """A smoothed rate about the training mean: in log-odds for a binary gain, else in standard deviations."""
        if gain in self.scales:
            return self.scales[gain].standardise(rate)
        if self.schema.gain(gain).kind == "binary" and 0 < self.means[gain] < 1:
            return np.asarray(logit(rate) - logit(self.means[gain]))
        return rate - self.means[gain]


def _assemble(ids: list[Integers], numbers: list[Floats], mask: NDArray[np.bool_]) -> Encoded:
    id_array = np.full((*mask.shape, len(ids)), PADDING, dtype=np.int64)
    for i, column in enumerate(ids):
        id_array[..., i] = column
    number_array = np.zeros((*mask.shape, sum(columns.shape[-1] for columns in numbers)), dtype=np.float32)
    at = 0
    for columns in numbers:
        number_array[..., at : at + columns.shape[-1]] = columns
        at += columns.shape[-1]
    id_array[~mask] = PADDING
    number_array[~mask] = 0.0
    return Encoded(id_array, number_array, mask)


def _reward(gains: dict[str, Array], weights: dict[str, float]) -> Floats:
    """The weighted sum of gains, NaN where one is missing."""
    return np.asarray(sum(w * np.asarray(gains[g], dtype=np.float64) for g, w in weights.items()), dtype=np.float64)


def _gaps(journeys: Journeys, rows: Integers) -> Iterator[Floats]:
    """The time between two steps of a user, both among `rows`, that did not happen together."""
    for k in range(0, len(rows), PIECE):
        piece = rows[max(k - 1, 0) : k + PIECE]  # with the last step of the piece before
        time, users = np.asarray(journeys.time)[piece], journeys.users_of(piece)
        gap = np.diff(time)
        yield gap[(np.diff(piece) == 1) & (users[1:] == users[:-1]) & (gap > 0)]
