"""The ranker: scores that a predictor gave, weighed by a policy and fused -> the best k candidates of each request.

B requests, C candidates, K scores, S state features.
"""

from dataclasses import dataclass

import numpy as np

from headrace.fuse.fusion import NEGATIVE, Fusion, oriented, top
from headrace.fuse.policy import FusionPolicy
from headrace.fuse.state import Floats32
from headrace.journeys.seams import Floats, Integers


@dataclass(frozen=True, slots=True)
class Ranker:
    """Ranks candidates by fused predictions. `scores` names the K behaviours in the order of the weights."""

    policy: FusionPolicy
    fusion: Fusion
    scores: tuple[str, ...]
    k: int = 10
    negative: tuple[str, ...] = NEGATIVE  # of which less is better

    def rank(self, states: Floats32, scores: Floats) -> tuple[Integers, Floats]:
        """(B, S), (B, C, K) -> (B, k) candidates, best first (-1 where there are fewer), and the fused scores (B, C).

        Scores are NaN where a list is shorter than C. On a simplex they are oriented first: more is better in all.
        """
        weights = self.policy.weights_of(states)
        if self.policy.space.form == "simplex":
            scores = oriented(scores, np.array([name in self.negative for name in self.scores]))
        fused = self.fusion(scores, weights)
        return top(fused, self.k), fused
