"""LogSchema: which column of a log is what, and when each value becomes known.

The one question that decides whether a number is honest is *when was this value known*. Every feature and every gain
answers it with `known`:

    before      known before the decision of its own step
    after       known from the next step on (what the decision brought about)
    at:COLUMN   known once the log's clock has passed the time in COLUMN (a delayed conversion)
    never       a label only: never an input, of any step

A schema is a frozen value; it is written and read as TOML so that a person can correct a drafted one.
"""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w

from headrace.errors import UserError, unknown

FeatureKind = Literal["categorical", "numeric"]
GainKind = Literal["binary", "continuous", "classes"]
Level = Literal["step", "user"]
TimeUnit = Literal["s", "ms", "us", "ns", "datetime", "scaled"]
LISTS = (
    "channel",
    "channels",
    "scores",
    "outcomes",
    "offsets",
    "negative",
    "weights",
    "low",
    "high",
)  # keys of a schema file that may hold a list of text
TABLES = ("features", "gains", "cost", "candidates", "fusion")
OTHERS = {
    "label_window_s": (int | float, "a number of seconds"),
    "context": (bool, "true or false"),
    "offsets": (int | float, "numbers"),
}


@dataclass(frozen=True, slots=True)
class Feature:
    """A column that describes a user (`level = "user"`) or a step."""

    name: str
    kind: FeatureKind = "numeric"
    known: str = "before"  # before | after
    level: Level = "step"


@dataclass(frozen=True, slots=True)
class Gain:
    """A column that says what people did: a click (binary), a play time (continuous), an outcome code (classes)."""

    name: str
    kind: GainKind = "binary"
    known: str = "after"  # after | at:COLUMN | never
    one: str | None = None  # of a binary gain in text: what is read as 1
    zero: str | None = None  # and as 0; numbers, true and false need neither


@dataclass(frozen=True, slots=True)
class Cost:
    """The column of what a step cost, in `unit` ("EUR", "USD", or "scaled" where it can't be charged)."""

    name: str
    unit: str = "scaled"
    context: bool = False  # known when the step is shown (paid per exposure); False: it may tell the outcome (a click)


@dataclass(frozen=True, slots=True)
class Candidates:
    """List columns of a step that holds a ranked list: one entry an item."""

    item: str
    scores: tuple[str, ...] = ()
    position: str | None = None
    outcomes: tuple[str, ...] = ()
    offsets: tuple[float, ...] = ()  # what is added to each score before its logarithm; none: .001 to all
    negative: tuple[str, ...] = ()  # scores of which less is better, such as of leaving


@dataclass(frozen=True, slots=True)
class Fusion:
    """Columns of a decision log whose lists were ranked by fusion weights, one weight a score of the candidates."""

    weights: tuple[str, ...]  # in the order of the candidates' scores
    low: tuple[str, ...] = ()  # the box of the weights, likewise
    high: tuple[str, ...] = ()
    log_propensity: str | None = None  # log of the density with which the weights were drawn
    terminated: str | None = None  # the user left after this request
    truncated: str | None = None  # the session was cut after it


