"""Embeddings of categories beside standardised numbers. C category columns, F number columns."""

import math

import torch
from torch import Tensor, nn


def embedding_width(cardinality: int, largest: int = 16) -> int:
    """A width that grows slowly with the number of categories: 2 for a flag, `largest` from some hundred on."""
    grown: float = 1.6 * cardinality**0.4
    return min(largest, max(2, math.ceil(grown)))


class Inputs(nn.Module):
    """Concatenates one embedding per category column with the numbers: (B, T, C), (B, T, F) -> (B, T, width)."""

    def __init__(self, cardinalities: list[int], numbers: int, unknown: float = 0.0):
        """`unknown` is the share of ids that training turns into the unknown id (1): it keeps a net from telling
        users apart by the combination of their features, and teaches it what to do with ids it has not met."""
        super().__init__()
        self.unknown = unknown
        self.tables = nn.ModuleList(nn.Embedding(n, embedding_width(n), padding_idx=0) for n in cardinalities)
        self.width = sum(embedding_width(n) for n in cardinalities) + numbers

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        if self.training and self.unknown > 0:
            hidden = (torch.rand(ids.shape, device=ids.device) < self.unknown) & (ids > 0)
            ids = torch.where(hidden, 1, ids)
        parts = [table(ids[..., i]) for i, table in enumerate(self.tables)]
        return torch.cat([*parts, numbers], dim=-1)  # (B, T, width)
