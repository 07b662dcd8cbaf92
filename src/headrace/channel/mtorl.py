"""MTORL: which channel next, and what it will bring (Liu et al., KDD 2025).

    x_t = W_e concat(a_{t-1}, r_{t-1}, q_{t-1}^after, q_t^before, f)      what is known before the decision   (4)
    s~  = LeakyReLU(W_s TCN(x))                                          causal states                    (5), (6)
    M   = causal attention over s~, then L2 layers of add & norm                                          (7), (8)
    y^  = softmax(W_Z M)                                                 the next channel                 (9)
    r^  = decoder(s~ [, channel [, context]])                            the gain                         (12)
    L   = L_policy + mu L_reward + lambda L_preference                                                    (16)

Where the paper's print is corrected (docs/mtorl.md tells each): the channel, gain, cost and `after` features of step
t enter at t + 1; the binary cross-entropy is (1 - r) log(1 - r^) in (14); (15) averages over valid steps and ranks
journeys by mean reward per step; the dilated index of (5) is t - d * i; biases are shared over time.

B journeys, T steps, M channels, D width, G reward targets, n labelled steps.
"""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.channel import fitting
from headrace.channel.base import NetworkMethod, last_of
from headrace.channel.fitting import FitConfig, reward_shares, tensors
from headrace.channel.heads import reward_loss, targets
from headrace.channel.preference import Pairing, partners, preference_loss
from headrace.errors import UserError
from headrace.journeys.seams import History
from headrace.journeys.statistics import running
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.upcoming import upcoming
from headrace.journeys.views import WHOLE, Batch, View
from headrace.learn.loop import LoopConfig, fit_stage
from headrace.learn.run import Run
from headrace.learn.space import Range, Space
from headrace.nn.attention import CausalAttention
from headrace.nn.dropout import Dropout
from headrace.nn.embed import Inputs
from headrace.nn.mlp import linear
from headrace.nn.tcn import TCN


@dataclass(frozen=True, slots=True)
class MTORLConfig(FitConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind and the paper's."""

    width: int = 64  # D, of embedding and hidden layers
    tcn_layers: int = 2  # L1
    kernel: int = 3  # k_c, filter size of the causal convolution
    attention_layers: int = 2  # L2, add & norm layers behind the attention
    decoder_layers: int = 3  # L3, of the reward decoder
    heads: int = 4  # of the attention
    attention: bool = True  # (7); False: what follows reads the causal states
    reward_reads: Literal["states", "attention", "action"] = "states"  # what the reward decoder decodes (section 3.5)
    input_dropout: float = 0.15  # of the embedded inputs
    embedding_start: float = 0.1  # spread of the embeddings at first: an id that is seldom met stays near zero
    cross: bool = True  # the context also scales what the reward decoder reads; False: is only added to it
    shortcut: bool = True  # the heads read the inputs again, beside the states
    reward_weight: float = 1.0  # mu of (16)
    preference: Literal["none", "free", "reference"] = "none"  # (15); reference: to a policy fitted without it first
    pairs: Pairing = "any"  # which journeys (15) compares: any two, or matched in user features and length
    preference_weight: float = 1.4  # lambda of (16)
    beta: float = 0.1  # of (15)
    gaussian: bool = False  # weights drawn from a normal of sd 0.02 instead of torch's defaults
    unknown: float = 0.4
    context_bins: int = 48
    weight_decay: float = 0.3
    epochs: int = 40
    patience: int | None = 5

    def __post_init__(self) -> None:
        FitConfig.__post_init__(self)
        self.at_least(1, "width", "kernel", "heads")
        self.at_least(0, "tcn_layers", "attention_layers", "decoder_layers")
        self.at_least(0, "embedding_start", "reward_weight", "preference_weight")
        self.shares("input_dropout")
        if self.width % self.heads:
            raise UserError(f"mtorl config: width = {self.width} is no multiple of heads = {self.heads}; change one")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "width": 512,
        "length": 20,
        "running": False,
        "bins": 0,
        "context_bins": 0,
        "cross": False,
        "input_dropout": 0.0,
        "embedding_start": 1.0,
        "shortcut": False,
        "reward_weight": 0.08,
        "auxiliary_weight": 1.0,
        "unknown": 0.0,
        "preference": "free",
        "calibrate": False,
        "gaussian": True,
        "average": None,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "batch_size": 512,
        "epochs": 800,
        "patience": None,
    },
    "tiny": {"width": 8, "tcn_layers": 1, "decoder_layers": 1, "attention_layers": 1, "heads": 2, "epochs": 2},
}

