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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.channel.heads import CONDITIONS, Calibrator, reward_loss, targets
from headrace.channel.policies import ScorePolicy
from headrace.channel.predictions import Predictions
from headrace.channel.preference import Pairing, partners, preference_loss
from headrace.errors import UserError
from headrace.journeys.knots import with_knots
from headrace.journeys.onward import learnt_until
from headrace.journeys.seams import Floats, History
from headrace.journeys.splits import Split
from headrace.journeys.statistics import default_statistics, running
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Encoded, Transforms
from headrace.journeys.upcoming import upcoming
from headrace.journeys.views import WHOLE, Batch, View, view
from headrace.learn.checkpoint import State, join, part
from headrace.learn.loop import LoopConfig, StageResult, fit_stage
from headrace.learn.optimise import Optimiser, OptimiserConfig, choose_device
from headrace.learn.run import Run
from headrace.learn.space import Range, Space
from headrace.nn.attention import CausalAttention
from headrace.nn.embed import Inputs
from headrace.nn.tcn import TCN


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
    attention: bool = True  # (7); False: what follows reads the causal states
    reward_reads: Literal["states", "attention", "action"] = "states"  # what the reward decoder decodes (section 3.5)
    unknown: float = 0.4  # share of category ids turned unknown in training
    input_dropout: float = 0.15  # of the embedded inputs
    embedding_start: float = 0.1  # spread of the embeddings at first: an id that is seldom met stays near zero
    length: int | None = None  # n, steps a journey is cut to; None: whole journeys
    embed: bool = True  # categories held as numbers become embeddings; False: read as numbers, as the paper's code does
    running: bool = True  # counts and rates so far among the inputs
    bins: int = 16  # of each number between training quantiles, beside the number: sharp steps can be learnt; 0: none
    context_bins: int = 48  # the same of the step's context
    cross: bool = True  # the context also scales what the reward decoder reads; False: is only added to it
    shortcut: bool = True  # the heads read the inputs again, beside the states
    reward_weights: dict[str, float] | None = None  # gains that make the reward (18); None: the first known in time
    reward_target: Literal["gain", "penalised"] = "gain"  # predict gains and cost, or also the penalised reward (3)
    penalty: float = 0.5  # s of (2) and (3), reward per unit of cost
    reward_weight: float = 1.0  # mu of (16)
    auxiliary_weight: float = 0.1  # of the losses of gains outside the reward, and of the cost, inside the mu term
    preference: Literal["none", "free", "reference"] = "none"  # (15); reference: to a policy fitted without it first
    pairs: Pairing = "any"  # which journeys (15) compares: any two, or matched in user features and length
    preference_weight: float = 1.4  # lambda of (16)
    beta: float = 0.1  # of (15)
    calibrate: bool = True  # temperature and slopes fitted on validation steps
    gaussian: bool = False  # weights drawn from a normal of sd 0.02 instead of torch's defaults
    learning_rate: float = 2e-3
    weight_decay: float = 0.3
    batch_size: int = 64  # journeys
    epochs: int = 40  # at most
    patience: int | None = 5  # epochs without a better validation loss; None: no early stopping
    min_count: int = 2  # a category seen less often in training is unknown
    clip: float | None = 1.0  # largest norm of the gradient
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate
    average: float | None = 0.99  # decay of the moving average of the weights that is evaluated; None: the last weights
    device: str = "auto"  # an accelerator where there is one; cpu, cuda
    precision: Literal["float32", "bf16", "auto"] = "float32"  # of the forward pass; small nets gain nothing from bf16
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"width": 1, "kernel": 1, "heads": 1, "batch_size": 1, "epochs": 1, "min_count": 1, "length": 2}
        least |= {"tcn_layers": 0, "attention_layers": 0, "decoder_layers": 0, "patience": 1}
        least |= {"bins": 0, "context_bins": 0, "embedding_start": 0}
        least |= {"penalty": 0, "reward_weight": 0, "auxiliary_weight": 0, "preference_weight": 0, "weight_decay": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"mtorl config: {name} = {value}, expected {low} or more; change it")
        for name in ("dropout", "unknown", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"mtorl config: {name} = {getattr(self, name)}, expected 0 or more and less than 1")
        if self.width % self.heads:
            raise UserError(f"mtorl config: width = {self.width} is no multiple of heads = {self.heads}; change one")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "width": 512,
        "length": 20,
        "embed": False,
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
        self.targets = targets(transforms, config.reward_target == "penalised")
        self.inputs = Inputs(
            transforms.cardinalities,
            transforms.width,
            config.unknown,
            transforms.knots,
            config.embedding_start,
            transforms.grown,
        )
        self.dropped = nn.Dropout(config.input_dropout)
        self.token = self.inputs.up_to(transforms.own_width)  # no bins of running statistics: the last step has them
        self.embed = nn.Linear(self.token, D)  # W_e
        self.tcn = TCN(D, config.tcn_layers, config.kernel, config.dropout)
        self.to_state = nn.Linear(D, D)  # W_s
        self.attention = CausalAttention(D, config.heads, config.dropout) if config.attention else None
        self.layers = nn.ModuleList(nn.Linear(D, D) for _ in range(config.attention_layers))  # W_M
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(config.attention_layers))
        self.dropout = nn.Dropout(config.dropout)
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
        logits = self.action(torch.cat([m, full[..., : self.inputs.plain]], dim=-1) if self.shortcut else m)  # (9)
        read = states
        if self.reads != "states":
            read = m if self.reads == "attention" else logits.softmax(dim=-1)
        return logits, self.read_state(torch.cat([read, x], dim=-1) if self.shortcut else read)

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


