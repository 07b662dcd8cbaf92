"""Where a number is cut into bins: quantiles of the training steps, kept in the transforms.

n steps, F number columns.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.journeys.transforms import Transforms
from headrace.journeys.views import View

STEPS = 200_000  # labelled steps, of pieces drawn at random, that are looked at at most
PIECES = 256  # at a time


def with_knots(transforms: Transforms, train: View, bins: int, context_bins: int, seed: int = 0) -> Transforms:
    """The transforms with knots for `bins` of each number of `encode`, and `context_bins` of `encode_context`."""
    numbers, context, n = [], [], 0
    for batch in train.batches(PIECES, seed) if bins or context_bins else ():
        numbers.append(transforms.encode(batch.history).numbers[batch.label])
        context.append(transforms.encode_context(batch).numbers[batch.label])
        n += len(numbers[-1])
        if n >= STEPS:
            break
    return replace(transforms, knots=_knots(numbers, bins), context_knots=_knots(context, context_bins))


def _knots(numbers: list[NDArray[np.float32]], bins: int) -> tuple[tuple[float, ...], ...]:
    """The distinct quantiles of each column of (n, F), at most `bins` + 1; no knots where two values are all."""
    if not bins or not numbers:
        return ()
    places = np.linspace(0, 1, bins + 1)
    found = [np.unique(q) for q in np.quantile(np.concatenate(numbers), places, axis=0, method="nearest").T]
    return tuple(tuple(q.tolist()) if len(q) > 2 else () for q in found)
