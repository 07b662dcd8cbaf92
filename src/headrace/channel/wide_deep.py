"""Wide & Deep: a linear part remembers, a deep part generalises, both fitted together (Cheng et al., DLRS 2016).

    s(c) = w^T [x, phi(x, c)] + w_out^T a(c) + b             for a candidate channel c                             (3)
    phi_k(x, c) = prod of the ids that cross k names, and c  one weight a combination, hashed to a bucket          (1)
    a(c) = MLP(embeddings of x and c)                                                                              (2)
    pi(. | x) = softmax_c s(c)

x holds the ids (wide) or ids and numbers (deep) of a step as they are known before its decision. Beside the score, both
parts give the reward's outputs in the same way; a candidate that is none stands for the prediction before the decision.

Where this departs from the paper: softmax over the channels for the logistic loss of one item, and AdamW for both parts
(`wide_rate` is the linear part's own rate) for FTRL with L1 and AdaGrad.

B journeys, T steps, M channels, K terms of the linear part, H width of the deep part's last layer, R reward outputs.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.channel.supervised import SPACE as SHARED
from headrace.channel.supervised import CandidateNetwork, Supervised, SupervisedConfig, inputs_of
from headrace.errors import unknown
from headrace.journeys.schema import LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Categories, Transforms, stored_as_numbers
from headrace.learn.space import Space
from headrace.nn.dropout import Dropout
from headrace.nn.experts import MLP

PRIME = 2_147_483_647  # ids are mixed modulo this, so that a product fits 64 bits
FACTOR = 48_271  # Park and Miller's multiplier


@dataclass(frozen=True, slots=True)
class WideDeepConfig(SupervisedConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    crosses: str | None = None  # columns crossed with the candidate, as A,B*C; None: each, and each with `channel`
    buckets: int = 2**14  # that crosses are hashed to
    wide_rate: float = 0.3  # learning rate of the linear part, as a share of the deep part's
    categories: Categories = "both"  # crosses are of ids
    width: int = 16  # of the candidate's embedding
    hidden: int = 64  # width of the deep part's layers
    layers: int = 2  # of the deep part
    weight_decay: float = 0.3

    def __post_init__(self) -> None:
        SupervisedConfig.__post_init__(self)
        self.at_least(1, "buckets", "width", "hidden", "layers")
        self.at_least(0, "wide_rate")

    @property
    def method(self) -> str:
        return "wide-deep"


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"buckets": 256, "width": 4, "hidden": 8, "layers": 1, "epochs": 2},
}

SPACE: Space = {
    **SHARED,
    "buckets": (2**10, 2**14, 2**18),
    "wide_rate": (0.1, 0.3, 1.0),
    "hidden": (32, 64, 128, 256),
    "layers": (1, 2, 3),
}

CHANNEL = "channel"  # the column that tells the channel of the step before


def columns(schema: LogSchema, ids: Container[str]) -> list[str]:
    """The id columns of `Transforms.encode`, in order, as crosses name them; `ids` are the features read as ids."""
    names = [f.name for f in schema.features if f.name in ids]
    return [*names, CHANNEL, *(g.name for g in schema.gains if g.known != "never" and g.kind == "classes")]


def crosses_of(given: str | None, names: list[str]) -> list[tuple[int, ...]]:
    """The columns of each cross, the candidate left out.

    >>> crosses_of("topic,topic*channel", ["topic", "channel"]), crosses_of(None, ["topic", "channel"])
    ([(0,), (0, 1)], [(0,), (0, 1), (1,)])
    """
    if given is None:
        last = names.index(CHANNEL)
        return [c for i in range(len(names)) for c in ((i,), (i, last)) if i != last or len(c) == 1]
    found = []
    for cross in given.split(","):
        for name in (name.strip() for name in cross.split("*")):
            if name not in names:
                raise unknown("column", name, names, "wide-deep config, crosses")
        found.append(tuple(names.index(name.strip()) for name in cross.split("*")))
    return found


class Wide(nn.Module):
    """The linear part: (B, T, C) ids -> (B, T, M + 1, outputs), for each candidate and for none."""

    def __init__(self, cardinalities: list[int], crosses: list[tuple[int, ...]], channels: int, buckets: int, out: int):
        super().__init__()
        self.crosses, self.channels, self.buckets = crosses, channels, buckets
        self.plain = nn.ModuleList(nn.Embedding(n, out) for n in cardinalities)
        self.candidate = nn.Embedding(channels + 1, out)
        self.crossed = nn.EmbeddingBag(buckets, out, mode="sum")
        for table in (*self.plain, self.candidate, self.crossed):
            nn.init.zeros_(table.get_parameter("weight"))

    def forward(self, ids: Tensor) -> Tensor:
        plain = torch.stack([table(ids[..., i]) for i, table in enumerate(self.plain)]).sum(dim=0)  # (B, T, outputs)
        found: Tensor = plain[..., None, :] + self.candidate.weight
        if self.crosses:
            at = self.places(ids)
            found = found + self.crossed(at.flatten(0, -2)).view(*at.shape[:-1], -1)
        return found

    def places(self, ids: Tensor) -> Tensor:
        """(B, T, M + 1, K) the bucket of each cross with each candidate."""
        found = []
        for k, columns in enumerate(self.crosses):
            mixed = torch.full(ids.shape[:-1], k + 1, device=ids.device)
            for column in columns:
                mixed = (mixed * FACTOR + ids[..., column] + 1) % PRIME
            candidates = torch.arange(self.channels + 1, device=ids.device)
            found.append((mixed[..., None] * FACTOR + candidates + 1) % PRIME * FACTOR % PRIME % self.buckets)
        return torch.stack(found, dim=-1)


class Network(CandidateNetwork):
    """Both parts; the deep one's last layer hears of the context where that is known."""

    def __init__(self, config: WideDeepConfig, transforms: Transforms):
        super().__init__(transforms, config, config.hidden)
        crosses = crosses_of(config.crosses, columns(transforms.schema, transforms.vocabularies))
        self.wide = Wide(transforms.cardinalities, crosses, self.channels, config.buckets, self.outputs)
        self.inputs = inputs_of(transforms, config)
        self.dropped = Dropout(config.input_dropout)
        self.candidate = nn.Embedding(self.channels + 1, config.width)
        self.read_step = nn.Linear(self.inputs.width, config.hidden)
        self.read_candidate = nn.Linear(config.width, config.hidden, bias=False)
        self.dropout = Dropout(config.dropout)
        self.deep = MLP(config.hidden, [config.hidden] * (config.layers - 1), config.dropout)
        self.out = nn.Linear(config.hidden, self.outputs)

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """(B, T, M + 1, H + 1 + R): the deep part's last layer of each candidate, and beside it the linear part."""
        x = self.read_step(self.dropped(self.inputs(ids, numbers)))  # a layer of [x, c], its part of x worked out once
        h = self.dropout(F.relu(x[..., None, :] + self.read_candidate(self.candidate.weight)))
        return torch.cat([self.deep(h), self.wide(ids)], dim=-1)

    def last(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        outputs: Tensor = self.out(hidden)
        return outputs


class WideDeep(Supervised[WideDeepConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "wide-deep"
    presets = PRESETS
    space = SPACE
    config_type = WideDeepConfig
    network_type = Network

    def check(self, journeys: Journeys, split: Split | None = None) -> object:
        super().check(journeys, split)
        ids = {f.name for f in journeys.schema.features if f.kind == "categorical"}
        if self.config.categories == "numbers":
            ids -= set(stored_as_numbers(journeys))
        crosses_of(self.config.crosses, columns(journeys.schema, ids))
        return None

    @property
    def rates(self) -> dict[str, float]:
        return {"wide.": self.config.wide_rate}
