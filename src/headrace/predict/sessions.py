"""Sessions: the decision process of RMTL. Which rows of a part follow one another, and how long that goes on.

    log     the log's own session column
    gap     a user's rows with no pause longer than session_gap_minutes
    day     a user's rows of one day (UTC)
    user    all of a user's rows in the part

A session never leaves its part: where a rule would join rows of two parts, each part has a session of its own. The
lengths are told before anything is learnt: where the median session has one row, nothing follows any prediction, and a
critic has nothing to add to the loss of the row itself.

n rows, S sessions.
"""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np

from headrace.errors import UserError
from headrace.journeys.seams import Integers
from headrace.journeys.statistics import clock
from headrace.journeys.store import Journeys

Rule = Literal["auto", "log", "gap", "day", "user"]
RULES = get_args(Rule)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long the sessions of a part are, in rows."""

    rule: str
    sessions: int
    rows: int
    mean: float
    median: float
    share_of_one: float  # of the sessions
    share_of_rows_that_end: float  # rows behind which the session is over
    longest: int

    @property
    def sentence(self) -> str:
        """The lengths in plain words, and what they mean for a critic."""
        told = (
            f"{self.sessions:,} sessions by {self.rule}: median {self.median:g} rows, mean {self.mean:.2f}, "
            f"{self.share_of_one:.0%} of one row, longest {self.longest:,}"
        )
        if self.median <= 1:
            told += "; in the median session nothing follows: reinforcement learning cannot act on this log"
        return told

    def to_dict(self) -> dict[str, str | int | float]:
        return asdict(self)


def rule_of(journeys: Journeys, rule: Rule) -> Rule:
    """The rule itself, of "auto" the log's session column where there is one, else the user's rows of the part."""
    if rule == "log" and not journeys.has("session"):
        raise UserError(f"{journeys.path}: the log has no session column; use session = gap, day or user")
    if rule in ("gap", "day") and (journeys.time is None or journeys.schema.per_second is None):
        raise UserError(f"{journeys.path}: sessions by {rule} need a clock with a unit; use session = user")
    if rule != "auto":
        return rule
    return "log" if journeys.has("session") else "user"


def sessions(journeys: Journeys, rows: Integers, rule: Rule = "auto", gap_minutes: float = 30.0) -> Integers:
    """(n,) the session of each of a part's rows, numbered from 0 in the order of `rows`, which ascend."""
    rule = rule_of(journeys, rule)
    rows = np.asarray(rows, dtype=np.int64)
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    users = journeys.users_of(rows)
    new = np.ones(len(rows), dtype=np.bool_)
    new[1:] = users[1:] != users[:-1]
    if rule == "log":
        named = np.asarray(journeys.column("session")[rows]).astype(np.int64)
        alone = named == -1  # a row without a session is one of its own
        labels = np.where(alone, named.max(initial=0) + 1 + np.arange(len(rows)), named)
        owner = users if journeys.schema.user is not None else np.zeros_like(users)  # without one every row is a user
        _, first, code = np.unique(np.stack([owner, labels]), axis=1, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[code.reshape(-1)].astype(np.int64)
    when, unit = clock(journeys, rows), journeys.schema.per_second or 1.0
    if rule == "gap":
        new[1:] |= np.diff(when) > gap_minutes * 60 * unit
    elif rule == "day":
        new[1:] |= np.diff(np.floor(when / (86_400 * unit))) != 0
    return np.asarray(np.cumsum(new) - 1, dtype=np.int64)


def lengths(session: Integers, rule: str) -> Lengths:
    """What `sessions` found, in figures."""
    counts = np.bincount(session) if len(session) else np.zeros(1, dtype=np.int64)
    n = max(len(session), 1)
    return Lengths(
        rule,
        len(counts),
        len(session),
        float(counts.mean()),
        float(np.median(counts)),
        float((counts == 1).mean()),
        len(counts) / n,
        int(counts.max()),
    )
