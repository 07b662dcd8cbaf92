"""Memory: the mutable twin of Journeys. For N users, the last n steps in ring buffers and their running statistics.

The world, campaigns and the service keep one. Replaying any log through it gives, bit for bit, the History that the
training view gives at each step (views.py), so that there is no skew between training and serving:

    histories(users, context)   what is known of these users now, the step to decide included
    append(users, steps)        the step happened: its context, channel, cost and the gains known so far
    outcomes(...)               a gain that came late

N users, n steps, M channels, W statistic width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.schema import LogSchema
from headrace.journeys.seams import Bools, Floats, History, Integers
from headrace.journeys.statistics import (
    GAP,
    Statistic,
    by_channel,
    check,
    count_and_sum,
    default_statistics,
    gain_values,
    to_floats,
)
from headrace.journeys.store import Array


class Memory:
    """The last `steps` steps of each user and what their journeys have shown so far. A user stands once in a call."""

    def __init__(
        self,
        schema: LogSchema,
        users: int,
        steps: int = 256,
        user_features: dict[str, Array] | None = None,
        statistics: tuple[Statistic, ...] | None = None,
        categories: Mapping[str, Sequence[str]] | None = None,
    ):
        """`user_features` holds one value a user, (N,), for each feature of level user."""
        self.schema, self.n_users, self.steps = schema, users, steps
        self.statistics = default_statistics(schema) if statistics is None else statistics
        check(self.statistics, schema)
        self.categories = dict(categories or {})
        self._codes = {"channel", *self.categories} - {g.name for g in schema.gains}
        self.user = {k: self._typed(k, v) for k, v in (user_features or {}).items()}
        missing = [f.name for f in schema.features if f.level == "user" and f.name not in self.user]
        if missing:
            raise UserError(
                f"memory: no values for the user features {', '.join(missing)}; hand them in as user_features"
            )
        self.channels = len(schema.channels)
        self.count = np.zeros(users, dtype=np.int64)  # steps appended so far
        # Of the two last times at which a user had steps, the later first: when, what the (last) step brought, and when
        # that is known; (2, N) each. Steps at the same time happen together, so each of them sees the time before.
        brought = self._brought()
        self.times = np.full((2, users), -np.inf)
        self.last: dict[str, Array] = {
            name: np.full((2, users), -1 if name in self._codes else np.nan) for name in brought
        }
        self.last_known = {name: np.full((2, users), np.inf) for name in brought}
        # Tokens of the last steps, (n, N) or (n, N, W): pages of slots that nobody has reached yet are never touched.
        self.ring: dict[str, Array] = {}
        self._tables = [_Table(s, self.channels, users) for s in self.statistics]

    def histories(self, users: Array, context: dict[str, Array], allowed: Bools | None = None) -> History:
        """What is known of `users` (B,) at a step about to be decided, that step the last one.

        `context` holds the step's "time" (where the log has a clock) and `before` features, each (B,).
        """
        users = np.asarray(users, dtype=np.int64)
        token = self._token(users, context)
        kept = np.minimum(self.count[users], self.steps - 1)
        t = np.arange(int(kept.max(initial=0)) + 1)
        mask = t <= kept[:, None]
        slot = (self.count[users, None] - kept[:, None] + t) % self.steps
        now = t == kept[:, None]

        def assemble(name: str) -> Array:
            value = token[name]
            tail = (1,) * (value.ndim - 1)
            ring = self._ring_column(name, value)[slot, users[:, None]]
            values = np.where(now.reshape(*now.shape, *tail), value[:, None], ring)
            blank: Any = 0.0 if name.startswith("so_far/") else (np.nan if value.dtype.kind == "f" else -1)
            return np.where(mask.reshape(*mask.shape, *tail), values, blank)

        parts: dict[str, dict[str, Array]] = {"before": {}, "previous": {}, "so_far": {}}
        for name in token:
            part, _, column = name.partition("/")
            parts[part][column] = assemble(name)
        static = {k: v[users] for k, v in self.user.items()}
        return History(parts["before"], parts["previous"], parts["so_far"], static, mask, allowed, self.categories)

    def append(self, users: Array, steps: dict[str, Array]) -> None:
        """A step of each of `users` happened. `steps` holds (B,) arrays under the schema's own names:

        "time", `before` and `after` features, "channel" (index), "cost", gains (NaN while not known), and
        "known_at/GAIN" where a log says when a gain was known.
        """
        users = np.asarray(users, dtype=np.int64)
        if len(np.unique(users)) != len(users):
            raise UserError("memory: a user stands twice in one append; append their steps one after the other")
        time = self._time(users, steps)
        if np.any(time < self.times[0, users]):
            raise UserError("memory: a step is older than the user's last one; append steps in order of time")
        token = self._token(users, steps)
        slot = self.count[users] % self.steps
        for name, values in token.items():
            self._ring_column(name, values)[slot, users] = values
        channel = (
            np.asarray(steps["channel"], dtype=np.int64)
            if self.schema.channel is not None
            else np.zeros(len(users), int)
        )
        for table in self._tables:
            s = table.statistic
            values = np.ones((len(users), 1), dtype=np.int64)
            known = time
            if s.of is not None:
                values = count_and_sum(gain_values(self.schema.gain(s.of), steps[s.of]))
                known = self._known_at(s.of, time, steps)
            table.add(table.rows(users, self._key_values(table, users, steps)), known, channel, values)
        self._remember(users, time, channel, steps)
        self.count[users] += 1

    def outcomes(self, users: Array, gain: str, values: Array, at: Array, time: Array, channel: Array) -> None:
        """A gain became known at time `at` for steps that happened at `time` over `channel`; all (B,).

        Each such step must have been appended with the gain missing (NaN). Raises where a statistic of the gain is
        kept by more than the user, since the context of those steps is not known here.
        """
        users, channel = np.asarray(users, dtype=np.int64), np.asarray(channel, dtype=np.int64)
        values = gain_values(self.schema.gain(gain), values)
        at = np.maximum(np.asarray(at, dtype=np.float64), time)
        tables = [table for table in self._tables if table.statistic.of == gain]
        for s in (table.statistic for table in tables):
            if s.key != ("user",):
                raise UserError(
                    f"memory: statistic {s.name} is kept by {', '.join(s.key) or 'channel'}, which a late {gain} does "
                    "not tell; leave that statistic out, or append the step with the gain and when it is known"
                )
        for table in tables:
            table.add(users, at, channel, count_and_sum(values))
        if gain in self.last:
            for k in (0, 1):
                same = self.times[k, users] == time
                if self.schema.channel is not None:
                    same &= self.last["channel"][k, users] == channel
                self.last[gain][k, users[same]] = values[same]
                self.last_known[gain][k, users[same]] = at[same]

    def _token(self, users: Integers, context: dict[str, Array]) -> dict[str, Array]:
        now = self._time(users, context)
        token: dict[str, Array] = {}
        for f in self.schema.features:
            if f.level == "step" and f.known == "before":
                if f.name not in context:
                    raise UserError(
                        f"memory: the context lacks the feature {f.name}, known before the decision; hand it in"
                    )
                token[f"before/{f.name}"] = self._typed(f.name, context[f.name])
        earlier = (self.times[0, users] >= now).astype(np.int64)  # 1 where the last time is now
        for name in self._brought():
            seen = self.last_known[name][earlier, users] < now
            values = self.last[name][earlier, users]
            token[f"previous/{name}"] = np.where(seen, values, np.nan if values.dtype.kind == "f" else -1)
        for table in self._tables:
            rows = table.rows(users, self._key_values(table, users, context))
            token[f"so_far/{table.statistic.name}"] = to_floats(table.ask(rows, now), table.statistic)
        if self.schema.time is not None:
            then = self.times[earlier, users]
            token[f"so_far/{GAP}"] = np.where(np.isfinite(then), now - then, np.nan)[:, None]
        return token

    def _remember(self, users: Integers, time: Floats, channel: Integers, steps: dict[str, Array]) -> None:
        gains = {g.name: g for g in self.schema.gains}
        later = users[time > self.times[0, users]]
        self.times[1, later] = self.times[0, later]
        self.times[0, users] = time
        for name in self._brought():
            last, known = self.last[name], self.last_known[name]
            last[1, later], known[1, later] = last[0, later], known[0, later]
            if name in gains:
                last[0, users] = gain_values(gains[name], steps[name])
                known[0, users] = self._known_at(name, time, steps)
            else:
                last[0, users] = channel if name == "channel" else self._typed(name, steps[name])
                known[0, users] = time

    def _brought(self) -> list[str]:
        names = [f.name for f in self.schema.features if f.level == "step" and f.known == "after"]
        names += ["channel"] if self.schema.channel is not None else []
        names += [g.name for g in self.schema.gains if g.known != "never"]
        return names + (["cost"] if self.schema.cost is not None else [])

    def _typed(self, name: str, values: Array) -> Array:
        return np.asarray(values).astype(np.int64 if name in self._codes else np.float64)

    def _known_at(self, gain: str, time: Floats, steps: dict[str, Array]) -> Floats:
        if not self.schema.gain(gain).known.startswith("at:"):
            return time
        at = np.asarray(steps.get(f"known_at/{gain}", np.full(len(time), np.nan)), dtype=np.float64)
        return np.where(np.isnan(at), np.inf, np.maximum(time, at))

    def _time(self, users: Integers, context: dict[str, Array]) -> Floats:
        if self.schema.time is None:
            return self.count[users].astype(np.float64)
        if "time" not in context:
            raise UserError("memory: the context lacks 'time', and this log has a clock; hand it in")
        return np.asarray(context["time"], dtype=np.float64)

    def _key_values(self, table: "_Table", users: Integers, context: dict[str, Array]) -> list[Array]:
        return [
            users if c == "user" else self.user[c][users] if c in self.user else np.asarray(context[c])
            for c in table.statistic.key
        ]

    def _ring_column(self, name: str, like: Array) -> Array:
        if name not in self.ring:
            self.ring[name] = np.zeros((self.steps, self.n_users, *like.shape[1:]), dtype=like.dtype)
        return self.ring[name]


class _Table:
    """Counters of one statistic, and the events that are not known yet."""

    def __init__(self, statistic: Statistic, channels: int, users: int):
        self.statistic, self.channels = statistic, channels
        self.width = statistic.width(channels)
        rows = users if statistic.key == ("user",) else 0
        self.sums = np.zeros((rows, self.width), dtype=np.int64)
        self.places: dict[tuple[Any, ...], int] = {}
        self.due_row = np.zeros(0, dtype=np.int64)
        self.due_at = np.zeros(0)
        self.due = np.zeros((0, self.width), dtype=np.int64)

    def rows(self, users: Integers, keys: list[Array]) -> Integers:
        """The counter row of each key; a key never seen gets a new row."""
        if self.statistic.key == ("user",):
            return users
        found = np.empty(len(users), dtype=np.int64)
        columns = [[None if v != v else v for v in k.tolist()] for k in keys]  # missing values are one key
        for i, key in enumerate(zip(*columns, strict=True) if keys else [()] * len(users)):
            found[i] = self.places.setdefault(key, len(self.places))
        if len(self.places) > len(self.sums):
            grown = np.zeros((2 * len(self.places), self.width), dtype=np.int64)
            grown[: len(self.sums)] = self.sums
            self.sums = grown
        return found

    def add(self, rows: Integers, known: Floats, channel: Integers, values: NDArray[np.int64]) -> None:
        if self.statistic.by_channel:
            values = by_channel(values, channel, self.channels)
        ever = np.isfinite(known)
        self.due_row = np.concatenate([self.due_row, rows[ever]])
        self.due_at = np.concatenate([self.due_at, known[ever]])
        self.due = np.concatenate([self.due, values[ever]])

    def ask(self, rows: Integers, now: Floats) -> NDArray[np.int64]:
        """The sums of each row over what was known strictly before `now`, (B, W); asking never goes back in time."""
        if self.statistic.key != ("user",) and len(now) and now.min() < now.max():
            out = np.empty((len(rows), self.width), dtype=np.int64)
            for moment in np.unique(now):  # users may share a key, so the questions are asked in order of time
                at = now == moment
                out[at] = self.ask(rows[at], now[at])
            return out
        asked = np.full(len(self.sums), -np.inf)
        asked[rows] = now
        ripe = self.due_at < asked[self.due_row]
        if ripe.any():
            np.add.at(self.sums, self.due_row[ripe], self.due[ripe])
            self.due_row, self.due_at, self.due = self.due_row[~ripe], self.due_at[~ripe], self.due[~ripe]
        return self.sums[rows]
