"""Exchange: the files that a company's job and a live campaign hand to each other.

    turns/00003/reachable.parquet     from the job: who can be reached now, and what is known of them
    turns/00003/decisions.parquet     from headrace: a channel or none, and its propensity
    turns/00003/outcomes.parquet      from the job: what the adverts brought

Whoever writes a file writes it beside and renames it. A file of the job is checked, and a copy of it kept with the
campaign; from then on only the copy is read, so what was taken up once stands. The columns are those of a log of the
run's schema, and are read as `headrace data prepare` reads them.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from headrace.errors import UserError
from headrace.journeys.columns import measure, plan
from headrace.journeys.readers.files import ROW, broken_files
from headrace.journeys.schema import Feature, LogSchema
from headrace.journeys.statistics import Statistic
from headrace.journeys.store import Array
from headrace.journeys.transforms import Transforms
from headrace.learn import durable

OF_TURN = "of_turn"  # the column that names the turn of an earlier advert
FIRST_S, LONGEST_S = 0.02, 2.0  # between two looks for a file; the pause grows from one to the other

T = TypeVar("T")


class Exchange:
    """The files of one campaign; `keep` is where it keeps what it took up."""

    def __init__(self, folder: Path, keep: Path, transforms: Transforms, wait_s: float | None = None):
        """`wait_s`: how long to wait for a file; None: as long as it takes."""
        self.folder, self.keep, self.wait_s = folder, keep, wait_s
        self.tell: Callable[[str], None] = lambda what: None
        self._vocabularies = transforms.vocabularies
        texts = [f for f in transforms.schema.features if self._learnt_as_text(f)]
        self.categories: dict[str, list[str]] = {_stored(f): [] for f in texts}  # what codes stand for; grow at the end

    @property
    def names(self) -> dict[str, list[str]]:
        """What the codes of each text feature stand for, by the feature's own name."""
        return {name.split("/", 1)[1]: listed for name, listed in self.categories.items() if "/" in name}

    def path(self, name: str) -> Path:
        """Where a file is exchanged."""
        return self.folder / f"{name}.parquet"

    def kept(self, name: str) -> Path:
        """Where its copy is kept."""
        return self.keep / f"{name.removeprefix('turns/').replace('/', '-')}.parquet"

    def take(self, name: str, check: Callable[[pl.DataFrame, Path], T]) -> T:
        """What `check` makes of a file of the job's, which is waited for; it raises UserError where it is wrong."""
        kept, path = self.kept(name), self.path(name)
        if kept.is_file():
            with broken_files(kept):
                held = pl.read_parquet(kept)
            return check(held.with_row_index(ROW), kept)
        self._await(path)
        with broken_files(path):
            frame = pl.read_parquet(path)
        found = check(frame.with_row_index(ROW), path)
        self.put(frame, kept)
        return found

    def put(self, frame: pl.DataFrame, path: Path) -> None:
        """Write a file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(path, frame.write_parquet)

    def columns(self, frame: pl.DataFrame, part: LogSchema, where: Path | str) -> dict[str, Array]:
        """Stored name -> values, (n,) each, of the columns that `part` names, none of a file without rows.

        UserError for what breaks the schema.
        """
        if not len(frame):
            return {}
        made = plan(part, dict(frame.schema), str(where))
        measure(made, frame.lazy())
        for f in part.features:
            text, learnt = _stored(f) in made.texts, self._learnt_as_text(f)
            if learnt is not None and text != learnt:
                wanted = "text" if learnt else "numbers"
                raise UserError(
                    f"{where}: column {f.name!r} holds {frame[f.name].dtype}; expected {wanted}, as in the run's log"
                )
        for g in part.gains:
            if f"gain/{g.name}" in made.texts:
                raise UserError(f"{where}: column {g.name!r} holds text; expected the codes of its classes, 0, 1, ...")
        for name in made.texts:
            if name != "channel":
                known = self.categories.get(name, [])
                self.categories[name] = [*known, *sorted(set(made.categories[name]) - set(known))]
                made.categories[name] = self.categories[name]
        found = frame.select(**made.stored)
        return {name: found[name].to_numpy() for name in found.columns}

    def _learnt_as_text(self, feature: Feature) -> bool | None:
        """Whether a feature was text in the run's log; None where that kept too few of each to tell."""
        if feature.name not in self._vocabularies:
            return False
        values = self._vocabularies[feature.name].values
        return isinstance(values[0], str) if values else None

    def _await(self, path: Path) -> None:
        """Return when the file is there."""
        begun, pause = time.monotonic(), FIRST_S
        while not path.is_file():
            waited = time.monotonic() - begun
            left = float("inf") if self.wait_s is None else self.wait_s - waited
            if left <= 0:
                raise UserError(
                    f"{path}: not there after {waited:.0f} s; have the job leave it, then go on with --resume"
                )
            self.tell(f"waiting for {path.relative_to(self.folder)}")
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, LONGEST_S)


def check(schema: LogSchema, statistics: tuple[Statistic, ...], price: float | None) -> None:
    """UserError for a run that no live campaign can be made of."""
    name = f"schema {schema.name}"
    for part, has in (("user", schema.user), ("channel", schema.channel), ("cost", schema.cost)):
        if has is None:
            raise UserError(f"{name}: no {part} column, and a live campaign needs one; name it, and train again")
    if schema.candidates is not None:
        raise UserError(f"{name}: its steps hold lists of items; a campaign chooses channels")
    if OF_TURN in schema.columns:
        raise UserError(f"{name}: a column is called {OF_TURN}, as one that is exchanged; rename it, and train again")
    for s in statistics:
        if s.of is not None and schema.gain(s.of).known.startswith("at:") and s.key != ("user",):
            raise UserError(
                f"{name}: statistic {s.name} counts a late gain by {', '.join(s.key) or 'channel'}; drop it"
            )
    assert schema.cost is not None
    if schema.cost.unit == "scaled" and price is None:
        raise UserError(f"{name}: its costs are scaled; say with --price what a unit costs, so that it can be charged")
    if schema.cost.unit != "scaled" and price is not None:
        raise UserError(f"{name}: its costs are in {schema.cost.unit} already; leave --price out")
    if price is not None and not 0 < price < np.inf:
        raise UserError(f"--price {price:g}: expected more than 0")


def parts(schema: LogSchema) -> dict[str, LogSchema]:
    """The columns of each file."""
    user = dataclasses.replace(
        schema, time=None, session=None, channel=None, channels=(), features=(), gains=(), cost=None, propensity=None
    )
    steps = [f for f in schema.features if f.level == "step"]
    before, after = (tuple(f for f in steps if f.known == known) for known in ("before", "after"))
    late = tuple(g for g in schema.gains if g.known.startswith("at:"))
    now = dataclasses.replace(user, time=schema.time)
    return {
        "users": dataclasses.replace(user, features=tuple(f for f in schema.features if f.level == "user")),
        "reachable": dataclasses.replace(now, session=schema.session, features=before),
        "outcomes": dataclasses.replace(
            now, channel=schema.channel, channels=schema.channels, features=after, gains=schema.gains, cost=schema.cost
        ),
        "late": dataclasses.replace(now, gains=late),
    }


def _stored(feature: Feature) -> str:
    return f"{'user' if feature.level == 'user' else 'feature'}/{feature.name}"
