"""The multi-task models: inputs -> log-odds of K tasks, (B, C) ids and (B, F) numbers -> (B, K).

    single    a model a task, nothing shared
    shared    one bottom, a tower a task                                          (Caruana 1997)
    esmm      embeddings shared, a net a task; a task's chance is that of the one before it in the funnel times its own
              share: p_ctcvr = p_ctr * p_cvr                                      (Ma et al., SIGIR 2018)
    aitm      embeddings shared, a net a task; a task in the funnel attends to what the one before it passes on, and
              pays for being likelier than that one                               (Xi et al., KDD 2021)
    mmoe      experts shared, a gate a task                                       (Ma et al., KDD 2018)
    ple       experts of each task and shared ones, a level of gates each width   (Tang et al., RecSys 2020)

All have the sizes of RMTL's section 3.2, scaled: bottom or experts `width`, `width / 2`; towers a quarter, an eighth
(16 and 8 at least).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.nn.dropout import Dropout
from headrace.nn.embed import Inputs
from headrace.nn.experts import CGC, MLP, Experts, Gate, Transfer
from headrace.predict.features import Features

Backbone = Literal["single", "shared", "esmm", "aitm", "mmoe", "ple"]
BACKBONES = get_args(Backbone)
OWN_NETS = ("single", "esmm", "aitm")
IN_A_FUNNEL = ("esmm", "aitm")
CALIBRATOR = 0.6  # weight of AITM's penalty, as in its experiments


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a model is."""

    width: int  # of the first hidden layer
    experts: int  # of MMoE; PLE has half as many in each stream
    embedding: int | None  # width of each embedding; None: it grows with the number of ids
    dropout: float
    unknown: float = 0.0  # share of ids that training turns unknown
    input_dropout: float = 0.0  # of the embedded inputs
    start: float = 1.0  # spread of the embeddings at first

    @property
    def bottom(self) -> tuple[int, int]:
        return self.width, max(self.width // 2, 1)

    @property
    def tower(self) -> tuple[int, int]:
        return max(self.width // 4, 16), max(self.width // 8, 8)  # narrower ones die


def inputs(sizes: Sizes, features: Features) -> Inputs:
    """The embedding layer of section 2.4.1."""
    return Inputs(
        features.cardinalities, features.width, sizes.unknown, features.knots, sizes.start, size=sizes.embedding
    )


class Tower(nn.Module):
    """(B, D) -> (B,) log-odds."""

    def __init__(self, width: int, sizes: Sizes):
        super().__init__()
        self.hidden = MLP(width, sizes.tower, sizes.dropout)
        self.out = nn.Linear(self.hidden.width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.hidden(x))[:, 0]
        return out


class Network(nn.Module):
    """Inputs, what a backbone makes of them for each task, and a tower a task."""

    def __init__(self, backbone: Backbone, sizes: Sizes, features: Features, parents: Sequence[int | None]):
        """`parents` (K,): the task before each in the funnel, which ESMM and AITM go by."""
        super().__init__()
        K = len(features.tasks)
        self.backbone, self.parents = backbone, list(parents)
        copies = K if backbone == "single" else 1
        embeds = [inputs(sizes, features) for _ in range(copies)]
        self.inputs = nn.ModuleList(embeds)
        self.dropped = Dropout(sizes.input_dropout)
        D, out = embeds[0].width, sizes.bottom[-1]
        self.body = nn.ModuleList()
        self.gates = nn.ModuleList()
        if backbone in OWN_NETS:
            self.body.extend(MLP(D, sizes.bottom, sizes.dropout) for _ in range(K))
        elif backbone == "shared":
            self.body.append(MLP(D, sizes.bottom, sizes.dropout))
        elif backbone == "mmoe":
            self.body.append(Experts(sizes.experts, D, sizes.bottom, sizes.dropout))
            self.gates.extend(Gate(D, sizes.experts) for _ in range(K))
        else:
            each, ends = max(sizes.experts // 2, 1), [D, *sizes.bottom]
            self.body.extend(
                CGC(K, each, a, b, sizes.dropout, last=i == len(ends) - 2)
                for i, (a, b) in enumerate(itertools.pairwise(ends))
            )
        self.transfers = nn.ModuleDict()
        if backbone == "aitm":
            self.transfers.update({str(k): Transfer(out) for k, above in enumerate(parents) if above is not None})
        self.towers = nn.ModuleList(Tower(out, sizes) for _ in range(K))

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        xs = [self.dropped(embed(ids, numbers)) for embed in self.inputs]  # one (B, D), of `single` K of them
        tasks = len(self.towers)
        if self.backbone in OWN_NETS:
            read = [net(xs[k % len(xs)]) for k, net in enumerate(self.body)]
        elif self.backbone == "shared":
            read = [self.body[0](xs[0])] * tasks
        elif self.backbone == "mmoe":
            held = self.body[0](xs[0])  # (B, E, H)
            read = [gate(xs[0], held) for gate in self.gates]
        else:
            read = xs * (tasks + 1)
            for level in self.body:
                read = level(read)
        if self.backbone == "aitm":
            read = self._passed_on(read)
        own = [tower(x) for tower, x in zip(self.towers, read, strict=True)]
        if self.backbone == "esmm":
            own = funnel(own, self.parents)
        return torch.stack(own, dim=1)  # (B, K)

    def penalty(self, logits: Tensor) -> Tensor | float:
        """What AITM pays where a task is said to be likelier than the one it implies; else nothing."""
        if self.backbone != "aitm":
            return 0.0
        p = logits.sigmoid()
        pairs = [(k, above) for k, above in enumerate(self.parents) if above is not None]
        return CALIBRATOR * sum(F.relu(p[:, k] - p[:, above]).mean() for k, above in pairs)

    def _passed_on(self, read: list[Tensor]) -> list[Tensor]:
        """Each task's reading (B, H) with what the one before it passes on, itself with what came before."""
        out: dict[int, Tensor] = {}

        def whole(k: int) -> Tensor:
            above = self.parents[k]
            if k not in out:
                out[k] = read[k] if above is None else self.transfers[str(k)](whole(above), read[k])
            return out[k]

        return [whole(k) for k in range(len(read))]


def funnel(own: Sequence[Tensor], parents: Sequence[int | None]) -> list[Tensor]:
    """Log-odds of p_k = p_parent * sigmoid(own_k), (B,) each; a task without a parent keeps its own.

    >>> whole = funnel([torch.zeros(1), torch.zeros(1)], [None, 0])
    >>> [round(float(z.sigmoid()), 6) for z in whole]
    [0.5, 0.25]
    """
    logs: dict[int, Tensor] = {}

    def log_p(k: int) -> Tensor:
        if k not in logs:
            above = parents[k]
            mine = F.logsigmoid(own[k])
            logs[k] = mine if above is None else mine + log_p(above)
        return logs[k]

    out = []
    for k, z in enumerate(own):
        if parents[k] is None:
            out.append(z)
        else:
            p = log_p(k).clamp(max=-1e-6)
            out.append(p - torch.log(-torch.expm1(p)))
    return out
