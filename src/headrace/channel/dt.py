"""DT: channels as a sequence of returns, states and actions (Chen et al., Decision Transformer, NeurIPS 2021).

    tau   = (R_1, s_1, a_1, R_2, s_2, a_2, ...)        three tokens a step, each with the embedding of its step   (2)
    R_t   = sum_{k >= t} r_k                           return-to-go, undiscounted; r_k is the reward (3) of MTORL
    p(a_t | R_1, s_1, a_1, ..., R_t, s_t)              causal self-attention, read at the state's token
    L     = mean of -log p(a_t | ...)                  cross-entropy on the logged channel

s_t is what is known before the decision of step t. The token of a_{t-1} is the channel of the step before as it is
known at t, so it comes first of its step here: a_0 (none), R_1, s_1, a_1, R_2, ... is the same sequence.

In training R_t is the journey's own. Nobody has that when acting, nor at validation and test: there

    R_t   = rho (t - 1 + m_t) - (rewards known so far),   within [0, the largest R_t of training at t]

with rho the target, a reward a step, and m_t the mean number of steps that training journeys had left at t: what a
journey that has come to t would bring in all, at rho a step, less what it has brought. So the target grows with a
journey that proves longer than most (how long it will be is as unknown as its return), and R_t stays among the numbers
that training has shown. t counts from the first step of the piece that is read. rho is a quantile of the training
journeys' mean reward a step, the median by default; tuning may choose another, by the log loss of the logged channels
as all it chooses, which is not what a target is for.

No gains are predicted: the paper found that predicting returns or states adds nothing. Departures: our loop and AdamW,
GELU, layer norms before each half of a block.

B journeys, T steps, M channels, D width, P longest piece of a journey, N steps of the store.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.channel import fitting
from headrace.channel.base import NetworkMethod
from headrace.channel.columns import groups
from headrace.channel.fitting import FitConfig, rewards_of, tensors
from headrace.channel.state import check_reward
from headrace.errors import UserError
from headrace.journeys.scales import FIRST
from headrace.journeys.seams import Floats, History
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys, ragged_rows
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import WHOLE, Batch, View
from headrace.learn.space import Range, Space
from headrace.nn.attention import CausalAttention
from headrace.nn.dropout import Dropout
from headrace.nn.embed import Inputs


@dataclass(frozen=True, slots=True)
class DTConfig(FitConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    width: int = 32  # D, of tokens
    blocks: int = 2  # of the transformer
    heads: int = 4  # of each attention
    quantile: float = 0.5  # of training steps by the mean reward of their journey: rho, the target when acting
    input_dropout: float = 0.15  # of the embedded state
    embedding_start: float = 0.1  # spread of the embeddings at first: an id that is seldom met stays near zero
    unknown: float = 0.4
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    epochs: int = 30
    patience: int | None = 4

    def __post_init__(self) -> None:
        FitConfig.__post_init__(self)
        self.at_least(1, "width", "blocks", "heads")
        self.at_least(0, "embedding_start")
        self.shares("input_dropout")
        if not 0 <= self.quantile <= 1:
            raise UserError(f"{self.method} config: quantile = {self.quantile}, expected 0 to 1; change it")
        if self.width % self.heads:
            raise UserError(
                f"{self.method} config: width = {self.width} is no multiple of heads = {self.heads}; change one"
            )


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"width": 8, "blocks": 1, "heads": 2, "epochs": 2},
}

SPACE: Space = {
    "width": (32, 64, 128),
    "blocks": (1, 2, 3),
    "heads": (1, 2, 4),
    "quantile": (0.25, 0.5, 0.75, 0.9),
    "dropout": (0.1, 0.2, 0.5),
    "unknown": (0.1, 0.3, 0.5),
    "length": (10, 20, 50, None),
    "batch_size": (32, 64, 128),
    "learning_rate": Range(3e-4, 5e-3, log=True),
    "weight_decay": (0.0, 0.1, 0.3),
}


class Block(nn.Module):
    """Causal attention, then two layers on each token, both added to what they read."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads, dropout)
        self.mix = nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.mix(self.attention(self.before_attention(x), mask)))
        out: Tensor = x + self.dropout(self.layers(self.before_layers(x)))
        return out


