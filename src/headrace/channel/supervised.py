"""What the supervised channel methods do alike: their losses, their answers, and how a state becomes rewards.

    L = w L_policy + mean of L_reward in its three conditionings

A network gives the state of each step as it is known before the decision (`forward`), and says three things of it: the
logits of the next channel (`action`), what the step will bring (`reward`: as it is, given a channel, given a channel
and its context), and what each channel would bring (`rewards`).

Two kinds of network share the rest: one state a step that heads decode (`StateNetwork`), and a hidden layer for each
candidate channel and one for none (`CandidateNetwork`).

B journeys, T steps, M channels, S width of a state, D width of a hidden layer, R reward outputs, n places.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.channel import fitting
from headrace.channel.base import NetworkMethod
from headrace.channel.fitting import FitConfig, reward_shares, tensors
from headrace.channel.heads import Target, reward_loss, targets
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch, View
from headrace.learn.loop import LoopConfig, fit_stage
from headrace.learn.run import Run
from headrace.learn.space import Range, Space
from headrace.nn.dropout import Dropout
from headrace.nn.embed import Inputs

Context = tuple[Tensor, Tensor]  # ids and numbers of `Transforms.encode_context`


@dataclass(frozen=True, slots=True)
class SupervisedConfig(FitConfig):
    """What every supervised method chooses beside the shared config."""

    action_weight: float = 1.0  # w, of the policy's cross-entropy beside the mean loss of the reward's conditionings
    input_dropout: float = 0.15  # of the embedded inputs
    embedding_start: float = 0.1  # spread of the embeddings at first: an id that is seldom met stays near zero
    unknown: float = 0.4
    context_bins: int = 48
    epochs: int = 40
    patience: int | None = 5

    def __post_init__(self) -> None:
        FitConfig.__post_init__(self)
        self.at_least(0, "action_weight", "embedding_start")
        self.shares("input_dropout")


class SupervisedNetwork(nn.Module, ABC):
    """What the losses and the answers ask of a network; `targets` are the outputs of its reward heads, in order."""

    targets: list[Target]

    @abstractmethod
    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """The state of each step before its decision, (B, T, ...), from the tensors of `Transforms.encode`."""

    @abstractmethod
    def action(self, state: Tensor) -> Tensor:
        """Logits of the next channel, (..., M)."""

    @abstractmethod
    def reward(self, state: Tensor, channel: Tensor | None = None, context: Context | None = None) -> Tensor:
        """What a step will bring, (..., R); `channel` (...) where that is known, `context` where that is known too."""

    @abstractmethod
    def rewards(self, state: Tensor) -> Tensor:
        """What each channel would bring, (..., M, R)."""


class StateNetwork(SupervisedNetwork):
    """One state a step: a subclass gives it, `bring` decodes what the step will bring."""

    bring: "RewardHead"

    def reward(self, state: Tensor, channel: Tensor | None = None, context: Context | None = None) -> Tensor:
        found: Tensor = self.bring(state, channel, context)
        return found

    def rewards(self, state: Tensor) -> Tensor:
        return self.bring.each(state)


class CandidateNetwork(SupervisedNetwork):
    """A score and the reward's outputs for each candidate channel; the softmax of the scores is the policy.

    The state is (..., M + 1, D + 1 + R): of each candidate, and of none in the last place, a hidden layer and outputs
    that stand beside it. A subclass gives it, and `last`, which maps hidden layers to outputs.
    """

    def __init__(self, transforms: Transforms, config: "SupervisedConfig", width: int):
        super().__init__()
        self.targets = targets_of(transforms, config)
        self.outputs = 1 + sum(t.size for t in self.targets)
        self.channels, self.width = len(transforms.channels), width
        self.context = ReadContext(transforms, config, width)

    @abstractmethod
    def last(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        """(..., M + 1, D) -> (..., M + 1, 1 + R); of the candidates `at` (...) alone: (..., D) -> (..., 1 + R)."""

    def every(self, state: Tensor) -> Tensor:
        """(..., M, 1 + R): the score and the rewards of each channel."""
        hidden, beside = state[..., : self.width], state[..., self.width :]
        return (self.last(hidden) + beside)[..., : self.channels, :]

    def action(self, state: Tensor) -> Tensor:
        return self.every(state)[..., 0]

    def reward(self, state: Tensor, channel: Tensor | None = None, context: Context | None = None) -> Tensor:
        shape = state.shape[:-2]
        at = torch.full(shape, self.channels, device=state.device) if channel is None else channel
        own = state.gather(-2, at[..., None, None].expand(*shape, 1, state.shape[-1]))[..., 0, :]
        hidden, beside = own[..., : self.width], own[..., self.width :]
        return (self.last(self.context(hidden, context), at) + beside)[..., 1:]

    def rewards(self, state: Tensor) -> Tensor:
        return self.every(state)[..., 1:]


C = TypeVar("C", bound=SupervisedConfig)
N = TypeVar("N", bound=SupervisedNetwork)


class Learner(fitting.Learner[C, N]):
    """Cross-entropy of the logged channel, and the reward's loss in its three conditionings."""

    def __init__(
        self,
        network: N,
        transforms: Transforms,
        train: View,
        validation: View,
        config: C,
        rates: dict[str, float] | None = None,
    ):
        super().__init__(network, transforms, train, validation, config, rates)
        self.weights = reward_shares(network.targets, transforms, config)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The objective and its parts, means over labelled steps."""
        return self.losses_of(batch, tensors(self.transforms.encode(batch.history), self.optimiser.device))

    def losses_of(self, batch: Batch, inputs: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        network, device = self.network, self.optimiser.device
        label, channel = torch.from_numpy(batch.label).to(device), torch.from_numpy(batch.channel).to(device)
        state = network(*inputs)
        chosen = F.log_softmax(network.action(state), dim=-1).gather(-1, channel[..., None])[..., 0]  # (B, T)
        policy = -(chosen * label).sum() / label.sum().clamp(min=1)
        parts = {"policy": policy}
        loss = self.config.action_weight * policy if self.config.action_weight else policy.new_zeros(())
        if network.targets:
            context = tensors(self.transforms.encode_context(batch), device)[:2]
            outputs = [network.reward(state, *given) for given in ((), (channel,), (channel, context))]
            parts["reward"] = torch.stack(
                [
                    reward_loss(output, network.targets, batch, label, self.transforms, self.weights)
                    for output in outputs
                ]
            ).mean()
            loss = loss + parts["reward"]
        return {"loss": loss, **parts}


class Supervised(NetworkMethod[C, N]):
    """fit on a split's training steps; then predict, or give a policy."""

    learner: Any = Learner
    network_type: Any  # takes the config and the fitted transforms

    def new_network(self) -> N:
        network: N = self.network_type(self.config, self.transforms)
        return network

    def fit_stages(self, run: Run, train: View, validation: View, loop: LoopConfig) -> fitting.Learner[C, N]:
        transforms, network = self._fitted()
        learner: fitting.Learner[C, N] = self.learner(network, transforms, train, validation, self.config, self.rates)
        self.stage = fit_stage(learner, run, "train", loop)
        return learner

    @property
    def rates(self) -> dict[str, float]:
        """Learning rates of parts of the network, as shares of the config's, by the prefix of their names."""
        return {}

    def heads(
        self, encoded: tuple[Tensor, ...], at: tuple[Tensor, Tensor], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        transforms, network = self._fitted()
        state = network(*encoded)[at]  # (n, ...)
        found = {
            "action": network.action(state),
            "reward": network.reward(state),
            "reward_by_channel": network.rewards(state),
        }
        if batch is not None:
            channel = torch.from_numpy(batch.channel).to(self.device)[at]
            ids, numbers, _ = tensors(transforms.encode_context(batch), self.device)
            found["reward_in_context"] = network.reward(state, channel, (ids[at], numbers[at]))
        return found


SPACE: Space = {  # what tuning searches of what all of them choose
    "dropout": (0.0, 0.1, 0.2, 0.5),
    "unknown": (0.1, 0.3, 0.5),
    "batch_size": (32, 64, 128, 256),
    "learning_rate": Range(5e-4, 1e-2, log=True),
    "weight_decay": (0.0, 1e-2, 0.1, 0.3),
}


def inputs_of(transforms: Transforms, config: SupervisedConfig) -> Inputs:
    """The embedding of what is known of a step before its decision."""
    return Inputs(
        transforms.cardinalities,
        transforms.width,
        config.unknown,
        transforms.knots,
        config.embedding_start,
        transforms.grown,
    )


def targets_of(transforms: Transforms, config: SupervisedConfig) -> list[Target]:
    """What the reward heads predict."""
    return targets(transforms, config.reward_target)


class ReadContext(nn.Module):
    """A hidden layer that hears of the step's context: n (1 + W c) + V c. It stays as it is where a log has none."""

    def __init__(self, transforms: Transforms, config: SupervisedConfig, width: int):
        super().__init__()
        self.inputs = Inputs(
            transforms.context_cardinalities,
            transforms.context_width,
            knots=transforms.context_knots,
            start=config.embedding_start,
            grown=transforms.context_grown,
        )
        self.scale = nn.Linear(self.inputs.width, width) if self.inputs.width else None
        self.shift = nn.Linear(self.inputs.width, width) if self.inputs.width else None

    def forward(self, n: Tensor, context: Context | None) -> Tensor:
        """(..., width) -> (..., width); None: the context is not known."""
        if context is None or self.scale is None or self.shift is None:
            return n
        c = self.inputs(*context)
        heard: Tensor = n * (1 + self.scale(c)) + self.shift(c)
        return heard


class RewardHead(nn.Module):
    """Decodes a state in three conditionings, each masked to what it may see: MTORL's decoder (12), plain."""

    def __init__(self, transforms: Transforms, config: SupervisedConfig, state: int, width: int, layers: int):
        """`state` is S, `width` D; `layers` residual layers stand behind what was read."""
        super().__init__()
        outputs = sum(t.size for t in targets_of(transforms, config))
        self.state = nn.Linear(state, width)
        self.channel = nn.Embedding(len(transforms.channels), width)
        self.context = ReadContext(transforms, config, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.dropout = Dropout(config.dropout)
        self.out = nn.Linear(width, outputs)

    def forward(self, state: Tensor, channel: Tensor | None = None, context: Context | None = None) -> Tensor:
        """(..., S) -> (..., R)."""
        n = self.state(state)
        if channel is not None:
            n = n + self.channel(channel)
        return self.decode(self.context(n, context))

    def each(self, state: Tensor) -> Tensor:
        """For each channel: (..., S) -> (..., M, R)."""
        return self.decode(self.state(state)[..., None, :] + self.channel.weight)

    def decode(self, n: Tensor) -> Tensor:
        for layer in self.layers:
            n = n + self.dropout(F.leaky_relu(layer(F.leaky_relu(n))))
        out: Tensor = self.out(n)
        return out
