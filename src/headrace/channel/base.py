"""What every channel method with a network does alike, from the log to its answers.

A method gives its network (`new_network`), its losses (a `Learner` of fitting.py) and its heads (`heads`); the rest is
here: inputs are fitted on training steps, the loop is driven, heads are calibrated on validation steps, and predictions
are given for the steps of a log, for each user's next step, or for histories as they come.

B journeys, T steps, M channels, n steps asked for.
"""

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headrace.channel.fitting import C, Learner, N, tensors
from headrace.channel.heads import CONDITIONS, Calibrator, Target
from headrace.channel.policies import ScorePolicy
from headrace.channel.predictions import Predictions
from headrace.channel.recommend import worth
from headrace.errors import UserError
from headrace.journeys.knots import with_knots
from headrace.journeys.onward import learnt_until
from headrace.journeys.seams import Bools, Floats, History
from headrace.journeys.splits import Split
from headrace.journeys.statistics import default_statistics, running
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.upcoming import upcoming
from headrace.journeys.views import WHOLE, Batch, View, view
from headrace.learn.loop import LoopConfig, StageResult, fit_stage
from headrace.learn.optimise import choose_device
from headrace.learn.run import Run
from headrace.learn.space import Space

MOST_TOGETHER = 6  # gains of a one-hot reward: 64 combinations


