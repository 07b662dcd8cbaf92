"""The state before a request: profile, context, what the last step brought, and counts and recency of the last videos.

One definition with two faces, equal bit for bit: `of_rows` on a log, `of_histories` on what a Memory holds. Counts are
differences of running sums, so a window of 500 videos costs no more than one of 8.

n rows or B histories, T steps, S state features, W windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.seams import Floats, History, Integers
from headrace.journeys.statistics import default_statistics
from headrace.journeys.store import Array, Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import histories

Floats32 = NDArray[np.float32]
MOST_IDS = 64  # a category of more is left out: ids of videos or authors say nothing about a user's mood
AT_ONCE = 16_384
RECENT = 8  # videos of the short window


@dataclass(frozen=True, slots=True)
class State:
    """Fitted on training rows; `windows` in steps, the longest last."""

    transforms: Transforms
    windows: tuple[int, ...]
    centre: tuple[float, ...]  # of the window features
    spread: tuple[float, ...]

    @classmethod
    def fit(cls, journeys: Journeys, rows: Integers, videos: int = 500) -> "State":
        """From training rows; a window of so many videos, of which a step shows as many as the log's lists do."""
        if journeys.schema.user is None:
            raise UserError(f"{journeys.path}: the schema names no user, so a request has no past; name one")
        transforms = Transforms.fit(journeys, rows, reward_weights={}, statistics=default_statistics(journeys.schema))
        shown = shown_at_once(journeys)
        windows = tuple(max(1, -(-size // shown)) for size in (RECENT, videos))
        bare = cls(transforms, windows, (), ())
        some = rows if len(rows) <= AT_ONCE else rows[:: -(-len(rows) // AT_ONCE)]
        found = bare._recent_of_rows(journeys, some)
        spread = found.std(axis=0)
        spread[spread == 0] = 1.0
        return cls(transforms, windows, tuple(found.mean(axis=0).tolist()), tuple(spread.tolist()))

    @property
    def steps(self) -> int:
        """How many steps a Memory must hold."""
        return max(self.windows) + 1

    @property
    def size(self) -> int:
        """S."""
        ids = sum(n for n in self.transforms.cardinalities if n <= MOST_IDS)
        return ids + self.transforms.width + len(self.centre)

    def of_rows(self, journeys: Journeys, rows: Integers) -> Floats32:
        """(n, S) the states before these rows of a log."""
        parts = []
        for first in range(0, len(rows), AT_ONCE):
            at = rows[first : first + AT_ONCE]
            now = histories(journeys, at, 1, self.transforms.statistics)
            parts.append(self._join(now, self._recent_of_rows(journeys, at, now)))
        return np.concatenate(parts) if parts else np.zeros((0, self.size), dtype=np.float32)

    def of_histories(self, held: History, past: "Past | None" = None, users: Integers | None = None) -> Floats32:
        """(B, S) the states at the last step of histories: of `steps` steps, or of one step where `past` keeps sums."""
        last = held.mask.sum(axis=1) - 1
        at = np.arange(len(last))
        so_far = {name: values[at, last] for name, values in held.so_far.items()}
        if past is not None and users is not None:
            then = [past.before(users, w, so_far) for w in self.windows]
        else:
            then = [
                {name: values[at, np.maximum(last - w, 0)] for name, values in held.so_far.items()}
                for w in self.windows
            ]
        now = History(
            {name: values[at, last][:, None] for name, values in held.before.items()},
            {name: values[at, last][:, None] for name, values in held.previous.items()},
            {name: values[:, None] for name, values in so_far.items()},
            held.user,
            np.ones((len(at), 1), dtype=np.bool_),
            None,
            held.categories,
        )
        return self._join(now, self._recent(so_far, then))

    def _recent_of_rows(self, journeys: Journeys, rows: Integers, now: History | None = None) -> Floats:
        used = self.transforms.statistics
        here = histories(journeys, rows, 1, used) if now is None else now
        first = journeys.offsets[journeys.users_of(rows)]
        then = [histories(journeys, np.maximum(rows - w, first), 1, used).so_far for w in self.windows]
        return self._recent(
            {name: values[:, 0] for name, values in here.so_far.items()},
            [{name: values[:, 0] for name, values in past.items()} for past in then],
        )

    def _recent(self, now: dict[str, Floats], then: Sequence[dict[str, Floats]]) -> Floats:
        """(n, .) per window: the log of its steps, and the mean of each gain in it (0 where there was none)."""
        columns = []
        for past in then:
            for s in self.transforms.statistics:
                change = now[s.name] - past[s.name]
                if s.of is None:
                    columns.append(np.log1p(change[:, 0]))
                else:
                    columns.append(change[:, 1] / np.maximum(change[:, 0], 1.0))
        return np.stack(columns, axis=1)

    def _join(self, now: History, recent: Floats) -> Floats32:
        encoded = self.transforms.encode(now)
        parts: list[Array] = []
        for column, size in enumerate(self.transforms.cardinalities):
            if size <= MOST_IDS:
                parts.append(np.eye(size, dtype=np.float32)[encoded.ids[:, 0, column]])
        parts.append(encoded.numbers[:, 0])
        z = (recent - np.array(self.centre)) / np.array(self.spread)
        parts.append(np.clip(z, -5.0, 5.0).astype(np.float32))
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the transforms, which have a file of their own."""
        return {"windows": self.windows, "centre": self.centre, "spread": self.spread}

    @classmethod
    def from_dict(cls, values: dict[str, Any], transforms: Transforms) -> "State":
        return cls(transforms, *(tuple(values[name]) for name in ("windows", "centre", "spread")))


class Past:
    """What a user's running sums were some steps ago: a ring that lets a Memory hold one step instead of hundreds."""

    def __init__(self, users: int, steps: int):
        self.users, self.steps = users, steps
        self.count = np.zeros(users, dtype=np.int64)
        self.ring: dict[str, Floats] = {}
        self.capacity = 0

    def before(self, users: Integers, window: int, now: dict[str, Floats]) -> dict[str, Floats]:
        """The sums at the step `window` before the one to decide, or at the user's first; `now` for a first step."""
        count = self.count[users]
        slot = np.maximum(count - window, 0) % max(self.steps, 1)
        if not self.ring:
            return now
        found = {}
        for name, values in now.items():
            then = self.ring[name][users, np.minimum(slot, self.capacity - 1)]
            found[name] = np.where((count > 0)[:, None], then, values)
        return found

    def append(self, users: Integers, now: dict[str, Floats]) -> None:
        """The step was decided with these sums, (B, .) each."""
        slot = self.count[users] % self.steps
        while self.capacity <= int(slot.max(initial=0)):
            self.capacity = min(max(16, 2 * self.capacity), self.steps)
            for name, values in now.items():
                grown = np.zeros((self.users, self.capacity, values.shape[1]))
                if name in self.ring:
                    grown[:, : self.ring[name].shape[1]] = self.ring[name]
                self.ring[name] = grown
        for name, values in now.items():
            self.ring[name][users, slot] = values
        self.count[users] += 1


def shown_at_once(journeys: Journeys) -> int:
    """How many items a step shows: the most common length of the shown lists; 1 where the log holds no lists."""
    if not journeys.has("item/position") or not len(journeys.column("item/position")):
        return 1
    return int(journeys.column("item/position").max()) + 1
