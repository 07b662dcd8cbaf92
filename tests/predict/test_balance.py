"""Tasks balanced by their gradients: by hand on two quadratics, and as a stage that goes on where it was."""

import sys
from pathlib import Path

import pytest
import torch
from item_logs import TASKS, item_log
from test_weights import learner
from torch import nn

from headrace.errors import UserError
from headrace.predict.balance import SMOOTH, base_loss, kept_pace, products, shared, without_conflict
from headrace.predict.rmtl import RMTL, RMTLConfig


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
    found = shared(made.losses()[None], made)
    assert [weight is made.shared for weight in found] == [True]
    assert products(made.losses(), found).tolist() == [[9.0, -3.0], [-3.0, 2.0]]


def test_a_batch_without_a_tasks_labels_changes_nothing_of_it(tmp_path: Path):
    made = learner(tmp_path, "gradnorm")
    made.train.known[:, 1] = 0.0
    made.step(torch.arange(8))
    assert made.pace[1, 1] == made.base[1] and made.pace[1, 0] != made.base[0]


@pytest.mark.parametrize("kind", ["gradnorm", "pcgrad"])
def test_tasks_that_share_nothing_are_refused_before_any_work(kind: str, tmp_path: Path):
    log = item_log(tmp_path / "j")
    with pytest.raises(UserError, match="share nothing"):
        RMTL(RMTLConfig(backbone="single", weights=kind, tasks=TASKS)).check(log)  # type: ignore[arg-type]


def test_projected_gradients_do_not_point_against_the_others():
    made = Two()
    gram = products(made.losses(), [made.shared])
    jacobian = torch.tensor([[3.0, 0.0], [-1.0, 1.0]])
    one = jacobian[0] - (-3 / 2) * jacobian[1]
    two = jacobian[1] - (-3 / 9) * jacobian[0]
    assert one @ jacobian[1] == pytest.approx(0) and two @ jacobian[0] == pytest.approx(0)
    torch.testing.assert_close(without_conflict(gram) @ jacobian, one + two)
    assert without_conflict(torch.eye(3)).tolist() == [1.0, 1.0, 1.0]


def test_weights_come_to_rest_where_all_gradients_are_of_one_length():
    weights, gram = torch.ones(2), torch.tensor([[16.0, 0.0], [0.0, 1.0]])  # four times as long as the other
    for _ in range(300):
        weights = kept_pace(weights, gram, torch.ones(2))
    assert weights.tolist() == pytest.approx([2 / 5, 8 / 5], abs=0.05)


def test_a_task_that_lags_gets_more():
    even = torch.eye(2)
    for _ in range(3):
        weights = kept_pace(torch.ones(2), even, torch.tensor([0.9, 0.5]))
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


def test_the_luck_of_batches_does_not_look_like_pace(tmp_path: Path):
    """Labels that no input tells of, one of them rare: every batch is as good as any other, and weights stay near 1."""
    made = learner(tmp_path, "gradnorm")
    luck = torch.Generator().manual_seed(0)
    rates, even = torch.tensor([0.3, 0.01]), torch.eye(2)
    base = -(rates * rates.log() + (1 - rates) * (1 - rates).log())
    weights, smoothed, seen = torch.ones(2), base, []
    for _ in range(600):
        share = torch.binomial(torch.full((2,), 512.0), rates, generator=luck) / 512
        now = -(share * rates.log() + (1 - share) * (1 - rates).log())
        smoothed = SMOOTH * smoothed + (1 - SMOOTH) * now
        weights = kept_pace(weights, even, smoothed / base)
        seen.append(weights)
    assert torch.stack(seen).mean(dim=0).tolist() == pytest.approx([1.0, 1.0], abs=0.1)
    assert base_loss(made.train.labels, made.train.known).tolist() == pytest.approx(made.pace[1].tolist())


def test_a_checkpoint_of_before_there_was_a_pace_is_taken_up(tmp_path: Path):
    made = learner(tmp_path, "constant")
    held, values = made.state()
    made.load(({name: of for name, of in held.items() if name != "epochs/pace"}, values))


def test_the_missing_package_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(UserError, match=r"headrace\[balance\]"):
        RMTL(RMTLConfig(weights="pcgrad", tasks=TASKS)).check(item_log(tmp_path / "j"))
