"""headrace report: a run's results as one page."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, slots=True)
class Report:
    """Write the page of a run, a comparison, a plan or a campaign from the files that stand in its folder."""

    folder: tyro.conf.Positional[Path]
    """What train, compare, ope, plan or campaign left."""

    def execute(self) -> None:
        from headrace.cli.console import out
        from headrace.report.page import write_page

        out.print(f"{write_page(self.folder)}: open it in a browser; it needs no network")
