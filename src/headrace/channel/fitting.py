"""How a channel method's network is fitted: the shared part of its config, and what the loop drives.

B journeys, T steps.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from headrace.channel.heads import ONEHOT, RewardTarget, Target
from headrace.errors import UserError
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.statistics import gain_values
from headrace.journeys.transforms import Categories, Encoded, Transforms
from headrace.journeys.views import Batch, View
from headrace.learn.checkpoint import State, join, part
from headrace.learn.optimise import Optimiser, OptimiserConfig
from headrace.learn.updates import soft_update


@dataclass(frozen=True, slots=True)
class FitConfig:
    """What every method chooses: what it reads, what is a reward, and how it is fitted. A method adds its own."""

    length: int | None = None  # n, steps of a journey that are read; None: whole journeys
    categories: Categories = (
        "numbers"  # how those stored as numbers are read; both or embedded: where order says nothing
    )
    running: bool = True  # counts and rates so far among the inputs
    bins: int = 16  # of each number between training quantiles, beside the number: sharp steps can be learnt; 0: none
    context_bins: int = 0  # the same of the step's context, where that is read
    unknown: float = 0.3  # share of category ids turned unknown in training
    min_count: int = 2  # a category seen less often in training is unknown
    dropout: float = 0.2
    reward_weights: dict[str, float] | None = None  # gains that make the reward (18); None: the first known in time
    reward_target: RewardTarget = "gain"  # predict gains and cost; also the penalised reward (3); or the one-hot (18)
    penalty: float = 0.5  # s of (3), reward per unit of cost; what counts of it: `price`
    auxiliary_weight: float = 0.1  # of the losses of gains outside the reward, and of the cost
    calibrate: bool = True  # temperature and slopes fitted on validation steps
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    batch_size: int = 64  # journeys
    epochs: int = 20  # at most
    patience: int | None = 3  # epochs without a better validation loss; None: no early stopping
    clip: float | None = 1.0  # largest norm of the gradient
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate
    average: float | None = 0.99  # decay of the moving average of the weights that is evaluated; None: the last weights
    device: str = "auto"  # an accelerator where there is one; cpu, cuda
    precision: Literal["float32", "bf16", "auto"] = "float32"  # of the forward pass; small nets gain nothing from bf16
    seed: int = 0

    def __post_init__(self) -> None:
        self.at_least(1, "batch_size", "epochs", "min_count", "patience")
        self.at_least(2, "length")
        self.at_least(0, "bins", "context_bins", "penalty", "auxiliary_weight", "weight_decay")
        self.shares("dropout", "unknown")

    @property
    def price(self) -> float:
        """What a unit of cost takes off a gain, taught or valued: s where the penalised reward is asked for, else 0.

        A log's unit of cost may be any: s uncalled for would rank one that is kept in cents by its costs.
        """
        return self.penalty if self.reward_target == "penalised" else 0.0

    @property
    def method(self) -> str:
        return type(self).__name__.removesuffix("Config").lower()

    def at_least(self, low: float, *names: str) -> None:
        """Raise UserError for a field below `low`; None passes."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"{self.method} config: {name} = {value}, expected {low} or more; change it")

    def shares(self, *names: str) -> None:
        """Raise UserError for a field outside [0, 1)."""
        for name in names:
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UserError(
                    f"{self.method} config: {name} = {value}, expected 0 or more and less than 1; change it"
                )


C = TypeVar("C", bound=FitConfig)
N = TypeVar("N", bound=nn.Module)


class Learner(ABC, Generic[C, N]):
    """What the loop drives: a network, its optimiser, and the losses of a method.

    `target` is, for bootstrapped targets, a frozen copy of the network that follows it slowly; None without a rate.
    """

    reading = 4  # batches of training that fit into one of validation or prediction

    def __init__(
        self,
        network: N,
        transforms: Transforms,
        train: View,
        validation: View,
        config: C,
        rates: dict[str, float] | None = None,
        target_rate: float | None = None,
    ):
        """`rates`: learning rates of parts of the network, as shares of the config's, by the prefix of their names;
        `target_rate`: the share of its way to the network that the target goes in an update."""
        self.network, self.transforms, self.config = network, transforms, config
        self.train, self.validation = train, validation
        described = OptimiserConfig(
            config.learning_rate,
            config.weight_decay,
            config.clip,
            config.schedule,
            total_steps=config.epochs * -(-len(train) // config.batch_size),
            precision=config.precision,
            average=config.average,
        )
        self.optimiser = Optimiser(network, described, rates or {})
        self.target_rate = target_rate
        self.target: N | None = None if target_rate is None else copy.deepcopy(network).eval().requires_grad_(False)

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, which is minimised and watched, and its parts, each a mean over labelled steps."""

    def batches(self, seed: int) -> Iterator[Batch]:
        return self.train.batches(self.config.batch_size, seed)

    def step(self, batch: Batch) -> dict[str, float]:
        self.network.train()
        with self.optimiser.autocast():
            losses = self.losses(batch)
        self.optimiser.minimise(losses["loss"])
        if self.target is not None:
            soft_update(self.target, self.network, self.target_rate or 0.0)
        return {name: float(value.detach()) for name, value in losses.items()}

    def validate(self) -> dict[str, float]:
        self.network.eval()
        totals: dict[str, float] = {}
        steps = 0
        with torch.no_grad(), self.optimiser.averaged():
            for batch in self.validation.batches(self.reading * self.config.batch_size):
                n = int(batch.label.sum())
                for name, value in self.losses(batch).items():
                    totals[name] = totals.get(name, 0.0) + n * float(value)
                steps += n
        return {name: value / max(steps, 1) for name, value in totals.items()}

    def state(self) -> State:
        moments, values = self.optimiser.state()
        held = {"network": self.network.state_dict(), "optimiser": moments}
        if self.target is not None:
            held["target"] = self.target.state_dict()
        return join(held), {"optimiser": values}

    def load(self, state: State) -> None:
        held, values = state
        self.network.load_state_dict(part(held, "network"))
        self.optimiser.load((part(held, "optimiser"), values["optimiser"]))
        if self.target is not None:
            self.target.load_state_dict(part(held, "target"))


def rewards_of(steps: View, transforms: Transforms) -> tuple[Integers, Floats, Floats | None]:
    """The labelled rows of a view (n,), the reward (3) of each, NaN where it is not known, and its cost."""
    journeys, schema = steps.journeys, steps.journeys.schema
    rows = np.flatnonzero(steps.labels)
    gains = {}
    for name in transforms.reward_weights:
        gains[name] = gain_values(schema.gain(name), np.asarray(journeys.gain(name))[rows])
        if name in steps.late:
            gains[name][steps.late[name][rows]] = np.nan
    cost = None if schema.cost is None else np.asarray(journeys.column("cost"))[rows].astype(np.float64)
    return rows, transforms.reward(gains, cost), cost


def reward_shares(targets: Iterable[Target], transforms: Transforms, config: FitConfig) -> dict[str, float]:
    """How much the loss of each target counts: the reward's own wholly, the others by `auxiliary_weight`."""
    main = {"penalised", ONEHOT, *transforms.reward_weights}
    return {t.name: 1.0 if t.name in main else config.auxiliary_weight for t in targets}


def tensors(encoded: Encoded, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """ids, numbers and mask on a device."""
    ids, numbers, mask = (torch.from_numpy(a) for a in (encoded.ids, encoded.numbers, encoded.mask))
    return ids.to(device), numbers.to(device), mask.to(device)
