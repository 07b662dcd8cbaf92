"""Small logs for the tests of this room: random ones with everything a log may hold, and the real samples.

N steps, U users.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

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
        time = np.concatenate([np.sort(rng.integers(0, 3 + max(lengths) // 2, k)) for k in lengths]).astype(float)
        columns["time"] = time
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
    with JourneysWriter(path, schema, categories) as writer:
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


def sample(
    file: Path,
    path: Path,
    schema: LogSchema,
    known: dict[str, str] | None = None,
) -> Journeys:
    """Journeys of a real log whose rows are in time order within a user; `known` declares columns otherwise."""
    schema = replace(
        schema,
        features=tuple(replace(f, known=(known or {}).get(f.name, f.known)) for f in schema.features),
        gains=tuple(replace(g, known=(known or {}).get(g.name, g.known)) for g in schema.gains),
    )
    log = pl.read_parquet(file).with_row_index("__row")
    log = log.sort([schema.user, *([schema.time] if schema.time else []), "__row"])
    users, first, lengths = np.unique(log[schema.user].to_numpy(), return_index=True, return_counts=True)
    columns = {"channel": log.select(schema.channel_columns).to_numpy().argmax(axis=1).astype(np.int16)}
    if not isinstance(schema.channel, tuple):
        columns.pop("channel")
    for f in schema.features:
        values = log[f.name].to_numpy()
        columns[f"user/{f.name}" if f.level == "user" else f"feature/{f.name}"] = (
            values[first] if f.level == "user" else values
        )
    for g in schema.gains:
        columns[f"gain/{g.name}"] = log[g.name].to_numpy().astype(np.float64 if g.kind == "continuous" else np.int8)
    if schema.time:
        columns["time"] = log[schema.time].to_numpy().astype(np.float64)
    if schema.cost:
        columns["cost"] = log[schema.cost.name].to_numpy().astype(np.float64)
    return write(path, schema, lengths.tolist(), columns, users, {})


TYPES = tuple(
    f"Type_{n}"
    for n in (3225256, 5824233, 9068204, 9312274, 14911188, 20754144, 23998111, 26597096, 29196072, 29841067, 32440044)
)
CRITEO = LogSchema(
    "criteo",
    user="uid",
    channel=TYPES,
    channels=TYPES,
    features=tuple(
        Feature(f, "categorical", "after") for f in ("campaign", *(f"cat{i}" for i in (1, 2, 3, 4, 5, 6, 7, 9)))
    ),
    gains=(
        Gain("click"),
        Gain("conversion", known="never"),
        Gain("attribution", known="never"),
        Gain("click_nb", "continuous", "never"),
    ),
    cost=Cost("cost"),
)
CRITEO_FILE = "criteo_attribution/criteo_sequence.parquet"
KUAIRAND = LogSchema(
    "kuairand",
    user="user_id",
    time="time_ms",
    time_unit="scaled",
    channel=("short", "mid", "long"),
    channels=("short", "mid", "long"),
    features=(Feature("hourmin"), Feature("onehot_feat1", "categorical", level="user")),
    gains=(Gain("is_click"), Gain("long_view"), Gain("play_time_ms", "continuous")),
)
KUAIRAND_FILE = "kuairand_random/kuairand_sequence.parquet"
PURE = LogSchema(
    "pure",
    user="user_id",
    time="time_ms",
    features=(
        Feature("tab", "categorical"),
        Feature("video_id", "categorical", "after"),
        Feature("duration_ms", known="after"),
    ),
    gains=(
        *(Gain(g) for g in ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view")),
        Gain("is_profile_enter"),
        Gain("play_time_ms", "continuous"),
    ),
)
PURE_FILE = "kuairand_pure/log_standard_4_25_to_5_08_pure.parquet"
