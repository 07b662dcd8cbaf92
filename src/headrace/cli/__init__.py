"""The command line: one frozen dataclass a command, its fields the flags, `execute` the work.

A command's module is imported when it is called, and what it works with when it works, so that --help answers at
once. Exit codes: 0 done, 2 the user's mistake (one line), 3 a figure that was asked for is refused, 130 and 143 stopped
by SIGINT and SIGTERM.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

COMMANDS = {  # name: (module:class, what it does)
    "demo": ("demo:Demo", "the whole way on simulated ads: log, audit, training, evaluation, report"),
    "data inspect": ("data:Inspect", "draft a schema for any parquet, csv or tsv file"),
    "data prepare": ("data:Prepare", "turn a log into journeys"),
    "data audit": ("data:Audit", "look for leaks between the parts of a split"),
    "data fetch": ("data:Fetch", "where a public data set comes from, and whether your copy is whole"),
    "train": ("train:Train", "fit a method on journeys and leave a run"),
    "fields": ("fields:Fields", "what --set can change of a method, with defaults"),
    "tune": ("tune:Tune", "search a method's configurations, each measured on the validation part"),
    "evaluate": ("evaluate:Evaluate", "measure a run on its own test part or on another log, beside the floors"),
    "compare channel": ("compare_channel:CompareChannel", "methods that choose channels, on the same data and trials"),
    "compare predict": ("compare_predict:ComparePredict", "variants of RMTL over several seeds, with equal steps"),
    "compare fuse": ("compare_fuse:CompareFuse", "methods of fusion in a world, by estimates and by the truth"),
    "compare campaign": ("compare_campaign:CompareCampaign", "the same budget spent by many methods, on equal luck"),
    "ope": ("ope:Ope", "what policies are worth by a log, or why that log cannot tell"),
    "recommend": ("recommend:Recommend", "the next channel of each user, what it should bring and cost"),
    "plan": ("plan:MakePlan", "the best users and channels for a budget, and what more budget would bring"),
    "rank": ("rank:Rank", "the best items of each request by a fusion policy, or of each session by a predictor"),
    "cycle": ("cycle:Cycle", "serve, log, retrain day by day in a world, beside a frozen policy and static weights"),
    "embed": ("embed:Embed", "what the encoder holds of each user, for other models"),
    "campaign": (
        "campaign:Campaign",
        "spend a budget on a world's users or on real ones, exploring first, never more than it",
    ),
    "simulate": ("simulate:Simulate", "write a log of a simulated world"),
    "calibrate": ("calibrate:Calibrate", "fit a world's scenario to a real log, and say how near it comes"),
    "report": ("report:Report", "write a run's results as one page"),
    "doctor": ("doctor:Doctor", "versions, threads and devices"),
}


GROUPS = ("data", "compare")  # whose names are two words


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code, on one thread unless OMP_NUM_THREADS says more."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded; why: docs/decisions/0008-threads.md
    signal.signal(signal.SIGTERM, _stop)
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
    words = 2 if arguments[0] in GROUPS else 1
    name = " ".join(arguments[:words])
    try:
        if name not in COMMANDS:
            if arguments[0] in GROUPS and arguments[1:2] in ([], ["-h"], ["--help"]):
                print(overview(f"{arguments[0]} "))  # noqa: T201
                return 0
            raise unknown("command", name, COMMANDS)
        return call(name, arguments[words:])
    except UserError as error:
        return _told(str(error), 2)
    except Refused as error:
        return _told(f"refused: {error}", 3)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a folder that may not be written, a full disk: the system's words name the cause
        return _told(f"{error.filename or name}: {error.strerror or error}; mend that and call the command again", 2)
    except KeyboardInterrupt:
        return _told(f"{name}: stopped by SIGINT", 130)


def call(name: str, arguments: list[str]) -> int:
    """Parse a command's flags and run it."""
    from headrace.cli.parse import parse

    module, _, kind = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(f"headrace.cli.{module}"), kind)
    return int(parse(name, command, arguments).execute() or 0)


def overview(prefix: str = "") -> str:
    """The list of commands, as --help shows it."""
    shown = {name: what for name, (_, what) in COMMANDS.items() if name.startswith(prefix)}
    width = max(len(name) for name in shown)
    lines = [f"  {name:<{width}}  {what}" for name, what in shown.items()]
    title = "headrace: from logs of what was shown to policies whose worth is known before they go live."
    return "\n".join([title, "", "usage: headrace COMMAND ...   (headrace COMMAND --help tells its flags)", "", *lines])


def _told(text: str, code: int) -> int:
    print(f"headrace: {' '.join(text.split())}", file=sys.stderr)  # noqa: T201
    return code


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave as a fit does that is asked to stop, so that what was half written is cleared away."""
    sys.exit(_told(f"stopped by {signal.Signals(number).name}", 128 + number))
