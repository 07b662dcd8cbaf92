"""Trees: boosted trees (LightGBM) of each gain and of the cost as a predictor, the strong plain rival of a network.

A row is an exposure as it looked beforehand: the context, the user's features, running counts and rates, what the last
`LAGS` steps brought, and the channel in question. The same columns are made of the log to learn from and of the
campaign's users, both from a History. Trained on the users of the split's train part, stopped on those of validation.

n rows, B histories, T steps, M channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.campaign.market import Market
from headrace.campaign.scores import Scores
from headrace.errors import UserError
from headrace.evaluate.floor_models import LIGHTGBM, LIGHTGBM_PATIENCE, LIGHTGBM_ROUNDS
from headrace.journeys.seams import Floats, History, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.views import view

LAGS = 3
BATCH = 8_192  # rows looked at together
Columns = NDArray[np.float32]


def columns(history: History) -> Columns:
    """(B, W) what is known of the step to decide, numbers and codes as they are, NaN where nothing is."""
    n = len(history)
    last = history.mask.sum(axis=1) - 1
    row = np.arange(n)
    found: list[NDArray[Any]] = [values[row, last] for values in history.before.values()]
    found += list(history.user.values())
    for values in history.so_far.values():
        wide = values[row, last].reshape(n, -1)
        found += list(wide.T)
    for values in history.previous.values():
        for lag in range(LAGS):
            at = np.maximum(last - lag, 0)
            found.append(np.where(last >= lag, values[row, at].astype(np.float64), np.nan))
    return np.stack(found, axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Trees:
    """Fitted trees of each gain that counts, and of the cost, as a campaign's predictor."""

    weights: Mapping[str, float]
    channels: int
    models: Mapping[str, Any]  # by gain, and "cost"

    def predict(self, market: Market, users: Integers) -> Scores:
        parts = [self._some(market, users[k : k + BATCH]) for k in range(0, max(len(users), 1), BATCH)]
        gain, cost = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Scores(gain, cost, gain.max(axis=1), np.full(gain.shape, 1 / self.channels))

    def _some(self, market: Market, users: Integers) -> tuple[Floats, Floats]:
        if not len(users):
            return np.zeros((0, self.channels)), np.zeros((0, self.channels))
        return self.of(market.histories(users))

    def of(self, histories: History) -> tuple[Floats, Floats]:
        """Gain and cost of each channel at the step to decide, (B, M) each."""
        table, m = columns(histories), self.channels
        n = len(table)
        asked = np.concatenate([np.repeat(table, m, axis=0), np.tile(np.arange(m), n)[:, None]], axis=1)
        gain = np.sum([w * self._value(name, asked) for name, w in self.weights.items()], axis=0)
        return gain.reshape(n, m), self._value("cost", asked).reshape(n, m)

    def _value(self, name: str, asked: Columns) -> Floats:
        return np.maximum(np.asarray(self.models[name].predict(asked, num_threads=1), dtype=np.float64), 0.0)


def fit_trees(journeys: Journeys, split: Split, weights: Mapping[str, float], seed: int = 0) -> Trees:
    """Trees of the gains in `weights` and of the cost; UserError where LightGBM is not installed."""
    try:
        import lightgbm
    except ModuleNotFoundError:
        raise UserError("trees-lp: the package lightgbm is not installed; pip install lightgbm") from None
    parts = {}
    for part in ("train", "validation"):
        rows = split.rows(part)
        histories = (journeys.histories(rows[k : k + BATCH], LAGS + 1) for k in range(0, len(rows), BATCH))
        table = np.concatenate([columns(h) for h in histories])
        channel = np.asarray(journeys.channel)[rows].astype(np.float32)
        parts[part] = rows, np.concatenate([table, channel[:, None]], axis=1)
    late = view(journeys, split, "train").late
    options = {"seed": seed, "deterministic": True, "force_row_wise": True, "verbose": -1, "num_threads": 1, **LIGHTGBM}
    stop = round(LIGHTGBM_PATIENCE / LIGHTGBM["learning_rate"])
    models = {}
    for name in (*weights, "cost"):
        values = np.asarray(journeys.column("cost") if name == "cost" else journeys.gain(name), dtype=np.float64)
        binary = name != "cost" and journeys.schema.gain(name).kind == "binary"
        data = []
        for part, (rows, table) in parts.items():
            known = ~np.isnan(values[rows])
            if part == "train" and name in late:
                known &= ~late[name][rows]
            data.append((table[known], values[rows][known]))
        train = lightgbm.Dataset(*data[0])
        held = lightgbm.Dataset(*data[1], reference=train)
        models[name] = lightgbm.train(
            options | {"objective": "binary" if binary else "regression"},
            train,
            round(LIGHTGBM_ROUNDS / LIGHTGBM["learning_rate"]),
            valid_sets=[held],
            callbacks=[lightgbm.early_stopping(stop, verbose=False)],
        )
    return Trees(dict(weights), len(journeys.channels), models)