class Learner:
    """What the loop drives: the network, its optimiser, and the three losses of (16).

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
        self.network, self.transforms, self.config = network, transforms, config
        self.reference = reference
        self.train, self.validation = train, validation
        main = {"penalised", *transforms.reward_weights}
        self.weights = {t.name: 1.0 if t.name in main else config.auxiliary_weight for t in network.targets}
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

    def state(self) -> State:
        moments, values = self.optimiser.state()
        return join({"network": self.network.state_dict(), "optimiser": moments}), {"optimiser": values}

    def load(self, state: State) -> None:
        held, values = state
        self.network.load_state_dict(part(held, "network"))
        self.optimiser.load((part(held, "optimiser"), values["optimiser"]))


class MTORL:
    """fit on a split's training steps; then predict, or give a policy."""

    name = "mtorl"
    presets = PRESETS
    space = SPACE
    config_type = MTORLConfig

    def __init__(self, config: MTORLConfig | None = None):
        self.config = config or MTORLConfig()
        self.transforms: Transforms | None = None
        self.network: Network | None = None
        self.calibrator = Calibrator()
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
    def reward_weights(self) -> dict[str, float]:
        """The gains that make up the reward, and how much each counts."""
        return self._fitted()[0].reward_weights

    @property
    def reward_gains(self) -> tuple[str, ...]:
        """The gains that make up the reward."""
        return tuple(self._fitted()[0].reward_weights)

    def fit(self, journeys: Journeys, split: Split, run: Run | str | Path, progress: bool = True) -> "MTORL":
        """Fit transforms and network on the train part, calibrate on the validation part, leave all in the run.

        `run` may be the path of a new run.
        """
        config = self.config
        self.check(journeys)
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
        so_far = running(journeys, statistics)
        train = view(journeys, split, "train", config.length, statistics, so_far=so_far)
        self.transforms = with_knots(
            self.transforms, journeys, split.parts["train"], config.bins, config.context_bins, so_far
        )
        run.write_json("transforms.json", self.transforms.to_dict())
        validation = view(journeys, split, "validation", config.length, statistics, so_far=so_far)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            self.network = Network(config, self.transforms).to(choose_device(config.device))
        loop = LoopConfig(epochs=config.epochs, patience=config.patience, seed=config.seed, progress=progress)
        reference = None
        if config.preference == "reference":
            without = dataclasses.replace(config, preference="none")
            first = Learner(self.network, self.transforms, train, validation, without)
            fit_stage(first, run, "reference", loop)
            with first.optimiser.averaged():
                reference = copy.deepcopy(self.network).eval()
            self.network.load_state_dict(reference.state_dict())
        learner = Learner(self.network, self.transforms, train, validation, config, reference)
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
        if journeys.time is not None:
            run.write_json("stream.json", {"until": learnt_until(journeys, split)})
        return self

    def check(self, journeys: Journeys, split: Split | None = None) -> None:
        """Raise UserError where the method cannot learn from a log; any split will do."""
        schema = journeys.schema
        if schema.channel is None:
            raise UserError(f"{journeys.path}: schema {schema.name} names no channel, which mtorl learns to choose")
        for gain in self.config.reward_weights or {}:
            schema.gain(gain)

    def settings(self) -> dict[str, Any]:
        """The method and its resolved config, as a run's config.json holds them."""
        return {"method": self.name, "config": dataclasses.asdict(self.config)}

    @classmethod
    def load(cls, run: Run) -> "MTORL":
        """The fitted method that a run holds."""
        method = cls(MTORLConfig(**run.config["config"]))
        method.transforms = Transforms.from_dict(run.read_json("transforms.json"))
        method.network = Network(method.config, method.transforms).to(choose_device(method.config.device))
        method.network.load_state_dict(run.read_weights("model.safetensors"))
        method.calibrator = Calibrator.from_dict(run.read_json("calibrators.json"))
        return method

    def predict(self, journeys: Journeys, labels: NDArray[np.bool_] | View) -> Predictions:
        """Predictions for each labelled step, with the past it would have had when served."""
        transforms, _ = self._fitted()
        transforms.fits(journeys)
        if isinstance(labels, View):
            return self._predict(labels, self.calibrator)
        steps = View(journeys, labels, self.config.length, transforms.statistics, cut="exact")
        return self._predict(steps, self.calibrator)

    def _predict(self, steps: View, calibrator: Calibrator) -> Predictions:
        transforms, network = self._fitted()
        device = next(network.parameters()).device
        found: dict[str, list[NDArray[Any]]] = {}
        network.eval()
        with torch.no_grad():
            for batch in steps.batches(4 * self.config.batch_size):
                logits, read = network(*tensors(transforms.encode(batch.history), device))
                label = torch.from_numpy(batch.label).to(device)
                read = read[label]  # (n, D)
                channel = torch.from_numpy(batch.channel[batch.label]).to(device)
                ids, numbers, _ = tensors(transforms.encode_context(batch), device)
                outputs = {
                    "action": logits[label],
                    "reward": network.decode(read),
                    "reward_by_channel": network.decode_channels(read),
                    "reward_in_context": network.decode(read, channel, (ids[label], numbers[label])),
                }
                found.setdefault("rows", []).append(batch.rows[batch.label])
                for name, output in outputs.items():
                    found.setdefault(name, []).append(output.cpu().numpy())
        return self._answer({name: np.concatenate(parts) for name, parts in found.items()}, calibrator)

    def predict_next(self, journeys: Journeys) -> Predictions:
        """Predictions for each user's next step, one row a user (its index); `reward_in_context` has none."""
        transforms, network = self._fitted()
        transforms.fits(journeys)
        device = next(network.parameters()).device
        so_far = running(journeys, transforms.statistics)
        found: dict[str, list[NDArray[Any]]] = {}
        network.eval()
        with torch.no_grad():
            for users, history in upcoming(journeys, self.config.length or WHOLE, transforms.statistics, so_far):
                logits, read = network(*tensors(transforms.encode(history), device))
                at = (np.arange(len(users)), history.mask.sum(axis=1) - 1)
                outputs = {
                    "action": logits[at],
                    "reward": network.decode(read[at]),
                    "reward_by_channel": network.decode_channels(read[at]),
                }
                found.setdefault("rows", []).append(users)
                for name, output in outputs.items():
                    found.setdefault(name, []).append(output.cpu().numpy())
        return self._answer({name: np.concatenate(parts) for name, parts in found.items()}, self.calibrator)

    def foresee(self, histories: History) -> Predictions:
        """Predictions for the last step of each history, one row each; `reward_in_context` has none."""
        transforms, network = self._fitted()
        encoded = tensors(transforms.encode(histories), next(network.parameters()).device)
        size = 4 * self.config.batch_size
        found: dict[str, list[NDArray[Any]]] = {}
        network.eval()
        with torch.no_grad():
            for k in range(0, max(len(histories), 1), size):
                ids, numbers, mask = (tensor[k : k + size] for tensor in encoded)
                logits, read = network(ids, numbers, mask)
                at = (torch.arange(len(mask)), mask.sum(dim=1) - 1)
                outputs = {
                    "action": logits[at],
                    "reward": network.decode(read[at]),
                    "reward_by_channel": network.decode_channels(read[at]),
                }
                for name, output in outputs.items():
                    found.setdefault(name, []).append(output.cpu().numpy())
        rows = {"rows": np.arange(len(histories))}
        return self._answer(rows | {name: np.concatenate(parts) for name, parts in found.items()}, self.calibrator)

    def embeddings(self, journeys: Journeys) -> NDArray[np.float32]:
        """(U, D) the encoder's representation of each user at its next step, section 4.5."""
        transforms, network = self._fitted()
        transforms.fits(journeys)
        device = next(network.parameters()).device
        so_far = running(journeys, transforms.statistics)
        found = np.empty((journeys.n_users, self.config.width), dtype=np.float32)
        network.eval()
        with torch.no_grad():
            for users, history in upcoming(journeys, self.config.length or WHOLE, transforms.statistics, so_far):
                states = network.represent(*tensors(transforms.encode(history), device))
                found[users] = states[np.arange(len(users)), history.mask.sum(axis=1) - 1].cpu().numpy()
        return found

    def policy(self, stochastic: bool = True) -> ScorePolicy:
        """The action decoder as a policy: a draw from y^ (11), or its largest (10) where `stochastic` is false."""
        transforms, network = self._fitted()

        def scores(histories: History) -> Floats:
            device = next(network.parameters()).device
            network.eval()
            with torch.no_grad():
                logits, _ = network(*tensors(transforms.encode(histories), device))
            last = (np.arange(len(histories)), histories.mask.sum(axis=1) - 1)
            return np.asarray(logits[last].cpu().numpy().astype(np.float64) * self.calibrator.temperature)

        return ScorePolicy(scores, len(transforms.channels), stochastic)

    def _answer(self, outputs: dict[str, NDArray[Any]], calibrator: Calibrator) -> Predictions:
        transforms, network = self._fitted()
        rewards = {c: calibrator.units(c, outputs[c], network.targets, transforms) for c in CONDITIONS if c in outputs}
        return Predictions(outputs["rows"], calibrator.channels(outputs["action"]), **rewards)

    def _fitted(self) -> tuple[Transforms, Network]:
        if self.transforms is None or self.network is None:
            raise UserError("mtorl: not fitted yet; call fit(journeys, split, run) or load(run) first")
        return self.transforms, self.network


def tensors(encoded: Encoded, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """ids, numbers and mask on a device."""
    ids, numbers, mask = (torch.from_numpy(a) for a in (encoded.ids, encoded.numbers, encoded.mask))
    return ids.to(device), numbers.to(device), mask.to(device)
