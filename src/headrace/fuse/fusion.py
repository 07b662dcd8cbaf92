"""Fusion: from K predicted scores of an item and K weights to the number it is ranked by.

    log-sum    sum_k w_k log(o_k + b_k)            Zhang et al. 2022 (1)
    power      prod_k (o_k + b_k)^w_k              the same order, as a product
    weighted   sum_k w_k o_k
    cells      sum_k w_k g_k(o_k)                  g_k non-decreasing, linear between knots (a monotone cell a score)

The first three need no fit. A cell's default is the distribution function of its score in the training log, which makes
scores of any scale and calibration comparable.

A requests, C candidates, K scores, J knots.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from scipy.stats import kendalltau

from headrace.errors import UserError, unknown
from headrace.journeys.seams import Bools, Floats, Integers

Kind = Literal["log-sum", "power", "weighted", "cells"]
OFFSET = 1e-3  # of a score, unless the log tells another
NEGATIVE = ("exit", "hate", "is_hate")  # scores of which less is better, unless the log tells others


class Fusion(Protocol):
    """Scores (A, C, K) under weights (A, K) -> (A, C), larger first."""

    def __call__(self, scores: Floats, weights: Floats) -> Floats: ...


@dataclass(frozen=True, slots=True)
class LogSum:
    """sum_k w_k log(o_k + b_k)."""

    offsets: tuple[float, ...]

    def __call__(self, scores: Floats, weights: Floats) -> Floats:
        return np.asarray(np.einsum("ack,ak->ac", np.log(scores + np.array(self.offsets)), weights))


@dataclass(frozen=True, slots=True)
class Power:
    """prod_k (o_k + b_k)^w_k, through logarithms: no product of many small numbers is formed on the way."""

    offsets: tuple[float, ...]

    def __call__(self, scores: Floats, weights: Floats) -> Floats:
        return np.exp(np.clip(LogSum(self.offsets)(scores, weights), -700.0, 700.0))


@dataclass(frozen=True, slots=True)
class Weighted:
    """sum_k w_k o_k."""

    def __call__(self, scores: Floats, weights: Floats) -> Floats:
        return np.asarray(np.einsum("ack,ak->ac", scores, weights))


@dataclass(frozen=True, slots=True)
class Cells:
    """sum_k w_k g_k(o_k), g_k from `heights` at ascending `knots`, (K, J) each, constant beyond the outer ones."""

    knots: tuple[tuple[float, ...], ...]
    heights: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if any((np.diff(h) < 0).any() for h in self.heights) or any((np.diff(k) <= 0).any() for k in self.knots):
            raise UserError("fusion cells: heights that fall, or knots that do not rise; expected monotone cells")

    def __call__(self, scores: Floats, weights: Floats) -> Floats:
        found = np.zeros(scores.shape[:2])
        for k, (knots, heights) in enumerate(zip(self.knots, self.heights, strict=True)):
            found += weights[:, k, None] * np.interp(scores[..., k], knots, heights)
        return found


def quantile_cells(scores: Floats, knots: int = 16) -> Cells:
    """Cells whose g_k is the distribution function of the scores (n, K)."""
    at = np.linspace(0, 1, knots)
    places, heights = [], []
    for column in scores.T:
        quantiles, first = np.unique(np.quantile(column, at), return_index=True)
        places.append(tuple(float(q) for q in quantiles))
        heights.append(tuple(float(at[i]) for i in first))
    return Cells(tuple(places), tuple(heights))


def fusion_of(kind: str, offsets: tuple[float, ...], scores: Floats | None = None) -> Fusion:
    """The fusion of this name, with an offset for each of K scores; cells are fitted to training `scores` (n, K)."""
    if kind == "cells":
        if scores is None:
            raise UserError("fusion cells: this log holds no candidates' scores to fit them to; use log-sum")
        return quantile_cells(scores)
    made: dict[str, Fusion] = {"log-sum": LogSum(offsets), "power": Power(offsets), "weighted": Weighted()}
    if kind not in made:
        raise unknown("fusion", kind, [*made, "cells"])
    return made[kind]


def oriented(scores: Floats, negative: Bools) -> Floats:
    """The scores with 1 - o where less is better: what weights on a simplex need.

    >>> oriented(np.array([[0.2, 0.1]]), np.array([False, True])).tolist()
    [[0.2, 0.9]]
    """
    return np.where(negative, 1.0 - scores, scores)


def top(fused: Floats, k: int) -> Integers:
    """(A, k) the candidates of the largest fused scores, largest first, of equal ones the first; -1 behind the last.

    A candidate that is none (NaN) is never taken.
    """
    there = np.isfinite(fused)
    order = np.argsort(np.where(there, -fused, np.inf), axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(there, order, axis=1), order, -1)


def kendall(fusion: Fusion, scores: Floats, ours: Floats, theirs: Floats) -> Floats:
    """(A,) Kendall's tau of the order that two sets of weights (A, K) give to the same candidates (A, C, K)."""
    a, b = fusion(scores, ours), fusion(scores, theirs)
    taus: list[Any] = [kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]
    return np.asarray(taus, dtype=np.float64)
