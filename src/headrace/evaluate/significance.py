"""Is a difference one? Paired bootstrap p-values, Holm's correction for many comparisons, and the mean over seeds."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy import stats

from headrace.evaluate.bootstrap import Interval
from headrace.journeys.seams import Floats

Key = TypeVar("Key", bound=Hashable)


def p_value(drawn: Floats) -> float:
    """Two-sided p-value that a paired difference is zero, from (1 + R,) of draws: never below 2 / (R + 1).

    >>> p_value(np.array([0.5, 0.4, 0.6, 0.5]))
    0.5
    """
    again = drawn[1:][np.isfinite(drawn[1:])]
    fewer = min(int((again <= 0).sum()), int((again >= 0).sum()))
    return min(1.0, 2 * (1 + fewer) / (1 + len(again)))


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """P-values adjusted for all comparisons together (Holm 1979); below .05: significant at 5 % family-wise.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    largest, adjusted = 0.0, {}
    for rank, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        adjusted[key] = largest
    return {key: adjusted[key] for key in p_values}


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of a figure over seeds with its 95 % interval (Student's t); one seed carries none.

    >>> found = over_seeds([1.0, 2.0, 3.0])
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (2.0, -0.484, 4.484)
    """
    if len(values) < 2:
        return Interval(None, None, None, "one seed: no interval over seeds")
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)
