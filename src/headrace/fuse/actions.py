"""The action of a fusion: weights of K predicted scores, as a point in [-1, 1]^K that a network can give.

    box       each weight between its bounds, its middle at 0
    unit      weights of norm 1: scaling them by c > 0 leaves a log-sum's ranking as it is, so one axis is idle
    simplex   weights of 0 or more that add up to 1, over scores oriented first: more is better in all of them

Whatever a network or a draw gives, critics and the ranking see the point of the space that it stands for (`point`).

n rows, K scores.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from headrace.errors import UserError, unknown
from headrace.journeys.seams import Floats

Form = Literal["box", "unit", "simplex"]
LEAST = 1e-9  # a norm or a sum below which weights say nothing


@dataclass(frozen=True, slots=True)
class Actions:
    """The space of K fusion weights, and the scaled actions in [-1, 1]^K that stand for them."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    form: Form = "box"

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise unknown("form of actions", self.form, get_args(Form))
        if len(self.low) != len(self.high) or not (np.array(self.high) > np.array(self.low)).all():
            raise UserError(f"actions: a box from {list(self.low)} to {list(self.high)}; expected low below high")

    @property
    def size(self) -> int:
        return len(self.low)

    def weights(self, scaled: Any) -> Floats:
        """(n, K) the fusion weights of actions in [-1, 1]^K; what lies outside is clipped first.

        >>> Actions((0.0,), (4.0,)).weights([[0.5]]).tolist()
        [[3.0]]
        """
        a = np.clip(np.asarray(scaled, dtype=np.float64), -1.0, 1.0)
        low, high = np.array(self.low), np.array(self.high)
        if self.form == "box":
            return np.asarray(low + (a + 1) / 2 * (high - low))
        if self.form == "unit":
            return _over(a, np.linalg.norm(a, axis=-1, keepdims=True), self.size**-0.5)
        shares = (a + 1) / 2
        return _over(shares, shares.sum(axis=-1, keepdims=True), 1 / self.size)

    def scaled(self, weights: Any) -> Floats:
        """(n, K) the action in [-1, 1]^K that stands for logged weights; raises UserError where none does."""
        w = np.asarray(weights, dtype=np.float64)
        if not np.isfinite(w).all():
            raise UserError("fusion weights that are not finite numbers; leave those rows out of the log")
        if self.form == "box":
            low, high = np.array(self.low), np.array(self.high)
            found = np.asarray(2 * (w - low) / (high - low) - 1)
            outside = np.abs(found) > 1 + 1e-6
            if outside.any():
                k = int(np.flatnonzero(outside.any(axis=tuple(range(found.ndim - 1))))[0])
                raise UserError(
                    f"actions: logged weights of score {k + 1} lie outside their box, {low[k]:g} to {high[k]:g}; "
                    "correct low and high of [fusion], or leave them out"
                )
            return np.asarray(np.clip(found, -1.0, 1.0))
        if self.form == "unit":
            return _over(w, np.linalg.norm(w, axis=-1, keepdims=True), self.size**-0.5)
        if (w < -LEAST).any() or (np.abs(w.sum(axis=-1) - 1) > 1e-6).any():
            raise UserError(
                "actions: logged weights below 0, or that do not add up to 1; the form simplex needs a log of a "
                "policy over oriented scores, use box or unit"
            )
        return np.asarray(2 * w - 1)


def point(action: Tensor, form: Form) -> Tensor:
    """(..., K) any numbers -> the scaled action of the weights that they stand for; gradients pass, a point stays.

    It is `scaled` of `weights`: clipped to [-1, 1]^K, and scaled to a norm or a sum of 1.

    >>> point(torch.tensor([3.0, -4.0]), "unit")
    tensor([ 0.7071, -0.7071])
    """
    a = action.clamp(-1.0, 1.0)
    if form == "box":
        return a
    if form == "unit":
        size = torch.linalg.vector_norm(a, dim=-1, keepdim=True)
        return torch.where(size > LEAST, a / size.clamp(min=LEAST), a.shape[-1] ** -0.5)
    shares = (a + 1) / 2
    whole = shares.sum(dim=-1, keepdim=True)
    return 2 * torch.where(whole > LEAST, shares / whole.clamp(min=LEAST), 1 / a.shape[-1]) - 1


def _over(values: Floats, size: Floats, even: float) -> Floats:
    """values / size; `even` in each place where the size is next to nothing, which is no direction."""
    return np.where(size > LEAST, values / np.maximum(size, LEAST), even)
