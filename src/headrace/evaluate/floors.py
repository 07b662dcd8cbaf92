"""The floors of every table: what anybody gets without learning a network, on the very steps of the table.

    uniform, prior, majority    nothing of the user
    repeat-last                 the user's last channel (or outcome)
    past-frequencies            the user's past shares
    past-rate                   the user's past mean gain
    markov                      the shares after the last channel, in training
    look-up                     what training steps with exactly the same past had: high only where rows leak
    logged                      the policy that made the log, where its propensities give it
    logistic, trees             fitted on the table of floor_features.py (linear regression where gains are continuous)

Fitted on a split's training steps; what blends a floor with the prior (a weight, or a strength) is fitted on its
validation steps. A first step, of which no past is known, falls back to the prior. Where a floor is a point prediction
its choice counts in accuracy and F1, its blend with the prior in log loss.

n rows, M classes (channels, or outcomes of a gain of classes).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from headrace.errors import UserError, unknown
from headrace.evaluate.floor_features import Table, Tables, check_same_schema, given, last_value, past_counts, past_sums
from headrace.evaluate.floor_models import fit_lightgbm, fit_logistic, fit_trees
from headrace.evaluate.floor_names import CLASS_FLOORS, GAIN_FLOORS
from headrace.evaluate.metrics import CLIP, Predicted
from headrace.evaluate.targets import Target
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Array, Journeys
from headrace.journeys.views import known_for_training

STRENGTHS = np.logspace(-3, 4, 57)  # of the prior, in steps
WEIGHTS = np.linspace(0, 1, 101)  # of a point prediction
LEARNING_STEPS = 200_000  # training steps, of users drawn at random, that the fitted models take at most
VALIDATION_STEPS = 100_000  # the same of validation, for all floors
PREDICT_STEPS = 200_000  # at a time
Answer = Callable[[Journeys, Integers], Predicted]


@dataclass(frozen=True, slots=True)
class Floor:
    """A fitted floor: predicts any rows of the log it was fitted on, or of another of the same schema."""

    name: str
    journeys: Journeys
    answer: Answer

    def predicted(self, rows: Array, journeys: Journeys | None = None) -> Predicted:
        """The predictions of these rows, with the point predictions where the floor makes such."""
        log = self.journeys if journeys is None else journeys
        if log is not self.journeys:
            check_same_schema(self.journeys, log)
        rows = np.asarray(rows, dtype=np.int64)
        parts = [self.answer(log, rows[k : k + PREDICT_STEPS]) for k in range(0, max(len(rows), 1), PREDICT_STEPS)]
        choices = [p.choice for p in parts if p.choice is not None]
        values = np.concatenate([p.values for p in parts])
        return Predicted(values, np.concatenate(choices) if choices else None, rows)

    def predict(self, rows: Array, journeys: Journeys | None = None) -> Floats:
        """(n, M) probabilities of classes; (n,) probabilities of a binary gain, or means of a continuous one."""
        return self.predicted(rows, journeys).values


@dataclass(frozen=True, slots=True)
class Task:
    """What a floor is fitted on."""

    journeys: Journeys
    target: Target
    train: Integers
    validation: Integers
    seed: int
    tables: Tables
    classes: int  # M; 0: a binary or continuous gain
    labels: NDArray[np.generic]  # of train
    validation_labels: NDArray[np.generic]
    prior: Floats  # (M,), or (1,) the mean

    @property
    def gain(self) -> str | None:
        return None if self.target.name == "action" else self.target.name

    @property
    def binary(self) -> bool:
        return self.target.kind(self.journeys) == "binary"

    def table(self, journeys: Journeys, rows: Integers) -> Table:
        return given(self.tables.of(journeys, rows), self.target.given)

    def loss(self, p: Floats, labels: NDArray[np.generic]) -> float:
        """Mean log loss of classes or of a binary gain, mean squared error of a continuous one."""
        if self.classes:
            p = p[np.arange(len(p)), labels.astype(np.int64)]
        elif self.binary:
            p = np.where(labels == 1, p, 1 - p)
        else:
            return float(np.mean((p - labels.astype(np.float64)) ** 2))
        return float(-np.log(np.clip(p, CLIP, 1 - CLIP)).mean())


Fitter = Callable[[Task], Answer | str]


def fit_floors(
    journeys: Journeys,
    split: Split,
    targets: Sequence[Target],
    names: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[Target, dict[str, Floor | str]]:
    """For each target its floors by name; a string in a floor's place is the reason why there is none.

    `names` picks among those of the target's kind (`names_of`) and may add "lightgbm". `progress` is told what is next.
    """
    tables = Tables(journeys)
    found: dict[Target, dict[str, Floor | str]] = {}
    for target in targets:
        task = _task(journeys, split, target, seed, tables)
        known = floors_of(target, journeys)
        found[target] = {}
        for name in names_of(target, journeys) if names is None else names:
            if name not in known:
                if name in FITTERS:
                    continue  # a floor of another kind of target
                raise unknown("floor", name, known)
            if progress is not None:
                progress(f"{target.prefix}: {name}")
            answer = known[name](task)
            found[target][name] = answer if isinstance(answer, str) else Floor(name, journeys, answer)
    return found


def predict_floors(
    floors: Mapping[str, Floor | str], rows: Array, journeys: Journeys | None = None
) -> dict[str, Predicted | str]:
    """Every floor's predictions of the same rows, for `results.score`."""
    return {name: f if isinstance(f, str) else f.predicted(rows, journeys) for name, f in floors.items()}


