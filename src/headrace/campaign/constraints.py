"""What people demand of a plan, from a TOML file and flags; amounts in money, or as a share of the budget ("30%").

    budget = 10000            # over the whole plan
    days = 7                  # that it lasts
    daily_budget = 2000       # on any of them
    pacing = "even"           # even: as much on each day; soon: the best exposures on the first days
    per_user = 2              # frequency cap: exposures of one user, each on another channel
    exploration = 0.05        # at least this share of the budget on users and channels drawn by lot
    [channels.search]
    budget = 3000             # a pot of its own: at most this
    cap = "40%"               # at most this
    floor = 500               # at least this
    frozen = 800              # this much, to within one exposure; 0 closes the channel

From here on money is whole micros, so that sums are exact.
"""

import math
import tomllib
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from headrace.campaign.money import to_micros
from headrace.errors import UserError, unknown
from headrace.journeys.seams import Floats, Integers

PACING = ("even", "soon")
Amount = float | str  # money, or "30%" of the budget


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """What one channel may and must spend."""

    budget: Amount | None = None
    cap: Amount | None = None
    floor: Amount | None = None
    frozen: Amount | None = None


@dataclass(frozen=True, slots=True)
class Constraints:
    """All demands on a plan."""

    budget: float
    days: int = 1
    daily_budget: float | None = None
    pacing: str = "even"
    per_user: int = 1
    exploration: float = 0.0
    channels: dict[str, ChannelLimits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, least in (("budget", self.budget, 0), ("days", self.days, 1), ("per_user", self.per_user, 1)):
            if not value >= least or not math.isfinite(value):
                raise UserError(f"{name} is {value:g}, expected {least} or more")
        if self.daily_budget is not None and not 0 <= self.daily_budget < math.inf:
            raise UserError(f"daily_budget is {self.daily_budget:g}, expected 0 or more")
        if self.pacing not in PACING:
            raise unknown("pacing", self.pacing, PACING)
        if not 0 <= self.exploration <= 1:
            raise UserError(f"exploration is {self.exploration:g}, expected a share from 0 to 1")

    @property
    def total_micros(self) -> int:
        """What all days may spend together."""
        whole = to_micros(self.budget)
        return whole if self.daily_budget is None else min(whole, self.days * self.day_micros)

    @property
    def day_micros(self) -> int:
        """The most that any day may spend."""
        return self.total_micros if self.daily_budget is None else to_micros(self.daily_budget, "daily_budget")


@dataclass(frozen=True, slots=True)
class Limit:
    """One line of the plan's program: what a channel (or all of them, -1) spends is at most or at least `micros`."""

    name: str
    channel: int
    least: bool
    micros: int


def load(path: Path) -> dict[str, Any]:
    """The values of a constraints file; unknown keys are errors that propose the nearest one."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such constraints file") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid TOML ({error}); correct that line") from None
    known = {f.name for f in fields(Constraints)}
    for key, value in values.items():
        if key not in known:
            raise unknown("key", key, sorted(known), str(path))
        kind = {"days": int, "per_user": int, "pacing": str, "channels": dict}.get(key, (int, float))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{path}: {key} is {value!r}, expected {EXPECTED.get(key, 'a number')}")
    limits = {f.name for f in fields(ChannelLimits)}
    for channel, entry in values.get("channels", {}).items():
        if not isinstance(entry, dict):
            raise UserError(f"{path}: channels.{channel} is {entry!r}; head it with  [channels.{channel}]")
        for key, value in entry.items():
            if key not in limits:
                raise unknown("key", key, sorted(limits), f"{path} [channels.{channel}]")
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise UserError(f"{path} [channels.{channel}]: {key} is {value!r}, expected a number or a share '30%'")
    channels = {name: ChannelLimits(**entry) for name, entry in values.get("channels", {}).items()}
    return values | {"channels": channels}


EXPECTED = {"days": "a whole number", "per_user": "a whole number", "pacing": "even or soon", "channels": "tables"}


def with_flags(
    channels: dict[str, ChannelLimits], key: str, given: tuple[str, ...], flag: str
) -> dict[str, ChannelLimits]:
    """The channels' limits with those of a repeated flag, CHANNEL=AMOUNT each, in place of the file's."""
    found, named = dict(channels), set()
    for text in given:
        name, equals, amount = text.rpartition("=")
        if not equals or not name:
            raise UserError(f"{flag} {text}: expected CHANNEL=AMOUNT, for example  {flag} search=500  or  search=30%")
        if name in named:
            raise UserError(f"{flag} {text}: {name} is given twice; leave one of them out")
        named.add(name)
        found[name] = replace(found.get(name, ChannelLimits()), **{key: amount})
    return found


def limits_of(wanted: Constraints, channels: tuple[str, ...], budget: int | None = None) -> list[Limit]:
    """Every limit by its name; `budget` in micros instead of the one that is demanded."""
    total = wanted.total_micros if budget is None else budget
    if wanted.daily_budget is not None and budget is None and total < to_micros(wanted.budget):
        first = f"daily budget ({wanted.days} days of {wanted.daily_budget:,.10g})"
    else:
        first = "budget"
    found = [Limit(first, -1, False, total)]
    for name, of in wanted.channels.items():
        if name not in channels:
            raise unknown("channel", name, channels, "constraints")
        at = channels.index(name)
        for key, words, least in (
            ("budget", "channel budget", False),
            ("cap", "cap", False),
            ("floor", "floor", True),
            ("frozen", "frozen spend", True),
            ("frozen", "frozen spend", False),
        ):
            amount = getattr(of, key)
            if amount is not None:
                size = amount_of(amount, total, f"{words} of {name}", key == "floor")
                found.append(Limit(f"{words} of {name}", at, least, size))
    return found


def bounds_of(limits: list[Limit], prices: Floats) -> tuple[Floats, Floats]:
    """(M,) the least and the most each channel may spend, in micros; a frozen spend may be missed by one exposure."""
    m = prices.shape[1]
    lower, upper = np.zeros(m), np.full(m, np.inf)
    for limit in limits:
        if limit.channel < 0:
            continue
        if limit.least:
            room = prices[:, limit.channel].max(initial=0.0) if limit.name.startswith("frozen") else 0.0
            lower[limit.channel] = max(lower[limit.channel], limit.micros - room)
        else:
            upper[limit.channel] = min(upper[limit.channel], limit.micros)
    return lower, upper


def pace(prices: Floats, days: int, limit: float, even: bool) -> Integers:
    """The day of each exposure in turn; -1 where no day has room for it. No day spends more than `limit`.

    `even`: as much on each day as on any other; else as early as the limit lets.

    >>> pace(np.array([3.0, 3.0, 3.0, 1.0]), 2, 6.0, even=False).tolist()
    [0, 0, 1, 1]
    >>> pace(np.array([1.0, 1.0, 1.0, 1.0]), 2, 6.0, even=True).tolist()
    [0, 0, 1, 1]
    """
    paid = np.cumsum(prices)
    goal = (paid[-1] / days if even else limit) if len(prices) else 0.0
    if goal <= 0:
        return np.where(prices <= limit, 0, -1).astype(np.int64)
    # by its middle, so that days differ by less than an exposure
    day = np.minimum((paid - prices / 2) // goal, days - 1).astype(np.int64)
    spent = np.bincount(day, prices, days)
    for full in np.flatnonzero(spent > limit):
        for i in np.flatnonzero(day == full)[::-1]:
            if spent[full] <= limit:
                break
            day[i], spent[full] = -1, spent[full] - prices[i]
    for i in np.flatnonzero(day < 0):
        room = np.flatnonzero(spent + prices[i] <= limit)
        if len(room):
            day[i] = room[0]
            spent[room[0]] += prices[i]
    return day


def amount_of(amount: Amount, total: int, where: str, up: bool) -> int:
    """Micros, rounded down, or `up`."""
    text = str(amount).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        raise UserError(f"{where} is {amount!r}, expected money or a share such as 30%") from None
    if not 0 <= value < math.inf:
        raise UserError(f"{where} is {text}, expected 0 or more")
    if not text.endswith("%"):
        return to_micros(value, where, up)
    exact = total * Decimal(repr(value)) / 100
    return math.ceil(exact) if up else math.floor(exact)
