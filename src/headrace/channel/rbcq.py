"""R-BCQ: one Q-function for every price of money, kept to channels that the log uses (BCORLE(lambda), Zhang et al.,
NeurIPS 2021).

    r_lambda = (gain - lambda * cost) / k(lambda)          relabelled; lambda drawn anew for every journey of a batch
    A(s) = {a : pi_b(a|s) >= threshold * max_a pi_b(a|s)}  discrete BCQ, Fujimoto et al. 2019, Benchmarking batch
                                                           deep RL: pi_b, an imitation, says what the log would do
    Q^w  = sum_k w_k Q_k,  w drawn on the simplex          REM, Agarwal et al. 2020: a random mixture of K heads
    y    = r_lambda + gamma (1 - d) Qbar^w(s', a*, lambda),  a* = argmax_{a in A(s')} Q^w(s', a, lambda)
    L    = 1/2 E (Q^w(s, a_logged, lambda) - y)^2 + E [-log pi_b(a_logged|s)]

Q reads lambda as an input, so that the multiplier is chosen for a budget when acting (`policy_at`), not when fitting;
at lambda = s, which is 0 unless the penalised reward is asked for, it is worth the reward. k is the spread of the
reward at lambda as a multiple of that at s: else the prices at which the cost drowns the gain would make up the loss.
Half of the journeys are relabelled with s itself, the others uniformly. Acting, Q is k(lambda) times the mean of the
heads, and a channel outside A(s) is minus infinity. The policy's logits are Q within A(s); a channel outside stands
below them all, by how far outside it is, so that the log loss of a logged channel is finite.

B journeys, T steps, M channels, K heads, n steps learnt from.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.channel import fitting
from headrace.channel.base import NetworkMethod
from headrace.channel.fitting import tensors
from headrace.channel.policies import ScorePolicy
from headrace.channel.state import SPACE as SHARED
from headrace.channel.state import (
    Heads,
    Spread,
    State,
    ValueConfig,
    ahead,
    break_even,
    check_reward,
    ends_of,
    negative_log_likelihood,
    penalised,
    settled,
    taken,
    transitions,
)
from headrace.errors import UserError
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch, View
from headrace.learn.space import Space
from headrace.learn.updates import convex_shares, fitted_q_loss, mixed, td_target, within_behaviour


@dataclass(frozen=True, slots=True)
class RBCQConfig(ValueConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    heads: int = 8  # K, of the ensemble
    threshold: float = 0.3  # of pi_b over its largest; a channel below it is never chosen
    most_multiplier: float | None = None  # largest lambda trained for; None: twice s or the break-even price

    def __post_init__(self) -> None:
        ValueConfig.__post_init__(self)
        self.at_least(1, "heads")
        self.shares("threshold")
        self.at_least(self.price, "most_multiplier")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"width": 8, "tcn_layers": 1, "heads": 2, "epochs": 2},
}

SPACE: Space = {
    "threshold": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7),
    "heads": (1, 4, 8, 16),
    **SHARED,
}


class Network(nn.Module):
    """K heads of Q on one state and the multiplier, and the imitation pi_b on a state of its own."""

    def __init__(self, config: RBCQConfig, transforms: Transforms):
        super().__init__()
        self.heads, self.channels = config.heads, len(transforms.channels)
        self.most = most_multiplier(config, transforms)
        self.spread = Spread(transforms)
        self.state = State(config, transforms)
        self.read_state = nn.Linear(config.width, config.width)
        self.read_multiplier = nn.Linear(1, config.width, bias=False)
        self.out = nn.Linear(config.width, self.heads * self.channels)
        self.imitation = Heads(config, transforms, self.channels)

    def q(self, multiplier: Tensor, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """Q_1 .. Q_K at one multiplier a journey, (B,), in units of its spread: (K, B, T, M)."""
        share = (multiplier / self.most if self.most else torch.ones_like(multiplier))[:, None, None]
        h = F.leaky_relu(self.read_state(self.state(ids, numbers, mask)) + self.read_multiplier(share))
        found: Tensor = self.out(h).unflatten(-1, (self.heads, self.channels)).movedim(-2, 0)
        return found


def most_multiplier(config: RBCQConfig, transforms: Transforms) -> float:
    """The largest lambda that the network is trained for; 0 without a cost, which leaves nothing to multiply."""
    if transforms.schema.cost is None:
        return 0.0
    if config.most_multiplier is not None:
        return config.most_multiplier
    return 2 * max(transforms.penalty, break_even(transforms))


class Learner(fitting.Learner[RBCQConfig, Network]):
    """The mixture's loss at random multipliers, and the imitation's."""

    def __init__(self, network: Network, transforms: Transforms, train: View, validation: View, config: RBCQConfig):
        network.spread.learn(train, transforms)
        super().__init__(network, transforms, train, validation, config, target_rate=config.target_rate)
        self.ends = ends_of(train.journeys)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The objective and its two terms; `policy` is the imitation's, the only one that tells the logged channel."""
        network, device = self.network, self.optimiser.device
        of = transitions(batch, self.ends, self.transforms, device)
        inputs = tensors(self.transforms.encode(batch.history), device)
        policy = negative_log_likelihood(network.imitation(*inputs), of)
        if not of.learnt.any():
            return {"loss": policy, "policy": policy}
        multiplier = self.multipliers(len(batch), device)  # (B,)
        shares = convex_shares(network.heads, device)
        reward = (
            penalised(of.reward, of.cost, multiplier[:, None], self.transforms) / network.spread(multiplier)[:, None]
        )
        y = self.targets(inputs, reward, of.terminated, multiplier, shares)
        q = of.chosen(mixed(network.q(multiplier, *inputs), shares))  # (n,)
        critic = fitted_q_loss(q, of.of(y))
        return {"loss": critic + policy, "policy": policy, "critic": critic}

    def multipliers(self, journeys: int, device: torch.device) -> Tensor:
        """(B,) half of them s itself, the others uniform from 0 to the largest; without a cost s alone."""
        own = torch.full((journeys,), float(self.transforms.penalty), device=device)
        if self.transforms.schema.cost is None:
            return own
        drawn = self.network.most * torch.rand(journeys, device=device)
        return torch.where(torch.rand(journeys, device=device) < 0.5, own, drawn)

    def targets(
        self, inputs: tuple[Tensor, ...], reward: Tensor, terminated: Tensor, multiplier: Tensor, shares: Tensor
    ) -> Tensor:
        """(B, T) y: the frozen mixture's value of the channel that the one in training prefers among the allowed."""
        assert self.target is not None
        network = self.network
        with settled(network):
            allowed = within_behaviour(network.imitation(*inputs), self.config.threshold)
            q = mixed(network.q(multiplier, *inputs), shares).masked_fill(~allowed, -torch.inf)
            value = taken(mixed(self.target.q(multiplier, *inputs), shares), q.argmax(-1))
        return td_target(reward, ahead(value), terminated, self.config.gamma)


