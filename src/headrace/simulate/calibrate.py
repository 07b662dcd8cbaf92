"""calibrate: fit a scenario to a real log, and say how near the simulated log comes.

An advertising log gives: channels with their click rates, purchases after clicks, costs and cost spreads; how far users
differ in their readiness to click; channel shares, preferences and repetition (what the policy `logged` then does); how
long journeys are. Rates that saturation and satedness change on the way are corrected in rounds of simulation.

What a log does not identify is taken from the packaged scenario `ads`, or set so that the world is plausible (see
`_first`), and swept in `variants`. A log of a feed goes to calibrate_feed.

M channels.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from scipy.special import expit, logit, softmax

from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.simulate import calibrate_feed
from headrace.simulate.ads import DAY_MS, AdsWorld
from headrace.simulate.ads_statistics import (
    FAR,
    AdRows,
    again,
    by_channel,
    compare,
    rate,
    read_rows,
    repeats,
    shares,
    simulated_rows,
    spread_of_users,
)
from headrace.simulate.draws import Floats
from headrace.simulate.policies import named, rollout
from headrace.simulate.scenario import Activity, AdChannel, Ads, Logging, Placement, Scenario

LEAST_ROWS = 1000
DAYS = 30  # of a log that has no clock
CLASSES = 5  # of activity, by journey length
PRIOR = 50.0  # clicks by which a channel's purchases per click are drawn to the mean of all
UNITS_MS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6, "datetime": 1.0}

Progress = Callable[[int, int], None]  # rounds done, rounds in all


def is_feed(journeys: Journeys) -> bool:
    """Whether a log is one of a feed: watch time and no cost."""
    gains = {gain.name for gain in journeys.schema.gains}
    return journeys.schema.cost is None and not gains.isdisjoint(("play_time_ms", "dwell_s"))


def calibrate(
    journeys: Journeys,
    name: str = "fitted",
    users: int = 4_000,
    rounds: int = 8,
    progress: Progress | None = None,
) -> tuple[Scenario, list[Any]]:
    """The scenario fitted to a log, and each statistic of the log beside the simulated one (`Compared`).

    `users` are simulated in each of `rounds` corrections; the comparison simulates as many as the log holds. A log of a
    feed is fitted by calibrate_feed. Raises UserError where the log lacks what is needed.
    """
    if is_feed(journeys):
        return calibrate_feed.calibrate_feed(journeys, name=name, progress=progress)
    real = read_rows(journeys)
    if len(real.user) < LEAST_ROWS:
        raise UserError(f"{journeys.path}: {len(real.user)} rows, expected {LEAST_ROWS} or more to fit a scenario to")
    target = _Target.of(real)
    scenario = _first(journeys, real, target, name)
    for attempt in range(rounds):
        scenario = _correct(scenario, target, _simulate(scenario, users, 1000 + attempt), 1.0 if attempt < 3 else 0.5)
        if progress:
            progress(attempt + 1, rounds)
    scenario = _rounded(scenario)
    return scenario, list(compare(real, _simulate(scenario, len(real.lengths), 1)))


def save(scenario: Scenario, path: str | Path, source: str) -> None:
    """Write a fitted scenario as TOML, whole or not at all; `source` says what it was fitted to."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"# Fitted to {source} by headrace calibrate.\n"
    head += "# Keys and units as in scenarios/ads.toml or scenarios/feed.toml.\n"
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(head + tomli_w.dumps(scenario.to_dict()), encoding="utf-8")
    beside.replace(path)


