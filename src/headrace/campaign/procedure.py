"""run_campaign: the advertising procedure, exploration and then exploitation under one budget (MTORL, Algorithm 1).

    while k <= K and W > 0:                                                 a round = one turn of the market
        rule = allocator.fix(forecast)                                      fixed before the round's users are seen
        scores of the users in turn                                         new ones and those touched since: predicted
        chances = rule, mixed with exploration; 0 for hold-out and capped users
        channel ~ chances                                                   exact propensities
        admitted = ledger.reserve(largest cost)                             exposure by exposure
        outcomes = market.expose(channel where admitted)
        ledger.settle(cost)

Printed Algorithm 1 is the preset `paper` as far as it can run: W is checked for each exposure and not between rounds; k
counts rounds and not users; exploration, on all users as they first come, is charged to the same budget, up to a stated
share; N, not printed, is what the money for a mean opportunity suffices for; users who are not here cannot be
advertised to, so a round ranks those who are. `default` explores by lot, decides by a price of money, and keeps a small
share of exploration for good. docs/campaigns.md tells each.

N users, A of them in turn, M channels. The budget in micros, predictions in its currency.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from headrace.campaign.allocator import Allocator, Forecast
from headrace.campaign.calibration import Calibration
from headrace.campaign.config import CampaignConfig
from headrace.campaign.ledger import Ledger
from headrace.campaign.market import NO_AD, Market, Outcomes, Worth
from headrace.campaign.money import MICROS, TOTAL, Audit
from headrace.campaign.rounds import Record, Round, Rounds
from headrace.campaign.scores import Predictor, ScoreMemory, Scores, narrow
from headrace.errors import UserError
from headrace.journeys.seams import Floats, Integers
from headrace.learn import durable

LEDGER, SETTINGS = "ledger.sqlite", "campaign-settings.json"
FORECAST = 50_000  # users that a rule is fixed on, at most


class Refit(Protocol):
    """Trains a predictor on what the market remembers; `folder` is its own, and keeps the result.

    A resumed campaign calls it again with the same folder, and must get the same predictor.
    """

    def __call__(self, market: Market, predictor: Predictor, folder: Path) -> Predictor: ...


Progress = Callable[[Record, int, float], None]  # the round's record, micros spent, value so far


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """What a campaign came to."""

    config: CampaignConfig
    allocator: str
    weights: dict[str, float]  # how much each gain counts
    rounds: list[Record]
    worth: dict[str, Worth]  # by gain
    shown: Integers  # (N,) adverts of each user
    charged: Integers  # (N,) micros
    foreseen: Floats  # (N,) the first predicted reward; minus infinity for users who never came
    held_out: Any  # (N,) whether a user was
    audit: Audit

    @property
    def spent(self) -> int:
        """Micros."""
        return self.audit.balances[TOTAL].spent

    def value(self, what: Literal["attributed", "gross", "without"] = "gross") -> Floats:
        """(N,) the campaign's gain of each user: by the reward's weights."""
        found: Floats = np.sum([w * getattr(self.worth[g], what) for g, w in self.weights.items()], axis=0)
        return found


def run_campaign(
    market: Market,
    predictor: Predictor,
    allocator: Allocator,
    config: CampaignConfig,
    out: Path | None = None,
    refit: Refit | None = None,
    progress: Progress | None = None,
) -> CampaignResult:
    """Spend the budget on the market's users, never more than it.

    A pure function of its arguments. With `out` the ledger and every round are kept there, and a campaign that was
    killed goes on from them to the same result. Raises UserError where `out` holds a campaign with other settings.
    """
    missing = [g for g in predictor.weights if g not in market.gains]
    if not predictor.weights:
        raise UserError("campaign: the predictor names no gain to spend for; train with --reward GAIN")
    if missing:
        raise UserError(f"campaign: the market tells no gain {missing[0]}; it tells {', '.join(market.gains)}")
    if config.refit_every is not None and (refit is None or out is None):
        raise UserError("campaign: refit_every asks for something to refit with, and for a folder")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _keep_settings(out / SETTINGS, config, allocator, predictor)
    with Ledger.create(None if out is None else out / LEDGER, config.budget) as ledger:
        campaign = _Campaign(market, predictor, allocator, config, ledger, Rounds(out))
        while not market.done and (config.rounds is None or len(campaign.records) < config.rounds):
            record = campaign.round()
            if progress is not None:
                progress(record, campaign.spent, campaign.value)
            if config.refit_every and len(campaign.records) % config.refit_every == 0 and not market.done:
                assert refit is not None and out is not None  # checked above
                campaign.predictor = refit(market, campaign.predictor, out / "refits" / f"{len(campaign.records):05d}")
                campaign.scores.stale[:] = True
        audit = ledger.audit()
        if out is not None:
            ledger.compact()
    return CampaignResult(
        config,
        allocator.name,
        dict(predictor.weights),
        campaign.records,
        market.close(),
        campaign.shown,
        campaign.charged,
        campaign.foreseen,
        campaign.held_out,
        audit,
    )


class _Campaign:
    """The state of a campaign between two rounds."""

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
        self.held_out = market.hold_out(config.hold_out)
        self.scores = ScoreMemory(n, m)
        self.records: list[Record] = []
        self.shown, self.shown_today = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.reached = np.zeros(n, dtype=np.int64)  # turns so far
        self.charged = np.zeros(n, dtype=np.int64)
        self.foreseen = np.full(n, -np.inf)
        window = max(market.window_days(gain) for gain in predictor.weights)
        self.calibration = Calibration(market.days, m, window)
        self.spent = self.spent_today = self.spent_exploring = 0  # micros
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
        forecast = self._forecast()  # before anything new is seen
        scored, columns = self._score(rows)
        scores = self._calibrated(self.scores.of(rows))
        forecast = forecast or self._forecast()
        if stage == "exploration":
            chances, told = self._exploring(rows, scores)
        elif forecast is None:  # nobody who may be advertised to has ever come
            chances, told = np.zeros(scores.gain.shape), {}
        else:
            rule = self.allocator.fix(forecast)
            lot = config.explore * float(rule.chances(forecast.scores).sum(axis=1).mean())
            chances = (1 - config.explore) * rule.chances(scores) + lot * self.initial
            told = rule.told | {"explore": lot}
        barred = self.held_out[rows]
        for cap, seen in ((config.cap, self.shown), (config.cap_per_day, self.shown_today)):
            barred = barred | (False if cap is None else seen[rows] >= cap)
        chances = np.where(barred[:, None], 0.0, chances)
        factor = self._room(chances, stage)
        if factor < 1:
            chances, told = factor * chances, told | {"room": factor}
        channel, propensity = market.choose(chances)
        wanted = np.flatnonzero(channel != NO_AD)
        wanted = wanted[np.argsort(-scores.gain[wanted, channel[wanted]], kind="stable")]  # where money ends, the best
        keys = [f"{day}.{turn}.{user}" for user in rows[wanted].tolist()]
        largest = market.largest_cost[channel[wanted]]
        admitted = self.ledger.reserve(keys, largest, self._accounts(stage, len(wanted)), number + config.expiry)
        channel[wanted[~admitted]] = NO_AD
        outcomes = market.expose(channel, propensity)
        paid = outcomes.cost[wanted[admitted]]
        settled = self.ledger.settle([k for k, ok in zip(keys, admitted.tolist(), strict=True) if ok], paid)
        outcomes.cost[wanted[admitted]] = settled.charged
        shown, m = channel != NO_AD, len(market.channels)
        gains = {name: float(values.sum()) for name, values in outcomes.gains.items()}
        record = {"round": number, "day": day, "turn": turn, "stage": stage, "reachable": len(rows)}
        record |= {"scored": len(scored), "shown": int(shown.sum()), "refused": int((~admitted).sum())}
        record |= {"spent": int(settled.charged.sum()), "excess": int(settled.excess.sum()), "gains": gains}
        record |= {"channels": np.bincount(channel[shown], minlength=m).tolist(), "told": told}
        return Round(record, channel, propensity, scored, columns), outcomes

    def _score(self, rows: Integers) -> tuple[Integers, dict[str, Any]]:
        """Predict for the users in turn who are new or were touched since; who they are, and what is kept."""
        asked = rows if self.config.rescore == "reachable" else rows[self.scores.stale[rows]]
        columns = narrow(self.predictor.predict(self.market, asked))
        self.scores.put(asked, columns)
        return asked, columns

    def _forecast(self) -> Forecast | None:
        """What the allocator is to know before the round; None as long as nobody has been predicted for."""
        known = np.flatnonzero(self.scores.known & ~self.held_out)
        if not len(known):
            return None
        sample = known[:: -(-len(known) // FORECAST)]
        return Forecast(
            self._calibrated(self.scores.of(sample)),
            np.maximum(self.reached[sample], 1).astype(np.float64),
            self._allowance(),
            (self.config.budget - self.spent) / MICROS,
            self.initial,
            self.calibration.statistics(self.market.day),
        )

    def _calibrated(self, scores: Scores) -> Scores:
        if not self.config.calibrate:
            return scores
        return self.calibration.factors(self.market.day).apply(scores)

    def _allowance(self) -> float:
        """Money for a mean opportunity of a user who is not held out: what is left over what is to be expected."""
        config = self.config
        left = config.budget - self.spent
        left_today = left if config.daily is None else config.daily - self.spent_today
        if not config.pacing:
            return float("inf")
        ahead, today = self._ahead()
        each = min(left / max(ahead, 1.0), left_today / max(today, 1.0))
        return float(each / MICROS / max(1 - config.hold_out, 1e-9))

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

    def _exploring(self, rows: Integers, scores: Scores) -> tuple[Floats, dict[str, Any]]:
        """P_initial for all who never saw an advert, or for a lot as large as the money suffices for."""
        if self.config.exploration == "all":
            return np.where(self.shown[rows] == 0, 1.0, 0.0)[:, None] * self.initial, {"explore": 1.0}
        usual = float(scores.cost.mean(axis=0) @ self.initial) * MICROS if len(rows) else 0.0
        traffic, turn = self.market.traffic, self.market.turn
        more = self.config.exploration_days - self.market.day - 1
        ahead = traffic[turn:].sum() + more * traffic.sum()
        lot = min(1.0, (self.exploration - self.spent_exploring) / max(ahead * (1 - self.config.hold_out) * usual, 1.0))
        return np.broadcast_to(lot * self.initial, (len(rows), len(self.initial))), {"explore": lot}

    def _room(self, chances: Floats, stage: str) -> float:
        """What all chances are multiplied by, so that the largest costs of those drawn fit what is left.

        The ledger would refuse what does not fit, by its place in the batch; a refused choice has no propensity. With
        this factor a standard deviation of the draw fits, so refusals are few.
        """
        config, largest = self.config, self.market.largest_cost.astype(np.float64)
        room = config.budget - self.spent
        if config.daily is not None:
            room = min(room, config.daily - self.spent_today)
        if stage == "exploration":
            room = min(room, self.exploration - self.spent_exploring)
        mean, spread = float((chances @ largest).sum()), float((chances @ largest**2).sum()) ** 0.5
        if mean + spread <= room:
            return 1.0
        root = (-spread + (spread**2 + 4 * mean * max(room, 0)) ** 0.5) / (2 * mean)
        return float(min(root**2, 1.0))

    def _accounts(self, stage: str, n: int) -> list[Integers]:
        accounts = [np.full(n, self.explorer)] if stage == "exploration" else []
        if self.config.daily is not None:
            day = self.ledger.open_account(f"day/{self.market.day}", min(self.config.daily, self.config.budget))
            accounts.append(np.full(n, day))
        return accounts

    def _note(self, rows: Integers, done: Round, outcomes: Outcomes) -> None:
        """Bring the state to the end of the round, whether it was played or decided."""
        record, shown = done.record, done.channel != NO_AD
        who, where = rows[shown], done.channel[shown]
        gain = np.sum([w * outcomes.gains[g] for g, w in self.predictor.weights.items()], axis=0)[shown]
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
        self.spent_today += record["spent"]
        self.spent_exploring += record["spent"] if record["stage"] == "exploration" else 0
        self.value += float(gain.sum())
        self.records.append(record)


def _keep_settings(path: Path, config: CampaignConfig, allocator: Allocator, predictor: Predictor) -> None:
    """Write what the campaign is to do; UserError where another one stands."""
    settings = {"config": dataclasses.asdict(config), "allocator": repr(allocator), "gain": dict(predictor.weights)}
    text = json.dumps(settings, indent=1) + "\n"
    if not path.is_file():
        durable.replace_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path}: a campaign with other settings is there; resume with those, or choose another folder")
