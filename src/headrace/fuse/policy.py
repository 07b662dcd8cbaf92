"""A fitted fusion policy: histories to fusion weights.

B histories, n states, S state features, K weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headrace.fuse.actions import Actions, Form, point
from headrace.fuse.state import Floats32, State
from headrace.journeys.seams import Box, Decisions, Floats, History

Act = Callable[[Floats32], Floats32]  # states (n, S) -> scaled actions (n, K)
AT_ONCE = 8_192


def numpy_act(act: Callable[[Tensor], Tensor]) -> Act:
    """A network's policy over arrays."""

    def of(state: Floats32) -> Floats32:
        parts = [
            act(torch.from_numpy(np.ascontiguousarray(state[i : i + AT_ONCE]))) for i in range(0, len(state), AT_ONCE)
        ]
        return torch.cat(parts).numpy().astype(np.float32)

    return of


def points_of(act: Act, form: Form) -> Act:
    """The policy with each action as the point of the space that it stands for, which estimators' critics see."""
    return lambda state: point(torch.from_numpy(act(state)), form).numpy()


@dataclass(frozen=True, slots=True)
class FusionPolicy:
    """Weights that are a certain function of the state; explored by exploration.py."""

    state: State
    space: Actions
    of_states: Act

    @property
    def actions(self) -> Box:
        return Box(np.array(self.space.low), np.array(self.space.high))

    def weights(self, histories: History) -> Floats:
        """(B, K) fusion weights."""
        return self.weights_of(self.state.of_histories(histories))

    def weights_of(self, states: Floats32) -> Floats:
        """(n, K) fusion weights at states (n, S)."""
        return self.space.weights(self.of_states(states))

    def act(self, histories: History, rng: np.random.Generator) -> Decisions:
        """The weights; nothing is drawn, so the log of their probability is 0."""
        weights = self.weights(histories)
        return Decisions(weights, np.zeros(len(weights)), weights, (self.actions.low, self.actions.high))

    def log_prob(self, histories: History, actions: NDArray[Any]) -> Floats:
        """0 for the very weights, -inf for others: the policy has no density."""
        same = np.isclose(self.weights(histories), actions, atol=1e-9).all(axis=1)
        return np.where(same, 0.0, -np.inf)