def _task(journeys: Journeys, split: Split, target: Target, seed: int, tables: Tables) -> Task:
    rows = {}
    for part in ("train", "validation"):
        rows[part] = split.rows(part)
        rows[part] = rows[part][target.known(journeys, rows[part])]
        if part == "train" and target.name != "action":
            rows[part] = rows[part][known_for_training(journeys, split, target.name)[rows[part]]]
        if len(rows[part]) == 0:
            raise UserError(
                f"{journeys.path}: no {part} step with a known {target.name} under protocol {split.protocol}; "
                "floors need some, choose another gain or protocol"
            )
    rows["validation"] = _some_users(journeys, rows["validation"], VALIDATION_STEPS, seed)
    labels = target.labels(journeys, rows["train"])
    m = target.classes(journeys)
    if m:
        prior = (np.bincount(labels, minlength=m) + 1 / m) / (len(labels) + 1)
    else:
        prior = np.array([labels.mean()])
    validation_labels = target.labels(journeys, rows["validation"])
    return Task(journeys, target, rows["train"], rows["validation"], seed, tables, m, labels, validation_labels, prior)


def shrink(counts: Floats, prior: Floats, strength: float) -> Floats:
    """(n, M) shares of counts, as if `strength` more had been met that look like the prior.

    >>> shrink(np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([0.5, 0.5]), strength=1.0).tolist()
    [[0.875, 0.125], [0.5, 0.5]]
    """
    out: Floats = (counts + strength * prior) / (counts.sum(axis=1, keepdims=True) + strength)
    return out


def shrunk_mean(number: Floats, total: Floats, mean: float, strength: float) -> Floats:
    """(n,) means of past gains, as if `strength` more of the mean had been met."""
    return (total + strength * mean) / (number + strength)


def _constant(task: Task, prior: Floats, n: int) -> Floats:
    return np.repeat(prior[None], n, axis=0) if task.classes else np.full(n, prior[0])


def _uniform(task: Task) -> Answer | str:
    return lambda _, rows: Predicted(_constant(task, np.full(task.classes, 1 / task.classes), len(rows)))


def _prior(task: Task) -> Answer | str:
    return lambda _, rows: Predicted(_constant(task, task.prior, len(rows)))


def _majority(task: Task) -> Answer | str:
    best = int(task.prior.argmax())
    return _blended(task, lambda _, rows: np.full(len(rows), best, dtype=np.int64))


def _repeat_last(task: Task) -> Answer | str:
    if not _input(task):
        return _NEVER
    return _blended(task, lambda journeys, rows: last_value(journeys, rows, task.gain))


def _blended(task: Task, point: Callable[[Journeys, Integers], Integers]) -> Answer:
    """The prior with some weight on a point prediction (-1: none); the weight is fitted on validation."""

    def blend(points: Integers, weight: float) -> Floats:
        out = _constant(task, task.prior, len(points))
        there = np.flatnonzero(points >= 0)
        out[there] *= 1 - weight
        out[there, points[there]] += weight
        return out

    points = point(task.journeys, task.validation)
    weight = min((float(w) for w in WEIGHTS), key=lambda w: task.loss(blend(points, w), task.validation_labels))

    def answer(journeys: Journeys, rows: Integers) -> Predicted:
        points = point(journeys, rows)
        return Predicted(blend(points, weight), np.where(points >= 0, points, task.prior.argmax()))

    return answer


