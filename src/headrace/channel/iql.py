"""Discrete IQL: values of what the log shows alone, and the policy that leans to its better half (Kostrikov et al.,
ICLR 2022).

    L_V  = E |tau - 1[Qbar < V]| (Qbar(s, a) - V(s))^2          expectile regression                        (5)
    L_Q  = 1/2 E (r + gamma (1 - d) V(s') - Q_i(s, a))^2        no channel but the logged one is asked for  (6)
    L_pi = E exp(beta (Qbar(s, a) - V(s))) (-log pi(a|s))       advantage-weighted, the weight clipped      (7)

Qbar is the smaller of two frozen copies that follow slowly. With tau = .5, V is the value of the log's own policy; as
tau goes to 1 it is that of the best channel the log shows. With beta = 0 the policy is an imitation. `values` are Q:
of a channel that the log never shows in a state they tell what the networks extrapolate, so choose by the policy.

B journeys, T steps, M channels, n steps learnt from.
"""

from dataclasses import dataclass
from typing import Any, Literal

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
    transitions,
)
from headrace.errors import UserError
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch, View
from headrace.learn.space import Range, Space
from headrace.learn.updates import advantage_weight, double_q, expectile_loss, fitted_q_loss, td_target


@dataclass(frozen=True, slots=True)
class IQLConfig(ValueConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    tau: float = 0.7  # the expectile of (5)
    beta: float = 3.0  # inverse temperature of (7)
    most_weight: float = 100.0  # largest weight of a step in (7)

    def __post_init__(self) -> None:
        ValueConfig.__post_init__(self)
        self.at_least(0, "beta")
        if not 0 < self.tau < 1:
            raise UserError(f"iql config: tau = {self.tau}, expected between 0 and 1; change it")
        if not self.most_weight > 0:
            raise UserError(f"iql config: most_weight = {self.most_weight}, expected more than 0; change it")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"width": 8, "tcn_layers": 1, "epochs": 2},
}

SPACE: Space = {
    "tau": (0.5, 0.7, 0.8, 0.9, 0.95),
    "beta": Range(0.3, 30.0, log=True),
    **SHARED,
}


class Network(nn.Module):
    """Twin critics, a value and a policy, each with a state of its own."""

    def __init__(self, config: IQLConfig, transforms: Transforms):
        super().__init__()
        M = len(transforms.channels)
        self.critics = nn.ModuleList(Heads(config, transforms, M) for _ in range(2))
        self.value = Heads(config, transforms, 1)
        self.policy = Heads(config, transforms, M)

    def q(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """Q_1, Q_2: (2, B, T, M)."""
        return torch.stack([critic(ids, numbers, mask) for critic in self.critics])


class Learner(fitting.Learner[IQLConfig, Network]):
    """The three losses, whose weights are disjoint: their sum gives each its own gradient, clipped together."""

    def __init__(self, network: Network, transforms: Transforms, train: View, validation: View, config: IQLConfig):
        super().__init__(network, transforms, train, validation, config, target_rate=config.target_rate)
        self.ends = ends_of(train.journeys)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Their sum, each of them, and `policy`: how well pi tells the logged channel."""
        config, network, device = self.config, self.network, self.optimiser.device
        assert self.target is not None
        of = transitions(batch, self.ends, self.transforms, device)
        inputs = tensors(self.transforms.encode(batch.history), device)
        logits = network.policy(*inputs)  # (B, T, M)
        policy = negative_log_likelihood(logits, of)
        if not of.learnt.any():
            return {"loss": 0.0 * logits.sum(), "policy": policy}
        with settled(network):
            served = network.value(*inputs)[..., 0]  # (B, T), without dropout
            frozen = of.chosen(double_q(self.target.q(*inputs)))  # (n,) Qbar
        value = expectile_loss(of.of(network.value(*inputs)[..., 0]), frozen, config.tau)  # (5)
        y = td_target(of.reward, ahead(served), of.terminated, config.gamma)
        q = of.chosen(network.q(*inputs))  # (2, n)
        critic = fitted_q_loss(q, of.of(y)).sum()  # (6)
        weight = advantage_weight(frozen, of.of(served), config.beta, config.most_weight)
        actor = -(weight * of.chosen(logits.log_softmax(-1))).mean()  # (7)
        loss = value + critic + actor
        return {"loss": loss, "policy": policy, "actor": actor, "critic": critic, "expectile": value}


class IQL(NetworkMethod[IQLConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "discrete-iql"
    presets = PRESETS
    space = SPACE
    config_type = IQLConfig
    learner = Learner
    predicts_gains = False
    chooses_by: Literal["value", "policy"] = "policy"

    def new_network(self) -> Network:
        assert self.transforms is not None
        return Network(self.config, self.transforms)

    def check(self, journeys: Journeys, split: Split | None = None) -> None:
        super().check(journeys, split)
        check_reward(self.name, journeys, self.config.reward_weights)

    def heads(
        self, encoded: tuple[Tensor, ...], at: tuple[Tensor, Tensor], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        network = self._fitted()[1]
        return {"action": network.policy(*encoded)[at], "values": double_q(network.q(*encoded))[at]}
