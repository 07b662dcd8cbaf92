"""How users look through the items shown to them: one after the other, until they leave. Equations: feed_response.py.

A users in turn, k items shown.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from headrace.simulate import draws
from headrace.simulate.draws import Purpose
from headrace.simulate.feed_requests import OUTCOMES
from headrace.simulate.feed_scenario import REACTIONS

if TYPE_CHECKING:
    from headrace.simulate.feed import FeedWorld

POSITIVE = ("like", "share", "comment", "profile_visit", "follow")


def look(world: "FeedWorld", items: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    """What the users in turn do with `items` (A, k), one after the other; changes mood, trust, fatigue."""
    feed, own, turn, keys = world.feed, world.items, world.turn, world.keys[world.turn]
    (a, k), day, number, weights = items.shape, world.day, world.number, world.topic_weights
    luck_click = draws.uniform(keys, day, number, Purpose.FEED_CLICK, k)
    luck_watch = draws.normal(keys, day, number, Purpose.WATCH, k)
    luck_react = draws.uniform(keys, day, number, Purpose.REACTION, k * len(REACTIONS))
    luck_leave = draws.uniform(keys, day, number, Purpose.LEAVE, k)
    out: dict[str, NDArray[Any]] = {name: np.zeros((a, k), dtype=np.bool_) for name in OUTCOMES}
    out["play_s"] = np.zeros((a, k))
    sight = world.sight(turn, items)
    duration = own.duration_s[items].astype(np.float64)
    offset = world.click_offset() + feed.click_later * np.log1p(world.request)
    social = feed.social_spread * world.own.social[turn]
    fickle = world.fickle_factor[turn]
    leave = world.tables.leave + world.tables.leave_shift[world.traits.activity[turn]]
    mood, trust, fatigue = world.mood[turn], world.trust[turn], world.fatigue[:, turn]
    here = np.ones(a, dtype=np.bool_)
    rows = np.arange(a)
    for p in range(k):
        main, second = own.topic[items[:, p]], own.second[items[:, p]]
        tired = weights[0] * fatigue[main, rows] + weights[1] * fatigue[second, rows]
        less = feed.fatigue_match * tired
        click = here & (luck_click[:, p] < expit(offset + sight.click[:, p] - feed.click_match * less))
        desire = world.tables.desire + sight.desire[:, p] - feed.watch_match * less
        wish = np.exp(desire + feed.watch_spread * luck_watch[:, p])
        glance = np.exp(np.log(feed.glance_s) - feed.glance_spread**2 / 2 + feed.glance_spread * luck_watch[:, p])
        play = np.where(here, np.minimum(np.where(click, wish, glance), duration[:, p]), 0.0)
        joy = np.where(click, sight.joy[:, p] - feed.enjoy_match * less, -feed.skip)
        watched = play / duration[:, p]
        out["seen"][:, p], out["click"][:, p], out["play_s"][:, p] = here, click, play
        out["finish"][:, p] = click & (wish >= duration[:, p])
        out["long_view"][:, p] = click & (play >= np.minimum(duration[:, p], feed.long_view_s))
        for r, name in enumerate(REACTIONS):
            reaction = feed.reactions[r]
            chance = world.tables.reactions[r] + social + reaction.enjoyment * joy
            if name == "follow":
                chance += feed.follow_after_profile * out["profile_visit"][:, p]
            chance += reaction.watched * np.where(click, watched, 0.0)
            may = here if name == "hate" else click
            out[name][:, p] = may & (luck_react[:, p * len(REACTIONS) + r] < expit(chance))
        mood = np.where(here, mood + feed.mood_rate * (joy - mood), mood)
        trust = np.where(here, trust + feed.trust_rate * (joy - trust), trust)
        hazard = leave + feed.leave_fatigue * tired
        hazard -= fickle * (feed.leave_mood * mood + feed.leave_enjoyment * joy)
        fatigue[main, rows] += feed.fatigue_gain * weights[0] * here
        fatigue[second, rows] += feed.fatigue_gain * weights[1] * here
        leaves = here & (luck_leave[:, p] < expit(hazard))
        out["exit"][:, p] = leaves
        here = here & ~leaves
    out["positive"] = np.logical_or.reduce([out[name] for name in POSITIVE])
    world.mood[turn], world.trust[turn], world.fatigue[:, turn] = mood, trust, fatigue
    return out
