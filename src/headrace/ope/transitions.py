"""Transitions (s, a, r, s', end) of logged episodes, and what the policy to be valued would do at each of them.

n rows, S state features, A action features (M channels one-hot, or the coordinates of a point in a box), k actions a
row, G groups, b rows at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.seams import Bools, Floats, Integers

Floats32 = NDArray[np.float32]
Actions = tuple[Floats32, Floats32]  # (b, k, A) and (b, k): actions and their weights, which sum to one in a row


@dataclass(frozen=True, slots=True)
class Transitions:
    """Logged steps, episode after episode, in order within each.

    An episode runs from an initial row to its last, which is terminated (nothing follows) or truncated (the log ends
    or cuts it, more would have followed). The next state of a truncated row may be unknown, NaN: no network is fitted
    on such a row.
    """

    state: Floats32  # (n, S)
    action: Floats32  # (n, A) what was logged
    reward: Floats  # (n,)
    next_state: Floats32  # (n, S) never read where terminated
    terminated: Bools  # (n,)
    truncated: Bools  # (n,)
    initial: Bools  # (n,) the first row of an episode
    group: Integers  # (n,) codes of the users
    groups: int  # G

    def __post_init__(self) -> None:
        if not len(self):
            raise ValueError("no transitions")
        over = self.terminated | self.truncated
        if (over != np.append(self.initial[1:], True)).any() or not self.initial[0]:
            raise ValueError("every episode must begin at an initial row and end at a terminated or truncated one")
        if (self.terminated & self.truncated).any():
            raise ValueError("a row is terminated or truncated, not both")

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def starts(self) -> Integers:
        """(E,) the episodes' first rows."""
        return np.flatnonzero(self.initial)

    @property
    def offsets(self) -> Integers:
        """(E + 1,) where the episodes begin, and n."""
        return np.append(self.starts, len(self))

    def known_next(self) -> Bools:
        """(n,) rows whose target can be formed: what follows is nothing, or known."""
        known: Bools = self.terminated | np.isfinite(self.next_state).all(axis=1)
        return known


@dataclass(frozen=True, slots=True)
class Choices:
    """What a policy would do in the rows' states and next states: functions of row numbers, so that memory is bounded.

    Either the k actions are all there are and the weights their probabilities, or they were sampled from the policy and
    each weight is 1 / k.
    """

    here: Callable[[Integers], Actions]  # rows (b,) -> at state
    after: Callable[[Integers], Actions]  # rows (b,) -> at next state; read only where not terminated
    complete: bool = False  # the k actions are all there are, which the penalty `logsumexp` needs


def choices(here: Actions, after: Actions, complete: bool = False) -> Choices:
    """From arrays of all rows: (n, k, A) and (n, k), at the states and at the next states."""

    def at(actions: Actions) -> Callable[[Integers], Actions]:
        return lambda rows: (actions[0][rows], actions[1][rows])

    return Choices(at(here), at(after), complete)


def channel_choices(here: Floats, after: Floats) -> Choices:
    """Of a policy over M channels, from its probabilities (n, M) at the states and at the next states."""
    channels = np.eye(here.shape[1], dtype=np.float32)

    def at(probabilities: Floats) -> Callable[[Integers], Actions]:
        def of(rows: Integers) -> Actions:
            return (
                np.broadcast_to(channels, (len(rows), *channels.shape)),
                probabilities[rows].astype(np.float32),
            )

        return of

    return Choices(at(here), at(after), complete=True)


def cross_fit(of: Transitions, folds: int, seed: int) -> tuple[Integers, list[Integers]]:
    """(n,) the fold of each row, all rows of a user in the same; and for each fold the rows to fit on: the others'.

    Fewer folds where there are fewer users; with one, all rows are fitted on. UserError where none is left.
    """
    chance = np.random.default_rng(seed)
    users, code = np.unique(of.group, return_inverse=True)
    folds = min(folds, len(users))
    fold = (chance.permutation(len(users)) % folds)[code]
    known = of.known_next()
    train = [np.flatnonzero(known & ((fold != f) | (folds == 1))) for f in range(folds)]
    if not all(len(rows) for rows in train):
        raise UserError("transitions: no row with a known next state is left to fit on; give more or longer episodes")
    return fold, train


def returns(of: Transitions, gamma: float) -> Floats:
    """(E,) the logged discounted returns; a truncated episode's is what the log holds of it."""
    step = np.arange(len(of)) - np.repeat(of.starts, np.diff(of.offsets))
    found: Floats = np.add.reduceat(gamma**step * of.reward, of.starts)
    return found
