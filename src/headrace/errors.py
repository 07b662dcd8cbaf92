"""The two ways a command can end short of its result, each a single line a person can act on.

`UserError` is the user's mistake (exit code 2): what, where, what was expected, what to do next.
`Refused` is a figure that the data cannot carry (exit code 3): a leak, or no support.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """A mistake in a file, a flag or a call, told in one line. Exit code 2."""


class Refused(Exception):
    """A figure that was asked for and cannot honestly be given. Exit code 3."""


def no_run(path: Path) -> UserError:
    """The error for a folder that holds no run."""
    return UserError(f"{path}: not a run (no config.json); make one with  headrace train METHOD --out {path}")


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> UserError:
    """The error for a name that is not one of `known`, with the nearest one proposed.

    >>> print(unknown("key", "lamda", ["lambda_", "mu"]))
    unknown key 'lamda', did you mean 'lambda_'? Known: lambda_, mu
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}?" if near else "."
    place = f"{where}: " if where else ""
    return UserError(f"{place}unknown {kind} {name!r}{hint} Known: {', '.join(known)}")
