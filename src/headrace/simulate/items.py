"""The items of a world, shared by its tasks: topics, quality, clickbait, duration. All are latent but what a log shows.

An item has a main topic and, with the scenario's weight, a second one. Its topic direction has length 1, so that the
affinity of a user with independent tastes of variance 1 has variance 1; its topic shares sum to 1. Clickbait is appeal
that the item doesn't keep: the trap is what it promises beyond its quality.

I items, K topics.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.simulate import draws
from headrace.simulate.draws import Keys, Purpose
from headrace.simulate.scenario import Scenario

Floats32 = NDArray[np.float32]
FIRST_ITEM = 1 << 40  # items are keyed as users beyond any real one, so that no user shares an item's draws


@dataclass(frozen=True, slots=True)
class Items:
    """What is true of I items. `topic` and `duration_s` are what a log shows of them."""

    topic: NDArray[np.int32]  # (I,) main topic
    second: NDArray[np.int32]  # (I,) second topic
    direction: Floats32  # (K, I) length 1 over the topics
    share: Floats32  # (K, I) sums to 1 over the topics
    quality: Floats32  # (I,) standard normal
    clickbait: Floats32  # (I,) standard normal
    trap: Floats32  # (I,) clickbait beyond quality, 0 or more
    length: Floats32  # (I,) standardised log of the duration
    duration_s: Floats32  # (I,)
    keys: Keys  # (I,)


def draw_items(scenario: Scenario, seed: int) -> Items:
    """The items of a seed: item i is the same however many there are."""
    feed, k = scenario.feed_task, len(scenario.topics)
    keys = draws.user_keys(seed, FIRST_ITEM + np.arange(feed.items))
    u = draws.uniform(keys, 0, 0, Purpose.ITEM_TOPIC, 2)
    topic = (u[:, 0] * k).astype(np.int32)
    second = ((topic + 1 + (u[:, 1] * max(k - 1, 1)).astype(np.int32)) % k).astype(np.int32)
    share = np.zeros((k, feed.items))
    everyone = np.arange(feed.items)
    share[topic, everyone] += 1 - feed.second_topic
    share[second, everyone] += feed.second_topic
    z = draws.normal(keys, 0, 0, Purpose.ITEM_QUALITY, 2)
    quality = z[:, 0]
    clickbait = feed.quality_clickbait * quality + np.sqrt(1 - feed.quality_clickbait**2) * z[:, 1]
    low, high = np.log(feed.shortest_s), np.log(feed.longest_s)
    middle, spread = np.log(feed.duration_median_s), max(feed.duration_spread, 1e-9)
    log_duration = np.clip(middle + spread * draws.normal(keys, 0, 0, Purpose.ITEM_DURATION), low, high)
    return Items(
        topic=topic,
        second=second,
        direction=(share / np.sqrt((share**2).sum(axis=0))).astype(np.float32),
        share=share.astype(np.float32),
        quality=quality.astype(np.float32),
        clickbait=clickbait.astype(np.float32),
        trap=np.maximum(clickbait - quality, 0).astype(np.float32),
        length=((log_duration - middle) / spread).astype(np.float32),
        duration_s=np.exp(log_duration).astype(np.float32),
        keys=keys,
    )