class Network(nn.Module):
    """The transformer over (a_{t-1}, R_t, s_t), on the tensors of `Transforms.encode` and a return-to-go each step."""

    aim: Tensor  # (P,) rho (t - 1 + m_t)
    most: Tensor  # (P,) the largest return-to-go of training at each step
    unit: Tensor  # () their mean: returns are read in it

    def __init__(self, config: DTConfig, transforms: Transforms):
        super().__init__()
        D, M, P = config.width, len(transforms.channels), config.length or WHOLE
        self.groups = groups(transforms)
        self.inputs = Inputs(
            transforms.cardinalities,
            transforms.width,
            config.unknown,
            transforms.knots,
            config.embedding_start,
            transforms.grown,
        )
        self.dropped = Dropout(config.input_dropout)
        self.read_state = nn.Linear(self.inputs.width, D)
        self.read_return = nn.Linear(1, D)
        self.read_action = nn.Embedding(FIRST + M, D)
        self.position = nn.Embedding(P, D)  # of the step: its three tokens share it
        nn.init.normal_(self.position.weight, std=0.02)
        self.norm = nn.LayerNorm(D)
        self.blocks = nn.ModuleList(Block(D, config.heads, config.dropout) for _ in range(config.blocks))
        self.last_norm = nn.LayerNorm(D)
        self.action = nn.Linear(D, M)
        self.register_buffer("aim", torch.zeros(P))
        self.register_buffer("most", torch.ones(P))
        self.register_buffer("unit", torch.ones(()))

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor, to_go: Tensor) -> Tensor:
        """Logits of the next channel, (B, T, M); `to_go` (B, T)."""
        B, T = mask.shape
        step = torch.arange(T, device=mask.device).clamp(max=len(self.aim) - 1)
        tokens = torch.stack(
            [
                self.read_action(ids[..., self.groups.channel]),
                self.read_return(to_go[..., None] / self.unit),
                self.read_state(self.dropped(self.inputs(ids, numbers))),
            ],
            dim=2,
        )  # (B, T, 3, D)
        x = self.norm(tokens + self.position(step)[:, None]).view(B, 3 * T, -1)
        there = mask.repeat_interleave(3, dim=1)
        for block in self.blocks:
            x = block(x, there)
        out: Tensor = self.action(self.last_norm(x[:, 2::3]))  # what the states' tokens have seen
        return out

    def target(self, known: Tensor) -> Tensor:
        """(B, T) the return-to-go of one who acts: the aim less what is known to have come, `known` (B, T)."""
        step = torch.arange(known.shape[1], device=known.device).clamp(max=len(self.aim) - 1)
        return torch.minimum((self.aim[step] - known).clamp(min=0), self.most[step])


def returns_to_go(view: View, transforms: Transforms) -> Floats:
    """(N,) of each step the sum of the rewards from it on to the last labelled step of its journey, undiscounted.

    Steps outside the view's labels bring nothing: their rewards are held out. So do rewards that are not known.
    """
    rows, known, _ = rewards_of(view, transforms)
    reward = np.zeros(view.journeys.n_steps)
    reward[rows] = np.nan_to_num(known)
    return to_the_end(reward, view.journeys.offsets)


def to_the_end(values: Floats, offsets: NDArray[np.int64]) -> Floats:
    """(N,) sums from each step to the end of its journey.

    >>> to_the_end(np.array([1.0, 0.0, 2.0, 5.0]), np.array([0, 3, 4])).tolist()
    [3.0, 2.0, 2.0, 5.0]
    """
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(np.repeat(total[offsets[1:]], np.diff(offsets)) - total[:-1])


def known_so_far(history: History, transforms: Transforms) -> Floats:
    """(B, T) the rewards of the steps read that are known at each step: each tells of the one before, if at all.

    Where a piece begins in the middle of a journey, its first step tells of one that was not read. Of steps at one time
    the last one stands for all that come at that time, and what is known late counts only if the next step knows it.
    """
    known = np.zeros(history.mask.shape)
    if transforms.reward_is_input:
        gains = {name: history.previous[name] for name in transforms.reward_weights}
        reward = transforms.reward(gains, history.previous.get("cost"))
        known = np.where(history.mask, np.nan_to_num(reward), 0.0).cumsum(axis=1)
        known -= known[:, :1]
    return known


