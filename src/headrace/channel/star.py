"""STAR: one network for all channels, and for each a variation of it (Sheng et al., CIKM 2021). A domain is a channel.

    z' = gamma gamma_p (z - mu_p) / sqrt(var_p + eps) + beta + beta_p    partitioned normalisation of the inputs
    h' = relu((W * W_p)^T h + b + b_p)    star topology: shared weights times the domain's own, element by element
    s_p = s_m + s_a                       the star's output and the auxiliary network's, which is told the domain
    pi(. | x) = softmax_p s_p             p over the channels that could come next

For a decision the domain is not given: each candidate channel is a domain, and its own network scores the step and says
what it would bring. Before the decision the shared network alone speaks, without any domain's part (W_p = 1, b_p = 0).

Statistics: in the paper a batch is of one domain and is normalised by its own. Here a step is scored in every domain,
and those of the domain it was logged in would hold the step itself: the softmax could tell its channel from them. So
training normalises as prediction does, by moving statistics of each domain's steps, and a batch joins them after its
losses. They are sums over steps, so that a domain of which a batch holds one step keeps its variance.

B journeys, T steps, M channels, I width of the inputs, H width of a layer, R reward outputs, P = M + 1 domains with the
shared network as the last.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.channel import supervised
from headrace.channel.supervised import SPACE as SHARED
from headrace.channel.supervised import CandidateNetwork, Supervised, SupervisedConfig, inputs_of
from headrace.errors import UserError
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch
from headrace.learn.space import Space
from headrace.nn.dropout import Dropout


@dataclass(frozen=True, slots=True)
class STARConfig(SupervisedConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    hidden: int = 64  # H
    layers: int = 2  # of the star, before its output
    auxiliary: int = 16  # width of the auxiliary network and of its embedding of the domain; 0: without it
    decay: float = 0.99  # of the moving statistics, a batch
    epsilon: float = 1e-2  # added to a variance: flags and bins that are hardly ever set would be blown up
    weight_decay: float = 0.3

    def __post_init__(self) -> None:
        SupervisedConfig.__post_init__(self)
        self.at_least(1, "hidden", "layers")
        self.at_least(0, "auxiliary")
        self.shares("decay")
        if not self.epsilon > 0:
            raise UserError(f"star config: epsilon = {self.epsilon}, expected more than 0; change it")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"hidden": 8, "layers": 1, "auxiliary": 4, "epochs": 2},
}

SPACE: Space = {
    **SHARED,
    "hidden": (32, 64, 128, 256),
    "layers": (1, 2, 3),
    "auxiliary": (0, 8, 16, 32),
    "epsilon": (1e-3, 1e-2, 1e-1),
}


class Normalisation(nn.Module):
    """Partitioned normalisation as a scale and a shift of the inputs for each domain.

    What a domain has of its own is held as its distance from doing nothing, so that weight decay draws it there.
    """

    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, width: int, domains: int, decay: float, epsilon: float):
        """`domains` is P, the last one the shared network, whose statistics are of all steps."""
        super().__init__()
        self.decay, self.epsilon = decay, epsilon
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))  # gamma, beta
        self.own_scale = nn.Parameter(torch.zeros(domains - 1, width))  # gamma_p - 1
        self.own_shift = nn.Parameter(torch.zeros(domains - 1, width))  # beta_p
        self.register_buffer("count", torch.zeros(domains, 1, dtype=torch.float64))
        self.register_buffer("total", torch.zeros(domains, width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(domains, width, dtype=torch.float64))

    @torch.no_grad()
    def observe(self, x: Tensor, domain: Tensor) -> None:
        """Let steps join the statistics: inputs (n, I), the domain each was logged in (n,)."""
        domains = len(self.count)
        of = F.one_hot(domain, domains).to(self.count.dtype)
        of[:, -1] = 1.0  # all are steps of the shared network
        x = x.to(self.count.dtype)
        for held, now in ((self.count, of.sum(0)[:, None]), (self.total, of.T @ x), (self.squares, of.T @ x.square())):
            held.mul_(self.decay).add_(now)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each domain, (P, I); a domain that was never seen has those of all steps."""
        seen = self.count > 0
        count, total, squares = (torch.where(seen, held, held[-1]) for held in (self.count, self.total, self.squares))
        mean = total / count.clamp(min=1e-12)
        variance = (squares / count.clamp(min=1e-12) - mean.square()).clamp(min=0.0)
        variance = torch.where(count > 0, variance, 1.0)
        return mean.to(self.scale.dtype), variance.to(self.scale.dtype)

    def forward(self) -> tuple[Tensor, Tensor]:
        """(P, I) each: z' = scale z + shift."""
        mean, variance = self.moments()
        none = self.scale.new_zeros(1, self.scale.shape[0])
        scale = self.scale * (1 + torch.cat([self.own_scale, none])) / (variance + self.epsilon).sqrt()
        return scale, self.shift + torch.cat([self.own_shift, none]) - mean * scale


