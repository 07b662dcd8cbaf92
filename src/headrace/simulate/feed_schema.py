"""What a log shows of a feed: its schema, and the columns of a step and of its candidates.

A step is a request. Gains are sums over the items seen: dwell_s their play time, each behaviour's count; exit says that
the user left. `returned`, whether the user came back on the next day, is known when they do, or else when that day is
over. Of the items `topic` is the first shown one's and `duration_s` the mean of the shown.

A requests, C candidates, k shown.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headrace.journeys.schema import Candidates, Feature, Gain, GainKind, LogSchema
from headrace.simulate.feed_scenario import BEHAVIOURS, REACTIONS
from headrace.simulate.feed_users import FEED_USER_FEATURES
from headrace.simulate.items import Items
from headrace.simulate.scenario import Scenario
from headrace.simulate.users import feature_categories

if TYPE_CHECKING:
    from headrace.simulate.feed import FeedWorld
    from headrace.simulate.feed_requests import FeedOutcomes

Columns = dict[str, NDArray[Any]]
BEFORE = ("hour", "request", "session_of_day", "days_since_last_visit")
COUNTS = ("seen", "click", "finish", "long_view", *REACTIONS, "positive")
ITEM_OUTCOMES = ("seen", "click", "play_s", "finish", "long_view", *REACTIONS, "exit")


def schema(scenario: Scenario) -> LogSchema:
    """What a simulated feed log shows, and when each value is known."""
    categorical = feature_categories(scenario)
    count: GainKind = "binary" if scenario.feed_task.shown == 1 else "continuous"
    return LogSchema(
        name=f"world-{scenario.name}",
        user="user",
        time="time",
        time_unit="ms",
        session="session",
        features=(
            *(Feature(n, "categorical" if n in categorical else "numeric", level="user") for n in FEED_USER_FEATURES),
            *(Feature(name) for name in BEFORE),
            Feature("topic", "categorical", "after"),
            Feature("duration_s", "numeric", "after"),
        ),
        gains=(
            Gain("dwell_s", "continuous"),
            *(Gain(name, count) for name in COUNTS),
            Gain("exit"),
            Gain("returned", "binary", "at:return_time"),
        ),
        label_window_s=2 * 86_400,
        candidates=Candidates(
            "item",
            BEHAVIOURS,
            "position",
            ITEM_OUTCOMES,
            offsets=tuple(p.offset for p in scenario.feed_task.predictions),
            negative=("hate", "exit"),
        ),
    )


def categories(scenario: Scenario) -> dict[str, list[str]]:
    """The names behind the codes of the categorical columns."""
    named = feature_categories(scenario)
    users = {f"user/{name}": named[name] for name in FEED_USER_FEATURES if name in named}
    return {**users, "feature/topic": list(scenario.topics)}


def step_columns(world: "FeedWorld", context: Columns, outcomes: "FeedOutcomes") -> Columns:
    """The step's columns under the schema's own names, (A,) each, without `returned`."""
    by_item = outcomes.by_item
    columns = {"time": context["time"], **{name: context[name].astype(np.float64) for name in BEFORE}}
    columns["topic"] = world.items.topic[outcomes.items[:, 0]]
    columns["duration_s"] = world.items.duration_s[outcomes.items].mean(axis=1, dtype=np.float64)
    columns["dwell_s"] = by_item["play_s"].sum(axis=1)
    for name in (*COUNTS, "exit"):
        columns[name] = by_item[name].sum(axis=1).astype(np.float64)
    return columns


def item_columns(items: Items, ids: NDArray[np.int32]) -> Columns:
    """What is visible of items, in the shape of `ids`."""
    return {"item": ids, "topic": items.topic[ids], "duration_s": items.duration_s[ids]}
