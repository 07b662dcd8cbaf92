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

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor, nn

from headrace.channel.predictions import Predictions
from headrace.errors import UserError
from headrace.evaluate.calibrate import Line, fit_line, fit_temperature
from headrace.journeys.schema import LogSchema
from headrace.journeys.seams import Channel, Decisions, Floats, History
from headrace.journeys.splits import Split
from headrace.journeys.statistics import default_statistics, running
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Encoded, Transforms
from headrace.journeys.upcoming import upcoming
from headrace.journeys.views import WHOLE, Batch, View, view
from headrace.learn.checkpoint import State, join, part
from headrace.learn.loop import LoopConfig, StageResult, fit_stage
from headrace.learn.optimise import Optimiser, OptimiserConfig
from headrace.learn.run import Run
from headrace.nn.attention import CausalAttention
from headrace.nn.embed import Inputs
from headrace.nn.tcn import TCN

CONDITIONS = ("reward", "reward_by_channel", "reward_in_context")  # what each may see: nothing more, channel, context


@dataclass(frozen=True, slots=True)
class MTORLConfig:
    """Every choice of the method; `PRESETS` holds the ones we stand behind and the paper's."""

    width: int = 64  # D, of embedding and hidden layers
    tcn_layers: int = 2  # L1
    kernel: int = 3  # k_c, filter size of the causal convolution
    attention_layers: int = 2  # L2, add & norm layers behind the attention
    decoder_layers: int = 3  # L3, of the reward decoder
    heads: int = 4  # of the attention
    dropout: float = 0.2
    length: int | None = None  # n, steps a journey is cut to; None: whole journeys
    embed: bool = True  # categories held as numbers become embeddings; False: read as numbers, as the paper's code does
    running: bool = True  # counts and rates so far among the inputs
    shortcut: bool = True  # the heads read the inputs again, beside the states
    reward_weights: dict[str, float] | None = (
        None  # gains that make the reward (18); None: the first gain known in time
    )
    reward_target: Literal["gain", "penalised"] = "gain"  # predict gains and cost, or also the penalised reward (3)
    penalty: float = 0.5  # s of (2) and (3), reward per unit of cost
    reward_weight: float = 1.0  # mu of (16)
    preference: Literal["none", "free"] = "none"  # (15), reference-free
    preference_weight: float = 1.4  # lambda of (16)
    beta: float = 0.1  # of (15)
    calibrate: bool = True  # temperature and slopes fitted on validation steps
    gaussian: bool = False  # weights drawn from a normal of sd 0.02 instead of torch's defaults
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    batch_size: int = 64  # journeys
    epochs: int = 40  # at most
    patience: int | None = 5  # epochs without a better validation loss; None: no early stopping
    min_count: int = 2  # a category seen less often in training is unknown
    clip: float | None = 1.0  # largest norm of the gradient
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate
    average: float | None = 0.99  # decay of the moving average of the weights that is evaluated; None: the last weights
    precision: Literal["float32", "bf16", "auto"] = "float32"  # of the forward pass; small nets gain nothing from bf16
    seed: int = 0


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "width": 512,
        "length": 20,
        "embed": False,
        "running": False,
        "shortcut": False,
        "reward_weight": 0.08,
        "preference": "free",
        "calibrate": False,
        "gaussian": True,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "batch_size": 512,
        "epochs": 800,
        "patience": None,
    },
    "tiny": {"width": 8, "tcn_layers": 1, "decoder_layers": 1, "attention_layers": 1, "heads": 2, "epochs": 2},
}


@dataclass(frozen=True, slots=True)
class Target:
    """One output of the reward decoder: a gain, the cost, or the penalised reward."""

    name: str
    kind: Literal["binary", "continuous", "classes"]
    size: int = 1  # outputs: the number of classes, else 1


