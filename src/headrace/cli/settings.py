"""From a preset and --set key=value to a method's config; and the journeys that --data names."""

import dataclasses
import tempfile
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

from headrace.errors import UserError, unknown
from headrace.journeys.store import Journeys

Value = Any


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
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    else:
        raise unknown("preset", preset, presets, method)
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
        resolved[key] = read(key, value, hints[key]) if isinstance(value, str) else value
    return kind(**resolved)


def read(key: str, text: str, hint: Any) -> Value:
    """A flag's text as the type of its field.

    >>> read("epochs", "3", int), read("length", "none", int | None), read("running", "false", bool)
    (3, None, False)
    """
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in options and text.lower() == "none":
        return None
    for option in options:
        origin = typing.get_origin(option)
        if origin is typing.Literal:
            choices = typing.get_args(option)
            if text not in choices:
                raise unknown(f"value of {key}", text, choices)
            return text
        if origin is dict:
            pairs = [part.partition(":") for part in text.split(",")]
            if all(colon for _, colon, _ in pairs):
                return {name: float(value) for name, _, value in pairs}
        if option is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if option in (int, float):
            try:
                return option(text)
            except ValueError:
                continue
        if option is str:
            return text
    names = " or ".join("none" if o is type(None) else getattr(o, "__name__", str(o)) for o in options)
    raise UserError(f"--set {key}={text}: expected {names}")


def open_journeys(path: Path, schema: str | None = None) -> Journeys:
    """The journeys of a prepared folder; a raw log of a known schema is prepared on the fly, with a message."""
    if (path / "journeys.json").is_file():
        return Journeys(path)
    from headrace.cli.console import err, progress
    from headrace.journeys.prepare import prepare
    from headrace.journeys.readers import recognise

    if not path.exists():
        raise UserError(f"--data {path}: no such file or folder")
    name = schema or recognise(path)
    if name is None:
        raise UserError(
            f"--data {path}: neither a journeys folder nor a log of a known layout; draft a schema with  "
            f"headrace data inspect {path}  and make journeys with  headrace data prepare"
        )
    out = Path(tempfile.mkdtemp(prefix="headrace-")) / "journeys"
    err.print(
        f"{path} is a raw log; preparing it as {name} (keep it with  headrace data prepare {path} --schema {name})"
    )
    with progress("preparing") as tell:
        return prepare(path, name, out, progress=tell)
