"""Plain networks of dense layers. B rows, W width."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """ReLU layers of these widths, and a linear one: (..., inputs) -> (..., outputs)."""
    layers: list[nn.Module] = []
    for a, b in pairwise((inputs, *hidden)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else inputs, outputs))


def linear(layer: nn.Linear, *parts: Tensor) -> Tensor:
    """`layer` of the parts side by side, each (..., its width), without the copy that `torch.cat` makes of them."""
    first, *others = parts
    weight, *weights = torch.split(layer.weight, [p.shape[-1] for p in parts], dim=1)
    out = F.linear(first, weight, layer.bias)
    for part, weight in zip(others, weights, strict=True):
        out = out + F.linear(part, weight)
    return out


class Tanh(nn.Module):
    """A network of a state and a second input, its outputs between -bound and bound.

    (B, S), (B, I) -> (B, O), or k inputs a state, (B, k, I) -> (B, k, O): what the first layer makes of the state is
    worked out once for all k.
    """

    def __init__(self, state: int, inputs: int, hidden: Sequence[int], outputs: int, bound: float = 1.0):
        super().__init__()
        self.state, self.bound = state, bound
        self.layers = mlp(state + inputs, hidden, outputs)

    def before(self, state: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The outputs before tanh and bound."""
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        weight = first.weight[:, : self.state]
        x = F.linear(state, weight, first.bias)
        if inputs is not None:
            more = F.linear(inputs, first.weight[:, self.state :])
            x = more + (x if inputs.dim() == 2 else x[:, None])
        for layer in list(self.layers)[1:]:
            x = layer(x)
        return x

    def forward(self, state: Tensor, inputs: Tensor | None = None) -> Tensor:
        return self.bound * torch.tanh(self.before(state, inputs))
