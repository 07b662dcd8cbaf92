"""What the terminal shows of a result: two metrics a target with the floors, and where the model stands in words."""

from collections.abc import Sequence

from rich.console import Console

from headrace.report.names import target
from headrace.report.records import Record, settle
from headrace.report.render import Terminal
from headrace.report.standing import Standing, headlines
from headrace.report.table import results_tables

SHOWN = ("log_loss", "accuracy", "auc", "mse")
CHOSEN_BY = ("action", "reward", "reward_by_channel")  # the targets that users and channels are chosen by


def print_brief(records: Sequence[Record], console: Console, full: bool = False) -> None:
    """Print the results; `full` shows every metric and every paired difference."""
    kept = [r for r in records if full or r["metric"].rpartition("/")[2] in SHOWN]
    for table in results_tables(kept):
        if full or table.kind == "results":
            console.print(Terminal(table))
    for standing in standings(records):
        console.print(f"- {standing.metric}: {standing.sentence}", soft_wrap=True)


def standings(records: Sequence[Record]) -> list[Standing]:
    """Where each learnt method stands among the floors, by the headline metric of each target."""
    measures = settle([r for r in records if r["against"] is None])
    return headlines(measures, settle([r for r in records if r["against"] is not None]))


def below_floor(records: Sequence[Record]) -> str | None:
    """What is to be said before anything is chosen by a method that a floor outdoes at channels or what they bring.

    None where no floor does, or where nobody measured that; a part that was trained on tells nothing.
    """
    mine = (r for r in records if not r["setting"] and r["part"] != "train")  # other gains than the reward have one
    chosen_by = [r for r in mine if target(r["metric"]) in CHOSEN_BY]
    below = [s.sentence for s in standings(chosen_by) if s.verdict == "below"]
    return " ".join(below) or None
