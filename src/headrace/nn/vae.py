"""A conditional variational auto-encoder of actions in [-1, 1]^K (Sohn et al. 2015; BCQ, Fujimoto et al. 2019).

B rows, S state features, K action coordinates, Z latent ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from headrace.nn.mlp import Tanh, mlp

LOG_SD = (-4.0, 15.0)  # clamp: a spread of 0 has an infinite KL, a huge one overflows
CLIP = 0.5  # of a latent point when decoding, as BCQ does: nearer to the middle, nearer to the data


class VAE(nn.Module):
    """Encoder (s, a) -> mean and log sd of z, decoder (s, z) -> a."""

    def __init__(self, state: int, action: int, hidden: Sequence[int], latent: int):
        super().__init__()
        self.latent = latent
        self.encoder = mlp(state + action, hidden, 2 * latent)
        self.decoder = Tanh(state, latent, hidden, action)

    def forward(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S), (B, K) -> the action decoded from a drawn z, and z's mean and log sd."""
        mean, log_sd = self.encoder(torch.cat([state, action], dim=-1)).chunk(2, dim=-1)
        log_sd = log_sd.clamp(*LOG_SD)
        z = mean + log_sd.exp() * torch.randn_like(mean)
        return self.decoder(state, z), mean, log_sd

    def decode(self, state: Tensor, z: Tensor) -> Tensor:
        """(B, S), (B, Z) or (B, k, Z) -> (B, K) or (B, k, K), z clipped."""
        out: Tensor = self.decoder(state, z.clamp(-CLIP, CLIP))
        return out
