"""The ranker: scores and states in, the best candidates out."""

from typing import Any, cast

import numpy as np
import pytest

from headrace.fuse.actions import Actions, Form
from headrace.fuse.fusion import Weighted
from headrace.fuse.policy import FusionPolicy
from headrace.fuse.ranker import Ranker


def ranker(form: Form, low: float, k: int) -> Ranker:
    """The first score counts for states below 0, the second for the others; of `exit` less is better."""

    def act(state: Any) -> Any:
        return np.where(state[:, :1] < 0, np.array([[1.0, -1.0]]), np.array([[-1.0, 1.0]])).astype(np.float32)

    policy = FusionPolicy(cast(Any, None), Actions((low, low), (1.0, 1.0), form), act)
    return Ranker(policy, Weighted(), ("click", "exit"), k, ("exit",))


@pytest.mark.parametrize(("form", "low", "second"), [("box", 0.0, [1, 2]), ("simplex", 0.0, [0, 2])])
def test_a_ranker_weighs_by_the_state_and_orients_scores_on_a_simplex_alone(form: Form, low: float, second: list[int]):
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.5]])
    chosen, fused = ranker(form, low, 2).rank(np.array([[-1.0], [1.0]], np.float32), np.stack([scores, scores]))
    assert chosen.tolist() == [[0, 2], second]
    assert np.allclose(fused[0], [0.9, 0.2, 0.3])


def test_a_shorter_list_leaves_places_empty():
    scores = np.array([[[0.1, 0.0], [0.7, 0.0], [np.nan, np.nan]]])
    assert ranker("box", 0.0, 3).rank(np.array([[-1.0]], np.float32), scores)[0].tolist() == [[1, 0, -1]]
