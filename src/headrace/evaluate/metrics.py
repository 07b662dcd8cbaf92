"""The figures of a table: what each method's predictions are worth on the same labelled steps.

Every function takes the steps and one method's predictions and returns a `Metric`: a function of how often each user
was drawn, from which value, interval and paired differences follow (bootstrap.py). Probabilities are clipped at 1e-7 in
every log loss. A figure that the steps cannot carry is refused with the reason.

n steps, M classes, G groups (users; sessions where a log has no user, rows where it has neither), R resamples, S
distinct step indices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from headrace.evaluate.bootstrap import CELLS, Metric, draws, group, interval, ratio
from headrace.journeys.seams import Bools, Floats, Integers

CLIP = 1e-7
TOP_SHARE = 0.375
BINS = 10
Kind = Literal["binary", "continuous", "classes"]


@dataclass(frozen=True, slots=True)
class Steps:
    """The labelled steps that every method of a table is scored on, each once."""

    labels: NDArray[Any]  # (n,) class index, 0/1, or a number
    kind: Kind
    classes: int = 0  # M, where kind is "classes"
    users: NDArray[Any] | None = None  # (n,) whose step it is; None: the log has no user
    index: Integers | None = None  # (n,) step index within its journey or window
    rows: Integers | None = None  # (n,) row in the journeys
    sessions: NDArray[Any] | None = None  # (n,) session of the step
    repeated: bool = False  # rows stand in several windows: only where a protocol samples them so

    def __post_init__(self) -> None:
        n = len(self.labels)
        if n == 0:
            raise ValueError("no labelled steps to score")
        for name in ("users", "index", "rows", "sessions"):
            values = getattr(self, name)
            if values is not None and len(values) != n:
                raise ValueError(f"{name}: {len(values)} values for {n} labels")
        if self.rows is not None and not self.repeated and len(np.unique(self.rows)) < n:
            raise ValueError("a labelled step stands twice among the steps; score each once")
        if not np.isfinite(np.asarray(self.labels, dtype=np.float64)).all():
            raise ValueError("labels must be finite; leave steps of unknown outcome out")
        if self.kind == "classes" and (np.min(self.labels) < 0 or np.max(self.labels) >= self.classes):
            raise ValueError(f"labels must be classes 0 to {self.classes - 1}")
        if self.kind == "binary" and not np.isin(self.labels, (0, 1)).all():
            raise ValueError("labels of a binary target must be 0 or 1")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def groups(self) -> tuple[Integers, int]:
        """The group of each step, (n,), and G: users, else sessions, else the steps themselves."""
        return group(self.session_codes if self.users is None else self.users, len(self))

    @property
    def session_codes(self) -> Integers | None:
        """(n,) a number for each session; a step without one (-1) is a session of its own. None: no sessions."""
        if self.sessions is None:
            return None
        codes = np.unique(self.sessions, return_inverse=True)[1].astype(np.int64)
        alone = np.asarray(self.sessions) == -1
        codes[alone] = len(codes) + np.arange(alone.sum())
        return codes


@dataclass(frozen=True, slots=True)
class Predicted:
    """One method's predictions for n steps: (n, M) for classes, (n,) probabilities or means otherwise."""

    values: Floats
    choice: Integers | None = None  # (n,) a point prediction that is not the largest probability
    rows: Integers | None = None  # (n,) the rows predicted, to be compared with the steps'

    def check(self, steps: Steps, method: str) -> None:
        """Raise ValueError unless these are predictions of exactly these steps."""
        shape = (len(steps), steps.classes) if steps.kind == "classes" else (len(steps),)
        if np.shape(self.values) != shape:
            raise ValueError(f"{method}: predictions of shape {np.shape(self.values)}, expected {shape}")
        if not np.isfinite(self.values).all():
            raise ValueError(f"{method}: predictions are not finite")
        if steps.kind != "continuous" and (np.min(self.values) < -1e-6 or np.max(self.values) > 1 + 1e-6):
            raise ValueError(f"{method}: probabilities outside [0, 1]")
        if steps.kind == "classes" and np.abs(np.sum(self.values, axis=1) - 1).max() > 1e-4:
            raise ValueError(f"{method}: probabilities do not sum to one")
        if self.choice is not None and np.shape(self.choice) != (len(steps),):
            raise ValueError(f"{method}: choices of shape {np.shape(self.choice)}, expected {(len(steps),)}")
        if self.rows is not None and (steps.rows is None or not np.array_equal(self.rows, steps.rows)):
            raise ValueError(f"{method}: predicted other rows than the table's")


