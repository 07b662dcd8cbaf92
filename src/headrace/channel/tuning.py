"""What a trial of a channel method does: fit a configuration, then measure one metric on the validation part.

The test part is not read: no view, label or statistic of the fit or of the measure is of its steps.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.channel.methods import Method, method_of
from headrace.channel.scoring import evaluate
from headrace.errors import UserError, unknown
from headrace.evaluate.targets import PREFIX, Target
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.learn.space import Changes, Space
from headrace.learn.tune import TuneConfig


@dataclass(frozen=True, slots=True)
class FitAndMeasure:
    """An objective of learn/tune.py: the metric's value, low, high and n over the validation steps."""

    data: Path  # the journeys
    method: str
    config: Mapping[str, Any]  # whole; a trial's changes go over it
    protocol: str
    seed: int
    metric: str

    def __call__(self, changes: Changes, folder: Path) -> dict[str, Any]:
        kind = method_of(self.method)
        journeys = Journeys(self.data)
        split = journeys.split(self.protocol, self.seed)
        method = kind(kind.config_type(**{**self.config, **changes}))
        settings = method.settings() | {"protocol": self.protocol, "split_seed": self.seed}
        run = Run.create(folder, settings, resume=True)
        method.fit(journeys, split, run, progress=False)
        target = target_of(self.metric, method.reward_gains)
        found = evaluate(method, journeys, split, "validation", floors=(), targets=[target]).records
        record = next((r for r in found if r["metric"] == self.metric), None)
        if record is None:
            raise unknown("metric", self.metric, [r["metric"] for r in found], str(journeys.path))
        if record["value"] is None:
            raise UserError(f"{self.metric} is refused on the validation part: {record['refused']}")
        return {key: record[key] for key in ("value", "low", "high", "n")}


WATCHED = {"action": "policy", "reward": "reward", "reward_by_channel": "reward", "reward_in_context": "reward"}
LOSSES = ("log_loss", "mse")
METRICS = tuple(f"{prefix}/{loss}" for prefix in WATCHED for loss in LOSSES if (prefix, loss) != ("action", "mse"))


def watched(metric: str) -> str:
    """The figure of each epoch's validation that tells of a metric, whatever the weights of the losses.

    >>> watched("action/log_loss"), watched("reward_in_context/log_loss")
    ('policy', 'reward')
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS, "tuning goes by a loss")
    return WATCHED[metric.partition("/")[0]]


def study_of(metric: str, kind: type[Method], trials: int, jobs: int, seed: int) -> TuneConfig:
    """How a method is searched. Trials are cut short by an epoch's figure only where that tells of the metric.

    It does not of the policy of value-based methods and MIREC: their trials are all fitted to the end.
    """
    tells = kind.epochs_tell or not metric.startswith("action/")
    found = TuneConfig(watched(metric), trials, jobs, seed)
    return found if tells else dataclasses.replace(found, prune_after=trials)


def check_metric(metric: str, kind: type[Method]) -> None:
    """UserError for a metric of gains where the method predicts none."""
    if not kind.predicts_gains and not metric.startswith("action/"):
        raise UserError(f"metric {metric}: {kind.name} predicts no gains; tune it by action/log_loss")


def target_of(metric: str, gains: tuple[str, ...]) -> Target:
    """What a metric measures: the channel, or the first gain of the reward."""
    prefix = metric.partition("/")[0]
    if prefix == "action":
        return Target("action")
    if not gains:
        raise UserError(f"metric {metric}: the log has no gain that is known in time; use action/log_loss")
    return next(t for given in PREFIX if (t := Target(gains[0], given)).prefix == prefix)


def space_of(method: str, config: Any, fixed: frozenset[str]) -> Space:
    """The method's own space, without the fields that are fixed and without weights of a loss that is off."""
    off = {"preference_weight"} if getattr(config, "preference", "none") == "none" else set()
    return {name: values for name, values in method_of(method).space.items() if name not in fixed | off}
