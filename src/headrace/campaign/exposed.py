"""Exposed: the adverts of a live campaign, in memory as a service would have them and in the log as it will be read.

A gain that is known later stays open until a row of a later turn tells of it, or, a binary one, until its window has
passed: then it is 0, as in a prepared log. A gain that was told after its user was decided on again was not known then;
it is written as known from there on, so that the log shows what was served.

N users, S of them shown an advert in a turn, n adverts that more is known of now.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from headrace.campaign.exchange import OF_TURN, Exchange
from headrace.campaign.market import Late
from headrace.campaign.roster import Roster
from headrace.errors import UserError
from headrace.journeys.memory import Memory
from headrace.journeys.schema import LogSchema
from headrace.journeys.seams import Bools, Floats, Integers
from headrace.journeys.statistics import LARGEST
from headrace.journeys.store import Array, Journeys, JourneysWriter


@dataclass(slots=True)
class Shown:
    """The adverts of a turn."""

    number: int
    rows: Integers  # (S,) users, ascending
    time: pl.Series  # (S,) as the job wrote it
    columns: dict[str, Array]  # (S,) each, by stored name; gains as known by now
    open: dict[str, Bools]  # (S,) whether more may become known of a delayed gain


@dataclass(frozen=True, slots=True)
class News:
    """What became known of some adverts of an earlier turn."""

    of: Shown
    at: Integers  # (n,) of them
    gains: dict[str, tuple[Bools, Array, Floats]]  # whether it is news, the value, when it was known; (n,) each


class Exposed:
    """All adverts so far."""

    def __init__(self, schema: LogSchema, late: LogSchema, roster: Roster, exchange: Exchange, memory: Memory):
        """`late` names the columns of a row that tells of an earlier advert."""
        self.schema, self.roster, self.exchange, self.memory = schema, roster, exchange, memory
        self.gains = tuple(g.name for g in schema.gains if g.kind != "classes")
        self.turns: list[Shown] = []
        self.asked = np.full(len(roster), -np.inf)  # (N,) when each user was last decided on
        self._part = late

    def add(self, turn: Shown) -> None:
        """The adverts of the next turn were shown."""
        self.turns.append(turn)
        if len(turn.rows):
            steps = {n.removeprefix("feature/").removeprefix("gain/"): values for n, values in turn.columns.items()}
            steps |= {g: np.where(still, np.nan, steps[g]) for g, still in turn.open.items()}
            self.memory.append(turn.rows, steps)

    def opened(self, columns: dict[str, Array]) -> dict[str, Bools]:
        """Of each delayed gain, (S,), whether nothing has come of it yet."""
        return {
            g.name: columns[f"gain/{g.name}"] == 0 if g.kind == "binary" else np.isnan(columns[f"known_at/{g.name}"])
            for g in self._part.gains
        }

    def refuse_wrong(self, frame: pl.DataFrame, found: dict[str, Array], where: Path) -> None:
        """UserError for gains, (n,), that are beyond running sums, and for late ones that came at no time."""
        for name in self.gains:
            if f"gain/{name}" in found:
                value = found[f"gain/{name}"].astype(np.float64)
                large = np.abs(np.nan_to_num(value, posinf=np.inf, neginf=-np.inf)) > LARGEST
                self.roster.refuse(where, frame, large, f"{name} is beyond {LARGEST:.0f}", "a smaller gain")
                if f"known_at/{name}" in found:
                    untimed = (worth(value) != 0) & np.isnan(found[f"known_at/{name}"])
                    self.roster.refuse(where, frame, untimed, f"{name} without a time", "the time at which it came")

    def heard(self, frame: pl.DataFrame, where: Path) -> list[News]:
        """What rows of earlier turns tell of delayed gains, not taken up yet. UserError for what cannot be."""
        if not len(frame):
            return []
        if OF_TURN not in frame.columns:
            raise UserError(f"{where}: no column {OF_TURN!r}; expected the turn of each advert, counted from 0")
        rows = self.roster.located(frame, where)
        of = frame[OF_TURN].cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
        early = (of < 0) | (of >= len(self.turns))
        self.roster.refuse(where, frame, early, f"{OF_TURN} is no turn so far", f"0 to {len(self.turns) - 1}")
        self.roster.once(frame, where, of * len(self.roster) + rows)
        none = np.full(len(frame), not self._part.gains)
        self.roster.refuse(where, frame, none, "of an earlier turn", "this turn's rows: no gain is known later")
        return [self._of(self.turns[k], frame.filter(of == k), rows[of == k], where) for k in np.unique(of)]

    def _of(self, turn: Shown, frame: pl.DataFrame, rows: Integers, where: Path) -> News:
        """News of one turn's adverts; what was told before is none."""
        at = np.minimum(np.searchsorted(turn.rows, rows), max(len(turn.rows) - 1, 0))
        there = turn.rows[at] == rows if len(turn.rows) else np.zeros(len(rows), dtype=np.bool_)
        self.roster.refuse(where, frame, ~there, f"shown nothing in turn {turn.number}", "adverts that were shown")
        assert self._part.time is not None  # a schema with a delayed gain has a clock
        frame = frame.with_columns(turn.time.gather(at).alias(self._part.time))
        found, told = self.exchange.columns(frame, self._part, where), {}
        self.refuse_wrong(frame, found, where)
        for g in self._part.gains:
            value, known = found[f"gain/{g.name}"], found[f"known_at/{g.name}"]
            new = value == 1 if g.kind == "binary" else ~(np.isnan(known) | np.isnan(value))
            still = turn.open[g.name][at]
            other = (turn.columns[f"gain/{g.name}"][at] != value) | (turn.columns[f"known_at/{g.name}"][at] < known)
            self.roster.refuse(
                where, frame, new & ~still & other, f"{g.name} was known already", "what was known, or no row"
            )
            told[g.name] = (new & still, value, known)
        return News(turn, at, told)

    def renew(self, news: list[News], turns: int) -> Late | None:
        """Take up what was heard; what changed. `turns` make a day."""
        if not news:
            return None
        before = self._worth(news)
        for piece in news:
            for g, (new, value, known) in piece.gains.items():
                at = piece.at[new]
                self._settle(piece.of, at, g, value[new], np.maximum(known[new], self.asked[piece.of.rows[at]]))
        day = np.concatenate([np.full(len(piece.at), piece.of.number // turns) for piece in news])
        channel = np.concatenate([piece.of.columns["channel"][piece.at] for piece in news]).astype(np.int64)
        return Late(day, channel, before, self._worth(news))

    def close_windows(self, now: float) -> None:
        """Where the window of a binary gain has passed by `now`, on the log's clock, it is 0."""
        for turn in self.turns:
            for g in self._part.gains:
                if g.kind == "binary" and len(turn.rows) and turn.open[g.name].any():
                    known = turn.columns[f"known_at/{g.name}"]
                    due = np.flatnonzero(turn.open[g.name] & (known < now))
                    self._settle(turn, due, g.name, np.zeros(len(due)), known[due])

    def _settle(self, turn: Shown, at: Integers, gain: str, value: Array, known: Floats) -> None:
        """A delayed gain of some adverts of a turn is known, and stays as it is."""
        columns = turn.columns
        columns[f"gain/{gain}"][at], columns[f"known_at/{gain}"][at] = value, known
        turn.open[gain][at] = False
        self.memory.outcomes(turn.rows[at], gain, value, known, columns["time"][at], columns["channel"][at])

    def _worth(self, news: list[News]) -> dict[str, Floats]:
        return {g: np.concatenate([worth(p.of.columns[f"gain/{g}"][p.at]) for p in news]) for g in self.gains}

    def attributed(self, gain: str) -> Floats:
        """(N,) what the adverts to each user brought."""
        found = np.zeros(len(self.roster))
        for turn in self.turns:
            if len(turn.rows):
                found[turn.rows] += worth(turn.columns[f"gain/{gain}"])
        return found

    def journeys(self, path: Path, notes: dict[str, Any]) -> Journeys | None:
        """The adverts as journeys of the run's schema; None where there are none."""
        turns = [turn for turn in self.turns if len(turn.rows)]
        if not turns:
            return None
        schema = dataclasses.replace(self.schema, propensity=self.schema.propensity or "propensity")
        categories, ids = dict(self.exchange.categories), self.roster.ids
        rows = np.concatenate([turn.rows for turn in turns])
        order = np.argsort(rows, kind="stable")  # turns come in order of time
        columns = {name: np.concatenate([t.columns[name] for t in turns])[order] for name in turns[0].columns}
        lengths = np.bincount(rows, minlength=len(ids))
        seen = np.flatnonzero(lengths)
        columns |= {f"user/{name}": values[seen] for name, values in self.roster.features.items()}
        if ids.dtype == pl.String:
            categories["users"] = ids.to_list()
        with JourneysWriter(path, schema, categories) as writer:
            writer.append(seen if "users" in categories else ids.to_numpy()[seen], lengths[seen], columns)
            return writer.close(notes)


def worth(gain: Array) -> Floats:
    """A gain that is not known counts nothing."""
    return np.nan_to_num(np.asarray(gain, dtype=np.float64))
