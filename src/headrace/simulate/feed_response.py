"""How people respond to a feed: the tables that a scenario's numbers become, and the equations over them.

    affinity   a = taste_u . direction_i          fatigue  f = F_u . share_i          match  m = a - w_f f
    p_click      = sigmoid(c_0 + class + s g_u + evening + w_r log(1 + request) + w_m m + w_q q + w_b b)
    desire       = exp(d_0 + d_m m + d_q q - d_b b + (d_z + p_u) z + s_w e),   e standard normal
    play         = click ? min(desire, duration) : min(glance, duration);   finish = click and desire >= duration
    long view    = play >= min(duration, long_view_s)
    enjoyment j  = click ? e_m m + e_q q - t_u e_t trap : -skip
    p_reaction   = sigmoid(r_0 + s_s social_u + r_j j + r_w play / duration) where clicked (hate: always),
                   follow with a shift after a profile visit
    p_leave      = sigmoid(l_0 + class - h_u (l_m mood + l_j j) + l_f f), after each item
    mood' = mood + rate (j - mood), trust' likewise but slowly, F' = F + gain share_i
    p_visit      = sigmoid(v_class + s_h habit_u + v_t trust + v_a came yesterday), once a day

q quality, b clickbait, trap = max(0, b - q), z standardised log duration, p_u patience, t_u sensitivity and h_u
fickleness in (0, 2) with mean 1. A session begins with mood = trust; F and trust wear off with half-lives. The
intercepts c_0, d_0, r_0, l_0 are solved so that a random item shown to a random user in a neutral state (F = mood =
trust = 0 before it, first request) has the scenario's rates, and v_class so that the mean over users is the class's
visit_rate where v_a = 0.

N users or pairs of user and item, K topics, A activity classes.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from headrace.errors import UserError
from headrace.simulate import draws
from headrace.simulate.draws import Floats, Purpose
from headrace.simulate.feed_scenario import REACTIONS, Feed
from headrace.simulate.feed_users import FeedTraits, draw_feed_traits
from headrace.simulate.items import draw_items
from headrace.simulate.scenario import NO_ADS, Scenario
from headrace.simulate.users import Traits, draw_traits, first_moving

Chance = Callable[[float, Floats | None], Floats]  # of an intercept and, for a follow, the profile visit's chance

SAMPLE_SEED = 7_030_107  # of the users and items over which intercepts are solved
SAMPLE_USERS, SAMPLE_ITEMS = 8192, 2


@dataclass(frozen=True, slots=True)
class FeedTables:
    """A scenario's feed as arrays."""

    visit: Floats  # (A,) logit
    hours: Floats  # (25,) cumulative from 0
    click_shift: Floats  # (A,) logit
    leave_shift: Floats  # (A,) logit
    click: float  # c_0
    desire: float  # d_0
    reactions: Floats  # (6,) r_0, in the order of REACTIONS
    leave: float  # l_0


@dataclass(frozen=True, slots=True)
class Sample:
    """Random users and items in a neutral state, and what would happen between them: (N,) each."""

    activity: NDArray[np.int64]
    clickiness: Floats
    patience: Floats
    trap_factor: Floats
    fickle_factor: Floats
    social: Floats
    evening: Floats
    affinity: Floats
    quality: Floats
    clickbait: Floats
    trap: Floats
    length: Floats
    duration_s: Floats
    watch: Floats  # standard normal: the luck of the watching


def feed_tables(scenario: Scenario) -> FeedTables:
    """The arrays of a scenario's feed."""
    return _tables(neutral(scenario))


def neutral(scenario: Scenario) -> Scenario:
    """The scenario with nothing but what the feed rests on, so that it can key a cache."""
    return dataclasses.replace(scenario, name="feed", days=1, start="2024-01-01", ads=NO_ADS)


def evening(feed: Feed, hour: Floats) -> Floats:
    """The click logit's shift at an hour of the day."""
    return np.asarray(feed.click_evening * np.cos((hour - feed.evening_hour) * (np.pi / 12)))


def trap_factor(feed: Feed, traits: FeedTraits) -> Floats:
    """t_u: how much a trap spoils, (N,), between 0 and 2 with mean 1."""
    return np.asarray(2 * expit(feed.trap_spread * traits.sensitive))


def fickle_factor(feed: Feed, traits: FeedTraits) -> Floats:
    """h_u: how much mood and enjoyment decide whether somebody leaves, (N,), between 0 and 2 with mean 1."""
    return np.asarray(2 * expit(feed.fickle_spread * traits.fickle))


def mean_play(desire: Floats, spread: float, duration_s: Floats) -> Floats:
    """The expected min(exp(desire + spread e), duration) over standard normal e."""
    edge = (np.log(duration_s) - desire) / spread
    below = np.exp(desire + spread**2 / 2) * ndtr(edge - spread)
    return np.asarray(below + duration_s * ndtr(-edge))