class StarLinear(nn.Module):
    """A layer's weights for each domain: W * W_p and b + b_p, W_p held as its distance from 1."""

    def __init__(self, width: int, out: int, domains: int):
        super().__init__()
        shared = nn.Linear(width, out)  # for its start
        self.weight, self.bias = nn.Parameter(shared.weight.detach().T.contiguous()), shared.bias
        self.own_weight = nn.Parameter(torch.zeros(domains - 1, width, out))
        self.own_bias = nn.Parameter(torch.zeros(domains - 1, out))

    def forward(self) -> tuple[Tensor, Tensor]:
        """(P, width, out) and (P, out), the shared network's last."""
        weight = torch.cat([self.weight * (1 + self.own_weight), self.weight[None]])
        return weight, torch.cat([self.bias + self.own_bias, self.bias[None]])


class Network(CandidateNetwork):
    """Normalisation, star and auxiliary network on the tensors of `Transforms.encode`."""

    def __init__(self, config: STARConfig, transforms: Transforms):
        super().__init__(transforms, config, config.hidden)
        domains = self.channels + 1
        self.inputs = inputs_of(transforms, config)
        self.dropped = Dropout(config.input_dropout)
        self.normalise = Normalisation(self.inputs.width, domains, config.decay, config.epsilon)
        widths = [self.inputs.width, *[config.hidden] * config.layers]
        self.layers = nn.ModuleList(StarLinear(a, b, domains) for a, b in pairwise(widths))
        self.out = StarLinear(config.hidden, self.outputs, domains)
        self.dropout = Dropout(config.dropout)
        self.auxiliary = None
        if config.auxiliary:
            self.domain = nn.Embedding(domains, config.auxiliary)
            self.read_step = nn.Linear(self.inputs.width, config.auxiliary)
            self.auxiliary = nn.Linear(config.auxiliary, self.outputs)

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """(B, T, P, H + 1 + R): the star's last layer in each domain, and beside it the auxiliary network's outputs."""
        x = self.dropped(self.inputs(ids, numbers))
        scale, shift = self.normalise()
        weight, bias = self.layers[0]()
        bias = bias + (shift[:, None] @ weight)[:, 0]  # the normalisation is a part of the first layer: x is met once
        h = torch.einsum("...i,pih->...ph", x, scale[..., None] * weight) + bias
        h = self.dropout(F.relu(h))
        for layer in list(self.layers)[1:]:
            h = self.dropout(F.relu(apply(layer, h)))
        if self.auxiliary is None:
            beside = h.new_zeros(*h.shape[:-1], self.outputs)
        else:
            beside = self.auxiliary(self.dropout(F.relu(self.read_step(x)[..., None, :] + self.domain.weight)))
        return torch.cat([h, beside], dim=-1)

    def last(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        if at is None:
            return apply(self.out, hidden)
        weight, bias = self.out()
        out: Tensor = (hidden[..., None, :] @ weight[at])[..., 0, :] + bias[at]
        return out


def apply(layer: nn.Module, h: Tensor) -> Tensor:
    """(..., P, width) -> (..., P, out), each domain by its own weights."""
    weight, bias = layer()
    out: Tensor = torch.einsum("...pi,pih->...ph", h, weight) + bias
    return out


class Learner(supervised.Learner[STARConfig, Network]):
    """The shared losses; then the batch joins the statistics."""

    def losses_of(self, batch: Batch, inputs: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        found = super().losses_of(batch, inputs)
        network = self.network
        if network.training:
            label, channel = torch.from_numpy(batch.label), torch.from_numpy(batch.channel)
            device = self.optimiser.device
            with torch.no_grad():
                network.eval()  # inputs as prediction will meet them: nothing dropped, no id made unknown
                x = network.inputs(inputs[0], inputs[1])[label.to(device)]
                network.train()
            network.normalise.observe(x, channel[label].to(device))
        return found


class STAR(Supervised[STARConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "star"
    presets = PRESETS
    space = SPACE
    config_type = STARConfig
    learner = Learner
    network_type = Network
