"""Embeddings of categories beside standardised numbers. C category columns, F number columns."""

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

UNKNOWN = 1  # the id of a category that training has not met


def embedding_width(cardinality: int, largest: int = 16) -> int:
    """A width that grows slowly with the number of categories: 2 for a flag, `largest` from some hundred on."""
    grown: float = 1.6 * cardinality**0.4
    return min(largest, max(2, math.ceil(grown)))


class Piecewise(nn.Module):
    """Numbers as their place among knots, (..., F) -> (..., P): for each bin 0 below, 1 above, a line within.

    A linear layer on top is any function that is a line within each bin (Gorishniy et al. 2022, piecewise linear
    encoding): a sharp step costs it no more than it costs a tree.
    """

    column: Tensor
    low: Tensor
    scale: Tensor

    def __init__(self, knots: tuple[tuple[float, ...], ...]):
        """The knots of each number, ascending; a number without any has no bins."""
        super().__init__()
        bins = [(f, low, high) for f, at in enumerate(knots) for low, high in itertools.pairwise(at)]
        self.register_buffer("column", torch.tensor([f for f, _, _ in bins], dtype=torch.long), persistent=False)
        self.register_buffer("low", torch.tensor([low for _, low, _ in bins]), persistent=False)
        self.register_buffer("scale", torch.tensor([1 / (high - low) for _, low, high in bins]), persistent=False)
        self.width = len(bins)

    def width_of(self, numbers: int) -> int:
        """Bins of the first `numbers` numbers, which come first."""
        return int((self.column < numbers).sum())

    def forward(self, numbers: Tensor) -> Tensor:
        read = numbers.index_select(-1, self.column)  # ours alone, so it is changed in place
        return read.sub_(self.low).mul_(self.scale).clamp_(0, 1)


class Inputs(nn.Module):
    """Concatenates one embedding per category column with the numbers: (B, T, C), (B, T, F) -> (B, T, width)."""

    offsets: Tensor | None

    def __init__(
        self,
        cardinalities: list[int],
        numbers: int,
        unknown: float = 0.0,
        knots: tuple[tuple[float, ...], ...] = (),
        start: float = 1.0,
        grown: list[int] | None = None,
        size: int | None = None,
    ):
        """`size` is the width of every embedding, which then stand in one table; None: it grows with the number of ids.
        `unknown` is the share of ids that training turns into the unknown id (1): it keeps a net from telling
        users apart by the combination of their features, and teaches it what to do with ids it has not met. Numbers
        that have `knots` are also given in bins. `start` is the spread of the embeddings at first. `grown` says how
        many ids of each column joined after the first fit: they widen nothing."""
        super().__init__()
        self.unknown = unknown
        size = size if cardinalities else None  # a log without categories needs no table
        widths = [
            size or embedding_width(n - g)
            for n, g in zip(cardinalities, grown or [0] * len(cardinalities), strict=True)
        ]
        if size is None:
            self.tables = nn.ModuleList(
                nn.Embedding(n, width, padding_idx=0) for n, width in zip(cardinalities, widths, strict=True)
            )
        else:
            self.tables = nn.ModuleList([nn.Embedding(sum(cardinalities), size)])
        offsets = [0, *itertools.accumulate(cardinalities)][: len(cardinalities)]
        self.register_buffer("offsets", torch.tensor(offsets) if size is not None else None, persistent=False)
        with torch.no_grad():
            for table in self.tables:
                table.get_parameter("weight").mul_(start)
        self.bins = Piecewise(knots)
        self.plain = sum(widths) + numbers
        self.width = self.plain + self.bins.width

    def up_to(self, numbers: int) -> int:
        """How much of the width is left where only the first `numbers` numbers have their bins: those stand last."""
        return self.plain + self.bins.width_of(numbers)

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        if self.training and self.unknown > 0:
            hidden = (torch.rand(ids.shape, device=ids.device) < self.unknown) & (ids > 0)
            ids = torch.where(hidden, UNKNOWN, ids)
        if self.offsets is None:
            parts = [table(ids[..., i]) for i, table in enumerate(self.tables)]
        else:
            parts = [self.tables[0](ids + self.offsets).flatten(-2)]
        return torch.cat([*parts, numbers, self.bins(numbers)], dim=-1)  # (B, T, width)


def grown_to(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The weights of a module for one whose embeddings have more ids: rows of new ids are copies of the unknown id's.

    So the larger module says bit for bit what the smaller one says, until it has learnt of the new ids.
    """
    found = dict(weights)
    for name, table in ((n, m) for n, m in module.named_modules() if isinstance(m, nn.Embedding)):
        rows = found[f"{name}.weight"]
        more = table.num_embeddings - len(rows)
        found[f"{name}.weight"] = torch.cat([rows, rows[UNKNOWN].expand(more, -1)])
    return found
