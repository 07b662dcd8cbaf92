"""IQL: implicit Q-learning, which never asks the critics about an action outside the log (Kostrikov et al. 2022).

V   argmin  E |tau - 1[Qbar < V]| (Qbar(s, a) - V(s))^2
Q   argmin  E (r + gamma (1 - d) V(s') - Q_j(s, a))^2
mu  argmin  E min(exp(beta (Qbar(s, a) - V(s))), most) (mu(s) - a)^2       advantage-weighted regression
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.fuse.learner import PRESETS as PRESETS
from headrace.fuse.learner import FuseConfig, Learner
from headrace.fuse.replay import Batch
from headrace.learn import updates
from headrace.nn.mlp import Tanh, mlp


@dataclass(frozen=True, slots=True)
class IQLConfig(FuseConfig):
    """IQL's own choices."""

    tau: float = 0.7  # expectile
    beta: float = 3.0  # how sharply advantages are followed, in spreads of the reward
    most: float = 100.0  # weight of a row


class IQLLearner(Learner):
    """A value network, twin critics and a regressed actor."""

    config: IQLConfig

    def build(self) -> None:
        c = self.config
        self.value = self.add("value", mlp(self.states, c.hidden, 1), c.critic_rate)
        self.actor = self.add("actor", Tanh(self.states, 0, c.hidden, self.size), c.actor_rate)

    def step(self, batch: Batch) -> dict[str, float]:
        c = self.config
        with torch.no_grad():
            q = updates.double_q(self.q(batch.state, batch.action[:, None], target=True)[..., 0])  # (B,)
        v = self.value(batch.state)[:, 0]
        value = updates.expectile_loss(v, q, c.tau)
        self.optimisers["value"].minimise(value)
        with torch.no_grad():
            after = self.value(batch.next_state)[:, 0]
        critic, q_batch = self.fit_critics(batch, updates.td_target(batch.reward, after, batch.terminated, c.gamma))
        weight = (c.beta * (q - v.detach())).exp().clamp(max=c.most)
        actor = (weight[:, None] * (self.point(self.actor(batch.state)) - batch.action).square()).mean()
        self.optimisers["actor"].minimise(actor)
        self.follow()
        return {
            "critic": float(critic),
            "value": float(value.detach()),
            "actor": float(actor.detach()),
            "q_batch": float(q_batch),
        }

    def act(self, state: Tensor) -> Tensor:
        with torch.no_grad():
            return self.point(self.actor(state))
