"""Reward weights: what a behaviour says about the time a user will spend from this request on.

Zhang et al. 2022 set the weights of r = sum_i w_i v_i (2) "via extensive statistic analysis on relationships between
these feedback and future user app dwell time", and print neither. Here: a linear regression of the user's dwell time
within `horizon` of a request, the request itself included, on what the request brought, all behaviours together, given
what was known before it. So a second of play weighs about one second, and a like as many seconds as likes foretell
beyond the play time that came with them. What the state
tells is taken out once, of all rows; intervals resample users. It is a relation, not an effect.

n rows, V behaviours, S state features, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.errors import UserError
from headrace.evaluate.bootstrap import resample
from headrace.fuse.state import Floats32
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.splits import session_starts
from headrace.journeys.statistics import clock
from headrace.journeys.store import Journeys

TIME = ("dwell_s", "play_s", "play_time_ms")  # gains that are time spent, the first that a log has
INTEGRITY = ("finish", "long_view", "is_finish")
INTERACTION = ("like", "follow", "share", "comment", "profile_visit", "positive", "forward", "profile_enter")
SKIPPED = ("exit", "returned", "seen", "click")  # what ends or counts a request, and what only precedes its time
RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Affinity:
    """A behaviour's weight, in units of time spent, with its 95 % interval over users; n requests."""

    name: str
    weight: float
    low: float
    high: float
    n: int

    @property
    def told(self) -> float:
        """The weight to use: 0 where the interval holds 0."""
        return 0.0 if self.low <= 0 <= self.high else self.weight


def time_gain(journeys: Journeys) -> str:
    """The gain that is the time spent; raises UserError where the log has none."""
    names = [g.name for g in journeys.schema.gains]
    found = next((name for name in TIME if name in names), None)
    if found is None:
        raise UserError(
            f"{journeys.path}: no gain of time spent ({', '.join(TIME)}) to fit reward weights to; "
            "give them, for example  --reward click:1,like:5"
        )
    return found


def affinity(
    journeys: Journeys,
    rows: Integers,
    state: Floats32,
    horizon_s: float = 86_400.0,
    resamples: int = 200,
    seed: int = 0,
    most: int = 50_000,
    part: Integers | None = None,
) -> list[Affinity]:
    """Weights of the log's behaviours from these rows (ascending) and the states before them, (n, S).

    Rows whose horizon reaches behind the start of the last of these rows' sessions are left out: what follows may be
    another part's, or not be in the log; `part` are all rows of theirs, where these are some of it. UserError where
    hardly any is left.
    """
    spent = time_gain(journeys)
    per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "datetime": 1e3}.get(journeys.schema.time_unit)
    if journeys.time is None or per_second is None:
        raise UserError(f"{journeys.path}: later time spent needs a clock with a unit; give reward weights instead")
    later, whole = later_time(journeys, rows, spent, horizon_s * per_second, rows if part is None else part)
    kept = np.flatnonzero(whole)
    if len(kept) < 100:
        raise UserError(
            f"{journeys.path}: {len(kept)} requests whose next {horizon_s / 3600:g} hours the training part holds, "
            "expected 100 or more; give reward weights, or a longer log"
        )
    if len(kept) > most:
        kept = np.sort(np.random.default_rng(seed).choice(kept, most, replace=False))
    names = [g.name for g in journeys.schema.gains if g.kind != "classes" and g.name not in SKIPPED]
    brought = np.stack([np.nan_to_num(journeys.gain(name)[rows[kept]].astype(np.float64)) for name in names], axis=1)
    moving = brought.std(axis=0) > 0
    names = [name for name, there in zip(names, moving, strict=True) if there]
    brought = brought[:, moving]
    scale = brought.std(axis=0)
    known = np.concatenate([state[kept].astype(np.float64), np.ones((len(kept), 1))], axis=1)
    x, y = _beyond(known, brought / scale), _beyond(known, later[kept][:, None])[:, 0]
    users, code = np.unique(journeys.users_of(rows[kept]), return_inverse=True)
    found = _fits(x, y, code, len(users), resamples, seed) / scale
    low, high = np.percentile(found[1:], (2.5, 97.5), axis=0)
    told = zip(names, found[0], low, high, strict=True)
    return [Affinity(name, float(w), float(least), float(top), len(kept)) for name, w, least, top in told]


def later_time(
    journeys: Journeys, rows: Integers, gain: str, horizon: float, part: Integers
) -> tuple[Floats, np.ndarray]:
    """(n,) the time a row's user spends from it to `horizon` later, itself included, and whether these rows hold that.

    The log's part (rows, ascending) does up to the start of its last session, since sessions that begin later may
    belong to another one, and of each user to where the log goes on behind their last row of it.
    """
    users = journeys.users_of(rows)
    first, last = journeys.offsets[users], journeys.offsets[users + 1]
    when = clock(journeys, slice(0, journeys.n_steps))
    total = np.append(0.0, np.cumsum(np.nan_to_num(journeys.gain(gain).astype(np.float64))))
    # a row's place in one order of users and times: times are shifted so that each user's stand behind the last one's
    span = float(when.max() - when.min()) + horizon + 1.0
    shifted = when - when.min() + journeys.user_of_step * span
    end = np.searchsorted(shifted, shifted[rows] + horizon, side="right")
    end = np.clip(end, first, last)
    until = np.full(journeys.n_users, session_starts(journeys)[part].max())
    held = journeys.users_of(part)
    of_last = part[np.append(held[1:] != held[:-1], True)]
    goes_on = of_last + 1 < journeys.offsets[journeys.users_of(of_last) + 1]
    cut = of_last[goes_on]
    until[journeys.users_of(cut)] = np.minimum(until[journeys.users_of(cut)], when[cut + 1] - 1)
    return total[end] - total[rows], when[rows] + horizon <= until[users]


def reward_weights(found: Sequence[Affinity], emphasis: str = "none", factor: float = 3.0) -> dict[str, float]:
    """The weights that are told apart from 0. A variant's group of behaviours counts `factor` times.

    Of an emphasised group the estimates above 0 are taken, told apart or not: an emphasis is a wish, not a finding.
    """
    groups = {"none": (), "time": TIME, "integrity": INTEGRITY, "interaction": INTERACTION}
    wanted = groups[emphasis]
    weights = {a.name: factor * max(a.weight, 0.0) if a.name in wanted else a.told for a in found}
    return {name: weight for name, weight in weights.items() if weight != 0.0}


def _beyond(known: Floats, values: Floats) -> Floats:
    """What least squares on `known` leave of the values' columns (Frisch, Waugh and Lovell)."""
    ridge = RIDGE * len(known) * np.eye(known.shape[1])
    return np.asarray(values - known @ np.linalg.solve(known.T @ known + ridge, known.T @ values))


def _fits(x: Floats, y: Floats, code: Integers, users: int, resamples: int, seed: int) -> Floats:
    """(1 + R, V) coefficients of least squares, of all users and of resampled ones, by each user's sums."""
    v = x.shape[1]
    both = np.concatenate([x[:, :, None] * x[:, None, :], (x * y[:, None])[:, :, None]], axis=2).reshape(len(x), -1)
    sums = np.stack([np.bincount(code, column, users) for column in both.T], axis=1)  # (users, V (V + 1))
    fits = []
    for counts in (np.ones((1, users)), *resample(users, resamples, seed)):
        for drawn in (counts @ sums).reshape(len(counts), v, v + 1):
            gram = drawn[:, :v] + RIDGE * len(x) * np.eye(v)
            fits.append(np.linalg.solve(gram, drawn[:, v]))
    return np.stack(fits)
