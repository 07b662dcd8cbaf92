"""A tiny session process whose every value is known in closed form, and logs of it.

Two states, three actions. A session begins in state 0 or 1 (even odds); a step brings r(s, a) and noise, then the
session ends with the chance hazard(s, a), or goes on in the state s' ~ next(s, a). Q solves a linear system.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.journeys.seams import Bools, Floats, Integers
from headrace.ope.transitions import Choices, Transitions, channel_choices

GAMMA = 0.9
REWARD = np.array([[1.0, 0.2, 0.5], [0.1, 0.4, 0.2]])  # (S, A)
HAZARD = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.3]])  # (S, A)
STAYS = np.array([[0.3, 0.6, 0.5], [0.4, 0.7, 0.5]])  # (S, A) chance that the next state is the same
BEHAVIOUR = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]])
TARGET = np.array([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2]])


def next_state_chances() -> Floats:
    """(S, A, S)"""
    chances = np.empty((2, 3, 2))
    for s in range(2):
        chances[s, :, s], chances[s, :, 1 - s] = STAYS[s], 1 - STAYS[s]
    return chances


def true_q(policy: Floats) -> Floats:
    """(S, A): Q = r + gamma (1 - hazard) E_{s', a' ~ pi} Q."""
    onward = GAMMA * (1 - HAZARD)[..., None, None] * next_state_chances()[..., None] * policy  # (S, A, S, A)
    found: Floats = np.linalg.solve(np.eye(6) - onward.reshape(6, 6), REWARD.ravel()).reshape(2, 3)
    return found


def true_value(policy: Floats) -> float:
    return float((true_q(policy) * policy).sum(axis=1).mean())


@dataclass(frozen=True, slots=True)
class Sessions:
    offsets: Integers  # (E + 1,)
    state: Integers  # (n,)
    action: Integers  # (n,)
    reward: Floats  # (n,)
    next_state: Integers  # (n,)
    terminated: Bools  # (n,)
    truncated: Bools  # (n,)


def play(policy: Floats, sessions: int, seed: int, cut: int = 200, noise: float = 0.1) -> Sessions:
    """Sessions under a policy, each cut after `cut` steps."""
    rng = np.random.default_rng(seed)
    chances = next_state_chances()
    columns: list[list[float]] = [[] for _ in range(6)]
    offsets = [0]
    for _ in range(sessions):
        state = int(rng.integers(2))
        for t in range(cut):
            action = int(rng.choice(3, p=policy[state]))
            ends = bool(rng.random() < HAZARD[state, action])
            after = int(rng.choice(2, p=chances[state, action]))
            reward = REWARD[state, action] + noise * rng.normal()
            row = (state, action, reward, after, ends, not ends and t == cut - 1)
            for column, entry in zip(columns, row, strict=True):
                column.append(entry)
            state = after
            if ends:
                break
        offsets.append(len(columns[0]))
    kinds = (np.int64, np.int64, np.float64, np.int64, np.bool_, np.bool_)
    arrays = [np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)]
    return Sessions(np.array(offsets), *arrays)


def log_weight(log: Sessions, policy: Floats, behaviour: Floats) -> Floats:
    """(n,)"""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(policy[log.state, log.action]) - np.log(behaviour[log.state, log.action]))


def one_hot(codes: Integers, of: int) -> NDArray[np.float32]:
    return np.eye(of, dtype=np.float32)[codes]


def transitions(log: Sessions) -> Transitions:
    """States and actions one-hot, a user a session."""
    lengths = np.diff(log.offsets)
    initial = np.zeros(len(log.state), dtype=np.bool_)
    initial[log.offsets[:-1]] = True
    return Transitions(
        one_hot(log.state, 2),
        one_hot(log.action, 3),
        log.reward,
        one_hot(log.next_state, 2),
        log.terminated,
        log.truncated,
        initial,
        np.repeat(np.arange(len(lengths)), lengths),
        len(lengths),
    )


def would_choose(log: Sessions, policy: Floats) -> Choices:
    return channel_choices(policy[log.state], policy[log.next_state])
