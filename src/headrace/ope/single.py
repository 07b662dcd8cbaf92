"""Single-step estimators: the value of a policy from feedback, each a sum of ratios of sums over rows.

With weights w = pi(a|h) / b(a|h), gains r, a model q(h, a) of the gain and q_pi = sum_a pi(a|h) q(h, a):

    ips         mean of w r
    clipped     mean of min(w, clip) r: biased towards 0, less spread
    snips       sum of w r / sum of w (Swaminathan and Joachims 2015)
    dm          mean of q_pi: as biased as the model
    dr          mean of q_pi + w (r - q): unbiased where either b or q is right (Dudik et al. 2014)
    sndr        mean of q_pi, plus sum of w (r - q) / sum of w
    switch-dr   dr where w <= switch, q_pi alone elsewhere (Wang et al. 2017)

A selector multiplies numerators and denominators: the value is then that of a step that is advertised at.

n rows, M channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.errors import UserError, unknown
from headrace.journeys.seams import Bools, Floats
from headrace.ope.feedback import Feedback
from headrace.ope.intervals import Functional, Term, ratios

WEIGHTED = ("ips", "clipped", "snips")
MODELLED = ("dm", "dr", "sndr", "switch-dr")
ESTIMATORS = (*WEIGHTED, *MODELLED)
HONEST = ("dr", "sndr", "snips", "ips")  # whose intervals leave no bias out; the first that is there is recommended


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where the biased estimators cut large weights."""

    clip: float = 10.0
    switch: float = 10.0


def recommended(estimators: Sequence[str]) -> str:
    """The one of these that a value is told by; UserError where one is unknown or none can stand alone.

    >>> recommended(["ips", "dm", "snips"])
    'snips'
    """
    for name in estimators:
        if name not in ESTIMATORS:
            raise unknown("estimator", name, ESTIMATORS)
    found = next((name for name in HONEST if name in estimators), None)
    if found is None:
        given = ", ".join(estimators) or "none"
        raise UserError(
            f"estimators: {given}, whose intervals leave out a bias of their own, so no value stands on them alone; "
            f"add one of {', '.join(HONEST)}"
        )
    return found


def terms(name: str, of: Feedback, q: Floats | None = None, thresholds: Thresholds | None = None) -> list[Term]:
    """The ratios whose sum is the estimator; q (n, M) is needed by those of MODELLED."""
    cut = Thresholds() if thresholds is None else thresholds
    s, r, w = of.select, of.reward, of.weight
    if name == "ips":
        return [Term(s * w * r, s)]
    if name == "clipped":
        return [Term(s * np.minimum(w, cut.clip) * r, s)]
    if name == "snips":
        return [Term(s * w * r, s * w)]
    if name not in MODELLED:
        raise unknown("estimator", name, ESTIMATORS)
    if q is None:
        raise ValueError(f"estimator {name} needs the gains that a model predicts, q (n, M)")
    expected = (of.policy * q).sum(axis=1)
    surprise = r - q[np.arange(len(of)), of.action]
    if name == "dm":
        return [Term(s * expected, s)]
    if name == "dr":
        return [Term(s * (expected + w * surprise), s)]
    if name == "sndr":
        return [Term(s * expected, s), Term(s * w * surprise, s * w)]
    return [Term(s * (expected + np.where(w <= cut.switch, w, 0.0) * surprise), s)]


def logged(of: Feedback, rows: Bools | None = None) -> list[Term]:
    """The mean gain of the log itself, selected or not, at every row or at some, (n,)."""
    here = np.ones(len(of)) if rows is None else rows.astype(np.float64)
    return [Term(here * of.reward, here)]


def functional(parts: Sequence[Term], of: Feedback) -> Functional:
    """The estimator as a function of how often each group is drawn."""
    return ratios(parts, of.codes, of.groups)


def difference(a: Sequence[Term], b: Sequence[Term], of: Feedback) -> Functional:
    """The paired difference of two estimators of the same rows."""
    return ratios([*a, *(Term(t.numerator, t.denominator, -t.sign) for t in b)], of.codes, of.groups)
