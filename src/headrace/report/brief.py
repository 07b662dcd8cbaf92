"""What the terminal shows of a result: two metrics a target with the floors, and where the model stands in words."""

from collections.abc import Sequence

from rich.console import Console

from headrace.report.names import target
from headrace.report.records import Record, settle
from headrace.report.render import Terminal
from headrace.report.standing import Standing, headlines
from headrace.report.table import results_tables

SHOWN = ("log_loss", "accuracy", "auc", "mse")
CHOSEN_BY = "reward_by_channel"  # the target that users and channels are chosen by


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
    """What is to be said before anything is chosen by a method that a floor outdoes at what a channel brings.

    None where no floor does, or where nobody measured that; a part that was trained on tells nothing.
    """
    of_reward = [r for r in records if target(r["metric"]) == CHOSEN_BY and r["part"] != "train"]
    below = [s.sentence for s in standings(of_reward) if s.verdict == "below"]
    return " ".join(below) or None
