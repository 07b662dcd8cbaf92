"""calibrate_feed: fit a feed scenario to a real log in KuaiRand's layout, and say how near it comes.

What is fitted: activity classes with their shares, visits, sessions and click rates; hours; durations; base rates; play
times; the spread of click rates over items and over users; session length; how clicks fall off within a session. The
world's candidates stand for what the log's own ranking let through, so a simulated log shows them in random order, one
a request. What the log does not identify is taken over from the packaged feed scenario, and swept in `variants`.

The fit first sets what can be read off the log, then simulates and corrects, a few rounds, what depends on the rest.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.optimize import brentq, least_squares
from scipy.special import expit, logit, ndtr

from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.simulate.draws import Floats
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_policies import named
from headrace.simulate.feed_response import neutral
from headrace.simulate.feed_scenario import Feed, FeedActivity
from headrace.simulate.feed_statistics import (
    Compared,
    FeedRows,
    active_days,
    compare,
    places,
    read_rows,
    simulated_rows,
    spread_of_rates,
    statistics,
)
from headrace.simulate.predictors import attainable
from headrace.simulate.scenario import NO_ADS, Activity, Scenario

LEVELS = (("full_active",), ("high_active",), ("middle_active",), ("2_14_day_new",), ("*",))
LEAST_ROWS = 1000
FEW_PER_ITEM = 4
MOST_PATIENCE = 0.2  # more than the packaged feed's would spread play times further than a log's


def calibrate_feed(
    journeys: Journeys,
    gap_minutes: float = 30.0,
    users: int = 8_000,
    rounds: int = 6,
    name: str = "kuairand",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Scenario, list[Compared]]:
    """The scenario fitted to a log, and each statistic of the log beside the simulated one.

    `users` are simulated in each of `rounds` corrections; the comparison simulates as many as the log holds. A gap
    longer than `gap_minutes` begins a new session.
    """
    real = read_rows(journeys, LEVELS)
    if len(real.user) < LEAST_ROWS:
        raise UserError(f"{journeys.path}: {len(real.user)} rows, expected {LEAST_ROWS} or more to fit a scenario to")
    target = statistics(real, gap_minutes)
    scenario = _first(real, target, gap_minutes, name)
    for attempt in range(rounds):
        made = _simulate(scenario, users, seed=1000 + attempt)
        scenario = _correct(scenario, real, made, gap_minutes)
        if progress:
            progress(attempt + 1, rounds)
    scenario = _predictable(scenario)
    many = round(len(real.level) / _seen_share(scenario))
    return scenario, compare(target, statistics(_simulate(scenario, many, seed=1), gap_minutes))


def variants(scenario: Scenario) -> dict[str, Scenario]:
    """The scenario with what a log does not identify set otherwise, one thing at a time."""
    feed = scenario.feed_task

    def varied(**changes: float) -> Scenario:
        return _predictable(replace(scenario, feed=replace(feed, **changes)))  # type: ignore[arg-type]

    swap = 0.6 * feed.click_clickbait
    return {
        "as fitted": scenario,
        "strong fatigue": varied(
            fatigue_gain=2 * feed.fatigue_gain, fatigue_half_life_hours=2 * feed.fatigue_half_life_hours
        ),
        "no fatigue": varied(fatigue_gain=0.0),
        "quick recovery": varied(fatigue_half_life_hours=feed.fatigue_half_life_hours / 8),
        "steep leaving": varied(leave_mood=1.6 * feed.leave_mood, leave_enjoyment=1.6 * feed.leave_enjoyment),
        "flat leaving": varied(leave_mood=0.4 * feed.leave_mood, leave_enjoyment=0.4 * feed.leave_enjoyment),
        "little clickbait": varied(
            click_clickbait=feed.click_clickbait - swap,
            click_quality=math.hypot(feed.click_quality, swap),
            enjoy_trap=0.4 * feed.enjoy_trap,
        ),
        "costly clickbait": varied(enjoy_trap=1.8 * feed.enjoy_trap),
        "weak return": varied(return_trust=0.3 * feed.return_trust),
        "long sessions": varied(leave_rate=0.25 * feed.leave_rate),
    }


def _simulate(scenario: Scenario, users: int, seed: int) -> FeedRows:
    world = FeedWorld(scenario, users, seed)
    return simulated_rows(world, named("shuffle", scenario)(world))


def _first(real: FeedRows, target: dict[str, float | Floats], gap_minutes: float, name: str) -> Scenario:
    """What can be read off the log; the rest comes from the packaged feed."""
    base = Scenario.load("feed")
    old = base.feed_task
    click, clicked = real.gains["click"], float(real.gains["click"].mean())
    log_duration = np.log(real.duration_s[real.duration_s > 0.1])
    low, middle, high = (float(np.quantile(log_duration, q)) for q in (0.16, 0.5, 0.84))
    unclicked = real.play_s[~click & (real.play_s > 0)]
    visits, habit = _visits(real)
    seen = np.array([_once_seen(rate, habit, real.days) for rate in visits])
    share = np.bincount(real.level, minlength=len(real.levels)) / seen
    share = np.append(np.round(share[:-1] / share.sum(), 4), 0.0)
    share[-1] = round(1 - share.sum(), 4)
    place = places(real, gap_minutes)
    level = real.level[real.user]
    per_visit = [
        (place[level == i] == 0).sum() / len(np.unique((real.user * real.days + real.day)[level == i]))
        for i in range(len(real.levels))
    ]
    hours = np.bincount(real.hour, minlength=24)
    longest, shortest = (float(np.quantile(real.duration_s, q)) for q in (0.999, 0.001))
    feed = replace(
        old,
        items=max(old.candidates, len(np.unique(real.item))),
        shown=1,
        most_sessions=12,
        session_gap_minutes=gap_minutes,
        duration_median_s=_round(math.exp(middle)),
        duration_spread=_round((high - low) / 2),
        shortest_s=_round(max(shortest, 0.5)),
        longest_s=_round(longest),
        click_rate=_round(clicked),
        click_evening=0.0,
        click_later=0.0,
        watch_s=_round(float(real.play_s[click].mean())),
        patience_spread=min(old.patience_spread, MOST_PATIENCE),
        glance_s=_round(float(real.play_s[~click].mean())),
        glance_spread=_round(float(np.log(unclicked).std())),
        long_view_s=18.0,  # the log's own definition
        leave_rate=_round(1 / float(target["session length"])),
        habit_spread=_round(habit),
        activity=tuple(
            FeedActivity(
                name_of, _round(max(1.0, sessions)), _round(float(logit(click[level == i].mean()) - logit(clicked)))
            )
            for i, (name_of, sessions) in enumerate(zip(real.levels, per_visit, strict=True))
        ),
        reactions=tuple(replace(r, rate=_round(float(real.gains[r.name].mean()))) for r in old.reactions),
    )
    users = replace(
        base.users,
        activity=tuple(
            Activity(name_of, float(s), _round(visit), exposures=1.0)
            for name_of, s, visit in zip(real.levels, share, visits, strict=True)
        ),
    )
    fitted = Scenario(
        name=name,
        currency=base.currency,
        days=real.days,
        start=real.start,
        topics=base.topics,
        hours=tuple(_round(float(h)) for h in hours / hours.mean()),
        users=users,
        ads=NO_ADS,
        feed=feed,
    )
    return replace(fitted, feed=_watching(feed, real))


def _watching(feed: Feed, real: FeedRows) -> Feed:
    """The slope and the noise of play times, so that clicks are finished and long viewed as often as in the log."""
    click = real.gains["click"]
    every = max(1, int(click.sum()) // 20_000)
    duration = real.duration_s[click][::every]
    z = (np.log(duration) - math.log(feed.duration_median_s)) / feed.duration_spread
    wanted = np.array(
        [
            feed.watch_s / duration.mean(),
            (real.play_s >= real.duration_s)[click].mean(),
            real.gains["long_view"][click].mean(),
        ]
    )
    between = feed.watch_match**2 + feed.watch_quality**2 + feed.watch_clickbait**2

    def missed(x: Floats) -> Floats:
        mean = x[0] + x[1] * z
        sd = np.sqrt(np.exp(2 * x[2]) + between + (feed.patience_spread * z) ** 2)
        edge = (np.log(duration) - mean) / sd
        play = np.exp(mean + sd**2 / 2) * ndtr(edge - sd) + duration * ndtr(-edge)
        long = ndtr((mean - np.log(np.minimum(duration, feed.long_view_s))) / sd)
        return np.asarray([play.mean() / duration.mean(), ndtr(-edge).mean(), long.mean()] - wanted)

    found = least_squares(missed, np.array([3.0, 0.4, math.log(0.8)]), bounds=([-3, -2, math.log(0.2)], [8, 3, 1.5]))
    return replace(feed, watch_duration=_round(float(found.x[1])), watch_spread=_round(float(np.exp(found.x[2]))))


def _correct(scenario: Scenario, real: FeedRows, made: FeedRows, gap_minutes: float) -> Scenario:
    """One round: move each number by what the simulation missed of its statistic."""
    feed = scenario.feed_task
    true, got = statistics(real, gap_minutes), statistics(made, gap_minutes)

    def off(what: str) -> float:  # in logits, of a rate
        return float(logit(np.clip(true[what], 1e-5, 1 - 1e-5)) - logit(np.clip(got[what], 1e-5, 1 - 1e-5)))

    def ratio(what: str) -> float:
        return float(np.clip(float(true[what]) / max(float(got[what]), 1e-9), 0.5, 2.0))

    # fewer users than the log's leave fewer rows an item, all seen about as often
    of_items = float(true["spread of click rates over items"])
    of_items /= max(spread_of_rates(made.item, made.gains["click"], FEW_PER_ITEM), 1e-9)
    of_items = float(np.clip(of_items, 0.5, 2.0))
    leaving = logit(1 / np.array([true["session length"], got["session length"]], dtype=np.float64))
    by_place = (np.asarray(true["click rate by place in session"]), np.asarray(got["click rate by place in session"]))
    later = np.log1p(np.arange(len(by_place[0])))
    weight = np.bincount(np.minimum(places(real, gap_minutes), len(later) - 1)).astype(np.float64)
    gap = logit(np.clip(by_place[0], 0.01, 0.99)) - logit(np.clip(np.nan_to_num(by_place[1], nan=0.5), 0.01, 0.99))
    sure = np.isfinite(by_place[1])
    later, weight, gap = later[sure], weight[sure] / weight[sure].sum(), gap[sure]
    centred = later - weight @ later
    slope = float((weight * centred) @ gap / ((weight * centred) @ centred))
    true_days, got_days = _days_by_level(real), _days_by_level(made)
    activity = tuple(
        replace(a, click_shift=_round(a.click_shift + off(f"click rate, {a.name}") - off("click rate")))
        for a in feed.activity
    )
    wider = float(active_days(real)[0].std() / active_days(made)[0].std())
    rows = [np.asarray(s["rows a user-day distribution"]) for s in (true, got)]
    more = ratio("sessions a day with a visit")
    feed = replace(
        feed,
        click_rate=_rate(feed.click_rate, off("click rate")),
        click_quality=_round(feed.click_quality * of_items),
        click_clickbait=_round(feed.click_clickbait * of_items),
        click_spread=_round(feed.click_spread * ratio("spread of click rates over users")),
        click_later=_round(feed.click_later + slope),
        watch_s=_round(feed.watch_s * ratio("play time of a click, s")),
        glance_s=_round(feed.glance_s * ratio("play time without a click, s")),
        leave_rate=_rate(feed.leave_rate, float(leaving[0] - leaving[1])),
        visit_again=_round(feed.visit_again + off("return next day")),
        habit_spread=_round(feed.habit_spread * wider),
        sessions_spread=_round(min(2.0, max(0.0, feed.sessions_spread + 3 * float(rows[0][0] - rows[1][0])))),
        activity=tuple(replace(a, sessions=_round(max(1.0, 1 + (a.sessions - 1) * more))) for a in activity),
        reactions=tuple(replace(r, rate=_rate(r.rate, off(f"{r.name} rate"))) for r in feed.reactions),
    )
    users = replace(
        scenario.users,
        activity=tuple(
            replace(a, visit_rate=_rate(a.visit_rate, float(np.clip(math.log(t / g), -0.5, 0.5))))
            for a, t, g in zip(scenario.users.activity, true_days, got_days, strict=True)
        ),
    )
    return replace(scenario, users=users, feed=feed)


def _predictable(scenario: Scenario) -> Scenario:
    """Lower the predictors' AUC where the fitted world doesn't let anybody predict so well."""
    feed = scenario.feed_task
    most = attainable(neutral(scenario))
    kept = tuple(
        replace(p, auc=_round(min(p.auc, 0.5 + 0.9 * (top - 0.5))))
        for p, top in zip(feed.predictions, most, strict=True)
    )
    return replace(scenario, feed=replace(feed, predictions=kept))


def _days_by_level(rows: FeedRows) -> Floats:
    days, _ = active_days(rows)
    return np.array([days[rows.level == i].mean() for i in range(len(rows.levels))])


def _visits(real: FeedRows) -> tuple[list[float], float]:
    """Each class's visit rate and the spread of habits, from on how many days users were seen, if at all."""
    days, _ = active_days(real)
    true = np.bincount(days, minlength=real.days + 1)[1:] / len(days)
    best: tuple[float, list[float], float] = (math.inf, [], 0.0)
    by_level = _days_by_level(real)
    for habit in np.arange(0.3, 2.6, 0.15):
        rates = [_rate_of_days(mean, float(habit), real.days) for mean in by_level]
        made = np.zeros(real.days)
        for i, rate in enumerate(rates):
            shares = _days_seen(rate, float(habit), real.days)
            made += (real.level == i).mean() * shares[1:] / shares[1:].sum()
        away = float(np.abs(made - true).sum())
        if away < best[0]:
            best = (away, rates, float(habit))
    return best[1], best[2]


