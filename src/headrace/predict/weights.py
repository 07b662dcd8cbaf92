"""What each row and task weighs in the loss: RMTL's omega, its ablations, and the controls that show what it brings.

    rl           omega = 1 - lambda Q(s, a)                                (10)
    wl           omega = 1 - lambda y Q(s, a)                              ablation WL of Table 2, as we read it
    nlc          omega = -Q(s, a)                                          ablation NLC
    constant     1: the control with as many steps (CW)
    decay        gamma'^t, t the place in the session                      (5)
    focal        |y - p|^2                                                 Lin et al. 2017, detached
    return       1 - lambda G_t: what the session then brought, no critic
    shuffled     (10) with the values of other rows of the batch: their distribution without their place
    normalised   (10) divided by its mean over the batch: no larger step, only another emphasis
    uncertainty  exp(-s_k), s_k learnt                                     Kendall et al. 2018
    dwa          by how much slower a task's loss fell than the others'    Liu et al. 2019
    gradnorm     so that tasks' gradients keep pace                        Chen et al. 2018 (balance.py)
    pcgrad       so that tasks' gradients do not conflict                  Yu et al. 2020 (balance.py)
    ddpg         none: the actor follows the critic's gradient, D-PLE      Lillicrap et al. 2016

Because the next row comes whatever was predicted, omega of (10) is 1 + lambda (expected loss now + discounted loss of
the rest of the session): a reweighting by difficulty and by how much of the session is left. Hence the controls.

B rows, K tasks.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

Weights = Literal[
    "none",
    "rl",
    "wl",
    "nlc",
    "constant",
    "decay",
    "focal",
    "return",
    "shuffled",
    "normalised",
    "uncertainty",
    "dwa",
    "gradnorm",
    "pcgrad",
    "ddpg",
]
WEIGHTS = get_args(Weights)
BY_CRITIC = ("rl", "wl", "nlc", "shuffled", "normalised", "ddpg")  # what stage B is needed for


def from_values(kind: Weights, q: Tensor, labels: Tensor, lambda_: float, order: Tensor) -> Tensor:
    """(B, K) the weights that follow from values (B, K); `order` (B,) is the batch shuffled."""
    if kind == "wl":
        return 1 - lambda_ * labels * q
    if kind == "nlc":
        return -q
    omega = 1 - lambda_ * (q[order] if kind == "shuffled" else q)
    return omega / omega.mean(dim=0) if kind == "normalised" else omega


def focal(p: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """(B, K) |y - p|^gamma.

    >>> focal(torch.tensor([0.5, 0.75]), torch.tensor([0.0, 1.0])).tolist()
    [0.25, 0.0625]
    """
    return (labels - p).abs() ** gamma


def dwa(before: Tensor, last: Tensor, temperature: float = 2.0) -> Tensor:
    """(K,) dynamic weight average: K softmax(r / T) of r_k = L_k(last epoch) / L_k(the one before).

    Zeros stand for epochs that there were not: the first two have no rate, so all tasks weigh 1.

    >>> [round(w, 3) for w in dwa(torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.5])).tolist()]
    [1.1, 0.9]
    >>> dwa(torch.zeros(2), torch.tensor([0.9, 0.5])).tolist()
    [1.0, 1.0]
    """
    rate = torch.where(before > 0, last / before.clamp(min=1e-12), 1.0)
    return len(rate) * torch.softmax(rate / temperature, dim=0)
