"""What a fitted channel method is worth as a predictor, beside every floor on the same steps.

n labelled steps, M channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from headrace.channel.predictions import Predictions
from headrace.errors import UserError
from headrace.evaluate.floors import fit_floors, predict_floors
from headrace.evaluate.metrics import Predicted, Steps, calibration
from headrace.evaluate.results import Evaluation, Record, Source, score
from headrace.evaluate.targets import Target, pad_classes, steps_of
from headrace.journeys.onward import unseen
from headrace.journeys.seams import Bools, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.views import View, view


class Rewarded(Protocol):
    """The gains of a method's reward."""

    @property
    def reward_gains(self) -> tuple[str, ...]: ...


class ChannelMethod(Rewarded, Protocol):
    """What scoring needs of a method."""

    name: str
    predicts_gains: bool

    @property
    def length(self) -> int | None: ...

    def predict(self, journeys: Journeys, labels: Bools | View) -> Predictions: ...


def evaluate(
    method: ChannelMethod,
    journeys: Journeys,
    split: Split,
    part: str = "test",
    other: Journeys | None = None,
    dataset: str | None = None,
    leaky: bool = False,
    floors: Sequence[str] | None = None,
    seed: int | None = None,
    progress: Callable[[str], None] | None = None,
    targets: Sequence[Target] | None = None,
) -> Evaluation:
    """Score a method and the floors on a part of its split, or on `other`, a log of the same schema (part "other").

    Of `other` only the steps of users that training never saw are scored; where the journeys of the training are gone
    ( `journeys is other` ), the users whose id a split by users would not have put into training.
    Floors are fitted on the split's training steps. `floors` names those wanted; () for none. Metrics carry the
    target's prefix; the reward's gains are scored in all three conditionings, other gains before the decision;
    `targets` asks for these alone.
    """
    log = journeys if other is None else other
    source = Source(
        dataset or log.schema.name,
        split.protocol,
        part if other is None else "other",
        seed if seed is not None else split.seed,
        leaky=leaky,
    )
    records: list[Record] = []
    curves: dict[str, list[dict[str, Any]]] = {}
    predicted = predict_all(method, journeys, split, part, other, floors, progress, targets)
    for target, (steps, table) in predicted.items():
        found = score(source_of(source, target, method), target.prefix, steps, table, [method.name], seed=split.seed)
        records += found.records
        ours = table[method.name]
        if steps.kind == "binary" and isinstance(ours, Predicted):
            curves[f"{target.prefix}/{target.name}"] = calibration(steps, ours)
    return Evaluation(records, curves)


def predict_all(
    method: ChannelMethod,
    journeys: Journeys,
    split: Split,
    part: str = "test",
    other: Journeys | None = None,
    floors: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
    targets: Sequence[Target] | None = None,
) -> dict[Target, tuple[Steps, dict[str, Predicted | str]]]:
    """For each target the steps that `evaluate` scores, and the predictions of the method and of every floor."""
    log = journeys if other is None else other
    index = None
    if other is not None:
        labels = unseen(journeys, split, other)
        if not labels.any():
            raise UserError(f"{other.path}: all of its users are training users of the run; give users it never saw")
        steps_view = View(other, labels, method.length, cut="exact")
        part = "other"
    else:
        steps_view = view(journeys, split, part, method.length, cut="exact")
    predictions = method.predict(log, steps_view)
    rows = predictions.rows
    if split.windows is not None and other is None:
        index = np.arange(len(rows)) % (split.window_length or 1)
    if not len(rows):
        raise UserError(f"{log.path}: no step to evaluate in part {part}")
    found: dict[Target, tuple[Steps, dict[str, Predicted | str]]] = {}
    for target in wanted(method, log) if targets is None else targets:
        if not target.known(log, rows).any():
            continue
        values = outcome(predictions, target, log, target.known(log, rows))
        classes = max(target.classes(log), values.shape[1]) if values.ndim == 2 else 0
        steps = steps_of(log, rows, target, index, classes)
        ours = Predicted(pad_classes(values, classes) if classes else values, rows=steps.rows)
        table: dict[str, Predicted | str] = {method.name: ours}
        if floors is None or len(floors):
            fitted = fit_floors(journeys, split, [target], floors, split.seed, progress)[target]
            assert steps.rows is not None
            table |= predict_floors(fitted, steps.rows, other)
        found[target] = steps, table
    return found


def wanted(method: ChannelMethod, journeys: Journeys) -> list[Target]:
    """The targets of a table: the channel, the reward's gains in three conditionings, other gains in the first.

    Of a method that predicts no gains the channel alone: a value is no forecast that an outcome could be held against.
    """
    found = [Target("action")] if journeys.schema.channel is not None else []
    if not method.predicts_gains:
        return found
    for gain in journeys.schema.gains:
        if gain.name in method.reward_gains:
            found += [Target(gain.name), Target(gain.name, "channel"), Target(gain.name, "context")]
        else:
            found.append(Target(gain.name))
    return found


def source_of(source: Source, target: Target, method: Rewarded) -> Source:
    """Gains other than the reward's first carry their name as setting."""
    if target.name == "action" or target.name == next(iter(method.reward_gains), None):
        return source
    setting = source.setting | {"gain": target.name}
    return Source(source.dataset, source.protocol, source.part, source.seed, setting, source.leaky)


def outcome(predictions: Predictions, target: Target, log: Journeys, known: Bools) -> Any:
    """What is predicted of a target at the steps whose outcome is known: (n,), or (n, M) of classes."""
    if target.name == "action":
        return predictions.action
    if target.given == "before":
        values = predictions.reward[target.name]
    elif target.given == "context":
        values = predictions.reward_in_context[target.name]
    else:
        chosen: Integers = np.asarray(log.channel)[predictions.rows].astype(np.int64)
        values = predictions.reward_by_channel[target.name][np.arange(len(chosen)), chosen]
    return values[known]
