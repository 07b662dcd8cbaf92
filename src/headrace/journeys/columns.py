"""How the columns of a log become the columns of a store: one expression each, and what must hold of every row.

`plan` looks at the schema and the types of the log and says, for each stored column, which expression makes it;
`measure` reads the log once for the checks, the null counts and the categories, and raises the first mistake it finds;
`Plan.stored` are the expressions with the categories filled in. Nothing here holds rows.

Text becomes int32 codes into sorted categories (null is -1); numbers stay as they are, but a column with nulls becomes
a float column with NaN. Times are float64 in the schema's unit, dates as milliseconds since 1970.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from headrace.errors import UserError, unknown
from headrace.journeys.readers.files import ROW
from headrace.journeys.schema import Feature, Gain, LogSchema

KEY = "__user"  # what the rows are grouped by: the user's id, or the row itself where a log has no users
_DATES = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_MOST_CHANNELS = 2**15 - 1


@dataclass(frozen=True, slots=True)
class Check:
    """A condition that no row may meet."""

    column: str
    bad: pl.Expr
    what: str  # "negative values"
    expected: str  # "a cost of 0 or more"
    do: str  # what to do next
    show: pl.Expr | None = None  # what to print of the first rows


@dataclass
class Plan:
    """The stored columns of a log. `measure` finishes `texts` and `numbers`: it knows nulls and categories."""

    schema: LogSchema
    types: Mapping[str, pl.DataType]
    where: str
    fixed: dict[str, pl.Expr] = field(default_factory=dict)  # stored name -> its expression, as it stays
    numbers: dict[str, pl.Expr] = field(default_factory=dict)  # stored as the log has them, floats if any is null
    texts: dict[str, pl.Expr] = field(default_factory=dict)  # stored as codes
    items: dict[str, str] = field(default_factory=dict)  # "item/..." -> its list column
    checks: list[Check] = field(default_factory=list)
    categories: dict[str, list[str]] = field(default_factory=dict)
    nullable: set[str] = field(default_factory=set)
    rows: int = 0

    @property
    def stored(self) -> dict[str, pl.Expr]:
        """Stored name -> expression over the log's columns."""
        made = dict(self.fixed)
        for name, number in self.numbers.items():
            made[name] = number.cast(pl.Float64).fill_null(float("nan")) if name in self.nullable else number
        for name, text in self.texts.items():
            if name == "channel":
                made[name] = self._channel(text)
            else:
                made[name] = codes(text, self.categories[name])
        return made

    def _channel(self, text: pl.Expr) -> pl.Expr:
        names, column = self.schema.channels, self.schema.channel_columns[0]
        if self.types[column].is_integer():  # far faster than by way of text
            numbers = {int(name): place for place, name in enumerate(names) if _is_plain_integer(name)}
            return pl.col(column).cast(pl.Int64).replace_strict(numbers, default=-1, return_dtype=pl.Int16)
        return codes(text, list(names)).cast(pl.Int16)

    @property
    def key(self) -> pl.Expr:
        """What groups rows into journeys and orders the users: (N,)."""
        if self.schema.user is None:
            return pl.col(ROW).cast(pl.Int64)
        if "users" in self.categories:
            return codes(pl.col(self.schema.user).cast(pl.String), self.categories["users"]).cast(pl.Int64)
        return pl.col(self.schema.user).cast(pl.Int64)


def codes(text: pl.Expr, categories: list[str]) -> pl.Expr:
    """The place of each text in `categories`, -1 for null and for what is not there; int32."""
    if not categories:
        return text.is_null().cast(pl.Int32) * 0 - 1
    return text.cast(pl.Enum(categories), strict=False).to_physical().cast(pl.Int32).fill_null(-1)


