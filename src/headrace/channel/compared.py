"""The figures of a comparison of channel methods on single steps: of the channel, of the gains, and of imitation.

Each learnt method is compared with the reference, all of them one family of Holm's correction in each metric, and with
every floor.

n rows, M channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.channel.comparing import Kept, Setting, floor_of
from headrace.channel.predictions import Predictions
from headrace.channel.scoring import outcome, source_of
from headrace.errors import UserError
from headrace.evaluate.bootstrap import Metric, ratio
from headrace.evaluate.comparison import Scored, compare
from headrace.evaluate.floor_names import FLOORS
from headrace.evaluate.metrics import MetricOf, Predicted, Steps, hits
from headrace.evaluate.results import Record, Source
from headrace.evaluate.targets import Target, pad_classes, steps_of
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.statistics import gain_values

FIGURES = ("auc", "log_loss", "mse", "accuracy", "f1_macro", "f1_macro_per_step", "precision_macro", "recall_macro")
HEADS = {"before": "reward", "channel": "reward_by_channel", "context": "reward_in_context"}
Found = Mapping[tuple[str, int], Kept]


@dataclass(slots=True)
class Compared:
    """The records of results.json, and the p-values of differences after Holm: metric, setting, method, against, p."""

    records: list[Record] = field(default_factory=list)
    p_values: list[tuple[Any, ...]] = field(default_factory=list)


def targets_of(found: Found) -> list[Target]:
    """The channel, and the reward's gains in three conditionings."""
    gains = next(iter(found.values())).reward_gains
    return [Target("action"), *(Target(gain, given) for gain in gains for given in ("before", "channel", "context"))]


def rows_of(found: Found) -> Integers:
    """(n,) the rows of the test part, the same in every cell."""
    cells = list(found.values())
    rows: Integers = cells[0].part("test").rows
    for cell in cells[1:]:
        if not np.array_equal(cell.part("test").rows, rows):
            raise UserError(f"{cell.run.path}: predicts other rows than {cells[0].run.path}; remove it, and go on")
    return rows


def predicts(found: Predictions, target: Target) -> bool:
    """Whether a method says anything of a target."""
    return target.name == "action" or target.name in getattr(found, HEADS[target.given])


def figures(
    setting: Setting, found: Found, floors: Sequence[str], reference: str, source: Source, targets: Sequence[Target]
) -> Compared:
    """Everything that is scored on single steps."""
    journeys, split = setting.journeys, setting.split
    rows, made = rows_of(found), Compared()
    index = None if split.windows is None else np.arange(len(rows)) % (split.window_length or 1)
    tests = {key: cell.part("test") for key, cell in found.items()}
    first = next(iter(found.values()))

    for target in targets:
        known = target.known(journeys, rows)
        held: dict[str, list[Floats]] = {}
        for (name, _), predictions in tests.items():
            if predicts(predictions, target):
                held.setdefault(name, []).append(outcome(predictions, target, journeys, known))
        if not held or not known.any():
            continue
        values = next(iter(held.values()))[0]
        classes = max(target.classes(journeys), values.shape[1]) if values.ndim == 2 else 0
        steps = steps_of(journeys, rows, target, index, classes)
        assert steps.rows is not None
        methods: dict[str, list[Predicted | str]] = {
            name: [Predicted(pad_classes(v, classes) if classes else v, rows=steps.rows) for v in of_seeds]
            for name, of_seeds in held.items()
        }
        for name in floors:
            floor = floor_of(setting, name, target, steps.rows)
            if floor is not None:
                methods[name] = [floor]
        own = source_of(source, target, first)
        add(made, own, {target.prefix: (steps, methods)}, reference, split.seed)
        if target.name == "action" and first.reward_weights:
            imitated = {"imitation_reward": imitation(rewards(setting, first, steps.rows))}
            add(made, source, {"": (steps, methods)}, reference, split.seed, imitated)
    return made


def add(
    made: Compared,
    source: Source,
    scored: Scored,
    reference: str,
    seed: int,
    functions: Mapping[str, MetricOf] | None = None,
) -> None:
    """Score methods on the same rows, each compared with the reference and with every floor, and add that up."""

    def against(method: str, names: Sequence[str]) -> list[str]:
        if method in FLOORS:
            return []
        return [other for other in names if other != method and (other == reference or other in FLOORS)]

    def family(metric: str, method: str, other: str) -> tuple[str, str]:
        return metric, reference if other == reference else method

    records, p_values = compare(source, scored, against, FIGURES, seed, family, functions)
    made.records += records
    made.p_values += [(metric, source.setting, *pair, p) for (metric, *pair), p in p_values.items()]


def rewards(setting: Setting, cell: Kept, rows: Integers) -> Floats:
    """(n,) the reward of each row's step in the scale of (3), NaN where it is not known: the gain, penalised where that
    is asked for. The cell tells which; it is the same of every method."""
    journeys = setting.journeys

    def raw(at: Integers) -> Floats:
        total = np.zeros(len(at))
        for name, weight in cell.reward_weights.items():
            total += weight * gain_values(journeys.schema.gain(name), np.asarray(journeys.gain(name))[at])
        return total - cell.penalty * np.asarray(journeys.column("cost"))[at] if cell.penalty else total

    train = raw(setting.split.rows("train"))
    known = train[~np.isnan(train)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return np.clip((raw(rows) - low) / max(high - low, 1e-12), 0.0, 1.0)


def imitation(reward: Floats) -> MetricOf:
    """The paper's average reward (Table 3): the mean over steps of the logged reward where the method's most probable

    channel is the logged one, else 0. It rewards imitation, so it is no value of a policy. `reward` (n,), NaN where it
    is not known: such steps are left out.

    >>> steps = Steps(np.array([0, 1, 1]), "classes", 2)
    >>> found = imitation(np.array([0.5, 1.0, 1.0]))(steps, Predicted(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])))
    >>> found.draw(np.ones((1, 3))).tolist()
    [0.5]
    """
    known = ~np.isnan(reward)

    def metric(steps: Steps, predicted: Predicted) -> Metric:
        labels = np.asarray(steps.labels, dtype=np.int64)
        right = np.asarray(hits(steps, predicted)[np.arange(len(steps)), labels]).ravel()
        return ratio(np.where(known, reward, 0.0) * right, known.astype(np.float64), *steps.groups)

    return metric
