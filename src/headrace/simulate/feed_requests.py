"""What a feed shows of the users in turn, what is true of them, and what came of a step.

A users in turn, C candidates, k of them shown.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headrace.simulate.draws import Floats
from headrace.simulate.feed_scenario import REACTIONS
from headrace.simulate.items import Floats32

if TYPE_CHECKING:
    from headrace.simulate.feed import FeedWorld

Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]
OUTCOMES = ("seen", "click", "play_s", "finish", "long_view", *REACTIONS, "exit", "positive")


@dataclass(frozen=True, slots=True)
class Requests:
    """What may be known of the A users in turn. `context`: row (index into the world's users), user, time (ms), day,
    session_of_day, request (of the session), hour, days_since_last_visit and the user's features, (A,) each."""

    context: dict[str, NDArray[Any]]
    items: NDArray[np.int32]  # (A, C) no item twice in a row
    world: "FeedWorld" = field(repr=False)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def scores(self) -> Floats32:
        """(A, C, 12) predictions in [0, 1] in the order of BEHAVIOURS; worked out at the first call."""
        return np.moveaxis(self.world.score_planes(), 0, 2)


@dataclass(frozen=True, slots=True)
class Truth:
    """The true state between the users in turn and their candidates, (A, C) each: for references, never in a log."""

    affinity: Floats
    fatigue: Floats
    quality: Floats
    clickbait: Floats
    trap: Floats
    length: Floats
    click: Floats  # probability
    watch_s: Floats  # expected play time, clicked or not; a glance counts as its mean, cut at the duration
    enjoyment: Floats  # were it clicked
    expected_enjoyment: Floats  # clicked or not


@dataclass(frozen=True, slots=True)
class FeedOutcomes:
    """What A requests brought. Items behind the one at which the user left are not seen and have outcomes of 0."""

    shown: Integers  # (A, k) candidate indices, best first
    items: NDArray[np.int32]  # (A, k)
    by_item: dict[str, NDArray[Any]]  # OUTCOMES: (A, k) bool each, play_s seconds
    terminated: Bools  # (A,) the user left
    truncated: Bools  # (A,) the session was cut: it grew too long, or the clock ended
