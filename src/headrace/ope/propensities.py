"""How probably the log chose what it chose: as it was logged, by design, or estimated; and whether that can be so.

    logged      the log's own column
    random      by design: the channel was drawn by lot, so its share is its propensity
    estimated   boosted trees, cross-fitted over users (models.py)

The check: whatever the policy that logged, the mean of 1[channel = m] / propensity is at most 1 for every channel, and
1 where the channel had a chance everywhere. A mean above 1 shows that propensities are too small, or that the log has
no row for some decisions. Of a draw by lot: trees must not foretell the channel. Estimated ones are right only where
all that the log's policy looked at is in the log, which nothing can check.

n rows, M channels.
"""

from dataclasses import dataclass, replace

import numpy as np

from headrace.errors import UserError, unknown
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.store import Journeys
from headrace.ope.models import Progress, propensity_model

WAYS = ("logged", "random", "estimated")
DISTANCE = 4.0  # standard errors of a mean from 1 that speak against the propensities
SLACK = 0.05  # distance that is let pass even so
BINS = 10


@dataclass(frozen=True, slots=True)
class Propensities:
    """(n,) chances of what was logged, where they come from, and what speaks against them."""

    values: Floats  # (n,)
    way: str  # logged | random | estimated | given
    balance: dict[str, float]  # mean of 1[channel = m] / propensity, by channel
    calibration_error: float | None  # of estimated ones: mean distance of chance and frequency over ten bins a channel
    doubt: str | None = None  # what speaks against them


def propensities(
    journeys: Journeys,
    rows: Integers,
    codes: Integers,
    way: str | Floats | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Propensities:
    """The propensities of these rows; `way` is one of WAYS, (n,) values, or None: logged where there are any."""
    action = np.asarray(journeys.channel)[rows].astype(np.int64)
    if isinstance(way, np.ndarray):
        return _checked(journeys, action, way.astype(np.float64), codes, "given")
    there = journeys.has("propensity")
    way = way if way is not None else "logged" if there else "estimated"
    if way == "logged":
        if not there:
            raise UserError(
                f"{journeys.path}: the log holds no propensities; use  --propensity random  where the channel was "
                "drawn by lot, else  --propensity estimated"
            )
        return _checked(journeys, action, np.asarray(journeys.column("propensity")[rows], np.float64), codes, way)
    if way == "random":
        shares = np.bincount(np.asarray(journeys.channel), minlength=len(journeys.channels)) / journeys.n_steps
        found = _checked(journeys, action, shares[action], codes, way)
        if found.doubt is not None or len(np.unique(action)) < 2:
            return found
        chances = propensity_model(journeys, rows, codes, seed, progress=progress)
        return replace(found, doubt=_not_by_lot(np.log(chances[np.arange(len(rows)), action] / shares[action]), codes))
    if way == "estimated":
        chances = propensity_model(journeys, rows, codes, seed, progress=progress)
        error = calibration_error(chances, action)
        return _checked(journeys, action, chances[np.arange(len(rows)), action], codes, way, error)
    raise unknown("propensity", str(way), WAYS)


def _not_by_lot(gain: Floats, codes: Integers) -> str | None:
    """What speaks against a draw by lot: `gain` (n,) is how much likelier the choice is to trees than by its share.

    Trees that saw nothing of the user cannot foretell a lot. Let pass: a mean gain that is that of chances SLACK off.
    """
    mean = float(gain.mean())
    by_group = np.bincount(codes, weights=gain - mean)
    error = float(np.sqrt((by_group**2).sum())) / len(gain)
    if mean <= max(SLACK**2 / 2, DISTANCE * error):
        return None
    return (
        "the channel was not drawn by lot: trees foretell it from what was known before (log likelihood a step "
        f"{mean:.4f} above that of the channels' shares, standard error {error:.4f})"
    )


def calibration_error(chances: Floats, action: Integers) -> float:
    """Mean over rows and channels of |chance - frequency|, each channel's rows in bins of equal number.

    >>> calibration_error(np.full((1000, 2), 0.5), np.arange(1000) % 2)
    0.0
    """
    n, m = chances.shape
    total = 0.0
    for channel in range(m):
        order = np.argsort(chances[:, channel], kind="stable")
        gap = (chances[:, channel] - (action == channel))[order]
        total += sum(abs(float(part.sum())) for part in np.array_split(gap, BINS))
    return float(total / (n * m))


def _checked(
    journeys: Journeys, action: Integers, values: Floats, codes: Integers, way: str, error: float | None = None
) -> Propensities:
    balance, doubt = {}, None
    groups = int(codes.max()) + 1
    with np.errstate(divide="ignore"):
        inverse = np.where(values > 0, 1 / values, 0.0)  # feedback.py tells of those that are none
    for channel, name in enumerate(journeys.channels):
        w = np.where(action == channel, inverse, 0.0)
        mean = float(w.mean())
        balance[name] = mean
        by_group = np.bincount(codes, weights=w - mean, minlength=groups)
        spread = float(np.sqrt((by_group**2).sum())) / len(w)
        far = mean - 1 > max(SLACK, DISTANCE * spread)
        lacking = way == "estimated" and 1 - mean > max(SLACK, DISTANCE * spread) and (action == channel).any()
        if doubt is None and (far or lacking):
            doubt = (
                f"the propensities do not fit the log: the mean of 1[{name}] / propensity is {mean:.3f} "
                f"(standard error {spread:.3f}), 1 was expected"
                + (
                    "; or the log leaves decisions out, such as those to show nothing"
                    if far and way != "estimated"
                    else ""
                )
            )
    return Propensities(values, way, balance, error, doubt)
