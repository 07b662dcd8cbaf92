"""STAR's own promises: weights times the domain's own, statistics by domain, and nothing of a step's own channel."""

import dataclasses

import numpy as np
import pytest
import torch
from channel_logs import small_log

from headrace.channel.fitting import tensors
from headrace.channel.star import PRESETS, Learner, Network, Normalisation, STARConfig
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import View

CONFIG = STARConfig(
    **(PRESETS["tiny"] | {"layers": 2}), dropout=0.0, input_dropout=0.0, unknown=0.0, average=None, epsilon=1e-3
)


@pytest.fixture
def learner(tmp_path) -> Learner:
    journeys = small_log(tmp_path / "j")
    view = View(journeys, np.ones(journeys.n_steps, dtype=bool))
    transforms = Transforms.fit(journeys, np.arange(journeys.n_steps))
    torch.manual_seed(0)
    network = Network(CONFIG, transforms)
    for name, weight in network.named_parameters():
        if ".own_" in name:
            torch.nn.init.normal_(weight, std=0.5)
    return Learner(network, transforms, view, view, CONFIG)


def inputs_of(learner, batch):
    return tensors(learner.transforms.encode(batch.history), torch.device("cpu"))


def test_each_domain_is_a_network_of_its_own(learner):
    """gamma gamma_p, beta + beta_p, W * W_p, b + b_p, and the auxiliary network's s_a: by hand, domain by domain."""
    network = learner.network
    batch = next(learner.train.batches(16))
    learner.losses(batch)  # fills the statistics
    network.eval()
    with torch.no_grad():
        state = network(*inputs_of(learner, batch))
        z = network.inputs(*inputs_of(learner, batch)[:2])
        norm = network.normalise
        mean, variance = norm.moments()
        for p in range(4):  # the last is the shared network

            def own(of, p=p):
                return of[p] if p < 3 else torch.zeros_like(of[0])

            h = (z - mean[p]) / (variance[p] + CONFIG.epsilon).sqrt()
            h = norm.scale * (1 + own(norm.own_scale)) * h + norm.shift + own(norm.own_shift)
            for layer in network.layers:
                h = torch.relu(h @ (layer.weight * (1 + own(layer.own_weight))) + layer.bias + own(layer.own_bias))
            out = network.out
            s_m = h @ (out.weight * (1 + own(out.own_weight))) + out.bias + own(out.own_bias)
            s_a = network.auxiliary(torch.relu(network.read_step(z) + network.domain.weight[p]))
            by_hand = s_m + s_a
            at = None if p == 3 else torch.full(z.shape[:2], p)
            close = {"rtol": 1e-4, "atol": 1e-4}
            torch.testing.assert_close(network.reward(state, at), by_hand[..., 1:], **close)
            if p < 3:
                torch.testing.assert_close(network.action(state)[..., p], by_hand[..., 0], **close)
                torch.testing.assert_close(network.rewards(state)[..., p, :], by_hand[..., 1:], **close)


def test_a_domains_own_part_is_heard_in_that_domain_alone(learner):
    network = learner.network.eval()
    given = inputs_of(learner, next(learner.train.batches(16)))
    with torch.no_grad():
        before = network(*given)
        for layer in (*network.layers, network.out):
            layer.own_weight[1] += 0.5
        after = network(*given)
        changed = (network.action(before) != network.action(after)).flatten(0, 1).any(dim=0)
        assert changed.tolist() == [False, True, False]
        assert torch.equal(network.reward(before), network.reward(after))  # before the decision: shared weights alone


def test_statistics_are_those_of_a_domains_steps():
    """Moving sums: the steps of the batch before count at the decay, and one step a batch keeps a variance."""
    norm = Normalisation(1, domains=3, decay=0.5, epsilon=0.1)
    x = torch.tensor([[1.0], [3.0], [10.0]])
    norm.observe(x, torch.tensor([0, 0, 1]))
    mean, variance = norm.moments()
    assert mean[:2, 0].tolist() == [2.0, 10.0] and variance[:2, 0].tolist() == [1.0, 0.0]
    torch.testing.assert_close(mean[2, 0], x.mean())  # the shared network's are of all steps
    norm.observe(torch.tensor([[13.0]]), torch.tensor([1]))
    mean, variance = norm.moments()
    assert mean[0, 0] == 2.0 and variance[0, 0] == 1.0  # older steps of a domain stay as they were to each other
    torch.testing.assert_close(mean[1, 0], torch.tensor((0.5 * 10 + 13) / 1.5))
    torch.testing.assert_close(variance[1, 0], torch.tensor((0.5 * 100 + 169) / 1.5 - 12.0**2))
    scale, shift = norm()
    torch.testing.assert_close(scale[0] * 3 + shift[0], torch.tensor([1 / 1.1**0.5]))


def test_a_domain_that_was_never_seen_is_normalised_as_all_steps_are():
    norm = Normalisation(2, domains=3, decay=0.9, epsilon=1e-3)
    assert torch.equal(norm.moments()[0], torch.zeros(3, 2)) and torch.equal(norm.moments()[1], torch.ones(3, 2))
    norm.observe(torch.randn(20, 2) * 3 + 1, torch.zeros(20, dtype=torch.long))
    mean, variance = norm.moments()
    assert torch.equal(mean[1], mean[2]) and torch.equal(variance[1], variance[2])


def test_scores_in_training_do_not_tell_a_steps_own_channel(learner, monkeypatch):
    """Normalised by the batch's own statistics they would: a domain's only step would stand at its mean."""
    batch = next(learner.train.batches(16))
    learner.losses(batch)
    network, kept = learner.network, {k: v.clone() for k, v in learner.network.state_dict().items()}
    assert network.training and learner.optimiser.steps == 0
    seen = []
    monkeypatch.setattr(network, "action", lambda state: seen.append(Network.action(network, state)) or seen[-1])
    for channel in (batch.channel, (batch.channel + 1) % 3):
        network.load_state_dict(kept)
        learner.losses(dataclasses.replace(batch, channel=channel))
        assert not torch.equal(network.normalise.total, kept["normalise.total"])  # the batch joined behind its losses
    assert torch.equal(*seen)
