"""The preference loss of MTORL, equation (15): of two journeys, the channels of the better one are to be likelier.

    L = -mean log sigma(beta (d^w - d^l)),   d = log pi(a | x)                     free: as printed, no reference
                                             d = log pi(a | x) - log pi_0(a | x)   reference: to a frozen policy pi_0

With a reference it is direct preference optimisation (Rafailov et al., NeurIPS 2023, equation 7), whose normaliser
cancels only for two answers to one context; two journeys are two contexts, hence pairs of like users and lengths.

B journeys, T steps.
"""

from collections.abc import Collection
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from headrace.journeys.seams import Floats
from headrace.journeys.views import Batch

Pairing = Literal["any", "matched"]


def partners(batch: Batch, pairing: Pairing, categories: Collection[str] = ()) -> Tensor:
    """(B,) whom each journey of a batch is compared with: anyone by lot, or the likest one in length and user.

    `categories` names the features of users that are equal or not, and neither near nor far.
    """
    lot = torch.randperm(len(batch.label))
    if pairing == "any":
        return lot
    likest = unlikeness(batch, categories)[:, lot.numpy()].argmin(
        axis=1
    )  # the first in the lot's order, where several are
    return lot[torch.from_numpy(likest)]


def unlikeness(batch: Batch, categories: Collection[str]) -> Floats:
    """(B, B) how far apart two journeys are, infinite from itself: the difference in labelled steps and in the rank of
    each feature of the users, 0 to 1 each; a category counts 1 where it differs."""
    labelled = batch.label.sum(axis=1).astype(np.float64)
    far = apart(labelled)
    for name, values in batch.history.user.items():
        far = far + (values[:, None] != values if name in categories else apart(values))
    np.fill_diagonal(far, np.inf)
    return far


def apart(values: NDArray[Any]) -> Floats:
    """(B, B) the differences in rank of (B,) values, as a share of the largest."""
    ranks = np.unique(values, return_inverse=True)[1].astype(np.float64)
    found: Floats = np.abs(ranks[:, None] - ranks) / max(ranks.max(), 1.0)
    return found


def preference_loss(likelihood: Tensor, totals: Tensor, label: Tensor, beta: float, other: Tensor) -> Tensor:
    """Equation (15) over the pairs (journey, other), averaged over the steps valid in both.

    likelihood (B, T) d above, of the logged channels; totals (B,) mean reward per valid step; label (B, T).
    Pairs of equal totals say nothing and are left out.
    """
    sign = torch.sign(totals - totals[other])[:, None]  # +1 where the journey itself is preferred
    both = (label & label[other]).to(likelihood.dtype) * sign.abs()
    loss = -F.logsigmoid(beta * sign * (likelihood - likelihood[other]))
    return (loss * both).sum() / both.sum().clamp(min=1.0)
