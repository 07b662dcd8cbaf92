"""TD3+BC: TD3 whose actor also copies the log (Fujimoto & Gu 2021).

mu  argmin  E [ -lambda Q_1(s, mu(s)) + (mu(s) - a)^2 ],   lambda = alpha / E |Q_1|
"""

from dataclasses import dataclass

from torch import Tensor

from headrace.fuse.learner import PRESETS as PRESETS
from headrace.fuse.replay import Batch
from headrace.fuse.td3 import TD3Config, TD3Learner


@dataclass(frozen=True, slots=True)
class TD3BCConfig(TD3Config):
    """TD3+BC's own choice."""

    alpha: float = 2.5  # weight of Q against the copy


class TD3BCLearner(TD3Learner):
    """TD3 with its actor's loss changed."""

    config: TD3BCConfig

    def actor_loss(self, batch: Batch) -> Tensor:
        action = self.point(self.actor(batch.state))
        q = self.q(batch.state, action[:, None])[0, :, 0]
        weight = self.config.alpha / q.detach().abs().mean().clamp(min=1e-6)
        out: Tensor = -weight * q.mean() + (action - batch.action).square().mean()
        return out
