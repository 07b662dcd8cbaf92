"""The best and the worst that any schedule of one channel can make of saturation: curves of clicks over exposures.

A channel shown at some of a user's opportunities i = 1..I gives the expected clicks  sum_i q_i / (1 + S_i / capacity),
q_i the click probability without saturation and S_i the recent exposures, which halve every half-life and grow by one
with each exposure. With a price p_i on each opportunity,

    most(p)  = max over schedules of  clicks - sum of p_i over the exposures
    least(p) = max over schedules of  sum of p_i over the exposures - clicks

so that for every schedule, and in expectation for every policy however it adapts,

    clicks <= most(p) + paid(p)        clicks >= paid(p) - least(p)        for any prices p.

Both are computed by dynamic programming over the opportunities with S on a grid. A schedule's clicks are convex and
decreasing in the S it starts with, so the best value is convex in S and straight lines between grid points lie above
it; `least` grows with S and is read at the next grid point above. So both are upper bounds, exact where S stays on
the grid (whole numbers, without forgetting).

N users, I opportunities, M channels, P prices, G grid points.
"""

import numpy as np

from headrace.simulate.draws import Floats
from headrace.simulate.opportunities import Opportunities

CELLS = 2_000_000  # numbers held at once


def price_curve(top: Floats, capacity: Floats, most: int) -> Floats:
    """Prices at which to ask: what the 1st, 2nd, ... exposure would bring if none were forgotten, (N, M, P)."""
    counts = np.unique(np.concatenate([np.arange(min(most, 6) + 1), np.geomspace(1, max(most, 1), 7).astype(int)]))
    return np.asarray(top[..., None] / (1 + counts / capacity[..., None]))


def schedule_value(
    seen: Opportunities,
    capacity: Floats,
    half_life_days: float,
    price: Floats,
    weight: Floats | None = None,
    least: bool = False,
) -> Floats:
    """`most`, (N, M, P), or `least`, for prices p_i = price (N, M, P) * weight_i (N, I), 1 where there is none."""
    n = len(seen.count)
    block = max(1, CELLS // max(price[0].size * len(_grid(seen.time.shape[1], least)), 1)) if n else 1
    parts = [
        _solve(seen, slice(first, first + block), capacity, half_life_days, price, weight, least)
        for first in range(0, n, block)
    ]
    return np.concatenate(parts) if parts else np.zeros(price.shape)


def _solve(
    seen: Opportunities,
    users: slice,
    capacity: Floats,
    half_life_days: float,
    price: Floats,
    weight: Floats | None,
    least: bool,
) -> Floats:
    count, click = seen.count[users], seen.click[users]
    grid = _grid(seen.time.shape[1], finer=least)
    room, price = capacity[users][:, :, None, None], price[users][..., None]
    kept = np.exp2(-seen.gaps[users] / half_life_days)  # of S until the next opportunity
    value = np.zeros((*price.shape[:3], len(grid)))  # (N, M, P, G) of the opportunities to come
    for i in range(int(count.max(initial=0)) - 1, -1, -1):
        now = count > i
        if i + 1 < int(count.max()):
            rest = _read(value, grid, grid * kept[:, i, None], least)
            shown = _read(value, grid, (grid + 1) * kept[:, i, None], least)
        else:
            rest = shown = value
        clicks = click[:, i, :, None, None] / (1 + grid / room)
        paid = price if weight is None else price * weight[users][:, i, None, None, None]
        gain = paid - clicks if least else clicks - paid
        value = np.where(now[:, None, None, None], np.maximum(rest, shown + gain), value)
    return value[..., 0]


def _read(value: Floats, grid: Floats, at: Floats, above: bool) -> Floats:
    """`value` (N, M, P, G) at the points `at` (N, G): on the line between grid points, or at the point above."""
    right = np.clip(np.searchsorted(grid, at, side="left"), 1, len(grid) - 1)
    share = np.clip((at - grid[right - 1]) / (grid[right] - grid[right - 1]), 0.0, 1.0)
    if above:
        share = np.where(share > 1e-12, 1.0, 0.0)
    shape = (len(at), 1, 1, at.shape[1])
    high = np.take_along_axis(value, np.broadcast_to(right.reshape(shape), value.shape), axis=3)
    low = np.take_along_axis(value, np.broadcast_to((right - 1).reshape(shape), value.shape), axis=3)
    return np.asarray(low + share.reshape(shape) * (high - low))


def _grid(most: int, finer: bool) -> Floats:
    """S from 0 to `most`: fine and with whole numbers where it is small, coarse beyond."""
    step = 0.125 if finer else 0.5
    fine = np.concatenate([np.arange(0, 6, step), np.arange(6, 12, 2 * step), np.arange(12, 24, 4 * step)])
    coarse = np.geomspace(24, max(most, 25), 4)
    return np.unique(np.concatenate([fine[fine < most], coarse[coarse < most], [float(max(most, 1))]]))
