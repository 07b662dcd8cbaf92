"""Going on from a run: a fitted MTORL learns what a stream brought since, and forgets no more than it may.

    w_0     the parent's weights; the row of a new id starts as the unknown id's, so nothing is said differently yet
    w_1     w_0 after a few epochs on new steps and as many drawn from the past, pulled back to w_0 after each update
    w_a     w_0 + a (w_1 - w_0), for a in SHARES
    kept    the w_a of the least loss on the new steps of validation users, among those that forget no more than allowed

Forgotten is what a part of the objective, policy (13) or reward (14), has risen by on the steps of validation users
before the new ones. It adds up along a chain of runs, never below 0, and the sum may not pass `forget`: a = 0 is the
parent itself, so there is always a way to keep the bound. Vocabularies grow; scales, knots, the reward's range, the
calibration and who is held out stay the first run's.

Pull to the start: Li et al. 2018 (L2-SP), decoupled from the gradient as AdamW's decay is. Weights between two fits:
Wortsman et al. 2022 (WiSE-FT). Forgetting against the best so far: Chaudhry et al. 2018.
"""

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headrace.channel.mtorl import MTORL, Learner, MTORLConfig, Network
from headrace.errors import UserError
from headrace.journeys.onward import PAST, learnt_until, of_training_users, onward, rehearsing
from headrace.journeys.splits import Split
from headrace.journeys.statistics import running
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import View, view
from headrace.learn import durable
from headrace.learn.loop import LoopConfig, fit_stage, seeded
from headrace.learn.optimise import choose_device
from headrace.learn.run import Run
from headrace.nn.embed import grown_to

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the way from the parent's weights to the tuned ones
BOUNDED = ("policy", "reward")  # the parts of the objective that the bound holds for


@dataclass(frozen=True, slots=True)
class IncrementalConfig:
    """How a run is gone on from; all else is the parent's config."""

    forget: float = 0.01  # how much policy and reward loss on earlier steps may rise in all, nats a step
    learning_rate: float = 5e-4
    epochs: int = 3
    pull: float = 1.0  # back to the parent's weights: this share of the learning rate, after each update
    rehearse: float = 1.0  # earlier steps drawn into training for each new one
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("forget", "pull", "rehearse"):
            if not getattr(self, name) >= 0:
                raise UserError(f"incremental config: {name} = {getattr(self, name)}, expected 0 or more; change it")
        if self.epochs < 1:
            raise UserError(f"incremental config: epochs = {self.epochs}, expected 1 or more; change it")
        if not 0 < self.learning_rate * self.pull < 1 and self.pull:
            raise UserError(
                f"incremental config: pull x learning_rate = {self.pull * self.learning_rate:g}, expected less than 1; "
                "lower one"
            )


PRESETS: dict[str, dict[str, Any]] = {"default": {}, "tiny": {"epochs": 1}}


class Tuner(Learner):
    """The learner, pulled back to where it started after each update."""

    def __init__(
        self,
        network: Network,
        transforms: Transforms,
        train: View,
        validation: View,
        config: MTORLConfig,
        reference: Network | None,
        pull: float,
    ):
        super().__init__(network, transforms, train, validation, config, reference)
        self.start = {name: weight.detach().clone() for name, weight in network.named_parameters()}
        self.back = pull * config.learning_rate

    def step(self, batch: Any) -> dict[str, float]:
        losses = super().step(batch)
        with torch.no_grad():
            for name, weight in self.network.named_parameters():
                weight.lerp_(self.start[name], self.back)
        return losses


@dataclass(frozen=True, slots=True)
class Parent:
    """What a run says to the one that goes on from it."""

    run: Run
    model: str  # sha256 of its weights
    until: float  # its training steps lie before
    forgotten: dict[str, float]  # by its chain so far

    @classmethod
    def of(cls, run: Run) -> "Parent":
        """Raises UserError where nothing can go on from a run."""
        method = run.config.get("method")
        if method != MTORL.name:
            raise UserError(
                f"{run.path}: a run of {method}, and only one of {MTORL.name} can be gone on from; fit anew"
            )
        if not (run.path / "stream.json").is_file():
            raise UserError(
                f"{run.path}: does not say until when its log was learnt (no stream.json): the log has no clock, or an "
                "older version fitted it; fit it again on a log with a time"
            )
        told = run.read_json("stream.json")
        return cls(run, durable.sha256(run.path / "model.safetensors"), told["until"], told.get("forgotten", {}))

    def split(self, journeys: Journeys) -> Split:
        """What the log brought since."""
        config = self.run.config
        protocol = config.get("protocol", "")
        return onward(journeys, protocol, config.get("split_seed", 0), config.get("fold"), self.until)


