"""A chain of ten states with a known optimal value, as a log of journeys by a random policy.

From state s the channels `left` and `right` lead to s - 1 and s + 1. The journey ends off either end, with a gain of
0.5 on the left and 1 on the right. With a discount of 0.9 it pays to leave on the left from states 0 and 1 alone.
A step to the right may cost; a third channel, `off`, is `right` by another name that the log hardly shows.
"""

from pathlib import Path
from typing import Any

import numpy as np

from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Array, Journeys, JourneysWriter

STATES, GAMMA = 10, 0.9
LEFT, RIGHT, OFF = 0, 1, 2
ENDS = {-1: 0.5, STATES: 1.0}
EXACT: dict[str, Any] = {  # of a config that fits the chain exactly
    "running": False,
    "categories": "embedded",
    "unknown": 0.0,
    "dropout": 0.0,
    "gamma": GAMMA,
    "tcn_layers": 0,
    "epochs": 40,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "schedule": "cosine",
    "target_rate": 0.1,
    "average": 0.98,
    "clip": None,
    "calibrate": False,
}


def chain_log(path: Path, users: int = 300, cost: float = 0.0, off: float = 0.0, seed: int = 0) -> Journeys:
    """Journeys from states at random until they end. `cost` of a step to the right; `off`: the third channel's share of
    the steps."""
    rng = np.random.default_rng(seed)
    states, channels, lengths = (list[int]() for _ in range(3))
    gains: list[float] = []
    for _ in range(users):
        s, start = int(rng.integers(STATES)), len(states)
        while s not in ENDS:
            chosen = OFF if rng.random() < off else int(rng.integers(2))
            states.append(s)
            channels.append(chosen)
            s += -1 if chosen == LEFT else 1
            gains.append(ENDS.get(s, 0.0))
        lengths.append(len(states) - start)
    channel = np.array(channels, dtype=np.int16)
    schema = LogSchema(
        "chain",
        user="u",
        channel="c",
        channels=("left", "right", "off") if off else ("left", "right"),
        features=(Feature("state", "categorical"),),
        gains=(Gain("gain", "continuous"),),
        cost=Cost("w", "EUR") if cost else None,
    )
    columns: dict[str, Array] = {"feature/state": np.array(states), "channel": channel, "gain/gain": np.array(gains)}
    if cost:
        columns["cost"] = np.where(channel == LEFT, 0.0, cost)
    with JourneysWriter(path, schema) as writer:
        writer.append(np.arange(users), np.array(lengths), columns)
        return writer.close()


def whole(journeys: Journeys) -> Split:
    """Every step trains, the first ten users validate: the chain is asked for what is optimal, not for what generalises
    to others."""
    mask = np.ones(journeys.n_steps, dtype=bool)
    first = journeys.user_of_step < 10
    return Split("users", 0, None, {"train": mask, "validation": first, "test": mask}, fingerprint="chain")


def optimal(cost: float = 0.0, span: float = 1.0, tau: float = 1.0) -> np.ndarray:
    """(10, 2) Q* by value iteration: of (gain - cost) / span.

    With tau < 1 the state is worth the expectile of two values that the log shows alike: what IQL is to find.
    """
    q = np.zeros((STATES, 2))
    for _ in range(1_000):
        best = tau * q.max(axis=1) + (1 - tau) * q.min(axis=1)
        for s in range(STATES):
            for a, to in ((LEFT, s - 1), (RIGHT, s + 1)):
                reward = (ENDS.get(to, 0.0) - cost * (a == RIGHT)) / span
                q[s, a] = reward + (0.0 if to in ENDS else GAMMA * best[to])
    return q


def by_state(journeys: Journeys, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(10, ...) means of values (n, ...) over the rows of each state, without those that are not finite."""
    values = np.where(np.isfinite(values), values, np.nan)
    state = np.asarray(journeys.column("feature/state"))[rows]
    return np.stack([np.nanmean(values[state == s], axis=0) for s in range(STATES)])
