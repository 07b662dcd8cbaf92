"""The gate of a fusion policy's value: what the log never did is refused, what it did is told."""

from dataclasses import replace

import numpy as np
import pytest
from feed_logs import bandit

from headrace.errors import UserError
from headrace.fuse.actions import Actions
from headrace.fuse.bo import static
from headrace.fuse.value import MOST_CHANGE, as_drawn, directed, directed_act, own_values, support, value
from headrace.ope.fitted import OnPolicy
from headrace.ope.fqe import FQEConfig
from headrace.ope.transitions import Transitions

QUICK = FQEConfig(hidden=(16,), ensemble=2, most_steps=1_000, check_every=100, learning_rate=5e-3, average=0.99,
                  gamma=0.9, progress=False)  # fmt: skip


def log(n: int = 600) -> Transitions:
    """Sessions of one request, weights within .2 of 0, rewards that grow with the first of them."""
    rng = np.random.default_rng(0)
    action = rng.uniform(-0.2, 0.2, (n, 2)).astype(np.float32)
    replay = bandit(action, action[:, 0] + 0.05 * rng.standard_normal(n))
    one = np.ones(n, dtype=np.bool_)
    state = replay.state.numpy()
    reward = replay.scale * replay.reward.numpy().astype(np.float64)
    return Transitions(state, action, reward, 0 * state, one, ~one, one, np.arange(n), n)


def test_a_policy_within_the_log_is_valued_and_one_beyond_it_is_refused():
    of, five = log(), replace(QUICK, ensemble=5)
    own = own_values(of, five)
    near, far = (value(static(np.array(at)), of, five, own) for at in ([0.1, 0.0], [0.3, 0.0]))
    assert near.far < 0.2 and far.far == 1.0
    assert near.estimates["value_fqe"].value == pytest.approx(0.1, abs=0.05)
    for estimate in far.estimates.values():
        assert estimate.value is None and "lie where the log has none" in str(estimate.refused)


def test_a_policy_of_small_weights_does_what_large_ones_of_the_same_direction_did():
    """Weights that rank alike are one action: a ring of logged ones, and a policy deep inside it."""
    rng = np.random.default_rng(0)
    angle, one = rng.uniform(-np.pi, np.pi, 800), np.ones(800, dtype=np.bool_)
    action = (rng.uniform(0.7, 0.8, 800) * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)
    state = np.zeros((800, 1), dtype=np.float32)
    reward = 1 + np.cos(angle) + 0.05 * rng.standard_normal(800)
    of = Transitions(state, action, reward, state, one, ~one, one, np.arange(800), 800)
    space, act = Actions((-1.0, -1.0), (1.0, 1.0)), static(np.array([0.05, 0.0]))
    seen = directed(of, space)
    found = value(directed_act(act, space), seen, QUICK, own_values(seen, QUICK), ("value_fqe",))
    assert found.far < 0.2 and found.estimates["value_fqe"].value == pytest.approx(2.0, abs=0.1)
    raw = value(act, of, QUICK, own_values(of, QUICK), ("value_fqe",))
    assert raw.far == 1.0  # box and all, the log seems never to have been there


def test_a_value_that_the_log_cannot_tell_is_refused():
    few = replace(log(40), reward=np.random.default_rng(1).standard_normal(40))
    own = {"value_fqe": OnPolicy(0.0, 0.0, -1.0, 1.0, True, 40)}
    policy, five = static(np.array([0.1, 0.0])), replace(QUICK, ensemble=5)
    slow = replace(five, learning_rate=1e-3, weight_decay=1.0)
    told = value(policy, few, slow, own, ("value_fqe",)).estimates["value_fqe"]
    assert told.value is None and "the log cannot tell" in str(told.refused)
    many = value(policy, log(), five, own, ("value_fqe",)).estimates["value_fqe"]
    assert many.value is not None


def test_distances_need_a_log():
    with pytest.raises(UserError, match="at least 2 logged decisions"):
        support(np.zeros((3, 2), np.float32), np.zeros((1, 2), np.float32))


def test_the_conservative_estimators_own_check_has_its_penalty():
    """Weights that hang on the state: what users did elsewhere the log never did here, so a heavy penalty shows."""
    of, side = log(), np.where(np.arange(600) % 2, 1.0, -1.0).astype(np.float32)[:, None]
    of = replace(of, state=side, action=of.action / 4 + 0.2 * side, group=np.arange(600) // 6, groups=100)
    heavy = own_values(of, replace(QUICK, alpha=1.0))
    assert heavy["value_fqe"].covers and not heavy["value_cfqe"].covers
    assert heavy["value_cfqe"].estimated < heavy["value_fqe"].estimated - 0.1


def test_the_log_may_as_well_have_done_what_the_same_user_did_elsewhere():
    of = replace(log(), group=np.random.default_rng(1).integers(50, size=600), groups=50)
    here, share = as_drawn(of).here(np.arange(600))
    assert np.allclose(share.sum(axis=1), 1.0)
    for row in range(600):
        own = of.action[of.group == of.group[row]]
        assert (here[row][:, None] == own).all(axis=2).any(axis=1).all()
    after, _ = as_drawn(of).after(np.arange(599))
    assert np.array_equal(after, here[1:])


def test_a_value_tells_its_fits_and_one_that_still_moves_is_refused():
    of = log()
    own = own_values(of, QUICK)
    rested, moving = (
        value(static(np.array([0.1, 0.0])), of, replace(QUICK, **change), own, ("value_fqe",)).estimates["value_fqe"]
        for change in ({"ensemble": 5}, {"most_steps": 20, "check_every": 2})
    )
    told = rested.diagnostics
    assert rested.value is not None and told["late_change"] < MOST_CHANGE
    assert told["fits"] == 5 and 0 < told["fit_spread"] < 0.05
    assert moving.value is None and "had not come to rest" in str(moving.refused)
    assert moving.diagnostics["late_change"] > MOST_CHANGE and not moving.diagnostics["converged"]
    unseen = value(static(np.array([0.1, 0.0])), of, replace(QUICK, most_steps=5), own, ("value_fqe",))
    assert "had not come to rest" in str(unseen.estimates["value_fqe"].refused)  # looked at once alone
