"""FolderMarket: real users as a market, by files that headrace and a company's own job exchange turn by turn.

    reachable.parquet     user, time, the features known before a decision      the job, who can be reached now
    decisions.parquet     user, channel or null, propensity                     headrace
    outcomes.parquet      user, channel, cost, gains, features known after      the job, an advert a row

All columns are those of the log that the run learnt from. An advert without a row was not shown. What becomes known of
an earlier advert is a row of a later turn's outcomes, `of_turn` the turn of that advert (exposed.py).

Draws are functions of (seed, user, day, turn). A draw is kept before money is reserved for it, a file of the job before
it counts, so that a campaign that was killed meets what it met and decides nothing otherwise.

N users, A of them reachable, S shown an advert, T turns of a day, n rows of a file.
"""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from headrace.campaign.exchange import OF_TURN, Exchange, check, parts
from headrace.campaign.exposed import Exposed, News, Shown, worth
from headrace.campaign.market import NO_AD, Outcomes, Worth
from headrace.campaign.money import MICROS, MOST
from headrace.campaign.roster import Roster
from headrace.campaign.terms import Terms
from headrace.errors import UserError
from headrace.journeys.memory import Memory
from headrace.journeys.schema import Gain
from headrace.journeys.seams import Bools, Floats, History, Integers
from headrace.journeys.store import Array, Journeys
from headrace.journeys.transforms import Transforms
from headrace.simulate import draws
from headrace.simulate.draws import Purpose
from headrace.simulate.policies import draw

DAY_S = 86_400


