"""Money in integer micros, and what a ledger tells of it: balances, settlements, the audit. B exposures."""

import json
import math
import sqlite3
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from headrace.errors import UserError
from headrace.journeys.seams import Integers

MICROS = 1_000_000
MOST = 10**15  # micros of a budget
RESERVED, SETTLED, RELEASED, REFUSED = range(4)
STATES = ("reserved", "settled", "released", "refused")
TOTAL = "total"


def to_micros(amount: float, what: str = "budget", up: bool = False) -> int:
    """An amount of money in micros, rounded down: a budget is never rounded up; `up`: as a floor never is down.

    Raises UserError for no amount, and for one above MOST; `what` names it.

    >>> to_micros(0.013), to_micros(0.0000019), to_micros(5000.0000009), to_micros(0.0000019, up=True)
    (13000, 1, 5000000000, 2)
    """
    if not (math.isfinite(amount) and 0 <= amount <= MOST / MICROS):
        raise UserError(f"{what} is {amount:g}, expected an amount from 0 to {MOST // MICROS:,}")
    exact = Decimal(repr(float(amount))) * MICROS  # as it was written
    return math.ceil(exact) if up else math.floor(exact)


def money_words(micros: int) -> str:
    """An amount with all its digits, and no more.

    >>> money_words(120_000_000), money_words(1_234_500_000), money_words(13)
    ('120', '1234.5', '0.000013')
    """
    return format((Decimal(micros) / MICROS).normalize(), "f")


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's money in micros."""

    budget: int
    spent: int
    reserved: int

    @property
    def free(self) -> int:
        return self.budget - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a batch of costs came to, micros."""

    charged: Integers  # (B,)
    excess: Integers  # (B,) above the reservation: not charged

    @property
    def alarm(self) -> bool:
        """Whether anything cost more than was said to be possible."""
        return bool(self.excess.any())


@dataclass(frozen=True, slots=True)
class Audit:
    """The balances, the entries by state, and every way in which the entries do not add up to the balances."""

    balances: dict[str, Balance]
    entries: dict[str, int]
    excess: int  # micros that were not charged
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON file."""
        accounts = {
            name: {"budget": b.budget, "spent": b.spent, "reserved": b.reserved, "free": b.free}
            for name, b in self.balances.items()
        }
        told = {"entries": self.entries, "excess": self.excess, "problems": list(self.problems)}
        return {"sound": self.sound, "accounts": accounts, **told}


def audited(db: sqlite3.Connection) -> Audit:
    """Add up every entry and compare: nothing here reads a stored balance but to check it."""
    db.execute("BEGIN")
    try:
        problems = [f"file: {told}" for (told,) in db.execute("PRAGMA integrity_check") if told != "ok"]
        purses = {i: json.loads(a) for i, a in db.execute("SELECT id, accounts FROM purse")}
        rows = db.execute("SELECT id, name, budget, spent, reserved FROM account ORDER BY id").fetchall()
        spent, reserved = {i: 0 for i, *_ in rows}, {i: 0 for i, *_ in rows}
        counts, excess = dict.fromkeys(STATES, 0), 0
        sums = "SELECT purse, state, COUNT(*), SUM(largest), SUM(charged), SUM(excess) FROM entry GROUP BY 1, 2"
        for purse, state, count, largest, charged, more in db.execute(sums):
            counts[STATES[state]] += count
            excess += more
            for account in purses[purse]:
                spent[account] += charged
                reserved[account] += largest if state == RESERVED else 0
        wrong = "SELECT key FROM entry WHERE charged > largest OR charged < 0 OR (state <> 1 AND charged <> 0)"
        problems += [f"entry {key}: charged what it may not be" for (key,) in db.execute(wrong)]
    finally:
        db.execute("COMMIT")
    balances = {}
    for i, name, budget, held_spent, held_reserved in rows:
        balances[name] = Balance(budget, held_spent, held_reserved)
        for what, held, summed in (("spent", held_spent, spent[i]), ("reserved", held_reserved, reserved[i])):
            if held != summed:
                problems.append(f"account {name}: {what} {held}, its entries add up to {summed}")
        if spent[i] + reserved[i] > budget:
            problems.append(f"account {name}: overspent by {spent[i] + reserved[i] - budget}")
    return Audit(balances, counts, excess, tuple(problems))
