"""The learners' updates, each test failing on a wrong form."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from feed_logs import bandit

from headrace.fuse.bcq import BCQConfig, BCQLearner
from headrace.fuse.cql_sac import CQLConfig, CQLLearner
from headrace.fuse.iql import IQLConfig, IQLLearner
from headrace.fuse.learner import Learner
from headrace.fuse.replay import Batch
from headrace.fuse.td3 import TD3Config, TD3Learner
from headrace.fuse.td3_bc import TD3BCConfig, TD3BCLearner
from headrace.fuse.unified import UnifiedConfig, UnifiedLearner
from headrace.fuse.uwac import UWACConfig, UWACLearner
from headrace.learn import updates
from headrace.nn.vae import VAE

SMALL = {"hidden": (16,), "batch": 64, "target_every": 1, "critic_rate": 3e-3, "actor_rate": 3e-3}


def batch(terminated: bool) -> Batch:
    g = torch.Generator().manual_seed(0)
    action = 2 * torch.rand(32, 2, generator=g) - 1
    ended = torch.full((32,), terminated)
    return Batch(torch.ones(32, 1), action, torch.zeros(32), torch.ones(32, 1), ended)


def learner() -> BCQLearner:
    rng = np.random.default_rng(0)
    return BCQLearner(bandit(rng.uniform(-1, 1, (64, 2)), rng.normal(size=64)), BCQConfig(**SMALL))


def test_a_terminated_row_brings_its_reward_and_nothing_after():
    made = learner()
    assert made.target(batch(True)).abs().max() == 0.0
    assert made.target(batch(False)).abs().max() > 0.0


LEARNERS = {
    BCQLearner: BCQConfig(**SMALL),
    TD3Learner: TD3Config(**SMALL),
    TD3BCLearner: TD3BCConfig(**SMALL),
    UWACLearner: UWACConfig(**SMALL),
    UnifiedLearner: UnifiedConfig(**SMALL),
    IQLLearner: IQLConfig(**SMALL),
    CQLLearner: CQLConfig(**SMALL, alpha=0.0),  # its penalty tries pi(s') as one more action at s
}


@pytest.mark.parametrize("kind", LEARNERS)
def test_what_follows_a_terminated_row_moves_no_methods_critics_and_what_follows_another_does(kind: type[Learner]):
    rng = np.random.default_rng(0)

    def critics(terminated: bool, then: float) -> torch.Tensor:
        made = kind(bandit(rng.uniform(-1, 1, (64, 2)), rng.normal(size=64)), LEARNERS[kind])
        given = batch(terminated)
        torch.manual_seed(0)
        made.step(replace(given, next_state=then * given.next_state))
        return torch.cat([weight.detach().ravel() for weight in made.critic.parameters()])

    assert torch.equal(critics(True, 1.0), critics(True, -3.0))
    assert not torch.equal(critics(False, 1.0), critics(False, -3.0))


def test_uncertain_pairs_count_less_and_certain_ones_in_full():
    rng = np.random.default_rng(0)
    replay = bandit(rng.uniform(-1, 1, (64, 2)), rng.normal(size=64))
    given = batch(False)
    for dropout, least, most in ((0.0, 1.0, 1.0), (0.5, 0.0, 0.9)):
        made = UWACLearner(replay, UWACConfig(**SMALL, dropout=dropout, beta=1e-4))
        torch.manual_seed(0)
        weight = made.certain(given.state, given.action)
        assert weight.shape == (32,) and weight.min() >= least and weight.mean() <= most


def test_the_target_perturbs_by_the_target_network_not_by_the_one_in_training():
    made = learner()

    def target() -> torch.Tensor:
        torch.manual_seed(3)
        return made.target(batch(False))

    before = target()
    with torch.no_grad():
        for weight in made.shift.parameters():
            weight.add_(5.0)
    assert torch.equal(target(), before)
    with torch.no_grad():
        for weight in made.shift_target.parameters():
            weight.add_(5.0)
    assert not torch.equal(target(), before)


def test_the_target_reads_the_slow_critics():
    made = learner()

    def target() -> torch.Tensor:
        torch.manual_seed(3)
        return made.target(batch(False))

    before = target()
    with torch.no_grad():
        for weight in made.critic.parameters():
            weight.add_(1.0)
    assert torch.equal(target(), before)


def test_perturbations_stay_within_rho_and_latents_are_clipped():
    made = learner()
    z = 100 * torch.randn(8, 5, made.vae.latent)
    state = torch.ones(8, 1)
    bare = made.vae.decode(state, z)
    assert (made.candidates(state, made.shift, z) - bare).abs().max() <= made.config.rho + 1e-6
    assert torch.equal(bare, made.vae.decode(state, z.clamp(-0.5, 0.5)))


def test_the_log_sd_is_clamped_so_that_the_loss_stays_finite():
    vae = VAE(1, 2, (8,), 3)
    with torch.no_grad():
        vae.encoder[-1].bias.fill_(1e6)
    _, mean, log_sd = vae(torch.ones(4, 1), torch.zeros(4, 2))
    assert log_sd.max() <= 15.0 and torch.isfinite(mean).all()


def test_twin_critics_as_one_and_uncertain_rows_by_hand():
    q = torch.tensor([[1.0, 4.0], [3.0, 2.0]])
    assert updates.double_q(q).tolist() == [1.0, 2.0]
    assert updates.double_q(q, 0.75).tolist() == [1.5, 2.5]
    passes = torch.tensor([[0.0, 1.0], [2.0, 1.0]])  # variances 2 and 0
    assert updates.certainty(passes, 1.0).tolist() == [0.5, 1.0]
    assert np.allclose(updates.certainty(passes, 1.0, "exp"), [np.exp(-2.0), 1.0])
    weighted = updates.weighted_q_loss(torch.zeros(2), torch.tensor([2.0, 2.0]), torch.tensor([0.5, 1.0]))
    assert float(weighted) == pytest.approx(0.5 * (0.5 * 4 + 4) / 2)  # the weight outside the square
    assert float(updates.expectile_loss(torch.zeros(2), torch.tensor([1.0, -1.0]), 0.7)) == pytest.approx(0.5)


def two_modes(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Actions near -.6 and +.6 in one axis; the reward has a steep slope that points off the data."""
    rng = np.random.default_rng(seed)
    side = np.where(rng.random(2_000) < 0.5, -0.6, 0.6)
    action = np.clip(side + 0.03 * rng.standard_normal(2_000), -1, 1)[:, None]
    reward = action[:, 0] + 0.02 * rng.standard_normal(2_000)  # upwards still at the upper mode
    return action, reward