class Incremental:
    """MTORL gone on from a run, as `headrace train mtorl --from` fits it."""

    def __init__(self, parent: Parent, config: IncrementalConfig | None = None):
        self.parent = parent
        self.config = config or IncrementalConfig()
        self.method = MTORL.load(parent.run)

    def check(self, journeys: Journeys) -> None:
        """Raise UserError for a log of other columns or channels than the parent's."""
        transforms = self.method.transforms
        assert transforms is not None
        unknown = [c for c in journeys.channels if c not in transforms.channels]
        if unknown and set(transforms.channels) <= set(journeys.channels):
            raise UserError(
                f"{journeys.path}: channel {unknown[0]} is new, and a run's heads are made for its channels "
                f"({', '.join(transforms.channels)}); fit anew without --from"
            )
        transforms.fits(journeys)

    def settings(self) -> dict[str, Any]:
        """What config.json holds: the parent's config, how it was gone on from, and from where."""
        origin = {"model": self.parent.model, "until": self.parent.until}
        return {**self.method.settings(), "incremental": dataclasses.asdict(self.config), "from": origin}

    def fit(self, journeys: Journeys, split: Split, run: Run, progress: bool = True) -> MTORL:
        """Learn what the split, one of `Parent.split`, holds; the method that the run then keeps."""
        config, method = self.config, self.method
        before, old = method.transforms, method.network
        assert before is not None and old is not None
        self.check(journeys)
        transforms = before.extend(journeys, of_training_users(journeys, split).nonzero()[0])
        tuned = dataclasses.replace(
            method.config,
            learning_rate=config.learning_rate,
            weight_decay=0.0,
            epochs=config.epochs,
            patience=None,
            seed=config.seed,
        )
        network = Network(method.config, transforms).to(choose_device(method.config.device))
        start = grown_to(old.state_dict(), network)
        network.load_state_dict(start)
        run.write_json("transforms.json", transforms.to_dict())

        so_far = running(journeys, transforms.statistics)
        train, validation, past = (
            view(journeys, of, part, tuned.length, transforms.statistics, so_far=so_far)
            for of, part in (
                (rehearsing(journeys, split, config.rehearse, config.seed), "train"),
                (split, "validation"),
                (split, PAST),
            )
        )
        # A policy that prefers relative to a reference now does so relative to the one it goes on from.
        reference = copy.deepcopy(network).eval() if tuned.preference == "reference" else None
        learner = Tuner(network, transforms, train, validation, tuned, reference, config.pull)
        loop = LoopConfig(epochs=config.epochs, patience=None, seed=config.seed, progress=progress)
        method.stage = fit_stage(learner, run, "train", loop)
        with learner.optimiser.averaged():
            end = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        judge = Learner(network, transforms, train, validation, dataclasses.replace(tuned, average=None), reference)
        weights, told = self.choose(judge, start, end, past)
        network.load_state_dict(weights)
        method.transforms, method.network = transforms, network
        run.write_weights("model.safetensors", weights)
        run.write_json("calibrators.json", method.calibrator.to_dict())
        new_ids = {name: v.size - before.vocabularies[name].size for name, v in transforms.vocabularies.items()}
        told |= {"until": learnt_until(journeys, split), "new_ids": {name: n for name, n in new_ids.items() if n}}
        run.write_json("stream.json", told)
        return method

    def choose(
        self, judge: Learner, start: Mapping[str, Tensor], end: Mapping[str, Tensor], past: View
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The weights between start and end that are kept, and the measurements behind the choice."""
        new, forget = judge.validation, self.config.forget
        on_past = past if len(past) else new  # a log without the past: the old weights are the measure on what is new
        measured: list[dict[str, Any]] = []
        found: list[dict[str, Tensor]] = []
        for share in reversed(SHARES):  # 0 first: what the parent says
            weights = between(start, end, share)
            judge.network.load_state_dict(weights)
            losses = loss_of(judge, new)
            earlier = loss_of(judge, on_past)
            at_start = measured[0]["earlier"] if measured else earlier
            forgotten = {
                name: max(0.0, self.parent.forgotten.get(name, 0.0) + earlier[name] - at_start[name])
                for name in BOUNDED
                if name in earlier
            }
            measured.append({"share": share, "new": losses, "earlier": earlier, "forgotten": forgotten})
            found.append(weights)
        within = [i for i, m in enumerate(measured) if all(f <= forget for f in m["forgotten"].values())] or [0]
        kept = min(within, key=lambda i: measured[i]["new"]["loss"])
        told = {
            "share": measured[kept]["share"],
            "forgotten": measured[kept]["forgotten"],
            "allowed": forget,
            "forgotten_on": PAST if len(past) else "validation",
            "measured": measured,
        }
        return found[kept], told


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """start + share (end - start), bit for bit the one at 0 and the other at 1."""
    if share in (0.0, 1.0):
        return dict(end if share else start)
    return {name: torch.lerp(start[name], end[name], share) for name in start}


def loss_of(judge: Learner, steps: View) -> dict[str, float]:
    """The objective and its parts over the labelled steps of a view, as validation measures them."""
    judge.validation, kept = steps, judge.validation
    try:
        with seeded(0):
            return judge.validate()
    finally:
        judge.validation = kept
