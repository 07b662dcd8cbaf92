"""What an advertising log says in numbers: the statistics that a scenario is fitted to and judged by.

N steps in order of user and time, U users, M channels.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.simulate.ads import NO_AD, AdsWorld
from headrace.simulate.draws import Floats
from headrace.simulate.policies import Exposures

Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]
CLICKS, PURCHASES = ("click", "is_click"), ("conversion", "purchase")
NEAR = 3  # steps apart at which two clicks of a user are compared
FAR = 10  # steps apart at which two channels of a user agree by preference alone
PLACES = 12  # first steps of a journey that the click curve shows


@dataclass(frozen=True, slots=True)
class AdRows:
    """The steps of an advertising log."""

    user: Integers  # (N,) 0 .. U - 1, ascending
    channel: Integers  # (N,)
    click: Bools  # (N,)
    purchase: Bools  # (N,)
    cost: Floats  # (N,)
    channels: tuple[str, ...]
    stamped: bool = False  # purchases were stamped back onto earlier steps: whether somebody buys twice is not told

    @property
    def lengths(self) -> Integers:
        """Steps of each user, (U,)."""
        return np.bincount(self.user)


@dataclass(frozen=True, slots=True)
class Compared:
    """A statistic of a real and a simulated log.

    `distance`: of numbers |simulated / real - 1|, of distributions total variation, of curves (a value a channel, say)
    the mean of |difference| over the real mean. `fitted`: whether the scenario was fitted to it.
    """

    statistic: str
    real: float  # of a distribution its mean class, of a curve its mean
    simulated: float
    distance: float
    kind: str = "number"  # number | distribution | curve
    fitted: bool = True
    low: float | None = None  # 95 % interval of the real number over users
    high: float | None = None
    values: dict[str, list[float]] = field(default_factory=dict)


def read_rows(journeys: Journeys) -> AdRows:
    """The rows of a log with channels, clicks, purchases and costs; raises UserError where one is missing.

    A purchase that the log stamps back onto the impressions before it (a gain known "never") counts once: of clicked
    steps in a row that all claim one, the last has it.
    """
    gains = {gain.name: gain for gain in journeys.schema.gains}
    click = next((name for name in CLICKS if name in gains), None)
    bought = next((name for name in PURCHASES if name in gains), None)
    lacking = [what for what, found in (("click", click), ("conversion", bought)) if found is None]
    lacking += [] if journeys.has("channel") else ["channel"]
    lacking += [] if journeys.has("cost") else ["cost"]
    if lacking or click is None or bought is None:
        raise UserError(
            f"{journeys.path}: no {', '.join(lacking)}; an advertising scenario is calibrated to a log with channel, "
            "cost, and the gains click and conversion"
        )
    user = np.asarray(journeys.user_of_step)
    clicks = np.nan_to_num(np.asarray(journeys.gain(click), dtype=np.float64)) > 0
    purchases = np.nan_to_num(np.asarray(journeys.gain(bought), dtype=np.float64)) > 0
    stamped = gains[bought].known == "never"
    if stamped:
        purchases = _last_of_run(user, clicks, purchases)
    return AdRows(
        user,
        np.asarray(journeys.channel, dtype=np.int64),
        clicks,
        purchases,
        np.asarray(journeys.column("cost"), dtype=np.float64),
        journeys.channels,
        stamped,
    )


def simulated_rows(world: AdsWorld, steps: Iterable[Exposures]) -> AdRows:
    """The rows of a rollout; users without an advert leave none."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("row", "channel", "click", "conversion", "cost")}
    for step in steps:
        shown = np.flatnonzero(step.outcomes.channel != NO_AD)
        parts["row"].append(step.context["row"][shown])
        for name in ("channel", "click", "conversion", "cost"):
            parts[name].append(getattr(step.outcomes, name)[shown])
    flat = {name: np.concatenate(values) for name, values in parts.items()}
    order = np.argsort(flat["row"], kind="stable")
    _, user = np.unique(flat["row"][order], return_inverse=True)
    flat = {name: values[order] for name, values in flat.items()}
    channels = world.scenario.channels
    return AdRows(user, flat["channel"], flat["click"], flat["conversion"], flat["cost"], channels)


def rate(rows: AdRows, event: Bools, among: Bools | None = None) -> float:
    """The share of steps with `event` among those in `among`; NaN where there is none."""
    event = event if among is None else event[among]
    return float(event.mean()) if len(event) else float("nan")


def by_channel(rows: AdRows, values: NDArray[np.generic], among: Bools | None = None) -> Floats:
    """The mean of `values` (N,) in each channel, (M,); NaN where there is none."""
    some = np.ones(len(rows.user), dtype=np.bool_) if among is None else among
    m = len(rows.channels)
    count = np.bincount(rows.channel[some], minlength=m)
    total = np.bincount(rows.channel[some], weights=np.asarray(values, dtype=np.float64)[some], minlength=m)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def shares(rows: AdRows) -> Floats:
    """The share of steps of each channel, (M,)."""
    return np.asarray(np.bincount(rows.channel, minlength=len(rows.channels)) / len(rows.channel))


def repeats(rows: AdRows, lag: int) -> float:
    """How often a step's channel is that of `lag` steps before."""
    same = rows.user[lag:] == rows.user[:-lag]
    return float((rows.channel[lag:] == rows.channel[:-lag])[same].mean()) if same.any() else float("nan")


