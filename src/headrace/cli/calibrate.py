"""headrace calibrate: fit a world's scenario to a real log."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG
from headrace.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from headrace.evaluate.results import Record


@dataclass(frozen=True, slots=True)
class Calibrate:
    """Fit a scenario to a real log; print each statistic of the log beside the simulated one, and their distance."""

    data: tyro.conf.Positional[Annotated[Path, LOG]]
    """Journeys, or a raw file of known schema: adverts with channel, cost, click and conversion, or a feed."""
    out: Path
    """The scenario file (.toml); the comparison goes to NAME.results.json beside it."""
    name: Annotated[str | None, QUIET] = None
    """What the scenario is called; default: the file's name."""

    def execute(self) -> None:
        from headrace.cli.console import out, progress
        from headrace.cli.settings import open_journeys, refuse_folder
        from headrace.evaluate.results import save
        from headrace.simulate import calibrate as fitting

        if self.out.suffix != ".toml":
            raise UserError(f"--out {self.out}: expected a file that ends in .toml")
        results = self.out.with_suffix(".results.json")
        refuse_folder(self.out)
        refuse_folder(results)
        journeys = open_journeys(self.data)
        name = self.name or self.out.stem
        with progress("fitting") as tell:
            scenario, compared = fitting.calibrate(journeys, name, progress=tell)
        fitting.save(scenario, self.out, journeys.schema.name)
        save(records(compared, journeys.schema.name, name, journeys.n_users), results)
        out.print(table(compared, journeys.schema.name, name))
        policy = "logged" if scenario.channels else "shuffle"
        out.print(f"{self.out}: try it with  headrace simulate {self.out} --policy {policy} --out JOURNEYS")


def records(compared: list[Any], log: str, world: str, users: int) -> "list[Record]":
    """The contract's records: each statistic of the log and of the world, and their distance."""
    from headrace.evaluate.bootstrap import Interval
    from headrace.evaluate.results import Source, record

    found = []
    for each in compared:
        source = Source(log, "none", "all", 1)
        metric = "calibration/" + each.statistic.replace("'", "").replace(" ", "_")
        low, high = getattr(each, "low", None), getattr(each, "high", None)
        found.append(record(source, "log", metric, Interval(each.real, low, high), users))
        found.append(record(source, world, metric, Interval(each.simulated, None, None), users))
        found.append(record(source, world, f"{metric}/distance", Interval(each.distance, None, None), users))
    return found


def table(compared: list[Any], log: str, world: str) -> "Table":
    """Real against simulated, for the eye."""
    from rich.table import Table

    found = Table(title=f"{log} and {world}")
    found.add_column("statistic", no_wrap=True)
    for column in ("real", "simulated", "distance"):
        found.add_column(column, no_wrap=True)
    found.add_column("of")
    found.add_column("")
    for each in compared:
        fitted = "" if getattr(each, "fitted", True) else "not fitted"
        found.add_row(
            each.statistic, f"{each.real:.4g}", f"{each.simulated:.4g}", f"{each.distance:.3f}", each.kind, fitted
        )
    return found
