"""A log's sessions as transitions, and the replay that learners draw from.

An episode is a session. It is terminated where the user left, truncated where it was cut; either may be a column of the
log, and then the other is what is left. Without them a session's last request is terminated, but for the user's last
one in the log, after which more may come.

n rows, S state features, K fusion weights, B rows of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headrace.errors import UserError
from headrace.fuse.actions import Actions, Form
from headrace.fuse.state import Floats32
from headrace.journeys.schema import Candidates
from headrace.journeys.seams import Bools, Floats, Integers
from headrace.journeys.statistics import gain_values
from headrace.journeys.store import Journeys
from headrace.ope.transitions import Transitions


def lacking(journeys: Journeys) -> list[str]:
    """What a decision log needs and this one does not hold, in words; propensities are needed for a value alone."""
    lists = journeys.schema.candidates
    scores = lists.scores if lists else ()
    lacks = [] if lists else ["candidate lists"]
    lacks += [] if scores else ["predicted scores"]
    lacks += [] if scores and all(journeys.has(f"action/{name}") for name in scores) else ["fusion weights"]
    lacks += [] if journeys.has("session") else ["sessions"]
    return lacks + ([] if journeys.has("log_propensity") else ["propensities"])


def scores_of(journeys: Journeys) -> tuple[str, ...]:
    """The K scores that the log's fusion weights belong to; UserError names what a log without them lacks."""
    return candidates_of(journeys).scores


def candidates_of(journeys: Journeys) -> Candidates:
    """What the schema tells of the lists of a decision log; UserError names what a log that is none lacks."""
    lacks = lacking(journeys)
    if lacks not in ([], ["propensities"]):
        raise UserError(
            f"{journeys.path}: the log lacks {', '.join(lacks)}; a fusion policy is learnt from a decision log that "
            "holds them (docs/fuse.md), for example one of  headrace simulate feed --policy groups"
        )
    assert journeys.schema.candidates is not None
    return journeys.schema.candidates


def actions_of(journeys: Journeys, form: Form = "box") -> Actions:
    """The space of the log's fusion weights: its declared box, or the range of what was done."""
    names = scores_of(journeys)

    def edge(kind: str, of: str) -> tuple[float, ...]:
        column = [journeys.column(f"{kind if journeys.has(f'{kind}/{n}') else 'action'}/{n}") for n in names]
        return tuple(float(c.min() if of == "low" else c.max()) for c in column)

    low, high = edge("low", "low"), edge("high", "high")
    spread = [max(h - lo, 1e-6) for lo, h in zip(low, high, strict=True)]
    return Actions(low, tuple(lo + s for lo, s in zip(low, spread, strict=True)), form)


def logged_weights(journeys: Journeys, rows: Integers) -> Floats:
    """(n, K) the fusion weights of these rows."""
    return np.stack([journeys.column(f"action/{n}")[rows].astype(np.float64) for n in scores_of(journeys)], axis=1)


def rewards(journeys: Journeys, rows: Integers, weights: dict[str, float]) -> Floats:
    """(n,) sum_i w_i v_i of (2); a gain that is missing counts as nothing."""
    total = np.zeros(len(rows))
    for name, weight in weights.items():
        total += weight * np.nan_to_num(gain_values(journeys.schema.gain(name), journeys.gain(name)[rows]))
    return total


def whole(journeys: Journeys, rows: Integers) -> Integers:
    """Those of ascending rows whose sessions begin among them: one that a split cut at its front has no start to be
    valued from."""
    initial = _initial(journeys, rows)
    session, first = journeys.column("session"), rows[initial]
    before = np.maximum(first - 1, 0)
    opened = first == journeys.offsets[journeys.users_of(first)]
    opened |= (session[before] != session[first]) | (session[first] == -1)
    kept: Integers = rows[opened[np.cumsum(initial) - 1]]
    return kept


