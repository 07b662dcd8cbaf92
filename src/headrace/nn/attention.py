"""Causal self-attention over a journey: position t attends to 1..t and never to padding (MTORL equation 7)."""

import torch.nn.functional as F
from torch import Tensor, nn


class CausalAttention(nn.Module):
    """Multi-head scaled dot-product attention, (B, T, D) -> (B, T, D). Padding stands behind the valid steps,
    so a causal mask keeps it out of every valid position; its own outputs are set to zero."""

    def __init__(self, width: int, heads: int, dropout: float = 0.2):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        B, T, D = x.size()  # journeys, steps, width
        q, k, v = (
            self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        )  # each (B, heads, T, D / heads)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        return out.transpose(1, 2).reshape(B, T, D) * mask[..., None].to(x.dtype)
