"""Dense layers, experts, gates and transfers of multi-task models.

B rows, D width in, H width out, E experts of a stream, K tasks.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.nn.dropout import Dropout


class MLP(nn.Module):
    """Linear, ReLU, dropout for each width: (B, D) -> (B, widths[-1])."""

    def __init__(self, width: int, widths: Sequence[int], dropout: float = 0.0):
        super().__init__()
        ends = [width, *widths]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(ends))
        self.dropout = Dropout(dropout)
        self.width = ends[-1]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.dropout(F.relu(layer(x)))
        return x


class Experts(nn.Module):
    """E MLPs side by side on one input: (B, D) -> (B, E, H)."""

    def __init__(self, experts: int, width: int, widths: Sequence[int], dropout: float = 0.0):
        super().__init__()
        self.first = nn.Linear(width, experts * widths[0])  # all experts read one input: one product
        self.weights = nn.ParameterList(torch.empty(experts, a, b) for a, b in itertools.pairwise(widths))
        self.biases = nn.ParameterList(torch.empty(experts, 1, b) for b in widths[1:])
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = 1 / math.sqrt(weight.shape[1])  # as nn.Linear starts
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)
        self.experts = experts
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.dropout(F.relu(self.first(x))).unflatten(-1, (self.experts, -1))  # (B, E, H)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = self.dropout(F.relu(torch.baddbmm(bias, h.transpose(0, 1), weight))).transpose(0, 1)
        return h


class Gate(nn.Module):
    """A mixture of experts by the softmax of a linear map of the gate's own input: (B, D), (B, E, H) -> (B, H)."""

    def __init__(self, width: int, experts: int):
        super().__init__()
        self.score = nn.Linear(width, experts, bias=False)

    def forward(self, x: Tensor, held: Tensor) -> Tensor:
        mixed: Tensor = torch.bmm(self.score(x).softmax(dim=-1)[:, None], held)[:, 0]
        return mixed


class CGC(nn.Module):
    """One level of PLE, customised gate control (Tang et al., RecSys 2020, equations 1-5): K + 1 streams in and out.

    Stream k < K is a task's own, stream K the shared one. Each stream's experts read that stream's input; a task's gate
    reads the task's stream and mixes its own and the shared experts; the shared gate reads the shared stream and mixes
    all. The last level needs no shared gate: nothing reads what it would give, and then K streams leave.
    """

    def __init__(self, tasks: int, experts: int, width: int, out: int, dropout: float = 0.0, last: bool = False):
        super().__init__()
        self.experts = nn.ModuleList(Experts(experts, width, [out], dropout) for _ in range(tasks + 1))
        self.gates = nn.ModuleList(Gate(width, 2 * experts) for _ in range(tasks))
        self.shared_gate = None if last else Gate(width, (tasks + 1) * experts)

    def forward(self, streams: Sequence[Tensor]) -> list[Tensor]:
        held = [experts(x) for experts, x in zip(self.experts, streams, strict=True)]  # each (B, E, H)
        own, shared = held[:-1], held[-1]
        out = [
            gate(x, torch.cat([mine, shared], dim=1)) for gate, x, mine in zip(self.gates, streams, own, strict=False)
        ]
        if self.shared_gate is not None:
            out.append(self.shared_gate(streams[-1], torch.cat(held, dim=1)))
        return out


class Transfer(nn.Module):
    """What a task takes from the one before it in the funnel, AIT (Xi et al., KDD 2021): (B, H) twice -> (B, H).

    Attention over two vectors, what the task before passes on and the task's own reading.
    """

    def __init__(self, width: int):
        super().__init__()
        self.passed = nn.Linear(width, width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, before: Tensor, own: Tensor) -> Tensor:
        both = torch.stack([F.relu(self.passed(before)), own], dim=1)  # (B, 2, H)
        scores = (self.query(both) * self.key(both)).sum(dim=-1) / math.sqrt(own.shape[-1])
        mixed: Tensor = (scores.softmax(dim=-1)[..., None] * self.value(both)).sum(dim=1)
        return mixed