def _initial(journeys: Journeys, rows: Integers) -> Bools:
    """(n,) which of ascending rows open a session, or go on with one behind a gap."""
    session, users = journeys.column("session")[rows], journeys.users_of(rows)
    other = (session[1:] != session[:-1]) | (session[1:] == -1)  # a row without a session is one of its own
    found: Bools = np.append(True, (users[1:] != users[:-1]) | other | (np.diff(rows) != 1))
    return found


def transitions(
    journeys: Journeys, rows: Integers, state: Floats32, actions: Actions, reward_weights: dict[str, float]
) -> Transitions:
    """The rows' sessions as episodes; `rows` ascend, `state` (n, S) holds what stood before each."""
    every, users, initial = journeys.column("session"), journeys.users_of(rows), _initial(journeys, rows)
    session = every[rows]
    last = np.append(initial[1:], True)
    if journeys.has("terminated"):
        terminated = last & (np.asarray(journeys.column("terminated")[rows]) > 0)
    elif journeys.has("truncated"):
        terminated = last & ~(np.asarray(journeys.column("truncated")[rows]) > 0)
    else:
        goes_on = rows != journeys.offsets[users + 1] - 1  # the user, in the log
        after = every[np.where(goes_on, rows + 1, rows)]
        terminated = goes_on & ((after != session) | (after == -1))  # where these rows cut a session, it has not ended
    following = np.full_like(state, np.nan)
    following[:-1][~last[:-1]] = state[1:][~last[:-1]]
    following[terminated] = 0.0
    _, code = np.unique(users, return_inverse=True)
    return Transitions(
        state,
        actions.scaled(logged_weights(journeys, rows)).astype(np.float32),
        rewards(journeys, rows, reward_weights),
        following,
        terminated,
        last & ~terminated,
        initial,
        code.astype(np.int64),
        int(code.max()) + 1,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions; rewards are in the replay's scale."""

    state: Tensor  # (B, S)
    action: Tensor  # (B, K) in [-1, 1]
    reward: Tensor  # (B,)
    next_state: Tensor  # (B, S)
    terminated: Tensor  # (B,) bool


class Replay:
    """The last `size` transitions with a known next state; a fixed queue, as a daily refit fills it."""

    def __init__(self, of: Transitions, size: int = 100_000, when: Floats | None = None):
        """`when` (n,): the time of each transition; without it the last ones are the last in the log's order.

        UserError where no row's next state is known.
        """
        rows = np.flatnonzero(of.known_next())
        if when is not None and len(rows) > size:
            rows = np.sort(rows[np.argsort(when[rows], kind="stable")[-size:]])
        rows = rows[-size:]
        if not len(rows):
            raise UserError("transitions: no row with a known next state to learn from; give more or longer sessions")
        self.scale = float(of.reward[rows].std()) or 1.0
        self.rows = rows
        self.state = torch.from_numpy(np.ascontiguousarray(of.state[rows]))
        self.action = torch.from_numpy(np.ascontiguousarray(of.action[rows]))
        self.reward = torch.from_numpy((of.reward[rows] / self.scale).astype(np.float32))
        self.next_state = torch.from_numpy(np.ascontiguousarray(of.next_state[rows]))
        self.terminated = torch.from_numpy(of.terminated[rows])

    @classmethod
    def empty(cls, state: Tensor, action: Tensor) -> "Replay":
        """One row of zeros of these widths, to build networks for loaded weights."""
        one = np.ones(1, dtype=np.bool_)
        zero = np.zeros(1)
        shape = state.numpy(), action.numpy(), zero, state.numpy(), one, ~one, one, np.zeros(1, dtype=np.int64), 1
        return cls(Transitions(*shape))

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, rows: Tensor) -> Batch:
        return Batch(
            self.state[rows], self.action[rows], self.reward[rows], self.next_state[rows], self.terminated[rows]
        )

    def batches(self, size: int, count: int, seed: int) -> Iterator[Batch]:
        """`count` batches drawn with replacement, a function of the seed."""
        chance = torch.Generator().manual_seed(seed)
        for _ in range(count):
            yield self.at(torch.randint(len(self), (size,), generator=chance))
