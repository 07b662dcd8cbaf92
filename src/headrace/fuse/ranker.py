"""The ranker: predictor + policy + fusion -> the best k candidates of each request.

B requests, C candidates, K scores.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.fuse.exploration import Exploration
from headrace.fuse.fusion import NEGATIVE, Fusion, oriented, top
from headrace.fuse.policy import FusionPolicy
from headrace.journeys.seams import Decisions, Floats, History, Integers, Predictor


@dataclass(frozen=True, slots=True)
class Ranker:
    """Ranks candidates by fused predictions. `scores` names the K behaviours in the order of the weights."""

    policy: FusionPolicy
    fusion: Fusion
    scores: tuple[str, ...]
    predictor: Predictor | None = None
    k: int = 10
    exploration: Exploration | None = None
    negative: tuple[str, ...] = NEGATIVE

    def rank(
        self,
        histories: History,
        candidates: dict[str, NDArray[Any]],
        rng: np.random.Generator,
        users: NDArray[Any] | None = None,
    ) -> tuple[Integers, Decisions]:
        """(B, k) candidates, best first (-1 where there are fewer), and the weights with their log density.

        `candidates` holds what the predictor reads, (B, C) each, or without one the scores under their own names, NaN
        where a list is shorter. With exploration `users` are the ids that decide the group.
        """
        scores = self.predictions(histories, candidates)
        decided = self.policy.act(histories, rng)
        if self.exploration is not None:
            if users is None:
                raise UserError("ranker: exploration needs the users' ids, which decide their group; hand them in")
            box = self.policy.actions
            decided = self.exploration.draw(users, decided.action, rng.random(decided.action.shape), box.low, box.high)
        return top(self.fuse(scores, decided.action), self.k), decided

    def predictions(self, histories: History, candidates: dict[str, NDArray[Any]]) -> Floats:
        """(B, C, K) in the order of the weights."""
        if self.predictor is None:
            missing = [name for name in self.scores if name not in candidates]
            if missing:
                raise UserError(f"ranker: no scores of {', '.join(missing)} and no predictor; hand in one of them")
            return np.stack([np.asarray(candidates[name], dtype=np.float64) for name in self.scores], axis=-1)
        known = self.predictor.behaviours
        missing = [name for name in self.scores if name not in known]
        if missing:
            raise UserError(
                f"ranker: the predictor has no {', '.join(missing)} among {', '.join(known)}; "
                "train one on these behaviours"
            )
        order = [known.index(name) for name in self.scores]
        return np.asarray(self.predictor.predict(histories, candidates))[..., order]

    def fuse(self, scores: Floats, weights: Floats) -> Floats:
        """(B, C) the fused scores; on a simplex of oriented ones."""
        if self.policy.space.form == "simplex":
            scores = oriented(scores, np.array([name in self.negative for name in self.scores]))
        return self.fusion(scores, weights)
