"""DIN: what a step will bring given its candidate channel (Zhou et al., Deep Interest Network, KDD 2018).

    e_j  = embedding of a past step: its channel, context, gains and cost, and what was known of it before
    v_A  = embedding of the candidate: its channel, and what is known of the step
    v_U(A) = sum_j a(e_j, v_A) e_j      the local activation unit, its weights not softmaxed   (3)
    out  = MLP(concat(v_U(A), v_A, the user's profile and statistics [, the state of a pre-trained encoder]))

One MLP gives each candidate a score and the gains and cost it should bring. Softmax over the scores of all channels is
the policy, trained on the logged channel: DIN as a baseline of MTORL's Table 2. With a run of MTORL as `encoder` its
state at the step is read too, frozen or co-trained: MTORL's section 4.5.

Where this departs from the paper: steps hold channels, not goods; a(.) reads e, v and their elementwise product, where
Figure 2 draws the outer one; PReLU stands for Dice; weight decay for mini-batch aware regularisation, which is for
tables of many millions of ids. A candidate without a channel is the unknown one: the prediction before the decision.

B journeys, T steps, J past steps, C candidates, M channels, D width, H hidden width of the unit, R reward outputs,
n labelled steps.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.channel.columns import groups
from headrace.channel.encoder import described, description, open_encoder
from headrace.channel.heads import CONDITIONS, Calibrator, reward_loss, targets
from headrace.channel.mtorl import MTORL, tensors
from headrace.channel.mtorl import Network as EncoderNetwork
from headrace.channel.policies import ScorePolicy
from headrace.channel.predictions import Predictions
from headrace.channel.recommend import values_of
from headrace.errors import UserError
from headrace.journeys.seams import Bools, Floats, History
from headrace.journeys.splits import Split
from headrace.journeys.statistics import default_statistics, running
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import FIRST, UNKNOWN, Transforms
from headrace.journeys.upcoming import upcoming
from headrace.journeys.views import WHOLE, Batch, View, view
from headrace.learn.checkpoint import State, join, part
from headrace.learn.loop import LoopConfig, StageResult, fit_stage
from headrace.learn.optimise import Optimiser, OptimiserConfig, choose_device
from headrace.learn.run import Run
from headrace.learn.space import Range, Space
from headrace.nn.embed import Inputs


@dataclass(frozen=True, slots=True)
class DINConfig:
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    width: int = 16  # D, of candidates and past steps
    unit: int = 16  # H, hidden width of the local activation unit
    hidden: int = 64  # of the MLP's first layer; the second has half
    dropout: float = 0.2
    unknown: float = 0.3  # share of category ids turned unknown in training
    length: int | None = 50  # steps of past that are read; None: whole journeys, at a cost of their length squared
    embed: bool = True  # categories held as numbers become embeddings; False: read as numbers
    running: bool = True  # counts and rates so far among the inputs
    reward_weights: dict[str, float] | None = None  # gains that make the reward; None: the first known in time
    reward_target: Literal["gain", "penalised"] = "gain"  # predict gains and cost, or also the penalised reward
    penalty: float = 0.5  # s, reward per unit of cost
    action_weight: float = 1.0  # of the policy's cross-entropy beside the mean loss of the reward's conditionings
    auxiliary_weight: float = 0.1  # of the losses of gains outside the reward, and of the cost
    encoder: str | None = None  # a run of mtorl on the same split, whose state the MLP reads too; None: none
    encoder_weights: Literal["pretrained", "random"] = "pretrained"  # random: the same net untrained, as a control
    co_train: bool = False  # whether the encoder learns too
    encoder_rate: float = 0.1  # its learning rate, as a share of the model's
    calibrate: bool = True  # temperature and slopes fitted on validation steps
    learning_rate: float = 6e-3
    weight_decay: float = 1e-4
    batch_size: int = 32  # journeys
    epochs: int = 20  # at most
    patience: int | None = 3  # epochs without a better validation loss; None: no early stopping
    min_count: int = 2  # a category seen less often in training is unknown
    clip: float | None = 1.0  # largest norm of the gradient
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate
    average: float | None = 0.99  # decay of the moving average of the weights that is evaluated; None: the last weights
    device: str = "auto"  # an accelerator where there is one; cpu, cuda
    precision: Literal["float32", "bf16", "auto"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"width": 1, "unit": 1, "hidden": 2, "batch_size": 1, "epochs": 1, "min_count": 1, "length": 2}
        least |= {"patience": 1, "penalty": 0, "action_weight": 0, "auxiliary_weight": 0, "weight_decay": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"din config: {name} = {value}, expected {low} or more; change it")
        for name in ("dropout", "unknown"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"din config: {name} = {getattr(self, name)}, expected 0 or more and less than 1")
        if not self.encoder_rate > 0:
            raise UserError(f"din config: encoder_rate = {self.encoder_rate}, expected more than 0; change it")
        if self.co_train and self.encoder is None:
            raise UserError("din config: co_train = True and no encoder; name a run of mtorl with  encoder=RUN")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"width": 4, "unit": 4, "hidden": 8, "epochs": 2},
}

SPACE: Space = {
    "width": (8, 16, 32, 64),
    "unit": (16, 32, 64),
    "hidden": (32, 64, 128, 256),
    "dropout": (0.0, 0.1, 0.2, 0.5),
    "unknown": (0.1, 0.3, 0.5),
    "length": (10, 20, 50),
    "batch_size": (16, 32, 64, 128),
    "learning_rate": Range(5e-4, 1e-2, log=True),
    "weight_decay": (0.0, 1e-4, 1e-2),
}


class Read(NamedTuple):
    """What a batch's steps hold before any candidate is looked at."""

    step: Tensor  # (B, T, hidden) the MLP's first layer of all that is no candidate
    past: Tensor  # (B, T, D) e_j of the step before each
    reach: Tensor  # (B, T, T) which of them a step may read
    before: Tensor | None  # (B, T, 1, D) the candidate's part that every channel shares

    def at(self, steps: Tensor) -> "Read":
        """One step of each journey, (B,): the same with T = 1, but for the past."""
        rows = torch.arange(len(steps), device=steps.device)
        before = None if self.before is None else self.before[rows, steps][:, None]
        return Read(self.step[rows, steps][:, None], self.past, self.reach[rows, steps][:, None], before)


