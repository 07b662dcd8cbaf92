"""What a fitted channel method would do at the rows of a log, for off-policy evaluation.

    own      the method's own way: value, or greedy of MIREC and IQL, whose choice is their policy
    policy   a draw from the action decoder's probabilities
    greedy   their largest
    value    the channel of the largest expected gain, less a price times cost where one is asked for; of the largest Q
             of a value-based method

n rows, M channels.
"""

from typing import Literal, Protocol

import numpy as np

from headrace.channel.predictions import Predictions
from headrace.errors import UserError
from headrace.journeys.seams import Bools, Floats, Integers
from headrace.journeys.store import Journeys
from headrace.journeys.views import View
from headrace.ope.policies import Actor, Acts, Worth, of_gains

By = Literal["own", "policy", "greedy", "value"]


class Rewarded(Protocol):
    """A method's own reward."""

    @property
    def reward_weights(self) -> dict[str, float]: ...

    @property
    def penalty(self) -> float: ...


class Valued(Rewarded, Protocol):
    """What valuing needs of a method."""

    name: str
    chooses_by: Literal["value", "policy"]

    def predict(self, journeys: Journeys, labels: Bools | View) -> Predictions: ...


def actor(method: Valued, worth: Worth, by: By = "own") -> Actor:
    """The method as a policy; its score is the largest gain that it expects, in terms of `worth`.

    A method that predicts no gains chooses by its own `values`, and these are its score: they order users, whatever
    unit is asked for.
    """

    if by == "own":
        by = "value" if method.chooses_by == "value" else "greedy"

    def act(journeys: Journeys, rows: Integers) -> Acts:
        labels = np.zeros(journeys.n_steps, dtype=np.bool_)
        labels[rows] = True
        found = method.predict(journeys, labels)
        order = np.argsort(found.rows, kind="stable")
        if not np.array_equal(found.rows[order], rows):
            raise ValueError("rows of a log are valued once each, in the log's order")
        gains = expected(method, found, worth)
        if by == "value":
            if gains is None:
                there = ", ".join(found.reward_by_channel) or "no gain"
                wanted = ", ".join([*worth.weights, *(["cost"] if worth.penalty else [])])
                raise UserError(
                    f"{method.name}: predicts {there}, which does not give {wanted}; choose a --gain among them, or  "
                    "--by policy"
                )
            return of_gains(gains[order])
        score = None if gains is None else gains.max(axis=1)[order]
        chances = found.action[order].astype(np.float64)
        if by == "greedy":
            return Acts(np.eye(chances.shape[1])[chances.argmax(axis=1)], score)
        return Acts(chances / chances.sum(axis=1, keepdims=True), score)

    return act


def expected(method: Rewarded, found: Predictions, worth: Worth) -> Floats | None:
    """(n, M) the gain to be expected of each channel, or the method's own `values` where it predicts no gains.

    None where the method does not predict what is asked for.
    """
    there = found.reward_by_channel
    if not there and found.values is not None:
        return found.values
    own = dict(worth.weights) == method.reward_weights and worth.penalty == method.penalty
    if own and "penalised" in there:
        return there["penalised"]
    if not set(worth.weights) <= there.keys() or (worth.penalty and "cost" not in there):
        return None
    gain = np.zeros(found.action.shape)
    for name, weight in worth.weights.items():
        gain += weight * there[name]
    return gain - worth.penalty * np.maximum(there["cost"], 0.0) if worth.penalty else gain
