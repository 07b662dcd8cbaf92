"""Exploration: densities are exact, groups stay, equal trajectories; the log holds what was drawn."""

from pathlib import Path

import numpy as np
import pytest
from feed_logs import FEED
from scipy import integrate

from headrace.errors import UserError
from headrace.fuse.acting import Fixed, world_box
from headrace.fuse.exploration import Exploration, Kind, balanced, group
from headrace.simulate.feed_log import simulate_feed

LOW, HIGH = np.array([-1.0]), np.array([1.0])


@pytest.mark.parametrize("kind", ["action-noise", "bounded"])
@pytest.mark.parametrize("mean", [-1.0, 0.3, 1.0])
def test_the_density_of_a_drawn_weight_integrates_to_one_over_the_box(mean: float, kind: Kind):
    exploration = Exploration(kind, noise_sd=0.3)

    def density(luck: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(luck)
        made = exploration.draw(np.arange(n), np.full((n, 1), mean), luck[:, None], LOW, HIGH)
        return made.action[:, 0], np.exp(made.log_propensity)

    at, height = density(np.linspace(1e-6, 1 - 1e-6, 4001))
    assert (at >= -1).all() and (at <= 1).all()
    assert integrate.trapezoid(height, at) == pytest.approx(1.0, abs=1e-3)


def test_a_users_group_follows_from_its_id_alone():
    ids = np.arange(4_000)
    mixed = Exploration("mixed").is_random(ids)
    assert mixed.mean() == pytest.approx(0.5, abs=0.03)
    assert np.array_equal(mixed[17:19], Exploration("mixed").is_random(ids[17:19]))
    assert not np.array_equal(group(ids, 0) < 0.5, group(ids, 1) < 0.5)
    assert Exploration("random").is_random(ids).all() and not Exploration("action-noise").is_random(ids).any()


def test_the_random_group_ignores_the_policy_and_the_other_stays_near_it():
    ids = np.arange(2_000)
    policy = np.full((2_000, 1), 0.8)
    luck = np.random.default_rng(0).random((2_000, 1))
    made = Exploration("mixed").draw(ids, policy, luck, LOW, HIGH)
    wide = Exploration("mixed").is_random(ids)
    assert abs(made.action[wide].mean()) < 0.05
    assert np.abs(made.action[~wide] - 0.8).mean() < 0.12


def test_bounded_exploration_stays_in_its_band_and_in_the_box():
    luck = np.random.default_rng(0).random((2_000, 2))
    policy = np.tile([0.5, 0.95], (2_000, 1))
    low, high = np.array([-2.0, -1.0]), np.array([2.0, 1.0])
    made = Exploration("bounded", band=0.2).draw(np.arange(2_000), policy, luck, low, high)
    assert made.action.min(axis=0) == pytest.approx([0.1, 0.75], abs=0.01)
    assert made.action.max(axis=0) == pytest.approx([0.9, 1.0], abs=0.01)
    assert made.log_propensity == pytest.approx(np.full(2_000, -np.log(0.8 * 0.25)))


def test_training_takes_equally_many_sessions_of_both_groups(tmp_path: Path):
    exploration = Exploration("mixed")
    log = simulate_feed(FEED, 60, 3, Fixed(np.zeros(12), world_box(FEED), exploration), 0, tmp_path / "j", lists="none")
    wide = exploration.is_random(log.users)
    rows = balanced(log, np.arange(log.n_steps), wide)
    users = log.users_of(rows)
    session = np.asarray(log.column("session"))[rows]
    counted = {side: len({(u, s) for u, s in zip(users[of], session[of], strict=True)})
               for side, of in ((True, wide[users]), (False, ~wide[users]))}  # fmt: skip
    assert counted[True] == counted[False] > 10
    whole = dict.fromkeys(zip(users, session, strict=True), 0)
    for u, s in zip(log.user_of_step, log.column("session"), strict=True):
        if (u, s) in whole:
            whole[u, s] += 1
    assert sum(whole.values()) == len(rows)  # sessions are taken whole


def test_noise_of_none_and_unknown_kinds_are_mistakes():
    with pytest.raises(UserError, match="standard deviations"):
        Exploration(noise_sd=0.0)
    with pytest.raises(UserError, match="did you mean 'mixed'"):
        Exploration("mixt")  # type: ignore[arg-type]
