"""Recommendations: for each user the channel to advertise on next, what it should bring and cost, and the users' order.

U users, M channels.
"""

import math
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import polars as pl

from headrace.channel.predictions import Predictions
from headrace.errors import UserError
from headrace.journeys.seams import Bools, Floats
from headrace.journeys.store import Journeys
from headrace.journeys.views import View


class Recommender(Protocol):
    """What recommending needs of a method."""

    name: str
    chooses_by: Literal["value", "policy"]

    @property
    def reward_weights(self) -> dict[str, float]: ...

    def predict(self, journeys: Journeys, labels: Bools | View) -> Predictions: ...

    def predict_next(self, journeys: Journeys) -> Predictions: ...


def recommend(
    method: Recommender,
    journeys: Journeys,
    budget: float | None = None,
    by: str = "own",
    penalty: float = 0.0,
) -> pl.DataFrame:
    """One row a user, best first: user, channel, expected gain and cost, propensity, share of the log's policy, rank.

    The gain is the reward's: its gains by their weights (18). `by = "value"` chooses the channel of the largest
    expected gain less `penalty` (in the reward's unit, for one of the cost's) times cost, or of the largest penalised
    reward where the run was taught that; `by = "policy"` the
    most probable one of the method's policy: what the log would choose, of MIREC and IQL what they choose themselves;
    `by = "own"` is the method's own way of these two. Users stand in the order of the value of their channel
    (user-level allocation, section 3.7.2).
    `budget`, in the cost's unit, keeps the users from the top whose expected costs fit it; without a cost column it is
    refused.

    A method that predicts no gains chooses and orders by its `values` instead: these stand in the place of gain and
    cost, and of the share, for its policy is not the log's; without a cost a budget is refused.
    """
    if by not in ("own", "value", "policy"):
        raise UserError(f"recommend: by = {by!r}, expected 'own', 'value' or 'policy'")
    schema = journeys.schema
    if budget is not None and schema.cost is None:
        raise UserError(f"recommend: schema {schema.name} has no cost column, so a budget of {budget} cannot be spent")
    if budget is not None and not budget >= 0:
        raise UserError(f"recommend: budget {budget}, expected 0 or more")
    if not (penalty >= 0 and math.isfinite(penalty)):
        raise UserError(f"recommend: penalty {penalty}, expected 0 or more, for each unit of cost")
    if penalty and schema.cost is None:
        raise UserError(f"recommend: schema {schema.name} has no cost column; leave penalty {penalty} out")
    found = predict_users(method, journeys, "recommend")
    priced = "penalised" in found.reward_by_channel or not found.reward_by_channel
    if penalty and priced:
        raise UserError(f"recommend: this run's values have its own price of cost in them; leave penalty {penalty} out")
    value = worth(found, method.reward_weights, penalty)
    by = method.chooses_by if by == "own" else by
    choice = (value if by == "value" else found.action).argmax(axis=1)
    at = np.arange(len(choice))
    columns = {"user": journeys.users, "channel": np.asarray(journeys.channels)[choice]}
    propensity = np.ones(len(choice))  # the choice is deterministic
    if found.reward_by_channel:
        gain, cost, _ = values_of(found, method.reward_weights, penalty)
        columns |= {"expected_gain": gain[at, choice], "expected_cost": cost[at, choice], "propensity": propensity}
        columns |= {"logged_share": found.action[at, choice]}  # how often the log's own policy would choose so
    elif budget is None:
        columns |= {"value": value[at, choice], "propensity": propensity}
    else:
        raise UserError(
            f"recommend: {method.name} predicts no cost, so a budget of {budget} cannot be kept to; leave it out, or "
            "give a run of a method with reward heads, such as mtorl"
        )
    order = np.argsort(-value[at, choice], kind="stable")
    table = pl.DataFrame(columns)[order]
    table = table.with_columns(pl.int_range(1, pl.len() + 1).alias("rank"))
    if budget is not None:
        table = table.filter(pl.col("expected_cost").cum_sum() <= budget)
    return table


def predict_users(method: Recommender, journeys: Journeys, command: str) -> Predictions:
    """The prediction of each user's next step; UserError where the method's reward has no order."""
    schema = journeys.schema
    classes = [g for g in method.reward_weights if schema.gain(g).kind == "classes"]
    if classes:
        raise UserError(f"{command}: {', '.join(classes)} has classes and no order; name another gain with --reward")
    if not method.reward_weights:
        raise UserError(f"{command}: schema {schema.name} has no gain known in time; name one with --reward GAIN")
    return method.predict_next(journeys)


def worth(found: Predictions, weights: dict[str, float], penalty: float) -> Floats:
    """(U, M) what a channel is worth to the method: its gain less penalty * cost, or its Q where it predicts no gains.

    >>> worth(Predictions(np.arange(1), np.full((1, 2), 0.5), values=np.array([[0.5, 2.0]])), {"click": 1.0}, 0.5)
    array([[0.5, 2. ]])
    """
    if not found.reward_by_channel and found.values is not None:
        return found.values
    return values_of(found, weights, penalty)[2]


def values_of(found: Predictions, weights: dict[str, float], penalty: float) -> tuple[Floats, Floats, Floats]:
    """Expected gain, expected cost and value of each channel, (U, M) each; the value is gain - penalty * cost, or the
    penalised reward where that is predicted. UserError where no gains are predicted."""
    if not set(weights) <= found.reward_by_channel.keys():
        raise UserError(
            f"the method predicts {', '.join(found.reward_by_channel) or 'no gains'}, and {', '.join(weights)} was "
            "asked for; give a run of a method with reward heads, such as mtorl"
        )
    gain = np.zeros_like(found.action)
    for name, weight in weights.items():
        gain += weight * found.reward_by_channel[name]
    cost = found.reward_by_channel.get("cost")
    cost = np.zeros_like(gain) if cost is None else np.maximum(cost, 0.0)
    return gain, cost, found.reward_by_channel.get("penalised", gain - penalty * cost)


def check_ending(path: Path) -> None:
    """UserError for a file that a table cannot be written to."""
    if path.suffix not in (".parquet", ".csv"):
        raise UserError(f"{path}: unknown ending {path.suffix!r}; tables are written as .parquet or .csv")


def save(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table as parquet or csv, by the file's ending; whole or not at all."""
    path = Path(path)
    check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    if path.suffix == ".csv":
        table.write_csv(beside)
    else:
        table.write_parquet(beside)
    beside.replace(path)
