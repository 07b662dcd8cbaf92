"""What is predicted at a step, and from what: the channel, or a gain under one of three conditionings.

    Target("action")               the channel                                     action/...
    Target("click")                a gain, before the decision                     reward/...
    Target("click", "channel")     the same, given the step's channel              reward_by_channel/...
    Target("click", "context")     the same, given its channel and `after` features   reward_in_context/...

n labelled steps, N steps of the store.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.evaluate.metrics import Kind, Steps
from headrace.journeys.seams import Bools, Floats, Integers
from headrace.journeys.store import Journeys

Given = Literal["before", "channel", "context"]
PREFIX: dict[Given, str] = {"before": "reward", "channel": "reward_by_channel", "context": "reward_in_context"}


@dataclass(frozen=True, slots=True)
class Target:
    """A predicted quantity: "action" or the name of a gain, and what of its own step is given."""

    name: str
    given: Given = "before"

    @property
    def prefix(self) -> str:
        """What stands before the slash in the names of its metrics.

        >>> Target("click", "context").prefix
        'reward_in_context'
        """
        return "action" if self.name == "action" else PREFIX[self.given]

    def kind(self, journeys: Journeys) -> Kind:
        return "classes" if self.name == "action" else journeys.schema.gain(self.name).kind

    def classes(self, journeys: Journeys) -> int:
        """M for the action, the number of outcomes for a gain of classes, else 0."""
        if self.name == "action":
            return len(journeys.channels)
        if self.kind(journeys) != "classes":
            return 0
        text = journeys.categories.get(f"gain/{self.name}")
        return len(text) if text is not None else int(np.nanmax(journeys.gain(self.name))) + 1

    def labels(self, journeys: Journeys, rows: NDArray[Any]) -> NDArray[Any]:
        """(n,) the outcome of each row: int64 for classes, else float64, NaN where it is not known."""
        if self.name == "action":
            return np.asarray(journeys.channel[rows]).astype(np.int64)
        values = np.asarray(journeys.gain(self.name)[rows]).astype(np.float64)
        if self.kind(journeys) != "classes":
            return values
        return np.where(np.isnan(values), -1, values).astype(np.int64)

    def known(self, journeys: Journeys, rows: NDArray[Any]) -> Bools:
        """(n,) whether the outcome of each row is known."""
        labels = self.labels(journeys, rows)
        return labels >= 0 if labels.dtype.kind == "i" else ~np.isnan(labels)


def pad_classes(values: Floats, classes: int) -> Floats:
    """(n, classes) probabilities of (n, C): none for the classes that a method did not know of.

    >>> pad_classes(np.array([[0.25, 0.75]]), 3).tolist()
    [[0.25, 0.75, 0.0]]
    """
    if values.shape[1] > classes:
        raise ValueError(f"{values.shape[1]} classes predicted for {classes}; give steps_of the larger number")
    return np.pad(values, ((0, 0), (0, classes - values.shape[1])))


def steps_of(
    journeys: Journeys, rows: NDArray[Any], target: Target, index: Integers | None = None, classes: int = 0
) -> Steps:
    """The labelled steps of a table: those of `rows` whose outcome is known; predict them as `steps.rows`.

    `index` (n,) gives each row's step index where the rows are those of sampled windows, in which steps may repeat;
    else it is the place in the journey. `classes` is how many classes the methods know of: the steps have at least as
    many, and `pad_classes` brings every method to `steps.classes`.
    """
    rows = np.asarray(rows, dtype=np.int64)
    known = target.known(journeys, rows)
    if not known.any():
        raise UserError(
            f"{journeys.path}: no outcome of {target.name} is known at any of the {len(rows)} steps; choose another"
        )
    kept = rows[known]
    users = journeys.user_of_step[kept]
    return Steps(
        labels=target.labels(journeys, kept),
        kind=target.kind(journeys),
        classes=max(target.classes(journeys), classes if target.kind(journeys) == "classes" else 0),
        users=None if journeys.schema.user is None else users,
        index=kept - journeys.offsets[users] if index is None else np.asarray(index)[known],
        rows=kept,
        sessions=np.asarray(journeys.column("session")[kept]) if journeys.has("session") else None,
        repeated=index is not None,
    )