def spread_of_users(rows: AdRows) -> float:
    """The sd over users of their click probability: the root of the covariance of two clicks of a user, NEAR apart."""
    same = rows.user[NEAR:] == rows.user[:-NEAR]
    first, second = rows.click[:-NEAR][same], rows.click[NEAR:][same]
    if not len(first):
        return 0.0
    return float(np.sqrt(max((first & second).mean() - first.mean() * second.mean(), 0.0)))


def again(rows: AdRows) -> float:
    """The share of users with a purchase who have another; NaN where nobody buys."""
    bought = np.bincount(rows.user, weights=rows.purchase)
    return float((bought[bought > 0] > 1).mean()) if bought.any() else float("nan")


def compare(real: AdRows, made: AdRows) -> list[Compared]:
    """Every statistic of a real and a simulated log side by side."""
    edges = np.unique(np.quantile(real.lengths, np.arange(0.1, 1.0, 0.1)))
    m = len(real.channels)

    def many(what: AdRows) -> dict[str, Floats]:
        buyers = np.bincount(what.user, weights=what.purchase)
        distinct = np.unique(what.user * m + what.channel)
        place = np.arange(len(what.user)) - np.repeat(np.cumsum(what.lengths) - what.lengths, what.lengths)
        curve = [what.click[place == p].mean() if (place == p).any() else np.nan for p in range(PLACES)]
        length = np.bincount(np.searchsorted(edges, what.lengths, side="left"), minlength=len(edges) + 1)
        dearness = np.bincount(np.searchsorted(prices, what.cost, side="left"), minlength=len(prices) + 1)
        return {
            "click rate": np.array([what.click.mean()]),
            "click rate by channel": by_channel(what, what.click),
            "spread of users' click rates": np.array([spread_of_users(what)]),
            "purchases per click": np.array([rate(what, what.purchase, what.click)]),
            "purchases per click by channel": by_channel(what, what.purchase, what.click),
            "purchases per unclicked advert": np.array([rate(what, what.purchase, ~what.click)]),
            "channel distribution": shares(what),
            "same channel as last time": np.array([repeats(what, 1)]),
            f"same channel {FAR} steps apart": np.array([repeats(what, FAR)]),
            "journey length distribution": length / length.sum(),
            "mean journey length": np.array([what.lengths.mean()]),
            "cost by channel": by_channel(what, what.cost),
            "cost distribution": dearness / dearness.sum(),
            "channels per user": np.array([len(distinct) / len(what.lengths)]),
            "click rate by place in the journey": np.array(curve),
            "share of users who buy": np.array([(buyers > 0).mean()]),
            "share of buyers who buy again": np.array([again(what)]),
        }

    prices = np.unique(np.quantile(real.cost, np.arange(0.1, 1.0, 0.1)))
    unfitted = ["channels per user", "click rate by place in the journey", "share of users who buy"]
    unfitted += ["cost distribution", *(["share of buyers who buy again"] if real.stamped else [])]
    true, simulated = many(real), many(made)
    bounds = {
        "click rate": _interval(real, real.click, np.ones(len(real.user), dtype=np.bool_)),
        "purchases per click": _interval(real, real.purchase, real.click),
    }
    return [
        _compared(name, true[name], simulated[name], name not in unfitted, *bounds.get(name, (None, None)))
        for name in true
    ]


def _compared(name: str, real: Floats, made: Floats, fitted: bool, low: float | None, high: float | None) -> Compared:
    if len(real) == 1 and "by " not in name:
        true, other = float(real[0]), float(made[0])
        away = abs(other / true - 1) if true else abs(other)
        return Compared(name, true, other, away, "number", fitted, low, high)
    both = {"real": real.tolist(), "simulated": made.tolist()}
    if name.endswith("distribution"):
        classes = np.arange(len(real))
        mean, other = float(real @ classes), float(made @ classes)
        return Compared(name, mean, other, float(np.abs(real - made).sum() / 2), "distribution", fitted, values=both)
    away = float(np.nanmean(np.abs(made - real)) / np.nanmean(real)) if np.nanmean(real) else float(np.nanmean(made))
    return Compared(name, float(np.nanmean(real)), float(np.nanmean(made)), away, "curve", fitted, values=both)


def _interval(rows: AdRows, event: Bools, among: Bools) -> tuple[float, float]:
    """The 95 % interval over users of a share of steps, by linearisation."""
    hits, n = np.bincount(rows.user, weights=event & among), np.bincount(rows.user, weights=among)
    value = hits.sum() / n.sum()
    half = 1.959964 * float(np.sqrt(((hits - value * n) ** 2).sum()) / n.sum())
    return float(value - half), float(value + half)


def _last_of_run(user: Integers, click: Bools, purchase: Bools) -> Bools:
    """Of clicked steps of a user that follow each other and all claim a purchase, the last."""
    found = purchase & ~click
    at = np.flatnonzero(click)
    claims = purchase[at]
    followed = np.zeros(len(at), dtype=np.bool_)
    followed[:-1] = claims[1:] & (user[at[1:]] == user[at[:-1]])
    found[at[claims & ~followed]] = True
    return found