def variants(scenario: Scenario) -> dict[str, Scenario]:
    """The scenario with what a log does not identify set otherwise, one thing at a time.

    Each keeps the click rates and purchases per click of the scenario's own logged policy, channel by channel: they are
    worlds that the same log could have come from. A scenario with a feed and no adverts goes to calibrate_feed.
    """
    if not scenario.ads.channels:
        return calibrate_feed.variants(scenario)
    ads, users = scenario.ads, scenario.users
    target = _Target.of(_simulate(scenario, 3_000, 1))

    def varied(change: Callable[[AdChannel], AdChannel] = lambda c: c, **changes: Any) -> Scenario:
        of_users = {key: value for key, value in changes.items() if hasattr(users, key)}
        of_ads: dict[str, Any] = {key: value for key, value in changes.items() if hasattr(ads, key)}
        of_ads["channels"] = tuple(change(channel) for channel in ads.channels)
        found = replace(scenario, ads=replace(ads, **of_ads), users=replace(users, **of_users))
        for _ in range(3):
            found = _correct_rates(found, target, _simulate(found, 3_000, 1), 1.0)
        return _rounded(found)

    def lifted(factor: float) -> Callable[[AdChannel], AdChannel]:
        return lambda c: replace(
            c, lifts={k: factor * x for k, x in c.lifts.items()}, organic_lift=factor * c.organic_lift
        )

    own = math.sqrt(np.mean([c.sensitivity**2 for c in ads.channels]))
    return {
        "as given": scenario,
        "strong saturation": varied(lambda c: replace(c, capacity=c.capacity / 4)),
        "short saturation": varied(saturation_half_life_days=ads.saturation_half_life_days / 4),
        "long saturation": varied(saturation_half_life_days=3 * ads.saturation_half_life_days),
        "little saturation": varied(lambda c: replace(c, capacity=4 * c.capacity)),
        "no carry-over": varied(lifted(0.0)),
        "strong carry-over": varied(lifted(2.0), carry_over_half_life_days=2 * ads.carry_over_half_life_days),
        "few organic purchases": varied(organic_rate=ads.organic_rate / 4),
        "many organic purchases": varied(organic_rate=3 * ads.organic_rate),
        "users alike in channels": varied(
            lambda c: replace(c, sensitivity=0.0), click_spread=math.hypot(users.click_spread, own)
        ),
        "users of one channel": varied(
            lambda c: replace(c, sensitivity=math.hypot(c.sensitivity, 0.8 * users.click_spread)),
            click_spread=0.6 * users.click_spread,
        ),
        "buyers alike": varied(intent_spread=0.4 * users.intent_spread),
        "never sated": varied(sated_by_purchase=0.0),
    }


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """What the fit is to reach."""

    click: Floats  # (M,)
    purchase: Floats  # (M,) per click, drawn to the mean of all where clicks are few
    clicked: float  # purchases per click
    unclicked: float  # purchases per unclicked advert
    shares: Floats  # (M,)
    near: float  # same channel as last time
    far: float  # same channel FAR steps apart
    spread: float  # sd of users' click rates
    again: float  # buyers who buy again; NaN where the log does not tell

    @classmethod
    def of(cls, rows: AdRows) -> "_Target":
        clicks = np.bincount(rows.channel, weights=rows.click, minlength=len(rows.channels))
        clicked = rate(rows, rows.purchase, rows.click)
        per_click = np.nan_to_num(by_channel(rows, rows.purchase, rows.click))
        return cls(
            click=np.clip(np.nan_to_num(by_channel(rows, rows.click), nan=rows.click.mean()), 1e-4, 0.98),
            purchase=(per_click * clicks + PRIOR * clicked) / (clicks + PRIOR),
            clicked=clicked,
            unclicked=rate(rows, rows.purchase, ~rows.click),
            shares=np.maximum(shares(rows), 1e-6),
            near=repeats(rows, 1),
            far=repeats(rows, FAR),
            spread=spread_of_users(rows),
            again=math.nan if rows.stamped else again(rows),
        )