class Network(nn.Module):
    """Encoder, action decoder and reward decoder on the tensors of `Transforms.encode`."""

    def __init__(self, config: MTORLConfig, transforms: Transforms):
        super().__init__()
        D, M = config.width, len(transforms.channels)  # width, channels
        self.targets = targets(transforms, config)
        self.inputs = Inputs(transforms.cardinalities, transforms.width)
        self.embed = nn.Linear(self.inputs.width, D)  # W_e
        self.tcn = TCN(D, config.tcn_layers, config.kernel, config.dropout)
        self.to_state = nn.Linear(D, D)  # W_s
        self.attention = CausalAttention(D, config.heads, config.dropout)
        self.layers = nn.ModuleList(nn.Linear(D, D) for _ in range(config.attention_layers))  # W_M
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(config.attention_layers))
        self.dropout = nn.Dropout(config.dropout)
        self.action = nn.Linear(D + self.inputs.width * config.shortcut, M)  # W_Z
        self.context = Inputs(transforms.context_cardinalities, transforms.context_width)
        self.read_state = nn.Linear(D + self.inputs.width * config.shortcut, D)
        self.read_channel = nn.Embedding(M, D)
        self.read_context = nn.Linear(self.context.width, D) if self.context.width else None
        self.decoder = nn.ModuleList(nn.Linear(D, D) for _ in range(config.decoder_layers))  # W_N
        self.reward = nn.Linear(D, sum(t.size for t in self.targets))  # W_r
        self.shortcut = config.shortcut
        if config.gaussian:
            self.apply(gaussian)

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the next channel (B, T, M), and what the reward decoder reads (B, T, D)."""
        x = self.inputs(ids, numbers)  # (B, T, inputs)
        states = F.leaky_relu(self.to_state(self.tcn(self.embed(x), mask)))  # (B, T, D), equation (6)
        m = self.attention(states, mask)  # (7)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            m = norm(m + self.dropout(F.leaky_relu(layer(m))))  # (8)
        logits = self.action(torch.cat([m, x], dim=-1) if self.shortcut else m)  # (9)
        return logits, self.read_state(torch.cat([states, x], dim=-1) if self.shortcut else states)

    def decode(
        self, read: Tensor, channel: Tensor | None = None, context: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Equation (12) in its three conditionings: (..., D) -> (..., outputs of all targets)."""
        n = read
        if channel is not None:
            n = n + self.read_channel(channel)
        if context is not None and self.read_context is not None:
            n = n + self.read_context(self.context(*context))
        for layer in self.decoder:
            n = self.dropout(F.leaky_relu(layer(F.leaky_relu(n)))) + n
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


def targets(transforms: Transforms, config: MTORLConfig) -> list[Target]:
    """What the reward decoder predicts: each gain in its own unit, the cost, and the penalised reward if asked for."""
    found = [Target(g.name, g.kind, transforms.classes.get(g.name, 1)) for g in transforms.schema.gains]
    if transforms.schema.cost is not None:
        found.append(Target("cost", "continuous"))
    if config.reward_target == "penalised" and transforms.reward_weights:
        found.append(Target("penalised", "continuous"))
    return found


def preference_loss(chosen: Tensor, totals: Tensor, label: Tensor, beta: float) -> Tensor:
    """Equation (15) over pairs drawn at random within the batch, averaged over the steps valid in both journeys.

    chosen (B, T) log-probabilities of the logged channels, totals (B,) mean reward per valid step, label (B, T).
    Pairs of equal totals say nothing and are left out.
    """
    other = torch.randperm(len(totals)).to(totals.device)
    sign = torch.sign(totals - totals[other])[:, None]  # +1 where the journey itself is preferred
    both = (label & label[other]).to(chosen.dtype) * sign.abs()
    loss = -F.logsigmoid(beta * sign * (chosen - chosen[other]))
    return (loss * both).sum() / both.sum().clamp(min=1.0)


