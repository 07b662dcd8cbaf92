"""RetailRocket as published: events.csv and, where they are there, item_properties_part1.csv and _part2.csv.

    events           timestamp (ms), visitorid, event (view, addtocart, transaction), itemid, transactionid
    item_properties  timestamp (ms), itemid, property, value

Every event is a step. The log knows no channel and no cost. Gains `addtocart` and `transaction` say which event the
step was. An item's `categoryid` and `available` are joined as they stood at the time of the event: the latest value
not later than it. The other properties are hashed words and numbers and are not read.
"""

from dataclasses import replace
from pathlib import Path

import polars as pl

from headrace.errors import UserError
from headrace.journeys.readers.files import ROW, Files, Source, find, scan, scan_log
from headrace.journeys.schema import Feature, Gain, LogSchema

_PROPERTIES = ("categoryid", "available")

SCHEMA = LogSchema(
    name="retailrocket",
    user="visitorid",
    time="timestamp",
    time_unit="ms",
    features=(
        Feature("itemid", "categorical", "after"),
        *(Feature(name, "categorical", "after") for name in _PROPERTIES),
    ),
    gains=(Gain("addtocart"), Gain("transaction")),
)


def read(source: Path, files: Files) -> Source:
    """An events file, with the item properties beside it, or the folder that holds them."""
    folder = source if source.is_dir() else source.parent
    logs = find(folder, ["events", "events_*"], "RetailRocket events")[:1] if source.is_dir() else [source]
    log = scan_log(logs, files)
    raw = tuple(log.collect_schema().names()[1:])
    for column in ("event", "itemid", "timestamp"):
        if column not in raw:
            raise UserError(
                f"{logs[0]}: no column {column!r}; expected timestamp, visitorid, event, itemid, transactionid"
            )
    log = log.with_columns((pl.col("event") == name).alias(name) for name in ("addtocart", "transaction"))
    try:
        parts = find(folder, ["item_properties_part*"], "item properties")
    except UserError:
        features = tuple(f for f in SCHEMA.features if f.name not in _PROPERTIES)
        return Source(log, raw, tuple(logs), replace(SCHEMA, features=features), ("item_properties_part1, _part2",))
    properties = pl.concat([scan(part, files) for part in parts], how="vertical_relaxed")
    for name in _PROPERTIES:
        values = (
            properties.filter(pl.col("property").cast(pl.String) == name)
            .select("timestamp", "itemid", pl.col("value").cast(pl.String).alias(name))
            .sort("timestamp", maintain_order=True)
        )
        log = log.sort("timestamp", maintain_order=True).join_asof(
            values, on="timestamp", by="itemid", check_sortedness=False
        )
    return Source(log.sort(ROW), raw, tuple(logs), SCHEMA)
