"""What a feed log shows of itself, measured in one way for a real and for a simulated log, and the distance of the two.

R rows (requests of one item), U users.
"""

import datetime
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.simulate.draws import Floats
from headrace.simulate.feed import HOUR_MS, FeedWorld
from headrace.simulate.feed_policies import FeedPolicy, rollout

Integers = NDArray[np.int64]
# A log's own names for what the feed knows.
GAINS = {
    "click": "is_click",
    "long_view": "long_view",
    "like": "is_like",
    "follow": "is_follow",
    "comment": "is_comment",
    "share": "is_forward",
    "profile_visit": "is_profile_enter",
    "hate": "is_hate",
}
MANY_PER_ITEM, MANY_PER_USER = 20, 10  # rows of an item or a user from which their own rate is told
LENGTHS, ROWS, PLACES = 6, 8, 5  # last classes (and more) of session lengths, rows a user-day, places in a session


@dataclass(frozen=True, slots=True)
class FeedRows:
    """A log row by row, sorted by user and time."""

    user: Integers  # (R,) index
    day: Integers  # (R,) by the users' own clock
    hour: Integers  # (R,)
    time: Floats  # (R,) ms
    item: Integers  # (R,)
    gains: dict[str, NDArray[np.bool_]]  # (R,) each of GAINS
    play_s: Floats  # (R,) at most the duration
    duration_s: Floats  # (R,)
    level: Integers  # (U,) activity class
    levels: tuple[str, ...]
    days: int
    start: str  # date of day 0


@dataclass(frozen=True, slots=True)
class Compared:
    """A statistic of a real and a simulated log.

    `distance`: of numbers |simulated / real - 1|; of distributions total variation, of curves the mean of |difference|
    over the real mean. `values` holds both distributions or curves where there are such.
    """

    statistic: str
    real: float  # of a distribution or curve: its mean class, or the mean of its values
    simulated: float
    distance: float
    kind: str = "number"  # number | distribution | curve
    values: dict[str, list[float]] = field(default_factory=dict)


def read_rows(journeys: Journeys, levels: tuple[tuple[str, ...], ...]) -> FeedRows:
    """The rows of a log in KuaiRand's layout; `levels` groups the names of user_active_degree, "*" for all others."""
    needed = [f"gain/{name}" for name in (*GAINS.values(), "play_time_ms")]
    needed += ["time", "feature/duration_ms", "feature/video_id", "user/user_active_degree"]
    lacking = [name for name in needed if not journeys.has(name)]
    if lacking:
        raise UserError(
            f"{journeys.path}: no {', '.join(lacking)}; a feed is calibrated to a log in KuaiRand's layout, "
            "prepared with --schema kuairand-pure"
        )
    assert journeys.time is not None
    time = np.asarray(journeys.time, dtype=np.float64)
    clock = time / HOUR_MS
    if journeys.has("feature/hourmin"):  # the users' own hour tells their time zone
        ahead = np.asarray(journeys.feature("hourmin"), dtype=np.int64) // 100 - np.floor(clock).astype(np.int64)
        clock = clock + np.bincount(ahead % 24, minlength=24).argmax()
    day = np.floor(clock / 24).astype(np.int64)
    many = np.flatnonzero(np.bincount(day - day.min()) >= 0.001 * len(day)) + day.min()
    day = np.clip(day, many[0], many[-1])  # a few rows may lie beyond the log's dates
    names = journeys.categories["user/user_active_degree"]
    named = {name: i for i, group in enumerate(levels) for name in group}
    of_code = np.array([named.get(name, named["*"]) for name in names])
    duration = np.maximum(np.asarray(journeys.feature("duration_ms"), dtype=np.float64) / 1000, 0.1)
    play = np.maximum(np.asarray(journeys.gain("play_time_ms"), dtype=np.float64) / 1000, 0.0)
    return FeedRows(
        user=journeys.user_of_step,
        day=day - day.min(),
        hour=np.floor(clock).astype(np.int64) % 24,
        time=time,
        item=np.asarray(journeys.feature("video_id"), dtype=np.int64),
        gains={name: np.asarray(journeys.gain(of)) == 1 for name, of in GAINS.items()},
        play_s=np.minimum(play, duration),
        duration_s=duration,
        level=of_code[np.asarray(journeys.column("user/user_active_degree"))],
        levels=tuple(group[0] if group != ("*",) else "other" for group in levels),
        days=int(day.max() - day.min() + 1),
        start=(datetime.date(1970, 1, 1) + datetime.timedelta(days=int(day.min()))).isoformat(),
    )


def simulated_rows(world: FeedWorld, policy: FeedPolicy) -> FeedRows:
    """The rows of a world of one item a request under a policy; users nobody saw are left out, as in a log."""
    parts: list[dict[str, NDArray[Any]]] = []
    for step in rollout(world, policy):
        by_item = step.outcomes.by_item
        parts.append(
            {
                "row": step.requests.context["row"],
                "day": step.requests.context["day"],
                "time": step.requests.context["time"],
                "item": step.outcomes.items[:, 0].astype(np.int64),
                "play_s": by_item["play_s"][:, 0],
                **{name: by_item[name][:, 0] for name in GAINS},
            }
        )
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(whole["row"], kind="stable")
    whole = {name: values[order] for name, values in whole.items()}
    seen, user = np.unique(whole["row"], return_inverse=True)
    clock = (whole["time"] - world.scenario.start_ms) / HOUR_MS
    return FeedRows(
        user=user.astype(np.int64),
        day=np.floor(clock / 24).astype(np.int64),
        hour=np.floor(clock).astype(np.int64) % 24,
        time=whole["time"],
        item=whole["item"],
        gains={name: whole[name] for name in GAINS},
        play_s=whole["play_s"],
        duration_s=world.items.duration_s[whole["item"]].astype(np.float64),
        level=world.traits.activity[seen],
        levels=tuple(a.name for a in world.scenario.users.activity),
        days=world.days,
        start=world.scenario.start,
    )


