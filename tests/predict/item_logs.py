"""Small logs of items: who is shown what, in sessions, with a click and a sale behind it."""

from pathlib import Path

import numpy as np

from headrace.journeys.schema import Feature, Gain, LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys, JourneysWriter

SCHEMA = LogSchema(
    "items",
    user="u",
    time="t",
    time_unit="s",
    session="s",
    features=(
        Feature("half", "categorical", level="user"),
        Feature("hour", "numeric"),
        Feature("item", "categorical", "after"),
        Feature("length", "numeric", "after"),
    ),
    gains=(Gain("click"), Gain("sale"), Gain("like"), Gain("play", "continuous"), Gain("secret", known="never")),
)
TASKS = "ctr=click,ctcvr=click&sale"


def item_log(
    path: Path, users: int = 30, steps: int = 8, seed: int = 0, change: dict[str, np.ndarray] | None = None
) -> Journeys:
    """`steps` rows of each user in two sessions; half of the users click on even items. `change` replaces columns."""
    rng = np.random.default_rng(seed)
    n = users * steps
    half = rng.integers(0, 2, users)
    item = rng.integers(0, 6, n)
    rate = np.where((item % 2 == 0) & (np.repeat(half, steps) == 1), 0.9, 0.2)
    click = rng.random(n) < rate
    columns = {
        "time": np.tile(np.arange(steps), users).astype(float) * 100,
        "session": np.tile(np.arange(steps) // max(steps // 2, 1), users).astype(np.int64),
        "user/half": half.astype(np.int64),
        "feature/hour": rng.normal(size=n),
        "feature/item": item,
        "feature/length": rng.normal(size=n),
        "gain/click": click.astype(np.int8),
        "gain/sale": (click & (rng.random(n) < 0.5)).astype(np.int8),
        "gain/like": (rng.random(n) < 0.1).astype(np.int8),
        "gain/play": rng.exponential(3.0, n),
        "gain/secret": rng.integers(0, 2, n).astype(np.int8),
    } | (change or {})
    with JourneysWriter(path, SCHEMA) as writer:
        writer.append(np.arange(users), np.full(users, steps), columns)
        return writer.close()


def by_users(journeys: Journeys) -> Split:
    """The first 60 % of the users train, 20 % validate, 20 % test."""
    u, n = journeys.user_of_step, journeys.n_users
    parts = {"train": u < 0.6 * n, "validation": (u >= 0.6 * n) & (u < 0.8 * n), "test": u >= 0.8 * n}
    return Split("users", 0, None, parts, ("time",), fingerprint="toy")


def columns_of(journeys: Journeys) -> dict[str, np.ndarray]:
    """Every column, as arrays of their own."""
    return {c: np.array(journeys.column(c)) for c in journeys.column_names if c not in ("offsets", "users")}
