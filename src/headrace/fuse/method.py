"""A fusion method as train and compare see it: fit on journeys, save, load, give a policy.

n rows, S state features, K weights.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from headrace.errors import UserError
from headrace.fuse.actions import Actions
from headrace.fuse.affinity import Affinity, affinity, reward_weights
from headrace.fuse.fusion import NEGATIVE, OFFSET, Cells, Fusion, fusion_of, oriented
from headrace.fuse.learner import EPOCH, PRESETS, FuseConfig, Learner, epochs
from headrace.fuse.policy import Act, FusionPolicy, numpy_act, points_of
from headrace.fuse.replay import Replay, actions_of, candidates_of, scores_of, transitions
from headrace.fuse.state import Floats32, State
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys, ragged_rows
from headrace.journeys.transforms import Transforms
from headrace.learn.loop import LoopConfig, StageResult, fit_stage
from headrace.learn.run import Run
from headrace.learn.space import Space
from headrace.ope.transitions import Transitions

Objective = Callable[[Sequence[Act]], Floats]  # policies over states -> what each is worth
CELL_ITEMS = 200_000  # candidates whose scores cells are fitted to, at most


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a log's training part gives every method: computed once where several are fitted."""

    state: State
    actions: Actions
    weights: dict[str, float]  # of the reward
    affinities: list[Affinity]
    train: Transitions
    rows: Integers
    states: Floats32  # (n, S) of `rows`
    when: Floats  # (n,) time of `rows`, or their order where the log has none


def prepare(journeys: Journeys, rows: Integers, config: FuseConfig, part: Integers | None = None) -> Prepared:
    """State, actions, reward and transitions of training rows; `part`: all of theirs, where `rows` are some of it."""
    state = State.fit(journeys, rows, config.videos)
    states = state.of_rows(journeys, rows)
    space = actions_of(journeys, config.form)
    found: list[Affinity] = []
    weights = config.reward_weights
    if weights is None:
        found = affinity(journeys, rows, states, seed=config.seed, part=part)
        weights = reward_weights(found, config.emphasis, config.emphasis_factor)
        if not weights:
            raise UserError(
                f"{journeys.path}: no behaviour is related to later time spent beyond doubt; "
                "give reward weights, for example  --reward dwell_s:1,like:5"
            )
    when = rows if journeys.time is None else np.asarray(journeys.time)[rows]
    train = transitions(journeys, rows, states, space, weights)
    return Prepared(state, space, weights, found, train, rows, states, when.astype(np.float64))


