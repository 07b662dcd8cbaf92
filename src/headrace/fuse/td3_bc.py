"""TD3+BC: TD3 whose actor also copies the log (Fujimoto & Gu 2021).

mu  argmin  E [ -lambda Q_1(s, mu(s)) + (mu(s) - a)^2 ],   lambda = alpha / E |Q_1|
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.fuse.learner import PRESETS as PRESETS
from headrace.fuse.replay import Batch
from headrace.fuse.td3 import TD3Config, TD3Learner
from headrace.learn import updates


@dataclass(frozen=True, slots=True)
class TD3BCConfig(TD3Config):
    """TD3+BC's own choice."""

    alpha: float = 2.5  # weight of Q against the copy


class TD3BCLearner(TD3Learner):
    """TD3 with its actor's loss changed."""

    config: TD3BCConfig

    def actor_loss(self, batch: Batch) -> Tensor:
        before = self.actor.before(batch.state)
        action = self.point(torch.tanh(before))
        by_q = updates.actor_loss(self.q(batch.state, action[:, None])[0, :, 0], before, self.config.saturation)
        return self.config.alpha * by_q + (action - batch.action).square().mean()
