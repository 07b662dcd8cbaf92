"""Small logs for the tests of this room: random ones with everything that a log may hold.

N steps, U users.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.statistics import Statistic, default_statistics
from headrace.journeys.store import Journeys, JourneysWriter

CLOCKED = LogSchema(
    "clocked",
    user="u",
    time="t",
    time_unit="s",
    channel="c",
    channels=("a", "b", "c"),
    features=(
        Feature("age", "numeric", level="user"),
        Feature("city", "categorical", level="user"),
        Feature("hour", "categorical"),
        Feature("place", "categorical"),
        Feature("price", "numeric"),
        Feature("topic", "categorical", "after"),
        Feature("length", "numeric", "after"),
    ),
    gains=(
        Gain("click"),
        Gain("play", "continuous"),
        Gain("mood", "classes"),
        Gain("buy", known="at:bought"),
        Gain("label", known="never"),
    ),
    cost=Cost("w", "EUR"),
    propensity="p",
)
CLOCKLESS = replace(
    CLOCKED,
    name="clockless",
    time=None,
    gains=tuple(g for g in CLOCKED.gains if g.name != "buy"),
)
CATEGORIES = {
    "user/city": ["Bern", "Rom"],
    "feature/place": ["home", "way", "work"],
    "feature/topic": ["x", "y"],
}
ACROSS_USERS = (
    Statistic("hour_clicks", ("hour",), "click"),
    Statistic("price_buys", ("price",), "buy"),
    Statistic("place_channel", ("place", "channel")),
    Statistic("everyone", ("channel",), "play"),
)
OF_A_USER = (Statistic("place_plays", ("user", "place"), "play"), Statistic("city_hour", ("user", "city", "hour")))


def statistics_of(schema: LogSchema) -> tuple[Statistic, ...]:
    """Every kind of statistic that a log of this schema may have."""
    return default_statistics(schema) + OF_A_USER + (ACROSS_USERS if schema.time else ())


def columns_of(schema: LogSchema, lengths: list[int], seed: int) -> dict[str, np.ndarray]:
    """Random columns with ties, late outcomes, missing values and few distinct ones."""
    rng = np.random.default_rng(seed)
    n, users = sum(lengths), len(lengths)

    def holes(values: np.ndarray, share: float = 0.3) -> np.ndarray:
        return np.where(rng.random(len(values)) < share, np.nan, values)

    columns: dict[str, np.ndarray] = {
        "channel": rng.integers(0, len(schema.channels), n).astype(np.int16),
        "user/age": holes(rng.normal(40, 10, users)),
        "user/city": rng.integers(-1, 2, users).astype(np.int32),
        "feature/hour": rng.integers(0, 3, n).astype(np.int8),
        "feature/place": rng.integers(-1, 3, n).astype(np.int32),
        "feature/price": holes(rng.integers(1, 3, n) / 4),
        "feature/topic": rng.integers(-1, 2, n).astype(np.int32),
        "feature/length": holes(rng.normal(size=n)),
        "gain/click": rng.integers(0, 2, n).astype(np.int8),
        "gain/play": holes(rng.normal(size=n)),
        "gain/mood": rng.integers(-1, 3, n).astype(np.int32),
        "gain/label": rng.integers(0, 2, n).astype(np.int8),
        "cost": rng.random(n),
        "propensity": rng.uniform(0.1, 1.0, n),
    }
    if schema.time is not None:
        longest = max(lengths, default=0)
        times = [np.sort(rng.integers(0, 3 + longest // 2, k)).astype(float) for k in lengths]
        time = columns["time"] = np.concatenate([np.zeros(0), *times])
        columns["gain/buy"] = rng.integers(0, 2, n).astype(np.int8)
        columns["known_at/buy"] = holes(time + rng.integers(-1, 5, n), 0.2)
    return columns


def write(
    path: str | Path,
    schema: LogSchema,
    lengths: list[int],
    columns: dict[str, np.ndarray],
    users: Any = None,
    categories: dict[str, list[str]] = CATEGORIES,
) -> Journeys:
    """A store of these columns."""
    ids = np.arange(len(lengths)) * 7 if users is None else np.asarray(users)
    with patch("os.fsync"), JourneysWriter(path, schema, categories) as writer:  # no test cuts the power
        writer.append(ids, np.array(lengths, dtype=np.int64), columns)
        return writer.close()


def random_log(path: str | Path, schema: LogSchema, lengths: list[int], seed: int = 0) -> Journeys:
    """A random log of users with journeys of these lengths."""
    return write(path, schema, lengths, columns_of(schema, lengths, seed))


def plain_log(path: str | Path, lengths: list[int], time: Any = None, users: Any = None, **more: Any) -> Journeys:
    """A log of channels and clicks alone, with a clock where `time` is given; `more` columns replace or join."""
    n = sum(lengths)
    schema = LogSchema("plain", user="u", channel="c", channels=("a", "b"), gains=(Gain("click"),))
    columns: dict[str, np.ndarray] = {
        "channel": np.arange(n, dtype=np.int16) % 2,
        "gain/click": (np.arange(n) % 3 == 0).astype(np.int8),
    }
    if time is not None:
        schema = replace(schema, time="t", time_unit="s")
        columns["time"] = np.asarray(time, dtype=float)
    columns |= {name: np.asarray(values) for name, values in more.items()}
    return write(path, schema, lengths, columns, users, {})


def without(columns: dict[str, np.ndarray], keep: np.ndarray, users: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of the steps `keep` (N,) and of the users `users` (U,)."""
    return {name: values[users if name.startswith("user/") else keep] for name, values in columns.items()}


def declared(schema: LogSchema, known: dict[str, str]) -> LogSchema:
    """The schema with some features and gains known at other times."""
    return replace(
        schema,
        features=tuple(replace(f, known=known.get(f.name, f.known)) for f in schema.features),
        gains=tuple(replace(g, known=known.get(g.name, g.known)) for g in schema.gains),
    )
