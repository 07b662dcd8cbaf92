"""What no policy can change: when each user can be reached, and how they would respond if they had seen nothing lately.

Visits, hours, placements and tastes do not depend on adverts, so a run without any shows all of it. The bounds rest on
this (relaxation.py, clairvoyant.py), and so do references that look ahead.

N users, I opportunities of the one who has most, M channels.
"""

from dataclasses import dataclass

import numpy as np

from headrace.simulate.ads import DAY_MS, NO_AD, AdsWorld, Integers
from headrace.simulate.draws import Floats


@dataclass(frozen=True, slots=True)
class Opportunities:
    """All opportunities of N users, left-aligned: those of user u are the first `count[u]`."""

    count: Integers  # (N,)
    time: Floats  # (N, I) days since the start; 0 on padding
    click: Floats  # (N, I, M) click probability without saturation, averaged over adverts; 0 on padding

    @property
    def valid(self) -> np.ndarray:
        """Where an opportunity is, (N, I)."""
        return np.arange(self.time.shape[1]) < self.count[:, None]

    @property
    def gaps(self) -> Floats:
        """Days from each opportunity to the user's next one, (N, I); 0 after the last."""
        ahead = np.zeros_like(self.time)
        ahead[:, :-1] = np.diff(self.time, axis=1)
        return np.where(np.arange(self.time.shape[1]) < self.count[:, None] - 1, ahead, 0.0)

    @property
    def quality(self) -> Floats:
        """How good an opportunity is compared with the user's others, averaged over channels, (N, I); 0 on padding."""
        mean = self.click.sum(axis=1, keepdims=True) / np.maximum(self.count, 1)[:, None, None]
        return np.asarray((self.click / np.maximum(mean, 1e-300)).mean(axis=2))

    def left(self, half_life_days: float, weight: Floats | None = None) -> Floats:
        """What comes after each opportunity, each later one weighted by what of an effect is then left, (N, I).

        `weight` (N, I, ...) counts opportunities by something else than 1.
        """
        each = np.ones(self.time.shape) if weight is None else weight
        rest = np.zeros(each.shape)
        gaps, more = self.gaps, np.arange(self.time.shape[1]) < self.count[:, None] - 1
        kept = np.where(more, np.exp2(-gaps / half_life_days), 0.0).reshape(*gaps.shape, *(1,) * (each.ndim - 2))
        for i in range(each.shape[1] - 2, -1, -1):
            rest[:, i] = kept[:, i] * (each[:, i + 1] + rest[:, i + 1])
        return rest


def opportunities(world: AdsWorld) -> Opportunities:
    """The opportunities of a fresh world's users; the world is used up."""
    rows, times, clicks = [], [], []
    while not world.done:
        context = world.observe()
        rows.append(context["row"])
        times.append((context["time"] - world.scenario.start_ms) / DAY_MS)
        clicks.append(world.true_rates().click)
        world.step(NO_AD)
    n, m = len(world.users), len(world.scenario.channels)
    row = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    order = np.argsort(row, kind="stable")
    row = row[order]
    count = np.bincount(row, minlength=n)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    width = int(count.max(initial=1))
    time, click = np.zeros((n, width)), np.zeros((n, width, m))
    if len(row):
        time[row, place] = np.concatenate(times)[order]
        click[row, place] = np.concatenate(clicks)[order]
    return Opportunities(count, time, click)
