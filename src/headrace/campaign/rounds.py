"""What a campaign leaves after each round, so that one that is killed goes on to the same bytes.

    rounds/00012.npz    the round's record (JSON), its choices, and the predictions that were renewed

A round is written when its costs are settled, beside and swapped in. To resume, the market is played again: choices and
predictions are read back, so nothing is predicted or charged twice.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.seams import Floats, Integers
from headrace.learn import durable

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Round:
    """A finished round: A users in turn, n of them with new predictions."""

    record: Record
    channel: Integers  # (A,) -1: no advert
    propensity: Floats  # (A,)
    scored: Integers  # (n,) users
    scores: Mapping[str, NDArray[Any]]  # (n, ...) each


class Rounds:
    """The rounds of a campaign in its folder; without one nothing is kept."""

    def __init__(self, folder: Path | None):
        self._folder = None if folder is None else folder / "rounds"
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def read(self, number: int) -> Round | None:
        """A finished round, None if it is not."""
        path = self._path(number)
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as held:
                columns = {name: held[name] for name in held.files}
            record = json.loads(columns.pop("record").tobytes())
            fixed = [columns.pop(name) for name in ("channel", "propensity", "scored")]
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: damaged ({error}); restore it from a copy, or start the campaign anew") from None
        return Round(record, fixed[0].astype(np.int64), fixed[1], fixed[2], columns)

    def write(self, number: int, done: Round) -> None:
        """Keep a finished round."""
        path = self._path(number)
        if path is None:
            return
        record = np.frombuffer(json.dumps(done.record, allow_nan=False).encode(), dtype=np.uint8)
        columns = {"channel": done.channel.astype(np.int16), "propensity": done.propensity, "scored": done.scored}

        def fill(beside: Path) -> None:
            with beside.open("wb") as file:
                np.savez(file, record=record, **columns, **done.scores)  # type: ignore[arg-type]

        durable.replace(path, fill)

    def _path(self, number: int) -> Path | None:
        return None if self._folder is None else self._folder / f"{number:05d}.npz"