class FolderMarket:
    """The market of a folder with a market.toml, in the terms of a run's own schema."""

    def __init__(
        self,
        folder: Path,
        transforms: Transforms,
        keep: Path,
        seed: int = 0,
        steps: int = 256,
        price: float | None = None,
        wait_s: float | None = None,
    ):
        """`transforms` are the run's, `keep` is the campaign's own folder for what it took up, `price` that of a unit
        of a scaled cost, `wait_s` how long to wait for a file (None: as long as it takes).

        UserError for terms, users or a schema that no campaign can be run by.
        """
        self.schema = schema = dataclasses.replace(transforms.schema, channels=transforms.channels)
        check(schema, transforms.statistics, price)
        self.terms, self.price = Terms.load(folder, schema.channels), 1.0 if price is None else price
        self.exchange = Exchange(folder, keep, transforms, wait_s)
        self._parts = parts(schema)
        self.roster = Roster(self.terms.users, self._parts["users"], self.exchange, seed)
        self.memory = Memory(
            schema, len(self.roster), steps, dict(self.roster.features), transforms.statistics, self.exchange.names
        )
        self.exposed = Exposed(schema, self._parts["late"], self.roster, self.exchange, self.memory)
        self._came: list[int] = []  # users of the turns so far
        self._rows: Integers | None = None  # those of this turn, ascending
        self._now: dict[str, Array] = {}  # (A,) what is known of them, by stored name
        self._time = pl.Series(dtype=pl.Float64)  # (A,) as the job wrote it

    @property
    def channels(self) -> tuple[str, ...]:
        return self.schema.channels

    @property
    def gains(self) -> tuple[str, ...]:
        return self.exposed.gains

    @property
    def users(self) -> int:
        return len(self.roster)

    @property
    def days(self) -> int:
        return self.terms.days

    @property
    def day(self) -> int:
        return len(self._came) // self.terms.turns

    @property
    def turn(self) -> int:
        return len(self._came) % self.terms.turns

    @property
    def done(self) -> bool:
        return self.day >= self.days

    @property
    def largest_cost(self) -> Integers:
        return self.terms.largest_cost

    @property
    def traffic(self) -> Floats:
        """(T,) as market.toml tells it; else the mean of what came at this turn of earlier days, or at any turn."""
        if self.terms.traffic is not None:
            return self.terms.traffic
        usual = float(np.mean(self._came)) if self._came else float(self.users)
        same = [self._came[turn :: self.terms.turns] for turn in range(self.terms.turns)]
        return np.array([np.mean(came) if came else usual for came in same])

    def window_days(self, gain: str) -> float:
        if not self.schema.gain(gain).known.startswith("at:"):
            return 0.0
        if self.schema.label_window_s is None:
            raise UserError(
                f"schema {self.schema.name}: {gain} is known later, and label_window_s does not tell how long it may "
                "take; set it in the schema and train again, or train for another gain"
            )
        return self.schema.label_window_s / DAY_S

    def reachable(self) -> Integers:
        if self._rows is None:
            self._rows, self._now, self._time = self.exchange.take(self._file("reachable"), self._reachable)
            if "time" in self._now:
                self.exposed.asked[self._rows] = self._now["time"]
                self.exposed.close_windows(float(self._now["time"].max()))
        return self._rows

    def histories(self, users: Integers) -> History:
        at = np.searchsorted(self.reachable(), users)
        names = {f"feature/{f.name}": f.name for f in self._parts["reachable"].features}
        names |= {"time": "time"} if self.schema.time is not None else {}
        context = {to: self._now[name][at] if len(at) else np.zeros(0) for name, to in names.items()}
        self.memory.categories |= self.exchange.names
        return self.memory.histories(users, context)

    def choose(self, chances: Floats) -> tuple[Integers, Floats]:
        rows, kept = self.reachable(), self.exchange.kept(self._file("draw"))
        if not kept.is_file():
            answer = self.exchange.path(self._file("decisions"))
            if answer.exists():
                raise UserError(f"{answer}: another campaign decided this turn; go on with that one, or clear turns/")
            ids, keys = self.roster.ids.gather(rows).to_numpy(), self.roster.keys[rows]
            channel, propensity = draw(chances, ids, keys, self.day, self.turn)
            self.exchange.put(pl.DataFrame({"channel": channel, "propensity": propensity}), kept)
        drawn = pl.read_parquet(kept)
        return drawn["channel"].to_numpy().copy(), drawn["propensity"].to_numpy().copy()

    def expose(self, channel: Integers, propensity: Floats) -> Outcomes:
        rows, name = self.reachable(), self._file("outcomes")
        if not self.exchange.kept(name).is_file():
            self._answer(channel, propensity)
        turn, news = self.exchange.take(name, partial(self._outcomes, channel))
        at = np.searchsorted(rows, turn.rows)
        gains, cost = {g: np.zeros(len(rows)) for g in self.gains}, np.zeros(len(rows), dtype=np.int64)
        if len(at):
            turn.columns["propensity"] = propensity[at]
            cost[at] = np.round(turn.columns["cost"] * self.price * MICROS).astype(np.int64)
            for g in self.gains:
                gains[g][at] = worth(turn.columns[f"gain/{g}"])
        lost = channel != NO_AD
        lost[at] = False
        late = self.exposed.renew(news, self.terms.turns)
        self.exposed.add(turn)
        self._came.append(len(rows))
        self._rows = None
        return Outcomes(gains, cost, lost, late)

    def hold_out(self, share: float) -> Bools:
        return np.asarray(draws.uniform(self.roster.keys, 0, 0, Purpose.HOLD_OUT) < share)

    def journeys(self, path: Path) -> Journeys | None:
        return self.exposed.journeys(path, {"policy": "campaign", "users": self.users, "days": self.days})

    def close(self) -> dict[str, Worth]:
        gross: dict[str, Floats] = {}
        if "outcomes" in self.terms.closing:
            self.exposed.renew(self.exchange.take("closing/outcomes", self.exposed.heard), self.terms.turns)
        if "totals" in self.terms.closing:
            gross = self.exchange.take("closing/totals", self._totals)
        return {g: Worth(self.exposed.attributed(g), gross.get(g), None) for g in self.gains}

    def _file(self, what: str) -> str:
        return f"turns/{len(self._came):05d}/{what}"

    def _reachable(self, frame: pl.DataFrame, where: Path) -> tuple[Integers, dict[str, Array], pl.Series]:
        """(A,) rows, what is known of them, and their times as the job wrote them."""
        found, rows = self.exchange.columns(frame, self._parts["reachable"], where), self.roster.located(frame, where)
        self.roster.once(frame, where, rows)
        order, clock = np.argsort(rows, kind="stable"), self.schema.time
        time = pl.Series(np.zeros(len(rows)))
        if clock is not None and len(rows):
            earlier = found["time"] <= self.memory.times[0, rows]
            self.roster.refuse(where, frame, earlier, "no later than the user's last advert", "a clock that goes on")
            time = frame[clock].gather(order)
        return rows[order], {name: values[order] for name, values in found.items()}, time

    def _answer(self, channel: Integers, propensity: Floats) -> None:
        """Leave the decisions; a choice that the ledger refused has no propensity."""
        drawn = pl.read_parquet(self.exchange.kept(self._file("draw")))["channel"].to_numpy()
        names = [None if c == NO_AD else self.channels[c] for c in channel.tolist()]
        chance = np.where((channel == NO_AD) & (drawn != NO_AD), np.nan, propensity)
        users = self.roster.ids.gather(self.reachable())
        frame = pl.DataFrame(
            {
                self.roster.column: users,
                "channel": pl.Series(names, dtype=pl.String),
                "propensity": pl.Series(chance, dtype=pl.Float64).fill_nan(None),
            }
        )
        path = self.exchange.path(self._file("decisions"))
        if not path.is_file():
            self.exchange.put(frame, path)
        elif not frame.equals(pl.read_parquet(path)):
            raise UserError(f"{path}: not what this campaign decided, and that stands; restore it, go on with --resume")

    def _outcomes(self, decided: Integers, frame: pl.DataFrame, where: Path) -> tuple[Shown, list[News]]:
        """The turn's adverts, of which `decided` (A,) were, and what is told of earlier ones."""
        number, users = len(self._came), self.roster
        now = np.ones(len(frame), dtype=np.bool_)
        if OF_TURN in frame.columns:
            turns = frame[OF_TURN]
            broken = (turns.is_not_null() & turns.cast(pl.Int64, strict=False).is_null()).to_numpy()
            users.refuse(where, frame, broken, f"{OF_TURN} is no number", "the number of a turn")
            now = (frame[OF_TURN].cast(pl.Int64, strict=False).fill_null(number) == number).to_numpy()
        news = self.exposed.heard(frame.filter(~now), where)
        frame = frame.filter(now)
        rows, reachable = users.located(frame, where), self.reachable()
        users.once(frame, where, rows)
        at = np.minimum(np.searchsorted(reachable, rows), max(len(reachable) - 1, 0))
        there = (reachable[at] == rows) & (decided[at] != NO_AD) if len(reachable) else np.zeros(len(rows), np.bool_)
        users.refuse(where, frame, ~there, "to be shown nothing", "users with a channel in decisions.parquet")
        if self.schema.time is not None and len(frame):
            frame = frame.with_columns(self._time.gather(at).alias(self.schema.time))
        found = self.exchange.columns(frame, self._parts["outcomes"], where)
        if not len(rows):
            return Shown(number, rows, self._time.clear(), {}, {}), news
        users.refuse(where, frame, found["channel"] != decided[at], "another channel", "that of decisions.parquet")
        users.refuse(where, frame, np.isnan(found["cost"]), "no cost", "what the exposure cost")
        dear = found["cost"] * self.price > MOST / MICROS
        users.refuse(where, frame, dear, "a cost above any budget", f"at most {MOST // MICROS:,}")
        self.exposed.refuse_wrong(frame, found, where)
        order = np.argsort(rows, kind="stable")
        columns = {name: values[at][order] for name, values in self._now.items()}
        columns |= {name: values[order] for name, values in found.items()}
        return Shown(number, rows[order], self._time.gather(at[order]), columns, self.exposed.opened(columns)), news

    def _totals(self, frame: pl.DataFrame, where: Path) -> dict[str, Floats]:
        """(N,) all of a user's gains, whatever they came from, of each gain that the file tells."""
        told = [g for g in self.gains if g in frame.columns]
        if not told:
            raise UserError(f"{where}: no gain in it; expected a column of {' or '.join(self.gains)}")
        part = dataclasses.replace(self._parts["users"], features=(), gains=tuple(Gain(g, "continuous") for g in told))
        found, rows = self.exchange.columns(frame, part, where), self.roster.located(frame, where)
        self.roster.once(frame, where, rows)
        totals = {g: np.zeros(self.users) for g in told}
        for g, values in totals.items() if len(rows) else ():
            self.roster.refuse(where, frame, ~np.isfinite(found[f"gain/{g}"]), f"no {g}", "a finite number")
            values[rows] = found[f"gain/{g}"]
        return totals
