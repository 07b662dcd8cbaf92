"""SASRec: self-attention over the journey says which channel comes next (in the style of Kang & McAuley, ICDM 2018).

    e_t = W x_t + N[c_{t-1}] + P_t         the channel of the step before has the embedding that it is scored by   (1)
    s   = e + attention(norm(e)), causal   a step attends to itself and what came before                      (2), (3)
    f   = s + W_2 relu(W_1 norm(s) + b_1) + b_2                                                                    (4)
    pi(. | x_1..x_t) = softmax(N f_t + V x_t)    of the last block's output, normalised                            (6)
    r^_t = reward head([f_t, x_t])         what the step will bring

Where this departs from the paper: a step's input is everything the other methods read of it, beside the last channel.
Positions count from the first step that is read, not from the last. With a handful of channels all are scored:
cross-entropy stands for the binary loss against a sampled item.

B journeys, T steps, M channels, H width of the state.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.channel.columns import groups
from headrace.channel.supervised import SPACE as SHARED
from headrace.channel.supervised import (
    RewardHead,
    StateNetwork,
    Supervised,
    SupervisedConfig,
    inputs_of,
    targets_of,
)
from headrace.errors import UserError
from headrace.journeys.scales import FIRST
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import WHOLE
from headrace.learn.space import Space
from headrace.nn.attention import CausalAttention
from headrace.nn.dropout import Dropout


@dataclass(frozen=True, slots=True)
class SASRecConfig(SupervisedConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    hidden: int = 64  # H
    blocks: int = 2  # of attention and a pointwise net
    heads: int = 1  # of the attention
    length: int | None = 50  # positions that are told apart
    reward_width: int = 64  # D, of the reward head
    reward_layers: int = 2
    weight_decay: float = 0.3

    def __post_init__(self) -> None:
        SupervisedConfig.__post_init__(self)
        self.at_least(1, "hidden", "blocks", "heads", "reward_width")
        self.at_least(0, "reward_layers")
        if self.hidden % self.heads:
            raise UserError(f"sasrec config: hidden = {self.hidden} is no multiple of heads = {self.heads}; change one")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"hidden": 8, "blocks": 1, "reward_width": 8, "reward_layers": 1, "epochs": 2},
}

SPACE: Space = {
    **SHARED,
    "hidden": (32, 64, 128, 256),
    "blocks": (1, 2, 3),
    "heads": (1, 2, 4),
    "reward_width": (32, 64, 128),
    "length": (10, 20, 50, None),
}


class Block(nn.Module):
    """Attention, then a pointwise net, each behind a norm, each added to what it read: (B, T, H) -> (B, T, H)."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.attention = CausalAttention(width, heads, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.wide, self.back = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norms[0](x), mask))  # (2), (3)
        h = self.dropout(F.relu(self.wide(self.norms[1](x))))
        out: Tensor = x + self.dropout(self.back(h))  # (4)
        return out


class Network(StateNetwork):
    """The blocks, and heads that read their output and the inputs once more."""

    def __init__(self, config: SASRecConfig, transforms: Transforms):
        super().__init__()
        self.targets = targets_of(transforms, config)
        self.inputs = inputs_of(transforms, config)
        self.dropped = Dropout(config.input_dropout)
        self.token = self.inputs.up_to(transforms.own_width)  # no bins of running statistics: the last step has them
        self.embed = nn.Linear(self.token, config.hidden)  # W
        self.before = groups(transforms).channel  # the column that tells c_{t-1}
        self.channel = nn.Embedding(FIRST + len(transforms.channels), config.hidden)  # N
        self.position = nn.Embedding(config.length or WHOLE, config.hidden)  # P
        for table in (self.channel, self.position):
            nn.init.normal_(table.weight, std=config.embedding_start)
        self.blocks = nn.ModuleList(Block(config.hidden, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.hidden)
        self.dropout = Dropout(config.dropout)
        self.choose = nn.Linear(self.inputs.plain, len(transforms.channels))  # V
        self.bring = RewardHead(
            transforms, config, config.hidden + self.inputs.width, config.reward_width, config.reward_layers
        )
        self.hidden = config.hidden

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """(B, T, H + inputs)."""
        x = self.dropped(self.inputs(ids, numbers))
        place = torch.arange(ids.shape[1], device=ids.device).clamp(max=self.position.num_embeddings - 1)
        f = self.embed(x[..., : self.token]) + self.channel(ids[..., self.before]) + self.position(place)  # (1)
        f = self.dropout(f)
        for block in self.blocks:
            f = block(f, mask)
        return torch.cat([self.norm(f), x], dim=-1)

    def action(self, state: Tensor) -> Tensor:
        f, x = state[..., : self.hidden], state[..., self.hidden :]
        logits: Tensor = F.linear(f, self.channel.weight[FIRST:]) + self.choose(x[..., : self.inputs.plain])  # (6)
        return logits


class SASRec(Supervised[SASRecConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "sasrec"
    presets = PRESETS
    space = SPACE
    config_type = SASRecConfig
    network_type = Network
