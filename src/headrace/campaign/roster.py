"""Roster: the users of a live campaign, found by their ids in the files that are exchanged. N users, n rows."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from headrace.campaign.exchange import Exchange
from headrace.errors import UserError, unknown
from headrace.journeys.readers.files import ROW, Files, scan_log
from headrace.journeys.schema import LogSchema
from headrace.journeys.seams import Bools, Integers
from headrace.journeys.store import Array
from headrace.simulate import draws


class Roster:
    """N users in ascending order of their ids."""

    def __init__(self, given: int | Path, part: LogSchema, exchange: Exchange, seed: int):
        """`given` is a table of the columns that `part` names, or the number of users, whose ids are then 0, 1, ..."""
        assert part.user is not None
        self.column = part.user
        self.features: dict[str, Array] = {}  # (N,) each, what is known of the users from the start
        if isinstance(given, int):
            if part.features:
                raise UserError(
                    f"schema {part.name} tells {part.features[0].name} of each user: name a table of the users with "
                    "such columns in market.toml ( users = FILE )"
                )
            self.ids = pl.Series(range(given), dtype=pl.Int64)
        else:
            frame = scan_log([given], Files(given.parent)).collect()
            if part.user not in frame.columns:
                raise unknown("column", part.user, [c for c in frame.columns if c != ROW], str(given))
            if not len(frame):
                raise UserError(f"{given}: no users in it; expected a row a user")
            kind = pl.Int64 if frame[part.user].dtype.is_numeric() else pl.String
            ids = frame[part.user].cast(kind, strict=False)
            self.refuse(given, frame, ids.is_null().to_numpy(), "no id", "whole numbers of 64 bits, or text")
            self.refuse(given, frame, ids.is_duplicated().to_numpy(), "stands twice", "a row a user")
            found = exchange.columns(frame, part, given)
            order = ids.arg_sort().to_numpy()
            self.ids = ids.gather(order)
            self.features = {f.name: found[f"user/{f.name}"][order] for f in part.features}
        self.keys = draws.user_keys(seed, _numbers(self.ids))
        self._places = pl.DataFrame({"user": self.ids, "row": np.arange(len(self.ids))})

    def __len__(self) -> int:
        return len(self.ids)

    def located(self, frame: pl.DataFrame, where: Path) -> Integers:
        """(n,) the user of each row; refused where there is no such user."""
        if not len(frame):
            return np.zeros(0, dtype=np.int64)
        asked = frame.select(pl.col(self.column).cast(self.ids.dtype, strict=False).alias("user"))
        rows = asked.join(self._places, on="user", how="left", maintain_order="left")["row"].fill_null(-1).to_numpy()
        self.refuse(where, frame, rows < 0, "nobody of this market", f"one of its {len(self):,} users")
        return rows.astype(np.int64)

    def once(self, frame: pl.DataFrame, where: Path, key: Integers) -> None:
        """Refused where two rows have the same key, (n,)."""
        self.refuse(where, frame, pl.Series(key).is_duplicated().to_numpy(), "stands twice", "one row")

    def refuse(self, where: Path, frame: pl.DataFrame, bad: Bools, what: str, expected: str) -> None:
        """UserError that names the first row that is `bad`, (n,), and its user."""
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            place = f"row {frame[ROW][first] + 1}, user {frame[self.column][first]}"
            raise UserError(f"{where}: {place}: {what}; expected {expected}; correct the file and go on with --resume")


def _numbers(ids: pl.Series) -> Array:
    """(N,) what users' luck is drawn by: their ids, or a hash of them where they are text."""
    if ids.dtype != pl.String:
        return ids.to_numpy()
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in ids)
    return np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)
