"""Correction: predictions of gain and cost brought to what the log's own propensities say, channel by channel.

A log shows a channel to those whom its policy chose for it, often by more than the log holds; what is learnt from them
then holds for them, and is too high for others. A price of money compares channels, so it buys just what is
overrated. Where propensities are logged, exposures weighted by 1 / propensity stand for all steps alike. For each
channel a line through the held-out exposures corrects mean and slope,

    corrected = level mean_w(predicted) + slope (predicted - mean_w(predicted))

    level = mean_w(y) / mean_w(predicted), shrunk towards that of all channels together
    slope = weighted least squares of y on the prediction, shrunk towards 1

Both are shrunk by their own variance (the sandwich's): a channel's prior is +- `SPREAD` of what it is shrunk to. Clicks
are many, and stay nearly as observed; of a few large purchases a log can hardly say which channel brought them.
Without propensities all weights are 1: overconfidence is corrected, the policy's choice is not.

n held-out exposures, M channels, N users.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headrace.campaign.market import Market
from headrace.campaign.scores import Predictor, Scores
from headrace.journeys.seams import Bools, Floats, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys

SPREAD = 0.5  # sd of a slope about 1, and of a level about that of all channels, before anything is seen
LEAST = 0.1  # of a channel's mean: a corrected expectation is never below


@dataclass(frozen=True, slots=True)
class Line:
    """What predictions of each channel become, (M,) each."""

    predicted: Floats
    observed: Floats
    slope: Floats

    def apply(self, values: Floats) -> Floats:
        """(N, M) corrected."""
        found = self.observed + self.slope * (values - self.predicted)
        return np.maximum(found, LEAST * self.observed)

    def to_dict(self) -> dict[str, list[float]]:
        return {name: getattr(self, name).tolist() for name in ("predicted", "observed", "slope")}


@dataclass(frozen=True, slots=True)
class Corrected:
    """A predictor whose gains and costs go through a line each."""

    predictor: Predictor
    gain: Line
    cost: Line

    @property
    def weights(self) -> Mapping[str, float]:
        return self.predictor.weights

    def predict(self, market: Market, users: Integers) -> Scores:
        found = self.predictor.predict(market, users)
        return Scores(self.gain.apply(found.gain), self.cost.apply(found.cost), found.reward, found.policy)


def line(predicted: Floats, observed: Floats, channel: Integers, weight: Floats) -> Line:
    """The line of each channel: `predicted` (n, M) of every channel, `observed` (n,) of the one that was shown.

    A channel that was hardly shown keeps its predictions.
    """
    n, m = predicted.shape
    own = predicted[np.arange(n), channel]
    common = _ratio(float((weight * observed).sum()), float((weight * own).sum()))
    at, to, slope = np.zeros(m), np.zeros(m), np.ones(m)
    for c in range(m):
        shown = channel == c
        x, y, w = own[shown], observed[shown], weight[shown]
        if len(y) < 2 or w.sum() == 0:
            continue
        at[c], mean = np.average(x, weights=w), np.average(y, weights=w)
        level = _ratio(mean, at[c])
        spread = float((w**2 * (y - level * x) ** 2).sum()) / w.sum() ** 2  # the variance of mean - level at
        to[c] = at[c] * _shrunk(level, _ratio(spread, at[c] ** 2), common)
        x, y = x - at[c], y - mean
        square = float((w * x * x).sum())
        if square > 0:
            fitted = float((w * x * y).sum()) / square
            slope[c] = _shrunk(fitted, float((w**2 * x**2 * (y - fitted * x) ** 2).sum()) / square**2, 1.0)
    return Line(at, to, np.maximum(slope, 0.0))


def _shrunk(value: float, variance: float, towards: float) -> float:
    """The mean of a normal seen as `value`, its prior `towards` +- SPREAD of that."""
    prior = (SPREAD * towards) ** 2
    return (prior * value + variance * towards) / (prior + variance) if prior + variance > 0 else value


def _ratio(a: float, b: float) -> float:
    return a / b if b else 1.0


def held_out(journeys: Journeys, split: Split) -> Bools:
    """All steps of the validation part's users: none of them was learnt from."""
    users = journeys.user_of_step
    ours = np.zeros(journeys.n_users, dtype=np.bool_)
    ours[users[np.flatnonzero(split.parts["validation"])]] = True
    learnt = np.zeros(journeys.n_users, dtype=np.bool_)
    learnt[users[np.flatnonzero(split.parts["train"])]] = True
    return np.asarray((ours & ~learnt)[users]) | split.parts["validation"]


def corrected(
    predictor: Predictor, gain: Floats, cost: Floats, journeys: Journeys, rows: Integers, price: float = 1.0
) -> Corrected:
    """The predictor with the lines of held-out rows, `gain` and `cost` (n, M) what it says of them."""
    channel = np.asarray(journeys.channel)[rows]
    came = np.zeros(len(rows))
    for name, weight in predictor.weights.items():
        came += weight * np.asarray(journeys.gain(name), dtype=np.float64)[rows]
    paid = price * np.asarray(journeys.column("cost"), dtype=np.float64)[rows]
    chance = np.asarray(journeys.column("propensity"), np.float64)[rows] if journeys.has("propensity") else None
    inverse = np.ones(len(rows)) if chance is None else 1 / chance
    known = ~np.isnan(came)
    gains = line(gain[known], came[known], channel[known], inverse[known])
    there = ~np.isnan(paid)
    return Corrected(predictor, gains, line(cost[there], paid[there], channel[there], inverse[there]))