class Network(nn.Module):
    """Embeddings, local activation unit and MLP on the tensors of `Transforms.encode`."""

    def __init__(self, config: DINConfig, transforms: Transforms, encoder: EncoderNetwork | None = None):
        super().__init__()
        D, H, M = config.width, config.unit, len(transforms.channels)  # width, unit, channels
        self.groups, self.channels = groups(transforms), M
        self.targets = targets(transforms, config.reward_target == "penalised")
        self.encoder, self.co_train = encoder, config.co_train
        if encoder is not None:
            encoder.requires_grad_(config.co_train)
        self.inputs = Inputs(transforms.cardinalities, transforms.width, config.unknown)
        self.channel = nn.Embedding(FIRST + M, D)  # of past steps and candidates alike
        self.context = Inputs(transforms.context_cardinalities, transforms.context_width)
        self.read_context = nn.Linear(self.context.width, D) if self.context.width else None
        outcome, before = self.groups.outcome, self.groups.before
        self.outcome = Inputs(outcome.cardinalities(transforms), len(outcome.numbers))
        self.read_outcome = nn.Linear(self.outcome.width, D) if self.outcome.width else None
        self.before = Inputs(before.cardinalities(transforms), len(before.numbers))
        self.read_before = nn.Linear(self.before.width, D) if self.before.width else None
        self.unit_past = nn.Linear(D, H)
        self.unit_candidate = nn.Linear(D, H, bias=False)
        self.unit_product = nn.Linear(D, H, bias=False)
        self.unit_bend = nn.PReLU()
        self.unit_weight = nn.Linear(H, 1)
        state = 0 if encoder is None else encoder.embed.out_features
        self.read_step = nn.Linear(self.inputs.width + state, config.hidden)
        self.read_candidate = nn.Linear(2 * D, config.hidden, bias=False)
        self.layer = nn.Linear(config.hidden, config.hidden // 2)
        self.bends = nn.ModuleList(nn.PReLU() for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.hidden // 2, 1 + sum(t.size for t in self.targets))

    def train(self, mode: bool = True) -> "Network":
        """A frozen encoder stays as it is served, without dropout."""
        super().train(mode)
        if self.encoder is not None and not self.co_train:
            self.encoder.eval()
        return self

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor, *encoded: Tensor) -> Read:
        """`encoded`: ids, numbers and mask once more, by the encoder's own transforms."""
        x = self.inputs(ids, numbers)
        if self.encoder is not None:
            x = torch.cat([x, self.encoder.represent(*encoded)], dim=-1)
        g = self.groups
        past = self.channel(ids[..., g.channel])
        if self.read_context is not None:
            past = past + self.read_context(self.context(*g.context.of(ids, numbers)))
        if self.read_outcome is not None:
            past = past + self.read_outcome(self.outcome(*g.outcome.of(ids, numbers)))
        before = None
        if self.read_before is not None:
            before = self.read_before(self.before(*g.before.of(ids, numbers)))
            past = past + F.pad(before, (0, 0, 1, -1))  # what was known of the step before when it was decided
            before = before[:, :, None]
        now = torch.arange(mask.shape[1], device=mask.device)
        there = mask & (ids[..., g.channel] >= FIRST)  # whether there was a step before
        reach = there[:, None] & (now <= now[:, None])  # step t reads what the step before it and earlier ones brought
        return Read(self.read_step(x), past, reach, before)

    def score(self, read: Read, candidate: Tensor, context: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, C, 1 + R): a score and the reward's outputs for candidate channels, ids (C,) or (B, T, C)."""
        B, T, D = len(read.step), read.step.shape[1], read.past.shape[-1]
        v = self.channel(candidate)  # (C, D) or (B, T, C, D)
        v = v.expand(B, 1, *v.shape) if v.dim() == 2 else v
        if read.before is not None:
            v = v + read.before
        if context is not None and self.read_context is not None:
            v = v + self.read_context(self.context(*context))[:, :, None]
        weights = self.activate(read.past, v) * read.reach[:, :, None]  # (B, T, C, J)
        user = (weights.flatten(1, 2) @ read.past).view(B, T, -1, D)  # equation (3)
        h = read.step[:, :, None] + self.read_candidate(torch.cat([user, v.expand_as(user)], dim=-1))
        h = self.dropout(self.bends[0](h))
        h = self.dropout(self.bends[1](self.layer(h)))
        out: Tensor = self.out(h)
        return out

    def activate(self, past: Tensor, v: Tensor) -> Tensor:
        """a(e_j, v_A), the local activation unit: past (B, J, D), v (B, S, C, D) -> (B, S, C, J), S being T or 1."""
        B, S, C, D = v.shape
        weight = self.unit_product.weight  # (H, D)
        product = (v[..., None, :] * weight).view(B, -1, D) @ past.transpose(1, 2)  # (B, S * C * H, J)
        h = product.view(B, S, C, len(weight), -1) + self.unit_candidate(v)[..., None]
        h = self.unit_bend(h + self.unit_past(past).transpose(1, 2)[:, None, None])  # (B, S, C, H, J)
        out: Tensor = torch.einsum("bschj,h->bscj", h, self.unit_weight.weight[0]) + self.unit_weight.bias
        return out

    def candidates(self) -> Tensor:
        """(M + 1,) ids of every channel, and of the unknown one behind them."""
        ids = [*range(FIRST, FIRST + self.channels), UNKNOWN]
        return torch.tensor(ids, device=self.channel.weight.device)


Encode = Callable[[History], tuple[Tensor, ...]]


class Learner:
    """What the loop drives: the network, its optimiser, and the losses of both heads."""

    def __init__(
        self, network: Network, transforms: Transforms, encode: Encode, train: View, validation: View, config: DINConfig
    ):
        self.network, self.transforms, self.encode, self.config = network, transforms, encode, config
        self.train, self.validation = train, validation
        main = {"penalised", *transforms.reward_weights}
        self.weights = {t.name: 1.0 if t.name in main else config.auxiliary_weight for t in network.targets}
        described = OptimiserConfig(
            config.learning_rate,
            config.weight_decay,
            config.clip,
            config.schedule,
            total_steps=config.epochs * -(-len(train) // config.batch_size),
            precision=config.precision,
            average=config.average,
        )
        self.optimiser = Optimiser(network, described, {"encoder.": config.encoder_rate})

    def batches(self, seed: int) -> Iterator[Batch]:
        return self.train.batches(self.config.batch_size, seed)

    def step(self, batch: Batch) -> dict[str, float]:
        self.network.train()
        with self.optimiser.autocast():
            losses = self.losses(batch)
        self.optimiser.minimise(losses["loss"])
        return {name: float(value.detach()) for name, value in losses.items()}

    def validate(self) -> dict[str, float]:
        self.network.eval()
        totals: dict[str, float] = {}
        steps = 0
        with torch.no_grad(), self.optimiser.averaged():
            for batch in self.validation.batches(self.config.batch_size):
                n = int(batch.label.sum())
                for name, value in self.losses(batch).items():
                    totals[name] = totals.get(name, 0.0) + n * float(value)
                steps += n
        return {name: value / max(steps, 1) for name, value in totals.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The policy's cross-entropy and the reward's loss in three conditionings, means over labelled steps."""
        device = self.optimiser.device
        label, channel = torch.from_numpy(batch.label).to(device), torch.from_numpy(batch.channel).to(device)
        outputs = heads(self.network, self.transforms, self.encode, batch)
        chosen = F.log_softmax(outputs["action"], dim=-1).gather(-1, channel[..., None])[..., 0]  # (B, T)
        policy = -(chosen * label).sum() / label.sum().clamp(min=1)
        parts = {"policy": policy}
        loss = self.config.action_weight * policy
        if self.network.targets:
            by_channel = outputs["reward_by_channel"]  # (B, T, M, R)
            place = channel[..., None, None].expand(*channel.shape, 1, by_channel.shape[-1])
            outputs["reward_by_channel"] = by_channel.gather(2, place)[:, :, 0]
            parts["reward"] = torch.stack(
                [
                    reward_loss(outputs[name], self.network.targets, batch, label, self.transforms, self.weights)
                    for name in CONDITIONS
                ]
            ).mean()
            loss = loss + parts["reward"]
        return {"loss": loss, **parts}

    def state(self) -> State:
        moments, values = self.optimiser.state()
        return join({"network": self.network.state_dict(), "optimiser": moments}), {"optimiser": values}

    def load(self, state: State) -> None:
        held, values = state
        self.network.load_state_dict(part(held, "network"))
        self.optimiser.load((part(held, "optimiser"), values["optimiser"]))


def heads(network: Network, transforms: Transforms, encode: Encode, batch: Batch) -> dict[str, Tensor]:
    """Every head at every step of a batch: action (B, T, M), by channel (B, T, M, R), the other rewards (B, T, R)."""
    read = network(*encode(batch.history))
    device = read.past.device
    channel = torch.from_numpy(batch.channel).to(device)[..., None] + FIRST
    context = tensors(transforms.encode_context(batch), device)[:2]
    every = network.score(read, network.candidates())
    return split_heads(every) | {"reward_in_context": network.score(read, channel, context)[:, :, 0, 1:]}


def split_heads(every: Tensor) -> dict[str, Tensor]:
    """The heads that need no context, of all candidates' outputs (..., M + 1, 1 + R)."""
    return {
        "action": every[..., :-1, 0],
        "reward": every[..., -1, 1:],
        "reward_by_channel": every[..., :-1, 1:],
    }


class DIN:
    """fit on a split's training steps; then predict, or give a policy."""

    name = "din"
    presets = PRESETS
    space = SPACE
    config_type = DINConfig

    def __init__(self, config: DINConfig | None = None):
        self.config = config or DINConfig()
        self.transforms: Transforms | None = None
        self.network: Network | None = None
        self.encoder_transforms: Transforms | None = None
        self.calibrator = Calibrator()
        self.stage: StageResult | None = None

    @property
    def length(self) -> int | None:
        """The steps of past that the method reads; None: whole journeys."""
        return self.config.length

    @property
    def penalty(self) -> float:
        """s, reward per unit of cost."""
        return self.config.penalty

    @property
    def reward_weights(self) -> dict[str, float]:
        """The gains that make up the reward, and how much each counts."""
        return self._fitted()[0].reward_weights

    @property
    def reward_gains(self) -> tuple[str, ...]:
        """The gains that make up the reward."""
        return tuple(self._fitted()[0].reward_weights)

    def fit(self, journeys: Journeys, split: Split, run: Run | str | Path, progress: bool = True) -> "DIN":
        """Fit transforms and network on the train part, calibrate on the validation part, leave all in the run.

        `run` may be the path of a new run. With an encoder the run holds that too, and no longer needs its run.
        """
        config = self.config
        encoder = self.check(journeys, split)
        if not isinstance(run, Run):
            run = Run.create(run, self.settings(), data=journeys.fingerprint, split=split.fingerprint)
        statistics = default_statistics(journeys.schema) if config.running else ()
        self.transforms = Transforms.fit(
            journeys,
            split.rows("train"),
            config.reward_weights,
            config.penalty,
            statistics,
            config.embed,
            config.min_count,
        )
        run.write_json("transforms.json", self.transforms.to_dict())
        so_far = running(journeys, statistics)
        train = view(journeys, split, "train", config.length, statistics, so_far=so_far)
        validation = view(journeys, split, "validation", config.length, statistics, so_far=so_far)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            within = None
            if encoder is not None:
                run.write_json("encoder.json", description(encoder))
                self.encoder_transforms, within = described(description(encoder))
                if config.encoder_weights == "pretrained":
                    assert encoder.network is not None
                    within.load_state_dict(encoder.network.state_dict())
            self.network = Network(config, self.transforms, within).to(choose_device(config.device))
        learner = Learner(self.network, self.transforms, self._tensors, train, validation, config)
        loop = LoopConfig(epochs=config.epochs, patience=config.patience, seed=config.seed, progress=progress)
        self.stage = fit_stage(learner, run, "train", loop)
        with learner.optimiser.averaged():
            weights = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(weights)
        run.write_weights("model.safetensors", weights)
        if config.calibrate:
            exact = view(journeys, split, "validation", config.length, statistics, "exact", so_far)
            raw = self._predict(exact, Calibrator())
            self.calibrator = Calibrator.fit(raw, self.network.targets, journeys, self.transforms)
        run.write_json("calibrators.json", self.calibrator.to_dict())
        return self

    def check(self, journeys: Journeys, split: Split | None = None) -> MTORL | None:
        """Raise UserError where the method cannot learn from a log, or its encoder not on a split; that encoder."""
        schema, config = journeys.schema, self.config
        if schema.channel is None:
            raise UserError(f"{journeys.path}: schema {schema.name} names no channel, which din learns to choose")
        for gain in config.reward_weights or {}:
            schema.gain(gain)
        if config.encoder is None or split is None:
            return None
        encoder = open_encoder(config.encoder, split, config.length, config.running)
        assert encoder.transforms is not None
        encoder.transforms.fits(journeys)
        return encoder

    def settings(self) -> dict[str, Any]:
        """The method and its resolved config, as a run's config.json holds them."""
        return {"method": self.name, "config": dataclasses.asdict(self.config)}

    @classmethod
    def load(cls, run: Run) -> "DIN":
        """The fitted method that a run holds."""
        method = cls(DINConfig(**run.config["config"]))
        method.transforms = Transforms.from_dict(run.read_json("transforms.json"))
        within = None
        if method.config.encoder is not None:
            method.encoder_transforms, within = described(run.read_json("encoder.json"))
        network = Network(method.config, method.transforms, within)
        network.load_state_dict(run.read_weights("model.safetensors"))
        method.network = network.to(choose_device(method.config.device))
        method.calibrator = Calibrator.from_dict(run.read_json("calibrators.json"))
        return method

    def predict(self, journeys: Journeys, labels: Bools | View) -> Predictions:
        """Predictions for each labelled step, with the past it would have had when served."""
        transforms, _ = self._fitted()
        transforms.fits(journeys)
        if isinstance(labels, View):
            return self._predict(labels, self.calibrator)
        steps = View(journeys, labels, self.config.length, transforms.statistics, cut="exact")
        return self._predict(steps, self.calibrator)

    def _predict(self, steps: View, calibrator: Calibrator) -> Predictions:
        transforms, network = self._fitted()
        found: dict[str, list[NDArray[Any]]] = {}
        network.eval()
        with torch.no_grad():
            for batch in steps.batches(self.config.batch_size):
                found.setdefault("rows", []).append(batch.rows[batch.label])
                for name, output in heads(network, transforms, self._tensors, batch).items():
                    found.setdefault(name, []).append(output.cpu().numpy()[batch.label])
        return self._answer({name: np.concatenate(parts) for name, parts in found.items()}, calibrator)

    def predict_next(self, journeys: Journeys) -> Predictions:
        """Predictions for each user's next step, one row a user (its index); `reward_in_context` has none."""
        transforms, _ = self._fitted()
        transforms.fits(journeys)
        so_far = running(journeys, transforms.statistics)
        found: dict[str, list[NDArray[Any]]] = {}
        for users, history in upcoming(journeys, self.config.length or WHOLE, transforms.statistics, so_far):
            found.setdefault("rows", []).append(users)
            for name, output in self._at_last(history).items():
                found.setdefault(name, []).append(output)
        return self._answer({name: np.concatenate(parts) for name, parts in found.items()}, self.calibrator)

    def foresee(self, histories: History) -> Predictions:
        """Predictions for the last step of each history, one row each; `reward_in_context` has none."""
        return self._answer({"rows": np.arange(len(histories)), **self._at_last(histories)}, self.calibrator)

    def policy(self, stochastic: bool = True) -> ScorePolicy:
        """A draw from softmax over the candidates' scores, or the largest where `stochastic` is false."""
        transforms, _ = self._fitted()

        def scores(histories: History) -> Floats:
            return np.asarray(self._at_last(histories)["action"].astype(np.float64) * self.calibrator.temperature)

        return ScorePolicy(scores, len(transforms.channels), stochastic)

    def value_policy(self) -> ScorePolicy:
        """Always the channel of the largest expected gain less s times expected cost."""
        transforms, _ = self._fitted()

        def values(histories: History) -> Floats:
            return values_of(self.foresee(histories), self.reward_weights, self.penalty)[2]

        return ScorePolicy(values, len(transforms.channels), stochastic=False)

    def _at_last(self, histories: History) -> dict[str, NDArray[Any]]:
        """The heads that need no context at each history's last step, (B, ...)."""
        network = self._fitted()[1]
        encoded = self._tensors(histories)
        found: dict[str, list[NDArray[Any]]] = {}
        network.eval()
        with torch.no_grad():
            for k in range(0, max(len(histories), 1), self.config.batch_size):
                piece = [tensor[k : k + self.config.batch_size] for tensor in encoded]
                last = network(*piece).at(piece[2].sum(dim=1) - 1)
                every = network.score(last, network.candidates())[:, 0]
                for name, output in split_heads(every).items():
                    found.setdefault(name, []).append(output.cpu().numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _tensors(self, history: History) -> tuple[Tensor, ...]:
        """What the network reads of a history: by its own transforms, then by the encoder's."""
        transforms, network = self._fitted()
        device = network.channel.weight.device
        own = tensors(transforms.encode(history), device)
        return (
            own
            if self.encoder_transforms is None
            else (*own, *tensors(self.encoder_transforms.encode(history), device))
        )

    def _answer(self, outputs: dict[str, NDArray[Any]], calibrator: Calibrator) -> Predictions:
        transforms, network = self._fitted()
        rewards = {c: calibrator.units(c, outputs[c], network.targets, transforms) for c in CONDITIONS if c in outputs}
        return Predictions(outputs["rows"], calibrator.channels(outputs["action"]), **rewards)

    def _fitted(self) -> tuple[Transforms, Network]:
        if self.transforms is None or self.network is None:
            raise UserError("din: not fitted yet; call fit(journeys, split, run) or load(run) first")
        return self.transforms, self.network
