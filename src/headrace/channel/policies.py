"""A policy over channels made of a method's scores. B histories, M channels."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from headrace.journeys.seams import Channel, Decisions, Floats, History


class ScorePolicy:
    """A draw from softmax(scores), MTORL (11), or their largest (10) where `stochastic` is false."""

    def __init__(self, scores: Callable[[History], Floats], channels: int, stochastic: bool = True):
        """`scores` gives (B, M) logits at each history's last step."""
        self.scores, self.stochastic = scores, stochastic
        self.actions = Channel(channels)

    def probabilities(self, histories: History) -> Floats:
        """(B, M); forbidden channels have 0."""
        scores = self.scores(histories)
        if histories.allowed is not None:
            scores = np.where(histories.allowed, scores, -np.inf)
        if self.stochastic:
            return np.asarray(softmax(scores, axis=1))
        return np.asarray(np.eye(scores.shape[1])[scores.argmax(axis=1)])

    def act(self, histories: History, rng: np.random.Generator) -> Decisions:
        """A channel for each history, with the logarithm of its probability."""
        p = self.probabilities(histories)
        edges = p.cumsum(axis=1)
        action = (rng.random((len(p), 1)) * edges[:, -1:] >= edges).sum(axis=1)
        return Decisions(action, np.log(p[np.arange(len(p)), action]))

    def log_prob(self, histories: History, actions: NDArray[Any]) -> Floats:
        """(B,) logarithm of the probability of each action; minus infinity where it is forbidden."""
        p = self.probabilities(histories)[np.arange(len(histories)), actions]
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(p))
