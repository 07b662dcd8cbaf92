"""Course: a campaign between two rounds, and how it decides the next one (procedure.py tells the whole).

N users, A of them in turn, M channels, S users of a forecast.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.campaign.allocator import Allocator, Forecast
from headrace.campaign.calibration import Calibration
from headrace.campaign.config import CampaignConfig
from headrace.campaign.ledger import Ledger
from headrace.campaign.market import NO_AD, Market, Outcomes
from headrace.campaign.money import MICROS
from headrace.campaign.rounds import Record, Round, Rounds
from headrace.campaign.scores import Predictor, ScoreMemory, Scores, narrow
from headrace.errors import UserError
from headrace.journeys.seams import Bools, Floats, Integers

TAIL = 0.1  # of the days, at most, are kept for what is left
PACED = 0.02  # of the budget: what real and foreseen spend are shrunk by
FORECAST = 50_000  # users that a rule is fixed on, at most


class Course:
    """A campaign's state, from one round to the next."""

    def __init__(
        self,
        market: Market,
        predictor: Predictor,
        allocator: Allocator,
        config: CampaignConfig,
        ledger: Ledger,
        rounds: Rounds,
    ):
        n, m = market.users, len(market.channels)
        self.market, self.predictor, self.allocator, self.config = market, predictor, allocator, config
        self.ledger, self.rounds = ledger, rounds
        self.initial = np.array(config.initial or np.ones(m), dtype=np.float64)
        if len(self.initial) != m:
            raise UserError(f"campaign: initial has {len(self.initial)} shares, the market {m} channels")
        self.initial /= self.initial.sum()
        self.exploration = int(config.exploration_share * config.budget)  # micros
        self.explorer = ledger.open_account("exploration", self.exploration)
        pots = config.pots or (None,) * m
        if len(pots) != m:
            raise UserError(f"campaign: {len(pots)} pots, the market has {m} channels")
        self.pots = np.array([config.budget if pot is None else min(pot, config.budget) for pot in pots])  # micros
        self.purses = np.array(  # accounts of the ledger
            [
                -1 if pot is None else ledger.open_account(f"channel/{name}", min(pot, config.budget))
                for name, pot in zip(market.channels, pots, strict=True)
            ]
        )
        self.held_out = market.hold_out(config.hold_out)
        self.scores = ScoreMemory(n, m)
        self.records: list[Record] = []
        self.shown, self.shown_today = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.reached = np.zeros(n, dtype=np.int64)  # turns so far
        self.charged = np.zeros(n, dtype=np.int64)
        self.foreseen = np.full(n, -np.inf)
        window = max(market.window_days(gain) for gain in predictor.weights)
        self.calibration = Calibration(market.days, m, window)
        self.spent = self.spent_today = self.spent_exploring = self.excess = 0  # micros
        self.spent_on = np.zeros(m, dtype=np.int64)  # micros
        self.foreseen_spend = self.real_spend = self.reserved = 0.0  # micros of exploitation rounds
        self.value = 0.0
        self.day = 0

    def round(self) -> Record:
        """One turn of the market: played again where it is on record, else decided."""
        if self.market.day != self.day:
            self.day, self.spent_today = self.market.day, 0
            self.shown_today[:] = 0
        number = len(self.records)
        rows = self.market.reachable()
        done = self.rounds.read(number)
        if done is None:
            done, outcomes = self._decide(number, rows)
            self._note(rows, done, outcomes)
            self.rounds.write(number, done)
        else:
            if len(done.channel) != len(rows):
                raise UserError(f"round {number}: the market shows {len(rows)} users, it showed {len(done.channel)}")
            self.scores.put(done.scored, done.scores)
            self._note(rows, done, self.market.expose(done.channel, done.propensity))
        return done.record

    def _decide(self, number: int, rows: Integers) -> tuple[Round, Outcomes]:
        config, market, day, turn = self.config, self.market, self.market.day, self.market.turn
        exploring = (
            day < config.exploration_days and self.exploration - self.spent_exploring >= market.largest_cost.min()
        )
        stage = "exploration" if exploring else "exploitation"
        self.ledger.expire(number)
        fits: Bools = market.largest_cost <= self._left_on(stage)  # the channels that an exposure can be admitted on
        initial = self.initial * fits / max(float(self.initial @ fits), 1e-300)
        forecast = self._forecast(initial)  # before anything new is seen
        scored, columns = self._score(rows)
        scores = self._calibrated(self.scores.of(rows)).only(fits)
        forecast = forecast or self._forecast(initial)
        if stage == "exploration":
            chances, told = self._exploring(rows, scores, initial)
        elif forecast is None or not fits.any():  # nobody who may be advertised to has ever come, or no money
            chances, told = np.zeros(scores.gain.shape), {}
        else:
            forecast = dataclasses.replace(forecast, scores=forecast.scores.only(fits))
            rule = self.allocator.fix(forecast)
            lot = config.explore * float(rule.chances(forecast.scores).sum(axis=1).mean())
            chances = (1 - config.explore) * rule.chances(scores) + lot * initial
            told = rule.told | {"explore": lot}
        barred = self.held_out[rows]
        for cap, seen in ((config.cap, self.shown), (config.cap_per_day, self.shown_today)):
            barred = barred | (False if cap is None else seen[rows] >= cap)
        chances = np.where(barred[:, None] | ~fits, 0.0, chances)
        chances = chances * self._pot_room(chances)
        factor = self._room(chances, self._left(stage))
        if factor < 1:
            chances, told = factor * chances, told | {"room": factor}
        channel, propensity = market.choose(chances)
        some = chances.sum(axis=1)  # a log holds the adverts alone: of its rows the chance of the channel, given one
        propensity = np.where(channel == NO_AD, propensity, propensity / np.where(some > 0, some, 1.0))
        wanted = np.flatnonzero(channel != NO_AD)
        wanted = wanted[np.argsort(-scores.gain[wanted, channel[wanted]], kind="stable")]  # where money ends, the best
        keys = [f"{day}.{turn}.{user}" for user in rows[wanted].tolist()]
        largest = market.largest_cost[channel[wanted]]
        admitted = self.ledger.reserve(keys, largest, self._accounts(stage, channel[wanted]), number + config.expiry)
        channel[wanted[~admitted]] = NO_AD
        outcomes = market.expose(channel, propensity)
        paid = outcomes.cost[wanted[admitted]]
        settled = self.ledger.settle([k for k, ok in zip(keys, admitted.tolist(), strict=True) if ok], paid)
        outcomes.cost[wanted[admitted]] = settled.charged
        shown, m = _shown(channel, outcomes), len(market.channels)
        gains = {name: float(values.sum()) for name, values in outcomes.gains.items()}
        if outcomes.late is not None:
            late = outcomes.late
            gains = {name: s + float((late.after[name] - late.before[name]).sum()) for name, s in gains.items()}
        record = {"round": number, "day": day, "turn": turn, "stage": stage, "reachable": len(rows)}
        record |= {"scored": len(scored), "shown": int(shown.sum()), "refused": int((~admitted).sum())}
        record |= {"spent": int(settled.charged.sum()), "excess": int(settled.excess.sum()), "gains": gains}
        record |= {"channels": np.bincount(channel[shown], minlength=m).tolist(), "told": told}
        record |= {} if outcomes.lost is None else {"lost": int(outcomes.lost.sum())}
        record["foreseen"] = round(float((chances * scores.cost).sum()) * MICROS)
        return Round(record, channel, propensity, scored, columns), outcomes

    def _score(self, rows: Integers) -> tuple[Integers, dict[str, Any]]:
        """Predict for the users in turn who are new or were touched since; who they are, and what is kept."""
        asked = rows if self.config.rescore == "reachable" else rows[self.scores.stale[rows]]
        columns = narrow(self.predictor.predict(self.market, asked))
        self.scores.put(asked, columns)
        return asked, columns

    def _forecast(self, initial: Floats) -> Forecast | None:
        """What the allocator is to know before the round; None as long as nobody has been predicted for."""
        known = np.flatnonzero(self.scores.known & ~self.held_out)
        if not len(known):
            return None
        sample = known[:: -(-len(known) // FORECAST)]
        return Forecast(
            self._calibrated(self.scores.of(sample)),
            np.maximum(self.reached[sample], 1).astype(np.float64),
            self._allowance(),
            initial,
        )

    def _calibrated(self, scores: Scores) -> Scores:
        if not self.config.calibrate:
            return scores
        return self.calibration.factors(self.market.day).apply(scores)

    def _allowance(self) -> float:
        """Money for a mean opportunity of a user who is not held out: what is left over what is to be expected."""
        config = self.config
        left = max(config.budget - self.spent - self.excess, 0)
        left_today = left if config.daily is None else config.daily - self.spent_today
        if not config.pacing:
            return float("inf")
        ahead, today = self._ahead()
        ahead = max(ahead - self._tail(), float(self.market.traffic[self.market.turn :][:1].sum()))
        each = min(left / max(ahead, 1.0), left_today / max(today, 1.0))
        return float(each / MICROS / max(1 - config.hold_out, 1e-9) / self._dearness())

    def _dearness(self) -> float:
        """Real over foreseen spend so far, shrunk towards 1: a plan for the next round is off by as much."""
        usual = max(self.config.budget * PACED, 1.0)
        return float(np.clip((self.real_spend + usual) / (self.foreseen_spend + usual), 0.5, 2.0))

    def _tail(self) -> float:
        """Opportunities at the end that the money is not spread over, for what is left then to be spent at all.

        Where adverts cost L times less in the mean than they may, a turn can spend a share of 1 / L of what is left.
        """
        turns = max(self.reserved / self.real_spend - 1, 0.0) if self.real_spend else 0.0
        traffic = self.market.traffic
        return float(min(turns / max(len(traffic), 1), TAIL * self.market.days) * traffic.sum())

    def _ahead(self) -> tuple[float, float]:
        """Opportunities to be expected from this turn on: in all, and today."""
        traffic = self.market.traffic
        today = traffic[self.market.turn :]
        days = max(self.market.days - self.market.day - 1, 0)
        if self.config.rounds is None:
            return float(today.sum() + days * traffic.sum()), float(today.sum())
        rounds = max(self.config.rounds - len(self.records), 1)
        turns = np.concatenate([today, np.tile(traffic, min(days, -(-rounds // max(len(traffic), 1))))])[:rounds]
        return float(turns.sum()), float(today[:rounds].sum())

    def _exploring(self, rows: Integers, scores: Scores, initial: Floats) -> tuple[Floats, dict[str, Any]]:
        """P_initial for all who never saw an advert, or for a lot as large as the money suffices for."""
        if self.config.exploration == "all":
            return np.where(self.shown[rows] == 0, 1.0, 0.0)[:, None] * initial, {"explore": 1.0}
        usual = float(scores.cost.mean(axis=0) @ initial) * MICROS if len(rows) else 0.0
        traffic, turn = self.market.traffic, self.market.turn
        more = self.config.exploration_days - self.market.day - 1
        ahead = traffic[turn:].sum() + more * traffic.sum()
        lot = min(1.0, (self.exploration - self.spent_exploring) / max(ahead * (1 - self.config.hold_out) * usual, 1.0))
        return np.broadcast_to(lot * initial, (len(rows), len(initial))), {"explore": lot}

    def _left(self, stage: str) -> int:
        """Micros that this round's adverts may cost together at most.

        What adverts cost above what was said to be possible is no charge of the ledger, but money that is gone.
        """
        left = max(self.config.budget - self.spent - self.excess, 0)
        if self.config.daily is not None:
            left = min(left, self.config.daily - self.spent_today)
        return min(left, self.exploration - self.spent_exploring) if stage == "exploration" else left

    def _left_on(self, stage: str) -> Integers:
        """(M,) micros that this round's adverts of a channel may cost together at most."""
        return np.minimum(self._left(stage), self.pots - self.spent_on)

    def _pot_room(self, chances: Floats) -> Floats:
        """(M,) what the chances of each channel are multiplied by, so that it keeps to its pot."""
        left = self.pots - self.spent_on
        channels = np.flatnonzero(self.purses >= 0)
        found = np.ones(chances.shape[1])
        for c in channels:
            found[c] = self._room(np.where(np.arange(len(found)) == c, chances, 0.0), int(left[c]))
        return found

    def _room(self, chances: Floats, room: int) -> float:
        """What all chances are multiplied by, so that the largest costs of those drawn fit the `room`, micros.

        The ledger would refuse what does not fit, by its place in the batch; a refused choice has no propensity. With
        this factor a standard deviation of the draw fits, so refusals are few.
        """
        largest = self.market.largest_cost.astype(np.float64)
        mean, spread = float((chances @ largest).sum()), float((chances @ largest**2).sum()) ** 0.5
        if mean + spread <= room:
            return 1.0
        root = (-spread + (spread**2 + 4 * mean * max(room, 0)) ** 0.5) / (2 * mean)
        return float(min(root**2, 1.0))

    def _accounts(self, stage: str, channel: Integers) -> list[Integers]:
        """Those that adverts on these channels are charged to, beside the total."""
        n = len(channel)
        accounts = [np.full(n, self.explorer)] if stage == "exploration" else []
        if self.config.daily is not None:
            day = self.ledger.open_account(f"day/{self.market.day}", min(self.config.daily, self.config.budget))
            accounts.append(np.full(n, day))
        if self.config.pots is not None:
            accounts.append(self.purses[channel])
        return accounts

    def _note(self, rows: Integers, done: Round, outcomes: Outcomes) -> None:
        """Bring the state to the end of the round, whether it was played or decided."""
        record, shown = done.record, _shown(done.channel, outcomes)
        who, where = rows[shown], done.channel[shown]
        gain = self._weighed(outcomes.gains)[shown]
        cost = np.minimum(outcomes.cost, self.market.largest_cost[np.maximum(done.channel, 0)])[shown]
        first = done.scored[~np.isfinite(self.foreseen[done.scored])]
        self.foreseen[first] = self.scores.reward[first]
        self.reached[rows] += 1
        self.shown[who] += 1
        self.shown_today[who] += 1
        self.scores.stale[who] = True
        self.charged[who] += cost
        self.calibration.add(record["day"], where, gain, cost / MICROS, self.scores.of(who))
        self.spent += record["spent"]
        self.excess += record["excess"]
        self.spent_on += np.bincount(where, cost, minlength=len(self.spent_on)).astype(np.int64)
        self.spent_today += record["spent"]
        self.spent_exploring += record["spent"] if record["stage"] == "exploration" else 0
        if record["stage"] == "exploitation":
            self.real_spend += record["spent"]
            self.foreseen_spend += record["foreseen"]
            self.reserved += float(self.market.largest_cost[where].sum())
        self.value += float(gain.sum())
        if outcomes.late is not None:
            late, before, after = outcomes.late, *map(self._weighed, (outcomes.late.before, outcomes.late.after))
            self.calibration.renew(late.day, late.channel, before, after)
            self.value += float((after - before).sum())
        self.records.append(record)

    def _weighed(self, gains: Mapping[str, Floats]) -> Floats:
        """The sum of gains by the reward's weights."""
        return np.asarray(np.sum([w * gains[g] for g, w in self.predictor.weights.items()], axis=0))


def _shown(channel: Integers, outcomes: Outcomes) -> Bools:
    """(A,) whose adverts were decided and shown."""
    decided: Bools = channel != NO_AD
    return decided if outcomes.lost is None else decided & ~outcomes.lost