def plan(schema: LogSchema, types: Mapping[str, pl.DataType], where: str) -> Plan:
    """The stored columns of a log of these column types; raises UserError for a column that is missing or unusable."""
    for column in schema.columns:
        if column not in types:
            raise unknown("column", column, [c for c in types if c != ROW], f"{where}: schema {schema.name}")
    made = Plan(schema, types, where)
    _user(made)
    if schema.time is not None:
        made.fixed["time"] = _time(made, schema.time, key=True)
    if schema.session is not None:
        _session(made, schema.session)
    _channel(made)
    for feature in schema.features:
        _feature(made, feature)
    for gain in schema.gains:
        _gain(made, gain)
    if schema.cost is not None:
        cost = _number(made, schema.cost.name).cast(pl.Float64)
        _must(
            made, schema.cost.name, (cost < 0) | cost.is_infinite(), "negative or infinite values",
            "a cost of 0 or more",
            "correct the rows, or take [cost] out of the schema",
        )  # fmt: skip
        made.fixed["cost"] = cost.fill_null(float("nan"))
    if schema.propensity is not None:
        share = _number(made, schema.propensity).cast(pl.Float64).fill_nan(None)
        _must(
            made, schema.propensity, (share <= 0) | (share > 1), "values outside (0, 1]",
            "the probability with which the log chose the channel",
            "correct the rows, or take propensity out of the schema",
        )  # fmt: skip
        made.fixed["propensity"] = share.fill_null(float("nan"))
    _candidates(made)
    _fusion(made)
    return made


def measure(made: Plan, log: pl.LazyFrame) -> Plan:
    """Read the log once: raise the first broken check, else finish the plan with nulls and categories."""
    asked = [pl.len().alias("rows")]
    asked += [check.bad.sum().alias(f"check {i}") for i, check in enumerate(made.checks)]
    asked += [number.null_count().alias(f"null {name}") for name, number in made.numbers.items()]
    asked += [_wide(made).alias("wide")]
    found = log.select(asked).collect(engine="streaming").row(0, named=True)
    made.rows = found["rows"]
    if made.rows == 0:
        raise UserError(f"{made.where}: the log has a header but no rows; give a log with rows")
    for i, check in enumerate(made.checks):
        if found[f"check {i}"]:
            raise _broken(made, check, found[f"check {i}"], log)
    made.nullable = {name for name in made.numbers if found[f"null {name}"]}
    for name, text in made.texts.items():
        if name != "channel":
            made.categories[name] = _distinct(log, text)
    if made.schema.user is not None and (not _is_number(made.types[made.schema.user]) or found["wide"]):
        made.categories["users"] = _distinct(log, pl.col(made.schema.user).cast(pl.String))
    for name, column in made.items.items():
        inner = made.types[column].inner  # type: ignore[attr-defined]
        if _is_text(inner):
            made.categories[name] = _distinct(log, pl.col(column).explode().cast(pl.String))
    made.schema = replace(made.schema, channels=_channels(made, log))
    return made


def _wide(made: Plan) -> pl.Expr:
    """Whether user ids are integers beyond int64, as unsigned hashes are: they are taken as text."""
    user = made.schema.user
    if user is None or not made.types[user].is_integer():
        return pl.lit(False)
    return (pl.col(user) > 2**63 - 1).any() | (pl.col(user) < -(2**63)).any()


def _user(made: Plan) -> None:
    user = made.schema.user
    if user is None:
        return
    missing = pl.col(user).is_nan() | pl.col(user).is_null() if made.types[user].is_float() else pl.col(user).is_null()
    _must(made, user, missing, "nulls", "a user in every row", "drop or fill those rows", pl.lit("null"))
    if made.types[user].is_float():
        _must(
            made, user, pl.col(user) != pl.col(user).floor(), "fractions", "user ids that are whole numbers or text",
            "correct the rows, or name another column as user",
        )  # fmt: skip
        _must(
            made, user, pl.col(user).abs() >= 2.0**63, "numbers beyond 64 bits",
            "user ids that are whole numbers or text", "write the ids as text: as floats they have lost digits",
        )  # fmt: skip
    elif not (_is_number(made.types[user]) or _is_text(made.types[user])):
        raise _wrong_type(made, user, "whole numbers or text")


def _session(made: Plan, column: str) -> None:
    if _is_number(made.types[column]):
        value = pl.col(column)
        _must(
            made, column, (value > 2**63 - 1) | (value < -(2**63)), "numbers beyond 64 bits",
            "session ids that are whole numbers of 64 bits, or text", "write the ids as text",
        )  # fmt: skip
        made.fixed["session"] = pl.col(column).cast(pl.Int64).fill_null(-1)
    else:
        made.texts["session"] = pl.col(column).cast(pl.String)


