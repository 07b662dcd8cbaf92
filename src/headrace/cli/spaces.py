"""A search space from a TOML file, and a configuration as one that --preset takes."""

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from headrace.cli.settings import as_text, read
from headrace.errors import UserError, unknown
from headrace.learn import durable
from headrace.learn.space import Range, Space


def read_space(path: Path, method: str, kind: type) -> Space:
    """The space of a file: fields of the config `kind`, each with a list of values or a table of low, high and log."""
    if not path.is_file():
        raise UserError(f"--space {path}: no such file")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid TOML ({error}); correct that line") from None
    hints = typing.get_type_hints(kind)
    fields = [f.name for f in dataclasses.fields(kind) if f.name != "seed"]
    space: dict[str, tuple[Any, ...] | Range] = {}
    for key, given in found.items():
        if key not in fields:
            raise unknown("key", key, fields, f"{path}: {method} config")
        try:
            space[key] = _values(key, given, hints[key])
        except UserError as error:
            raise UserError(f"{path}: {str(error).removeprefix('--set ')}") from None
    if not space:
        raise UserError(f"{path}: names no field to search, expected for example  width = [64, 128]")
    return space


def write_preset(path: Path, config: Mapping[str, Any]) -> None:
    """A configuration as a file for --preset; the seed is a flag of its own and left out."""
    values = {name: "none" if value is None else value for name, value in config.items() if name != "seed"}
    durable.replace_text(path, tomli_w.dumps(values))


def _values(key: str, given: Any, hint: Any) -> tuple[Any, ...] | Range:
    if isinstance(given, list) and given:
        if any(isinstance(value, dict | list) for value in given):
            raise UserError(f"{key}: expected a list of single values")
        return tuple(dict.fromkeys(read(key, as_text(value), hint) for value in given))
    if not isinstance(given, dict):
        raise UserError(f"{key} = {given}: expected a list of values, or {{low = ..., high = ..., log = false}}")
    for word in given:
        if word not in ("low", "high", "log"):
            raise unknown("key", word, ("low", "high", "log"), key)
    missing = [word for word in ("low", "high") if word not in given]
    if missing:
        raise UserError(f"{key}: {missing[0]} is missing, expected {{low = ..., high = ..., log = false}}")
    ends = [read(key, as_text(given[word]), hint) for word in ("low", "high")]
    log = given.get("log", False)
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends) or not isinstance(log, bool):
        raise UserError(f"{key} = {given}: expected numbers as low and high, and log true or false")
    try:
        return Range(ends[0], ends[1], log)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
