"""Whom to advertise to: steps whose score lies above a threshold that was fixed before any of them was seen.

So that choosing one step does not depend on another, the threshold comes from the scores of the validation part; steps
that lie on it are chosen by lot. Without a score every step is chosen by lot.

n rows.
"""

from dataclasses import dataclass

import numpy as np

from headrace.errors import UserError
from headrace.journeys.seams import Floats


@dataclass(frozen=True, slots=True)
class Threshold:
    """Advertise where the score is above `at`; where it equals it, with the probability `tie`."""

    at: float
    tie: float = 0.0

    def chances(self, score: Floats) -> Floats:
        """(n,) probability of advertising at each step."""
        return np.where(score == self.at, self.tie, (score > self.at).astype(np.float64))


def check_share(share: float) -> None:
    """UserError for a share that is none."""
    if not 0 < share <= 1:
        raise UserError(f"--select {share:g}: expected a share of the steps, more than 0 and at most 1")


def threshold(scores: Floats, share: float) -> Threshold:
    """The threshold above which this share of the scores, (n,), lies.

    >>> t = threshold(np.array([3.0, 1.0, 1.0, 0.0]), 0.5)
    >>> t.at, t.tie, t.chances(np.array([3.0, 1.0, 0.0])).tolist()
    (1.0, 0.5, [1.0, 0.5, 0.0])
    """
    check_share(share)
    wanted = share * len(scores)
    at = float(np.sort(scores)[::-1][int(np.ceil(wanted)) - 1])
    above, level = int((scores > at).sum()), int((scores == at).sum())
    return Threshold(at, float((wanted - above) / level))


def by_lot(n: int, share: float) -> Floats:
    """(n,) the same probability of advertising at every step."""
    check_share(share)
    return np.full(n, share)