class NetworkMethod(ABC, Generic[C, N]):
    """fit on a split's training steps; then predict, or give a policy."""

    name: str
    presets: dict[str, dict[str, Any]]
    space: Space
    config_type: Any
    learner: type[Learner[C, N]]
    predicts_gains = True  # False: no reward heads; the channels' `values` are what it knows, if anything
    chooses_by: Literal["value", "policy"] = "value"  # policy: what a channel should bring alone is not its choice
    epochs_tell = True  # False: an epoch's `policy` on validation is not the log loss that its policy will have

    def __init__(self, config: C | None = None):
        self.config: C = config or self.config_type()
        self.transforms: Transforms | None = None
        self.network: N | None = None
        self.calibrator = Calibrator()
        self.stage: StageResult | None = None

    @abstractmethod
    def new_network(self) -> N:
        """The network of the config and the fitted transforms, untrained."""

    @abstractmethod
    def heads(
        self, encoded: tuple[Tensor, ...], at: tuple[Tensor, Tensor], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        """What the network says at the places (journey, step), two (n,): `action` logits (n, M), `reward` (n, R), and

        `reward_by_channel` (n, M, R), R outputs of the targets; `reward_in_context` (n, R) where the batch that tells
        the step's channel and context is given. Without one the places are the last step of each journey in turn.
        A method that predicts no gains gives `action` and, if it is value-based, `values` (n, M).
        """

    def encode(self, history: History) -> tuple[Tensor, ...]:
        """What the network reads of histories: ids, numbers, mask."""
        return tensors(self._fitted()[0].encode(history), self.device)

    @property
    def device(self) -> torch.device:
        return next(self._fitted()[1].parameters()).device

    @property
    def length(self) -> int | None:
        """The steps of past that the method reads; None: whole journeys."""
        return self.config.length

    @property
    def penalty(self) -> float:
        """What a unit of cost takes off the gain: s where the penalised reward was asked for, else 0."""
        return self.config.price

    @property
    def reward_weights(self) -> dict[str, float]:
        """The gains that make up the reward, and how much each counts."""
        return self._fitted()[0].reward_weights

    @property
    def reward_gains(self) -> tuple[str, ...]:
        """The gains that make up the reward."""
        return tuple(self.reward_weights)

    def check(self, journeys: Journeys, split: Split | None = None) -> object:
        """Raise UserError where the method cannot learn from a log; any split will do."""
        schema = journeys.schema
        if schema.channel is None:
            raise UserError(
                f"{journeys.path}: schema {schema.name} names no channel, which {self.name} learns to choose"
            )
        kinds = {gain: schema.gain(gain).kind for gain in self.config.reward_weights or {}}
        if self.config.reward_target == "onehot" and not (
            2 <= len(kinds) <= MOST_TOGETHER and set(kinds.values()) == {"binary"}
        ):
            raise UserError(
                f"{self.name} config: reward_target = onehot with reward_weights = {', '.join(kinds) or 'none'}, "
                f"expected 2 to {MOST_TOGETHER} binary gains; name them, such as  --reward click:1,sale:10"
            )
        return None

    def settings(self) -> dict[str, Any]:
        """The method and its resolved config, as a run's config.json holds them."""
        return {"method": self.name, "config": dataclasses.asdict(self.config)}

    def fit(self, journeys: Journeys, split: Split, run: Run | str | Path, progress: bool = True) -> Self:
        """Fit transforms and network on the train part, calibrate on the validation part, leave all in the run.

        `run` may be the path of a new run.
        """
        config = self.config
        self.check(journeys, split)
        if not isinstance(run, Run):
            run = Run.create(run, self.settings(), data=journeys.fingerprint, split=split.fingerprint)
        statistics = default_statistics(journeys.schema) if config.running else ()
        transforms = Transforms.fit(
            journeys,
            split.rows("train"),
            config.reward_weights,
            config.penalty if self.predicts_gains else config.price,  # (3) is read by the former, learnt by the latter
            statistics,
            config.categories,
            config.min_count,
        )
        so_far = running(journeys, statistics)
        self.transforms = with_knots(
            transforms, journeys, split.parts["train"], config.bins, config.context_bins, so_far
        )
        run.write_json("transforms.json", self.transforms.to_dict())
        train = view(journeys, split, "train", config.length, statistics, so_far=so_far)
        validation = view(journeys, split, "validation", config.length, statistics, so_far=so_far)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            self.network = self.new_network().to(choose_device(config.device))
        loop = LoopConfig(epochs=config.epochs, patience=config.patience, seed=config.seed, progress=progress)
        learner = self.fit_stages(run, train, validation, loop)
        with learner.optimiser.averaged():
            weights = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(weights)
        run.write_weights("model.safetensors", weights)
        if config.calibrate:
            exact = view(journeys, split, "validation", config.length, statistics, "exact", so_far)
            self.calibrator = self.fit_calibrator(self._predict(exact, Calibrator()), journeys)
        run.write_json("calibrators.json", self.calibrator.to_dict())
        if journeys.time is not None:
            run.write_json("stream.json", {"until": learnt_until(journeys, split)})
        return self

    def fit_stages(self, run: Run, train: View, validation: View, loop: LoopConfig) -> Learner[C, N]:
        """Fit the network; the learner of the last stage, which holds its averaged weights."""
        transforms, network = self._fitted()
        learner = self.learner(network, transforms, train, validation, self.config)
        self.stage = fit_stage(learner, run, "train", loop)
        return learner

    @property
    def targets(self) -> list[Target]:
        """What the reward heads predict, in the order of their outputs."""
        found: list[Target] = getattr(self._fitted()[1], "targets", [])
        return found

    def fit_calibrator(self, raw: Predictions, journeys: Journeys) -> Calibrator:
        """From uncalibrated predictions of the validation steps."""
        return Calibrator.fit(raw, self.targets, journeys, self._fitted()[0])

    @classmethod
    def load(cls, run: Run) -> Self:
        """The fitted method that a run holds."""
        method = cls(cls.config_type(**run.config["config"]))
        method.restore(run)
        return method

    def restore(self, run: Run) -> None:
        """Take transforms, weights and calibration from a run."""
        self.transforms = Transforms.from_dict(run.read_json("transforms.json"))
        network = self.new_network().to(choose_device(self.config.device))
        network.load_state_dict(run.read_weights("model.safetensors"))
        self.network = network
        self.calibrator = Calibrator.from_dict(run.read_json("calibrators.json"))

    def predict(self, journeys: Journeys, labels: Bools | View) -> Predictions:
        """Predictions for each labelled step, with the past it would have had when served."""
        transforms, _ = self._fitted()
        transforms.fits(journeys)
        if isinstance(labels, View):
            return self._predict(labels, self.calibrator)
        steps = View(journeys, labels, self.config.length, transforms.statistics, cut="exact")
        return self._predict(steps, self.calibrator)

    def _predict(self, steps: View, calibrator: Calibrator) -> Predictions:
        network = self._fitted()[1]
        rows: list[NDArray[Any]] = []
        found: list[dict[str, NDArray[Any]]] = []
        network.eval()
        with torch.no_grad():
            for batch in steps.batches(self.learner.reading * self.config.batch_size):
                at = torch.from_numpy(batch.label).to(self.device).nonzero(as_tuple=True)
                rows.append(batch.rows[batch.label])
                found.append(arrays(self.heads(self.encode(batch.history), (at[0], at[1]), batch)))
        return self._answer(np.concatenate(rows), joined(found), calibrator)

    def predict_next(self, journeys: Journeys) -> Predictions:
        """Predictions for each user's next step, one row a user (its index); `reward_in_context` has none."""
        transforms, _ = self._fitted()
        transforms.fits(journeys)
        so_far = running(journeys, transforms.statistics)
        rows: list[NDArray[Any]] = []
        found: list[dict[str, NDArray[Any]]] = []
        for users, history in upcoming(journeys, self.config.length or WHOLE, transforms.statistics, so_far):
            rows.append(users)
            found.append(self._at_last(history))
        return self._answer(np.concatenate(rows), joined(found), self.calibrator)

    def foresee(self, histories: History) -> Predictions:
        """Predictions for the last step of each history, one row each; `reward_in_context` has none."""
        return self._answer(np.arange(len(histories)), self._at_last(histories), self.calibrator)

    def policy(self, stochastic: bool = True) -> ScorePolicy:
        """The action head as a policy: a draw from its softmax (11), or its largest (10) if not `stochastic`."""

        def scores(histories: History) -> Floats:
            return np.asarray(self.logits(histories).astype(np.float64) * self.calibrator.temperature)

        return ScorePolicy(scores, len(self._fitted()[0].channels), stochastic)

    def value_policy(self, penalty: float = 0.0) -> ScorePolicy:
        """Always the channel of the largest expected gain less `penalty` times expected cost; of the largest penalised
        reward where that was taught, or of the largest Q."""

        def values(histories: History) -> Floats:
            return worth(self.foresee(histories), self.reward_weights, penalty)

        return ScorePolicy(values, len(self._fitted()[0].channels), stochastic=False)

    def logits(self, histories: History) -> NDArray[Any]:
        """(B, M) of the action head at each history's last step, uncalibrated."""
        return self._at_last(histories)["action"]

    def _at_last(self, histories: History) -> dict[str, NDArray[Any]]:
        """The heads that need no context at each history's last step, (B, ...)."""
        network = self._fitted()[1]
        encoded = self.encode(histories)
        size = self.learner.reading * self.config.batch_size
        found = []
        network.eval()
        with torch.no_grad():
            for k in range(0, max(len(histories), 1), size):
                piece = tuple(tensor[k : k + size] for tensor in encoded)
                found.append(arrays(self.heads(piece, last_of(piece[2]))))
        return joined(found)

    def _answer(self, rows: NDArray[Any], outputs: dict[str, NDArray[Any]], calibrator: Calibrator) -> Predictions:
        transforms, _ = self._fitted()
        rewards = {c: calibrator.units(c, outputs[c], self.targets, transforms) for c in CONDITIONS if c in outputs}
        values = outputs["values"].astype(np.float64) if "values" in outputs else None
        return Predictions(rows, calibrator.channels(outputs["action"]), **rewards, values=values)

    def _fitted(self) -> tuple[Transforms, N]:
        if self.transforms is None or self.network is None:
            raise UserError(f"{self.name}: not fitted yet; call fit(journeys, split, run) or load(run) first")
        return self.transforms, self.network


def last_of(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The last step of each journey, as places: mask (B, T) -> two (B,)."""
    return torch.arange(len(mask), device=mask.device), mask.sum(dim=1) - 1


def arrays(outputs: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: output.cpu().numpy() for name, output in outputs.items()}


def joined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([of[name] for of in parts]) for name in parts[0]}