def _days_seen(rate: float, habit: float, days: int) -> Floats:
    """(days + 1,) the distribution of days with a visit of users whose logits of a visit have this mean rate and sd."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    weights = weights / weights.sum()
    middle = brentq(lambda c: weights @ expit(c + habit * nodes) - rate, -30, 30)
    p = expit(middle + habit * nodes)[:, None]
    k = np.arange(days + 1)
    choose = np.array([math.comb(days, int(i)) for i in k], dtype=np.float64)
    return np.asarray(weights @ (choose * p**k * (1 - p) ** (days - k)))


def _once_seen(rate: float, habit: float, days: int) -> float:
    return float(1 - _days_seen(rate, habit, days)[0])


def _rate_of_days(mean: float, habit: float, days: int) -> float:
    """The visit rate at which the users seen at all are seen on `mean` days."""

    def missed(rate: float) -> float:
        shares = _days_seen(rate, habit, days)
        return float(shares @ np.arange(days + 1) / (1 - shares[0])) - mean

    if missed(1e-3) > 0:
        return 1e-3
    return float(brentq(missed, 1e-3, 0.999))


def _seen_share(scenario: Scenario) -> float:
    feed = scenario.feed_task
    each = [a.share * _once_seen(a.visit_rate, feed.habit_spread, scenario.days) for a in scenario.users.activity]
    return float(sum(each))


def _rate(rate: float, off: float) -> float:
    """A rate moved by some logits, at most 1."""
    return _round(float(np.clip(expit(logit(rate) + np.clip(off, -1, 1)), 1e-6, 0.98)))


def _round(value: float) -> float:
    return float(f"{value:.4g}")