def _shrunk(task: Task, counts: Callable[[Journeys, Integers], Floats]) -> Answer:
    """Shares of counts (n, M), shrunk to the prior with a strength fitted on validation."""
    seen = counts(task.journeys, task.validation)
    strength = _strength(task, lambda a: shrink(seen, task.prior, a))

    def answer(journeys: Journeys, rows: Integers) -> Predicted:
        met = counts(journeys, rows)
        return Predicted(shrink(met, task.prior, strength), (met + 1e-6 * task.prior).argmax(axis=1))

    return answer


def _shrunk_mean(task: Task, sums: Callable[[Journeys, Integers], tuple[Floats, Floats]]) -> Answer:
    """Means of sums (n,), (n,), shrunk to the mean with a strength fitted on validation."""
    mean = float(task.prior[0])
    seen = sums(task.journeys, task.validation)
    strength = _strength(task, lambda a: shrunk_mean(*seen, mean, a))
    return lambda journeys, rows: Predicted(shrunk_mean(*sums(journeys, rows), mean, strength))


def _strength(task: Task, predict: Callable[[float], Floats]) -> float:
    return min((float(a) for a in STRENGTHS), key=lambda a: task.loss(predict(a), task.validation_labels))


_NEVER = "the gain is known = 'never' (a label only): its past may not be used"


def _input(task: Task) -> bool:
    """Whether the past of the target may be an input."""
    return task.gain is None or task.journeys.schema.gain(task.gain).known != "never"


def _past_frequencies(task: Task) -> Answer | str:
    if not _input(task):
        return _NEVER
    return _shrunk(task, lambda journeys, rows: past_counts(journeys, rows, task.classes, task.gain))


def _past_rate(task: Task) -> Answer | str:
    if not _input(task):
        return _NEVER
    return _shrunk_mean(task, lambda journeys, rows: past_sums(journeys, rows, task.target.name))


def _markov(task: Task) -> Answer | str:
    if not _input(task):
        return _NEVER
    m = task.classes
    before = last_value(task.journeys, task.train, task.gain)
    after = np.zeros((m + 1, m))  # the last row stays empty: no past
    np.add.at(after, (before[before >= 0], task.labels[before >= 0].astype(np.int64)), 1)
    return _shrunk(task, lambda journeys, rows: after[last_value(journeys, rows, task.gain)])


def _look_up(task: Task) -> Answer | str:
    keys = _keys(task, task.journeys, task.train)
    known, entry = np.unique(keys, return_inverse=True)
    k = len(known)

    def find(journeys: Journeys, rows: Integers) -> Integers:
        """The entry of each row, k where there is none."""
        asked = _keys(task, journeys, rows)
        at = np.minimum(np.searchsorted(known, asked), k - 1)
        return np.where(known[at] == asked, at, k)

    if task.classes:
        pairs = (np.ones(len(entry)), (entry, task.labels.astype(np.int64)))
        counts = sparse.csr_array(pairs, shape=(k + 1, task.classes))
        return _shrunk(task, lambda journeys, rows: np.asarray(counts[find(journeys, rows)].toarray()))
    number: Floats = np.bincount(entry, minlength=k + 1).astype(np.float64)
    total: Floats = np.bincount(entry, weights=task.labels.astype(np.float64), minlength=k + 1).astype(np.float64)

    def sums(journeys: Journeys, rows: Integers) -> tuple[Floats, Floats]:
        at = find(journeys, rows)
        return number[at], total[at]

    return _shrunk_mean(task, sums)


