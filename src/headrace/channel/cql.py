"""Discrete CQL: Q-learning that trusts no channel the log does not show (Kumar et al., NeurIPS 2020).

    y   = r + gamma (1 - d) min_i Qbar_i(s', a*)    a* = argmax_a min_i Q_i(s', a)    double Q-learning, twin critics
    L_i = alpha E_s [log sum_a exp Q_i(s, a) - Q_i(s, a_logged)] + 1/2 E (Q_i(s, a_logged) - y)^2     CQL(H), (4)

Kumar et al. write the penalty for any number of actions; with M channels log-sum-exp is exact. Qbar is a frozen copy
that follows slowly; each critic has a state network of its own. The policy is softmax(Q at a temperature fitted on
validation steps): the penalty is the cross-entropy of softmax(Q), so a large alpha imitates the log, a small one
ranks channels by their value.

B journeys, T steps, M channels, n steps learnt from.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headrace.channel import fitting
from headrace.channel.base import NetworkMethod
from headrace.channel.fitting import tensors
from headrace.channel.state import SPACE as SHARED
from headrace.channel.state import (
    Heads,
    ValueConfig,
    ahead,
    check_reward,
    ends_of,
    negative_log_likelihood,
    settled,
    taken,
    transitions,
)
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch, View
from headrace.learn.space import Range, Space
from headrace.learn.updates import conservative_loss, double_q, logsumexp_penalty, td_target


@dataclass(frozen=True, slots=True)
class CQLConfig(ValueConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    alpha: float = 1.0  # of the penalty

    def __post_init__(self) -> None:
        ValueConfig.__post_init__(self)
        self.at_least(0, "alpha")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"width": 8, "tcn_layers": 1, "epochs": 2},
}

SPACE: Space = {
    "alpha": Range(0.01, 10.0, log=True),
    **SHARED,
}


class Network(nn.Module):
    """Twin critics: ids, numbers, mask -> Q_1, Q_2, (2, B, T, M)."""

    def __init__(self, config: CQLConfig, transforms: Transforms):
        super().__init__()
        self.critics = nn.ModuleList(Heads(config, transforms, len(transforms.channels)) for _ in range(2))

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        return torch.stack([critic(ids, numbers, mask) for critic in self.critics])


class Learner(fitting.Learner[CQLConfig, Network]):
    """The conservative loss of both critics."""

    def __init__(self, network: Network, transforms: Transforms, train: View, validation: View, config: CQLConfig):
        super().__init__(network, transforms, train, validation, config, target_rate=config.target_rate)
        self.ends = ends_of(train.journeys)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The objective, its two terms, and `policy`: how well softmax(Q) tells the logged channel."""
        config, device = self.config, self.optimiser.device
        of = transitions(batch, self.ends, self.transforms, device)
        inputs = tensors(self.transforms.encode(batch.history), device)
        q = self.network(*inputs)  # (2, B, T, M)
        policy = negative_log_likelihood(double_q(q), of)
        if not of.learnt.any():
            return {"loss": 0.0 * q.sum(), "policy": policy}
        y = self.targets(inputs, of.reward, of.terminated)  # (B, T)
        data = of.chosen(q)  # (2, n)
        penalty = logsumexp_penalty(q[:, of.learnt], data)
        loss = conservative_loss(data, of.of(y), penalty, config.alpha).sum()
        return {"loss": loss, "policy": policy, "penalty": penalty.mean(), "value": of.of(double_q(q).mean(-1)).mean()}

    def targets(self, inputs: tuple[Tensor, ...], reward: Tensor, terminated: Tensor) -> Tensor:
        """(B, T) y: the frozen critics' value of the channel that those in training prefer, both without dropout."""
        assert self.target is not None
        with settled(self.network):
            best = double_q(self.network(*inputs)).argmax(-1)  # (B, T)
            frozen = self.target(*inputs)  # (2, B, T, M)
        value = double_q(taken(frozen, best.expand(frozen.shape[:-1])))
        return td_target(reward, ahead(value), terminated, self.config.gamma)


class CQL(NetworkMethod[CQLConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "discrete-cql"
    presets = PRESETS
    space = SPACE
    config_type = CQLConfig
    learner = Learner
    predicts_gains = False
    epochs_tell = False  # of Q without the temperature that makes it a policy

    def new_network(self) -> Network:
        assert self.transforms is not None
        return Network(self.config, self.transforms)

    def check(self, journeys: Journeys, split: Split | None = None) -> None:
        super().check(journeys, split)
        check_reward(self.name, journeys, self.config.reward_weights)

    def heads(
        self, encoded: tuple[Tensor, ...], at: tuple[Tensor, Tensor], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        q = double_q(self._fitted()[1](*encoded))[at]
        return {"action": q, "values": q}
