"""Terms: what market.toml says of a live campaign, and the schema of its run does not.

    days = 14
    turns = 24                         # a day
    users = "users.parquet"            # a table of them (csv, too), or their number: ids are then 0, 1, 2, ...
    traffic = 900                      # users to expect at a turn, or a list of a day's turns; left out: by what came
    closing = ["outcomes", "totals"]   # what the job leaves behind the last turn

    [largest_cost]                     # of one exposure, in the budget's currency
    search = 0.60
    display = 0.02

M channels, T turns of a day.
"""

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from headrace.campaign.money import to_micros
from headrace.errors import UserError, unknown
from headrace.journeys.seams import Floats, Integers

FILE = "market.toml"
CLOSING = ("outcomes", "totals")
MOST_TURNS = 1 << 16  # beyond it draws would repeat


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a live campaign lasts, whom it may reach, and what an exposure costs at most."""

    days: int
    turns: int  # a day
    users: int | Path
    largest_cost: Integers  # (M,) micros
    traffic: Floats | None = None  # (T,)
    closing: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path, channels: tuple[str, ...]) -> "Terms":
        """Read a folder's market.toml; UserError in one line for a mistake in it."""
        path = folder / FILE
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{path}: no such file; it tells days, turns, users and largest_cost") from None
        except ValueError as error:
            raise UserError(f"{path}: not valid TOML ({error}); correct that line") from None
        for key in given:
            if key not in (known := [f.name for f in fields(cls)]):
                raise unknown("key", key, known, str(path))
        for key in ("days", "turns", "users", "largest_cost"):
            if key not in given:
                raise UserError(f"{path}: no {key}; expected days, turns, users and largest_cost")
        for key in ("days", "turns"):
            if not _is_whole(given[key]) or not 1 <= given[key] <= MOST_TURNS:
                raise UserError(f"{path}: {key} is {given[key]!r}, expected a whole number from 1 to {MOST_TURNS:,}")
        users = given["users"]
        if not isinstance(users, str) and not (_is_whole(users) and users >= 1):
            raise UserError(f"{path}: users is {users!r}, expected a file's name in quotes, or how many there are")
        closing = given.get("closing", [])
        if not isinstance(closing, list) or not set(map(str, closing)) <= set(CLOSING):
            raise UserError(f"{path}: closing is {closing!r}, expected a list of {' and '.join(CLOSING)}")
        return cls(
            given["days"],
            given["turns"],
            folder / users if isinstance(users, str) else users,
            _largest(path, given["largest_cost"], channels),
            _traffic(path, given["traffic"], given["turns"]) if "traffic" in given else None,
            tuple(name for name in CLOSING if name in closing),
        )


def _largest(path: Path, given: Any, channels: tuple[str, ...]) -> Integers:
    if not isinstance(given, dict):
        raise UserError(f"{path}: largest_cost is {given!r}, expected a table: [largest_cost] and a line a channel")
    for name, amount in given.items():
        if name not in channels:
            raise unknown("channel", name, channels, f"{path} [largest_cost]")
        if not _is_amount(amount) or amount == 0:
            raise UserError(f"{path}: largest_cost of {name} is {amount!r}, expected an amount above 0")
    missing = [name for name in channels if name not in given]
    if missing:
        raise UserError(f"{path}: largest_cost lacks {', '.join(missing)}; expected every channel of the run")
    return np.array([to_micros(given[name], f"{path}: largest_cost of {name}", up=True) for name in channels])


def _traffic(path: Path, given: Any, turns: int) -> Floats:
    several = given if isinstance(given, list) else [given] * turns
    if len(several) != turns or not all(_is_amount(v) for v in several):
        raise UserError(f"{path}: traffic is {given!r}, expected 0 or more users a turn: one number, or {turns}")
    return np.array(several, dtype=np.float64)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