@dataclass(frozen=True, slots=True)
class LogSchema:
    """Names the columns of a log. `channel` is one column, or the columns of a one-hot group."""

    name: str
    user: str | None = None  # None: each row is a journey of its own
    time: str | None = None  # None: the file's row order is time order within a user
    time_unit: TimeUnit = "ms"
    session: str | None = None
    channel: str | tuple[str, ...] | None = None
    channels: tuple[str, ...] = ()  # the allowed channels, in order; empty: those the log holds, sorted
    features: tuple[Feature, ...] = ()
    gains: tuple[Gain, ...] = ()
    cost: Cost | None = None
    propensity: str | None = None
    label_window_s: float | None = None  # how long after a step its gains may still arrive
    candidates: Candidates | None = None
    fusion: Fusion | None = None

    def __post_init__(self) -> None:
        names = [f.name for f in self.features] + [g.name for g in self.gains]
        for kind, given in (("", names), ("channel ", list(self.channels)), ("column ", list(self.channel_columns))):
            twice = sorted({n for n in given if given.count(n) > 1})
            if twice:
                raise UserError(f"schema {self.name}: {kind}{', '.join(twice)} declared twice; keep one entry for each")
        for name in names:
            if name in self._taken():
                raise UserError(
                    f"schema {self.name}: {name!r} among features and gains is the name that journeys keep for their "
                    f"own {name}; rename that column, or take the entry out"
                )
        for feature in self.features:
            _check(self.name, "features", feature.name, "kind", feature.kind, get_args(FeatureKind))
            _check(self.name, "features", feature.name, "known", feature.known, ("before", "after"))
            _check(self.name, "features", feature.name, "level", feature.level, get_args(Level))
            if feature.level == "user" and feature.known == "after":
                raise UserError(
                    f"schema {self.name}: feature {feature.name} has level 'user', so every step sees it, but is known "
                    "'after'; declare it level = 'step', or known = 'before' if it was known from the start"
                )
        for gain in self.gains:
            _check(self.name, "gains", gain.name, "kind", gain.kind, get_args(GainKind))
            told = (gain.one, gain.zero)
            if told != (None, None) and (gain.kind != "binary" or None in told or gain.one == gain.zero):
                raise UserError(
                    f"schema {self.name}: gain {gain.name}: one = {gain.one!r}, zero = {gain.zero!r}; expected two "
                    "texts of a binary gain, the one read as 1 and the other as 0, or neither"
                )
            if not gain.known.startswith("at:") or gain.known == "at:":
                _check(self.name, "gains", gain.name, "known", gain.known, ("after", "at:COLUMN", "never"))
            elif self.time is None:
                raise UserError(
                    f"schema {self.name}: gain {gain.name} is known {gain.known!r} but the log has no time column; "
                    "name one, or use known = 'after' or 'never'"
                )
        if self.candidates is not None:
            c = self.candidates
            if len(c.offsets) not in (0, len(c.scores)) or any(not offset > 0 for offset in c.offsets):
                raise UserError(
                    f"schema {self.name}: [candidates] offsets = {list(c.offsets)} for {len(c.scores)} scores; name "
                    "one above 0 for each, in their order, or none"
                )
            for name in c.negative:
                if name not in c.scores:
                    raise unknown("score in negative", name, c.scores, f"schema {self.name} [candidates]")
        if self.fusion is not None:
            scores = len(self.candidates.scores) if self.candidates else 0
            edges = {len(part) for part in (self.fusion.low, self.fusion.high)}
            if len(self.fusion.weights) != scores or edges - {0, scores}:
                raise UserError(
                    f"schema {self.name}: [fusion] names {len(self.fusion.weights)} weights for {scores} scores of "
                    "[candidates]; name one weight (and one low and high) a score, in their order"
                )
        _check(self.name, "time", str(self.time), "time_unit", self.time_unit, get_args(TimeUnit))
        if self.label_window_s is not None and not self.label_window_s > 0:
            raise UserError(
                f"schema {self.name}: label_window_s is {self.label_window_s}, expected more than 0 seconds"
            )

    @property
    def per_second(self) -> float | None:
        """Units of the log's clock in a second; None where the clock has no unit."""
        return {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "datetime": 1e3}.get(self.time_unit)

    @property
    def label_window(self) -> float | None:
        """`label_window_s` in the unit of the log's clock; None where there is none, or the clock has no unit."""
        return None if self.label_window_s is None or self.per_second is None else self.label_window_s * self.per_second

    @property
    def channel_columns(self) -> tuple[str, ...]:
        """The columns that hold the channel: none, one, or a one-hot group."""
        if self.channel is None:
            return ()
        return (self.channel,) if isinstance(self.channel, str) else self.channel

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of the log that this schema names, once each."""
        names = [self.user, self.time, self.session, *self.channel_columns]
        names += [f.name for f in self.features]
        for gain in self.gains:
            names += [gain.name, gain.known[3:] if gain.known.startswith("at:") else None]
        names += [self.cost.name if self.cost else None, self.propensity]
        if self.candidates:
            c = self.candidates
            names += [c.item, c.position, *c.scores, *c.outcomes]
        if self.fusion:
            f = self.fusion
            names += [*f.weights, *f.low, *f.high, f.log_propensity, f.terminated, f.truncated]
        return tuple(dict.fromkeys(n for n in names if n is not None))

    def feature(self, name: str) -> Feature:
        """The feature of this name, or an error that proposes the nearest one."""
        found = next((f for f in self.features if f.name == name), None)
        if found is None:
            raise unknown("feature", name, [f.name for f in self.features], f"schema {self.name}")
        return found

    def gain(self, name: str) -> Gain:
        """The gain of this name, or an error that proposes the nearest one."""
        found = next((g for g in self.gains if g.name == name), None)
        if found is None:
            raise unknown("gain", name, [g.name for g in self.gains], f"schema {self.name}")
        return found

    def _taken(self) -> set[str]:
        """Names under which a view keeps a step's channel, cost and times; no feature or gain may have them."""
        roles = {"channel": self.channel, "cost": self.cost, "gap": self.time}
        taken = {name for name, column in roles.items() if column is not None}
        return taken | ({"time"} if self.time not in (None, "time") else set())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML and JSON; empty ones are left out."""
        return {k: v for k, v in _plain(self).items() if k == "name" or v not in (None, [], {})}

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "schema") -> "LogSchema":
        """The schema of `to_dict`'s values; an unknown key is an error with the nearest name."""
        _check_entry(cls, values, where, 'add  name = "my-log"  at the top')
        parts = {key: _tuples(value) for key, value in values.items()}
        for key, kind in (("features", Feature), ("gains", Gain)):
            entries = values.get(key, [])
            if not isinstance(entries, list):
                raise UserError(f"{where}: {key} is no list; head each entry with  [[{key}]]")
            for entry in entries:
                _check_entry(kind, entry, f"{where} [[{key}]]", 'add  name = "COLUMN"  to it')
            parts[key] = tuple(kind(**entry) for entry in entries)
        for key, single, do in (
            ("cost", Cost, "name"),
            ("candidates", Candidates, "item"),
            ("fusion", Fusion, "weights"),
        ):
            entry = values.get(key)
            if entry is not None:
                _check_entry(single, entry, f"{where} [{key}]", f'add  {do} = "COLUMN"  to it')
                parts[key] = single(**{k: _tuples(v) for k, v in entry.items()})
        return cls(**parts)

    def save(self, path: str | Path) -> None:
        """Write the schema as TOML."""
        Path(path).write_text(tomli_w.dumps(self.to_dict()), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "LogSchema":
        """Read a schema from TOML; raises UserError with file and line where it is not valid."""
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, IsADirectoryError):
            raise UserError(f"{path}: no such schema file; draft one with  headrace data inspect LOG") from None
        except UnicodeDecodeError:
            raise UserError(f"{path}: not UTF-8 text, so no TOML; give a schema file") from None
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{path}: not valid TOML ({error}); correct that line") from None
        return cls.from_dict(values, str(path))


def _check(schema: str, section: str, name: str, key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise unknown(f"{key} of {name} in {section}", value, allowed, f"schema {schema}")


def _check_entry(kind: type, values: Any, where: str, without: str) -> None:
    """Raise unless `values` is a table of known keys, the first field's among them, that hold text or lists of it."""
    names = [f.name for f in dataclasses.fields(kind)]
    if not isinstance(values, dict):
        raise UserError(f"{where}: {values!r} is no table; expected the keys {', '.join(names)}")
    for key, value in values.items():
        if key not in names:
            raise unknown("key", key, names, where)
        if key in LISTS and key != "channel" and not isinstance(value, list):
            raise UserError(f"{where}: {key} is {value!r}, expected a list, {key} = [...]")
        texts = value if isinstance(value, list) and key in LISTS else [value]
        kind_of, expected = OTHERS.get(key, (str, "text in quotes"))
        if key not in TABLES and not all(isinstance(t, kind_of) for t in texts):
            raise UserError(f"{where}: {key} is {value!r}, expected {expected}")
    if names[0] not in values:
        raise UserError(f"{where}: no {names[0]}; {without}")


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {k: _plain(v) for k, v in fields.items() if v is not None}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value
