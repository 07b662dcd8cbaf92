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

    def __init__(self, cardinalities: list[int], numbers: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, embedding_width(n), padding_idx=0) for n in cardinalities)
        self.width = sum(embedding_width(n) for n in cardinalities) + numbers

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        parts = [table(ids[..., i]) for i, table in enumerate(self.tables)]
        return torch.cat([*parts, numbers], dim=-1)  # (B, T, width)