def _first(journeys: Journeys, real: AdRows, target: _Target, name: str) -> Scenario:
    """The scenario before any simulation: what can be read off the log, and assumptions for what can't.

    Assumed: channels lift purchases in the most shown one by half at full awareness and organic ones by 0.2; organic
    purchases come at 0.4 times the log's rate; without revenue in the log a purchase is worth 1.5 times what the log
    paid for one; capacities of 20 exposures.
    """
    base = Scenario.load("ads")
    schema, m = journeys.schema, len(real.channels)
    assert schema.cost is not None
    unclicked, clicked = (by_channel(real, real.cost, some) for some in (~real.click, real.click))
    per_click = np.zeros(m) if schema.cost.context else np.nan_to_num(clicked - unclicked)
    per_click = np.where(per_click > 1e-6 * real.cost.mean(), per_click, 0.0)
    paid = np.maximum(real.cost - per_click[real.channel] * real.click, 0.0)
    per_exposure = np.nan_to_num(by_channel(real, paid))
    days, start, hours = _clock(journeys, base)
    bought, spent = max(int(real.purchase.sum()), 1), float(real.cost.sum())
    revenue = next((g.name for g in schema.gains if g.name in ("revenue", "value") and g.kind == "continuous"), None)
    value = 1.5 * spent / bought
    if revenue is not None:
        value = float(np.nansum(np.asarray(journeys.gain(revenue), dtype=np.float64))) / bought
    top = real.channels[int(shares(real).argmax())]
    channels = tuple(
        AdChannel(
            name=channel,
            click_rate=float(target.click[k]),
            cost_per_exposure=float(per_exposure[k]),
            cost_per_click=float(per_click[k]),
            conversion_rate=float(-np.log1p(-min(target.purchase[k], 0.9))),
            value=value,
            sensitivity=0.6,
            intent=0.25,
            capacity=20.0,
            topics=(1.0,) * len(base.topics),
            lifts={} if channel == top else {top: 0.5},
            organic_lift=0.2,
            cost_spread=_log_spread(paid[real.channel == k]),
        )
        for k, channel in enumerate(real.channels)
    )
    ads: Ads = replace(
        base.ads,
        channels=channels,
        placements=(Placement("all", 1.0),),
        most_exposures_per_day=50,
        view_through=0.0 if not target.clicked else min(target.unclicked / target.clicked, 1.0),
        organic_rate=0.4 * bought / len(real.lengths) / days,
        organic_value=value,
        logging=_habits(target),
    )
    activity = _classes(journeys, real, days)
    people = replace(base.users, activity=activity)
    return Scenario(name, schema.cost.unit, days, start, base.topics, hours, people, ads)