def _channel(made: Plan) -> None:
    group = made.schema.channel_columns
    if not group:
        return
    if isinstance(made.schema.channel, str):
        kind, column = made.types[group[0]], pl.col(group[0])
        if not (_is_number(kind) or kind.is_float() or kind == pl.Boolean or _is_text(kind)):
            raise _wrong_type(made, group[0], "whole numbers or text")
        text = column.cast(pl.Int64, strict=False).cast(pl.String) if kind.is_float() else column.cast(pl.String)
        made.texts["channel"] = text
        _must(
            made,
            group[0],
            column.is_null(),
            "nulls",
            "a channel in every row",
            "drop or fill those rows",
            pl.lit("null"),
        )
        if made.schema.channels:
            _must(
                made, group[0], ~text.is_in(list(made.schema.channels)), "values outside the declared channels",
                f"one of {', '.join(made.schema.channels[:12])}", "correct the rows, or add the value to channels",
            )  # fmt: skip
        return
    shares = [_number(made, name).cast(pl.Float64) for name in group]
    total = pl.sum_horizontal(shares)
    odd = pl.any_horizontal([(s.is_null()) | ((s != 0) & (s != 1)) for s in shares]) | (total != 1)
    label = f"{group[0]} ... {group[-1]}"
    _must(
        made, label, odd, "a one-hot channel without exactly one 1", "one 1 and zeros else",
        "correct the rows, or the columns in channel", total,
    )  # fmt: skip
    made.fixed["channel"] = pl.sum_horizontal([s * i for i, s in enumerate(shares)]).cast(pl.Int16)


def _feature(made: Plan, feature: Feature) -> None:
    name = f"user/{feature.name}" if feature.level == "user" else f"feature/{feature.name}"
    kind = made.types[feature.name]
    if feature.kind == "categorical" and (_is_text(kind) or kind.is_temporal()):
        made.texts[name] = pl.col(feature.name).cast(pl.String)
    else:
        made.numbers[name] = _number(made, feature.name)


def _gain(made: Plan, gain: Gain) -> None:
    name = f"gain/{gain.name}"
    if gain.kind == "classes" and _is_text(made.types[gain.name]):
        made.texts[name] = pl.col(gain.name).cast(pl.String)
    elif gain.kind == "classes":
        code = _number(made, gain.name).cast(pl.Float64)
        _must(
            made, gain.name, (code != code.floor()) | (code < 0), "values that are no class",
            "class codes 0, 1, 2, ... or text", "correct the rows, or declare the gain continuous",
        )  # fmt: skip
        made.fixed[name] = code.fill_nan(None).cast(pl.Int32, strict=False).fill_null(-1)
    elif gain.kind == "binary" and gain.one is not None and _is_text(made.types[gain.name]):
        text = pl.col(gain.name).cast(pl.String)
        _must(
            made, gain.name, text.is_null() | ~text.is_in([gain.one, gain.zero]),
            f"values other than {gain.one!r} and {gain.zero!r}", "a binary gain",
            "correct the rows, or declare the gain classes, without one and zero",
        )  # fmt: skip
        made.fixed[name] = (text == gain.one).cast(pl.Int8)
    elif gain.kind == "binary":
        value = _number(
            made, gain.name, 'correct the rows, or say in the schema what they mean: one = "yes", zero = "no"'
        )
        _must(
            made, gain.name, value.is_null() | ~value.cast(pl.Float64).is_in([0.0, 1.0]), "values other than 0 and 1",
            "a binary gain", "correct the rows, or declare the gain continuous or classes",
        )  # fmt: skip
        made.fixed[name] = value.cast(pl.Int8, strict=False)
    else:
        single = made.types[gain.name] == pl.Float32
        made.fixed[name] = _number(made, gain.name).cast(pl.Float32 if single else pl.Float64).fill_null(float("nan"))
    if gain.known.startswith("at:"):
        made.fixed[f"known_at/{gain.name}"] = _known_at(made, gain)


def _known_at(made: Plan, gain: Gain) -> pl.Expr:
    """When a delayed gain became known: never before its own step; a binary 0 without a time (none, or one before its
    step, as -1) when its window closed."""
    own, at = made.fixed["time"], _time(made, gain.known[3:], key=False)
    at_last = pl.lit(None, dtype=pl.Float64)
    if gain.kind == "binary":
        never = made.fixed[f"gain/{gain.name}"] == 0
        at = pl.when(never & (at < own)).then(None).otherwise(at)  # -1 and the like
        at_last = pl.when(never).then(own + _window(made.schema, gain.name))
    known = pl.when(at.is_not_null()).then(pl.max_horizontal(at, own)).otherwise(at_last)
    return known.fill_null(float("nan"))


