"""headrace embed: the representation of each user, for other models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.places import LOG, RUN


@dataclass(frozen=True, slots=True)
class Embed:
    """Write one row a user: its id, and what the run's encoder holds of it after its last step."""

    run: tyro.conf.Positional[Annotated[Path, RUN]]
    """A folder that train left, of a method with an encoder (mtorl)."""
    data: Annotated[Path, LOG]
    """Journeys, or a raw log of the run's schema, of the users."""
    out: Path
    """A new .parquet or .csv file."""

    def execute(self) -> None:
        from headrace.channel.embed import embed
        from headrace.channel.recommend import check_ending, save
        from headrace.cli.console import out
        from headrace.cli.measuring import open_run, own_schema
        from headrace.cli.rooms import load_channel
        from headrace.cli.settings import open_journeys
        from headrace.errors import UserError

        check_ending(self.out)
        if self.out.exists():
            raise UserError(f"{self.out}: exists; choose another --out, so that nothing is lost")
        run = open_run(self.run)
        method = load_channel(run)
        table = embed(method, open_journeys(self.data, own_schema(run)))
        save(table, self.out)
        out.print(f"{self.out}: {table.height:,} users, {table.width - 1} numbers each")
