"""Tasks balanced by their gradients: by hand on two quadratics, and as a stage that goes on where it was."""

import sys
from pathlib import Path

import pytest
import torch
from test_weights import learner
from torch import nn

from headrace.errors import UserError
from headrace.predict.balance import kept_pace, products, without_conflict


class Two(nn.Module):
    """Weights that both losses read, and one for each."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.own = nn.ParameterList(torch.tensor(5.0) for _ in range(2))

    def losses(self) -> torch.Tensor:
        one, two = torch.tensor([3.0, 0.0]), torch.tensor([-1.0, 1.0])
        return torch.stack([self.shared @ one * self.own[0] / 5, self.shared @ two + self.own[1]])


def test_products_are_those_of_gradients_by_what_all_tasks_share():
    made = Two()
    assert products(made.losses(), made).tolist() == [[9.0, -3.0], [-3.0, 2.0]]


def test_tasks_that_share_nothing_cannot_be_balanced():
    made = Two()
    with pytest.raises(UserError, match="nothing is shared"):
        products(torch.stack([made.own[0] ** 2, made.own[1] ** 2]), made)


def test_projected_gradients_do_not_point_against_the_others():
    made = Two()
    gram = products(made.losses(), made)
    jacobian = torch.tensor([[3.0, 0.0], [-1.0, 1.0]])
    one = jacobian[0] - (-3 / 2) * jacobian[1]
    two = jacobian[1] - (-3 / 9) * jacobian[0]
    assert one @ jacobian[1] == pytest.approx(0) and two @ jacobian[0] == pytest.approx(0)
    torch.testing.assert_close(without_conflict(gram) @ jacobian, one + two)
    assert without_conflict(torch.eye(3)).tolist() == [1.0, 1.0, 1.0]


def test_weights_come_to_rest_where_all_gradients_are_of_one_length():
    weights, gram = torch.ones(2), torch.tensor([[16.0, 0.0], [0.0, 1.0]])  # four times as long as the other
    for _ in range(300):
        weights = kept_pace(weights, gram, torch.ones(2), torch.ones(2))
    assert weights.tolist() == pytest.approx([2 / 5, 8 / 5], abs=0.05)


def test_a_task_that_lags_gets_more():
    even = torch.eye(2)
    for _ in range(3):
        weights = kept_pace(torch.ones(2), even, torch.tensor([0.9, 0.5]), torch.ones(2))
    assert weights[0] > 1 > weights[1] and float(weights.sum()) == pytest.approx(2)


def test_a_stage_that_is_taken_up_goes_on_to_the_same_weights(tmp_path: Path):
    whole = learner(tmp_path / "a", "gradnorm")
    batches = list(whole.batches(0))
    for batch in batches:
        whole.step(batch)
    assert whole.pace[0].tolist() != [1.0, 1.0]
    half = learner(tmp_path / "b", "gradnorm")
    for batch in batches[:2]:
        half.step(batch)
    again = learner(tmp_path / "c", "gradnorm")
    again.load(half.state())
    for batch in batches[2:]:
        again.step(batch)
    assert torch.equal(again.pace, whole.pace)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(UserError, match=r"headrace\[balance\]"):
        without_conflict(torch.eye(2))