def _clock(journeys: Journeys, base: Scenario) -> tuple[int, str, tuple[float, ...]]:
    """Days, start and hours of a log; assumed where it has no clock."""
    unit = UNITS_MS.get(journeys.schema.time_unit)
    if journeys.time is None or unit is None:
        return DAYS, base.start, base.hours
    ms = np.asarray(journeys.time) * unit
    day = np.floor(ms / DAY_MS)
    hours = np.bincount(((ms % DAY_MS) // 3_600_000).astype(np.int64), minlength=24)
    start = str(np.datetime64(int(day.min()), "D"))
    return int(day.max() - day.min()) + 1, start, tuple(hours.astype(np.float64).tolist())


def _classes(journeys: Journeys, real: AdRows, days: int) -> tuple[Activity, ...]:
    """Classes of equal numbers of users by journey length, with how often and how long they come.

    Without a clock the days of a journey are not known: 1.2 exposures a visit are assumed.
    """
    order = np.argsort(real.lengths, kind="stable")
    unit = UNITS_MS.get(journeys.schema.time_unit)
    active: Floats = np.clip(real.lengths / 1.2, 1, 0.95 * days)
    if journeys.time is not None and unit is not None:
        day = np.floor(np.asarray(journeys.time) * unit / DAY_MS)
        first = np.r_[True, (day[1:] != day[:-1]) | (real.user[1:] != real.user[:-1])]
        active = np.bincount(real.user, weights=first.astype(np.float64)).astype(np.float64)
    found = []
    for index, members in enumerate(np.array_split(order, CLASSES)):
        visits = float(active[members].mean())
        exposures = max(float(real.lengths[members].mean()) / visits, 1.0)
        found.append(Activity(f"class-{index + 1}", len(members) / len(order), min(visits / days, 1.0), exposures))
    return tuple(found)


def _habits(target: _Target) -> Logging:
    """Shares, preferences and repetition of the policy behind a log.

    A channel agrees with the one k steps before with probability  r^k + (1 - r^k) q,  r the repetition and q the chance
    that two draws of a user's preference agree; so two lags give both, and q the spread of the preferences.
    """
    m = len(target.shares)
    if m == 1:
        return Logging((1.0,))
    agree, repeat = target.far, 0.0
    for _ in range(20):
        repeat = min(max((target.near - agree) / max(1 - agree, 1e-9), 0.0), 0.99)
        agree = (target.far - repeat**FAR) / max(1 - repeat**FAR, 1e-9)
    noise = np.random.default_rng(0).standard_normal((4_000, m))
    start, low, high = np.log(target.shares), 0.0, 6.0
    for _ in range(14):
        spread = (low + high) / 2
        for _ in range(25):
            likes = softmax(start + spread * noise, axis=1)
            start = start + np.log(target.shares / np.maximum(likes.mean(axis=0), 1e-9))
        low, high = (spread, high) if (likes**2).sum(axis=1).mean() < agree else (low, spread)
    return Logging(tuple(softmax(start).tolist()), (low + high) / 2, repeat)


def _log_spread(cost: Floats) -> float:
    """The sd of the log of costs above 0, 0 where they do not differ."""
    cost = cost[cost > 0]
    return float(np.log(cost).std()) if len(cost) > 1 and cost.std() > 1e-6 * cost.mean() else 0.0


def _simulate(scenario: Scenario, users: int, seed: int) -> AdRows:
    """The log of the scenario's own logged policy."""
    world = AdsWorld(scenario, users, seed)
    return simulated_rows(world, rollout(world, named("logged", scenario)(world)))


def _correct(scenario: Scenario, target: _Target, made: AdRows, gain: float) -> Scenario:
    """Move the numbers that depend on the course of events to where their statistics come out."""
    scenario, users, now = _correct_rates(scenario, target, made, gain), scenario.users, _Target.of(made)
    click_spread = users.click_spread * float(target.spread / max(now.spread, 1e-6)) ** gain
    intent_spread = users.intent_spread
    if target.again > 0 and now.again > 0:
        intent_spread *= float(target.again / now.again) ** (0.3 * gain)
    changed = replace(
        users, click_spread=min(max(click_spread, 0.05), 5.0), intent_spread=min(max(intent_spread, 0.05), 2.5)
    )
    return replace(scenario, users=changed)


def _correct_rates(scenario: Scenario, target: _Target, made: AdRows, gain: float) -> Scenario:
    """Click rates channel by channel, and the level of purchases per click."""
    now, channels = _Target.of(made), []
    level = float(target.clicked / now.clicked) ** gain if target.clicked > 0 and now.clicked > 0 else 1.0
    for k, channel in enumerate(scenario.ads.channels):
        click = float(expit(logit(channel.click_rate) + gain * (logit(target.click[k]) - logit(now.click[k]))))
        hazard = min(level * channel.conversion_rate, 50.0)
        channels.append(replace(channel, click_rate=min(max(click, 1e-5), 0.999), conversion_rate=hazard))
    return replace(scenario, ads=replace(scenario.ads, channels=tuple(channels)))


def _rounded(scenario: Scenario) -> Scenario:
    """Every fitted number with five digits, shares summing to 1: what a person can read, and what is simulated."""

    def five(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.5g}")
        if isinstance(value, dict):
            return {key: five(entry) for key, entry in value.items()}
        return [five(entry) for entry in value] if isinstance(value, list | tuple) else value

    values = five(scenario.to_dict())
    activity = values["users"]["activity"]
    activity[-1]["share"] = round(1 - sum(each["share"] for each in activity[:-1]), 12)
    return Scenario.from_dict(values)
