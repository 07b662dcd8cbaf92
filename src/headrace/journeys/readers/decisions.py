"""headrace's own decision log: what the service decided, in one parquet file or a folder of them.

Columns user, time (ms since 1970), channel, propensity and cost; every other column as declared in `schema.toml`
beside the file. Without that file only these five are read.
"""

from pathlib import Path

from headrace.journeys.readers.files import Files, Source, only, scan_log
from headrace.journeys.schema import Cost, LogSchema

SCHEMA = LogSchema(
    name="headrace",
    user="user",
    time="time",
    time_unit="ms",
    channel="channel",
    propensity="propensity",
    cost=Cost("cost"),
)


def read(source: Path, files: Files) -> Source:
    """A decision log and the schema beside it."""
    beside = (source if source.is_dir() else source.parent) / "schema.toml"
    schema = LogSchema.load(beside) if beside.is_file() else SCHEMA
    logs = only(source)
    frame = scan_log(logs, files)
    return Source(frame, tuple(frame.collect_schema().names()[1:]), tuple(logs), schema)