def _keys(task: Task, journeys: Journeys, rows: Integers) -> NDArray[np.uint64]:
    """(n,) a 64-bit digest of everything that is known of each row but its running counts."""
    if len(rows) > PREDICT_STEPS:
        return np.concatenate(
            [_keys(task, journeys, rows[k : k + PREDICT_STEPS]) for k in range(0, len(rows), PREDICT_STEPS)]
        )
    table = task.table(journeys, rows)
    key = np.zeros(len(rows), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for name in sorted(n for n, c in table.items() if not c.running):
            bits = (np.where(np.isnan(table[name].values), np.nan, table[name].values) + 0.0).view(np.uint64)
            key = (key ^ bits) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
    return key


def _logged(task: Task) -> Answer | str:
    journeys = task.journeys
    if not journeys.has("propensity"):
        return "the log holds no propensities"
    missing = int(np.isnan(journeys.column("propensity")).sum())
    if missing:
        return f"the log holds no propensity at {missing:,} of its {journeys.n_steps:,} steps"
    p = np.asarray(journeys.column("propensity")[task.train], dtype=np.float64)
    labels = task.labels.astype(np.int64)
    if task.classes == 2:

        def other(log: Journeys, rows: Integers) -> Predicted:
            chosen = np.asarray(log.column("propensity")[rows], dtype=np.float64)
            first = np.where(np.asarray(log.channel[rows]) == 0, chosen, 1 - chosen)
            first = np.where(np.isnan(first), task.prior[0], first)  # in another log
            return Predicted(np.stack([first, 1 - first], axis=1))

        return other
    mean = np.bincount(labels, weights=p, minlength=task.classes) / np.maximum(
        np.bincount(labels, minlength=task.classes), 1
    )
    if np.abs(p - mean[labels]).max() > 1e-6 or abs(mean.sum() - 1) > 1e-3:
        return "only the logged channel's propensity is in the log; those of the other channels do not follow from it"
    return lambda _, rows: Predicted(_constant(task, mean / mean.sum(), len(rows)))


def _learnt(fit: Callable[..., Callable[[Table], Floats]]) -> Fitter:
    return lambda task: _learn(task, fit)


def _learn(task: Task, fit: Callable[..., Callable[[Table], Floats]]) -> Answer:
    train = _some_users(task.journeys, task.train, LEARNING_STEPS, task.seed)
    labels = task.target.labels(task.journeys, train)
    predict = fit(
        task.table(task.journeys, train),
        labels,
        task.table(task.journeys, task.validation),
        task.validation_labels,
        task.target.kind(task.journeys),
        task.classes,
        task.seed,
    )

    def answer(journeys: Journeys, rows: Integers) -> Predicted:
        return Predicted(predict(task.table(journeys, rows)))

    return answer


def lightgbm_of(
    journeys: Journeys, split: Split, target: Target, seed: int = 0
) -> Callable[[Mapping[str, float]], tuple[Floor, float]]:
    """A function from LightGBM's parameters to the floor fitted with them and its loss on the validation steps."""
    task = _task(journeys, split, target, seed, Tables(journeys))

    def fit(parameters: Mapping[str, float]) -> tuple[Floor, float]:
        answer = _learn(task, partial(fit_lightgbm, parameters=parameters))
        loss = task.loss(answer(journeys, task.validation).values, task.validation_labels)
        return Floor("lightgbm", journeys, answer), loss

    return fit


def _some_users(journeys: Journeys, rows: Integers, most: int, seed: int) -> Integers:
    """The rows of users drawn at random, about `most` rows; all of them where they are no more."""
    if len(rows) <= most:
        return rows
    users, of_row, counts = np.unique(journeys.user_of_step[rows], return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(users))
    drawn = np.cumsum(counts[order])
    chosen = np.zeros(len(users), dtype=np.bool_)
    chosen[order[: max(1, int((drawn <= most).sum()))]] = True
    found: Integers = rows[chosen[of_row]]
    return found


FITTERS: dict[str, Fitter] = {
    "uniform": _uniform,
    "prior": _prior,
    "majority": _majority,
    "repeat-last": _repeat_last,
    "past-frequencies": _past_frequencies,
    "past-rate": _past_rate,
    "markov": _markov,
    "look-up": _look_up,
    "logged": _logged,
    "logistic": _learnt(fit_logistic),
    "trees": _learnt(fit_trees),
    "lightgbm": _learnt(fit_lightgbm),
}


def floors_of(target: Target, journeys: Journeys) -> dict[str, Fitter]:
    """The floors that a target of this kind can have."""
    names = CLASS_FLOORS if target.kind(journeys) == "classes" else GAIN_FLOORS
    return {name: FITTERS[name] for name in names if name != "logged" or target.name == "action"}


def names_of(target: Target, journeys: Journeys) -> tuple[str, ...]:
    """The floors that stand in a table of this target unless others are asked for."""
    return tuple(name for name in floors_of(target, journeys) if name != "lightgbm")
