"""headrace report: a run's results as one page."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, slots=True)
class Report:
    """Write report.html from the files of a run or of a comparison."""

    folder: tyro.conf.Positional[Path]
    """A run, or the folder of a comparison."""

    def execute(self) -> None:
        from headrace.cli.console import out
        from headrace.report.page import write_page

        out.print(f"{write_page(self.folder)}: open it in a browser; it needs no network")