def fit(kind: type[Learner], config: object, updates_: int = 900) -> float:
    action, reward = two_modes()
    made = kind(bandit(action, reward), config)
    torch.manual_seed(0)
    for b in made.replay.batches(64, updates_, 0):
        made.step(b)
    return float(made.act(torch.ones(1, 1))[0, 0])


def test_td3_leaves_the_data_of_two_modes_and_bcq_stays_at_the_better_one():
    assert fit(TD3Learner, TD3Config(**SMALL)) > 0.8  # the logged actions end at about .7
    found = fit(BCQLearner, BCQConfig(**SMALL, rho=0.05))
    assert 0.45 < found < 0.75


def test_td3_bc_and_iql_take_the_better_mode_without_leaving_it():
    assert 0.4 < fit(IQLLearner, IQLConfig(**SMALL, beta=5.0)) < 0.75
    assert 0.0 < fit(TD3BCLearner, TD3BCConfig(**SMALL, alpha=0.2)) < 0.8


def turned(kind: type[Learner], config: object) -> tuple[float, float, float]:
    """A reward that rises with the action where the state is 1 and falls where it is -1, then the other way round: the
    policy's action at 1 less that at -1 before and after, and the share of dead outputs before."""
    rng = np.random.default_rng(0)
    state = rng.choice([-1.0, 1.0], (2_000, 1)).astype(np.float32)
    action = rng.uniform(-0.5, 0.5, (2_000, 1))
    both = torch.tensor([[1.0], [-1.0]])
    made, found, dead = None, [], 0.0
    torch.manual_seed(0)
    for sign in (1.0, -1.0):
        replay = bandit(action, 1 + sign * state[:, 0] * action[:, 0])
        replay.state = torch.from_numpy(state[replay.rows])
        if made is None:
            made = kind(replay, config)
        made.replay = replay
        for b in replay.batches(64, 1_500, 0):
            made.step(b)
        up, down = made.act(both)[:, 0].tolist()
        found.append(up - down)
        dead = dead or made.validate()["dead"]
    return found[0], found[1], dead


def test_a_perturbation_tells_states_apart_and_can_be_turned_back():
    before, after, dead = turned(BCQLearner, BCQConfig(**SMALL))
    assert before > 0.2 and after < -0.2 and dead < 0.1
    before, after, dead = turned(BCQLearner, BCQConfig(**SMALL, saturation=0.0))
    assert before > 0.2 and after > -0.1 and dead > 0.9  # as printed: what tanh has closed no reward opens again


def test_what_was_never_tried_costs_the_bounded_learner_and_not_td3():
    free, held = (fit(UnifiedLearner, UnifiedConfig(**SMALL, eta=eta)) for eta in (0.0, 100.0))
    assert free > 0.8 and 0.6 < held < 0.75  # the logged actions end at about .7


def test_cql_presses_actions_outside_the_log_down():
    action, reward = two_modes()
    values = {}
    for alpha in (0.0, 5.0):
        made = CQLLearner(bandit(action, reward), CQLConfig(**SMALL, alpha=alpha))
        torch.manual_seed(0)
        for b in made.replay.batches(64, 300, 0):
            made.step(b)
        logged, outside = (made.q(torch.ones(1, 1), torch.tensor([[[x]]])).mean().detach() for x in (0.6, 1.0))
        values[alpha] = float(logged - outside)
    assert values[5.0] > values[0.0] + 0.5
