"""Calibration: by channel, what adverts brought and cost against what was predicted of them, known by now.

A price of money divides predicted gain by predicted cost, so an error that is common to a channel moves the whole
budget. Each channel's predictions are multiplied by (observed + prior) / (predicted + prior); the prior is worth
`EVENTS` gains of usual size, or the usual cost of `ADVERTS` adverts. Only adverts whose outcome must be known count:
those whose window has passed, whether they brought something or not.

D days, M channels, n adverts.
"""

from dataclasses import dataclass

import numpy as np

from headrace.campaign.scores import Scores
from headrace.journeys.seams import Floats, Integers

EVENTS, ADVERTS = 5.0, 20.0
EXPOSURES, GAIN, SQUARES, SPENT, FORESEEN_GAIN, FORESEEN_COST = range(6)


@dataclass(frozen=True, slots=True)
class Factors:
    """What predictions are multiplied by, (M,) each."""

    gain: Floats
    cost: Floats

    def apply(self, scores: Scores) -> Scores:
        return scores.times(self.gain, self.cost)


class Calibration:
    """Sums of each day's adverts by channel."""

    def __init__(self, days: int, channels: int, window_days: float):
        self._sums = np.zeros((days, 6, channels))
        self._window = window_days

    def add(self, day: int, channel: Integers, gain: Floats, spent: Floats, foreseen: Scores) -> None:
        """Note n adverts of a day: channel, gain and money (n,), and what was predicted of their users."""
        at = np.arange(len(channel)), channel
        columns = (np.ones(len(channel)), gain, gain**2, spent, foreseen.gain[at], foreseen.cost[at])
        for row, values in zip(self._sums[day], columns, strict=True):
            row += np.bincount(channel, values, minlength=len(row))

    def renew(self, day: Integers, channel: Integers, before: Floats, after: Floats) -> None:
        """Adverts of these days, (n,), are known to have brought `after`, and had been noted with `before`."""
        for row, change in ((GAIN, after - before), (SQUARES, after**2 - before**2)):
            np.add.at(self._sums[:, row], (day, channel), change)

    def factors(self, day: int) -> Factors:
        """What to multiply predictions by on a day; 1 as long as nothing is known."""
        known, every = self._known(day), self._sums.sum(axis=0)
        usual = known[SQUARES].sum() / known[GAIN].sum() if known[GAIN].sum() > 0 else 0.0
        prior = EVENTS * usual
        shown = every[EXPOSURES].sum()
        paid = ADVERTS * every[SPENT].sum() / shown if shown else 0.0
        return Factors(
            _ratio(known[GAIN] + prior, known[FORESEEN_GAIN] + prior),
            _ratio(every[SPENT] + paid, every[FORESEEN_COST] + paid),
        )

    def _known(self, day: int) -> Floats:
        """(6, M) sums over the days whose outcomes are known."""
        if self._window == 0:
            return np.asarray(self._sums.sum(axis=0))
        return np.asarray(self._sums[: max(int(day - np.ceil(self._window)), 0)].sum(axis=0))


def _ratio(observed: Floats, predicted: Floats) -> Floats:
    return np.where((observed > 0) & (predicted > 0), observed / np.where(predicted > 0, predicted, 1.0), 1.0)
