"""Small decision logs of the feed, and replays made by hand."""

from pathlib import Path

import numpy as np

from headrace.fuse.replay import Replay
from headrace.journeys.seams import Floats
from headrace.journeys.store import Journeys
from headrace.ope.transitions import Transitions
from headrace.simulate.feed_log import Lists, simulate_feed
from headrace.simulate.scenario import Scenario

FEED = Scenario.load("feed")


def feed_log(path: Path, users: int = 60, days: int = 4, lists: Lists = "none", policy: str = "groups") -> Journeys:
    return simulate_feed(FEED, users, days, policy, 0, path, lists=lists)


def bandit(action: Floats, reward: Floats) -> Replay:
    """Episodes of one step, one constant state: nothing follows an action but its reward."""
    n = len(reward)
    one = np.ones(n, dtype=np.bool_)
    state = np.ones((n, 1), dtype=np.float32)
    return Replay(
        Transitions(state, action.astype(np.float32), reward, 0 * state, one, ~one, one, np.arange(n), n), size=n
    )
