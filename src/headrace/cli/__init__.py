"""The command line: one frozen dataclass a command, its fields the flags, its `run` the work.

Commands are imported only when they are called, so that --help answers at once. Exit codes: 0 done, 2 the user's
mistake (one line), 3 a figure that was asked for is refused.
"""

import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {  # name: (module:class, what it does)
    "demo": ("demo:Demo", "the whole way on simulated ads: log, audit, training, evaluation, report"),
    "data inspect": ("data:Inspect", "draft a schema for any parquet, csv or tsv file"),
    "data prepare": ("data:Prepare", "turn a log into journeys"),
    "data audit": ("data:Audit", "look for leaks between the parts of a split"),
    "data fetch": ("data:Fetch", "where a public data set comes from, and whether your copy is whole"),
    "train": ("train:Train", "fit a method on journeys and leave a run"),
    "evaluate": ("evaluate:Evaluate", "measure a run on its own test part or on another log, beside the floors"),
    "recommend": ("recommend:Recommend", "the next channel of each user, what it should bring and cost"),
    "simulate": ("simulate:Simulate", "write a log of a simulated world"),
    "calibrate": ("calibrate:Calibrate", "fit a world's scenario to a real log, and say how near it comes"),
    "report": ("report:Report", "write a run's results as one page"),
    "doctor": ("doctor:Doctor", "versions, threads and devices"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run one command; its exit code."""
    from headrace.errors import Refused, UserError, unknown

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())  # noqa: T201
        return 0
    if arguments[0] == "--version":
        from headrace import __version__

        print(__version__)  # noqa: T201
        return 0
    words = 2 if arguments[0] == "data" else 1
    name = " ".join(arguments[:words])
    try:
        if name not in COMMANDS:
            if name in ("data", "data --help", "data -h"):
                print(overview("data "))  # noqa: T201
                return 0
            raise unknown("command", name, COMMANDS, "headrace")
        return call(name, arguments[words:])
    except UserError as error:
        print(f"headrace: {_one_line(error)}", file=sys.stderr)  # noqa: T201
        return 2
    except Refused as error:
        print(f"headrace: refused: {_one_line(error)}", file=sys.stderr)  # noqa: T201
        return 3
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def call(name: str, arguments: list[str]) -> int:
    """Parse a command's flags and run it."""
    import tyro

    module, _, kind = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(f"headrace.cli.{module}"), kind)
    parsed = tyro.cli(command, prog=f"headrace {name}", args=arguments)
    return int(parsed.run() or 0)


def overview(prefix: str = "") -> str:
    """The list of commands, as --help shows it."""
    shown = {name: what for name, (_, what) in COMMANDS.items() if name.startswith(prefix)}
    width = max(len(name) for name in shown)
    lines = [f"  {name:<{width}}  {what}" for name, what in shown.items()]
    title = "headrace: from logs of what was shown to policies whose worth is known before they go live."
    return "\n".join([title, "", "usage: headrace COMMAND ...   (headrace COMMAND --help tells its flags)", "", *lines])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
