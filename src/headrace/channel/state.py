"""What value-based methods stand on: the state of a journey, and its steps as transitions (s, a, r, s', d).

    s_t = LeakyReLU(W concat(TCN(W_e x_1, ..., W_e x_t), x_t))      x_t: what is known before the decision of step t

The state of step t + 1 is the network's at t + 1, so a transition needs no replay: whole journeys are learnt from. The
running statistics, bins of them included, enter by the shortcut alone, since they tell the whole past already.

    r_t = (g_t - s w_t) / (max - min)      MTORL's reward (3) without the shift by its minimum; s is 0 where the
                                           penalised reward is not asked for

Behind the end of a journey a value is 0, so a step that brings and costs nothing has to be 0 too: with (3) as printed,
where costs make the minimum negative, it is worth a share of a gain, and whatever makes a journey longer looks good.

B journeys, T steps, M channels, D width, N steps of the store, n steps learnt from.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.channel.fitting import FitConfig, rewards_of
from headrace.errors import UserError
from headrace.journeys.schema import LogSchema
from headrace.journeys.seams import Bools
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch, View
from headrace.learn.space import Range, Space
from headrace.nn.dropout import Dropout
from headrace.nn.embed import Inputs
from headrace.nn.mlp import linear
from headrace.nn.tcn import TCN


@dataclass(frozen=True, slots=True)
class ValueConfig(FitConfig):
    """What value-based methods choose alike. A method adds its own."""

    width: int = 32  # D, of the state and the heads' hidden layer
    tcn_layers: int = 2  # of the state
    kernel: int = 3  # of the TCN
    gamma: float = 0.9  # discount of a step
    target_rate: float = 0.05  # share of its way to the network that the target goes in an update
    patience: int | None = None  # the loss follows a moving target: its validation value says not when to stop

    def __post_init__(self) -> None:
        FitConfig.__post_init__(self)
        self.at_least(1, "width", "kernel")
        self.at_least(0, "tcn_layers")
        self.shares("gamma")
        if not 0 < self.target_rate <= 1:
            raise UserError(
                f"{self.method} config: target_rate = {self.target_rate}, expected above 0, at most 1; change it"
            )


SPACE: Space = {  # what tuning searches of what all of them choose
    "gamma": (0.5, 0.8, 0.9, 0.95),
    "target_rate": (0.01, 0.05, 0.2),
    "width": (16, 32, 64, 128),
    "tcn_layers": (1, 2, 3),
    "dropout": (0.0, 0.1, 0.2, 0.5),
    "unknown": (0.1, 0.3, 0.5),
    "length": (10, 20, 50, None),
    "epochs": (10, 20, 40),
    "batch_size": (16, 32, 64, 128),
    "learning_rate": Range(5e-4, 1e-2, log=True),
    "weight_decay": (0.0, 1e-4, 1e-2),
}


class State(nn.Module):
    """ids (B, T, C), numbers (B, T, F), mask (B, T) -> (B, T, D), on the tensors of `Transforms.encode`."""

    def __init__(self, config: ValueConfig, transforms: Transforms):
        super().__init__()
        D = config.width
        self.inputs = Inputs(
            transforms.cardinalities, transforms.width, config.unknown, transforms.knots, grown=transforms.grown
        )
        self.token = self.inputs.up_to(transforms.own_width)
        self.embed = nn.Linear(self.token, D)  # W_e
        self.tcn = TCN(D, config.tcn_layers, config.kernel, config.dropout)
        self.read = nn.Linear(D + self.inputs.width, D)  # W
        self.dropout = Dropout(config.dropout)

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        x = self.inputs(ids, numbers)
        past = self.tcn(self.embed(x[..., : self.token]), mask)
        state: Tensor = self.dropout(F.leaky_relu(linear(self.read, past, x)))
        return state


class Heads(nn.Module):
    """A hidden layer and a linear one on a state of its own: (B, T, D) inside -> (B, T, outputs)."""

    def __init__(self, config: ValueConfig, transforms: Transforms, outputs: int):
        super().__init__()
        self.state = State(config, transforms)
        self.hidden = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, outputs)

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.out(F.leaky_relu(self.hidden(self.state(ids, numbers, mask))))
        return found


@dataclass(frozen=True, slots=True)
class Transitions:
    """The steps of a batch as transitions, (B, T) each."""

    channel: Tensor  # a
    reward: Tensor  # r; 0 where it is not known
    terminated: Tensor  # d: the last step of its journey
    learnt: Tensor  # the steps to learn from: labelled, their reward known, and what follows in the batch
    label: Tensor  # the steps whose channel counts
    cost: Tensor | None  # w; None where the log has none

    def of(self, values: Tensor) -> Tensor:
        """The values at the steps learnt from: (..., B, T) -> (..., n)."""
        return values[..., self.learnt]

    def chosen(self, q: Tensor) -> Tensor:
        """Q(s, a) of the logged channel at the steps learnt from: (..., B, T, M) -> (..., n)."""
        return self.of(taken(q, self.channel.expand(q.shape[:-1])))


def transitions(batch: Batch, ends: Bools, transforms: Transforms, device: torch.device) -> Transitions:
    """`ends` (N,) marks the last step of every journey of the log.

    A step that ends its piece of a journey and not the journey is no terminal one, and since its next state is not in
    the batch it is left out: the last labelled step of a user whose later steps are held out, or of a chunk.
    """
    mask = batch.history.mask
    low, high = transforms.reward_range
    reward = transforms.reward(batch.gains, batch.cost) + low / max(high - low, 1e-12)
    terminated = ends[batch.rows] & mask
    following = np.pad(mask[:, 1:], ((0, 0), (0, 1)))
    learnt = batch.label & ~np.isnan(reward) & (terminated | following)

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return Transitions(
        channel=tensor(batch.channel),
        reward=tensor(np.nan_to_num(reward).astype(np.float32)),
        terminated=tensor(terminated),
        learnt=tensor(learnt),
        label=tensor(batch.label),
        cost=None if batch.cost is None else tensor(batch.cost.astype(np.float32)),
    )


def penalised(reward: Tensor, cost: Tensor | None, multiplier: Tensor, transforms: Transforms) -> Tensor:
    """The reward as if the multiplier had stood for s, in the same scale: rewards (B, T), a multiplier that broadcasts
    against them."""
    if cost is None:
        return reward + 0 * multiplier
    low, high = transforms.reward_range
    return reward + (transforms.penalty - multiplier) * cost / max(high - low, 1e-12)


class Spread(nn.Module):
    """How much the reward varies at a price of money, as a multiple of how much it varies at s; 1 without a cost.

    Values of all prices are learnt in this unit: where money is dear the cost is all there is, and its squared errors
    would leave nothing for the prices that are used.
    """

    moments: Tensor  # (2,) of the reward at s and the cost in its scale: covariance and variance of the cost, over

    def __init__(self, transforms: Transforms):
        super().__init__()
        self.penalty = transforms.penalty
        self.register_buffer("moments", torch.zeros(2))  # the variance of the reward

    def learn(self, train: View, transforms: Transforms) -> None:
        """Take them from the training steps whose reward is known."""
        _, reward, cost = rewards_of(train, transforms)
        if cost is None:
            return
        low, high = transforms.reward_range
        known = ~np.isnan(reward) & ~np.isnan(cost)
        if known.sum() > 1:
            both = np.cov(reward[known], cost[known] / max(high - low, 1e-12))
            self.moments.copy_(torch.tensor([both[0, 1], both[1, 1]]) / max(both[0, 0], 1e-12))

    def forward(self, multiplier: Tensor) -> Tensor:
        further = self.penalty - multiplier
        return (1 + 2 * further * self.moments[0] + further**2 * self.moments[1]).clamp(min=1e-4).sqrt()


def break_even(transforms: Transforms) -> float:
    """The multiplier at which a training step's mean gain is worth its mean cost; 0 where the log has no cost."""
    if transforms.schema.cost is None:
        return 0.0
    gain = sum(weight * transforms.means[name] for name, weight in transforms.reward_weights.items())
    return max(gain, 0.0) / max(transforms.scales["cost"].mean, 1e-12)


