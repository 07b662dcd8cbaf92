"""Intervals by bootstrap over groups: users; where a log has no user its sessions, or else its rows.

A `Metric` is a function of how often each group was drawn: counts (R, G) in, values (R,) out. Its value is what it
gives for one of each, its interval the 2.5 and 97.5 % percentiles over the resamples. All metrics of all methods see
the same resamples, so a difference of two of them is paired.

n rows, G groups, R resamples.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.journeys.seams import Floats, Integers

RESAMPLES = 1_000
CELLS = 2_000_000  # numbers held at once while resampling
UNDEFINED_SHARE = 0.05  # of the resamples in which a metric may be undefined before its interval is refused
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that can be drawn, or the reason why there is none."""

    draw: Callable[[Floats], Floats] | None  # (R, G) -> (R,)
    refused: str | None = None
    reflect: bool = False  # the figure is biased upward by noise (a calibration error): reflect its draws about it


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval, or a refusal."""

    value: float | None
    low: float | None
    high: float | None
    refused: str | None = None


def group(users: NDArray[np.generic] | None, n: int) -> tuple[Integers, int]:
    """Codes 0 .. G-1 of the rows' users, (n,), and G; without users each row is a group."""
    if users is None:
        return np.arange(n), n
    ids, codes = np.unique(users, return_inverse=True)
    return codes.astype(np.int64), len(ids)


def resample(groups: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Floats]:
    """How often each group is drawn, (r, G) at a time, R rows in all; a function of (groups, resamples, seed).

    >>> sum(len(c) for c in resample(7, 100, seed=1))
    100
    >>> {int(row.sum()) for counts in resample(7, 100, seed=1) for row in counts}
    {7}
    """
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // max(groups, 1))
    for start in range(0, resamples, chunk):
        r = min(chunk, resamples - start)
        drawn = rng.integers(0, groups, size=(r, groups))  # (r, G)
        drawn += np.arange(r)[:, None] * groups
        yield np.bincount(drawn.ravel(), minlength=r * groups).reshape(r, groups).astype(np.float64)


def draws(metrics: Mapping[Key, Metric], groups: int, resamples: int = RESAMPLES, seed: int = 0) -> dict[Key, Floats]:
    """For each metric that is not refused: its value, then its R resampled values, (1 + R,)."""
    drawn = {key: metric.draw for key, metric in metrics.items() if metric.draw is not None}
    once = np.ones((1, groups))
    parts: dict[Key, list[Floats]] = {key: [draw(once)] for key, draw in drawn.items()}
    for counts in resample(groups, resamples, seed):
        for key, draw in drawn.items():
            parts[key].append(draw(counts))
    return {key: np.concatenate(values) for key, values in parts.items()}


def interval(drawn: Floats, groups: int, reflect: bool = False) -> Interval:
    """The value and its 95 % percentile interval, from (1 + R,) of `draws` (or the difference of two of them)."""
    value = float(drawn[0])
    if not np.isfinite(value):
        return Interval(None, None, None, "undefined on these steps")
    if groups < 2:
        return Interval(None, None, None, "one user (or row): no interval can be given")
    again = drawn[1:]
    defined = again[np.isfinite(again)]
    if len(defined) < (1 - UNDEFINED_SHARE) * len(again):
        missing = 1 - len(defined) / len(again)
        return Interval(
            None, None, None, f"undefined in {missing:.0%} of the resamples of {groups} users: too few of a kind"
        )
    low, high = (float(v) for v in np.percentile(defined, (2.5, 97.5)))
    if reflect:
        low, high = 2 * value - high, 2 * value - low
    return Interval(value, min(low, value), max(high, value))  # a biased figure may lie beyond its resamples


def ratio(numerator: Floats, denominator: Floats | None, codes: Integers, groups: int) -> Metric:
    """Sum of `numerator` over sum of `denominator` (None: ones), both (n,)."""
    top = np.bincount(codes, weights=numerator, minlength=groups)  # (G,)
    bottom = np.bincount(codes, weights=denominator, minlength=groups)

    def draw(counts: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            out: Floats = (counts @ top) / (counts @ bottom)
        return out

    return Metric(draw)
