"""AdsWorld: the advertising task for N users at once, one exposure opportunity of every user in turn at a step.

    world = AdsWorld(Scenario.load("ads"), users=1000, seed=0)
    while not world.done:
        context = world.observe()                  # the A users whose turn it is
        outcomes = world.step(channel)             # (A,) a channel each, or -1 for no advert

The calendar is the same for all users: all opportunities of a day pass before the next day begins, and at midnight
people may buy without an advert in front of them. When users come does not depend on the adverts. The equations stand
in response.py; everything random is a draw of (seed, user, day, request, purpose).

N users of the world, A of them in turn at a step, M channels, K topics. Times in ms since 1970, money in the
scenario's currency.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from headrace.simulate import draws
from headrace.simulate.draws import Floats, Purpose
from headrace.simulate.response import evening, response, tables
from headrace.simulate.scenario import Scenario
from headrace.simulate.users import draw_traits, drift, first_moving

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NO_AD = -1

Integers = NDArray[np.int64]
Context = dict[str, NDArray[Any]]
TOTALS = ("exposures", "clicks", "conversions", "revenue", "cost", "organic_conversions", "organic_revenue")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What A opportunities brought. Where no advert was shown topic is -1, time NaN and the rest 0."""

    channel: Integers  # (A,) -1: no advert
    topic: Integers  # (A,) of the advert shown
    click: NDArray[np.bool_]  # (A,)
    conversion: NDArray[np.bool_]  # (A,)
    conversion_time: Floats  # (A,) when it is reported; without one, when its window has passed
    revenue: Floats  # (A,) of the conversion
    cost: Floats  # (A,) of the exposure and the click


@dataclass(frozen=True, slots=True)
class Rates:
    """The truth about the users in turn, averaged over the advert they may get: for tests and reference policies."""

    click: Floats  # (A, M) probability
    conversion: Floats  # (A, M) probability
    revenue: Floats  # (A, M) expected
    cost: Floats  # (A, M) expected


@dataclass(frozen=True, slots=True)
class Latent:
    """The latent state of the users in turn, now: for reference policies."""

    recent: Floats  # (A, M) S
    aware: Floats  # (A, M) awareness
    sated: Floats  # (A,)
    capacity: Floats  # (A, M)
    readiness: Floats  # (A,)
    spend: Floats  # (A,)


