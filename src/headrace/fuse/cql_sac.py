"""CQL+SAC: a stochastic actor under critics that are pressed down where the log was not (Kumar et al. 2020).

    y   = r + gamma (1 - d) min_j Qbar_j(s', a'),  a' ~ pi(s')                  no entropy in the backup, as CQL's code
    Q   argmin  alpha (E_s log sum_a exp Q_j - E_D Q_j) + 1/2 E_D (y - Q_j)^2    the sum by importance sampling
    pi  argmin  E [ entropy log pi(a|s) - min_j Q_j(s, a) ],  a = tanh(mean + sd e)

On a sphere or a simplex the draws and their densities are those of the numbers in [-1, 1]^K, and critics see the points
that these stand for: the sum runs over [-1, 1]^K in every form.

B rows, k sampled actions of each kind (uniform, pi at s, pi at s').
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from headrace.fuse.learner import PRESETS as PRESETS
from headrace.fuse.learner import FuseConfig, Learner
from headrace.fuse.replay import Batch
from headrace.learn import updates
from headrace.nn.mlp import mlp

LOG_SD = (-5.0, 2.0)


@dataclass(frozen=True, slots=True)
class CQLConfig(FuseConfig):
    """CQL+SAC's own choices."""

    alpha: float = 1.0  # weight of the conservative penalty
    entropy: float = 0.05  # SAC's temperature, fixed; in spreads of the reward
    samples: int = 4  # k


class CQLLearner(Learner):
    """A squashed normal actor and twin critics."""

    config: CQLConfig

    def build(self) -> None:
        self.actor = self.add("actor", mlp(self.states, self.config.hidden, 2 * self.size), self.config.actor_rate)

    def sample(self, state: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(B, S) -> actions (B, k, K) and log densities (B, k), before they are made points."""
        mean, log_sd = self.actor(state)[:, None].expand(-1, k, -1).chunk(2, dim=-1)
        log_sd = log_sd.clamp(*LOG_SD)
        e = torch.randn_like(mean)
        u = mean + log_sd.exp() * e
        bell = -0.5 * e.square() - log_sd - 0.5 * math.log(2 * math.pi)
        bend = 2 * (math.log(2) - u - F.softplus(-2 * u))  # log (1 - tanh(u)^2)
        return self.point(torch.tanh(u)), (bell - bend).sum(-1)

    def step(self, batch: Batch) -> dict[str, float]:
        c = self.config
        with torch.no_grad():
            action, _ = self.sample(batch.next_state, 1)
            after = updates.double_q(self.q(batch.next_state, action, target=True)[..., 0])
        y = updates.td_target(batch.reward, after, batch.terminated, c.gamma)
        with torch.no_grad():
            uniform = self.point(2 * torch.rand(len(y), c.samples, self.size) - 1)
            here, log_here = self.sample(batch.state, c.samples)
            there, log_there = self.sample(batch.next_state, c.samples)
            density = torch.cat([torch.full((len(y), c.samples), -self.size * math.log(2)), log_here, log_there], dim=1)
        every = self.q(batch.state, torch.cat([batch.action[:, None], uniform, here, there], dim=1))
        q, others = every[..., 0], every[..., 1:]
        penalty = updates.sampled_logsumexp_penalty(others, density, q)  # (2,)
        loss = updates.conservative_loss(q, y, penalty, c.alpha)
        self.optimisers["critic"].minimise(loss.sum())
        action, log_pi = self.sample(batch.state, 1)
        actor = (c.entropy * log_pi[:, 0] - self.q(batch.state, action).min(0).values[:, 0]).mean()
        self.optimisers["actor"].minimise(actor)
        self.follow()
        return {
            "critic": float(loss.detach().mean()),
            "penalty": float(penalty.detach().mean()),
            "actor": float(actor.detach()),
            "q_batch": float(q.detach().mean()),
        }

    def act(self, state: Tensor) -> Tensor:
        with torch.no_grad():
            return self.point(torch.tanh(self.actor(state)[:, : self.size]))
