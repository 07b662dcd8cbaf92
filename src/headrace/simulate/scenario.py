"""Scenario: every number of a world, read from TOML, frozen, with a digest that names it.

`topics`, `hours` and `[users]` are what all tasks share; `[ads]` holds the advertising task, `[feed]` the feed's. A
scenario has at least one of them. Units stand beside the values in scenarios/ads.toml and feed.toml. K topics, M
channels.
"""

import dataclasses
import datetime
import hashlib
import json
import math
import tomllib
import types
import typing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from headrace.errors import UserError, unknown
from headrace.simulate.feed_scenario import Feed, check_feed

MOST_DAYS = 100_000
MOST_TOPICS = 250  # a draw has 256 places, some of which features take


@dataclass(frozen=True, slots=True)
class Activity:
    """A class of users by how often they come."""

    name: str
    share: float  # of users
    visit_rate: float  # probability of a visit on a day
    exposures: float  # mean on a day with a visit, at least 1
    click_shift: float = 0.0  # logit


@dataclass(frozen=True, slots=True)
class Users:
    """What a world's users are like, before any task."""

    activity: tuple[Activity, ...]
    ages: tuple[str, ...]
    regions: tuple[str, ...]
    drift_share: float
    drift_half_life_days: float
    click_spread: float
    intent_spread: float
    spend_spread: float
    sated_by_purchase: float
    sated_half_life_days: float
    feature_noise: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Where in the app an advert may stand."""

    name: str
    share: float  # of opportunities
    click_shift: float = 0.0  # logit


@dataclass(frozen=True, slots=True)
class AdChannel:
    """One advertising channel: its response, its price, what it leaves behind."""

    name: str
    click_rate: float
    cost_per_exposure: float
    cost_per_click: float
    conversion_rate: float
    value: float
    sensitivity: float
    intent: float
    capacity: float
    topics: tuple[float, ...]  # (K,) relative frequency
    lifts: dict[str, float]
    organic_lift: float
    cost_spread: float = 0.0  # sd of the log of an exposure's cost


@dataclass(frozen=True, slots=True)
class Logging:
    """How the log that a scenario was fitted to chose channels: what the policy `logged` does."""

    shares: tuple[float, ...] = ()  # (M,) relative frequency before preferences; empty: all alike
    preference_spread: float = 0.0  # sd over users of the log of a channel's frequency
    repeat: float = 0.0  # probability of the same channel as last time, whatever the preferences


@dataclass(frozen=True, slots=True)
class Ads:
    """The advertising task."""

    channels: tuple[AdChannel, ...]
    placements: tuple[Placement, ...]
    most_exposures_per_day: int
    taste_weight: float
    evening_shift: float
    evening_hour: float
    saturation_half_life_days: float
    capacity_spread: float
    carry_over_half_life_days: float
    click_carry_over: float
    view_through: float
    conversion_delay_hours: float
    conversion_window_days: float
    value_spread: float
    organic_rate: float
    organic_value: float
    logging: Logging = Logging()


_NONE: dict[str, Any] = {f.name: 0.0 for f in dataclasses.fields(Ads) if f.type is float}
NO_ADS = Ads((), (), 0, **_NONE)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world's numbers. `Scenario.load("ads")`, or a path; change one with dataclasses.replace."""

    name: str
    currency: str
    days: int
    start: str
    topics: tuple[str, ...]
    hours: tuple[float, ...]  # (24,)
    users: Users
    ads: Ads = NO_ADS
    feed: Feed | None = None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels' names, in order."""
        return tuple(channel.name for channel in self.ads.channels)

    def channel(self, name: str) -> int:
        """The index of a channel, or an error that proposes the nearest name."""
        if name not in self.channels:
            raise unknown("channel", name, self.channels, f"scenario {self.name}")
        return self.channels.index(name)

    @property
    def feed_task(self) -> Feed:
        """The numbers of the feed; raises UserError where the scenario has none."""
        if self.feed is None:
            raise UserError(f"scenario {self.name}: no [feed], expected its numbers; scenarios/feed.toml shows them")
        return self.feed

    def days_of(self, wanted: int | None) -> int:
        """How many days to simulate: the wanted ones, or the scenario's own; raises UserError for a number beyond."""
        if wanted is not None and not 1 <= wanted <= MOST_DAYS:
            raise UserError(
                f"days is {wanted}, expected 1 or more, at most {MOST_DAYS}; the scenario's default is {self.days}"
            )
        return self.days if wanted is None else wanted

    @property
    def start_ms(self) -> int:
        """Day 0 of the clock, ms since 1970 UTC."""
        day = datetime.datetime.fromisoformat(self.start).replace(tzinfo=datetime.UTC)
        return int(day.timestamp()) * 1000

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the TOML file; a task that the scenario lacks is left out."""
        absent = {"ads"} if self.ads == NO_ADS else set()
        absent |= {"feed"} if self.feed is None else set()
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in absent}

    @property
    def sha256(self) -> str:
        """A digest of every number: equal scenarios, equal digest."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "scenario") -> "Scenario":
        """The scenario of a TOML file's values; an unknown or missing key is an error that names it."""
        built: Scenario = _build(cls, values, where)
        return built

    @classmethod
    def load(cls, source: str | Path) -> "Scenario":
        """A packaged scenario by name, or one from a TOML file.

        >>> Scenario.load("ads").channels
        ('search', 'social', 'video', 'display', 'email')
        """
        packaged = {entry.name[:-5]: entry for entry in _folder().iterdir() if entry.name.endswith(".toml")}
        if str(source) in packaged:
            return cls.from_dict(tomllib.loads(packaged[str(source)].read_text(encoding="utf-8")), f"scenario {source}")
        path = Path(source)
        if not path.is_file():
            if path.suffix == "" and path.name == str(source):
                raise unknown("scenario", str(source), sorted(packaged), "a name or a TOML file")
            raise UserError(f"{path}: no such scenario file; give a path, or one of: {', '.join(sorted(packaged))}")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{path}: not valid TOML ({error}); correct that line") from None
        return cls.from_dict(values, str(path))


