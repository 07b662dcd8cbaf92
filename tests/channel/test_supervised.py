"""What the supervised methods share: losses over labelled steps alone, and heads that see what they may and no more."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from channel_logs import small_log
from torch import nn

from headrace.channel.bc import PRESETS, BCConfig, Network
from headrace.channel.fitting import tensors
from headrace.channel.supervised import Learner
from headrace.errors import UserError
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch, View

CONFIG = BCConfig(**PRESETS["tiny"], dropout=0.0, input_dropout=0.0, unknown=0.0, average=None)


@pytest.fixture(scope="module")
def learner(tmp_path_factory) -> Learner:
    journeys = small_log(tmp_path_factory.mktemp("log") / "j")
    labels = np.arange(journeys.n_steps) % 8 > 2  # the first steps of each journey are no labels
    view = View(journeys, labels)
    transforms = Transforms.fit(journeys, np.arange(journeys.n_steps))
    torch.manual_seed(0)
    network = Network(CONFIG, transforms)
    nn.init.normal_(network.bring.context.scale.weight)
    return Learner(network, transforms, view, view, CONFIG)


@pytest.fixture(scope="module")
def batch(learner) -> Batch:
    return next(learner.train.batches(16))


def by_hand(output: torch.Tensor, batch: Batch, transforms: Transforms, weights: dict[str, float]) -> float:
    """The reward's loss over the labelled steps of a batch; outputs of click, play, grade (3), label and cost."""
    z = output.detach().numpy()[batch.label].astype(float)  # (n, 7)
    p = 1 / (1 + np.exp(-z))
    share = np.exp(z[:, 2:5]) / np.exp(z[:, 2:5]).sum(axis=1, keepdims=True)
    of = {name: values[batch.label] for name, values in batch.gains.items()} | {"cost": batch.cost[batch.label]}
    std = {name: (of[name] - transforms.scales[name].mean) / transforms.scales[name].std for name in ("play", "cost")}
    losses = {
        "click": -np.where(of["click"] == 1, np.log(p[:, 0]), np.log(1 - p[:, 0])),
        "play": (z[:, 1] - std["play"]) ** 2 / 2,
        "grade": -np.log(share[np.arange(len(z)), of["grade"].astype(int)]),
        "label": -np.where(of["label"] == 1, np.log(p[:, 5]), np.log(1 - p[:, 5])),
        "cost": (z[:, 6] - std["cost"]) ** 2 / 2,
    }
    return float(sum(weights[name] * of_each.mean() for name, of_each in losses.items()))


def test_the_loss_is_a_mean_over_labelled_steps(learner, batch):
    """Cross-entropy of the logged channel, and the mean of the reward's loss in three conditionings: step by step."""
    network = learner.network
    state = network(*tensors(learner.transforms.encode(batch.history), torch.device("cpu")))
    context = tensors(learner.transforms.encode_context(batch), torch.device("cpu"))[:2]
    channel, label = torch.from_numpy(batch.channel), torch.from_numpy(batch.label)
    assert not label[:, :3].any() and label[:, 3:].all()
    policy = F.cross_entropy(network.action(state)[:, 3:].flatten(0, 1), channel[:, 3:].flatten())
    outputs = (network.reward(state), network.reward(state, channel), network.reward(state, channel, context))
    assert [t.name for t in network.targets] == ["click", "play", "grade", "label", "cost"]
    assert learner.weights == {"click": 1.0} | dict.fromkeys(("play", "grade", "label", "cost"), 0.1)
    rewards = [by_hand(o, batch, learner.transforms, learner.weights) for o in outputs]
    for weight in (1.0, 0.25, 0.0):
        learner.config = dataclasses.replace(CONFIG, action_weight=weight)
        found = learner.losses(batch)
        torch.testing.assert_close(found["policy"], policy)
        torch.testing.assert_close(found["loss"], weight * policy + sum(rewards) / 3)
    learner.config = CONFIG


def test_the_reward_head_hears_of_channel_and_context_only_where_they_are_given(learner):
    """n = A s [+ channel] [, scaled by 1 + S c, + V c], then residual layers and a linear one: by hand."""
    head = learner.network.bring
    state = torch.randn(5, head.state.in_features)
    channel = torch.tensor([0, 1, 2, 1, 0])
    context = torch.full((5, 1), 3), torch.randn(5, learner.transforms.context_width)

    def decode(n: torch.Tensor) -> torch.Tensor:
        for layer in head.layers:
            n = n + F.leaky_relu(layer(F.leaky_relu(n)))
        return head.out(n)

    with torch.no_grad():
        read = head.state(state)
        torch.testing.assert_close(head(state), decode(read))
        given = read + head.channel.weight[channel]
        torch.testing.assert_close(head(state, channel), decode(given))
        c = head.context.inputs(*context)
        heard = given * (1 + head.context.scale(c)) + head.context.shift(c)
        torch.testing.assert_close(head(state, channel, context), decode(heard))
        each = head.each(state)
        for m in range(3):
            torch.testing.assert_close(each[:, m], head(state, torch.full((5,), m)))


def test_a_weight_below_zero_is_refused():
    with pytest.raises(UserError, match="bc config: action_weight = -1, expected 0 or more"):
        BCConfig(action_weight=-1)
