"""TD3: twin delayed deterministic policy gradients (Fujimoto et al. 2018), which nothing keeps near the log.

    a'  = clip(mubar(s') + clip(N(0, noise), +-clip), +-1)                  and back onto a sphere or simplex
    y   = r + gamma (1 - d) min_j Qbar_j(s', a')
    mu  argmax  E Q_1(s, mu(s)) / E |Q_1| - c E x(s)^2,  mu = tanh(x),  every `delay` updates

c keeps tanh from saturating (learn/updates.py); the paper has none.

B rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.fuse.learner import PRESETS as PRESETS
from headrace.fuse.learner import FuseConfig, Learner, copy_of, dead
from headrace.fuse.replay import Batch
from headrace.learn import updates
from headrace.nn.mlp import Tanh


@dataclass(frozen=True, slots=True)
class TD3Config(FuseConfig):
    """TD3's own choices."""

    noise: float = 0.2  # sd of the target's smoothing, in half widths
    clip: float = 0.5  # of that noise
    delay: int = 2  # updates of the critics to one of the actor
    saturation: float = 1e-3  # c; 0: as printed


class TD3Learner(Learner):
    """A deterministic actor and twin critics."""

    config: TD3Config

    def build(self) -> None:
        c = self.config
        self.actor = self.add("actor", Tanh(self.states, 0, c.hidden, self.size), c.actor_rate)
        self.actor_target = self.nets["actor_target"] = copy_of(self.actor)
        self.low, self.high = -torch.ones(self.size), torch.ones(self.size)  # of the actions that targets look at

    def target(self, batch: Batch) -> Tensor:
        """(B,) y, the next action smoothed."""
        c = self.config
        with torch.no_grad():
            noise = (c.noise * torch.randn_like(batch.action)).clamp(-c.clip, c.clip)
            action = self.point(self.actor_target(batch.next_state)) + noise
            action = self.point(action.clamp(self.low, self.high))
            q = updates.double_q(self.q(batch.next_state, action[:, None], target=True)[..., 0])
        return updates.td_target(batch.reward, q, batch.terminated, c.gamma)

    def actor_loss(self, batch: Batch) -> Tensor:
        before = self.actor.before(batch.state)
        action = self.point(torch.tanh(before))
        return updates.actor_loss(self.q(batch.state, action[:, None])[0, :, 0], before, self.config.saturation)

    def diagnose(self, state: Tensor) -> dict[str, float]:
        return {"dead": dead(self.actor.before(state))}

    def step(self, batch: Batch) -> dict[str, float]:
        critic, q = self.fit_critics(batch, self.target(batch))
        losses = {"critic": float(critic), "q_batch": float(q)}
        if self.updated % self.config.delay == 0:
            actor = self.actor_loss(batch)
            self.optimisers["actor"].minimise(actor)
            losses["actor"] = float(actor.detach())
        self.follow((self.actor_target, self.actor))
        return losses

    def act(self, state: Tensor) -> Tensor:
        with torch.no_grad():
            return self.point(self.actor(state))