def _window(schema: LogSchema, gain: str) -> float:
    if schema.label_window_s is None:
        raise UserError(
            f"schema {schema.name}: gain {gain} is known at a time, but label_window_s is missing: without it a gain "
            "that is not known yet would be one that comes; set it to the longest delay that the log waits for"
        )
    if schema.label_window is None:
        raise UserError(
            f"schema {schema.name}: label_window_s is in seconds but time_unit is 'scaled'; "
            "give a clock in s, ms, us, ns or datetime, or drop label_window_s"
        )
    return schema.label_window


def _time(made: Plan, column: str, key: bool) -> pl.Expr:
    """A clock column as float64 in the schema's unit; a key must be there in every row."""
    kind, unit = made.types[column], made.schema.time_unit
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        if unit not in ("datetime", "ms"):
            raise _wrong_type(made, column, f"numbers, as time_unit is {unit!r} (dates want time_unit = 'datetime')")
        made_of = pl.col(column).cast(pl.Datetime("us"))
        value = made_of.dt.epoch("us").cast(pl.Float64) / 1e3
    elif unit == "datetime" and _is_text(kind):
        value = _dates(pl.col(column)).dt.epoch("us").cast(pl.Float64) / 1e3
        _must(
            made, column, pl.col(column).is_not_null() & value.is_null(), "values that are no dates",
            "dates like 2022-04-25 16:00:00", "correct the rows, or write the dates so",
        )  # fmt: skip
    elif unit == "datetime" and not kind.is_numeric():
        raise _wrong_type(made, column, "dates")
    elif unit == "datetime":
        raise _wrong_type(made, column, "dates, as time_unit is 'datetime' (numbers want s, ms, us, ns or scaled)")
    else:
        to_do = "correct the rows, or set time_unit = 'datetime' if these are dates"
        value = _number(made, column, to_do).cast(pl.Float64).fill_nan(None)
    if key:
        _must(
            made, column, pl.col(column).is_null(), "nulls", "a time in every row", "drop or fill those rows",
        )  # fmt: skip
        _must(
            made, column, value.is_null() | value.is_infinite(), "values that are NaN or infinite",
            "a time in every row", "drop or fill those rows",
        )  # fmt: skip
    return value


def _dates(text: pl.Expr) -> pl.Expr:
    plain = text.cast(pl.String).str.strip_chars().str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
    zoned = plain.str.to_datetime(_DATES[0], time_unit="us", time_zone="UTC", strict=False)
    return pl.coalesce(
        zoned.dt.replace_time_zone(None),
        *(plain.str.to_datetime(form, time_unit="us", strict=False) for form in _DATES[1:]),
    )


def _candidates(made: Plan) -> None:
    lists = made.schema.candidates
    if lists is None:
        return
    made.items["item/id"] = lists.item
    made.items |= {f"item/score/{name}": name for name in lists.scores}
    made.items |= {"item/position": lists.position} if lists.position else {}
    made.items |= {f"item/outcome/{name}": name for name in lists.outcomes}
    length = pl.col(lists.item).list.len().fill_null(0)
    for column in made.items.values():
        if not isinstance(made.types[column], pl.List):
            raise _wrong_type(made, column, "lists, one entry an item")
        ours = pl.col(column).list.len().fill_null(0)
        _must(
            made, column, ours != length, f"lists of another length than {lists.item}", "one entry an item",
            "correct the rows", ours,
        )  # fmt: skip


def _fusion(made: Plan) -> None:
    """ "action/SCORE", "low/SCORE", "high/SCORE", "log_propensity", "terminated" and "truncated" of a decision log."""
    told, lists = made.schema.fusion, made.schema.candidates
    if told is None or lists is None:
        return
    columns = {"log_propensity": told.log_propensity}
    for kind, names in (("action", told.weights), ("low", told.low), ("high", told.high)):
        columns |= {f"{kind}/{score}": name for score, name in zip(lists.scores, names, strict=False)}
    for stored, column in columns.items():
        if column is None:
            continue
        value = _number(made, column).cast(pl.Float64).fill_nan(None)
        _must(
            made, column, value.is_null() | value.is_infinite(), "values that are no finite numbers",
            "a number in every row", "drop the rows that were not ranked by weights, or correct them",
        )  # fmt: skip
        made.fixed[stored] = value
    for stored, column in (("terminated", told.terminated), ("truncated", told.truncated)):
        if column is not None:
            flag = _number(made, column).cast(pl.Float64)
            _must(
                made, column, flag.is_null() | ~flag.is_in([0.0, 1.0]), "values other than 0 and 1",
                "whether the session ended here", "correct the rows, or take it out of [fusion]",
            )  # fmt: skip
            made.fixed[stored] = flag.cast(pl.Int8)


