"""Where a number is cut into bins: quantiles of the training steps, kept in the transforms.

N steps of the store, n steps looked at, F number columns.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.journeys.seams import Bools, Floats
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import View

STEPS = 200_000  # labelled steps, of pieces drawn at random, that are looked at at most
PIECES = 256  # at a time


def with_knots(
    transforms: Transforms,
    journeys: Journeys,
    train: Bools,
    bins: int,
    context_bins: int,
    so_far: dict[str, Floats] | None = None,
) -> Transforms:
    """The transforms with knots for `bins` of each number of `encode`, and `context_bins` of `encode_context`.

    `train` (N,) marks the steps to learn from; `so_far` may hand in their running statistics. A function of the log,
    `train` and the transforms alone, so that an audit can make it again.
    """
    numbers, context, n = [], [], 0
    wanted = bool(bins or context_bins)
    steps = View(journeys, train, statistics=transforms.statistics, so_far=so_far) if wanted else None
    for batch in steps.batches(PIECES, seed=0) if steps is not None else ():
        numbers.append(transforms.encode(batch.history).numbers[batch.label])
        context.append(transforms.encode_context(batch).numbers[batch.label])
        n += len(numbers[-1])
        if n >= STEPS:
            break
    return replace(
        transforms,
        bins=bins,
        context_bins=context_bins,
        knots=_knots(numbers, bins),
        context_knots=_knots(context, context_bins),
    )


def _knots(numbers: list[NDArray[np.float32]], bins: int) -> tuple[tuple[float, ...], ...]:
    """The distinct quantiles of each column of (n, F), at most `bins` + 1; no knots where two values are all."""
    if not bins or not numbers:
        return ()
    places = np.linspace(0, 1, bins + 1)
    found = [np.unique(q) for q in np.quantile(np.concatenate(numbers), places, axis=0, method="nearest").T]
    return tuple(tuple(q.tolist()) if len(q) > 2 else () for q in found)
