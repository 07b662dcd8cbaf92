"""Worlds so small that every schedule, or every course of events, can be gone through in plain Python."""

import dataclasses
import itertools
import math
from functools import cache
from typing import Any

import numpy as np

from headrace.simulate.ads import AdsWorld
from headrace.simulate.opportunities import opportunities
from headrace.simulate.scenario import Scenario


def small(days: int = 2, most: int = 2, **ads: Any) -> Scenario:
    """Two dear, effective channels of the scenario `ads`, few opportunities."""
    base = Scenario.load("ads")
    kept = tuple(
        dataclasses.replace(c, conversion_rate=0.4, click_rate=0.4, capacity=2.0, lifts=lifts, cost_per_click=per_click)
        for c, lifts, per_click in zip(base.ads.channels[:2], ({}, {"search": 0.8}), (0.9, 0.3), strict=True)
    )
    task = dataclasses.replace(
        base.ads, **{"channels": kept, "most_exposures_per_day": most, "view_through": 0.2, "organic_rate": 0.05} | ads
    )
    return dataclasses.replace(base, days=days, ads=task)


def led_by(what: str) -> Scenario:
    """`small` where nearly all worth comes by one way, so that a bound that forgets it falls below the best policy."""
    world = small(days=2, most=2, organic_rate=0.0)
    lifts, at_night, rate, sated = 0.0, 0.0, 0.4, 0.0
    if what == "purchases at night":
        world, at_night, rate = small(days=3, most=1, organic_rate=0.02, carry_over_half_life_days=50.0), 20.0, 1e-4
    elif what == "channels lifting each other":
        lifts, rate = 30.0, 0.01
    elif what == "satedness":
        sated = 3.0
    names = world.channels
    channels = tuple(
        dataclasses.replace(
            c,
            lifts={name: lifts for name in names if name != c.name},
            organic_lift=at_night,
            conversion_rate=rate,
            cost_per_exposure=0.0,
            cost_per_click=0.0,
            capacity=1e6,
        )
        for c in world.ads.channels
    )
    users = dataclasses.replace(world.users, sated_by_purchase=sated, sated_half_life_days=50.0)
    return dataclasses.replace(world, ads=dataclasses.replace(world.ads, channels=channels), users=users)


def separable(days: int = 2, most: int = 2) -> Scenario:
    """`small` where nothing acts that the relaxation gives away: no context, no forgetting, carry-over, satedness."""
    world = small(
        days,
        most,
        taste_weight=0.0,
        evening_shift=0.0,
        saturation_half_life_days=1e9,
        organic_rate=0.0,
    )
    places = tuple(dataclasses.replace(place, click_shift=0.0) for place in world.ads.placements)
    channels = tuple(dataclasses.replace(c, lifts={}, organic_lift=0.0) for c in world.ads.channels)
    task = dataclasses.replace(world.ads, placements=places, channels=channels)
    return dataclasses.replace(world, ads=task, users=dataclasses.replace(world.users, sated_by_purchase=0.0))


def schedules(scenario: Scenario, user: int, seed: int) -> list[tuple[float, float]]:
    """Expected (cost, revenue) of every schedule of one user's opportunities, from the world's own true rates."""
    count = int(opportunities(AdsWorld(scenario, [user], seed)).count[0])
    m = len(scenario.channels)
    plans = np.array(list(itertools.product(range(-1, m), repeat=count)), dtype=np.int64).reshape(
        (m + 1) ** count, count
    )
    world = AdsWorld(scenario, np.full(len(plans), user), seed)
    cost, revenue = np.zeros(len(plans)), np.zeros(len(plans))
    for step in range(count):
        rates, channel = world.true_rates(), plans[:, step]
        at = np.arange(len(plans)), np.maximum(channel, 0)
        cost += np.where(channel >= 0, rates.cost[at], 0.0)
        revenue += np.where(channel >= 0, rates.revenue[at], 0.0)
        world.step(channel)
    return list(zip(cost.tolist(), revenue.tolist(), strict=True))


def best_adaptive(scenario: Scenario, user: int, seed: int) -> float:
    """The expected gross profit of the best policy that sees everything and adapts to every click and purchase."""
    world = AdsWorld(scenario, [user], seed)
    ads, r, t = scenario.ads, world.response, world.tables
    seen = opportunities(AdsWorld(scenario, [user], seed))
    events = [(float(seen.time[0, i]), i) for i in range(int(seen.count[0]))]
    events += [(d + 1.0, -1) for d in range(world.days)]
    events.sort()
    ready, spend, m = float(r.readiness[0]), float(r.spend[0]), len(ads.channels)
    sated_by = scenario.users.sated_by_purchase

    def share(a: float) -> float:
        return a / (1 + a)

    @cache
    def value(event: int, when: float, recent: tuple[float, ...], aware: tuple[float, ...], sated: float) -> float:
        if event == len(events):
            return 0.0
        now, index = events[event]
        recent = tuple(x * 0.5 ** ((now - when) / ads.saturation_half_life_days) for x in recent)
        aware = tuple(x * 0.5 ** ((now - when) / ads.carry_over_half_life_days) for x in aware)
        sated *= 0.5 ** ((now - when) / scenario.users.sated_half_life_days)
        rest = value(event + 1, now, recent, aware, sated)
        if index < 0:
            lift = sum(ads.channels[j].organic_lift * share(aware[j]) for j in range(m))
            p = 1 - math.exp(-ads.organic_rate * (1 + lift) * ready * math.exp(-sated))
            bought = value(event + 1, now, recent, aware, sated + sated_by)
            return p * (ads.organic_value * spend + bought) + (1 - p) * rest
        best = rest
        for c, channel in enumerate(ads.channels):
            q = float(seen.click[0, index, c]) / (1 + recent[c] / float(r.capacity[0, c]))
            lift = sum(float(t.lifts[j, c]) * share(aware[j]) for j in range(m))
            bought = 1 - math.exp(-channel.conversion_rate * (1 + lift) * ready * math.exp(-sated))
            worth = -channel.cost_per_exposure
            more = tuple(x + (j == c) for j, x in enumerate(recent))
            for click, p_click in ((1, q), (0, 1 - q)):
                p = bought * (1.0 if click else ads.view_through)
                known = tuple(x + (1 + ads.click_carry_over * click) * (j == c) for j, x in enumerate(aware))
                after = p * (channel.value * spend + value(event + 1, now, more, known, sated + sated_by))
                after += (1 - p) * value(event + 1, now, more, known, sated)
                worth += p_click * (after - channel.cost_per_click * click)
            best = max(best, worth)
        return best

    return value(0, 0.0, (0.0,) * m, (0.0,) * m, 0.0)
