"""Calibration of logits on validation steps: a temperature for classes, a slope and a shift for a binary
or a number.

n steps, M classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """logit -> slope * logit + shift. The identity by default."""

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, logits: NDArray[Any]) -> Floats:
        return np.asarray(self.slope * np.asarray(logits, dtype=np.float64) + self.shift)


def fit_line(logits: NDArray[Any], labels: NDArray[Any], ridge: float = 1.0) -> Line:
    """Slope and shift that minimise the log loss of a binary label (Platt 1999), drawn to the identity by `ridge`.

    logits (n,), labels (n,) in {0, 1}. Without both labels present there is nothing to fit: the identity.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if len(y) == 0 or y.min() == y.max():
        return Line()

    def loss(p: Floats) -> tuple[float, Floats]:
        z = p[0] * x + p[1]
        error = expit(z) - y
        pull = p - np.array([1.0, 0.0])
        value = float(np.logaddexp(0.0, z).sum() - (y * z).sum() + 0.5 * ridge * pull @ pull)
        return value, np.array([error @ x, error.sum()]) + ridge * pull

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(1e-3, None), (None, None)])
    return Line(float(found.x[0]), float(found.x[1]))


def fit_mean(values: NDArray[Any], labels: NDArray[Any], ridge: float = 1.0) -> Line:
    """Slope (0 or more) and shift that minimise the squared error of a number, drawn to the identity by `ridge`.

    values, labels (n,): a poor prediction is drawn in to the labels' mean instead of past it.
    """
    x, y = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if len(y) == 0:
        return Line()
    dx, dy = x - x.mean(), y - y.mean()
    slope = max(float((dx @ dy + ridge) / (dx @ dx + ridge)), 0.0)
    return Line(slope, float(y.mean() - slope * x.mean()))


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The inverse temperature that minimises the log loss of a class label; logits (n, M), labels (n,)."""
    if len(labels) == 0:
        return 1.0
    x, rows = np.asarray(logits, dtype=np.float64), np.arange(len(labels))

    def loss(p: Floats) -> float:
        return -float(log_softmax(np.exp(p[0]) * x, axis=1)[rows, labels].mean())

    found = minimize(loss, np.zeros(1), method="L-BFGS-B", bounds=[(-4.0, 3.0)])
    return float(np.exp(found.x[0]))
