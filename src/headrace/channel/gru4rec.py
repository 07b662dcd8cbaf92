"""GRU4Rec: a recurrent net over the journey says which channel comes next (in the style of Hidasi et al., ICLR 2016).

    h_t = GRU(W x_t, h_{t-1})       x_t: what the step before brought, and what is known of step t before its decision
    pi(. | x_1..x_t) = softmax(W_o [h_t, x_t])
    r^_t = reward head([h_t, x_t])  what the step will bring

Where this departs from the paper: a step's input is everything the other methods read of it, not the one-hot of the
last item alone. Journeys stand side by side as they are, so no state crosses sessions and no batch is session-parallel.
With a handful of channels all are scored: cross-entropy over them stands for the ranking losses over sampled items.

B journeys, T steps, M channels, H width of the state.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headrace.channel.supervised import SPACE as SHARED
from headrace.channel.supervised import (
    RewardHead,
    StateNetwork,
    Supervised,
    SupervisedConfig,
    inputs_of,
    targets_of,
)
from headrace.journeys.transforms import Transforms
from headrace.learn.space import Space
from headrace.nn.dropout import Dropout


@dataclass(frozen=True, slots=True)
class GRU4RecConfig(SupervisedConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    hidden: int = 64  # H
    layers: int = 1  # of the recurrent net
    reward_width: int = 64  # D, of the reward head
    reward_layers: int = 2
    weight_decay: float = 0.3

    def __post_init__(self) -> None:
        SupervisedConfig.__post_init__(self)
        self.at_least(1, "hidden", "layers", "reward_width")
        self.at_least(0, "reward_layers")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"hidden": 8, "reward_width": 8, "reward_layers": 1, "epochs": 2},
}

SPACE: Space = {
    **SHARED,
    "hidden": (32, 64, 128, 256),
    "layers": (1, 2),
    "reward_width": (32, 64, 128),
    "length": (10, 20, 50, None),
}


class Network(StateNetwork):
    """The recurrent net, and heads that read its state and the inputs once more."""

    def __init__(self, config: GRU4RecConfig, transforms: Transforms):
        super().__init__()
        self.targets = targets_of(transforms, config)
        self.inputs = inputs_of(transforms, config)
        self.dropped = Dropout(config.input_dropout)
        self.token = self.inputs.up_to(transforms.own_width)  # no bins of running statistics: the last step has them
        self.embed = nn.Linear(self.token, config.hidden)  # W
        self.recur = nn.GRU(
            config.hidden,
            config.hidden,
            config.layers,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dropout = Dropout(config.dropout)
        width = config.hidden + self.inputs.width
        self.choose = nn.Linear(config.hidden + self.inputs.plain, len(transforms.channels))  # W_o
        self.bring = RewardHead(transforms, config, width, config.reward_width, config.reward_layers)

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """(B, T, H + inputs). Padding stands behind the steps, where a state that only looks back never meets it."""
        x = self.dropped(self.inputs(ids, numbers))
        h = self.recur(self.embed(x[..., : self.token]))[0]
        return torch.cat([self.dropout(h), x], dim=-1)

    def action(self, state: Tensor) -> Tensor:
        logits: Tensor = self.choose(state[..., : self.choose.in_features])
        return logits


class GRU4Rec(Supervised[GRU4RecConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "gru4rec"
    presets = PRESETS
    space = SPACE
    config_type = GRU4RecConfig
    network_type = Network
