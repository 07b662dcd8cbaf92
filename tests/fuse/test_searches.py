"""The searches of fusion weights."""

from collections.abc import Sequence

import numpy as np

from headrace.fuse import bo, es
from headrace.fuse.policy import Act
from headrace.journeys.seams import Floats


class Asked:
    """An objective that keeps what it was asked about: the actions of all members in one state."""

    def __init__(self) -> None:
        self.actions: list[Floats] = []

    def __call__(self, policies: Sequence[Act]) -> Floats:
        found = np.concatenate([act(np.ones((1, 4), np.float32)) for act in policies])
        self.actions.append(found)
        return -np.abs(found - 0.5).sum(axis=1)


def test_both_searches_start_at_the_middle_of_the_box():
    first, mirrored = Asked(), Asked()
    _, points, _ = bo.search(first, 3, bo.BOConfig(first=3, trials=4, proposals=50))
    assert points[0].tolist() == first.actions[0][0].tolist() == [0.0, 0.0, 0.0]
    es.search(mirrored, np.ones((4, 2)), 3, es.ESConfig(views=2, members=6, sd=0.05, generations=1))
    assert np.allclose(mirrored.actions[0].mean(axis=0), 0.0, atol=1e-6)


def test_both_searches_near_a_better_point():
    at, _, _ = bo.search(Asked(), 2, bo.BOConfig(first=6, trials=20, proposals=400))
    assert np.abs(at - 0.5).sum() < 0.5
    history = es.search(Asked(), np.zeros((4, 1)), 2, es.ESConfig(views=1, members=12, generations=8))[1]
    assert history[-1] > history[0] + 0.5
