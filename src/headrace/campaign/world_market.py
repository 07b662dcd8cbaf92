"""WorldMarket: the world's advertising task as a market. Compared campaigns meet the same users and the same luck.

Every draw is a function of (seed, user, day, turn, purpose), so two campaigns differ only by what they choose, and one
that is played again up to any turn stands exactly where it stood. What there would have been without adverts is the
same users' rollout without any.

N users, A of them in turn, M channels, T turns of a day.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.campaign.market import NO_AD, Market, Outcomes, Worth
from headrace.campaign.money import MICROS
from headrace.campaign.scores import Scores
from headrace.errors import UserError
from headrace.journeys.seams import Bools, Floats, History, Integers
from headrace.journeys.statistics import Statistic
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.simulate import draws
from headrace.simulate.acting import WorldMemory
from headrace.simulate.ads import AdsWorld, Context
from headrace.simulate.draws import Purpose
from headrace.simulate.log import Step, append_steps, categories, schema
from headrace.simulate.policies import choose
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import totals

WATCHED = 20_000  # users of another seed whose visits tell the traffic to expect
WATCHED_DAYS = 7
MOST_SDS = 4.0  # a spread cost above this many sds of its logarithm is more than was said to be possible
BOUGHT = ("conversion", "revenue")  # gains that also come without an advert


class WorldMarket:
    """N users of a scenario over `days` (None: the scenario's)."""

    def __init__(
        self,
        scenario: Scenario,
        users: int,
        seed: int = 0,
        days: int | None = None,
        steps: int = 20,
        statistics: tuple[Statistic, ...] | None = None,
        price: float | None = None,
    ):
        """`steps` of history and running `statistics` are kept of each user; `price` is that of a unit of a scaled
        cost, in the budget's currency. UserError for no users, and for a price that is lacking, or makes no sense."""
        check_price(scenario, price)
        if users < 1:
            raise UserError(f"users is {users}, expected 1 or more")
        self.scenario, self.seed = scenario, seed
        self.world = AdsWorld(scenario, users, seed, days)
        self.price = 1.0 if price is None else price
        self._memory = WorldMemory(self.world, steps, statistics)
        self.shown: list[Step] = []  # the adverts so far, a turn an entry
        self._context: Context | None = None
        self._traffic = _traffic(scenario, users, seed)
        self._without: dict[str, Floats] | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        return self.scenario.channels

    @property
    def gains(self) -> tuple[str, ...]:
        return ("click", *BOUGHT)

    @property
    def users(self) -> int:
        return len(self.world.users)

    @property
    def days(self) -> int:
        return self.world.days

    @property
    def day(self) -> int:
        return self.world.day

    @property
    def turn(self) -> int:
        return self.world.slot

    @property
    def done(self) -> bool:
        return self.world.done

    @property
    def traffic(self) -> Floats:
        return self._traffic

    @property
    def largest_cost(self) -> Integers:
        t = self.world.tables
        dearest = t.cost_per_exposure * np.where(
            t.cost_spread > 0, np.exp(t.cost_spread * (MOST_SDS - t.cost_spread / 2)), 1.0
        )
        return np.ceil(np.round((dearest + t.cost_per_click) * self.price * MICROS, 6)).astype(np.int64)

    def window_days(self, gain: str) -> float:
        return self.scenario.ads.conversion_window_days if gain in BOUGHT else 0.0

    def context(self) -> Context:
        """What the world shows of the users in turn."""
        if self._context is None:
            self._context = self.world.observe()
        return self._context

    def reachable(self) -> Integers:
        return self.context()["row"]

    def histories(self, users: Integers) -> History:
        context = self.context()
        at = np.searchsorted(context["row"], users)
        return self._memory.histories({name: values[at] for name, values in context.items()})

    def choose(self, chances: Floats) -> tuple[Integers, Floats]:
        return choose(self.world, self.context(), chances)

    def expose(self, channel: Integers, propensity: Floats) -> Outcomes:
        context = self.context()
        found = self.world.step(channel)
        shown = found.channel != NO_AD
        if shown.any():
            self._memory.record(context, found)
            self.shown.append(Step.of(context, propensity, found))
        self._context = None
        gains = {"click": found.click.astype(np.float64), "conversion": found.conversion.astype(np.float64)}
        return Outcomes(gains | {"revenue": found.revenue}, np.round(found.cost * self.price * MICROS).astype(np.int64))

    def hold_out(self, share: float) -> Bools:
        return np.asarray(draws.uniform(self.world.keys, 0, 0, Purpose.HOLD_OUT) < share)

    def journeys(self, path: Path) -> Journeys | None:
        if not self.shown:
            return None
        with JourneysWriter(path, schema(self.scenario), categories(self.scenario)) as writer:
            append_steps(writer, self.world, self.shown)
            return writer.close(
                {
                    "scenario": self.scenario.to_dict(),
                    "scenario_sha256": self.scenario.sha256,
                    "users": self.users,
                    "days": self.days,
                    "seed": self.seed,
                    "policy": "campaign",
                }
            )

    def close(self) -> dict[str, Worth]:
        while not self.world.done:
            self.world.step(NO_AD)
        self._context = None
        if self._without is None:
            self._without = totals(self.scenario, "none", self.users, self.days, self.seed)
        found, without = self.world.totals, self._without
        worth = {"click": Worth(found["clicks"], found["clicks"], np.zeros(self.users))}
        for gain, many in (("conversion", "conversions"), ("revenue", "revenue")):
            gross = found[many] + found[f"organic_{many}"]
            worth[gain] = Worth(found[many], gross, without[f"organic_{many}"])
        return worth


@dataclass(frozen=True, slots=True)
class TrueRates:
    """The world's own expectations of the users in turn: the reference that a campaign's regret is measured against.

    It knows the present in full and neither luck nor the future.
    """

    weights: Mapping[str, float]

    def predict(self, market: Market, users: Integers) -> Scores:
        """Raises ValueError for any other market than the world."""
        if not isinstance(market, WorldMarket):
            raise ValueError("true rates are known of the world alone")
        rates = market.world.true_rates()
        at = np.searchsorted(market.reachable(), users)
        by_name = {"click": rates.click, "conversion": rates.conversion, "revenue": rates.revenue}
        gain = np.sum([w * by_name[g][at] for g, w in self.weights.items()], axis=0)
        m = gain.shape[1]
        return Scores(gain, market.price * rates.cost[at], gain.max(axis=1), np.full(gain.shape, 1 / m))


def check_price(scenario: Scenario, price: float | None) -> None:
    """UserError where scaled costs have no price, or others have one."""
    if scenario.currency == "scaled" and price is None:
        raise UserError(
            f"scenario {scenario.name}: its costs are scaled and have no currency; say with --price what a unit "
            "costs, so that a budget can be charged"
        )
    if scenario.currency != "scaled" and price is not None:
        raise UserError(f"scenario {scenario.name}: its costs are in {scenario.currency} already; leave --price out")
    if price is not None and not 0 < price < np.inf:
        raise UserError(f"--price {price:g}: expected more than 0")


def _traffic(scenario: Scenario, users: int, seed: int) -> Floats:
    """(T,) users to be expected at each turn of a day: the mean over a week of other users, as past logs would tell."""
    watched = min(users, WATCHED)
    world = AdsWorld(scenario, watched, seed + 1, WATCHED_DAYS)
    seen = np.zeros(scenario.ads.most_exposures_per_day + 1)
    while not world.done:
        seen[world.slot] += len(world.observe()["row"])
        world.step(NO_AD)
    return seen / WATCHED_DAYS * users / watched
