"""Experts, gates and transfers: which stream reads what, told by weights set by hand."""

import pytest
import torch
from torch import nn

from headrace.nn.experts import CGC, Experts, Gate, Transfer


def set_expert(experts: Experts, values: list[float]) -> None:
    """Each expert gives `value` times its input (of width 1)."""
    with torch.no_grad():
        experts.first.weight.copy_(torch.tensor(values)[:, None])
        nn.init.zeros_(experts.first.bias)


def level(last: bool = False) -> CGC:
    """Two tasks, one expert a stream: task 0 doubles, task 1 triples, the shared one gives tenfold; even gates."""
    made = CGC(tasks=2, experts=1, width=1, out=1, last=last)
    for experts, value in zip(made.experts, (2.0, 3.0, 10.0), strict=True):
        set_expert(experts, [value])
    for gate in [*made.gates, *([made.shared_gate] if made.shared_gate is not None else [])]:
        nn.init.zeros_(gate.score.weight)
    return made


def test_a_task_mixes_its_own_and_the_shared_experts_and_the_shared_stream_mixes_all():
    one, two, shared = level()([torch.ones(1, 1)] * 3)
    assert (one.item(), two.item()) == (6.0, 6.5)
    assert shared.item() == pytest.approx(5.0)


def test_each_expert_reads_the_input_of_its_own_stream():
    one, two, shared = level()([torch.tensor([[1.0]]), torch.tensor([[100.0]]), torch.tensor([[10_000.0]])])
    assert one.item() == (2 * 1 + 10 * 10_000) / 2
    assert two.item() == (3 * 100 + 10 * 10_000) / 2
    assert shared.item() == pytest.approx((2 * 1 + 3 * 100 + 10 * 10_000) / 3)


def test_a_task_gate_is_driven_by_its_own_stream():
    made = level()
    with torch.no_grad():
        made.gates[0].score.weight.copy_(torch.tensor([[0.0], [-100.0]]))  # much of input 0: all to the own expert
    quiet = made([torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1)])[0]
    loud = made([torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1)])[0]
    assert (quiet.item(), loud.item()) == (5.0, 2.0)


def test_the_last_level_has_no_shared_gate_and_gives_the_tasks_alone():
    made = level(last=True)
    assert made.shared_gate is None
    assert len(made([torch.ones(1, 1)] * 3)) == 2


def test_experts_side_by_side_are_the_experts_one_by_one():
    torch.manual_seed(0)
    both, x = Experts(3, 4, [5, 2]), torch.randn(7, 4)
    for e in range(3):
        rows = slice(5 * e, 5 * e + 5)
        hidden = torch.relu(x @ both.first.weight[rows].T + both.first.bias[rows])
        alone = torch.relu(hidden @ both.weights[0][e] + both.biases[0][e])
        torch.testing.assert_close(both(x)[:, e], alone)


def test_a_gate_of_equal_scores_averages():
    gate = Gate(2, 2)
    nn.init.zeros_(gate.score.weight)
    assert gate(torch.randn(1, 2), torch.tensor([[[2.0], [4.0]]])).tolist() == [[3.0]]


def test_a_task_attends_to_what_the_one_before_it_passes_on():
    made = Transfer(1)
    with torch.no_grad():
        for layer, weight in ((made.passed, 3.0), (made.query, 1.0), (made.key, 1.0), (made.value, 10.0)):
            layer.weight.fill_(weight)
        nn.init.zeros_(made.passed.bias)
    passed, own = 6.0, 1.0  # scores 36 and 1: all attention is on what is passed on
    assert made(torch.tensor([[2.0]]), torch.tensor([[own]])).item() == pytest.approx(10 * passed)
    even = 10 * 0.5 * (1 + 1)  # both 1 after the layer: half of each
    assert made(torch.tensor([[1 / 3]]), torch.tensor([[own]])).item() == pytest.approx(even)
    assert made(torch.tensor([[-5.0]]), torch.tensor([[2.0]])).item() == pytest.approx(20 / (1 + torch.e**-4), rel=1e-4)
