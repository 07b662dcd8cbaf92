"""Small logs for the tests of floors: written as journeys, with a split set by hand."""

from pathlib import Path
from typing import Any

import numpy as np

from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys, JourneysWriter

CHANNELS = ("mail", "search", "video")
CITIES = ["Bonn", "Kiel", "Ulm"]


def schema(clock: bool = True, propensity: bool = False) -> LogSchema:
    gains = [Gain("click"), Gain("play", "continuous"), Gain("rating", "classes"), Gain("sale", known="never")]
    if clock:
        gains += [Gain("order", known="at:order_time"), Gain("state", "classes", known="at:state_time")]
    return LogSchema(
        "small",
        user="user",
        time="time" if clock else None,
        channel="channel",
        channels=CHANNELS,
        features=(
            Feature("hour"),
            Feature("city", "categorical", level="user"),
            Feature("length", known="after"),
            Feature("topic", "categorical", known="after"),
        ),
        gains=tuple(gains),
        cost=Cost("cost"),
        propensity="propensity" if propensity else None,
    )


def random_columns(rng: np.random.Generator, lengths: np.ndarray, clock: bool = True) -> dict[str, Any]:
    """Columns of users with these journey lengths; with a clock there are ties and late orders."""
    n = int(lengths.sum())
    columns: dict[str, Any] = {
        "channel": rng.integers(0, 3, n).astype(np.int32),
        "cost": rng.integers(0, 5, n) / 4,
        "feature/hour": rng.integers(0, 24, n).astype(np.float64),
        "feature/length": rng.integers(1, 9, n).astype(np.float64),
        "feature/topic": rng.integers(-1, 3, n).astype(np.int32),  # -1: missing
        "user/city": rng.integers(0, 3, len(lengths)).astype(np.int32),
        "gain/click": rng.integers(0, 2, n).astype(np.float64),
        "gain/play": np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 40, n) / 8),
        "gain/rating": rng.integers(0, 3, n).astype(np.float64),
        "gain/sale": rng.integers(0, 2, n).astype(np.float64),
    }
    if clock:
        time = np.concatenate([np.sort(rng.integers(0, 6, k)) for k in lengths]).astype(np.float64)
        columns |= {
            "time": time,
            "gain/order": rng.integers(0, 2, n).astype(np.float64),
            "gain/state": rng.integers(0, 3, n).astype(np.float64),
            "known_at/state": time + rng.integers(0, 4, n),
            "known_at/order": np.where(rng.random(n) < 0.2, np.nan, time + rng.integers(0, 4, n)),
        }
    return columns


def write(
    path: Path,
    lengths: np.ndarray,
    columns: dict[str, Any],
    made: LogSchema | None = None,
    categories: dict[str, list[str]] | None = None,
) -> Journeys:
    """A journeys folder of users 0, 1, ... with these columns."""
    text = {"feature/topic": ["news", "sport", "art"], "user/city": CITIES} if categories is None else categories
    with JourneysWriter(path, made or schema("time" in columns), text) as writer:
        writer.append(np.arange(len(lengths)), np.asarray(lengths), columns)
        return writer.close()


def split_of(journeys: Journeys, train: Any, validation: Any, test: Any) -> Split:
    """A split of these rows, by hand."""
    parts = {}
    for part, rows in (("train", train), ("validation", validation), ("test", test)):
        parts[part] = np.zeros(journeys.n_steps, dtype=np.bool_)
        parts[part][np.asarray(rows, dtype=np.int64)] = True
    return Split("users", 0, None, parts)
