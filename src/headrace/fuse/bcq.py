"""BatchRL-MTF: batch-constrained Q-learning of fusion weights (Zhang et al., CIKM 2022; Fujimoto et al. 2019).

    G     argmin  E_D (a - G(s, z))^2 + kappa KL(E(z | s, a) | N(0, 1))                               (3)
    pi    argmax_i  Q_1(s, a_i + xi(s, a_i)),  a_i ~ G(s), |xi| <= rho                                (4)
    xi    argmax  E Q_1(s, a + xi(s, a)) / E |Q_1| - c E x(s, a)^2,  xi = rho tanh(x),  a ~ G(s)      (5)
    Q     argmin  E_D (y - Q_j(s, a))^2                                                               (6)
    y     = r + gamma (1 - d) max_i soft-min_j Qbar_j(s', a'_i + xibar(s', a'_i))                     (7)

Corrected or added: argmin in (6), printed argmax; the mask d, not printed; xibar, the target perturbation network of
(7) (Algorithm 1, line 7, has the one in training); as BCQ has and the paper omits: z clipped to +-.5 when decoding,
the clamp of the log sd, kappa on means over axes, and the soft form lower * min + (1 - lower) * max of the twins; and
c, without which tanh saturates and xi is one constant vector, whatever the state and the reward.

B rows, k sampled actions, Z latent coordinates.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headrace.fuse.learner import PRESETS as SHARED
from headrace.fuse.learner import FuseConfig, Learner, best_of, copy_of, dead
from headrace.fuse.replay import Batch
from headrace.learn import updates
from headrace.nn.mlp import Tanh
from headrace.nn.vae import VAE


@dataclass(frozen=True, slots=True)
class BCQConfig(FuseConfig):
    """BatchRL-MTF's own choices."""

    rho: float = 0.15  # bound of the perturbation, in half widths of the box
    saturation: float = 1e-3  # c; 0: as printed
    samples: int = 10  # k, actions that are tried; not printed
    vae_rate: float = 1e-3
    kl_weight: float = 0.5  # kappa
    latent: int | None = None  # Z; None: twice the number of weights
    lower: float = 0.75  # share of the smaller twin in the target; 1: clipped double Q, as printed


PRESETS: dict[str, dict[str, Any]] = SHARED | {"paper": SHARED["paper"] | {"lower": 1.0}}


class BCQLearner(Learner):
    """VAE, perturbation and twin critics."""

    config: BCQConfig

    def build(self) -> None:
        c = self.config
        latent = c.latent or 2 * self.size
        self.vae = self.add("vae", VAE(self.states, self.size, c.hidden, latent), c.vae_rate)
        self.shift = self.add("shift", Tanh(self.states, self.size, c.hidden, self.size, c.rho), c.actor_rate)
        self.shift_target = self.nets["shift_target"] = copy_of(self.shift)
        self.fixed = torch.randn(c.samples, latent, generator=torch.Generator().manual_seed(c.seed))  # of the policy

    def candidates(self, state: Tensor, shift: Any, z: Tensor) -> Tensor:
        """(B, S), latents (B, k, Z) or (B, Z) -> (B, k, K) or (B, K) perturbed actions."""
        with torch.no_grad():  # the VAE learns from the log alone
            action = self.point(self.vae.decode(state, z))
        return self.point(action + shift(state, action))

    def target(self, batch: Batch) -> Tensor:
        """(B,) y of (7)."""
        with torch.no_grad():
            z = torch.randn(len(batch.reward), self.config.samples, self.vae.latent)
            actions = self.candidates(batch.next_state, self.shift_target, z)
            q = updates.double_q(self.q(batch.next_state, actions, target=True), self.config.lower)  # (B, k)
        return updates.td_target(batch.reward, q.max(dim=1).values, batch.terminated, self.config.gamma)

    def step(self, batch: Batch) -> dict[str, float]:
        decoded, mean, log_sd = self.vae(batch.state, batch.action)
        vae = updates.vae_loss(decoded, batch.action, mean, log_sd, self.config.kl_weight)
        self.optimisers["vae"].minimise(vae)
        critic, q = self.fit_critics(batch, self.target(batch))
        with torch.no_grad():
            drawn = self.point(self.vae.decode(batch.state, torch.randn(len(batch.reward), self.vae.latent)))
        before = self.shift.before(batch.state, drawn)
        moved = self.point(drawn + self.shift.bound * torch.tanh(before))
        actor = updates.actor_loss(self.q(batch.state, moved[:, None])[0, :, 0], before, self.config.saturation)
        self.optimisers["shift"].minimise(actor)
        self.follow((self.shift_target, self.shift))
        return {
            "critic": float(critic),
            "vae": float(vae.detach()),
            "actor": float(actor.detach()),
            "q_batch": float(q),
        }

    def diagnose(self, state: Tensor) -> dict[str, float]:
        drawn = self.point(self.vae.decode(state, self.fixed[:1].expand(len(state), -1)))
        return {"dead": dead(self.shift.before(state, drawn))}

    def act(self, state: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.fixed.expand(len(state), *self.fixed.shape)
            actions = self.candidates(state, self.shift, z)
            return best_of(self.q(state, actions)[0], actions)
