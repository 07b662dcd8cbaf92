"""Small logs in which clicks pay double on one channel for half of the users, and channels follow the last one."""

from pathlib import Path

import numpy as np

from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys, JourneysWriter

SCHEMA = LogSchema(
    "toy",
    user="u",
    time="t",
    time_unit="s",
    channel="c",
    channels=("a", "b", "c"),
    features=(
        Feature("half", "categorical", level="user"),
        Feature("hour", "numeric"),
        Feature("topic", "categorical", "after"),
        Feature("size", "numeric", "after"),
    ),
    gains=(Gain("click"), Gain("play", "continuous"), Gain("grade", "classes"), Gain("label", known="never")),
    cost=Cost("w", "EUR"),
)


def small_log(
    path: Path, users: int = 40, steps: int = 8, seed: int = 0, change: dict[str, np.ndarray] | None = None
) -> Journeys:
    """`steps` steps of each user; `change` replaces whole columns."""
    rng = np.random.default_rng(seed)
    n = users * steps
    half = rng.integers(0, 2, users)
    channel = rng.integers(0, 3, n)
    repeat = (rng.random(n) < 0.5) & (np.arange(n) % steps > 0)
    for i in np.flatnonzero(repeat):
        channel[i] = channel[i - 1]
    rate = np.where((channel == 1) & (np.repeat(half, steps) == 1), 0.8, 0.2)
    columns = {
        "time": np.tile(np.arange(steps), users).astype(float),
        "channel": channel.astype(np.int16),
        "user/half": half.astype(np.int64),
        "feature/hour": rng.normal(size=n),
        "feature/topic": rng.integers(0, 4, n),
        "feature/size": rng.normal(size=n),
        "gain/click": (rng.random(n) < rate).astype(np.int8),
        "gain/play": rng.exponential(3.0, n),
        "gain/grade": rng.integers(0, 3, n).astype(np.int32),
        "gain/label": rng.integers(0, 2, n).astype(np.int8),
        "cost": rng.random(n),
    } | (change or {})
    with JourneysWriter(path, SCHEMA) as writer:
        writer.append(np.arange(users), np.full(users, steps), columns)
        return writer.close()


def by_users(journeys: Journeys) -> Split:
    """The first 60 % of the users train, 20 % validate, 20 % test."""
    u = journeys.user_of_step
    n = journeys.n_users
    parts = {"train": u < 0.6 * n, "validation": (u >= 0.6 * n) & (u < 0.8 * n), "test": u >= 0.8 * n}
    return Split("users", 0, None, parts, ("time",), fingerprint="toy")


def columns_of(journeys: Journeys) -> dict[str, np.ndarray]:
    """Every column, as arrays of their own."""
    return {c: np.array(journeys.column(c)) for c in journeys.column_names if c not in ("offsets", "users")}
