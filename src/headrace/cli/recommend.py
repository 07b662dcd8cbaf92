"""headrace recommend: the next channel of each user, what it should bring and cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG, RUN


@dataclass(frozen=True, slots=True)
class Recommend:
    """Write one row a user, best first: user, channel, expected gain and cost, or the value to a run that predicts
    neither, propensity, rank."""

    run: tyro.conf.Positional[Annotated[Path, RUN]]
    """A folder that train left."""
    data: Annotated[Path, LOG]
    """Journeys, or a raw log of the run's schema, of the users to advertise to."""
    out: Path
    """A new .parquet or .csv file."""
    budget: Annotated[float | None, QUIET] = None
    """In the cost's unit: only the users from the top whose expected cost fits it."""
    by: str = "own"
    """own: as the method chooses; value: the channel of the largest expected gain less penalty times cost; policy: the
    most probable one of its policy, which mostly is the log's"""
    penalty: float = 0.0
    """What a unit of cost takes off the gain, in the gain's unit, when channels and users are put in order; a run that
    was taught the penalised reward has its own"""

    def execute(self) -> None:
        from rich.table import Table

        from headrace.channel.recommend import check_ending, recommend, save
        from headrace.cli.console import out
        from headrace.cli.measuring import open_run, own_schema, warn_of_floors
        from headrace.cli.rooms import load_channel
        from headrace.cli.settings import open_journeys
        from headrace.errors import UserError

        check_ending(self.out)
        if self.out.exists():
            raise UserError(f"{self.out}: exists; choose another --out, so that nothing is lost")
        run = open_run(self.run)
        method = load_channel(run)
        journeys = open_journeys(self.data, own_schema(run))
        table = recommend(method, journeys, self.budget, self.by, self.penalty)
        warn_of_floors(run)
        save(table, self.out)
        right = {name for name, kind in table.schema.items() if kind.is_numeric() and name != "user"}
        shown = Table(title=f"the first of {table.height:,} users out of {journeys.n_users:,}")
        for name in table.columns:
            shown.add_column(name.replace("_", " "), justify="right" if name in right else "left")
        for row in table.head(10).iter_rows():
            shown.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
        out.print(shown)
        if "expected_gain" not in table.columns:
            out.print(f"{self.out}: {table.height:,} users, in the order of their best channel's value")
            return
        cost = journeys.schema.cost
        if cost is not None and self.penalty:
            out.print(f"in the order of expected gain less {self.penalty:g} times the expected cost in {cost.unit}")
        spend = "" if cost is None else f" at an expected cost of {table['expected_cost'].sum():,.4g} {cost.unit}"
        limit = "" if self.budget is None else f" (budget {self.budget:,.10g})"
        out.print(
            f"{self.out}: {table.height:,} users, expected gain {table['expected_gain'].sum():,.4g}{spend}{limit}"
        )