def _folder() -> Any:
    return resources.files("headrace.simulate") / "scenarios"


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`: a dataclass, tuple[X, ...], dict[str, X], float, int or str; else a UserError at `where`."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{where}: {value!r} where a table of keys was expected; write it as [section]")
        hints = typing.get_type_hints(kind)
        for key in value:
            if key not in hints:
                raise unknown("key", key, hints, where)
        defaults = {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
        missing = [key for key in hints if key not in value and key not in defaults]
        if missing:
            raise UserError(f"{where}: no {', '.join(missing)}; add the key (scenarios/ads.toml shows every one)")
        parts = {key: _build(hints[key], entry, f"{where} {key}") for key, entry in value.items()}
        return typing.cast(Any, kind)(**parts)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # X | None: a part that may be left out
        return _build(arguments[0], value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_build(arguments[0], entry, f"{where}[{index}]") for index, entry in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {str(key): _build(arguments[1], entry, f"{where} {key}") for key, entry in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind in (int, str) and type(value) is kind:
        return value
    shown = kind if isinstance(kind, types.GenericAlias) else kind.__name__
    raise UserError(f"{where}: {value!r} where {shown} was expected; correct the value")


def _check(scenario: Scenario) -> None:
    """Raise a UserError for the first value that no world can have."""
    users, ads, k = scenario.users, scenario.ads, len(scenario.topics)
    for what, listed in (("topics", scenario.topics), ("channels", scenario.channels)):
        if len(set(listed)) < len(listed):
            raise UserError(f"scenario {scenario.name}: a name stands twice in {what}; names must differ")
    entries: list[tuple[str, float, float, float]] = [  # what, value, low, high
        ("days", scenario.days, 1, MOST_DAYS),
        ("number of hours", len(scenario.hours), 24, 24),
        ("smallest of hours", min(scenario.hours, default=0), 0, math.inf),
        ("sum of hours", sum(scenario.hours), 1e-9, math.inf),
        ("number of topics", k, 1, MOST_TOPICS),
        ("number of channels", len(ads.channels), 1, 255),
        ("number of ages", len(users.ages), 1, 255),
        ("number of regions", len(users.regions), 1, 255),
        ("sum of users.activity share", round(sum(a.share for a in users.activity), 9), 1, 1),
        ("sum of ads.placements share", round(sum(p.share for p in ads.placements), 9), 1, 1),
        ("users.drift_share", users.drift_share, 0, 1),
        ("ads.view_through", ads.view_through, 0, 1),
        ("ads.most_exposures_per_day", ads.most_exposures_per_day, 1, 1000),
        ("ads.evening_hour", ads.evening_hour, 0, 24),
        ("ads.logging.repeat", ads.logging.repeat, 0, 1),
        ("ads.logging.preference_spread", ads.logging.preference_spread, 0, math.inf),
        ("smallest of ads.logging.shares", min(ads.logging.shares, default=1e-9), 1e-9, math.inf),
    ]
    if ads.logging.shares:
        entries.append(("number of ads.logging.shares", len(ads.logging.shares), len(ads.channels), len(ads.channels)))
    for part, values, names in (
        (
            "users",
            users,
            "drift_half_life_days click_spread intent_spread spend_spread sated_by_purchase "
            "sated_half_life_days feature_noise",
        ),
        (
            "ads",
            ads,
            "saturation_half_life_days capacity_spread carry_over_half_life_days click_carry_over "
            "conversion_delay_hours conversion_window_days value_spread organic_rate organic_value",
        ),
    ):
        for name in names.split():
            low = 1e-9 if "half_life" in name or name.startswith("conversion") else 0.0
            entries.append((f"{part}.{name}", getattr(values, name), low, math.inf))
    for activity in users.activity:
        where = f"users.activity {activity.name}"
        entries += [(f"{where} share", activity.share, 0, 1), (f"{where} visit_rate", activity.visit_rate, 1e-6, 1)]
        entries += [(f"{where} exposures", activity.exposures, 1, math.inf)]
    entries += [(f"ads.placements {place.name} share", place.share, 0, 1) for place in ads.placements]
    for channel in ads.channels:
        where = f"ads.channels {channel.name}"
        entries += [(f"{where} click_rate", channel.click_rate, 1e-6, 1 - 1e-6)]
        entries += [(f"{where} number of topics", len(channel.topics), k, k)]
        entries += [(f"{where} sum of topics", sum(channel.topics), 1e-9, math.inf)]
        entries += [(f"{where} smallest of topics", min(channel.topics, default=0), 0, math.inf)]
        entries += [(f"{where} capacity", channel.capacity, 1e-9, math.inf)]
        amounts = "cost_per_exposure cost_per_click cost_spread conversion_rate value sensitivity organic_lift"
        for name in amounts.split():
            entries.append((f"{where} {name}", getattr(channel, name), 0, math.inf))
        for other, lift in channel.lifts.items():
            if other not in scenario.channels or other == channel.name:
                others = [name for name in scenario.channels if name != channel.name]
                raise unknown("channel in lifts", other, others, f"scenario {scenario.name}: {where}")
            entries.append((f"{where} lifts {other}", lift, 0, math.inf))
    if scenario.feed is not None:
        entries += check_feed(f"scenario {scenario.name}", scenario.feed, tuple(a.name for a in users.activity))
    if ads == NO_ADS:
        if scenario.feed is None:
            raise UserError(f"scenario {scenario.name}: neither [ads] nor [feed]; add the task to be simulated")
        absent = ("ads.", "number of channels", "sum of ads.")
        entries = [entry for entry in entries if not entry[0].startswith(absent)]
    for what, value, low, high in entries:
        if not low <= value <= high:
            expected = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            raise UserError(f"scenario {scenario.name}: {what} is {value:g}, expected {expected}; correct the value")
    try:
        datetime.date.fromisoformat(scenario.start)
    except ValueError:
        raise UserError(
            f"scenario {scenario.name}: start is {scenario.start!r}, expected a date like 2024-01-01"
        ) from None
