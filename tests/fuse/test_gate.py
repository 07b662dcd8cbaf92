"""The gate of a fusion policy's value: what the log never did is refused, what it did is told."""

from dataclasses import replace

import numpy as np
import pytest
from feed_logs import bandit

from headrace.errors import UserError
from headrace.fuse.actions import Actions
from headrace.fuse.bo import static
from headrace.fuse.value import MOST_CHANGE, as_drawn, directed, directed_act, own_values, support, value
from headrace.ope.fqe import FQEConfig
from headrace.ope.transitions import Transitions

QUICK = FQEConfig(hidden=(16,), ensemble=2, most_steps=1_000, check_every=100, learning_rate=5e-3, average=0.99,
                  gamma=0.9, progress=False)  # fmt: skip
SPACE = Actions((-1.0, -1.0), (1.0, 1.0))


def log(n: int = 600) -> Transitions:
    """Sessions of one request, weights within .2 of 0, rewards that grow with the first of them."""
    rng = np.random.default_rng(0)
    action = rng.uniform(-0.2, 0.2, (n, 2)).astype(np.float32)
    replay = bandit(action, action[:, 0] + 0.05 * rng.standard_normal(n))
    one = np.ones(n, dtype=np.bool_)
    state = replay.state.numpy()
    reward = replay.scale * replay.reward.numpy().astype(np.float64)
    return Transitions(state, action, reward, 0 * state, one, ~one, one, np.arange(n), n)


def ring(widest: float) -> Transitions:
    """Sessions of one request, weights of .7 to .8 up to `widest` from (1, 0) in angle, rewards 1 + its cosine."""
    rng = np.random.default_rng(0)
    angle, one = rng.uniform(-widest, widest, 800), np.ones(800, dtype=np.bool_)
    action = (rng.uniform(0.7, 0.8, 800) * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)
    state = np.zeros((800, 1), dtype=np.float32)
    reward = 1 + np.cos(angle) + 0.05 * rng.standard_normal(800)
    return Transitions(state, action, reward, state, one, ~one, one, np.arange(800), 800)


def test_a_policy_within_the_log_is_valued_and_one_beyond_it_is_refused():
    of, five = directed(ring(1.0), SPACE), replace(QUICK, ensemble=5)
    own = own_values(of, five)
    near, far = (
        value(directed_act(static(np.array([np.cos(angle), np.sin(angle)])), SPACE), of, five, own)
        for angle in (0.5, 2.0)
    )
    assert (near.far, far.far) == (0.0, 1.0)
    assert near.estimates["value_fqe"].value == pytest.approx(1 + np.cos(0.5), abs=0.1)
    for estimate in far.estimates.values():
        assert estimate.value is None and "the log holds hardly any" in str(estimate.refused)


def test_a_few_random_decisions_are_no_support():
    """Of twelve weights random ones come near any direction now and then, but too seldom to value it by."""
    rng = np.random.default_rng(0)
    base, random = rng.uniform(-1, 1, 12), rng.uniform(-1, 1, (1_000, 12))
    logged = np.concatenate([base + 0.1 * rng.standard_normal((1_000, 12)), random]).astype(np.float32)
    for policy, far in ((base, 0.0), (-base, 1.0), (random[:500], 1.0)):
        assert support(np.broadcast_to(policy, (500, 12)).astype(np.float32), logged) == pytest.approx(far, abs=0.02)
    assert support(random[:, :2].astype(np.float32), random[:, :2].astype(np.float32)) == 0.0  # of two they do


def test_a_policy_of_small_weights_does_what_large_ones_of_the_same_direction_did():
    """Weights that rank alike are one action: a ring of logged ones, and a policy deep inside it."""
    of, space = ring(np.pi), SPACE
    act = static(np.array([0.05, 0.0]))
    seen = directed(of, space)
    found = value(directed_act(act, space), seen, QUICK, own_values(seen, QUICK), ("value_fqe",))
    assert found.far < 0.2 and found.estimates["value_fqe"].value == pytest.approx(2.0, abs=0.1)
    raw = value(act, of, QUICK, own_values(of, QUICK), ("value_fqe",))
    assert raw.estimates["value_fqe"].value < 1.5  # box and all, it seems to lie amid opposite ones


def test_support_needs_a_log():
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
