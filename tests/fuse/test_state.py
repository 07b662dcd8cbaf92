"""States: the world's memory, a Memory of long histories, and the log give the same bits; nothing of the future."""

from pathlib import Path

import numpy as np
import pytest
from feed_logs import FEED, feed_log

from headrace.fuse.acting import Fixed, Served, together, world_box
from headrace.fuse.exploration import Exploration
from headrace.fuse.policy import FusionPolicy
from headrace.fuse.state import Floats32, State
from headrace.journeys.store import Journeys
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_log import FeedLog, simulate_feed
from headrace.simulate.feed_policies import rollout
from headrace.simulate.feed_value import feed_value


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return feed_log(tmp_path_factory.mktemp("log") / "j", users=30)


@pytest.fixture(scope="module")
def state(log: Journeys) -> State:
    return State.fit(log, np.arange(0, log.n_steps, 2), videos=40)


def policy_of(state: State) -> FusionPolicy:
    """Weights in which every state feature has a part, by sums that do not depend on how many rows there are."""
    places = np.arange(state.size).reshape(-1) % 12

    def act(states: Floats32) -> Floats32:
        out = np.zeros((len(states), 12), dtype=np.float32)
        for column, place in enumerate(places):
            out[:, place] += np.float32(0.1) * states[:, column]
        return out

    return FusionPolicy(state, world_box(FEED), act)


def test_served_weights_are_those_of_the_log_that_serving_writes(state: State, tmp_path: Path):
    policy = policy_of(state)
    acting = Served(policy, Exploration("action-noise"))
    log = simulate_feed(FEED, 25, 4, acting, 3, tmp_path / "j", lists="none")
    rows = np.arange(log.n_steps)
    mean = np.stack([log.column(f"mean/{n}") for n in log.schema.candidates.scores], axis=1)
    assert np.array_equal(policy.space.weights(policy.of_states(state.of_rows(log, rows))), mean)


def test_long_histories_give_the_states_of_the_rows(log: Journeys, state: State):
    rows = np.random.default_rng(1).choice(log.n_steps, 80, replace=False)
    held = log.histories(rows, state.steps)
    assert np.array_equal(state.of_histories(held), state.of_rows(log, rows))


def test_states_do_not_change_when_what_comes_later_is_deleted(state: State, tmp_path: Path):
    world = FeedWorld(FEED, np.arange(20), 0, 4)
    log = FeedLog(world)
    written = {}
    policy = Fixed(np.zeros(12), world_box(FEED), Exploration("random"))
    for step in rollout(world, policy):
        day = world.day
        log.add(step)
        if day != 0 and day not in written:
            written[day] = log.write(tmp_path / f"until-{day}")
    whole = written[max(written)]
    early = written[2]
    at = np.concatenate([np.arange(n) + o for n, o in zip(np.diff(early.offsets), _places(early, whole), strict=True)])
    assert len(at) == early.n_steps < whole.n_steps
    assert np.array_equal(state.of_rows(early, np.arange(early.n_steps)), state.of_rows(whole, at))


def _places(early: Journeys, whole: Journeys) -> list[int]:
    where = {int(u): int(o) for u, o in zip(whole.users, whole.offsets, strict=False)}
    return [where[int(u)] for u in early.users]


def test_policies_valued_together_are_worth_what_each_is_worth_alone(state: State):
    a, b = policy_of(state), np.full(12, 0.3, dtype=np.float32)
    users = np.arange(12)
    both = together(FEED, [a.of_states, lambda s: np.broadcast_to(b, (len(s), 12))], users, 2, 5, a.space, state)
    alone = feed_value(FEED, Served(a), 12, 2, seed=5)
    assert np.array_equal(both[0].per_user["dwell_s"], alone.per_user["dwell_s"])
    fixed = feed_value(FEED, Fixed(a.space.weights(b[None])[0], a.space), 12, 2, seed=5)
    assert np.array_equal(both[1].per_user["dwell_s"], fixed.per_user["dwell_s"])
