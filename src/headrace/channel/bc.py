"""BC: behaviour cloning, the channel that the log would choose (Pomerleau, NIPS 1988).

    h_t = MLP(x_t)                  x_t: all that is known of step t before its decision, running statistics included
    pi(. | x_t) = softmax(W h_t)    fitted to the logged channels by cross-entropy
    r^_t = reward head([h_t, x_t])  what the step will bring, so that users can be chosen

No memory beyond the running statistics and what the step before brought: what MTORL's encoder adds is what it lacks.

B journeys, T steps, M channels, H width of the MLP's last layer.
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
from headrace.nn.experts import MLP


@dataclass(frozen=True, slots=True)
class BCConfig(SupervisedConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    hidden: int = 64  # width of the MLP's layers
    layers: int = 2  # of the MLP
    reward_width: int = 64  # D, of the reward head
    reward_layers: int = 2
    weight_decay: float = 0.3

    def __post_init__(self) -> None:
        SupervisedConfig.__post_init__(self)
        self.at_least(1, "hidden", "layers", "reward_width")
        self.at_least(0, "reward_layers")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"hidden": 8, "layers": 1, "reward_width": 8, "reward_layers": 1, "epochs": 2},
}

SPACE: Space = {
    **SHARED,
    "hidden": (32, 64, 128, 256),
    "layers": (1, 2, 3),
    "reward_width": (32, 64, 128),
}


class Network(StateNetwork):
    """An MLP on each step alone; the heads read its last layer, and the inputs once more."""

    def __init__(self, config: BCConfig, transforms: Transforms):
        super().__init__()
        self.targets = targets_of(transforms, config)
        self.inputs = inputs_of(transforms, config)
        self.dropped = Dropout(config.input_dropout)
        self.trunk = MLP(self.inputs.width, [config.hidden] * config.layers, config.dropout)
        width = config.hidden + self.inputs.width
        self.choose = nn.Linear(config.hidden, len(transforms.channels))
        self.bring = RewardHead(transforms, config, width, config.reward_width, config.reward_layers)
        self.hidden = config.hidden

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """(B, T, H + inputs): the trunk's last layer and what it read."""
        x = self.dropped(self.inputs(ids, numbers))
        return torch.cat([self.trunk(x), x], dim=-1)

    def action(self, state: Tensor) -> Tensor:
        logits: Tensor = self.choose(state[..., : self.hidden])
        return logits


class BC(Supervised[BCConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "bc"
    presets = PRESETS
    space = SPACE
    config_type = BCConfig
    network_type = Network