class AdsWorld:
    """N users, their latent state, and the clock. `totals` adds up per user what happened."""

    def __init__(self, scenario: Scenario, users: int | ArrayLike, seed: int, days: int | None = None):
        """`users`: how many (numbered from 0), or their numbers (N,); a number's users are the same in any company."""
        self.scenario = scenario
        self.users: Integers = np.arange(users) if isinstance(users, int) else np.asarray(users, dtype=np.int64)
        self.days = scenario.days_of(days)
        self.seed = seed
        self.keys = draws.user_keys(seed, self.users)
        self.tables = tables(scenario)
        self.traits = draw_traits(scenario, self.keys)
        self.response = response(scenario, self.tables, self.keys, self.traits)
        n, m = len(self.users), len(scenario.ads.channels)
        self.totals: dict[str, Floats] = {name: np.zeros(n) for name in TOTALS}
        self.shown = np.zeros((n, m))  # exposures so far
        self.clicked = np.zeros((n, m))  # clicks so far
        self._moving = first_moving(scenario, self.keys)
        self._taste = self.traits.lasting + self._moving
        self._recent = np.zeros((n, m))  # S, at the time _when
        self._aware = np.zeros((n, m))  # A, at the time _when
        self._sated = np.zeros(n)  # at the time _when
        self._when = np.zeros(n)  # days
        self._last_visit = self.traits.last_visit.copy()
        self._most = _count_tables(scenario)
        self.day, self.slot = 0, 0
        self._turn: Integers
        self._begin_day()
        self._settle()

    @property
    def done(self) -> bool:
        """Whether all days have passed."""
        return self.day >= self.days

    def observe(self) -> Context:
        """What may be known of the users in turn, (A,) each; new arrays at each step, the caller's to keep.

        row (index into `users`), user, time (ms), day, slot; the step's features hour, placement,
        days_since_last_visit; the user's features by name; exposures and clicks so far, (A, M).
        """
        turn = self._turn
        context: Context = {
            "row": turn,
            "user": self.users[turn],
            "time": self._time,
            "day": np.full(len(turn), self.day),
            "slot": np.full(len(turn), self.slot),
            "hour": np.floor(self._hour),
            "placement": self._placement,
            "days_since_last_visit": self._gap[turn],
            "exposures": self.shown[turn],
            "clicks": self.clicked[turn],
        }
        return context | {name: values[turn] for name, values in self.traits.features.items()}

    def true_rates(self) -> Rates:
        """The true response of the users in turn to each channel, now. Never a feature of a log."""
        turn, t, ads = self._turn, self.tables, self.scenario.ads
        logit = self.response.click_logit[turn] + self._shift[:, None]
        taste = ads.taste_weight * self._taste[turn]
        click = np.zeros_like(logit)
        for k in range(taste.shape[1]):
            click += t.topics[:, k] * expit(logit + taste[:, k, None])
        click /= 1 + self._recent[turn] / self.response.capacity[turn]
        bought = self._purchase(turn, t.conversion_rate * (1 + _share(self._aware[turn]) @ t.lifts))
        conversion = (click + ads.view_through * (1 - click)) * bought
        revenue = conversion * t.value * self.response.spend[turn, None]
        return Rates(click, conversion, revenue, t.cost_per_exposure + t.cost_per_click * click)

    def latent(self) -> Latent:
        """The true state of the users in turn. Never a feature of a log."""
        turn, r = self._turn, self.response
        return Latent(
            self._recent[turn], self._aware[turn], self._sated[turn], r.capacity[turn], r.readiness[turn], r.spend[turn]
        )

    def fresh_click(self, topic: Integers) -> Floats:
        """The true click probability of an advert on `topic` (A, M) if the user had seen none of the channel lately."""
        logit = self.response.click_logit[self._turn] + self._shift[:, None]
        taste = np.take_along_axis(self._taste[self._turn], topic, axis=1)
        return np.asarray(expit(logit + self.scenario.ads.taste_weight * taste))

    def step(self, channel: ArrayLike, mask: ArrayLike | None = None) -> Outcomes:
        """Show each user in turn an advert of `channel` (A,), -1 for none; where `mask` (A,) is false there is none.

        Returns what came of it, and moves the world to the next opportunities. Raises ValueError for other channels.
        """
        if self.done:
            raise ValueError("the world's days have passed; make a new one")
        chosen = np.broadcast_to(np.asarray(channel, dtype=np.int64), self._turn.shape)
        if mask is not None:
            chosen = np.where(mask, chosen, NO_AD)
        m = len(self.scenario.ads.channels)
        if len(chosen) and not (chosen.min() >= NO_AD and chosen.max() < m):
            raise ValueError(f"channels must lie in -1..{m - 1}, got {chosen.min()}..{chosen.max()}")
        outcomes = self._expose(chosen)
        self._next_turn()
        return outcomes

    def _expose(self, chosen: Integers) -> Outcomes:
        ads, t, keys = self.scenario.ads, self.tables, self.keys
        a = len(chosen)
        everybody = bool((chosen >= 0).all())
        at = slice(None) if everybody else np.flatnonzero(chosen >= 0)
        rows, channel, m = self._turn[at], chosen[at], self.shown.shape[1]
        keys, cell = keys[rows], rows * m + channel

        def luck(purpose: Purpose) -> Floats:
            return draws.uniform(keys, self.day, self.slot, purpose)

        topic = draws.categorical(luck(Purpose.CREATIVE), t.topics_cumulative[channel])
        taste = self._taste[rows, topic]
        p = expit(self.response.click_logit.ravel()[cell] + self._shift[at] + ads.taste_weight * taste)
        p /= 1 + self._recent.ravel()[cell] / self.response.capacity.ravel()[cell]
        click = luck(Purpose.CLICK) < p

        lift = np.einsum("am,am->a", _share(self._aware[rows]), t.lifts.T[channel])
        bought = self._purchase(rows, t.conversion_rate[channel] * (1 + lift))
        conversion = luck(Purpose.CONVERSION) < bought * np.where(click, 1.0, ads.view_through)
        window = ads.conversion_window_days * DAY_MS
        reported = self._time[at] + window
        revenue = np.zeros(len(rows))
        who = np.flatnonzero(conversion)
        if len(who):
            mean = ads.conversion_delay_hours * HOUR_MS
            u = draws.uniform(keys[who], self.day, self.slot, Purpose.DELAY)
            delay = -mean * np.log1p(u * np.expm1(-window / mean))
            reported[who] = self._time[at][who] + np.clip(np.ceil(delay), 1, window)
            revenue[who] = self._worth(rows[who], t.value[channel[who]], self.slot, Purpose.VALUE)
            self._sated[rows[who]] += self.scenario.users.sated_by_purchase
        paid = t.cost_per_exposure[channel]
        if t.cost_spread.any():
            z = draws.normal(keys, self.day, self.slot, Purpose.COST)
            paid = paid * np.exp(t.cost_spread[channel] * (z - t.cost_spread[channel] / 2))
        cost = paid + t.cost_per_click[channel] * click

        self._recent.ravel()[cell] += 1
        self._aware.ravel()[cell] += 1 + ads.click_carry_over * click
        self.shown.ravel()[cell] += 1
        self.clicked.ravel()[cell] += click
        for name, values in zip(TOTALS, (1.0, click, conversion, revenue, cost), strict=False):
            self.totals[name][rows] += values
        if everybody:
            return Outcomes(chosen, topic, click, conversion, reported, revenue, cost)
        return Outcomes(
            chosen,
            _spread(a, at, topic, -1),
            _spread(a, at, click, False),
            _spread(a, at, conversion, False),
            _spread(a, at, reported, np.nan),
            _spread(a, at, revenue, 0.0),
            _spread(a, at, cost, 0.0),
        )

    def _purchase(self, rows: Integers, rate: Floats) -> Floats:
        """The probability of a purchase at a hazard rate (A,) or (A, M) of the average user."""
        factor = self.response.readiness[rows] * np.exp(-self._sated[rows])
        return -np.expm1(-rate * (factor if rate.ndim == 1 else factor[:, None]))

    def _worth(self, rows: Integers, mean: Floats, slot: int, purpose: Purpose) -> Floats:
        spread = self.scenario.ads.value_spread
        noise = np.exp(spread * draws.normal(self.keys[rows], self.day, slot, purpose) - spread**2 / 2)
        return np.round(np.asarray(mean) * self.response.spend[rows] * noise, 2)

    def _next_turn(self) -> None:
        """Move to the day's next opportunities, or to the next day's first."""
        self.slot += 1
        self._turn = self._turn[self._count[self._turn] > self.slot]
        self._settle()

    def _settle(self) -> None:
        """Pass midnights until somebody is in turn, then draw when and where the opportunities are."""
        while len(self._turn) == 0 and not self.done:
            self._midnight()
            self.day += 1
            if not self.done:
                self._begin_day()
        if self.done:
            return
        turn, keys = self._turn, self.keys[self._turn]
        place = (self.slot + draws.uniform(keys, self.day, self.slot, Purpose.HOUR)) / self._count[turn]
        self._hour = np.interp(place, self.tables.hours, np.arange(25.0))
        self._time = np.floor(self.scenario.start_ms + self.day * DAY_MS + self._hour * HOUR_MS)
        self._placement = draws.categorical(
            draws.uniform(keys, self.day, self.slot, Purpose.PLACEMENT), self.tables.placements
        )
        self._shift = self.tables.placement_shift[self._placement] + evening(self.scenario, self._hour)
        self._wear_off(turn, self.day + self._hour / 24)

    def _begin_day(self) -> None:
        """Who comes today, how often, and with which tastes."""
        users = self.scenario.users
        rate = np.array([a.visit_rate for a in users.activity])[self.traits.activity]
        comes = draws.uniform(self.keys, self.day, 0, Purpose.VISIT) < rate
        often = draws.categorical(
            draws.uniform(self.keys, self.day, 0, Purpose.EXPOSURES), self._most[self.traits.activity]
        )
        self._count = np.where(comes, 1 + often, 0)
        self._gap = np.where(comes, self.day - self._last_visit, 0)
        rows = np.flatnonzero(comes)
        moving = drift(self.scenario, self.keys[rows], self._moving[rows], self.day, self._gap[rows])
        self._moving[rows] = moving
        self._taste[rows] = self.traits.lasting[rows] + moving
        self._last_visit[rows] = self.day
        self.slot = 0
        self._turn = rows

    def _midnight(self) -> None:
        """Purchases of the day without an advert in front of them."""
        ads = self.scenario.ads
        everyone = np.arange(len(self.users))
        self._wear_off(everyone, np.full(len(everyone), self.day + 1.0))
        rate = ads.organic_rate * (1 + _share(self._aware) @ self.tables.organic_lift)
        bought = draws.uniform(self.keys, self.day, 0, Purpose.ORGANIC) < self._purchase(everyone, rate)
        rows = np.flatnonzero(bought)
        self.totals["organic_conversions"][rows] += 1
        worth = self._worth(rows, np.full(len(rows), ads.organic_value), 0, Purpose.ORGANIC_VALUE)
        self.totals["organic_revenue"][rows] += worth
        self._sated[rows] += self.scenario.users.sated_by_purchase

    def _wear_off(self, rows: Integers, now_days: Floats) -> None:
        """Let saturation, awareness and satedness of `rows` decay until `now_days` (A,)."""
        ads = self.scenario.ads
        gone = now_days - self._when[rows]
        self._recent[rows] *= np.exp2(-gone / ads.saturation_half_life_days)[:, None]
        self._aware[rows] *= np.exp2(-gone / ads.carry_over_half_life_days)[:, None]
        self._sated[rows] *= np.exp2(-gone / self.scenario.users.sated_half_life_days)
        self._when[rows] = now_days


def _share(aware: Floats) -> Floats:
    """Awareness as a share of what can be had: concave, below 1."""
    return aware / (1 + aware)


def _count_tables(scenario: Scenario) -> Floats:
    """Cumulative distribution of the exposures beyond a visit's first, by activity class: a cut Poisson."""
    beyond = np.arange(scenario.ads.most_exposures_per_day)
    mean = np.array([activity.exposures - 1 for activity in scenario.users.activity])[:, None]
    factorial = np.cumprod(np.maximum(beyond, 1), dtype=np.float64)
    return draws.cumulative(mean**beyond / factorial)


def _spread(size: int, at: Any, values: NDArray[Any], otherwise: float) -> NDArray[Any]:
    """`values` at the places `at` of `size`, something else elsewhere."""
    whole = np.full(size, otherwise, dtype=values.dtype)
    whole[at] = values
    return whole