def places(rows: FeedRows, gap_minutes: float) -> Integers:
    """(R,) the place of each row within its session: a gap longer than this begins a new one."""
    fresh = np.ones(len(rows.user), dtype=np.bool_)
    fresh[1:] = (np.diff(rows.user) != 0) | (np.diff(rows.time) > gap_minutes * 60_000)
    first = np.flatnonzero(fresh)
    return np.asarray(np.arange(len(fresh)) - first[np.cumsum(fresh) - 1])


def statistics(rows: FeedRows, gap_minutes: float) -> dict[str, float | Floats]:
    """What the rows show: numbers, distributions (their names end in "distribution") and curves ("by ...")."""
    click, place = rows.gains["click"], places(rows, gap_minutes)
    found: dict[str, float | Floats] = {f"{name} rate": float(values.mean()) for name, values in rows.gains.items()}
    level = rows.level[rows.user]
    for index, name in enumerate(rows.levels):
        found[f"click rate, {name}"] = float(click[level == index].mean())
    sessions = np.bincount(np.cumsum(place == 0) - 1)
    _, per_day = np.unique(rows.user * rows.days + rows.day, return_counts=True)
    days, came = active_days(rows)
    found |= {
        "session length": float(sessions.mean()),
        "session length distribution": _shares(sessions, 1, LENGTHS),
        "sessions a day with a visit": len(sessions) / len(per_day),
        "rows a user-day distribution": _shares(per_day, 1, ROWS),
        "days with a visit": float(days.mean()),
        "days with a visit distribution": _shares(days, 1, rows.days),
        "return next day": came,
        "hour distribution": _shares(rows.hour, 0, 23),
        "click rate by place in session": np.array([_mean(click[place == p]) for p in range(PLACES)]),
        "click rate by hour": np.array([_mean(click[rows.hour == h]) for h in range(24)]),
        "spread of click rates over items": spread_of_rates(rows.item, click, MANY_PER_ITEM),
        "spread of long view rates over items": spread_of_rates(rows.item, rows.gains["long_view"], MANY_PER_ITEM),
        "spread of click rates over users": spread_of_rates(rows.user, click, MANY_PER_USER),
        "play time of a click, s": float(rows.play_s[click].mean()),
        "play time without a click, s": float(rows.play_s[~click].mean()),
        "finish rate of a click": float((rows.play_s >= rows.duration_s)[click].mean()),
        "long view rate of a click": float(rows.gains["long_view"][click].mean()),
        "duration median, s": float(np.median(rows.duration_s)),
    }
    for q in (25, 50, 75, 95):
        found[f"play time of a click, {q} % below, s"] = float(np.quantile(rows.play_s[click], q / 100))
    return found


def compare(real: dict[str, float | Floats], simulated: dict[str, float | Floats]) -> list[Compared]:
    """Each statistic of two logs side by side, with its distance."""
    found = []
    for name, true in real.items():
        made = simulated[name]
        if isinstance(true, float) and isinstance(made, float):
            away = abs(made / true - 1) if true else float(made != 0)
            found.append(Compared(name, true, made, away))
            continue
        true, made = np.asarray(true), np.asarray(made)
        both = {"real": true.tolist(), "simulated": made.tolist()}
        if name.endswith("distribution"):
            classes = np.arange(len(true))
            pair = float(true @ classes), float(made @ classes)
            found.append(Compared(name, *pair, float(np.abs(true - made).sum() / 2), "distribution", both))
        else:
            away = float(np.nanmean(np.abs(made - true)) / np.nanmean(true))
            found.append(Compared(name, float(np.nanmean(true)), float(np.nanmean(made)), away, "curve", both))
    return found


def active_days(rows: FeedRows) -> tuple[Integers, float]:
    """(U,) days with a visit, and the share of them, the last day apart, that the next day follows."""
    there = np.zeros((len(rows.level), rows.days), dtype=np.bool_)
    there[rows.user, np.minimum(rows.day, rows.days - 1)] = True
    return there.sum(axis=1), _mean(there[:, 1:][there[:, :-1]])


def spread_of_rates(group: Integers, event: NDArray[np.bool_], least: int) -> float:
    """The sd over groups of at least `least` rows of their true rates: the sampling variance is taken off."""
    codes, count = np.unique(group, return_counts=True)
    hits = np.bincount(np.searchsorted(codes, group), weights=event)
    many = count >= least
    if many.sum() < 2:
        return 0.0
    p, n = hits[many] / count[many], count[many]
    return float(np.sqrt(max(0.0, p.var() - np.mean(p * (1 - p) / (n - 1)))))


def _shares(values: Integers, low: int, high: int) -> Floats:
    """The distribution over low..high, what lies beyond counted with the ends."""
    counts = np.bincount(np.clip(values, low, high) - low, minlength=high - low + 1)
    return np.asarray(counts / counts.sum())


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
