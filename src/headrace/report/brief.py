"""What the terminal shows of a result: two metrics a target with the floors, and where the model stands in words."""

from collections.abc import Sequence

from rich.console import Console

from headrace.report.records import Record, settle
from headrace.report.render import Terminal
from headrace.report.standing import headlines
from headrace.report.table import results_tables

SHOWN = ("log_loss", "accuracy", "auc", "mse")


def print_brief(records: Sequence[Record], console: Console, full: bool = False) -> None:
    """Print the results; `full` shows every metric and every paired difference."""
    kept = [r for r in records if full or r["metric"].rpartition("/")[2] in SHOWN]
    for table in results_tables(kept):
        if full or table.kind == "results":
            console.print(Terminal(table))
    measures = settle([r for r in records if r["against"] is None])
    differences = settle([r for r in records if r["against"] is not None])
    for standing in headlines(measures, differences):
        console.print(f"- {standing.metric}: {standing.sentence}", soft_wrap=True)
