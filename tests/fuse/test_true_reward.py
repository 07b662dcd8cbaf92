"""The truth of a policy in the unit of its estimates: the discounted reward of its sessions."""

from pathlib import Path

import numpy as np
import pytest
from feed_logs import FEED

from headrace.errors import UserError
from headrace.fuse.acting import Fixed, together, world_box
from headrace.fuse.bo import static
from headrace.fuse.comparing import _bias
from headrace.fuse.replay import rewards
from headrace.journeys.seams import Estimate
from headrace.simulate.feed_log import simulate_feed

SPACE = world_box(FEED)
WEIGHTS = {"dwell_s": 1.0, "like": 5.0, "returned": 7.0}


def test_the_true_reward_a_session_is_that_of_the_log_the_same_policy_writes(tmp_path: Path):
    action = np.linspace(-0.5, 0.5, SPACE.size)
    acting = Fixed(SPACE.weights(action[None])[0], SPACE)
    log = simulate_feed(FEED, 30, 3, acting, 5, tmp_path / "j", lists="none")
    gained = rewards(log, np.arange(log.n_steps), WEIGHTS)
    session, users = np.asarray(log.column("session")), log.users_of(np.arange(log.n_steps))
    starts = np.flatnonzero(np.append(True, (session[1:] != session[:-1]) | (users[1:] != users[:-1])))
    for gamma in (0.9, 1.0):
        place = np.arange(log.n_steps) - np.repeat(starts, np.diff(np.append(starts, log.n_steps)))
        of_sessions = np.add.reduceat(gamma**place * gained, starts)
        (found,) = together(FEED, [static(action)], np.arange(30), 3, 5, SPACE, None, WEIGHTS, gamma)
        assert found["reward_per_session"].value == pytest.approx(of_sessions.mean(), rel=1e-5)


def test_a_value_without_a_reward_has_no_such_figure():
    (found,) = together(FEED, [static(np.zeros(SPACE.size))], np.arange(4), 1, 0, SPACE)
    with pytest.raises(UserError, match="reward_per_session"):
        found["reward_per_session"]


def test_a_bias_has_the_errors_of_both_and_a_refused_estimate_has_none():
    truth = Estimate(10.0, 7.0, 13.0, 50)
    bias = _bias(Estimate(12.0, 8.0, 16.0, 20), truth)
    assert (bias.value, bias.low, bias.high) == (2.0, -3.0, 7.0)
    refused = _bias(Estimate(None, None, None, 20, refused="too far"), truth)
    assert refused.value is None and refused.refused == "too far"
