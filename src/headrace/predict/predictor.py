"""A trained model as a `Predictor`: K chances of each candidate item of users that are known by their histories.

What the log knows as of a row's time, a server knows as of now: the user's statistics come from the history, those of
items, authors, topics, ... from a snapshot over the training rows that the run keeps. A history does not name its user,
so the user's embedding is that of an unknown one.

B histories, C candidates, T steps, K tasks, G gains.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headrace.errors import UserError
from headrace.journeys.scales import FIRST, UNKNOWN
from headrace.journeys.seams import Floats, History, Integers
from headrace.journeys.statistics import GAP, SCALE, count_and_sum, gain_values, step_values
from headrace.journeys.store import Array, Journeys
from headrace.predict.backbones import Network
from headrace.predict.features import Features, Key, Raw

SEEN = "seen"  # where a step is a request for a list: how many of its items were seen
OF_REQUEST = {"play_s": "dwell_s"}  # what an item's gain is called when summed over its request, where not the same
ROWS = 65_536  # candidates that are scored at once


class ItemPredictor:
    """Predicts the run's tasks for any items."""

    def __init__(self, features: Features, network: Network, snapshot: Mapping[str, Tensor]):
        """Raises UserError where features ask for what a history does not tell."""
        for key in features.keys:
            if "user" in key and key != ("user",):
                raise UserError(
                    f"predictor: the run counts by {'+'.join(key)}, which a history does not hold; train it with keys "
                    "that are user, or of the item alone ( --set keys=user,... )"
                )
        self.features, self.network = features, network
        self.behaviours = tuple(t.name for t in features.tasks)
        self._sums = {key: _lookup(snapshot, key) for key in features.keys if "user" not in key}

    def predict(self, histories: History, candidates: dict[str, NDArray[Any]]) -> Floats:
        """(B, C, K) for candidates of (B, C), (B, K) for (B,): the visible columns of the items."""
        shape = next(iter(candidates.values())).shape
        items = shape[1] if len(shape) > 1 else 1
        raw = self._raw(histories, {name: np.asarray(v).reshape(-1) for name, v in candidates.items()}, items)
        ids, numbers = self.features.encode(raw)
        device = next(self.network.parameters()).device
        self.network.eval()
        found = []
        with torch.no_grad():
            for first in range(0, len(ids), ROWS):
                rows = slice(first, first + ROWS)
                logits = self.network(
                    torch.from_numpy(ids[rows]).to(device), torch.from_numpy(numbers[rows]).to(device)
                )
                found.append(logits.sigmoid().cpu().numpy().astype(np.float64))
        return np.concatenate(found).reshape(*shape, len(self.behaviours))

    def _raw(self, histories: History, candidates: dict[str, Array], items: int) -> Raw:
        now = np.arange(len(histories)), histories.mask.sum(axis=1) - 1
        values: dict[str, Array] = {}
        for f in self.features.transforms.schema.features:
            if f.name in candidates:
                values[f.name] = candidates[f.name]
            elif f.name in histories.user:
                values[f.name] = np.repeat(histories.user[f.name], items)
            elif f.name in histories.before:
                values[f.name] = np.repeat(histories.before[f.name][now], items)
            else:
                raise UserError(f"predictor: neither histories nor candidates hold {f.name}, which the model reads")
        n = len(histories) * items
        strings = {name: texts for name, texts in histories.categories.items() if name in values}
        gap = np.repeat(histories.so_far[GAP][now][:, 0], items) if GAP in histories.so_far else None
        channel = candidates.get("channel")
        raw = Raw(values, strings, np.full(n, UNKNOWN, dtype=np.int64), channel, gap, {})
        sums: dict[Key, Floats] = {}
        for key in self.features.keys:
            if key == ("user",):
                sums[key] = np.repeat(self._own(histories, now), items, axis=0)
            else:
                sums[key] = self._known(key, raw)
        return Raw(values, strings, raw.users, channel, gap, sums)

    def _own(self, histories: History, now: tuple[Integers, Integers]) -> Floats:
        """(B, 2G) number and sum of the user's gains so far, of items where steps are requests for lists."""
        parts = []
        for gain in self.features.gains:
            name = gain if gain in histories.so_far else OF_REQUEST.get(gain, gain)
            if name not in histories.so_far:
                raise UserError(f"predictor: the histories hold no running statistic of {gain}, which the model reads")
            own = histories.so_far[name][now]  # (B, 2)
            if SEEN in histories.so_far:
                own = np.stack([histories.so_far[SEEN][now][:, 1], own[:, 1]], axis=1)
            parts.append(own)
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(histories), 0))

    def _known(self, key: Key, raw: Raw) -> Floats:
        """(n, 2G) what the snapshot holds of each candidate; zeros for what training did not meet."""
        ids = _ids(self.features, key, raw.values, raw.strings)
        table, sums = self._sums[key]
        found = np.zeros((len(ids), 2 * len(self.features.gains)))
        if len(table):
            at = np.minimum(np.searchsorted(table, ids), len(table) - 1)
            hit = table[at] == ids
            found[hit] = sums[at[hit]]
        return found


def snapshot(features: Features, journeys: Journeys, rows: Integers) -> dict[str, Tensor]:
    """Number and sum of each gain over the training rows, for each item, author, ... that the statistics count by."""
    found: dict[str, Tensor] = {}
    if not features.gains:
        return found
    values = {f.name: step_values(journeys, f.name, rows) for f in features.transforms.schema.features}
    strings = features.raw(journeys, rows[:0], {k: np.zeros((journeys.n_steps, 0)) for k in features.keys}).strings
    gains = [count_and_sum(gain_values(journeys.schema.gain(g), journeys.gain(g)[rows])) for g in features.gains]
    each = np.concatenate(gains, axis=1).astype(np.float64)
    each[:, 1::2] /= SCALE
    for key in features.keys:
        if "user" in key:
            continue
        ids = _ids(features, key, values, strings)
        table, at = np.unique(ids, return_inverse=True)
        sums = np.stack([np.bincount(at, column, len(table)) for column in each.T], axis=1)
        kept = table >= 0
        found[f"{'+'.join(key)}/ids"] = torch.from_numpy(table[kept])
        found[f"{'+'.join(key)}/sums"] = torch.from_numpy(sums[kept])
    return found


def _ids(features: Features, key: Key, values: Mapping[str, Array], strings: Mapping[str, Any]) -> Integers:
    """(n,) one number for each combination of a key's categories; -1 where one of them is unknown or missing."""
    found = np.zeros(len(next(iter(values.values()))), dtype=np.int64)
    known = np.ones(len(found), dtype=np.bool_)
    for name in key:
        vocabulary = features.transforms.vocabularies.get(name)
        if vocabulary is None:
            raise UserError(f"running statistics by {name}: it is a number; count by categorical features")
        ids = vocabulary.encode(values[name], strings.get(name))
        known &= ids >= FIRST
        found = found * vocabulary.size + ids
    return np.where(known, found, -1)


def _lookup(snapshot: Mapping[str, Tensor], key: Key) -> tuple[Integers, Floats]:
    name = "+".join(key)
    if f"{name}/ids" not in snapshot:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 0))
    return snapshot[f"{name}/ids"].numpy(), snapshot[f"{name}/sums"].numpy()
