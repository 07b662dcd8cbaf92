"""UWAC+TD3: TD3 that learns less from what its critics are unsure of (Wu et al. 2021).

    w   = clamp(beta / Var Q(s', a'), 0, 1)  over `passes` passes with dropout; or exp(-beta Var), their code's default
    Q   argmin  E w (y - Q_j(s, a))^2;   mu  argmax  E w(s, mu(s)) Q_1(s, mu(s))

The weight stands outside the square.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from headrace.fuse.learner import PRESETS as PRESETS
from headrace.fuse.replay import Batch
from headrace.fuse.td3 import TD3Config, TD3Learner
from headrace.learn import updates
from headrace.ope.q_net import QNets


@dataclass(frozen=True, slots=True)
class UWACConfig(TD3Config):
    """UWAC's own choices."""

    beta: float = 0.5
    weight: Literal["ratio", "exp"] = "ratio"
    passes: int = 10  # about 100 in the paper
    dropout: float = 0.1  # of the critics' hidden layers


class UWACLearner(TD3Learner):
    """TD3 with dropout in the critics."""

    config: UWACConfig

    def new_critic(self, seed: int) -> QNets:
        return QNets(2, self.states, self.size, self.config.hidden, seed, self.config.dropout)

    def certain(self, state: Tensor, action: Tensor) -> Tensor:
        """(B,) the weight of pairs (B, S), (B, K), from dropout passes of the target critics."""
        c = self.config
        with torch.no_grad():
            drawn = torch.stack([self.q(state, action[:, None], target=True)[0, :, 0] for _ in range(c.passes)])
        return updates.certainty(drawn, c.beta, c.weight)

    def fit_critics(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            action = self.point(self.actor_target(batch.next_state))
        weight = torch.where(batch.terminated, 1.0, self.certain(batch.next_state, action))
        q = self.q(batch.state, batch.action[:, None])[..., 0]
        loss = updates.weighted_q_loss(q, target, weight)
        self.optimisers["critic"].minimise(loss.sum())
        return loss.detach().mean(), q.detach().mean()

    def actor_loss(self, batch: Batch) -> Tensor:
        before = self.actor.before(batch.state)
        action = self.point(torch.tanh(before))
        weight = self.certain(batch.state, action.detach())
        return updates.actor_loss(
            weight * self.q(batch.state, action[:, None])[0, :, 0], before, self.config.saturation
        )

    def validate(self) -> dict[str, float]:
        self.critic.eval()
        found = super().validate()
        self.critic.train()
        return found