SPACE: Space = {  # Table 4, its embedding and hidden size one here; whole journeys too; lambda and mu of Figure 3
    "batch_size": (32, 64, 128, 256, 512, 1024, 2048),
    "learning_rate": (1e-2, 5e-3, 1e-3, 5e-4, 1e-4),
    "dropout": (0.1, 0.2, 0.5),
    "weight_decay": (0.0, 1e-4, 1e-5, 1e-6),
    "width": (64, 128, 256, 512, 768),
    "tcn_layers": (2, 3, 4),
    "attention_layers": (2, 3, 4),
    "decoder_layers": (2, 3, 4),
    "heads": (1, 2, 4, 8),
    "length": (5, 10, 15, 20, 25, 30, 35, 40, None),
    "preference_weight": Range(0.0, 2.4),
    "reward_weight": Range(0.02, 2.0, log=True),  # the paper's ends at 0.2, our default is 1
}


class Network(nn.Module):
    """Encoder, action decoder and reward decoder on the tensors of `Transforms.encode`."""

    def __init__(self, config: MTORLConfig, transforms: Transforms):
        super().__init__()
        D, M = config.width, len(transforms.channels)  # width, channels
        self.targets = targets(transforms, config.reward_target)
        self.inputs = Inputs(
            transforms.cardinalities,
            transforms.width,
            config.unknown,
            transforms.knots,
            config.embedding_start,
            transforms.grown,
        )
        self.dropped = Dropout(config.input_dropout)
        self.token = self.inputs.up_to(transforms.own_width)  # no bins of running statistics: the last step has them
        self.embed = nn.Linear(self.token, D)  # W_e
        self.tcn = TCN(D, config.tcn_layers, config.kernel, config.dropout)
        self.to_state = nn.Linear(D, D)  # W_s
        self.attention = CausalAttention(D, config.heads, config.dropout) if config.attention else None
        self.layers = nn.ModuleList(nn.Linear(D, D) for _ in range(config.attention_layers))  # W_M
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(config.attention_layers))
        self.dropout = Dropout(config.dropout)
        self.action = nn.Linear(D + self.inputs.plain * config.shortcut, M)  # W_Z
        self.context = Inputs(
            transforms.context_cardinalities,
            transforms.context_width,
            knots=transforms.context_knots,
            start=config.embedding_start,
            grown=transforms.context_grown,
        )
        self.reads = config.reward_reads
        self.read_state = nn.Linear((M if self.reads == "action" else D) + self.inputs.width * config.shortcut, D)
        self.read_channel = nn.Embedding(M, D)
        self.read_context = nn.Linear(self.context.width, D) if self.context.width else None
        self.scale_context = nn.Linear(self.context.width, D) if self.context.width and config.cross else None
        self.decoder = nn.ModuleList(nn.Linear(D, D) for _ in range(config.decoder_layers))  # W_N
        self.reward = nn.Linear(D, sum(t.size for t in self.targets))  # W_r
        self.shortcut = config.shortcut
        if config.gaussian:
            self.apply(gaussian)

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the next channel (B, T, M), and what the reward decoder reads (B, T, D)."""
        full = self.inputs(ids, numbers)  # (B, T, inputs)
        x = self.dropped(full)
        states, m = self.encode(x, mask)
        logits = linear(self.action, m, full[..., : self.inputs.plain]) if self.shortcut else self.action(m)  # (9)
        read = states
        if self.reads != "states":
            read = m if self.reads == "attention" else logits.softmax(dim=-1)
        return logits, linear(self.read_state, read, x) if self.shortcut else self.read_state(read)

    def encode(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The user encoder: the causal states and what attention makes of them, (B, T, D) each."""
        states = F.leaky_relu(self.to_state(self.tcn(self.embed(x[..., : self.token]), mask)))  # (6)
        m = states if self.attention is None else self.attention(states, mask)  # (7)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            m = norm(m + self.dropout(F.leaky_relu(layer(m))))  # (8)
        return states, m

    def represent(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """The user's representation at each step, (B, T, D): the encoder's output, equation (8)."""
        return self.encode(self.inputs(ids, numbers), mask)[1]

    def decode(
        self, read: Tensor, channel: Tensor | None = None, context: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Equation (12) in its three conditionings: (..., D) -> (..., outputs of all targets)."""
        n = read
        if channel is not None:
            n = n + self.read_channel(channel)
        if context is not None and self.read_context is not None:
            c = self.context(*context)  # (..., context)
            if self.scale_context is not None:
                n = n * (1 + self.scale_context(c))
            n = n + self.read_context(c)
        for layer in self.decoder:
            if self.shortcut:
                n = n + self.dropout(F.leaky_relu(layer(F.leaky_relu(n))))
            else:
                n = self.dropout(F.leaky_relu(layer(n)))  # as printed
        out: Tensor = self.reward(n)
        return out

    def decode_channels(self, read: Tensor) -> Tensor:
        """The reward of each candidate channel: (..., D) -> (..., M, outputs)."""
        return self.decode(read[..., None, :] + self.read_channel.weight)


def gaussian(module: nn.Module) -> None:
    """Weights from a normal of mean 0 and sd 0.02 (section 4.1.3: Gaussian, its sd not printed), biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class Learner(fitting.Learner[MTORLConfig, Network]):
    """The three losses of (16).

    `reference` is the frozen network whose policy (15) compares with; none where it compares with no other.
    """

    def __init__(
        self,
        network: Network,
        transforms: Transforms,
        train: View,
        validation: View,
        config: MTORLConfig,
        reference: Network | None = None,
    ):
        super().__init__(network, transforms, train, validation, config)
        self.reference = reference
        self.weights = reward_shares(network.targets, transforms, config)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The objective (16) and its parts, each a mean over labelled steps."""
        config, network = self.config, self.network
        device = self.optimiser.device
        label, channel = torch.from_numpy(batch.label).to(device), torch.from_numpy(batch.channel).to(device)
        inputs = tensors(self.transforms.encode(batch.history), device)
        logits, read = network(*inputs)
        chosen = F.log_softmax(logits, dim=-1).gather(-1, channel[..., None])[..., 0]  # (B, T)
        n = label.sum().clamp(min=1)
        policy = -(chosen * label).sum() / n  # (13)
        loss = policy
        parts = {"policy": policy}
        if network.targets and config.reward_weight > 0:
            context = tensors(self.transforms.encode_context(batch), device)[:2]
            outputs = [network.decode(read), network.decode(read, channel), network.decode(read, channel, context)]
            losses = [
                reward_loss(output, network.targets, batch, label, self.transforms, self.weights) for output in outputs
            ]
            reward = torch.stack(losses).mean()
            parts["reward"] = reward
            loss = loss + config.reward_weight * reward
        if config.preference != "none" and self.transforms.reward_weights:
            reward_now = self.transforms.reward(batch.gains, batch.cost)
            there = batch.label & ~np.isnan(reward_now)
            mean = np.where(there, reward_now, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
            totals = torch.from_numpy(mean).to(chosen)
            likelihood = chosen
            if self.reference is not None:
                with torch.no_grad():
                    before = F.log_softmax(self.reference(*inputs)[0], dim=-1).gather(-1, channel[..., None])[..., 0]
                likelihood = chosen - before
            other = partners(batch, config.pairs, self.transforms.vocabularies).to(device)
            parts["preference"] = preference_loss(likelihood, totals, label, config.beta, other)
            loss = loss + config.preference_weight * parts["preference"]
        return {"loss": loss, **parts}


class MTORL(NetworkMethod[MTORLConfig, Network]):
    """fit on a split's training steps; then predict, give a policy, or embed users."""

    name = "mtorl"
    presets = PRESETS
    space = SPACE
    config_type = MTORLConfig
    learner = Learner

    def new_network(self) -> Network:
        assert self.transforms is not None
        return Network(self.config, self.transforms)

    def fit_stages(self, run: Run, train: View, validation: View, loop: LoopConfig) -> Learner:
        transforms, network = self._fitted()
        config, reference = self.config, None
        if config.preference == "reference":
            without = dataclasses.replace(config, preference="none")
            first = Learner(network, transforms, train, validation, without)
            fit_stage(first, run, "reference", loop)
            with first.optimiser.averaged():
                reference = copy.deepcopy(network).eval()
            network.load_state_dict(reference.state_dict())
        learner = Learner(network, transforms, train, validation, config, reference)
        self.stage = fit_stage(learner, run, "train", loop)
        return learner

    def heads(
        self, encoded: tuple[Tensor, ...], at: tuple[Tensor, Tensor], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        transforms, network = self._fitted()
        logits, read = network(*encoded)
        read = read[at]  # (n, D)
        found = {
            "action": logits[at],
            "reward": network.decode(read),
            "reward_by_channel": network.decode_channels(read),
        }
        if batch is not None:
            channel = torch.from_numpy(batch.channel).to(read.device)[at]
            ids, numbers, _ = tensors(transforms.encode_context(batch), read.device)
            found["reward_in_context"] = network.decode(read, channel, (ids[at], numbers[at]))
        return found

    def logits(self, histories: History) -> NDArray[Any]:
        """(B, M) of the action decoder at each history's last step, without the rewards."""
        _, network = self._fitted()
        network.eval()
        with torch.no_grad():
            ids, numbers, mask = self.encode(histories)
            found: NDArray[Any] = network(ids, numbers, mask)[0][last_of(mask)].cpu().numpy()
        return found

    def embeddings(self, journeys: Journeys) -> NDArray[np.float32]:
        """(U, D) the encoder's representation of each user at its next step, section 4.5."""
        transforms, network = self._fitted()
        transforms.fits(journeys)
        so_far = running(journeys, transforms.statistics)
        found = np.empty((journeys.n_users, self.config.width), dtype=np.float32)
        network.eval()
        with torch.no_grad():
            for users, history in upcoming(journeys, self.config.length or WHOLE, transforms.statistics, so_far):
                ids, numbers, mask = self.encode(history)
                found[users] = network.represent(ids, numbers, mask)[last_of(mask)].cpu().numpy()
        return found
