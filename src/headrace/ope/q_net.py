"""N Q-functions of one shape, trained side by side as one batched module.

N networks, B rows, k actions a row, S state and A action features, W width.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QNets(nn.Module):
    """Q_1 .. Q_N(s, a): (N, B, S), (N, B, k, A) -> (N, B, k).

    With hidden layers a ReLU network each, over the standardised state beside the action. Without any, Q = s' W a,
    linear in the products of state and action features: a table where both are one-hot.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, nets: int, state: int, action: int, hidden: Sequence[int], seed: int, dropout: float = 0.0):
        """`dropout` acts behind each hidden layer while training, for those that read an uncertainty from it."""
        super().__init__()
        self.dropout = dropout
        self.register_buffer("centre", torch.zeros(state))
        self.register_buffer("spread", torch.ones(state))
        chance = torch.Generator().manual_seed(seed)

        def weights(*shape: int, inputs: int) -> nn.Parameter:
            limit = 1 / math.sqrt(inputs)
            return nn.Parameter(torch.empty(nets, *shape).uniform_(-limit, limit, generator=chance))

        self.table: nn.Parameter | None = None
        if not hidden:
            self.table = nn.Parameter(torch.zeros(nets, state, action))
            return
        inputs = state + action
        self.from_state = weights(state, hidden[0], inputs=inputs)
        self.from_action = weights(action, hidden[0], inputs=inputs)
        widths = (*hidden, 1)
        self.biases = nn.ParameterList(
            weights(1, w, inputs=inputs if i == 0 else widths[i - 1]) for i, w in enumerate(widths)
        )
        self.layers = nn.ParameterList(weights(a, b, inputs=a) for a, b in pairwise(widths))

    def standardise(self, state: Tensor) -> None:
        """Take the mean and spread of each state feature from these rows, (n, S)."""
        self.centre.copy_(state.mean(0))
        spread = state.std(0, correction=0)
        self.spread.copy_(torch.where(spread > 0, spread, 1.0))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        n, b, k, a = action.shape
        if self.table is not None:
            return (torch.bmm(state, self.table)[:, :, None] * action).sum(-1)  # (N, B, k)
        state = (state - self.centre) / self.spread
        x = torch.baddbmm(self.biases[0], state, self.from_state)  # (N, B, W): once for all k actions
        x = x[:, :, None] + torch.bmm(action.reshape(n, b * k, a), self.from_action).view(n, b, k, -1)
        x = x.view(n, b * k, -1)
        for bias, layer in zip(list(self.biases)[1:], self.layers, strict=True):
            x = F.relu(x)
            if self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            x = torch.baddbmm(bias, x, layer)
        return x.view(n, b, k)