class FuseMethod:
    """A method whose learner is fitted by gradients; searches override `learn` and `restore`."""

    name: ClassVar[str]
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    space: ClassVar[Space] = {"critic_rate": (1e-4, 2e-4, 5e-4, 1e-3), "gamma": (0.9, 0.95, 0.99)}
    config_type: ClassVar[Any]
    learner_type: ClassVar[type[Learner]]

    def __init__(self, config: Any = None):
        self.config = config or self.config_type()
        self.state: State | None = None
        self.actions: Actions | None = None
        self.fusion: Fusion | None = None
        self.scores: tuple[str, ...] = ()  # that the weights belong to, in their order
        self.offsets: tuple[float, ...] = ()
        self.negative: tuple[str, ...] = ()  # of which less is better
        self.weights: dict[str, float] = {}
        self.act: Act | None = None
        self.stage: StageResult | None = None

    def reads(self, journeys: Journeys) -> None:
        """Raise UserError where another log does not hold what the policy was fitted on: its columns and its scores."""
        assert self.transforms is not None  # fitted or loaded
        self.transforms.fits(journeys)
        found = scores_of(journeys)
        if found != self.scores:
            raise UserError(
                f"{journeys.path}: scores {', '.join(found)}, and the run weighs {', '.join(self.scores)}; prepare it "
                "with the schema of the run"
            )

    @property
    def transforms(self) -> Transforms | None:
        return None if self.state is None else self.state.transforms

    @property
    def reward_weights(self) -> dict[str, float]:
        """The reward's gains and how much each counts, once fitted."""
        return self.weights

    def check(self, journeys: Journeys, split: Split | None = None) -> None:
        """UserError names what the log lacks for a fusion policy."""
        scores_of(journeys)
        for name in self.config.reward_weights or {}:
            journeys.schema.gain(name)

    def settings(self) -> dict[str, Any]:
        """What the run's config.json says of the method."""
        return {"method": self.name, "config": dataclasses.asdict(self.config)}

    def fit(
        self,
        journeys: Journeys,
        split: Split,
        run: Run | str | Path,
        progress: bool = True,
        objective: Objective | None = None,
        prepared: Prepared | None = None,
    ) -> "FuseMethod":
        """Fit on the split's training rows and leave all in the run; `prepared` saves what methods share."""
        self.check(journeys)
        if not isinstance(run, Run):
            run = Run.create(run, self.settings(), data=journeys.fingerprint, split=split.fingerprint)
        ready = prepare(journeys, split.rows("train"), self.config) if prepared is None else prepared
        self.state, self.actions, self.weights = ready.state, ready.actions, ready.weights
        lists = candidates_of(journeys)
        names = self.scores = lists.scores
        self.negative = lists.negative or tuple(name for name in names if name in NEGATIVE)
        scores = None
        if self.config.fusion == "cells" and journeys.has(f"item/score/{names[0]}"):
            starts = journeys.column("item_offsets")
            items = ragged_rows(starts[:-1][ready.rows], np.diff(starts)[ready.rows])
            items = items[:: max(1, -(-len(items) // CELL_ITEMS))]
            scores = np.stack([journeys.column(f"item/score/{n}")[items].astype(np.float64) for n in names], axis=1)
            if self.config.form == "simplex":  # as the ranker does
                scores = oriented(scores, np.array([name in self.negative for name in names]))
        self.offsets = lists.offsets or (OFFSET,) * len(names)
        self.fusion = fusion_of(self.config.fusion, self.offsets, scores)
        self.learn(ready, run, progress, objective)
        ready.state.transforms.save(run.path / "transforms.json")
        run.write_json(
            "fusion.json",
            {
                "scores": names,
                "offsets": self.offsets,
                "negative": self.negative,
                "state": ready.state.to_dict(),
                "actions": dataclasses.asdict(ready.actions),
                "reward_weights": self.weights,
                "affinity": [dataclasses.asdict(a) for a in ready.affinities],
                "cells": dataclasses.asdict(self.fusion) if isinstance(self.fusion, Cells) else None,
                "states": int(ready.states.shape[1]),
            },
        )
        return self

    def learn(self, ready: Prepared, run: Run, progress: bool, objective: Objective | None) -> None:
        """Fit the learner through the loop, and leave its weights as model.safetensors."""
        config = self.config
        learner = self.learner_type(Replay(ready.train, config.replay, ready.when), config)
        loop = LoopConfig(
            epochs=epochs(config),
            patience=None,
            checkpoint_every_steps=min(2_000, max(1, config.updates // 4)),
            log_every_steps=EPOCH,
            seed=config.seed,
            progress=progress,
        )
        self.stage = fit_stage(learner, run, "policy", loop)
        run.write_weights("model.safetensors", learner.state()[0])
        self.act = numpy_act(self._eval(learner).act)

    def restore(self, run: Run, states: int) -> Act:
        """What the policy does, from the weights of a run."""
        nothing = torch.zeros(1, states), torch.zeros(1, len(self._space.low))
        learner = self.learner_type(Replay.empty(*nothing), self.config)
        held = run.read_weights("model.safetensors")
        for name, net in learner.nets.items():
            net.load_state_dict({k.removeprefix(f"{name}/"): v for k, v in held.items() if k.startswith(f"{name}/")})
        return numpy_act(self._eval(learner).act)

    @property
    def _space(self) -> Actions:
        assert self.actions is not None  # fitted or loaded
        return self.actions

    @staticmethod
    def _eval(learner: Learner) -> Learner:
        for net in learner.nets.values():
            net.eval()
        return learner

    def policy(self) -> FusionPolicy:
        """The fitted policy over histories."""
        if self.state is None or self.actions is None or self.act is None:
            raise UserError(f"{self.name} is not fitted; call fit, or load a run")
        return FusionPolicy(self.state, self.actions, points_of(self.act, self.actions.form))

    @classmethod
    def load(cls, run: Run) -> "FuseMethod":
        """The method that a finished run holds."""
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in run.config["config"].items()}
        method = cls(cls.config_type(**values))
        told = run.read_json("fusion.json")
        transforms = Transforms.load(run.path / "transforms.json")
        method.state = State.from_dict(told["state"], transforms)
        low, high, form = (told["actions"][k] for k in ("low", "high", "form"))
        method.actions = Actions(tuple(low), tuple(high), form)
        method.weights = told["reward_weights"]
        method.scores = tuple(told["scores"])
        method.offsets = tuple(told.get("offsets", (OFFSET,) * len(method.scores)))
        method.negative = tuple(told.get("negative", (name for name in method.scores if name in NEGATIVE)))
        method.fusion = _fusion(method.config.fusion, method.offsets, told["cells"])
        method.act = method.restore(run, told["states"])
        return method


def _fusion(kind: str, offsets: tuple[float, ...], cells: dict[str, Any] | None) -> Fusion:
    if cells is None:
        return fusion_of(kind, offsets)
    return Cells(*(tuple(tuple(row) for row in cells[name]) for name in ("knots", "heights")))