MetricOf = Callable[[Steps, Predicted], Metric]


def losses(steps: Steps, predicted: Predicted) -> Floats:
    """(n,) minus the log probability of each label."""
    p = np.asarray(predicted.values, dtype=np.float64)
    if steps.kind == "classes":
        chosen = p[np.arange(len(steps)), np.asarray(steps.labels, dtype=np.int64)]
    else:
        chosen = np.where(np.asarray(steps.labels) == 1, p, 1 - p)
    return -np.log(np.clip(chosen, CLIP, 1 - CLIP))


def log_loss(steps: Steps, predicted: Predicted) -> Metric:
    """Mean of minus the log probability of the label."""
    return ratio(losses(steps, predicted), None, *steps.groups)


def session_log_loss(steps: Steps, predicted: Predicted) -> Metric:
    """Mean over sessions of the session's mean log loss."""
    session = steps.session_codes
    if session is None:
        return Metric(None, "the log has no sessions")
    codes, groups = steps.groups
    pairs, of_pair = np.unique(codes * (int(session.max()) + 1) + session, return_inverse=True)  # nest in users
    share = 1 / np.bincount(of_pair, minlength=len(pairs))[of_pair]  # (n,)
    return ratio(losses(steps, predicted) * share, share, codes, groups)


def mse(steps: Steps, predicted: Predicted) -> Metric:
    """Mean squared error."""
    return ratio((np.asarray(predicted.values) - np.asarray(steps.labels)) ** 2, None, *steps.groups)


def hits(steps: Steps, predicted: Predicted) -> sparse.csr_array:
    """(n, M) what was predicted: 1 at the chosen class; classes that tie for the largest probability share the 1."""
    n = len(steps)
    if predicted.choice is not None:
        columns = np.asarray(predicted.choice, dtype=np.int64)
        return sparse.csr_array((np.ones(n), (np.arange(n), columns)), shape=(n, steps.classes))
    p = np.asarray(predicted.values)
    rows, columns = np.nonzero(p == p.max(axis=1, keepdims=True))
    ties = np.bincount(rows, minlength=n)
    return sparse.csr_array((1 / ties[rows], (rows, columns)), shape=(n, steps.classes))


def accuracy(steps: Steps, predicted: Predicted) -> Metric:
    """Share of labels that were predicted; a tie of k classes counts 1/k, as drawing among them would on average."""
    labels = np.asarray(steps.labels, dtype=np.int64)
    right = np.asarray(hits(steps, predicted)[np.arange(len(steps)), labels]).ravel()
    return ratio(right, None, *steps.groups)


Average = Callable[[Floats, Floats, Floats], Floats]  # true positives, predicted, actual, each (..., M) -> (..., M)


def _f1(tp: Floats, predicted: Floats, actual: Floats) -> Floats:
    return 2 * tp / np.maximum(predicted + actual, np.finfo(float).tiny)


def _precision(tp: Floats, predicted: Floats, actual: Floats) -> Floats:
    return tp / np.where(predicted > 0, predicted, 1)


def _recall(tp: Floats, predicted: Floats, actual: Floats) -> Floats:
    return tp / np.where(actual > 0, actual, 1)


