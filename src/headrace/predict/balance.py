"""Weights of tasks from the gradients of their losses, for stage C. K tasks, P weights that all tasks share.

    gradnorm    weights are learnt so that each task's gradient is as long as its pace asks (Chen et al., ICML 2018)
    pcgrad      a task's gradient loses what points against another's (Yu et al., NeurIPS 2020), through torchjd

Both need no more of the gradients than their products G = J J^T, J (K, P) the gradients of the K losses; and both come
down to a weight a task, since gradients without their conflicts are sums of gradients. A step costs a backward pass a
task more.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from headrace.errors import UserError

Balanced = Literal["gradnorm", "pcgrad"]
BY_GRADIENT = get_args(Balanced)
RESTORING = 1.5  # alpha of GradNorm: how strongly a slow task is helped
RATE = 0.025  # of GradNorm's weights


def products(losses: Tensor, module: nn.Module) -> Tensor:
    """(K, K) inner products of the gradients of losses (K,), over the weights of the module that all of them reach."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    found = [torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True) for loss in losses]
    shared = [parts for parts in zip(*found, strict=True) if all(part.any() for part in parts)]
    if not shared:
        raise UserError("rmtl: nothing is shared between the tasks of this backbone, so nothing is to be balanced")
    rows = torch.stack([torch.cat([parts[k].flatten() for parts in shared]) for k in range(len(found))])
    return rows @ rows.T


def without_conflict(gram: Tensor) -> Tensor:
    """(K,) how much each gradient counts once conflicts are projected away, in an order of tasks drawn anew each time.

    >>> without_conflict(torch.tensor([[1.0, -0.5], [-0.5, 2.0]])).tolist()  # g1 + g2/4, g2 + g1/2
    [1.5, 1.25]
    """
    try:
        from torchjd.aggregation import PCGradWeighting
    except ModuleNotFoundError:
        raise UserError("pcgrad: the package torchjd is not installed; pip install 'headrace[balance]'") from None
    found: Tensor = PCGradWeighting()(gram)
    return found


def kept_pace(weights: Tensor, gram: Tensor, losses: Tensor, first: Tensor) -> Tensor:
    """(K,) GradNorm's weights after a step: their sum stays K.

    A task's gradient, w_k ||g_k||, is drawn to the mean of all times (its loss as a share of the first, over the mean
    share)^alpha. Step of RATE down sum_k |w_k ||g_k|| - target_k|, lengths counted in their mean, so that RATE has no
    unit.

    >>> kept_pace(torch.ones(2), torch.tensor([[4.0, 0.0], [0.0, 1.0]]), torch.ones(2), torch.ones(2)).tolist()[0] < 1
    True
    """
    norms = gram.diagonal().sqrt()
    norms = norms / norms.mean().clamp(min=1e-12)
    share = losses / first
    target = (weights * norms).mean() * (share / share.mean()) ** RESTORING
    moved = (weights - RATE * norms * torch.sign(weights * norms - target)).clamp(min=1e-3)
    return moved * len(moved) / moved.sum()
