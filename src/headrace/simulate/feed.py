"""FeedWorld: the feed task for N users at once, one request of every user in turn at a step.

    world = FeedWorld(Scenario.load("feed"), users=1000, seed=0)
    while not world.done:
        requests = world.observe()                 # the A users whose turn it is, C candidates each
        outcomes = world.step(action)              # fusion weights (A, 12), or scores (A, C): the best k are shown

A day's first sessions of all users pass side by side, request by request, then the second ones, then the next day
begins; a user's own time only moves on. Somebody who comes looks at the shown items in order until they leave; a
session is cut where it grows too long or the clock's last day ends. The equations stand in feed_response.py; everything
random is a draw of (seed, user, day, request, purpose), a request's number within the day being
session * most_requests + request.

N users of the world, A of them in turn at a step, C candidates, k of them shown, K topics. Times in ms since 1970.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from headrace.errors import UserError
from headrace.journeys.seams import Predictor
from headrace.simulate import draws
from headrace.simulate.draws import Floats, Purpose
from headrace.simulate.feed_looking import look
from headrace.simulate.feed_requests import OUTCOMES, Bools, FeedOutcomes, Integers, Requests, Truth
from headrace.simulate.feed_response import evening, feed_tables, fickle_factor, mean_play, sessions_beyond, trap_factor
from headrace.simulate.feed_scenario import BEHAVIOURS
from headrace.simulate.feed_users import draw_feed_traits
from headrace.simulate.items import Floats32, draw_items
from headrace.simulate.predictors import Handed, NoisyPredictor, Sight
from headrace.simulate.scenario import Scenario
from headrace.simulate.users import draw_traits, drift, first_moving

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CHUNK = 256  # users whose candidates are worked on at once: what the processor's second cache holds

TOTALS = ("days", "sessions", "requests", "dwell_s", "returns", *(name for name in OUTCOMES if name != "play_s"))


class FeedWorld:
    """N users, their latent state, and the clock. `totals` adds up per user what happened."""

    def __init__(
        self,
        scenario: Scenario,
        users: int | ArrayLike,
        seed: int,
        days: int | None = None,
        predictor: Predictor | None = None,
    ):
        """`users`: how many (numbered from 0), or their numbers (N,); a number's users are the same in any company.

        `predictor`: what scores the candidates instead of the scenario's noisy one.
        """
        feed = scenario.feed_task
        self.scenario, self.feed = scenario, feed
        self.users: Integers = np.arange(users) if isinstance(users, int) else np.asarray(users, dtype=np.int64)
        self.days = scenario.days_of(days)
        self.seed = seed
        self.keys = draws.user_keys(seed, self.users)
        self.tables = feed_tables(scenario)
        self.items = draw_items(scenario, seed)
        self.traits = draw_traits(scenario, self.keys)
        self.own = draw_feed_traits(scenario, self.keys, self.traits)
        self.patience = feed.patience_spread * self.own.patience
        self.trap_factor = trap_factor(feed, self.own)
        self.fickle_factor = fickle_factor(feed, self.own)
        n, k = len(self.users), len(scenario.topics)
        self.totals: dict[str, Floats] = {name: np.zeros(n) for name in TOTALS}
        self.mood, self.trust = np.zeros(n), np.zeros(n)
        self.fatigue = np.zeros((k, n))  # F, at the time _fatigue_when
        self._fatigue_when = np.zeros(n)  # days
        self._trust_when = np.zeros(n)  # days
        self._moving = first_moving(scenario, self.keys)
        self.taste = np.ascontiguousarray((self.traits.lasting + self._moving).T)  # (K, N)
        self._last_visit = self.traits.last_visit.copy()
        self._free_from = np.full(n, -np.inf)  # ms: when the break after the last session is over
        self.session_number = np.full(n, -1)  # of the user's sessions so far
        self.returned: list[tuple[Bools, Floats]] = []  # per day over: who came on the next, and when that was known
        self._pairs = _pairs(self.items.topic, self.items.second, k)
        self.topic_weights = np.array([1 - feed.second_topic, feed.second_topic])
        self._shelf = (feed.items - np.arange(feed.candidates) + feed.candidates - 1) // feed.candidates
        self.end_ms = float(scenario.start_ms + self.days * DAY_MS)
        self._own_click = (
            self.tables.click
            + self.tables.click_shift[self.traits.activity]
            + feed.click_spread * self.traits.clickiness
        )
        self.predictor = NoisyPredictor(scenario, self) if predictor is None else Handed(scenario, self, predictor)
        self.day, self.session, self.request = 0, 0, 0
        self._turn: Integers = np.zeros(0, dtype=np.int64)
        self._time: Floats = np.zeros(0)
        self._scored: Floats32 | None = None
        self._offered: NDArray[np.int32] | None = None
        self._begin_day()
        self._settle()

    @property
    def done(self) -> bool:
        """Whether all days have passed."""
        return self.day >= self.days

    @property
    def number(self) -> int:
        """The request's number within the day, the same for all users in turn."""
        return self.session * self.feed.most_requests + self.request

    @property
    def turn(self) -> Integers:
        """(A,) rows of the users in turn."""
        return self._turn

    def observe(self) -> Requests:
        """The users in turn with their candidates; asking again gives the same."""
        turn = self._turn
        context: dict[str, NDArray[Any]] = {
            "row": turn,
            "user": self.users[turn],
            "time": self._time,
            "day": np.full(len(turn), self.day),
            "session_of_day": np.full(len(turn), self.session),
            "request": np.full(len(turn), self.request),
            "hour": np.floor(self._hour),
            "days_since_last_visit": self._gap[turn],
        }
        context |= {name: values[turn] for name, values in self.own.features.items()}
        return Requests(context, self._candidates(), self)

    def sight(self, rows: Integers, items: NDArray[np.int32], insight: float = 1.0) -> Sight:
        """What the equations need of `items` (R, C) before the eyes of `rows` (R,), without fatigue: float32.

        With an insight below 1 patience and sensitivity are only seen to be so far from the average user's.
        """
        feed, own = self.feed, self.items
        direction = self.topic_weights / np.sqrt((self.topic_weights**2).sum())
        affinity = self._by_pair(self.taste, rows, items, direction)
        length = own.length[items]
        quality, bait = own.quality[items], own.clickbait[items]
        click = affinity * np.float32(feed.click_match)
        click += quality * np.float32(feed.click_quality)
        click += bait * np.float32(feed.click_clickbait)
        desire = affinity * np.float32(feed.watch_match)
        desire += quality * np.float32(feed.watch_quality)
        bait *= np.float32(feed.watch_clickbait)
        desire -= bait
        desire += length * (feed.watch_duration + insight * self.patience[rows]).astype(np.float32)[:, None]
        joy = affinity * np.float32(feed.enjoy_match)
        quality *= np.float32(feed.enjoy_quality)
        joy += quality
        spoils = feed.enjoy_trap * (1 + insight * (self.trap_factor[rows] - 1))
        joy -= own.trap[items] * spoils.astype(np.float32)[:, None]
        return Sight(affinity, click, desire, length, joy)

    def click_offset(self) -> Floats:
        """(A,) the click logit of the users in turn that is not the candidate's, without weariness of the session."""
        return np.asarray(self._own_click[self._turn] + evening(self.feed, self._hour))

    def score_planes(self) -> Floats32:
        """(12, A, C) the predictor's scores of the users in turn."""
        if self._scored is None:
            self._scored = self.predictor.planes(self._candidates())
        return self._scored

    def truth(self) -> Truth:
        """The true state between the users in turn and their candidates."""
        feed, turn, items = self.feed, self._turn, self._candidates()
        sight = self.sight(turn, items)
        fatigue = self._by_pair(self.fatigue, turn, items, self.topic_weights).astype(np.float64)
        tired = feed.fatigue_match * fatigue
        later = feed.click_later * np.log1p(self.request)
        click = expit((self.click_offset() + later)[:, None] + sight.click - feed.click_match * tired)
        desire = self.tables.desire + sight.desire - feed.watch_match * tired
        joy = sight.joy - feed.enjoy_match * tired
        duration = self.items.duration_s[items].astype(np.float64)
        played = mean_play(desire, feed.watch_spread, duration)
        return Truth(
            affinity=sight.affinity.astype(np.float64),
            fatigue=fatigue,
            quality=self.items.quality[items].astype(np.float64),
            clickbait=self.items.clickbait[items].astype(np.float64),
            trap=self.items.trap[items].astype(np.float64),
            length=sight.length.astype(np.float64),
            click=click,
            watch_s=click * played + (1 - click) * np.minimum(feed.glance_s, duration),
            enjoyment=joy,
            expected_enjoyment=click * joy - (1 - click) * feed.skip,
        )

    def fuse(self, weights: ArrayLike) -> Floats32:
        """(A, C) the fused scores  sum_k alpha_k log(o_k + beta_k)  under weights (A, 12) or (12,)."""
        planes = self.score_planes()
        alpha = np.broadcast_to(np.asarray(weights, dtype=np.float32), (planes.shape[1], len(BEHAVIOURS)))
        fused = np.zeros(planes.shape[1:], dtype=np.float32)
        for first in range(0, len(fused), CHUNK):
            rows = slice(first, first + CHUNK)
            for k, made in enumerate(self.feed.predictions):
                part = planes[k, rows] + np.float32(made.offset)
                np.log(part, out=part)
                part *= alpha[rows, k, None]
                fused[rows] += part
        return fused

    def step(self, action: ArrayLike) -> FeedOutcomes:
        """Show each user in turn the k best candidates by `action`, and move the world to the next requests.

        `action`: fusion weights (A, 12) or (12,), or scores (A, C). Of equal scores the first candidate goes first.
        Raises UserError for other shapes and for numbers that are not finite.
        """
        if self.done:
            raise ValueError("the world's days have passed; make a new one")
        values = np.asarray(action)
        a, c = len(self._turn), self.feed.candidates
        if values.shape in ((a, len(BEHAVIOURS)), (len(BEHAVIOURS),)):
            _check_finite(values, "weights")
            values = self.fuse(values)
        elif values.shape != (a, c):
            raise UserError(
                f"policy: its action has the shape {values.shape}, expected weights ({a}, {len(BEHAVIOURS)}) "
                f"or scores ({a}, {c}): users in turn x candidates"
            )
        else:
            _check_finite(values, "scores")
        shown = best(values, self.feed.shown)
        items = np.take_along_axis(self._candidates(), shown, axis=1)
        by_item = look(self, items)
        outcomes = self._count(shown, items, by_item)
        self.predictor.record(self.observe(), outcomes)
        self._next_turn(outcomes)
        return outcomes

    def _candidates(self) -> NDArray[np.int32]:
        """(A, C): candidate c is one of the items c, c + C, c + 2C, ..., so that none stands twice in a list."""
        if self._offered is None:
            c = self.feed.candidates
            luck = draws.bits(self.keys[self._turn], self.day, self.number, Purpose.CANDIDATES, c)
            luck >>= np.uint64(40)
            luck *= self._shelf.astype(np.uint64)
            luck >>= np.uint64(24)
            found: NDArray[np.int32] = luck.astype(np.int32)
            found *= np.int32(c)
            found += np.arange(c, dtype=np.int32)
            self._offered = found
        return self._offered

    def _by_pair(self, by_topic: Floats, rows: Integers, items: NDArray[np.int32], weights: Floats) -> Floats32:
        """(R, C) sums over an item's two topics, weighted, of what `by_topic` (K, N) holds for the users."""
        k = len(by_topic)
        of_user = by_topic[:, rows].T
        table = weights[0] * of_user[:, :, None] + weights[1] * of_user[:, None, :]
        flat = table.astype(np.float32).reshape(-1)
        place = self._pairs[items]
        place += (np.arange(len(rows), dtype=np.int64) * (k * k))[:, None]
        return np.asarray(flat[place])

    def _count(self, shown: Integers, items: NDArray[np.int32], by_item: dict[str, NDArray[Any]]) -> FeedOutcomes:
        """Add to the totals, move the users' clocks, and see whose session ends."""
        turn, feed = self._turn, self.feed
        for name in OUTCOMES:
            self.totals["dwell_s" if name == "play_s" else name][turn] += by_item[name].sum(axis=1)
        self.totals["requests"][turn] += 1
        if self.request == 0:
            self.totals["sessions"][turn] += 1
        spent = by_item["play_s"].sum(axis=1) + feed.pause_s * by_item["seen"].sum(axis=1)
        self._next_time = self._time + np.ceil(spent * 1000)
        terminated: Bools = np.asarray(by_item["exit"].any(axis=1))
        longest = self.request + 1 >= feed.most_requests
        cut = np.logical_or(longest, self._next_time >= self.end_ms)
        return FeedOutcomes(shown, items, by_item, terminated, np.logical_and(~terminated, cut))

    def _next_turn(self, outcomes: FeedOutcomes) -> None:
        over = outcomes.terminated | outcomes.truncated
        ended = self._turn[over]
        self._free_from[ended] = self._next_time[over] + self.feed.session_gap_minutes * 60_000
        self._turn, self._time = self._turn[~over], self._next_time[~over]
        self.request += 1
        self._settle()

    def _settle(self) -> None:
        """Pass sessions and midnights until somebody is in turn."""
        self._scored = self._offered = None
        while len(self._turn) == 0 and not self.done:
            self.session, self.request = self.session + 1, 0
            if self.session < self._count_sessions.max(initial=0):
                self._begin_session()
            else:
                self.day += 1
                self._begin_day()
        if self.done:
            return
        self._hour = (self._time - self.scenario.start_ms) % DAY_MS / HOUR_MS
        now = (self._time - self.scenario.start_ms) / DAY_MS
        gone = now - self._fatigue_when[self._turn]
        self.fatigue[:, self._turn] *= np.exp2(-gone * 24 / self.feed.fatigue_half_life_hours)
        self._fatigue_when[self._turn] = now

    def _begin_day(self) -> None:
        """Who comes today, how often, with which tastes; and so who of yesterday's users has come back."""
        feed, day, n = self.feed, self.day, len(self.users)
        gone = day - self._trust_when
        self.trust *= np.exp2(-gone / feed.trust_half_life_days)
        self._trust_when[:] = day
        liking = self.tables.visit[self.traits.activity] + feed.habit_spread * self.own.habit
        liking += feed.return_trust * self.trust + feed.visit_again * (self._last_visit == day - 1)
        comes = draws.uniform(self.keys, day, 0, Purpose.VISIT) < expit(liking)
        size = draws.normal(self.keys, day, 1, Purpose.SESSIONS) if feed.sessions_spread else np.zeros(n)
        beyond = sessions_beyond(feed, self.traits.activity, draws.uniform(self.keys, day, 0, Purpose.SESSIONS), size)
        self._count_sessions = np.where(comes, 1 + beyond, 0)
        first = self._session_start(np.flatnonzero(comes), 0)
        known = np.full(n, self.scenario.start_ms + (day + 1.0) * DAY_MS)
        known[comes] = first - 1  # the app opens before the first request
        if day > 0:
            yesterday = self._last_visit == day - 1
            self.totals["returns"][yesterday & comes] += 1
            self.returned.append((comes, known))
        self.predictor.new_day(comes, known)
        if self.done:
            return
        self._gap = np.where(comes, day - self._last_visit, 0)
        rows = np.flatnonzero(comes)
        moving = drift(self.scenario, self.keys[rows], self._moving[rows], day, self._gap[rows])
        self._moving[rows] = moving
        self.taste[:, rows] = (self.traits.lasting[rows] + moving).T
        self._last_visit[rows] = day
        self.totals["days"][rows] += 1
        self.session, self.request = 0, 0
        self._begin_session()

    def _session_start(self, rows: Integers, session: int) -> Floats:
        """When the session of `rows` begins, ms."""
        luck = draws.uniform(self.keys[rows], self.day, session, Purpose.HOUR)
        place = (session + luck) / self._count_sessions[rows]
        hour = np.interp(place, self.tables.hours, np.arange(25.0))
        wished = np.floor(self.scenario.start_ms + self.day * DAY_MS + hour * HOUR_MS)
        return np.asarray(np.maximum(wished, self._free_from[rows]))

    def _begin_session(self) -> None:
        rows = np.flatnonzero(self._count_sessions > self.session)
        time = self._session_start(rows, self.session)
        within = time < self.end_ms
        self._turn, self._time = rows[within], time[within]
        self.mood[self._turn] = self.trust[self._turn]
        self.session_number[self._turn] += 1


def best(scores: NDArray[Any], k: int) -> Integers:
    """(A, k) the indices of the k largest scores of each row, largest first, equal ones in the row's order.

    >>> best(np.array([[1.0, 3.0, 2.0, 3.0]]), 3).tolist()
    [[1, 3, 2]]
    """
    left = np.array(scores, copy=True)
    rows = np.arange(len(left))
    found = np.empty((len(left), k), dtype=np.int64)
    for position in range(k):
        found[:, position] = np.argmax(left, axis=1)
        left[rows, found[:, position]] = -np.inf
    return found


def _pairs(topic: NDArray[np.int32], second: NDArray[np.int32], k: int) -> NDArray[np.int64]:
    """(I,) the place of an item's two topics in a K x K table."""
    return topic.astype(np.int64) * k + second


def _check_finite(values: NDArray[Any], what: str) -> None:
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise UserError(f"policy: {what} that are not finite numbers; return one for each user in turn")