class Learner(fitting.Learner[DTConfig, Network]):
    """Cross-entropy on the logged channel, given the journey's own return-to-go in training, the target's elsewhere."""

    def __init__(self, network: Network, transforms: Transforms, train: View, validation: View, config: DTConfig):
        self.config = config
        self.returns = returns_to_go(train, transforms)
        aim(network, self.returns, train, config.quantile)
        super().__init__(network, transforms, train, validation, config, self.rates)

    @property
    def rates(self) -> dict[str, float]:
        """Learning rates of parts of the network, as shares of the config's."""
        return {}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits, label, channel = self.logits(batch)
        chosen = F.log_softmax(logits, dim=-1).gather(-1, channel[..., None])[..., 0]  # (B, T)
        policy = -(chosen * label).sum() / label.sum().clamp(min=1)
        return {"loss": policy, "policy": policy}

    def logits(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, M) of the network; (B, T) the steps that count, and (B, T) their channels."""
        device = self.optimiser.device
        inputs = tensors(self.transforms.encode(batch.history), device)
        if self.network.training:
            to_go = torch.from_numpy(np.where(batch.rows >= 0, self.returns[batch.rows], 0.0)).to(device).float()
        else:
            to_go = self.network.target(acting(batch.history, self.transforms, device))
        label, channel = torch.from_numpy(batch.label).to(device), torch.from_numpy(batch.channel).to(device)
        return self.network(*inputs, to_go), label, channel


def acting(history: History, transforms: Transforms, device: torch.device) -> Tensor:
    """`known_so_far` on a device."""
    return torch.from_numpy(known_so_far(history, transforms)).to(device).float()


def aim(network: Network, returns: Floats, train: View, quantile: float) -> None:
    """Set what the network aims at when acting, from the returns-to-go (N,) of the training steps."""
    journeys, P = train.journeys, len(network.aim)
    left = to_the_end(train.labels.astype(np.float64), journeys.offsets)
    labelled = np.flatnonzero(train.labels)
    _, first, of = np.unique(journeys.users_of(labelled), return_index=True, return_inverse=True)
    rho = float(np.quantile((returns / np.maximum(left, 1))[labelled[first]][of], quantile))
    row = ragged_rows(train.start, train.steps)  # of every piece
    piece = np.repeat(np.arange(len(train)), train.steps)
    place = row - train.start[piece]
    counts = train.labels[row] & (place >= train.first_label[piece])
    rows, step = row[counts], np.minimum(place[counts], P - 1)
    count = np.bincount(step, minlength=P)
    remaining = np.bincount(step, weights=left[rows], minlength=P) / np.maximum(count, 1)
    most = np.zeros(P)
    np.maximum.at(most, step, returns[rows])
    seen = np.maximum.accumulate(np.where(count > 0, np.arange(P), 0))  # beyond the longest journey, as at its end
    network.aim.copy_(torch.from_numpy(rho * (np.arange(P) + remaining[seen])))
    network.most.copy_(torch.from_numpy(most[seen]))
    network.unit.fill_(max(float(returns[rows].mean()), 1e-6))


class DT(NetworkMethod[DTConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "dt"
    presets = PRESETS
    space = SPACE
    config_type: Any = DTConfig
    learner: type[fitting.Learner[Any, Network]] = Learner
    predicts_gains = False

    def check(self, journeys: Journeys, split: Split | None = None) -> object:
        """As every method; a log without a gain that is known in time has no returns to condition on."""
        super().check(journeys, split)
        check_reward(self.name, journeys, self.config.reward_weights)
        return None

    def new_network(self) -> Network:
        assert self.transforms is not None
        return Network(self.config, self.transforms)

    def encode(self, history: History) -> tuple[Tensor, ...]:
        """What the network reads of histories: ids, numbers, mask, and the return-to-go of one who acts."""
        transforms, network = self._fitted()
        return (*super().encode(history), network.target(acting(history, transforms, self.device)))

    def heads(
        self, encoded: tuple[Tensor, ...], at: tuple[Tensor, Tensor], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        return {"action": self._fitted()[1](*encoded)[at]}