def constrained(q: Tensor, imitation: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Q with minus infinity outside A(s), and logits in the order of the policy: (..., M), (..., M) -> twice (..., M).

    >>> values, logits = constrained(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0.6, 0.38, 0.02]).log(), 0.5)
    >>> values, logits.argmax(), bool(logits[2] < logits[0])
    (tensor([1., 3., -inf]), tensor(1), True)
    """
    allowed = within_behaviour(imitation, threshold)
    least = q.masked_fill(~allowed, torch.inf).min(-1, keepdim=True).values
    outside = imitation - imitation.masked_fill(~allowed, torch.inf).min(-1, keepdim=True).values  # below 0
    return q.masked_fill(~allowed, -torch.inf), torch.where(allowed, q, least + outside)


class RBCQ(NetworkMethod[RBCQConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy, at the price s or another."""

    name = "r-bcq"
    presets = PRESETS
    space = SPACE
    config_type = RBCQConfig
    learner = Learner
    predicts_gains = False
    epochs_tell = False  # of the imitation

    def __init__(self, config: RBCQConfig | None = None):
        super().__init__(config)
        self.multiplier: float | None = None  # None: s of the fit

    def new_network(self) -> Network:
        assert self.transforms is not None
        return Network(self.config, self.transforms)

    def check(self, journeys: Journeys, split: Split | None = None) -> None:
        super().check(journeys, split)
        check_reward(self.name, journeys, self.config.reward_weights)

    def policy_at(self, multiplier: float, stochastic: bool = False) -> ScorePolicy:
        """The policy at another price of money: reward per unit of cost, 0 for money that is free.

        Raises UserError for one that the network was not trained for.
        """
        transforms, network = self._fitted()
        most = network.most
        if transforms.schema.cost is None and multiplier:
            raise UserError(
                f"r-bcq: the run knows no cost, so a multiplier of {multiplier:g} means nothing; use policy()"
            )
        if not 0 <= multiplier <= most:
            raise UserError(
                f"r-bcq: multiplier {multiplier:g}, trained for 0 to {most:g}; choose one within, or fit with "
                "--set most_multiplier=..."
            )
        return self.nearest(multiplier).policy(stochastic)

    def nearest(self, multiplier: float) -> "RBCQ":
        """The same fit at a price of money, or at the nearest that it was trained for."""
        other = copy.copy(self)
        other.multiplier = min(max(multiplier, 0.0), self._fitted()[1].most)
        return other

    def heads(
        self, encoded: tuple[Tensor, ...], at: tuple[Tensor, Tensor], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        transforms, network = self._fitted()
        price = transforms.penalty if self.multiplier is None else self.multiplier
        multiplier = torch.full((len(encoded[0]),), float(price), device=self.device)
        q = network.spread(multiplier[:1]) * network.q(multiplier, *encoded).mean(0)[at]
        values, logits = constrained(q, network.imitation(*encoded)[at], self.config.threshold)
        return {"action": logits, "values": values}