@contextlib.contextmanager
def settled(network: nn.Module) -> Iterator[None]:
    """Within it a network says what it would when served: without dropout, and without gradients."""
    training = network.training
    network.eval()
    with torch.no_grad():
        yield
    network.train(training)


def ends_of(journeys: Journeys) -> Bools:
    """(N,) true at the last step of each journey."""
    ends = np.zeros(journeys.n_steps, dtype=np.bool_)
    ends[journeys.offsets[1:][np.diff(journeys.offsets) > 0] - 1] = True
    return ends


def ahead(values: Tensor) -> Tensor:
    """What stands at the next step, (..., B, T); behind the last one stands what a terminal mask must hide: 0."""
    return F.pad(values[..., 1:], (0, 1))


def taken(values: Tensor, channel: Tensor) -> Tensor:
    """The value of one channel a step: (..., M), (...) -> (...)."""
    return values.gather(-1, channel[..., None])[..., 0]


def negative_log_likelihood(logits: Tensor, of: Transitions) -> Tensor:
    """Of the logged channels under softmax(logits), the mean over labelled steps: (B, T, M) -> ()."""
    chosen = taken(F.log_softmax(logits, dim=-1), of.channel)
    return -(chosen * of.label).sum() / of.label.sum().clamp(min=1)


def check_reward(method: str, journeys: Journeys, weights: dict[str, float] | None) -> None:
    """UserError where a log's reward is no number that a value could be learnt of."""
    schema: LogSchema = journeys.schema
    names = list(weights) if weights else [g.name for g in schema.gains if g.known != "never"][:1]
    if not names:
        raise UserError(
            f"{journeys.path}: schema {schema.name} has no gain known in time for {method} to learn from; "
            "name one with --reward GAIN"
        )
    classes = [name for name in names if schema.gain(name).kind == "classes"]
    if classes:
        raise UserError(f"{journeys.path}: {classes[0]} has classes and no order; name another gain with --reward")