def _number(made: Plan, column: str, do: str = "correct the rows, or the schema") -> pl.Expr:
    """A column as numbers: text that is a number is taken as one, other text is a mistake; booleans are 0 and 1."""
    kind = made.types[column]
    if _is_text(kind):
        number = pl.col(column).cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
        check = (pl.col(column).is_not_null()) & number.is_null()
        _must(made, column, check, "values that are text", "numbers", do)
        return number
    if kind == pl.Boolean:
        return pl.col(column).cast(pl.Int8)
    if kind.is_decimal():
        return pl.col(column).cast(pl.Float64)
    if kind == pl.Null:
        return pl.col(column).cast(pl.Float64)
    if not kind.is_numeric():
        raise _wrong_type(made, column, "numbers")
    return pl.col(column)


def _must(
    made: Plan, column: str, bad: pl.Expr, what: str, expected: str, do: str, show: pl.Expr | None = None
) -> None:
    made.checks.append(Check(column, bad.fill_null(False), what, expected, do, show))


def _broken(made: Plan, check: Check, count: int, log: pl.LazyFrame) -> UserError:
    show = (check.show if check.show is not None else pl.col(check.column)).cast(pl.String).alias("shown")
    rows = log.filter(check.bad).select(pl.col(ROW) + 1, show).bottom_k(3, by=ROW).sort(ROW).collect(engine="streaming")
    first = ", ".join(f"row {row}: {value if value is not None else 'null'}" for row, value in rows.iter_rows())
    return UserError(
        f"{made.where}: column {check.column!r}: {check.what} in {count:,} of {made.rows:,} rows (first {first}); "
        f"expected {check.expected}; {check.do}"
    )


def _wrong_type(made: Plan, column: str, expected: str) -> UserError:
    return UserError(
        f"{made.where}: column {column!r} holds {made.types[column]}; expected {expected}; correct the schema"
    )


def _channels(made: Plan, log: pl.LazyFrame) -> tuple[str, ...]:
    declared, group = made.schema.channels, made.schema.channel_columns
    if not group:
        return ()
    if not isinstance(made.schema.channel, str):
        if declared and len(declared) != len(group):
            raise UserError(
                f"schema {made.schema.name}: {len(declared)} channels declared for {len(group)} one-hot columns; "
                "name one a column, in their order, or leave channels out"
            )
        return declared or stripped(group)
    if not declared:
        found = _distinct(log, made.texts["channel"])
        whole = not _is_text(made.types[group[0]]) and made.types[group[0]] != pl.Boolean
        declared = tuple(sorted(found, key=int) if whole else found)
    if len(declared) > _MOST_CHANNELS:
        raise UserError(
            f"{made.where}: column {group[0]!r} holds {len(declared):,} different channels; "
            f"expected {_MOST_CHANNELS:,} at most; name the column that says over which channel, not which item"
        )
    return declared


def stripped(names: Iterable[str]) -> tuple[str, ...]:
    """Names without the prefix they share, where that leaves each one something of its own.

    >>> stripped(["Type_12", "Type_17"]), stripped(["short", "sho"])
    (('12', '17'), ('short', 'sho'))
    """
    names = tuple(names)
    first, last = min(names), max(names)
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    cut = max(first[:shared].rfind("_"), first[:shared].rfind("-"), first[:shared].rfind(".")) + 1
    short = tuple(name[cut:] for name in names)
    return short if all(short) and len(set(short)) == len(names) else names


def _distinct(log: pl.LazyFrame, text: pl.Expr) -> list[str]:
    values = log.select(text.drop_nulls().unique().alias("value")).collect(engine="streaming")["value"]
    return values.sort().to_list()


def _is_text(kind: pl.DataType) -> bool:
    return kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)


def _is_number(kind: pl.DataType) -> bool:
    return bool(kind.is_integer() or kind.is_float())


def _is_plain_integer(name: str) -> bool:
    return name.removeprefix("-").isdecimal() and str(int(name)) == name
