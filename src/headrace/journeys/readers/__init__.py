"""Readers of published layouts, by schema name: each finds the files and joins them into one lazy frame.

`open_log` is the door: a source and a schema (a name, a TOML file, or a LogSchema) in, the schema and the frame out. A
LogSchema that carries the name of a layout is read by that layout's reader, so that a corrected copy of a built-in
schema still finds its files; any other name reads the columns of the file as they are.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from headrace.errors import UserError, unknown
from headrace.journeys.readers import criteo, decisions, kuairand, open_bandit, retailrocket, samples
from headrace.journeys.readers.files import Files, Source, kind, only, scan_log, unzip
from headrace.journeys.schema import LogSchema


@dataclass(frozen=True, slots=True)
class Reader:
    """How one layout is read, and the schema that says what its columns are."""

    schema: LogSchema
    read: Callable[[Path, Files], Source]


READERS: dict[str, Reader] = {
    "kuairand-pure": Reader(kuairand.PURE, kuairand.read_pure),
    "kuairand-1k": Reader(kuairand.ONE_K, kuairand.read_one_k),
    "kuairand-random-sample": Reader(samples.KUAIRAND, samples.read_kuairand),
    "criteo-attribution-sample": Reader(samples.CRITEO, samples.read_criteo),
    "criteo-attribution": Reader(criteo.SCHEMA, criteo.read),
    "retailrocket": Reader(retailrocket.SCHEMA, retailrocket.read),
    "open-bandit": Reader(open_bandit.SCHEMA, open_bandit.read),
    "headrace": Reader(decisions.SCHEMA, decisions.read),
}


def open_log(source: Path, schema: LogSchema | str, files: Files) -> tuple[LogSchema, Source]:
    """The log at `source` and the schema to read it by; raises UserError where either is not there."""
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; give the path of a log")
    given = _given(schema)
    if source.is_file() and kind(source) == ".zip":
        source = unzip(source, files.scratch)
    if isinstance(given, Reader):
        found = given.read(source, files)
        return found.schema, found
    if given.name in READERS:
        return given, READERS[given.name].read(source, files)
    paths = only(source)
    frame = scan_log(paths, files)
    return given, Source(frame, tuple(frame.collect_schema().names()[1:]), tuple(paths), given)


def _given(schema: LogSchema | str) -> LogSchema | Reader:
    if isinstance(schema, LogSchema):
        return schema
    schema = str(schema)
    if schema in READERS:
        return READERS[schema]
    if schema.endswith(".toml") or Path(schema).is_file():
        return LogSchema.load(schema)
    raise unknown("schema", schema, READERS, "--schema (or the path of a .toml file)")


def recognise(source: Path) -> str | None:
    """The name of the layout that a file or folder can be read as, None where there is none or more than one."""
    fitting = []
    for name, reader in READERS.items():
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found = reader.read(source, Files(Path(scratch), False))
                columns = set(found.frame.collect_schema().names())
            except (UserError, pl.exceptions.PolarsError):
                continue
        if set(reader.schema.columns) <= columns:
            fitting.append(name)
    return fitting[0] if len(fitting) == 1 else None
