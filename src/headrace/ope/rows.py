"""Rows of transitions as batches of tensors for N networks side by side, and Q of all rows, each by its own networks.

n rows, N networks = F folds x E ensemble members (network f E + e is member e of fold f), B rows, k actions a row, S
state and A action features.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from headrace.journeys.seams import Floats, Integers
from headrace.learn import updates
from headrace.ope.q_net import QNets
from headrace.ope.transitions import Actions, Choices, Transitions

AT_ONCE = 4_096  # rows of a fold that are evaluated together


class Rows:
    """Gathers batches; rewards are divided by `scale`, and what the networks say is multiplied by it."""

    def __init__(self, of: Transitions, choices: Choices, scale: float):
        self.choices = choices
        self.scale = scale
        self.n = len(of)
        self.state = torch.from_numpy(np.ascontiguousarray(of.state, dtype=np.float32))  # (n, S)
        self.next_state = torch.from_numpy(np.ascontiguousarray(of.next_state, dtype=np.float32))
        self.action = torch.from_numpy(np.ascontiguousarray(of.action, dtype=np.float32))  # (n, A)
        self.reward = torch.from_numpy((of.reward / scale).astype(np.float32))
        self.terminated = torch.from_numpy(of.terminated)

    def logged(self, rows: Integers) -> tuple[Tensor, Tensor]:
        """(N, B) rows -> states (N, B, S), logged actions (N, B, 1, A)."""
        at = torch.from_numpy(rows)
        return self.state[at], self.action[at][:, :, None]

    def here(self, rows: Integers) -> tuple[Tensor, Tensor, Tensor]:
        """(N, B) rows -> states, the logged action and then the policy's (N, B, 1 + k, A), the latter's weights."""
        state, logged = self.logged(rows)
        actions, weights = _shaped(self.choices.here(rows.ravel()), rows.shape)
        return state, torch.cat([logged, actions], dim=2), weights

    def after(self, rows: Integers) -> tuple[Tensor, Tensor, Tensor]:
        """(N, B) rows -> next states, the policy's actions there (N, B, k, A) and their weights (N, B, k)."""
        actions, weights = _shaped(self.choices.after(rows.ravel()), rows.shape)
        return self.next_state[torch.from_numpy(rows)], actions, weights

    @torch.no_grad()
    def values(self, nets: QNets, rows: Integers, ensemble: int) -> tuple[Floats, Floats, Floats]:
        """(F, B) rows, fold by fold -> Q(s, a), V(s), V(s') by each member, (F, E, B), in the reward's unit."""
        state, actions, weights = (x.repeat_interleave(ensemble, 0) for x in self.here(rows))
        q = nets(state, actions)
        v = updates.expected_value(q[..., 1:], weights)
        state, actions, weights = (x.repeat_interleave(ensemble, 0) for x in self.after(rows))
        v_next = updates.expected_value(nets(state, actions), weights)

        def told(x: Tensor) -> Floats:
            return np.asarray(self.scale * x.double().numpy()).reshape(len(rows), ensemble, -1)

        return told(q[..., 0]), told(v), told(v_next)

    def everywhere(self, nets: QNets, fold: Integers, ensemble: int) -> tuple[Floats, Floats, Floats]:
        """`values` of all rows, each by the networks of its fold: (E, n) each."""
        found = np.empty((3, ensemble, self.n))
        for rows in _side_by_side(fold):
            of_fold = np.stack(self.values(nets, rows, ensemble))  # (3, F, E, B)
            found[:, :, rows] = of_fold.swapaxes(1, 2)
        return found[0], found[1], found[2]


def _shaped(actions: Actions, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """(N B, k, A), (N B, k) -> (N, B, k, A), (N, B, k)."""
    a, w = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in actions)
    return a.view(*shape, *a.shape[1:]), w.view(*shape, -1)


def _side_by_side(fold: Integers) -> Iterator[Integers]:
    """The rows of F folds as (F, B) at a time; the shorter folds repeat their last rows."""
    parts = [np.flatnonzero(fold == f) for f in range(int(fold.max()) + 1)]
    longest = max(len(part) for part in parts)
    for first in range(0, longest, AT_ONCE):
        places = np.arange(first, min(first + AT_ONCE, longest))
        yield np.stack([part[np.minimum(places, len(part) - 1)] for part in parts])
