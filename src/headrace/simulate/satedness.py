"""How many purchases a user can make at most, when each makes the next less likely for a while.

At an event (an opportunity, or a midnight) the purchase probability is at most  z f(s),  where z is what it would be
for a user who isn't sated,  s  the satedness and  f(s) = (1 - exp(-h e^-s)) / (1 - exp(-h))  for the user's highest
hazard h: f falls with s and rises with h. With a price on z,

    most(price) = max over z_1, z_2, ... chosen in view of everything so far, 0 <= z_i <= cap_i,
                  of the expected  sum_i (purchase_i - price z_i)

so that for every policy  purchases <= most(price) + price * sum of z,  in expectation and for any price; at the price 1
`most` is 0. A purchase adds to s, which halves every half-life. Dynamic programming over the events with s on a grid:
the value falls with s, so s is read at the grid point below and the result is an upper bound.

N users, E events, P prices, G grid points.
"""

import numpy as np

from headrace.simulate.draws import Floats

STEP = 0.02  # of the grid
TOP = 4.0  # satedness beyond it counts as this
CELLS = 2_000_000  # numbers held at once


def most_purchases(
    time: Floats, cap: Floats, hazard: Floats, sated_by_purchase: float, half_life_days: float, price: Floats
) -> Floats:
    """`most` at each price, (N, P): time (N, E) in days, ascending; cap (N, E); hazard (N,) the highest of the user."""
    grid = np.arange(0.0, TOP + STEP / 2, STEP)
    block = max(1, CELLS // (len(grid) * len(price)))
    parts = []
    for first in range(0, len(time), block):
        users = slice(first, first + block)
        parts.append(_solve(time[users], cap[users], hazard[users], sated_by_purchase, half_life_days, price, grid))
    return np.concatenate(parts) if parts else np.zeros((0, len(price)))


def _solve(
    time: Floats,
    cap: Floats,
    hazard: Floats,
    sated_by_purchase: float,
    half_life_days: float,
    price: Floats,
    grid: Floats,
) -> Floats:
    n, events = time.shape
    h = np.maximum(hazard, 1e-12)[:, None]
    still = np.expm1(-h * np.exp(-grid)) / np.expm1(-h)  # f, (N, G)
    value = np.zeros((n, len(price), len(grid)))  # before the next event
    for i in range(events - 1, -1, -1):
        if i + 1 < events:
            kept = np.exp2(-(time[:, i + 1] - time[:, i]) / half_life_days)[:, None]
            rest = _read(value, grid * kept)
            bought = _read(value, (grid + sated_by_purchase) * kept)
        else:
            rest = bought = value
        gain = still[:, None] * (1 + bought - rest) - price[:, None]
        value = rest + cap[:, i, None, None] * np.maximum(gain, 0.0)
    return value[..., 0]


def _read(value: Floats, at: Floats) -> Floats:
    """`value` (N, P, G) at the grid points at or below `at` (N, G)."""
    index = np.minimum((at / STEP + 1e-9).astype(np.int64), value.shape[2] - 1)
    return np.take_along_axis(value, np.broadcast_to(index[:, None], value.shape), axis=2)
