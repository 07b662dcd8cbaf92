"""Draft a schema from a log that nobody described: what each column seems to be, and why, for a person to correct.

Guesses go by the column's name and by its values in the first rows. They err on the safe side: a step's feature is
drafted `after` unless its name says that it is context (an hour, a device), whatever looks like an outcome becomes a
gain and never a feature, and what looks computed over a whole journey becomes `never`. A guess by values alone says
so.

    draft, preview = inspect("log.csv")
    save(draft, preview, "log.toml")      # with a comment to every guess
"""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import tomli_w

from headrace.errors import UserError
from headrace.journeys.facts import ONE_ZERO, VOCABULARY, Facts, facts_of, one_line
from headrace.journeys.readers import READERS
from headrace.journeys.readers.files import ROW, Files, broken_files, kind, only, scan_log
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema, TimeUnit

SAMPLE = 500_000  # rows that the guesses look at
_UNITS: dict[TimeUnit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_EPOCH_S = (6.0e8, 4.0e9)  # 1989 to 2096
_MOST_CHANNELS = 60


@dataclass(frozen=True, slots=True)
class Column:
    """What was seen of one column, the role it was given, and why."""

    column: str
    type: str
    nulls: int
    distinct: int
    example: str
    role: str
    why: str


@dataclass(frozen=True, slots=True)
class Preview:
    """The columns of a log as the draft takes them, from its first `rows` rows."""

    path: Path
    rows: int
    columns: tuple[Column, ...]
    known_as: str | None = None  # a published layout that has exactly these columns


def inspect(path: str | Path) -> tuple[LogSchema, Preview]:
    """A drafted schema of a log and the preview that explains it; raises UserError where the log can't be read."""
    path = Path(path)
    with tempfile.TemporaryDirectory() as scratch:
        paths = only(path)
        for thorough in (False, True):
            try:
                with broken_files(path):
                    lazy = scan_log(paths, Files(Path(scratch), thorough)).drop(ROW)
                    sample = lazy.head(SAMPLE).collect(engine="streaming")
                break
            except pl.exceptions.ComputeError as error:
                if thorough:
                    raise UserError(f"{path}: can't be read ({one_line(str(error))[:200]}); check the file") from error
    if sample.is_empty():
        raise UserError(f"{path}: the log has a header but no rows; give a log with rows")
    facts = {name: facts_of(sample[name]) for name in sample.columns}
    name = path.name.removesuffix(kind(path) or "") if path.is_file() else path.name
    return _Draft(sample, facts, name).finish(path)


def describe(preview: Preview) -> list[tuple[str, str, str, str, str, str, str]]:
    """Rows of a table: column, type, nulls, distinct, example, role, why."""
    return [(c.column, c.type, f"{c.nulls:,}", f"{c.distinct:,}", c.example, c.role, c.why) for c in preview.columns]


def toml(draft: LogSchema, preview: Preview) -> str:
    """The draft as TOML with the reason of every guess as a comment."""
    why = {column.column: f"{column.why}  [{column.type}, e.g. {column.example}]" for column in preview.columns}
    values = draft.to_dict()
    parts = [f"# Drafted from {preview.path.name} ({preview.rows:,} rows seen). Every line is a guess: correct it."]
    if preview.known_as:
        parts.append(f"# The columns are those of a published layout: try  --schema {preview.known_as}")
    left_out = [c.column for c in preview.columns if c.role == "left out"]
    parts += [f"# left out: {one_line(name)}: {one_line(why[name])}" for name in left_out]
    parts.append(
        "# known = before (the decision) | after (from the next step on) | at:COLUMN (a time) | never (a label only)\n"
    )
    tables = ("features", "gains", "cost", "candidates")
    for key, value in values.items():
        if key in tables:
            continue
        column = value[0] if isinstance(value, list) else value
        if key in ("user", "time", "session", "channel", "propensity"):
            parts.append(f"# {one_line(why[column])}")
        parts.append(tomli_w.dumps({key: value}).strip())
    for key in tables:
        entries = values.get(key, [])
        for entry in entries if isinstance(entries, list) else [entries]:
            comment = f"\n# {one_line(why[entry['name']])}" if entry.get("name") in why else ""
            head = f"[[{key}]]" if isinstance(entries, list) else f"[{key}]"
            parts.append(f"{comment}\n{head}\n{tomli_w.dumps(entry).strip()}")
    return "\n".join(parts) + "\n"


def save(draft: LogSchema, preview: Preview, path: str | Path) -> None:
    """Write the draft, comments and all."""
    Path(path).write_text(toml(draft, preview), encoding="utf-8")


class _Draft:
    """Gives the columns their roles, one role after the other, and remembers why."""

    def __init__(self, sample: pl.DataFrame, facts: dict[str, Facts], name: str):
        self.sample = sample
        self.facts = facts
        self.name = name
        self.roles: dict[str, tuple[str, str]] = {}  # column -> role, why

    def finish(self, path: Path) -> tuple[LogSchema, Preview]:
        """Go through the roles in the order of how sure they are."""
        for fact in self.facts.values():
            if isinstance(fact.type, pl.List | pl.Struct | pl.Array):
                self._take(fact.name, "left out", "lists: declare them under [candidates] by hand")
        user = self._user()
        propensity = self._propensity()
        time, unit = self._time()
        session = self._first("session", [f for f in self._free() if f.says("session") and f.distinct > 1])
        self.varying = self._varying(user)
        at = self._outcome_times(time)
        gains = self._gains(at)
        channel = self._channel()
        if not gains:
            gains = self._gains_by_value()
        cost = self._cost()
        features = self._features(user)
        window = self._window(gains, time, unit)
        schema = LogSchema(
            name=re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-").lower() or "log",
            user=user,
            time=time,
            time_unit=unit,
            session=session,
            channel=channel,
            features=tuple(features),
            gains=tuple(gains),
            cost=Cost(cost) if cost else None,
            propensity=propensity,
            label_window_s=window,
        )
        columns = tuple(
            Column(f.name, str(f.type), f.nulls, f.distinct, f.example, *self.roles[f.name])
            for f in self.facts.values()
        )
        there = set(self.facts)
        known = next((n for n, r in READERS.items() if n != "headrace" and set(r.schema.columns) <= there), None)
        return schema, Preview(path, len(self.sample), columns, known)

    def _take(self, column: str, role: str, why: str) -> str:
        self.roles[column] = (role, why)
        return column

    def _free(self) -> list[Facts]:
        return [fact for fact in self.facts.values() if fact.name not in self.roles]

    def _first(self, role: str, found: Sequence[Facts]) -> str | None:
        return self._take(found[0].name, role, "by its name") if found else None

    def _user(self) -> str | None:
        rows = len(self.sample)
        ids = [
            f
            for f in self._free()
            if (f.is_text or f.type.is_integer()) and not f.nulls and 1 < f.distinct < rows and not f.is_binary
        ]
        named = [f for f in ids if f.says("user") and not f.says("about a user")]
        if named:
            best = max(named, key=lambda f: ("id" in f.words or len(f.words) == 1, f.distinct))
            return self._take(best.name, "user", "by its name")
        repeated = [f for f in ids if f.distinct * 2 <= rows and f.distinct > 20 and not f.says("time", "category")]
        sure = [f for f in repeated if self._moment(f) is None and not f.says("channel", "session", "cost", "amount")]
        if sure:
            best = max(sure, key=lambda f: (f.is_id, f.is_text, f.distinct))
            return self._take(best.name, "user", "by its values alone: an id that comes back; take it out if it is not")
        return None

    def _propensity(self) -> str | None:
        shares = [
            f
            for f in self._free()
            if f.says("propensity") and f.low is not None and f.high and f.low > 0 and f.high <= 1
        ]
        return self._first("propensity", shares)

    def _moment(self, fact: Facts) -> TimeUnit | None:
        """The unit in which a column could be a clock, by its type and values."""
        if fact.type == pl.Date or isinstance(fact.type, pl.Datetime):
            return "datetime"
        if fact.type == pl.String and re.match(r"\d{4}-\d\d-\d\d", fact.example):
            return "datetime"
        if fact.low is None or fact.high is None:
            return None
        for unit, scale in _UNITS.items():
            if _EPOCH_S[0] * scale <= fact.low and fact.high <= _EPOCH_S[1] * scale:
                return unit
        return None

    def _time(self) -> tuple[str | None, TimeUnit]:
        free = [f for f in self._free() if not f.nulls and f.distinct > 1]
        moments = [(f, unit) for f in free if (unit := self._moment(f)) and not f.says("outcome", "amount")]
        moments.sort(key=lambda pair: (not pair[0].says("time"), -pair[0].distinct))
        if moments:
            fact, unit = moments[0]
            why = "by its name and values" if fact.says("time") else "by its values alone: they look like moments"
            return self._take(fact.name, "time", f"{why}, in {unit}"), unit
        named = [f for f in free if f.says("time") and f.low is not None and not f.says("outcome", "amount", "count")]
        named = [f for f in named if not f.words & {"since", "last", "until", "spent", "duration"}]
        if not named:
            self._tell_of_a_broken_clock()
            return None, "ms"
        fact = max(named, key=lambda f: f.distinct)
        if fact.low is not None and fact.high is not None and fact.low >= 0 and fact.high <= 1:
            return self._take(fact.name, "time", "by its name; between 0 and 1, hence a scaled clock"), "scaled"
        units: tuple[TimeUnit, ...] = ("ms", "us", "ns")
        said: TimeUnit = next((unit for unit in units if unit in fact.words), "s")
        return self._take(fact.name, "time", f"by its name; the unit ({said}) is a guess, correct time_unit"), said

    def _tell_of_a_broken_clock(self) -> None:
        """Leave out, with the first bad value, a column that would be the clock but for a few of its values."""
        for fact in self._free():
            if not fact.says("time") or fact.says("outcome", "amount", "count"):
                continue
            values = self.sample[fact.name]
            good = values.is_not_null()
            if fact.is_text:
                good &= values.cast(pl.Float64, strict=False).is_not_null() | values.str.contains(r"^\d{4}-\d\d-\d\d")
            if self._broken(fact.name, good, "the clock", "no time"):
                return

    def _tell_of_broken_outcomes(self) -> None:
        """Leave out, with the first bad value, text that would be an outcome but for a few of its values."""
        for fact in self._free():
            if fact.type != pl.String or fact.one_zero or not fact.says("outcome", "amount"):
                continue
            if fact.is_id or fact.says("category", "event", "time"):
                continue
            values = self.sample[fact.name]
            number = values.cast(pl.Float64, strict=False).is_not_null()
            flag = max((values.str.to_lowercase().is_in(pair) for pair in ONE_ZERO), key=lambda mask: mask.sum() or 0)
            if (number.sum() or 0) >= (flag.sum() or 0):
                self._broken(fact.name, number, "an outcome", "no number")
            else:
                self._broken(fact.name, flag, "an outcome", "neither yes nor no")

    def _broken(self, name: str, good: pl.Series, role: str, fault: str) -> bool:
        """Whether a column that says `role` by its name is left out for its bad values, which are the lesser part."""
        bad = ~good.fill_null(False)
        count = int(bad.sum())
        if not 0 < count <= len(bad) // 2:
            return False
        row = int(bad.arg_true()[0])
        value = self.sample[name][row]
        first = "empty" if value is None else repr(value)
        why = f"by its name {role}, but {count:,} of its values {'is' if count == 1 else 'are'} {fault}, first {first}"
        self._take(name, "left out", f"{why} in row {row + 1:,}; correct them, or the log is read without {role}")
        return True

    def _varying(self, user: str | None) -> frozenset[str]:
        """The columns that take more than one value within some user; all of them where no user is known."""
        others = [name for name in self.facts if name != user and self.roles.get(name, ("",))[0] != "left out"]
        if user is None or not others:
            return frozenset(others)
        most = self.sample.group_by(user).agg(pl.col(others).n_unique()).select(pl.col(others).max()).row(0)
        return frozenset(name for name, values in zip(others, most, strict=True) if values > 1)

    def _outcome_times(self, time: str | None) -> dict[str, str]:
        """Columns that say when an outcome came: outcome word -> column."""
        found: dict[str, str] = {}
        for fact in self._free():
            outcomes = fact.words & VOCABULARY["outcome"]
            if time and outcomes and fact.says("time") and not fact.is_flag and self._follows(fact, time):
                word = sorted(outcomes)[0]
                found.setdefault(word, self._take(fact.name, f"time of {word}", "by its name"))
        return found

    def _follows(self, fact: Facts, time: str) -> bool:
        """Whether a column holds moments that lie behind those of the log's clock, where it holds any."""
        if self.facts[time].type != fact.type and not (fact.low is not None and self.facts[time].low is not None):
            return False
        there = self.sample.filter(pl.col(fact.name).is_not_null())
        if fact.low is not None:
            there = there.filter(pl.col(fact.name) > 0)
        behind = there.select((pl.col(fact.name) >= pl.col(time)).mean()).item()
        return behind is not None and behind > 0.9

    def _gains(self, at: dict[str, str]) -> list[Gain]:
        self._tell_of_broken_outcomes()
        gains = []
        for fact in self._free():
            number = fact.type.is_numeric() or fact.type == pl.Boolean or fact.one_zero is not None
            few_events = (
                fact.is_text and fact.one_zero is None and fact.says("event") and 2 <= fact.distinct <= _MOST_CHANNELS
            )
            if few_events:
                gains.append(Gain(fact.name, "classes", "after"))
                self._take(fact.name, "gain, known after", "by its name: what happened, in words")
            if not number or fact.distinct < 2 or "since" in fact.words or fact.is_id:
                continue
            ahead = fact.says("look ahead") or (fact.says("outcome") and fact.says("count"))
            outcome, delayed = fact.says("outcome"), fact.says("delayed")
            one, zero = fact.one_zero or (None, None)
            if fact.is_binary and (outcome or fact.says("look ahead") or (one and fact.says("amount"))):
                known, why = "after", "by its name: an outcome, 0 or 1"
                when = next((column for word, column in at.items() if word in fact.words), None)
                if ahead:
                    known, why = "never", "looks computed over the whole journey, hence a label only"
                elif when is not None:
                    known, why = f"at:{when}", f"by its name: an outcome that comes later, at {when}"
                elif delayed and self._stamped(fact):
                    known, why = "never", "seems stamped onto earlier rows too; set 'after' if each row has its own"
                gains.append(Gain(fact.name, "binary", known, one, zero))
                why += _read_as(fact)
            elif not one and (outcome or fact.says("amount")) and not fact.says("category"):
                known = "never" if ahead else "after"
                gains.append(Gain(fact.name, "continuous", known))
                why = "by its name: an outcome in numbers" + (", computed over the whole journey" if ahead else "")
            else:
                continue
            self._take(fact.name, f"gain, known {known}", why)
        return gains

    def _gains_by_value(self) -> list[Gain]:
        flags = [f for f in self._free() if f.is_binary and f.name in self.varying and not f.says("context")]
        for fact in flags:
            why = "by its values alone: 0 or 1 and no other outcome in sight" + _read_as(fact)
            self._take(fact.name, "gain, known after", why)
        return [Gain(fact.name, "binary", "after", *(fact.one_zero or ())) for fact in flags]

    def _stamped(self, fact: Facts) -> bool:
        """Whether a 1 is followed by another far more often than chance would have it."""
        user = next((name for name, (role, _) in self.roles.items() if role == "user"), None)
        if user is None:
            return False
        value = pl.col(fact.name) == fact.one_zero[0] if fact.one_zero else pl.col(fact.name)
        value = value.cast(pl.Float64)
        pairs = self.sample.select(value.alias("now"), value.shift(1).over(user).alias("before"))
        again, rate = pairs.filter(pl.col("before") == 1)["now"].mean(), pairs["now"].mean()
        return isinstance(again, float) and isinstance(rate, float) and again > 5 * rate

    def _channel(self) -> str | tuple[str, ...] | None:
        named = [f for f in self._free() if f.says("channel") and 2 <= f.distinct <= _MOST_CHANNELS and not f.nulls]
        if named:
            return self._first("channel", named)
        if any(role == "propensity" for role, _ in self.roles.values()):
            items = [f for f in self._free() if f.says("item") and 2 <= f.distinct <= 1000 and not f.nulls]
            if items:
                return self._take(items[0].name, "channel", "by its name: what the logged propensity seems to be of")
        group = self._one_hot()
        if group:
            for name in group:
                self._take(name, "channel", f"one of {len(group)} neighbouring 0/1 columns of which exactly one is 1")
            return group
        few = [
            f
            for f in self._free()
            if f.is_text and f.one_zero is None and not f.nulls and 2 <= f.distinct <= 30 and f.name in self.varying
            if not f.says("context", "user", "about a user", "event")
        ]
        if few:
            return self._take(
                few[0].name, "channel", "by its values alone: text of few values; correct it if it is not"
            )
        return None

    def _one_hot(self) -> tuple[str, ...] | None:
        """The longest run of neighbouring 0/1 columns that add up to 1 in every row and vary within users."""
        names = list(self.facts)
        flags = [n for n in names if self.facts[n].is_flag and n in self.varying and n not in self.roles]
        share = {n: float(self.sample[n].cast(pl.Float64).mean() or 0.0) for n in flags}  # type: ignore[arg-type]
        found: list[tuple[str, ...]] = []
        for i, first in enumerate(names):
            total = 0.0
            for j in range(i, len(names)):
                if first not in share or names[j] not in share or total > 1 + 1e-6:
                    break
                total += share[names[j]]
                run = tuple(names[i : j + 1])
                sums_to_one = j > i and abs(total - 1) < 1e-6
                if sums_to_one and self.sample.select((pl.sum_horizontal(run) == 1).all()).item():
                    found.append(run)
                    break
        return max(found, key=len, default=None)

    def _cost(self) -> str | None:
        costs = [f for f in self._free() if f.says("cost") and f.low is not None and f.low >= 0 and f.distinct > 1]
        name = self._first("cost", costs)
        if name:
            why = "by its name; unit 'scaled' can't be charged, name the currency if it is one"
            if missing := self.facts[name].nulls:
                why += f"; {missing:,} rows have none, which counts as unknown and not as 0"
            self._take(name, "cost", why)
        return name

    def _features(self, user: str | None) -> list[Feature]:
        rows, features = len(self.sample), []
        for fact in self._free():
            if fact.distinct <= 1:
                self._take(fact.name, "left out", "the same value in every row")
                continue
            if fact.distinct == rows and (fact.is_text or fact.type.is_integer()):
                self._take(fact.name, "left out", "another value in every row: a number of the row, or text")
                continue
            if fact.is_id_of_outcome:
                self._take(fact.name, "left out", "the number of an outcome: that it is there would tell the outcome")
                continue
            second_clock = fact.words & {"date", "datetime", "timestamp"} and fact.low is not None
            if fact.type.is_temporal() or self._moment(fact) == "datetime" or second_clock:
                self._take(fact.name, "left out", "a second clock: not a feature as it stands")
                continue
            categorical = fact.is_text or (
                (fact.says("category") or fact.is_id) and (fact.type.is_integer() or fact.distinct <= 1000)
            )
            what = "categorical" if categorical else "numeric"
            how = "text or an id by its name" if categorical else "numbers"
            if user is not None and fact.name not in self.varying:
                features.append(Feature(fact.name, what, "before", "user"))  # type: ignore[arg-type]
                self._take(fact.name, f"user feature, {what}", f"{how}; the same in all rows of a user")
                continue
            known = "before" if fact.says("context") else "after"
            safe = (
                "context by its name" if known == "before" else "the safe choice; set 'before' if known when deciding"
            )
            features.append(Feature(fact.name, what, known))  # type: ignore[arg-type]
            self._take(fact.name, f"feature, {what}, known {known}", f"{how}; {known}: {safe}")
        return features

    def _window(self, gains: Sequence[Gain], time: str | None, unit: TimeUnit) -> float | None:
        """The longest delay seen between a step and its outcome, in seconds, where the clock has a unit."""
        scale = _UNITS.get(unit)
        columns = [gain.known[3:] for gain in gains if gain.known.startswith("at:")]
        if time is None or scale is None or not columns:
            return None
        delays = [self.sample.select((pl.col(c) - pl.col(time)).max()).item() for c in columns]
        longest = max((d for d in delays if d is not None), default=0)
        return float(longest) / scale if longest > 0 else None


def _read_as(fact: Facts) -> str:
    return "; {!r} is read as 1, {!r} as 0".format(*fact.one_zero) if fact.one_zero else ""
