"""ODT: the decision transformer with a policy kept stochastic (Zheng et al., Online Decision Transformer, ICML 2022).

    min_theta  J(theta) = E[-log pi(a_t | R, s, a)]   subject to   H[pi] >= beta              sequence-level entropy
    L(theta, lambda)    = J(theta) + lambda (beta - H[pi]),   lambda >= 0                       its Lagrange dual

lambda is learnt: theta goes down L, lambda = exp(l) up it, so lambda grows while the policy's entropy lies below beta
and fades while it lies above. For M channels beta is a share of log M, where the paper, with boxes of actions, has
minus their dimension. Tokens, returns and targets are DT's (dt.py).

What of "online" is here. The paper pre-trains offline, then alternates rollouts with training on them; a rollout's
return-to-go was a target, and before it is learnt from it is relabelled in hindsight with what the rollout did bring.
Our returns-to-go are always computed from the gains of the log (`returns_to_go`), whatever target was acted on: a
streamed journey is relabelled by being read, and logged journeys, which had no target, come out as they are. Journeys
are drawn in proportion to their length, since every step counts once. Going on from a run with newly streamed journeys
( `headrace train --from` ) is offered for mtorl alone: fit ODT anew on the longer log. LAMB is AdamW here.

B journeys, T steps, M channels.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.channel import dt
from headrace.channel.dt import DT, DTConfig
from headrace.errors import UserError
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch
from headrace.learn.space import Space


@dataclass(frozen=True, slots=True)
class ODTConfig(DTConfig):
    """DT's choices, and the floor of the entropy."""

    entropy: float = 0.3  # beta as a share of log M, the entropy of a policy that draws all channels alike
    multiplier: float = 0.1  # lambda at first
    multiplier_rate: float = 1.0  # its learning rate, as a share of the network's

    def __post_init__(self) -> None:
        DTConfig.__post_init__(self)
        self.shares("entropy")
        for name in ("multiplier", "multiplier_rate"):
            if not getattr(self, name) > 0:
                raise UserError(f"odt config: {name} = {getattr(self, name)}, expected more than 0; change it")


PRESETS: dict[str, dict[str, Any]] = {"default": {}, "tiny": dt.PRESETS["tiny"]}

SPACE: Space = {**dt.SPACE, "entropy": (0.1, 0.3, 0.5, 0.7, 0.9)}


class Network(dt.Network):
    """DT's, and the logarithm of the dual variable."""

    def __init__(self, config: ODTConfig, transforms: Transforms):
        super().__init__(config, transforms)
        self.floor = config.entropy * math.log(len(transforms.channels))  # beta
        self.log_multiplier = nn.Parameter(torch.tensor(math.log(config.multiplier)))


class Learner(dt.Learner):
    """The Lagrangian; what is watched is the cross-entropy alone."""

    network: Network
    config: ODTConfig

    @property
    def rates(self) -> dict[str, float]:
        return {"log_multiplier": self.config.multiplier_rate}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits, label, channel = self.logits(batch)
        logs = F.log_softmax(logits, dim=-1)
        n = label.sum().clamp(min=1)
        policy = -(logs.gather(-1, channel[..., None])[..., 0] * label).sum() / n
        entropy = -((logs.exp() * logs).sum(dim=-1) * label).sum() / n
        multiplier = self.network.log_multiplier.exp()
        loss = policy + dual(entropy, self.network.floor, multiplier)
        return {"loss": loss, "policy": policy, "entropy": entropy, "multiplier": multiplier}


def dual(entropy: Tensor, floor: float, multiplier: Tensor) -> Tensor:
    """0, with the gradients of a saddle: lambda (beta - H) for what makes H, its opposite for lambda.

    >>> h, l = torch.tensor(0.2, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    >>> found = dual(h, 0.5, l)
    >>> found.backward()
    >>> found.item(), float(h.grad), round(float(l.grad), 3)  # going down: H rises, and lambda rises, for H is too low
    (0.0, -3.0, -0.3)
    """
    return multiplier.detach() * (floor - entropy) - multiplier * (floor - entropy.detach())


class ODT(DT):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "odt"
    presets = PRESETS
    space = SPACE
    config_type = ODTConfig
    learner = Learner

    def new_network(self) -> Network:
        assert self.transforms is not None and isinstance(self.config, ODTConfig)
        return Network(self.config, self.transforms)
