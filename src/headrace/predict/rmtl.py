"""RMTL: multi-task prediction with losses weighted by critics of the session (Liu et al., WWW 2023).

    A   pi(s; theta)            a multi-task model on the K cross-entropies                        (7), weights 1
    B   Q_k(s_t, a_{k,t})       critics of A's session process, A frozen                      (8), (9), (11)-(13), (18)
    C   L = sum omega BCE       the model trained on with omega = 1 - lambda Q                     (10), (16), (17)

What a trained model costs when it serves is what its backbone costs: critics are for training alone. `weights` chooses
what stage C weighs by; "none" leaves it out, and everything but the published kind is a control (weights.py). Where the
paper's print is corrected: docs/rmtl.md.

B rows, n rows of a part, K tasks.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from headrace.errors import UserError
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.learn.loop import LoopConfig, StageResult, fit_stage, seeded
from headrace.learn.optimise import OptimiserConfig, choose_device
from headrace.learn.run import Run
from headrace.predict.backbones import IN_A_FUNNEL, Backbone, Network, Sizes
from headrace.predict.balance import check
from headrace.predict.critics import Critic, CriticLearner, Critics, Output, returns, rewards
from headrace.predict.features import Features, Key, known_gains, statistics
from headrace.predict.predictor import ItemPredictor, snapshot
from headrace.predict.retrain import MultiTask, predict
from headrace.predict.sessions import Rule, lengths, rule_of
from headrace.predict.table import Table, table
from headrace.predict.tasks import keys_of, parents, tasks_of
from headrace.predict.weights import BY_CRITIC, Weights


@dataclass(frozen=True, slots=True)
class RMTLConfig:
    """Every choice of the method; `PRESETS` holds the ones we stand behind and the paper's."""

    backbone: Backbone = "ple"
    weights: Weights = "rl"  # of stage C; none: no stage C, the backbone alone
    tasks: str | None = None  # NAME=GAIN,NAME=GAIN&GAIN,... (tasks.py); None: the layout's, or each binary gain
    keys: str | None = None  # what running statistics are kept for: user,item,user+tag ...; none; None: the layout's
    session: Rule = "auto"  # what makes a session: log, gap, day, user; auto: the log's own, else the user's rows
    session_gap_minutes: float = 30.0  # of the rule gap
    user_ids: bool = False  # an embedding for each user; most stand in the log too seldom for one
    embedding: int | None = 4  # width of each; None: 2 to 16 by the number of ids
    width: int = 16  # of the bottom or the experts; their second layer has half, the towers a quarter and an eighth
    experts: int = 4  # of MMoE; PLE has half as many in each of its K + 1 streams
    dropout: float = 0.2
    input_dropout: float = 0.0  # of the embedded inputs
    unknown: float = 0.4  # share of category ids turned unknown in training
    embedding_start: float = 0.1  # spread of the embeddings at first
    bins: int = 4  # of each number between training quantiles, beside the number; 0: none
    lambda_: float = 0.7  # of (10)
    gamma: float = 0.95  # discount within a session
    decay: float = 0.95  # gamma' of (5), of the control decay
    soft_update: float = 0.2  # beta of (18)
    critic_output: Output = "softplus"  # -softplus; relu: -max(0, x) as printed, which can be born dead
    critics: Literal["frozen", "joint"] = "frozen"  # in stage C; joint: they learn on beside the model
    start: Literal["pretrained", "fresh"] = "pretrained"  # of stage C
    critics_from: str | None = None  # a run whose critics are used instead of stage B (transfer)
    learning_rate: float = 1.5e-3
    retrain_rate: float | None = None  # learning rate of stage C; None: the same
    weight_decay: float = 0.5
    batch_size: int = 512
    epochs: int = 12  # of stage A, at most
    patience: int = 2  # of stage A: epochs without a better validation figure
    critic_rate: float | None = 5e-3  # learning rate of stage B; None: the same
    critic_epochs: int = 30  # of stage B, at most
    critic_patience: int = 4  # of stage B, whose figure on sessions held out is noisy; it has to converge
    retrain_epochs: int = 3  # of stage C: all are run, for every kind of weights; the best by validation is kept
    clip: float | None = 1.0  # largest norm of the gradient
    average: float | None = 0.99  # decay of the moving average of the model's weights; None: the last weights
    min_count: int = 2  # a category seen less often in training is unknown
    device: str = "auto"  # an accelerator where there is one; cpu, cuda
    seed: int = 0

    def __post_init__(self) -> None:
        least: dict[str, float] = dict.fromkeys(("width", "experts", "batch_size", "epochs", "patience"), 1)
        least |= dict.fromkeys(("critic_epochs", "critic_patience", "retrain_epochs", "min_count", "embedding"), 1)
        least |= {"bins": 0, "lambda_": 0, "embedding_start": 0, "weight_decay": 0, "session_gap_minutes": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"rmtl config: {name} = {value}, expected {low:g} or more; change it")
        for name in ("dropout", "input_dropout", "unknown", "gamma"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"rmtl config: {name} = {getattr(self, name)}, expected 0 or more and less than 1")
        for name in ("learning_rate", "retrain_rate", "critic_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"rmtl config: {name} = {value}, expected more than 0; change it")
        for name in ("soft_update", "decay"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"rmtl config: {name} = {getattr(self, name)}, expected more than 0 and at most 1")
        if self.critics_from is not None and self.weights not in BY_CRITIC:
            raise UserError(f"rmtl config: critics_from with weights = {self.weights}, which need none; leave it out")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "embedding": 128,
        "width": 512,
        "experts": 8,
        "input_dropout": 0.0,
        "unknown": 0.0,
        "user_ids": True,
        "learning_rate": 1e-3,
        "critic_rate": None,
        "embedding_start": 1.0,
        "bins": 0,
        "critic_output": "relu",
        "weight_decay": 0.0,
        "clip": None,
        "average": None,
        "batch_size": 2048,
    },
    "tiny": {
        "width": 8,
        "experts": 2,
        "bins": 2,
        "epochs": 2,
        "critic_epochs": 2,
        "retrain_epochs": 2,
        "batch_size": 32,
    },
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a fit reads, made once for several that differ in nothing that it depends on."""

    config: RMTLConfig
    features: Features
    parts: dict[str, Table]

    @property
    def train(self) -> Table:
        return self.parts["train"]

    @property
    def validation(self) -> Table:
        return self.parts["validation"]


def prepare(journeys: Journeys, split: Split, config: RMTLConfig, parts: tuple[str, ...] = ()) -> Prepared:
    """Features fitted on the training rows, and the encoded rows of train, validation and `parts`."""
    tasks, keys = tasks_of(journeys.schema, config.tasks), keys_of(journeys.schema, config.keys)
    so_far = statistics(journeys, keys, known_gains(journeys, tasks))
    rows = split.rows("train")
    features = Features.fit(journeys, rows, tasks, keys, so_far, config.min_count, config.bins, config.user_ids)
    device = choose_device(config.device)
    found = {}
    for part in ("train", "validation", *parts):
        labels = split if part == "train" else None
        held = table(journeys, split.rows(part), features, so_far, config.session, config.session_gap_minutes, labels)
        for k, task in enumerate(tasks):
            if not held.known[:, k].any():
                raise UserError(
                    f"{journeys.path}: no row of the {part} part tells the task {task.name}; choose another protocol "
                    "or seed, or leave the task out with  --set tasks=..."
                )
        found[part] = held.to(device)
    return Prepared(config, features, found)


class RMTL:
    """fit on a split's training rows; then predict, or give a predictor."""

    name = "rmtl"
    presets = PRESETS
    config_type = RMTLConfig

    def __init__(self, config: RMTLConfig | None = None):
        self.config = config or RMTLConfig()
        self.features: Features | None = None
        self.network: Network | None = None
        self.snapshot: dict[str, Tensor] = {}
        self.stage: StageResult | None = None

    @property
    def transforms(self) -> Transforms | None:
        """What was fitted on the training rows, as the audit looks at it."""
        return None if self.features is None else self.features.transforms

    @property
    def label(self) -> str:
        """What tables call it: ple, rmtl-ple, d-ple, ple-constant, ..."""
        return label_of(self.config.backbone, self.config.weights)

    def check(self, journeys: Journeys, split: Split | None = None) -> None:
        """Raise UserError where the method cannot learn from a log."""
        if journeys.schema.candidates is not None:
            raise UserError(
                f"{journeys.path}: its steps hold lists of items and rmtl predicts one item a step; lay them out "
                "with  headrace.exposures(journeys, FOLDER) , as  headrace train  does"
            )
        tasks = tasks_of(journeys.schema, self.config.tasks)
        check(self.config.weights, self.config.backbone, len(tasks))
        if self.config.backbone in IN_A_FUNNEL and not any(above is not None for above in parents(tasks)):
            raise UserError(
                f"rmtl config: backbone = {self.config.backbone}, which follows a funnel, and none of the tasks "
                f"{', '.join(t.name for t in tasks)} implies another; choose another backbone, or tasks such as  "
                "ctr=CLICK,ctcvr=CLICK&BUY"
            )
        keys_of(journeys.schema, self.config.keys)
        rule_of(journeys, self.config.session)
        if self.config.critics_from is not None:
            self._check_critics(Run.open(self.config.critics_from))

    def settings(self) -> dict[str, Any]:
        """The method and its resolved config, as a run's config.json holds them."""
        return {"method": self.name, "config": dataclasses.asdict(self.config)}

    def fit(
        self,
        journeys: Journeys,
        split: Split,
        run: Run | str | Path,
        progress: bool = True,
        prepared: Prepared | None = None,
    ) -> "RMTL":
        """Stages A, B and C, as far as `weights` asks for them; all in the run, which may be the path of a new one.

        `prepared` hands in what `prepare` made of the same log, split and config.
        """
        config = self.config
        self.check(journeys, split)
        if not isinstance(run, Run):
            run = Run.create(run, self.settings(), data=journeys.fingerprint, split=split.fingerprint)
        held = prepare(journeys, split, config) if prepared is None else prepared
        self.features, train, validation = held.features, held.train, held.validation
        run.write_json("transforms.json", self.features.to_dict())
        rule = rule_of(journeys, config.session)
        run.write_json(
            "sessions.json", {p: lengths(held.parts[p].session, rule).to_dict() for p in ("train", "validation")}
        )
        self.snapshot = snapshot(self.features, journeys, split.rows("train"))
        run.write_weights("snapshot.safetensors", self.snapshot)
        self.network = self.new_network()
        learner = MultiTask(self.network, train, validation, self.optimiser(), config.batch_size)
        self.stage = fit_stage(learner, run, "model", self._loop(config.epochs, config.patience, progress))
        learner.settle()
        if config.weights != "none":
            self._reweigh(train, validation, run, progress)
        run.write_weights("model.safetensors", self.network.state_dict())
        return self

    def _reweigh(self, train: Table, validation: Table, run: Run, progress: bool) -> None:
        """Stages B and C."""
        config = self.config
        assert self.features is not None and self.network is not None
        logits = predict(self.network, train)
        critics = None
        if config.weights in BY_CRITIC:
            with seeded(config.seed + 1):
                critic = Critic(self._sizes(), self.features, config.critic_output).to(logits.device)
            critics = Critics(
                critic, self.optimiser(config.critic_rate, average=False), config.gamma, config.soft_update
            )
            if config.critics_from is None:
                learner = CriticLearner(critics, train, logits, config.batch_size)
                fit_stage(learner, run, "critics", self._loop(config.critic_epochs, config.critic_patience, progress))
            else:
                self._take_critics(critics, Run.open(config.critics_from))
            run.write_weights("critics.safetensors", critics.critic.state_dict())
        brought = None
        if config.weights == "return":
            brought = returns(rewards(logits, train.labels) * train.known, train.position, train.last, config.gamma)
        if config.start == "fresh":
            self.network = self.new_network()
        retrained = MultiTask(
            self.network,
            train,
            validation,
            self.optimiser(config.retrain_rate),
            config.batch_size,
            config.weights,
            config.lambda_,
            config.decay,
            critics,
            config.critics == "joint",
            brought,
        )
        epochs = config.retrain_epochs
        self.stage = fit_stage(retrained, run, "retrain", self._loop(epochs, epochs, progress))
        retrained.settle()

    def _check_critics(self, other: Run) -> None:
        """Raise UserError where a run holds no critics, or those of another process or size."""
        theirs = other.config.get("config", {})
        if other.config.get("method") != self.name or theirs.get("weights") not in BY_CRITIC:
            raise UserError(f"{other.path}: holds no critics; give a run of rmtl with weights {' or '.join(BY_CRITIC)}")
        for name in ("width", "embedding", "critic_output", "gamma", "session", "session_gap_minutes"):
            if theirs[name] != getattr(self.config, name):
                raise UserError(f"{other.path}: {name} is {theirs[name]} there and {getattr(self.config, name)} here")

    def _take_critics(self, critics: Critics, other: Run) -> None:
        """Another run's critics, of the same features; its backbone may be another."""
        assert self.features is not None
        if Features.from_dict(other.read_json("transforms.json")).to_dict() != self.features.to_dict():
            raise UserError(
                f"{other.path}: its critics read other features, tasks or training rows; give a run of the same "
                "journeys, protocol and seed"
            )
        critics.critic.load_state_dict(other.read_weights("critics.safetensors"))
        critics.target.load_state_dict(critics.critic.state_dict())

    def predict(self, journeys: Journeys, rows: Integers) -> Floats:
        """(n, K) the chance of each task at these rows, as it would have been told when they were shown."""
        features, _ = self._fitted()
        features.transforms.fits(journeys)
        so_far = statistics(journeys, features.keys, features.gains)
        return self.predict_table(self._table(journeys, rows, so_far), rows)

    def predict_table(self, part: Table, rows: Integers) -> Floats:
        """(n, K) the same from an encoded part, in the order of `rows`."""
        _, network = self._fitted()
        logits = predict(network, part.to(next(network.parameters()).device)).cpu().numpy().astype(np.float64)
        order = np.argsort(part.rows)
        return np.asarray(1 / (1 + np.exp(-logits[order][np.searchsorted(part.rows[order], rows)])))

    def predictor(self) -> ItemPredictor:
        """The model as a Predictor of items for users given by their histories."""
        features, network = self._fitted()
        return ItemPredictor(features, network, self.snapshot)

    @classmethod
    def load(cls, run: Run) -> "RMTL":
        """The fitted method that a run holds."""
        method = cls(RMTLConfig(**run.config["config"]))
        method.features = Features.from_dict(run.read_json("transforms.json"))
        method.network = method.new_network()
        method.network.load_state_dict(run.read_weights("model.safetensors"))
        method.snapshot = run.read_weights("snapshot.safetensors")
        return method

    def _table(
        self, journeys: Journeys, rows: Integers, so_far: dict[Key, Floats], split: Split | None = None
    ) -> Table:
        assert self.features is not None
        return table(journeys, rows, self.features, so_far, self.config.session, self.config.session_gap_minutes, split)

    def _sizes(self) -> Sizes:
        c = self.config
        return Sizes(c.width, c.experts, c.embedding, c.dropout, c.unknown, c.input_dropout, c.embedding_start)

    def new_network(self) -> Network:
        """The backbone as it starts: a function of the config's seed."""
        assert self.features is not None
        with seeded(self.config.seed):
            network = Network(self.config.backbone, self._sizes(), self.features, parents(self.features.tasks))
        return network.to(choose_device(self.config.device))

    def optimiser(self, rate: float | None = None, average: bool = True) -> OptimiserConfig:
        """How a stage's loss is made small."""
        c = self.config
        kept = c.average if average else None
        return OptimiserConfig(c.learning_rate if rate is None else rate, c.weight_decay, c.clip, average=kept)

    def _loop(self, epochs: int, patience: int, progress: bool) -> LoopConfig:
        return LoopConfig(epochs=epochs, patience=patience, seed=self.config.seed, progress=progress)

    def _fitted(self) -> tuple[Features, Network]:
        if self.features is None or self.network is None:
            raise UserError("rmtl: not fitted yet; call fit(journeys, split, run) or load(run) first")
        return self.features, self.network


def label_of(backbone: str, weights: str) -> str:
    """
    >>> label_of("ple", "none"), label_of("ple", "rl"), label_of("ple", "ddpg"), label_of("ple", "focal")
    ('ple', 'rmtl-ple', 'd-ple', 'ple-focal')
    """
    return {"none": backbone, "rl": f"rmtl-{backbone}", "ddpg": f"d-{backbone}"}.get(weights, f"{backbone}-{weights}")
