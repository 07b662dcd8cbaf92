"""From a preset and --set key=value to a method's config; and the journeys that --data names."""

import atexit
import contextlib
import dataclasses
import math
import tempfile
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

from headrace.cli.places import check_log
from headrace.errors import UserError, unknown
from headrace.journeys.schema import LogSchema
from headrace.journeys.store import Journeys

Value = Any
EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "none",
    dict[str, float]: "NAME:NUMBER,...",
    tuple[int, ...]: "whole numbers, comma between them",
    tuple[float, ...]: "numbers, comma between them",
}


def configure(
    method: str, kind: type, presets: dict[str, dict[str, Any]], preset: str, changes: tuple[str, ...]
) -> Any:
    """The config of a preset (a name, or a TOML file of fields) with the changes of --set applied."""
    if preset in presets:
        values = dict(presets[preset])
    elif preset.endswith(".toml"):
        path = Path(preset)
        if not path.is_file():
            raise UserError(f"--preset {preset}: no such file")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: not valid TOML ({error}); correct that line") from None
    else:
        raise unknown("preset", preset, presets, method)
    twice = [c for c in changes if c.startswith("seed=")][:-1]
    if twice:
        raise UserError(f"--set {twice[0]}: the seed has a flag of its own; use  --seed {twice[0][5:]}")
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"--set {change}: expected key=value, for example  --set epochs=10")
        values[key] = text
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    resolved = {}
    for key, value in values.items():
        if key not in fields:
            raise unknown("key", key, fields, f"{method} config")
        held = key in presets.get(preset, {}) and values[key] is presets[preset][key]
        resolved[key] = value if held else read(key, as_text(value), hints[key])
    return kind(**resolved)


def as_text(value: Any) -> str:
    """A TOML file's value as --set would spell it.

    >>> as_text(True), as_text(0.5), as_text({"click": 1, "sale": 2.5}), as_text([64, 32])
    ('true', '0.5', 'click:1,sale:2.5', '64,32')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{name}:{part}" for name, part in value.items())
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)


def read(key: str, text: str, hint: Any) -> Value:
    """A flag's text as the type of its field.

    >>> read("epochs", "3", int), read("length", "none", int | None), read("hidden", "64,32", tuple[int, ...])
    (3, None, (64, 32))
    """
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in options and text.lower() == "none":
        return None
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            choices = typing.get_args(option)
            if text not in choices:
                raise unknown(f"value of {key}", text, choices)
            return text
        if option is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        with contextlib.suppress(ValueError):
            if typing.get_origin(option) is dict:
                pairs = [part.split(":") for part in text.split(",")]
                return {name: _finite(value) for name, value in pairs}
            if typing.get_origin(option) is tuple:
                return tuple(map(_finite if float in typing.get_args(option) else int, text.split(",")))
            if option is int:
                return int(text)
            if option is float:
                return _finite(text)
        if option is str:
            return text
    raise UserError(f"--set {key}={text}: expected {' or '.join(EXPECTED[o] for o in options)}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def refuse_folder(path: Path) -> None:
    """UserError where something stands at the place of a new folder."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path}: exists; choose another --out, or remove it")


def refuse_run(path: Path, instead: str = "") -> None:
    """UserError where a run stands at the place of a new one; what a kill left before it was a run does not count."""
    if (path / "config.json").is_file():
        raise UserError(f"{path}: a run is there already; choose another --out{instead}")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file, expected a new folder; choose another --out")


def begin_or_resume(path: Path, resume: bool, what: str = "run") -> None:
    """UserError where a run stands at the place of a new one; with `resume` a line where none stands to go on with.

    That is no mistake: a fit may have been stopped before its folder was a run, and a script may always say --resume.
    """
    from headrace.cli.console import err

    if not resume:
        refuse_run(path, f", or go on with that {what} by  --resume")
    elif not (path / "config.json").is_file():
        err.print(f"{path}: no {what} there to resume; beginning a new one")


def open_journeys(
    path: Path, schema: LogSchema | str | None = None, keep: Path | None = None, resume: bool = False
) -> Journeys:
    """The journeys of a prepared folder; a raw log is prepared on the fly, with a message.

    A raw log is read by `schema`, or as the known layout that it has. Its journeys go to `keep`, and with `resume` are
    taken from there; without `keep` they last as long as the process.
    """
    if (path / "journeys.json").is_file():
        return Journeys(path)
    from headrace.cli.console import err, progress
    from headrace.journeys.prepare import prepare
    from headrace.journeys.readers import recognise

    check_log(path)
    if keep is not None and keep.exists():
        if resume and (keep / "journeys.json").is_file():
            return Journeys(keep)
        raise UserError(
            f"{keep}: exists, and is where the journeys of {path} would go; use  --data {keep}  or remove it"
        )
    given = schema or recognise(path)
    if given is None:
        raise UserError(
            f"{path}: neither a journeys folder nor a log of a known layout; draft a schema with  "
            f"headrace data inspect {path}  and make journeys with  headrace data prepare"
        )
    name = given if isinstance(given, str) else given.name
    if keep is None:
        keep = _for_now() / "journeys"
        place = "for this command alone"
    else:
        place = f"to {keep}"
    err.print(f"{path} is a raw log; preparing it as {name}, {place}")
    with progress("preparing") as tell:
        return prepare(path, given, keep, progress=tell)


def open_items(path: Path, schema: LogSchema | str | None, keep: Path, resume: bool = False) -> Journeys:
    """The journeys that prediction learns from: lists are laid out to `keep`-items, one item a step, with a message."""
    from headrace.cli.console import err, progress
    from headrace.journeys.exposures import exposures

    journeys = open_journeys(path, schema, keep, resume)
    if journeys.schema.candidates is None:
        return journeys
    flat = keep.with_name(f"{keep.name}-items")
    if (flat / "journeys.json").is_file() and resume:
        return Journeys(flat)
    refuse_folder(flat)
    err.print(f"{path} holds lists of items; laying them out, one item a step, to {flat}")
    with progress("laying out items") as tell:
        return exposures(journeys, flat, tell)


def _for_now() -> Path:
    """A folder that goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="headrace-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
