"""Predictors of the feed: a noisy, biased one with a set AUC and calibration per behaviour, and any other handed in.

    score_k = sigmoid(c_k + g_k (L_k - mean L_k + s_k eta_k))

L_k is a linear view of the pair's true tendency (user, item, hour), never of the session's state or the luck of what
will happen; of the user's patience and sensitivity it knows as much as predictor_insight says. eta is a standard normal
that is a function of (seed, user, item, behaviour, day), so that asking again gives the same score. s_k is solved so
that over random pairs the score has the set AUC, g_k shrinks a noisy view as a calibrated model would, c_k gives the
set ratio of mean score to mean true rate. The AUC's events are click, finish, long view, the reactions, exit and any
positive reaction, per exposure; of play_time: playing longer than the scenario's mean watch_s. The score of play_time
is expected seconds as a share of longest_s.

A users in turn, C candidates; planes are (12, A, C) in the order of BEHAVIOURS.
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri

from headrace.errors import UserError
from headrace.journeys.memory import Memory
from headrace.journeys.seams import Predictor
from headrace.simulate import draws
from headrace.simulate.draws import Floats, Keys, Purpose
from headrace.simulate.feed_response import Neutral, Sample, feed_tables, mean_play, neutral, neutral_chances, sample
from headrace.simulate.feed_scenario import BEHAVIOURS, Feed
from headrace.simulate.items import Floats32
from headrace.simulate.scenario import Scenario

if TYPE_CHECKING:
    from headrace.simulate.feed import FeedWorld
    from headrace.simulate.feed_requests import FeedOutcomes, Requests

_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Sight:
    """What of a pair of user and candidate moves behaviour, fatigue apart: (A, C) float32 each."""

    affinity: Floats32
    click: Floats32  # logit, without what is the user's own
    desire: Floats32  # log seconds, without the intercept
    length: Floats32  # standardised log duration
    joy: Floats32  # enjoyment


class FeedPredictor(Protocol):
    """What a world asks: scores now, and telling what happened."""

    def planes(self, items: NDArray[np.int32]) -> Floats32: ...

    def record(self, requests: "Requests", outcomes: "FeedOutcomes") -> None: ...

    def new_day(self, comes: NDArray[np.bool_], at: Floats) -> None: ...


@dataclass(frozen=True, slots=True)
class Fitted:
    """The twelve predictors: L = click l_c + desire l_d + length z + joy j + social s + leave x; (12,) each."""

    parts: Floats  # (12, 6)
    mean: Floats
    noise: Floats  # s_k
    slope: Floats  # g_k
    intercept: Floats  # c_k


class NoisyPredictor:
    """The scenario's predictor, bound to a world."""

    def __init__(self, scenario: Scenario, world: "FeedWorld"):
        self.world, self.fitted = world, fitted(scenario)
        self._quantiles = _quantiles()

    def planes(self, items: NDArray[np.int32]) -> Floats32:
        """The scores of the users in turn for `items` (A, C)."""
        world, f = self.world, self.fitted
        turn = world.turn
        own = np.stack(
            [
                world.click_offset(),
                world.feed.social_spread * world.own.social[turn],
                world.tables.leave_shift[world.traits.activity[turn]],
            ]
        )
        offset = _weighted(f.parts[:, [0, 4, 5]], own)
        offset = (f.slope[:, None] * (offset - f.mean[:, None]) + f.intercept[:, None]).astype(np.float32)
        weights = (f.slope[:, None] * f.parts[:, :4]).astype(np.float32)
        noise = (f.slope * f.noise).astype(np.float32)
        keys = draws.bits(world.keys[turn], world.day, 0, Purpose.PREDICTION)
        out = np.empty((len(BEHAVIOURS), *items.shape), dtype=np.float32)
        for first in range(0, len(turn), _CHUNK):
            rows = slice(first, first + _CHUNK)
            sight = world.sight(turn[rows], items[rows], world.feed.predictor_insight)
            luck = self._luck(keys[rows], items[rows])
            views = (sight.click, sight.desire, sight.length, sight.joy)
            part = np.empty_like(sight.click)
            for k in range(len(BEHAVIOURS)):
                plane = self._quantiles[luck[k // 4][..., k % 4]]
                plane *= noise[k]
                for weight, view in zip(weights[k], views, strict=True):
                    if weight:
                        np.multiply(view, weight, out=part)
                        plane += part
                plane += offset[k, rows, None]
                np.negative(plane, out=plane)
                np.exp(plane, out=plane)
                plane += np.float32(1)
                np.reciprocal(plane, out=out[k, rows])
        return out

    def _luck(self, keys: Keys, items: NDArray[np.int32]) -> list[NDArray[np.uint16]]:
        """Three arrays (R, C, 4) of 16 random bits, a function of (seed, user, day) in `keys`, and the item."""
        pair = keys[:, None] ^ self.world.items.keys[items]
        return [draws.rehash(pair, word).view(np.uint16).reshape(*items.shape, 4) for word in range(3)]

    def record(self, requests: "Requests", outcomes: "FeedOutcomes") -> None:
        """Nothing is learnt."""

    def new_day(self, comes: NDArray[np.bool_], at: Floats) -> None:
        """Nothing is learnt."""


class Handed:
    """Any `Predictor`, given the users' histories from a Memory and the candidates' visible columns."""

    def __init__(self, scenario: Scenario, world: "FeedWorld", predictor: Predictor):
        from headrace.simulate.feed_schema import categories, schema  # the schema names what a log shows of this world

        wrong = [name for name in BEHAVIOURS if name not in predictor.behaviours]
        if wrong:
            raise UserError(
                f"predictor: no {', '.join(wrong)} among its behaviours {', '.join(predictor.behaviours)}; "
                f"the feed needs {', '.join(BEHAVIOURS)}"
            )
        self.world, self.predictor = world, predictor
        self._order = [predictor.behaviours.index(name) for name in BEHAVIOURS]
        named = {name.split("/", 1)[1]: values for name, values in categories(scenario).items()}
        self.memory = Memory(schema(scenario), len(world.users), user_features=world.own.features, categories=named)
        self._day: list[tuple[NDArray[np.int64], Floats]] = []  # (rows, times) of the day's requests

    def planes(self, items: NDArray[np.int32]) -> Floats32:
        """The predictor's scores, reordered; raises UserError where they are not (A, C, 12) numbers in [0, 1]."""
        from headrace.simulate.feed_schema import item_columns

        requests = self.world.observe()
        histories = self.memory.histories(self.world.turn, requests.context)
        scores = np.asarray(self.predictor.predict(histories, item_columns(self.world.items, items)))
        expected = (*items.shape, len(self.predictor.behaviours))
        if scores.shape != expected:
            raise UserError(f"predictor: scores of the shape {scores.shape}, expected {expected}: users x items x K")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise UserError("predictor: scores outside [0, 1] or not numbers; expected probabilities and shares")
        return np.ascontiguousarray(np.moveaxis(scores[..., self._order], 2, 0), dtype=np.float32)

    def record(self, requests: "Requests", outcomes: "FeedOutcomes") -> None:
        """Append the step to the histories."""
        from headrace.simulate.feed_schema import step_columns

        steps = step_columns(self.world, requests.context, outcomes)
        steps["returned"] = np.full(len(requests), np.nan)
        self.memory.append(requests.context["row"], steps)
        self._day.append((requests.context["row"], requests.context["time"]))

    def new_day(self, comes: NDArray[np.bool_], at: Floats) -> None:
        """Tell the histories who of yesterday's users came back, and when that was known."""
        for rows, time in self._day:
            self.memory.outcomes(rows, "returned", comes[rows].astype(float), at[rows], time, np.zeros(len(rows), int))
        self._day = []


def fitted(scenario: Scenario) -> Fitted:
    """The scenario's predictors; raises UserError for an AUC above what the pair's tendency can give."""
    return _fitted(neutral(scenario))


def attainable(scenario: Scenario) -> Floats:
    """(12,) the AUC that each behaviour's predictor would have without noise."""
    _, latent, events, _ = _views(neutral(scenario))
    return np.array([expected_auc(view, event) for view, event in zip(latent, events, strict=True)])


@lru_cache(maxsize=32)
def _views(scenario: Scenario) -> tuple[Floats, Floats, Floats, Floats]:
    """(12, 6) parts, (12, N) L of the sample's pairs, (12, N) chances of the events, (12,) means to be predicted."""
    feed = scenario.feed_task
    s, tables = sample(scenario), feed_tables(scenario)
    chances = neutral_chances(scenario, s, tables)
    insight = feed.predictor_insight
    dimmed = dataclasses.replace(s, patience=insight * s.patience, trap_factor=1 + insight * (s.trap_factor - 1))
    believed = neutral_chances(scenario, dimmed, tables)
    parts = _parts(feed)
    own = (feed.social_spread * s.social, tables.leave_shift[s.activity])
    views = np.stack([chances.click_logit, believed.desire - tables.desire, s.length, believed.enjoyment, *own])
    return parts, _weighted(parts, views), *_events(feed, s, chances)


@lru_cache(maxsize=32)
def _fitted(scenario: Scenario) -> Fitted:
    feed = scenario.feed_task
    parts, latent, events, means = _views(scenario)
    eta = draws.normal(draws.user_keys(1, np.arange(latent.shape[1])), 0, 0, Purpose.PREDICTION, len(BEHAVIOURS))
    mean, noise, slope, intercept = (np.empty(len(BEHAVIOURS)) for _ in range(4))
    for k, made in enumerate(feed.predictions):
        view, luck = latent[k] - latent[k].mean(), eta[:, k]
        spread = float(view.std())
        most = expected_auc(view, events[k])
        if made.auc > most:
            raise UserError(
                f"scenario: feed.predictions {made.name} auc is {made.auc:g}, but who sees all that is true of a pair "
                f"reaches {most:.3f}; set a lower one"
            )
        low, high = 0.0, 40.0
        for _ in range(18):
            middle = (low + high) / 2
            above = expected_auc(view + middle * spread * luck, events[k]) > made.auc
            low, high = (middle, high) if above else (low, middle)
        noise[k] = high * spread
        slope[k] = 1 / (1 + high**2)
        mean[k] = latent[k].mean()
        seen = slope[k] * (view + noise[k] * luck)
        target = min(made.calibration * means[k], 0.999)
        intercept[k] = _intercept(seen, target)
    return Fitted(parts, mean, noise, slope, intercept)


def expected_auc(score: Floats, chance: Floats) -> float:
    """The AUC of a score where outcome i is 1 with probability `chance`: no luck of outcomes in it.

    >>> expected_auc(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    1.0
    """
    order = np.argsort(score, kind="stable")
    p = chance[order]
    below = np.cumsum(1 - p) - (1 - p)
    return float((p @ (below + 0.5 * (1 - p))) / (p.sum() * (1 - p).sum()))


def _parts(feed: Feed) -> Floats:
    """(12, 6) how the click logit, log desire, length, enjoyment, sociability and class move each behaviour's L."""
    seldom = 1 - feed.click_rate  # what a click logit moves in the log of a click's probability
    steep = 1.7 / feed.watch_spread  # a logit in a normal's distribution
    rows = {
        "click": (1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        "play_time": (seldom, 1.0, 0.0, 0.0, 0.0, 0.0),
        "finish_rate": (seldom, steep, -steep * feed.duration_spread, 0.0, 0.0, 0.0),
        "long_view": (seldom, steep, 0.0, 0.0, 0.0, 0.0),
        "exit": (0.0, 0.0, 0.0, -feed.leave_enjoyment - feed.leave_mood * feed.mood_rate, 0.0, 1.0),
    }
    for reaction in feed.reactions:
        watched = 0.15 * reaction.watched  # share of the item watched, per unit of log desire less log duration
        clicked = 0.0 if reaction.name == "hate" else seldom
        rows[reaction.name] = (
            clicked, watched, -watched * feed.duration_spread, reaction.enjoyment, 1.0, 0.0,
        )  # fmt: skip
    by_rate = np.array([r.rate for r in feed.reactions if r.name != "hate"])
    positive = np.array([rows[r.name] for r in feed.reactions if r.name != "hate"])
    rows["positive"] = tuple(by_rate @ positive / by_rate.sum())
    return np.array([rows[name] for name in BEHAVIOURS])


def _events(feed: Feed, s: Sample, chances: Neutral) -> tuple[Floats, Floats]:
    """(12, N) probability of each behaviour's event per exposure, and (12,) the mean that its score predicts."""

    def longer(seconds: Floats) -> Floats:
        return np.asarray(chances.click * ndtr((chances.desire - np.log(seconds)) / feed.watch_spread))

    some = 1 - np.prod([1 - p for name, p in chances.reactions.items() if name != "hate"], axis=0)
    events = {
        "click": chances.click,
        "play_time": np.where(s.duration_s >= feed.watch_s, longer(np.full(len(s.length), feed.watch_s)), 0.0),
        "finish_rate": longer(s.duration_s),
        "long_view": longer(np.minimum(s.duration_s, feed.long_view_s)),
        "exit": chances.leave,
        "positive": some,
        **chances.reactions,
    }
    played = chances.click * mean_play(chances.desire, feed.watch_spread, s.duration_s)
    played += (1 - chances.click) * np.minimum(feed.glance_s, s.duration_s)
    means = {name: float(values.mean()) for name, values in events.items()}
    means["play_time"] = float(played.mean()) / feed.longest_s
    return np.stack([events[name] for name in BEHAVIOURS]), np.array([means[name] for name in BEHAVIOURS])


def _intercept(seen: Floats, target: float) -> float:
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(seen + middle).mean() < target else (low, middle)
    return high


def _weighted(parts: Floats, views: Floats) -> Floats:
    """parts @ views in an order of addition that doesn't depend on how many columns there are."""
    out = np.zeros((len(parts), views.shape[1]))
    for part, view in zip(parts.T, views, strict=True):
        out += part[:, None] * view
    return out


@lru_cache(maxsize=1)
def _quantiles() -> Floats32:
    """The standard normal's quantiles in the middles of 2^16 equal stretches."""
    table: Any = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)
    table.setflags(write=False)
    return np.asarray(table)
