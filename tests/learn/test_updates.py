"""The offline-RL losses against sums done by hand, and the slips of the printed equations that they must not repeat."""

import pytest
import torch
from torch import nn

from headrace.learn import updates


def test_only_a_terminated_step_stops_the_bootstrap() -> None:
    terminated = torch.tensor([False, False, True])  # a step, a truncated step, a terminated one
    target = updates.td_target(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0, 30.0]), terminated, 0.9)
    assert torch.allclose(target, torch.tensor([10.0, 20.0, 3.0]))


def test_nothing_behind_the_end_reaches_the_target() -> None:
    terminated = torch.tensor([True, False])
    target = updates.td_target(torch.ones(2), torch.tensor([float("nan"), 2.0]), terminated, 0.5)
    assert target.tolist() == [1.0, 2.0]


def test_the_target_carries_no_gradient() -> None:
    value = torch.ones(3, requires_grad=True)
    q = torch.zeros(3, requires_grad=True)
    updates.fitted_q_loss(q, updates.td_target(torch.ones(3), value, torch.zeros(3, dtype=torch.bool), 0.9)).backward()
    assert value.grad is None
    assert torch.allclose(q.grad if q.grad is not None else torch.zeros(3), torch.full((3,), -1.9 / 3))


def test_one_step_down_the_loss_brings_q_nearer_to_its_target() -> None:
    q = torch.tensor([0.0, 5.0], requires_grad=True)
    target = torch.tensor([1.0, 2.0])
    updates.conservative_loss(q, target, torch.zeros(()), 0.0).backward()
    assert q.grad is not None
    after = q.detach() - 0.1 * q.grad
    assert ((after - target).abs() < (q.detach() - target).abs()).all()


def test_the_policys_expectation_weights_each_action_once() -> None:
    q, pi = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.5, 0.25, 0.25]])
    assert updates.expected_value(q, pi).item() == 2.0
    sampled = torch.tensor([[1.0, 1.0, 2.0, 4.0]])  # the same expectation from draws of pi: every draw counts 1/k
    assert updates.expected_value(sampled, torch.full((1, 4), 0.25)).item() == 2.0


def test_the_policy_penalty_is_nil_where_the_policy_does_what_was_logged() -> None:
    q = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    taken = torch.tensor([0, 3, 1, 1, 2])
    once = nn.functional.one_hot(taken, 4).float()
    assert updates.policy_penalty(q, once, q.gather(1, taken[:, None])[:, 0]).item() == pytest.approx(0, abs=1e-6)


def test_the_penalty_presses_on_the_policys_actions_and_lifts_the_logged_ones() -> None:
    q = torch.zeros(1, 2, requires_grad=True)
    updates.policy_penalty(q, torch.tensor([[0.0, 1.0]]), q[:, 0]).backward()
    assert q.grad is not None and q.grad.tolist() == [[-1.0, 1.0]]


def test_logsumexp_bounds_the_best_action_from_above() -> None:
    q = torch.tensor([[0.0, 3.0], [1.0, 1.0]])
    found = updates.logsumexp_penalty(q, torch.zeros(2)).item()
    assert found == pytest.approx(float((torch.tensor(1 + torch.e**3).log() + 1 + torch.tensor(2.0).log()) / 2))
    assert found > q.max(1).values.mean().item()


def test_networks_side_by_side_have_each_their_own_loss() -> None:
    q, target = torch.tensor([[1.0, 1.0], [3.0, 5.0]]), torch.zeros(2, 2)
    assert updates.fitted_q_loss(q, target).tolist() == [0.5, 8.5]


def test_a_soft_update_goes_part_of_the_way_and_a_whole_one_copies() -> None:
    target, source = nn.Linear(2, 1), nn.Linear(2, 1)
    wanted = [a + 0.25 * (b - a) for a, b in zip(target.parameters(), source.parameters(), strict=True)]
    updates.soft_update(target, source, 0.25)
    assert all(torch.allclose(a, b) for a, b in zip(target.parameters(), wanted, strict=True))
    updates.soft_update(target, source, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), source.parameters(), strict=True))
