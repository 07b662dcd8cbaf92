"""From a command's words to its dataclass; a mistake in them leaves as one line, the nearest flag proposed."""

import contextlib
import dataclasses
import io
import itertools
import re
import typing
from collections.abc import Sequence
from typing import Any

import tyro

from headrace.cli.places import Place
from headrace.errors import UserError, unknown

MARKERS = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName)
QUIET = tyro.conf.arg(help_behavior_hint="")  # for a flag whose text says what its absence means
BOX = re.compile("[─│╭╮╰╯]+|[+]?-{3,}[+]?|^[|+]|[|+]$", re.MULTILINE)  # what the parser frames its words with
WANTED = {int: "a whole number", float: "a number"}


def parse(name: str, kind: Any, arguments: Sequence[str]) -> Any:
    """The command that these words ask for; SystemExit(0) after --help, UserError for words that make no sense or name
    a place where nothing stands."""
    flags = {_flag(f): f for f in dataclasses.fields(kind)}
    words = gather(arguments, flags)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            parsed = tyro.cli(kind, prog=f"headrace {name}", args=words, config=MARKERS)
    except SystemExit as end:
        if end.code != 2:
            raise
        told = " ".join(re.sub(BOX, " ", heard.getvalue()).split())
        wrong = complaint(name, kind, words, flags, told)
        raise UserError(f"{wrong}; headrace {name} --help tells the flags") from None
    if not 0 <= getattr(parsed, "seed", 0) < 2**63:
        raise UserError(f"{name}: --seed {parsed.seed}: expected a whole number from 0 to {2**63 - 1}")
    for field in dataclasses.fields(kind):
        named = getattr(parsed, field.name)
        for mark in getattr(field.type, "__metadata__", ()):
            if isinstance(mark, Place) and named is not None:
                mark.check(named)
    return parsed


def gather(arguments: Sequence[str], flags: dict[str, Any]) -> list[str]:
    """The words with a repeated flag of many values made one, and --snake_case flags spelled with hyphens.

    >>> @dataclasses.dataclass
    ... class Command:
    ...     set: tuple[str, ...] = ()
    >>> gather(["--set", "a=1", "--set", "b=2"], {"--set": dataclasses.fields(Command)[0]})
    ['--set', 'a=1', 'b=2']
    """
    words: list[str] = []
    many: dict[str, list[str]] = {}
    into = words
    for word in arguments:
        if not word.startswith("--"):
            into.append(word)
            continue
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        into = words
        if flag in flags and typing.get_origin(_plain(flags[flag].type)) is tuple:
            into = many.setdefault(flag, [])
            into += [value] if equals else []
        else:
            words.append(flag + equals + value)
    return words + [word for flag, values in many.items() for word in (flag, *values)]


def complaint(name: str, kind: Any, words: Sequence[str], flags: dict[str, Any], told: str) -> str:
    """In one line what is wrong with the words; `told` is what the parser says of it."""
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    known = [flag for flag, f in flags.items() if not _positional(f)]
    for flag in given:
        if flag not in known:
            return str(unknown("flag", flag, [*known, "--help"], name))
    if "Missing from" in told:
        asked = told.partition("Missing from")[2]
        missing = [f for f in flags.values() if f.default is dataclasses.MISSING]
        lacking = [_shown(f) for f in missing if re.search(rf"(^|\s){re.escape(_shown(f))}\s", asked)]
        return f"{name}: {', '.join(lacking)} missing"
    found = re.search(r"Error parsing (\S+): (.*?)(?: Got errors| Argument helptext|$)", told)
    if found:
        flag = found[1].partition("/")[0]
        wanted = WANTED.get(_plain(flags[flag].type)) if flag in flags else None
        value = next((w for f, w in itertools.pairwise(words) if f == flag), "")
        value = next((w.partition("=")[2] for w in words if w.startswith(f"{flag}=")), value)
        return f"{name}: {flag} {value}: expected {wanted}" if wanted else f"{name}: {flag}: {found[2]}"
    found = re.search(r"Missing value for argument '(\S+?)'", told)
    if found:
        return f"{name}: {found[1].partition('/')[0]}: expected a value behind it"
    found = re.search(r"Unrecognized options: (.*?) For full helptext", told)
    if found:
        return f"{name}: unexpected {found[1]!r}"
    return f"{name}: {told.partition(' For full helptext')[0]}"


def _plain(hint: Any) -> Any:
    """A field's type without marks and without None."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    options = [o for o in typing.get_args(hint) if o is not type(None)]
    return options[0] if type(None) in typing.get_args(hint) and len(options) == 1 else hint


def _positional(field: Any) -> bool:
    return tyro.conf.Positional in getattr(field.type, "__metadata__", ())


def _shown(field: Any) -> str:
    """The flag, or the word in capitals that stands for a positional one."""
    return field.name.upper() if _positional(field) else _flag(field)


def _flag(field: Any) -> str:
    """A field's flag; one that would be a word of Python's has a _ behind it."""
    return f"--{field.name.rstrip('_').replace('_', '-')}"
