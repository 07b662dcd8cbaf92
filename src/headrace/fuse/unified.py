"""Bounded exploration, and a penalty on what was never tried, after UnifiedRL-MTF (Liu et al. 2024, arXiv 2404.17589).

    mu  argmin  E [ -Q_1(s, mu(s)) / E |Q_1| + eta sum_k max(0, |mu_k(s) - m_k| - h_k)^2 ],   TD3 otherwise

m_k +- h_k is the range of weight k in the log, which targets do not leave either. Made for a log whose exploration was
uniform in a narrow band about one set of weights (exploration.py, `bounded`), where the range is that band; on a log
that explores widely it is TD3. In the style of the paper and no more: its many critics are left out, and its rounds of
training and exploring are the daily cycle.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from headrace.fuse.learner import PRESETS as PRESETS
from headrace.fuse.replay import Batch
from headrace.fuse.td3 import TD3Config, TD3Learner
from headrace.learn import updates


@dataclass(frozen=True, slots=True)
class UnifiedConfig(TD3Config):
    """The method's own choice."""

    eta: float = 100.0  # of a squared step out of the log's range, in half widths of the box


class UnifiedLearner(TD3Learner):
    """TD3 with its actor held to the range of the log."""

    config: UnifiedConfig

    def build(self) -> None:
        super().build()
        self.low, self.high = self.replay.action.amin(0), self.replay.action.amax(0)

    def actor_loss(self, batch: Batch) -> Tensor:
        before = self.actor.before(batch.state)
        action = self.point(torch.tanh(before))
        q = self.q(batch.state, action[:, None])[0, :, 0]
        outside = F.relu(action - self.high) + F.relu(self.low - action)  # (B, K), one of the two
        found = updates.actor_loss(q, before, self.config.saturation)
        return found + self.config.eta * outside.square().sum(dim=1).mean()