def _macro(steps: Steps, predicted: Predicted, of_class: Average, per_step: bool) -> Metric:
    """Mean over the classes that occur or were predicted; `per_step`: of each step index apart, then over those."""
    codes, groups = steps.groups
    n, m = len(steps), steps.classes
    index = np.zeros(n, dtype=np.int64)
    if per_step:
        if steps.index is None:
            return Metric(None, "step indices are not known")
        index = np.unique(steps.index, return_inverse=True)[1].astype(np.int64)
    s = int(index.max()) + 1
    labels = np.asarray(steps.labels, dtype=np.int64)
    guess = hits(steps, predicted).tocoo()
    of, column = guess.coords
    right = labels[of] == column
    rows = np.concatenate([codes[of[right]], codes[of], codes])
    cells = np.concatenate(
        [index[of[right]] * m + labels[of[right]], s * m + index[of] * m + column, 2 * s * m + index * m + labels]
    )
    weights = np.concatenate([guess.data[right], guess.data, np.ones(n)])
    sums = sparse.csr_array((weights, (cells, rows)), shape=(3 * s * m, groups))  # true positives, predicted, actual

    def draw(counts: Floats) -> Floats:
        out = np.empty(len(counts))
        chunk = max(1, CELLS // (3 * s * m))
        for start in range(0, len(counts), chunk):
            part = counts[start : start + chunk]
            tp, guessed, actual = (sums @ part.T).T.reshape(len(part), 3, s, m).transpose(1, 0, 2, 3)  # each (r, S, M)
            present = guessed + actual > 0
            with np.errstate(invalid="ignore"):
                by_step = (of_class(tp, guessed, actual) * present).sum(2) / present.sum(2)  # (r, S), NaN where none
                there = present.any(2)
                out[start : start + chunk] = np.where(there, by_step, 0).sum(1) / there.sum(1)
        return out

    return Metric(draw)


def f1_macro(steps: Steps, predicted: Predicted) -> Metric:
    """F1 of each class over all steps together, averaged over classes."""
    return _macro(steps, predicted, _f1, per_step=False)


def f1_macro_per_step(steps: Steps, predicted: Predicted) -> Metric:
    """Macro F1 of each step index apart, averaged over step indices (what MTORL's released code prints)."""
    return _macro(steps, predicted, _f1, per_step=True)


def precision_macro(steps: Steps, predicted: Predicted) -> Metric:
    """Precision of each class over all steps together, averaged over classes."""
    return _macro(steps, predicted, _precision, per_step=False)


def recall_macro(steps: Steps, predicted: Predicted) -> Metric:
    """Recall of each class over all steps together, averaged over classes."""
    return _macro(steps, predicted, _recall, per_step=False)


def auc(steps: Steps, predicted: Predicted) -> Metric:
    """Probability that a positive step scores above a negative one, ties counting half."""
    codes, _ = steps.groups
    positive = np.asarray(steps.labels) == 1
    if positive.all() or not positive.any():
        return Metric(None, f"AUC needs both classes; all {len(steps)} labels are {int(positive[0])}")
    scores = np.asarray(predicted.values)
    order = np.argsort(scores[~positive], kind="stable")
    negatives, negative_of = scores[~positive][order], codes[~positive][order]
    order = np.argsort(scores[positive], kind="stable")  # reading the sums in order is kinder to the cache
    positives, positive_of = scores[positive][order], codes[positive][order]
    below = np.searchsorted(negatives, positives, side="left")
    upto = np.searchsorted(negatives, positives, side="right")

    def draw(counts: Floats) -> Floats:
        out = np.empty(len(counts))
        chunk = max(1, CELLS // len(steps))
        for start in range(0, len(counts), chunk):
            part = counts[start : start + chunk]
            total = np.zeros((len(part), len(negatives) + 1))
            np.cumsum(part[:, negative_of], axis=1, out=total[:, 1:])
            weight = part[:, positive_of]
            wins = np.einsum("rn,rn->r", weight, total[:, below]) + np.einsum("rn,rn->r", weight, total[:, upto])
            with np.errstate(invalid="ignore"):
                out[start : start + chunk] = wins / 2 / (weight.sum(1) * total[:, -1])
        return out

    return Metric(draw)


def ctr_top_share(steps: Steps, predicted: Predicted) -> Metric:
    """Mean gain of the best 37.5 % of the steps by prediction; steps that tie at the edge are taken in part."""
    return ratio(*_top(steps, predicted), *steps.groups)


def _top(steps: Steps, predicted: Predicted) -> tuple[Floats, Floats]:
    scores = np.asarray(predicted.values)
    wanted = TOP_SHARE * len(steps)
    edge = np.sort(scores)[::-1][int(np.ceil(wanted)) - 1]
    above, at = scores > edge, scores == edge
    taken = above + at * (wanted - above.sum()) / at.sum()  # (n,) in [0, 1], sums to `wanted`
    return taken * np.asarray(steps.labels), taken


def bins_of(probabilities: Floats, bins: int = BINS) -> Integers:
    """(n,) the bin of each prediction: bins of equal mass, fewer where predictions tie."""
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1]))
    found = np.searchsorted(edges, probabilities, side="left")
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def ece(steps: Steps, predicted: Predicted) -> Metric:
    """Expected calibration error over ten bins of equal mass: mean distance of predicted and observed rate.

    Noise alone makes it positive, in a resample twice as much, so its draws are reflected about the value.
    """
    codes, groups = steps.groups
    p = np.asarray(predicted.values, dtype=np.float64)
    bins = bins_of(p)
    gap = np.zeros((groups, int(bins.max()) + 1))  # (G, bins) predicted minus observed
    np.add.at(gap, (codes, bins), p - np.asarray(steps.labels))
    size = np.bincount(codes, minlength=groups).astype(np.float64)

    def draw(counts: Floats) -> Floats:
        out: Floats = np.abs(counts @ gap).sum(1) / (counts @ size)
        return out

    return Metric(draw, reflect=True)