class Learner:
    """What the loop drives: the network, its optimiser, and the three losses of (16)."""

    def __init__(self, network: Network, transforms: Transforms, train: View, validation: View, config: MTORLConfig):
        self.network, self.transforms, self.config = network, transforms, config
        self.train, self.validation = train, validation
        steps = config.epochs * -(-len(train) // config.batch_size)
        self.optimiser = Optimiser(
            network,
            OptimiserConfig(
                config.learning_rate,
                config.weight_decay,
                config.clip,
                config.schedule,
                total_steps=steps,
                precision=config.precision,
                average=config.average,
            ),
        )

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
            for batch in self.validation.batches(4 * self.config.batch_size):
                n = int(batch.label.sum())
                for name, value in self.losses(batch).items():
                    totals[name] = totals.get(name, 0.0) + n * float(value)
                steps += n
        return {name: value / max(steps, 1) for name, value in totals.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The objective (16) and its parts, each a mean over labelled steps."""
        config, network = self.config, self.network
        tensors, label = self.tensors(self.transforms.encode(batch.history)), torch.from_numpy(batch.label)
        label = label.to(tensors[0].device)
        channel = torch.from_numpy(batch.channel).to(label.device)
        logits, read = network(*tensors)
        chosen = F.log_softmax(logits, dim=-1).gather(-1, channel[..., None])[..., 0]  # (B, T)
        n = label.sum().clamp(min=1)
        policy = -(chosen * label).sum() / n  # (13)
        loss = policy
        parts = {"policy": policy}
        if network.targets and config.reward_weight > 0:
            context = self.tensors(self.transforms.encode_context(batch))[:2]
            outputs = [network.decode(read), network.decode(read, channel), network.decode(read, channel, context)]
            reward = torch.stack([self.reward_loss(output, batch, label) for output in outputs]).mean()
            parts["reward"] = reward
            loss = loss + config.reward_weight * reward
        if config.preference == "free" and self.transforms.reward_weights:
            reward_now = self.transforms.reward(batch.gains, batch.cost)
            mean = np.nansum(np.where(batch.label, reward_now, 0.0), axis=1) / np.maximum(batch.label.sum(axis=1), 1)
            totals = torch.from_numpy(mean).to(chosen)
            parts["preference"] = preference_loss(chosen, totals, label, config.beta)
            loss = loss + config.preference_weight * parts["preference"]
        return {"loss": loss, **parts}

    def reward_loss(self, output: Tensor, batch: Batch, label: Tensor) -> Tensor:
        """(14), (19), (21) by the kind of each target, summed over targets; steps without an outcome are left out."""
        total = output.new_zeros(())
        at = 0
        for target in self.network.targets:
            prediction = output[..., at : at + target.size]
            at += target.size
            values = torch.from_numpy(self.values(target, batch)).to(output.device)
            there = label & ~torch.isnan(values)
            truth = torch.nan_to_num(values).to(output.dtype)
            if target.kind == "binary":
                loss = F.binary_cross_entropy_with_logits(prediction[..., 0], truth, reduction="none")
            elif target.kind == "classes":
                there = there & (truth < target.size)  # a class that training never showed cannot be scored
                flat = torch.where(there, truth, 0).long().flatten()
                loss = F.cross_entropy(prediction.flatten(0, -2), flat, reduction="none").view_as(truth)
            else:
                loss = 0.5 * (prediction[..., 0] - truth) ** 2
            total = total + (loss * there).sum() / there.sum().clamp(min=1)
        return total

    def values(self, target: Target, batch: Batch) -> Floats:
        """What a target's output is compared with, (B, T); continuous ones standardised."""
        if target.name == "penalised":
            return self.transforms.reward(batch.gains, batch.cost)
        raw = batch.cost if target.name == "cost" and batch.cost is not None else batch.gains[target.name]
        if target.kind != "continuous":
            return raw
        scale = self.transforms.scales[target.name]
        return (raw - scale.mean) / scale.std

    def tensors(self, encoded: Encoded) -> tuple[Tensor, Tensor, Tensor]:
        device = self.optimiser.device
        return (
            torch.from_numpy(encoded.ids).to(device),
            torch.from_numpy(encoded.numbers).to(device),
            torch.from_numpy(encoded.mask).to(device),
        )

    def state(self) -> State:
        tensors, values = self.optimiser.state()
        return join({"network": self.network.state_dict(), "optimiser": tensors}), {"optimiser": values}

    def load(self, state: State) -> None:
        tensors, values = state
        self.network.load_state_dict(part(tensors, "network"))
        self.optimiser.load((part(tensors, "optimiser"), values["optimiser"]))


class MTORL:
    """fit on a split's training steps; then predict, or give a policy."""

    name = "mtorl"
    presets = PRESETS
    config_type = MTORLConfig

    def __init__(self, config: MTORLConfig | None = None):
        self.config = config or MTORLConfig()
        self.transforms: Transforms | None = None
        self.network: Network | None = None
        self.temperature = 1.0
        self.lines: dict[str, Line] = {}  # "CONDITION/TARGET" -> calibration
        self.stage: StageResult | None = None

    @property
    def length(self) -> int | None:
        """n, the steps of past that the method reads; None: whole journeys."""
        return self.config.length

    @property
    def penalty(self) -> float:
        """s, reward per unit of cost."""
        return self.config.penalty

    @property
    def reward_gains(self) -> tuple[str, ...]:
        """The gains that make up the reward."""
        return tuple(self._fitted()[0].reward_weights)

    def fit(self, journeys: Journeys, split: Split, run: Run | str | Path, progress: bool = True) -> "MTORL":
        """Fit transforms and network on the train part, calibrate on the validation part, leave all in the run.

        `run` may be the path of a new run.
        """
        config = self.config
        if not isinstance(run, Run):
            run = Run.create(run, self.settings(), data=journeys.fingerprint, split=split.fingerprint)
        statistics = default_statistics(journeys.schema) if config.running else ()
        self.transforms = Transforms.fit(
            journeys,
            split.rows("train"),
            reward_weights(journeys.schema, config),
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
            self.network = Network(config, self.transforms)
        learner = Learner(self.network, self.transforms, train, validation, config)
        loop = LoopConfig(epochs=config.epochs, patience=config.patience, seed=config.seed, progress=progress)
        self.stage = fit_stage(learner, run, "train", loop)
        with learner.optimiser.averaged():
            weights = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(weights)
        run.write_weights("model.safetensors", weights)
        if config.calibrate:
            self._calibrate(journeys, split, so_far)
        lines = {k: dataclasses.asdict(v) for k, v in self.lines.items()}
        run.write_json("calibrators.json", {"temperature": self.temperature, "lines": lines})
        return self

    def settings(self) -> dict[str, Any]:
        """The method and its resolved config, as a run's config.json holds them."""
        return {"method": self.name, "config": dataclasses.asdict(self.config)}

    @classmethod
    def load(cls, run: Run) -> "MTORL":
        """The fitted method that a run holds."""
        method = cls(MTORLConfig(**run.config["config"]))
        method.transforms = Transforms.from_dict(run.read_json("transforms.json"))
        method.network = Network(method.config, method.transforms)
        method.network.load_state_dict(run.read_weights("model.safetensors"))
        fitted = run.read_json("calibrators.json")
        method.temperature = fitted["temperature"]
        method.lines = {k: Line(**v) for k, v in fitted["lines"].items()}
        return method

    def predict(self, journeys: Journeys, labels: NDArray[np.bool_] | View, calibrated: bool = True) -> Predictions:
        """Predictions for each labelled step, with the past it would have had when served."""
        transforms, network = self._fitted()
        transforms.fits(journeys)
        steps = labels
        if not isinstance(steps, View):
            steps = View(journeys, steps, self.config.length, transforms.statistics, cut="exact")
        parts: dict[str, list[NDArray[Any]]] = {}
        network.eval()
        device = next(network.parameters()).device
        with torch.no_grad():
            for batch in steps.batches(4 * self.config.batch_size):
                label = torch.from_numpy(batch.label)
                encoded, extra = transforms.encode(batch.history), transforms.encode_context(batch)
                tensors = [torch.from_numpy(a).to(device) for a in (encoded.ids, encoded.numbers, encoded.mask)]
                context = (
                    torch.from_numpy(extra.ids)[label].to(device),
                    torch.from_numpy(extra.numbers)[label].to(device),
                )
                logits, read = network(*tensors)
                read = read[label.to(device)]  # (n, D)
                channel = torch.from_numpy(batch.channel)[label].to(device)
                found = {
                    "rows": batch.rows[batch.label],
                    "action": logits[label.to(device)],
                    "reward": network.decode(read),
                    "reward_by_channel": network.decode_channels(read),
                    "reward_in_context": network.decode(read, channel, context),
                }
                for name, value in found.items():
                    parts.setdefault(name, []).append(value.cpu().numpy() if isinstance(value, Tensor) else value)
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        action = joined["action"].astype(np.float64) * (self.temperature if calibrated else 1.0)
        return Predictions(
            rows=joined["rows"],
            action=softmax(action, axis=1),
            **{condition: self._outputs(condition, joined[condition], calibrated) for condition in CONDITIONS},
        )

    def predict_next(self, journeys: Journeys) -> Predictions:
        """Predictions for each user's next step, one row a user (its index); `reward_in_context` has none."""
        transforms, network = self._fitted()
        transforms.fits(journeys)
        so_far = running(journeys, transforms.statistics)
        users: list[NDArray[Any]] = []
        parts: dict[str, list[NDArray[Any]]] = {"action": [], "reward": [], "reward_by_channel": []}
        network.eval()
        device = next(network.parameters()).device
        with torch.no_grad():
            for index, history in upcoming(journeys, self.config.length or WHOLE, transforms.statistics, so_far):
                encoded = transforms.encode(history)
                tensors = [torch.from_numpy(a).to(device) for a in (encoded.ids, encoded.numbers, encoded.mask)]
                logits, read = network(*tensors)
                at = (torch.arange(len(index)), torch.from_numpy(encoded.mask.sum(axis=1) - 1))
                users.append(index)
                parts["action"].append(logits[at].cpu().numpy())
                parts["reward"].append(network.decode(read[at]).cpu().numpy())
                parts["reward_by_channel"].append(network.decode_channels(read[at]).cpu().numpy())
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        return Predictions(
            rows=np.concatenate(users),
            action=softmax(joined["action"].astype(np.float64) * self.temperature, axis=1),
            reward=self._outputs("reward", joined["reward"], True),
            reward_by_channel=self._outputs("reward_by_channel", joined["reward_by_channel"], True),
        )

    def policy(self, stochastic: bool = True) -> "MTORLPolicy":
        """Equation (11), or (10) where `stochastic` is false."""
        self._fitted()
        return MTORLPolicy(self, stochastic)

    def _fitted(self) -> tuple[Transforms, Network]:
        if self.transforms is None or self.network is None:
            raise UserError("mtorl: not fitted yet; call fit(journeys, split, run) or load(run) first")
        return self.transforms, self.network

    def _outputs(self, condition: str, output: NDArray[Any], calibrated: bool) -> dict[str, Floats]:
        """Decoder outputs in the units of each target: probabilities, class shares, or the log's own unit."""
        transforms, network = self._fitted()
        found: dict[str, Floats] = {}
        at = 0
        for target in network.targets:
            raw = output[..., at : at + target.size].astype(np.float64)
            at += target.size
            if target.kind == "binary":
                line = self.lines.get(f"{condition}/{target.name}", Line()) if calibrated else Line()
                found[target.name] = expit(line(raw[..., 0]))
            elif target.kind == "classes":
                found[target.name] = softmax(raw, axis=-1)
            elif target.name == "penalised":
                found[target.name] = raw[..., 0]
            else:
                scale = transforms.scales[target.name]
                found[target.name] = raw[..., 0] * scale.std + scale.mean
        return found

    def _calibrate(self, journeys: Journeys, split: Split, so_far: dict[str, Floats]) -> None:
        transforms, network = self._fitted()
        steps = view(journeys, split, "validation", self.config.length, transforms.statistics, "exact", so_far)
        raw = self.predict(journeys, steps, calibrated=False)
        channel = np.asarray(journeys.channel)[raw.rows].astype(np.int64)
        self.temperature = fit_temperature(np.log(np.maximum(raw.action, 1e-12)), channel)
        for target in network.targets:
            if target.kind != "binary":
                continue
            labels = np.asarray(journeys.gain(target.name))[raw.rows].astype(np.float64)
            there = ~np.isnan(labels)
            for condition in CONDITIONS:
                p = getattr(raw, condition)[target.name]
                if condition == "reward_by_channel":
                    p = p[np.arange(len(channel)), channel]
                p = np.clip(p[there], 1e-7, 1 - 1e-7)
                self.lines[f"{condition}/{target.name}"] = fit_line(np.log(p / (1 - p)), labels[there])


class MTORLPolicy:
    """The action decoder as a policy over channels: a draw from y^ (11), or its largest (10)."""

    def __init__(self, method: MTORL, stochastic: bool = True):
        self.method, self.stochastic = method, stochastic
        self.actions = Channel(len(method._fitted()[0].channels))

    def probabilities(self, histories: History) -> Floats:
        """(B, M) at each history's last step; forbidden channels have 0."""
        transforms, network = self.method._fitted()
        encoded = transforms.encode(histories)
        network.eval()
        with torch.no_grad():
            logits, _ = network(*(torch.from_numpy(a) for a in (encoded.ids, encoded.numbers, encoded.mask)))
        last = encoded.mask.sum(axis=1) - 1
        scores = logits.numpy()[np.arange(len(last)), last].astype(np.float64) * self.method.temperature
        if histories.allowed is not None:
            scores = np.where(histories.allowed, scores, -np.inf)
        if self.stochastic:
            return np.asarray(softmax(scores, axis=1))
        return np.asarray(np.eye(scores.shape[1])[scores.argmax(axis=1)])

    def act(self, histories: History, rng: np.random.Generator) -> Decisions:
        p = self.probabilities(histories)
        edges = p.cumsum(axis=1)
        action = (rng.random((len(p), 1)) * edges[:, -1:] >= edges).sum(axis=1)
        return Decisions(action, np.log(p[np.arange(len(p)), action]))

    def log_prob(self, histories: History, actions: NDArray[Any]) -> Floats:
        p = self.probabilities(histories)[np.arange(len(histories)), actions]
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(p))


def reward_weights(schema: LogSchema, config: MTORLConfig) -> dict[str, float] | None:
    """The config's reward, its gains checked against the schema."""
    for gain in config.reward_weights or {}:
        schema.gain(gain)
    return config.reward_weights