@lru_cache(maxsize=32)
def sample(scenario: Scenario) -> Sample:
    """The users and items over which intercepts and predictors are fitted; the argument comes from `neutral`."""
    feed = scenario.feed_task
    keys = draws.user_keys(SAMPLE_SEED, np.arange(SAMPLE_USERS))
    traits: Traits = draw_traits(scenario, keys)
    own = draw_feed_traits(scenario, keys, traits)
    items = draw_items(scenario, SAMPLE_SEED)
    of = np.repeat(np.arange(SAMPLE_USERS), SAMPLE_ITEMS)
    luck = draws.uniform(keys, 0, 0, Purpose.CANDIDATES, SAMPLE_ITEMS)
    item = (luck * feed.items).astype(np.int64).ravel()
    taste = traits.lasting + first_moving(scenario, keys)
    hours = np.concatenate([[0.0], draws.cumulative(scenario.hours)])
    hour = np.interp(draws.uniform(keys, 0, 0, Purpose.HOUR, SAMPLE_ITEMS).ravel(), hours, np.arange(25.0))
    return Sample(
        activity=traits.activity[of],
        clickiness=traits.clickiness[of],
        patience=feed.patience_spread * own.patience[of],
        trap_factor=trap_factor(feed, own)[of],
        fickle_factor=fickle_factor(feed, own)[of],
        social=own.social[of],
        evening=evening(feed, hour),
        affinity=np.einsum("nk,kn->n", taste[of], items.direction[:, item].astype(np.float64)),
        quality=items.quality[item].astype(np.float64),
        clickbait=items.clickbait[item].astype(np.float64),
        trap=items.trap[item].astype(np.float64),
        length=items.length[item].astype(np.float64),
        duration_s=items.duration_s[item].astype(np.float64),
        watch=draws.normal(keys, 0, 0, Purpose.WATCH, SAMPLE_ITEMS).ravel(),
    )


@dataclass(frozen=True, slots=True)
class Neutral:
    """The true chances of a sample's pairs, (N,) each."""

    click_logit: Floats
    click: Floats
    desire: Floats  # mean of the log, seconds
    play: Floats  # realised seconds, were it clicked
    enjoyment: Floats  # were it clicked
    reactions: dict[str, Floats]  # probability per exposure
    leave: Floats


def neutral_chances(scenario: Scenario, s: Sample, tables: FeedTables) -> Neutral:
    """What would happen between a sample's users and items, first request, neutral state."""
    feed = scenario.feed_task
    click_logit = tables.click + _click(feed, s, tables)
    click = expit(click_logit)
    desire = tables.desire + _desire(feed, s)
    play = np.minimum(np.exp(desire + feed.watch_spread * s.watch), s.duration_s)
    joy = _enjoyment(feed, s)
    reactions: dict[str, Floats] = {}
    for name, intercept in zip(REACTIONS, tables.reactions, strict=True):
        reactions[name] = _reaction(feed, s, name, click, joy, play)(intercept, reactions.get("profile_visit"))
    return Neutral(click_logit, click, desire, play, joy, reactions, _leave(feed, s, tables, click, joy)(tables.leave))


@lru_cache(maxsize=32)
def _tables(scenario: Scenario) -> FeedTables:
    feed, s = scenario.feed_task, sample(scenario)
    found = FeedTables(
        visit=np.array([_mean_logit(a.visit_rate, feed.habit_spread) for a in scenario.users.activity]),
        hours=np.concatenate([[0.0], draws.cumulative(scenario.hours)]),
        click_shift=np.array([a.click_shift for a in feed.activity]),
        leave_shift=np.array([a.leave_shift for a in feed.activity]),
        click=0.0,
        desire=0.0,
        reactions=np.zeros(len(REACTIONS)),
        leave=0.0,
    )
    shift = _click(feed, s, found)
    intercept = _solve(lambda c: expit(c + shift).mean() - feed.click_rate, "feed.click_rate")
    click = expit(intercept + shift)
    longing = _desire(feed, s)

    def played(d: float) -> float:
        return float(click @ mean_play(longing + d, feed.watch_spread, s.duration_s) / click.sum()) - feed.watch_s

    most = float(click @ s.duration_s / click.sum())
    desire = _solve(played, "feed.watch_s") if feed.watch_s < most else np.inf
    if not np.isfinite(desire):
        raise UserError(
            f"scenario: feed.watch_s is {feed.watch_s:g}, but the clicked items last {most:.3g} s on the mean; "
            "set a lower one, or longer items"
        )
    play = np.minimum(np.exp(longing + desire + feed.watch_spread * s.watch), s.duration_s)
    joy = _enjoyment(feed, s)
    reactions: list[float] = []
    visited: Floats | None = None
    for reaction in feed.reactions:
        chance = _reaction(feed, s, reaction.name, click, joy, play)
        given = visited if reaction.name == "follow" else None
        at = _solve(partial(_missed, chance, given, reaction.rate), f"feed.reactions {reaction.name} rate")
        reactions.append(at)
        if reaction.name == "profile_visit":
            visited = chance(at, None)
    chance_of_leaving = _leave(feed, s, found, click, joy)
    return dataclasses.replace(
        found,
        click=intercept,
        desire=desire,
        reactions=np.array(reactions),
        leave=_solve(lambda x: float(chance_of_leaving(x).mean()) - feed.leave_rate, "feed.leave_rate"),
    )