def calibration(
    steps: Steps, predicted: Predicted, resamples: int = 1_000, seed: int = 0
) -> list[dict[str, float | int | None]]:
    """The calibration curve: for each bin the mean prediction, the observed rate with its interval, and n."""
    codes, groups = steps.groups
    p = np.asarray(predicted.values, dtype=np.float64)
    bins = bins_of(p)
    labels = np.asarray(steps.labels, dtype=np.float64)
    inside: list[Bools] = [bins == b for b in range(int(bins.max()) + 1)]
    observed = {b: ratio(labels * here, here.astype(np.float64), codes, groups) for b, here in enumerate(inside)}
    drawn = draws(observed, groups, resamples, seed)
    curve: list[dict[str, float | int | None]] = []
    for b, here in enumerate(inside):
        found = interval(drawn[b], groups)
        curve.append(
            {
                "predicted": float(p[here].mean()),
                "observed": float(labels[here].mean()),
                "low": found.low,
                "high": found.high,
                "n": int(here.sum()),
            }
        )
    return curve


CLASS_METRICS: dict[str, MetricOf] = {
    "log_loss": log_loss,
    "accuracy": accuracy,
    "f1_macro": f1_macro,
    "f1_macro_per_step": f1_macro_per_step,
    "precision_macro": precision_macro,
    "recall_macro": recall_macro,
}
BINARY_METRICS: dict[str, MetricOf] = {"auc": auc, "log_loss": log_loss, "ece": ece, "ctr_top_share": ctr_top_share}
CONTINUOUS_METRICS: dict[str, MetricOf] = {"mse": mse}
METRICS: dict[Kind, dict[str, MetricOf]] = {
    "classes": CLASS_METRICS,
    "binary": BINARY_METRICS,
    "continuous": CONTINUOUS_METRICS,
}


def metrics_of(steps: Steps) -> dict[str, MetricOf]:
    """The metrics that a table of these steps carries; sessions add the session log loss.

    >>> list(metrics_of(Steps(np.array([0.5, 2.0]), "continuous")))
    ['mse']
    """
    found = dict(METRICS[steps.kind])
    if steps.sessions is not None and steps.kind != "continuous":
        found["session_log_loss"] = session_log_loss
    return found
