"""Weights of tasks from the gradients of their losses, for stage C. K tasks, P weights that all tasks share.

    gradnorm    weights are learnt so that each task's gradient is as long as its pace asks (Chen et al., ICML 2018)
    pcgrad      a task's gradient loses what points against another's (Yu et al., NeurIPS 2020), through torchjd

Both need no more of the gradients than their products G = J J^T, J (K, P) the gradients of the K losses; and both come
down to a weight a task, since gradients without their conflicts are sums of gradients. With pcgrad what belongs to one
task alone is scaled by its weight, too, which AdamW undoes but for the clip. A step costs a backward pass a task more.

A task's pace is its loss, smoothed, as a share of what the base rate alone would lose: stage C starts from a trained
model, so that the first batch, which the paper divides by, would tell of nothing but that batch.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from headrace.errors import UserError

Balanced = Literal["gradnorm", "pcgrad"]
BY_GRADIENT = get_args(Balanced)
RESTORING = 1.5  # alpha of GradNorm: how strongly a slow task is helped
RATE = 0.025  # of GradNorm's weights
SMOOTH = 0.99  # of the losses that pace is told from


def check(kind: str, backbone: str, tasks: int) -> None:
    """Raise UserError where tasks cannot be balanced so."""
    if kind in BY_GRADIENT and backbone == "single" and tasks > 1:
        raise UserError(f"rmtl config: weights = {kind} with backbone = single, whose tasks share nothing; change one")
    if kind == "pcgrad" and find_spec("torchjd") is None:
        raise UserError("weights pcgrad: the package torchjd is not installed; pip install 'headrace[balance]'")


def shared(logits: Tensor, module: nn.Module) -> list[nn.Parameter]:
    """The weights of the module that every task's log-odds (B, K) depend on."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    reached = [[bool(part.any()) for part in _gradients(logits[:, k].sum(), weights)] for k in range(logits.shape[1])]
    return [weight for weight, by in zip(weights, zip(*reached, strict=True), strict=True) if all(by)]


def products(losses: Tensor, weights: Sequence[nn.Parameter]) -> Tensor:
    """(K, K) inner products of the gradients of losses (K,) by these weights."""
    rows = torch.stack([torch.cat([part.flatten() for part in _gradients(loss, weights)]) for loss in losses])
    return rows @ rows.T


def _gradients(value: Tensor, weights: Sequence[nn.Parameter]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, weights, retain_graph=True, materialize_grads=True)


def without_conflict(gram: Tensor) -> Tensor:
    """(K,) how much each gradient counts once conflicts are projected away, in an order of tasks drawn anew each time.

    >>> without_conflict(torch.tensor([[1.0, -0.5], [-0.5, 2.0]])).tolist()  # g1 + g2/4, g2 + g1/2
    [1.5, 1.25]
    """
    from torchjd.aggregation import PCGradWeighting

    found: Tensor = PCGradWeighting()(gram)
    return found


def kept_pace(weights: Tensor, gram: Tensor, pace: Tensor) -> Tensor:
    """(K,) GradNorm's weights after a step: their sum stays K.

    A task's gradient, w_k ||g_k||, is drawn to their mean times (its pace over the mean pace)^alpha: a step of RATE
    down sum_k |w_k ||g_k|| - target_k|, lengths counted in their mean, so that RATE has no unit.

    >>> kept_pace(torch.ones(2), torch.tensor([[4.0, 0.0], [0.0, 1.0]]), torch.ones(2)).tolist()[0] < 1
    True
    """
    norms = gram.diagonal().sqrt()
    norms = norms / norms.mean().clamp(min=1e-12)
    target = (weights * norms).mean() * (pace / pace.mean()) ** RESTORING
    moved = (weights - RATE * norms * torch.sign(weights * norms - target)).clamp(min=1e-3)
    return moved * len(moved) / moved.sum()


def base_loss(labels: Tensor, known: Tensor) -> Tensor:
    """(K,) the cross-entropy of telling each task's base rate, from labels (n, K) where they are known (n, K)."""
    p = ((labels * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)).clamp(1e-4, 1 - 1e-4)
    return -(p * p.log() + (1 - p) * (1 - p).log())
