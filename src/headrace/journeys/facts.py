"""What a column's name and values say about it: the facts that a drafted schema is guessed from."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import polars as pl

_WORDS = {
    "user": "user uid visitor visitorid userid customer client member account cookie person subscriber household buyer "
    "kunde nutzer who shopper reader player",
    "time": "time timestamp ts date datetime at when clock zeit zeitpunkt epoch moment created occurred",
    "channel": "channel via medium network kanal touchpoint publisher placement arm action treatment",
    "session": "session sessionid visit visitid sitzung",
    "cost": "cost costs spend kosten expense fee",
    "propensity": "propensity pscore probability prob pi",
    "outcome": "click clicks clicked clk conv conversion converted convert like liked view viewed buy bought purchase "
    "purchased order ordered sale sold cart install signup subscribe subscribed open opened comment share follow "
    "forward hate reward outcome response label target enter bounce unsubscribe "
    "gekauft geklickt klick kauf booked",
    "amount": "play watch watched dwell stay revenue spent gmv rating earned profit turnover umsatz income playtime",
    "delayed": "conv conversion converted convert buy bought purchase purchased order ordered sale sold install "
    "signup kauf",
    "look ahead": "attribution attributed final future next total last ltv lifetime nb remaining until",
    "count": "nb num count pos position index total sum",
    "context": "position slot hour hourmin weekday dow minute month device os browser tab page scene locale language "
    "platform app screen",
    "about a user": "feature feat features affinity segment type num age gender active degree count score range level",
    "event": "event events eventtype outcome response reaction",
    "item": "item itemid action arm offer creative product",
    "category": "id cat category type code group segment campaign ad tag brand class kind zip region onehot",
}
VOCABULARY = {role: frozenset(words.split()) for role, words in _WORDS.items()}
ONE_ZERO = ("yes", "no"), ("y", "n"), ("true", "false"), ("t", "f"), ("ja", "nein"), ("j", "n")
_NO_IDS = {"bid", "paid", "mid", "grid", "valid", "said", "android", "void", "avoid", "unpaid"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sample says of one column."""

    name: str
    type: pl.DataType
    nulls: int
    distinct: int
    example: str
    low: float | None  # numbers only
    high: float | None
    words: frozenset[str]
    one_zero: tuple[str, str] | None = None  # of text that says yes and no in every row: which is which

    @property
    def is_text(self) -> bool:
        return not (self.type.is_numeric() or self.type.is_temporal() or self.type == pl.Boolean)

    @property
    def is_flag(self) -> bool:
        """Holds 0 and 1, and both of them."""
        return self.type == pl.Boolean or (self.distinct == 2 and (self.low, self.high) == (0, 1) and not self.nulls)

    @property
    def is_binary(self) -> bool:
        """A flag, in numbers or in text."""
        return self.is_flag or self.one_zero is not None

    def says(self, *roles: str) -> bool:
        return any(self.words & VOCABULARY[role] for role in roles)

    @property
    def is_id(self) -> bool:
        return any(word.endswith("id") and word not in _NO_IDS for word in self.words)

    @property
    def is_id_of_outcome(self) -> bool:
        """The number of a conversion, an order: that it is there tells the outcome."""
        outcomes = VOCABULARY["outcome"] | {"transaction", "booking", "checkout"}
        return self.is_id and any(word in outcomes or word.removesuffix("id") in outcomes for word in self.words)


def facts_of(values: pl.Series) -> Facts:
    known = values.drop_nulls()
    number = values.dtype.is_numeric()
    low, high = (known.min(), known.max()) if number and len(known) else (None, None)
    nested = isinstance(values.dtype, pl.List | pl.Struct | pl.Array)
    return Facts(
        name=values.name,
        type=values.dtype,
        nulls=values.null_count(),
        distinct=0 if nested else known.n_unique(),
        example=one_line(str(known[0]) if len(known) else "")[:40],
        low=_as_float(low),
        high=_as_float(high),
        words=_split(values.name),
        one_zero=_one_zero(known) if known.dtype == pl.String and len(known) == len(values) else None,
    )


def _one_zero(text: pl.Series) -> tuple[str, str] | None:
    """The texts for 1 and 0 where a column holds such a pair and nothing else, in capitals or not.

    >>> _one_zero(pl.Series(["No", "Yes", "No"])), _one_zero(pl.Series(["no", "yes", "perhaps"]))
    (('Yes', 'No'), None)
    """
    found = {value.lower(): value for value in text.unique().head(3)}
    pair = next((pair for pair in ONE_ZERO if set(pair) == set(found)), None)
    return None if pair is None or text.n_unique() != 2 else (found[pair[0]], found[pair[1]])


def _split(name: str) -> frozenset[str]:
    """The words of a column's name, with their neighbours joined: "isClick_nb" -> is, click, nb, isclick, clicknb."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    words = re.findall(r"[^\W\d_]+", spaced.lower())
    return frozenset(words) | {a + b for a, b in pairwise(words)}


def _as_float(value: Any) -> float | None:
    return None if value is None else float(value)


def one_line(text: str) -> str:
    return " ".join(text.split())
