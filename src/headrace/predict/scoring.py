"""What fitted models are worth: AUC, log loss, session log loss and calibration of each task, beside the floors.

    prior       the task's rate in training
    logistic    regression on the same features
    trees       boosted trees on the same features; lightgbm: the same by LightGBM

The floors are given the very ids and numbers that the models are given. A session here is what the run calls one.

n rows, K tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from headrace.errors import UserError, unknown
from headrace.evaluate import floor_features, floor_models
from headrace.evaluate.metrics import Kind, Predicted, Steps, calibration
from headrace.evaluate.results import Evaluation, Record, Source, score
from headrace.journeys.onward import unseen
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.predict.features import Features, statistics
from headrace.predict.sessions import Rule
from headrace.predict.table import Table, table
from headrace.predict.tasks import Task

FLOORS: dict[str, Callable[..., Callable[[floor_features.Table], Floats]] | None] = {
    "prior": None,
    "logistic": floor_models.fit_logistic,
    "trees": floor_models.fit_trees,
    "lightgbm": floor_models.fit_lightgbm,
}
DEFAULT = ("prior", "trees")
LEARNING_ROWS = 200_000  # training rows that the fitted floors take at most


class PredictMethod(Protocol):
    """What scoring needs of a method."""

    features: Features | None
    config: Any

    @property
    def label(self) -> str: ...

    def predict_table(self, part: Table, rows: Integers) -> Floats: ...


def evaluate(
    method: PredictMethod,
    journeys: Journeys,
    split: Split,
    part: str = "test",
    other: Journeys | None = None,
    dataset: str | None = None,
    leaky: bool = False,
    floors: Sequence[str] | None = None,
    seed: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score a method and the floors on a part of its split, or on `other`, a log of the same schema (part "other").

    Of `other` only rows of users that training never saw are scored. Floors are fitted on the split's training rows.
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
    for name, (steps, found) in predict_all([method], journeys, split, part, other, floors, progress).items():
        records += score(source, name, steps, found, [method.label], seed=split.seed).records
        ours = found[method.label]
        if steps.kind == "binary" and isinstance(ours, Predicted):
            curves[name] = calibration(steps, ours)
    return Evaluation(records, curves)


def predict_all(
    methods: Sequence[PredictMethod],
    journeys: Journeys,
    split: Split,
    part: str = "test",
    other: Journeys | None = None,
    floors: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, tuple[Steps, dict[str, Predicted | str]]]:
    """For each task its labelled rows, and the predictions of every method and floor. The methods share features."""
    features, config = methods[0].features, methods[0].config
    assert features is not None
    log = journeys if other is None else other
    features.transforms.fits(log)
    rows = split.rows(part) if other is None else np.flatnonzero(unseen(journeys, split, other))
    if not len(rows):
        raise UserError(f"{log.path}: no row to evaluate; give a log with users that training did not see")
    tables = Tables(journeys, log, features, config.session, config.session_gap_minutes)
    held = tables.of(rows, other is not None)
    rows, session = held.rows, held.session
    chances = {m.label: m.predict_table(held, rows) for m in methods}
    wanted = DEFAULT if floors is None else tuple(floors)
    learnt = fit_floors(tables, split, wanted, progress) if wanted else {}
    found = {}
    for k, task in enumerate(features.tasks):
        labels = task.labels(log, rows)
        known = ~np.isnan(labels)
        if not known.any():
            continue
        kept = rows[known]
        users = None if log.schema.user is None else log.users_of(kept)
        steps = Steps(labels[known], kind_of(task), users=users, rows=kept, sessions=session[known])
        table: dict[str, Predicted | str] = {m: Predicted(p[known, k], rows=kept) for m, p in chances.items()}
        for name, floor in learnt.get(task.name, {}).items():
            table[name] = Predicted(np.clip(floor(tables.columns(held)), 0, 1)[known], rows=kept)
        found[task.name] = steps, table
    return found


def kind_of(task: Task) -> Kind:
    return "binary" if task.is_binary else "continuous"


class Tables:
    """Encoded rows of the log that was trained on and of the one that is measured, their statistics made once."""

    def __init__(self, journeys: Journeys, log: Journeys, features: Features, rule: Rule, gap_minutes: float):
        self.journeys, self.log, self.features, self.rule, self.gap = journeys, log, features, rule, gap_minutes
        self._so_far: dict[bool, Any] = {}

    def of(self, rows: Integers, measured: bool, split: Split | None = None) -> Table:
        log = self.log if measured else self.journeys
        if measured not in self._so_far:
            self._so_far[measured] = statistics(log, self.features.keys, self.features.gains)
        return table(log, rows, self.features, self._so_far[measured], self.rule, self.gap, split)

    def columns(self, held: Table) -> floor_features.Table:
        """What the floors are given: the same ids and numbers."""
        ids, numbers = self.features.names
        column = floor_features.Column
        found = {n: column(held.ids[:, i].cpu().numpy().astype(np.float64), "category") for i, n in enumerate(ids)}
        return found | {n: column(held.numbers[:, i].cpu().numpy().astype(np.float64)) for i, n in enumerate(numbers)}


def fit_floors(
    tables: Tables, split: Split, names: Sequence[str], progress: Callable[[str], None] | None = None
) -> dict[str, dict[str, Callable[[floor_features.Table], Floats]]]:
    """For each task its floors by name, fitted on the training rows and stopped on the validation rows."""
    for name in names:
        if name not in FLOORS:
            raise unknown("floor", name, FLOORS)
    found: dict[str, dict[str, Callable[[floor_features.Table], Floats]]] = {}
    parts = {p: tables.of(split.rows(p), False, split if p == "train" else None) for p in ("train", "validation")}
    drawn = np.random.default_rng(split.seed).permutation(len(parts["train"]))[:LEARNING_ROWS]
    columns = {p: tables.columns(held) for p, held in parts.items()} if set(names) - {"prior"} else {}
    for k, task in enumerate(tables.features.tasks):
        labels = {p: held.labels[:, k].cpu().numpy().astype(np.float64).copy() for p, held in parts.items()}
        known = {p: held.known[:, k].cpu().numpy() == 1 for p, held in parts.items()}
        chosen = {"train": drawn[known["train"][drawn]], "validation": np.flatnonzero(known["validation"])}
        found[task.name] = {}
        for name in names:
            if progress is not None:
                progress(f"{task.name}: {name}")
            fit = FLOORS[name]
            if fit is None:
                found[task.name][name] = _prior(float(labels["train"][known["train"]].mean()))
                continue
            given = [(floor_rows(columns[p], at), labels[p][at]) for p, at in chosen.items()]
            found[task.name][name] = fit(*given[0], *given[1], kind_of(task), 0, split.seed)
    return found


def _prior(mean: float) -> Callable[[floor_features.Table], Floats]:
    return lambda table: np.full(len(next(iter(table.values())).values), mean)


def floor_rows(table: Mapping[str, floor_features.Column], at: Integers) -> floor_features.Table:
    """Some rows of a floor's table."""
    return {name: floor_features.Column(c.values[at], c.kind) for name, c in table.items()}
