"""What a row weighs, by hand: each formula with its sign, and what stage C makes of it."""

from pathlib import Path

import pytest
import torch
from item_logs import TASKS, by_users, item_log

from headrace.learn.optimise import OptimiserConfig
from headrace.predict.critics import Critic, Critics, values
from headrace.predict.retrain import MultiTask, predict
from headrace.predict.rmtl import PRESETS, RMTL, RMTLConfig, prepare
from headrace.predict.weights import Weights, focal, from_values

Q = torch.tensor([[-1.0, -2.0], [-3.0, 0.0]])  # (B, K)
LABELS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
BY_HAND = {
    "rl": [[1.5, 2.0], [2.5, 1.0]],  # a row that costs more weighs more
    "wl": [[1.5, 1.0], [1.0, 1.0]],
    "nlc": [[1.0, 2.0], [3.0, 0.0]],
    "shuffled": [[2.5, 1.0], [1.5, 2.0]],
    "normalised": [[0.75, 4 / 3], [1.25, 2 / 3]],
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_weights_follow_from_values_by_their_formula(kind: Weights):
    found = from_values(kind, Q, LABELS, 0.5, torch.tensor([1, 0]))
    torch.testing.assert_close(found, torch.tensor(BY_HAND[kind]))


def learner(tmp_path: Path, kind: Weights) -> MultiTask:
    """Stage C of an untrained model."""
    log = item_log(tmp_path / "j")
    config = RMTLConfig(**(PRESETS["tiny"] | {"tasks": TASKS, "dropout": 0.0, "unknown": 0.0}))
    held = prepare(log, by_users(log), config)
    method = RMTL(config)
    method.features = held.features
    torch.manual_seed(0)
    critics = Critics(Critic(method._sizes(), held.features), OptimiserConfig(1e-9), 0.9, 0.2)  # as good as frozen
    brought = -torch.arange(2.0 * len(held.train)).reshape(-1, 2)
    parts = method.new_network(), held.train, held.validation, method.optimiser(), 32
    return MultiTask(*parts, kind, lambda_=0.5, decay=0.5, critics=critics, brought=brought)


@pytest.mark.parametrize("kind", ["decay", "return", "focal", "rl"])
def test_a_batch_is_weighed_by_its_own_places_returns_predictions_and_values(kind: Weights, tmp_path: Path):
    made = learner(tmp_path, kind)
    at, train = torch.tensor([2, 0, 5]), made.train
    given = train.ids[at], train.numbers[at], train.labels[at]
    made.network.eval()
    found = made.weights(at, *given)
    p = made.network(*given[:2]).sigmoid()
    assert made.critics is not None and made.brought is not None
    expected = {
        "decay": (0.5 ** torch.tensor([2.0, 0.0, 1.0]))[:, None].expand(3, 2),  # sessions of four rows
        "return": 1 - 0.5 * made.brought[at],
        "focal": focal(p, given[2]),
        "rl": 1 - 0.5 * made.critics.critic(*given[:2], p),
    }
    torch.testing.assert_close(found, expected[kind])


def test_the_actor_of_d_ple_goes_where_the_critics_promise_more(tmp_path: Path):
    made = learner(tmp_path, "ddpg")
    assert made.critics is not None
    critic = made.critics.critic

    def promised() -> float:
        actions = predict(made.network, made.train).sigmoid()
        return float(values(critic, made.train, actions).mean())

    before = promised()
    for _ in range(10):
        made.step(torch.arange(len(made.train)))
    assert promised() > before


def test_an_uncertain_task_weighs_less_and_pays_for_it(tmp_path: Path):
    made = learner(tmp_path, "uncertainty")
    at = torch.arange(len(made.train))
    with torch.no_grad():
        made.module.log_variance.copy_(torch.tensor([0.0, 2.0]))
    made.network.train()
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        made.network(made.train.ids, made.train.numbers), made.train.labels, reduction="none"
    )
    one, two = losses.detach().mean(dim=0).tolist()
    expected = one + two * torch.tensor(-2.0).exp().item() + 0.5 * 2.0
    assert made.step(at)["loss"] == pytest.approx(expected, rel=1e-5)