def _click(feed: Feed, s: Sample, tables: FeedTables) -> Floats:
    own = tables.click_shift[s.activity] + feed.click_spread * s.clickiness + s.evening
    of_item = feed.click_match * s.affinity + feed.click_quality * s.quality + feed.click_clickbait * s.clickbait
    return np.asarray(own + of_item)


def _desire(feed: Feed, s: Sample) -> Floats:
    of_item = feed.watch_match * s.affinity + feed.watch_quality * s.quality - feed.watch_clickbait * s.clickbait
    return np.asarray(of_item + (feed.watch_duration + s.patience) * s.length)


def _enjoyment(feed: Feed, s: Sample) -> Floats:
    liked = feed.enjoy_match * s.affinity + feed.enjoy_quality * s.quality
    return np.asarray(liked - s.trap_factor * feed.enjoy_trap * s.trap)


def _reaction(feed: Feed, s: Sample, name: str, click: Floats, joy: Floats, play: Floats) -> Chance:
    """The chance per exposure as a function of the intercept (and, for a follow, of the profile visit's chance)."""
    r = feed.reaction(name)
    own = feed.social_spread * s.social

    def chance(intercept: float, visited: Floats | None) -> Floats:
        base = intercept + own + r.enjoyment * joy + r.watched * play / s.duration_s
        if name == "hate":
            unmoved = expit(intercept + own - r.enjoyment * feed.skip)
            return np.asarray(click * expit(base) + (1 - click) * unmoved)
        if name == "follow" and visited is not None:
            after = visited / click
            return np.asarray(click * (after * expit(base + feed.follow_after_profile) + (1 - after) * expit(base)))
        return np.asarray(click * expit(base))

    return chance


def _leave(feed: Feed, s: Sample, tables: FeedTables, click: Floats, joy: Floats) -> Callable[[float], Floats]:
    own = tables.leave_shift[s.activity]
    felt = (feed.leave_enjoyment + feed.leave_mood * feed.mood_rate) * s.fickle_factor  # mood has moved by then

    def chance(intercept: float) -> Floats:
        moved = expit(intercept + own - felt * joy)
        return np.asarray(click * moved + (1 - click) * expit(intercept + own + felt * feed.skip))

    return chance


def _missed(chance: Chance, given: Floats | None, rate: float, intercept: float) -> float:
    return float(chance(intercept, given).mean()) - rate


def _mean_logit(rate: float, spread: float) -> float:
    """The c with E sigmoid(c + spread e) = rate over standard normal e."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    weights = weights / weights.sum()
    rate = min(rate, 1 - 1e-9)
    return _solve(lambda c: float(weights @ expit(c + spread * nodes)) - rate, "users.activity visit_rate")


def sessions_beyond(feed: Feed, activity: NDArray[np.int64], luck: Floats, size: Floats) -> NDArray[np.int64]:
    """The sessions of a day beyond its first, (N,): Poisson, cut at most_sessions, with a mean that `size` spreads.

    `luck` uniform, `size` standard normal.
    """
    mean = np.array([a.sessions - 1 for a in feed.activity])[activity]
    mean = mean * np.exp(feed.sessions_spread * size - feed.sessions_spread**2 / 2)
    term = np.exp(-mean)
    edge, found = term.copy(), np.zeros(len(mean), dtype=np.int64)
    for beyond in range(1, feed.most_sessions):
        found += luck >= edge
        term = term * mean / beyond
        edge += term
    return found


def _solve(function: Callable[[float], Any], what: str) -> float:
    """The intercept at which `function` is 0; it rises. Raises UserError that names `what` where there is none."""
    with np.errstate(over="ignore", invalid="ignore"):
        reached = function(-80) < 0 < function(80)
    if not reached:
        raise UserError(
            f"scenario: no intercept gives {what}, because the numbers that move it from one user or item to the next "
            "are too large; lower the shifts, spreads and weights beside it"
        )
    return float(brentq(function, -80, 80))
