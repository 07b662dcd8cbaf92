"""What the journeys look like, as plain values for summary.json.

U users, N steps, M channels. A rate's 95 % interval treats users as the independent unit (a ratio of two sums over
users, linearised), because the steps of one user are alike.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.journeys.store import Journeys

STEPS = 50  # how far along the journey rates are given
FEWEST = 100  # journeys below which a step's rate is left out
CLASSES = 8  # outcome classes of a gain up to which each gets its own rate
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "datetime": 1e-3}

Floats = NDArray[np.float64]


def summarise(journeys: Journeys) -> dict[str, Any]:
    """Counts, lengths, channel shares, and gain and cost by channel and along the journey."""
    lengths = np.diff(journeys.offsets)
    found, counts = np.unique(lengths, return_counts=True)
    channel = np.asarray(journeys.channel) if journeys.has("channel") else None
    steps = journeys.user_of_step
    index = np.arange(journeys.n_steps) - np.repeat(journeys.offsets[:-1], lengths)  # (N,) from 0
    gains = _gains(journeys)
    known = {name: np.isfinite(values) for name, (values, _) in gains.items()}
    summary: dict[str, Any] = {
        "dataset": journeys.schema.name,
        "fingerprint": journeys.fingerprint,
        "users": journeys.n_users,
        "steps": journeys.n_steps,
        "channels": list(journeys.channels),
        "gains": {name: kind for name, (_, kind) in gains.items()},
        "length_histogram": [[int(a), int(b)] for a, b in zip(found, counts, strict=True)],
        "channel_share": {},
        "gain_rate": {n: _rate(v, known[n], steps, journeys.n_users, k) for n, (v, k) in gains.items()},
        "gain_rate_by_channel": {},
        "gain_rate_by_step": {n: _along(v, known[n], index) for n, (v, _) in gains.items()},
        "cost_by_channel": {},
        "time_span": _time_span(journeys),
    }
    if channel is None:
        return summary
    used = np.bincount(channel[channel >= 0], minlength=len(journeys.channels))
    summary["channel_share"] = {c: float(n / max(1, used.sum())) for c, n in zip(journeys.channels, used, strict=True)}
    at = [channel == m for m in range(len(journeys.channels))]

    def by_channel(values: Floats, given: NDArray[np.bool_], kind: str) -> dict[str, list[float]]:
        rates = {
            c: _rate(values, given & at[m], steps, journeys.n_users, kind) for m, c in enumerate(journeys.channels)
        }
        return {c: rate for c, rate in rates.items() if rate}

    summary["gain_rate_by_channel"] = {n: by_channel(v, known[n], k) for n, (v, k) in gains.items()}
    if journeys.has("cost"):
        cost = np.asarray(journeys.column("cost"), dtype=np.float64)
        summary["cost_by_channel"] = by_channel(cost, np.isfinite(cost), "continuous")
        summary["cost_unit"] = journeys.schema.cost.unit if journeys.schema.cost else None
    return summary


def _gains(journeys: Journeys) -> dict[str, tuple[Floats, str]]:
    """Each gain's values (N,) and kind; a gain of a few classes becomes one binary gain for each class."""
    gains: dict[str, tuple[Floats, str]] = {}
    for gain in journeys.schema.gains:
        if not journeys.has(f"gain/{gain.name}"):
            continue
        values = np.asarray(journeys.gain(gain.name)).astype(np.float64)
        if gain.kind != "classes":
            gains[gain.name] = (values, gain.kind)
            continue
        names = journeys.categories.get(f"gain/{gain.name}")
        codes = np.unique(values[np.isfinite(values) & (values >= 0)])
        if len(codes) <= CLASSES:
            for code in codes:
                word = names[int(code)] if names else f"{code:g}"
                gains[f"{gain.name} = {word}"] = (np.where(np.isfinite(values), values == code, np.nan), "binary")
    return gains


def _rate(values: Floats, given: NDArray[np.bool_], user: NDArray[np.int64], users: int, kind: str) -> list[float]:
    """Mean over the given steps with its interval, [] where there are none."""
    if not given.any():
        return []
    n = np.bincount(user[given], minlength=users)  # (U,)
    total = np.bincount(user[given], weights=values[given], minlength=users)  # (U,)
    mean = total.sum() / n.sum()
    seen = int((n > 0).sum())
    spread = np.sqrt(((total - mean * n) ** 2).sum() * seen / max(1, seen - 1)) / n.sum()
    low, high = mean - 1.96 * spread, mean + 1.96 * spread
    if kind == "binary":
        low, high = max(0.0, low), min(1.0, high)
    return [float(mean), float(low), float(high)]


def _along(values: Floats, given: NDArray[np.bool_], index: NDArray[np.int64]) -> list[list[float]]:
    """[step from 1, mean, n] for each of the first steps that enough journeys reach."""
    near = given & (index < STEPS)
    n = np.bincount(index[near], minlength=STEPS)
    total = np.bincount(index[near], weights=values[near], minlength=STEPS)
    return [[i + 1, float(total[i] / n[i]), int(n[i])] for i in range(STEPS) if n[i] >= FEWEST]


def _time_span(journeys: Journeys) -> dict[str, Any] | None:
    """First and last time of the log: UTC to the second, or the scaled clock's own values."""
    time = journeys.time
    if time is None or len(time) == 0:
        return None
    first, last = float(np.min(time)), float(np.max(time))
    unit = UNITS.get(journeys.schema.time_unit)
    if unit is None:
        return {"from": first, "to": last, "unit": journeys.schema.time_unit}
    try:
        ends = [datetime.fromtimestamp(t * unit, UTC).strftime("%Y-%m-%d %H:%M:%S") for t in (first, last)]
    except (OverflowError, OSError, ValueError):
        return {"from": first, "to": last, "unit": journeys.schema.time_unit}
    return {"from": ends[0], "to": ends[1], "unit": "UTC"}
