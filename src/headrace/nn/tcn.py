"""Causal temporal convolution: position t reads t, t - d, t - 2d, ..., never ahead (Bai et al. 2018; MTORL equation 5).

Printed in the MTORL paper as h_{t - d - i}; the dilated index is t - d * i.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from headrace.nn.dropout import Dropout


class CausalConv(nn.Module):
    """One dilated causal convolution over steps: (B, T, D) -> (B, T, D)."""

    def __init__(self, width: int, kernel: int, dilation: int):
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(width, width, kernel, dilation=dilation))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x.transpose(1, 2), (self.past, 0)))
        return out.transpose(1, 2)


class TCN(nn.Module):
    """`layers` residual blocks with dilations 1, 2, 4, ...; padding steps (mask 0) are zero after every block."""

    def __init__(self, width: int, layers: int, kernel: int = 3, dropout: float = 0.2):
        super().__init__()
        self.convs = nn.ModuleList(CausalConv(width, kernel, 2**i) for i in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        keep = mask[..., None].to(x.dtype)  # (B, T, 1)
        x = x * keep
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = (x + self.dropout(F.leaky_relu(norm(conv(x))))) * keep
        return x
