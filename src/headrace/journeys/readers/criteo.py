"""The Criteo attribution data set as published: criteo_attribution_dataset.tsv.gz, 16,468,027 impressions of 30 days.

    timestamp uid campaign conversion conversion_timestamp conversion_id attribution click click_pos click_nb cost cpo
    time_since_last_click cat1 ... cat9

-1 stands for "none" in conversion_timestamp, conversion_id, click_pos, click_nb and time_since_last_click, and is
read as null. A conversion is known at conversion_timestamp; that there was none is known when the 30 days have passed
in which the data set looks for one. `attribution`, `click_pos` and `click_nb` are computed over the whole way to the
conversion, backwards, and are never an input.

Channel: `cat8`. The categories have no published meaning. The sample that the MTORL authors made of this data set has
eleven channels, Type_3225256 to Type_32440044, and they are one-to-one with its cat8; so the two agree. Campaign and
the other categories come with the impression, as the channel does, hence `after`.
"""

from pathlib import Path

import polars as pl

from headrace.journeys.readers.files import Files, Source, find, scan_log
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema

_NONE_IS_MINUS_ONE = ("conversion_timestamp", "conversion_id", "click_pos", "click_nb", "time_since_last_click")
_DAY_S = 86_400.0

SCHEMA = LogSchema(
    name="criteo-attribution",
    user="uid",
    time="timestamp",
    time_unit="s",
    channel="cat8",
    features=(
        *(
            Feature(name, "categorical", "after")
            for name in ("campaign", *(f"cat{i}" for i in (1, 2, 3, 4, 5, 6, 7, 9)))
        ),
        Feature("cpo", "numeric", "after"),
        Feature("time_since_last_click", "numeric", "after"),
    ),
    gains=(
        Gain("click"),
        Gain("conversion", "binary", "at:conversion_timestamp"),
        Gain("attribution", known="never"),
        Gain("click_pos", "continuous", "never"),
        Gain("click_nb", "continuous", "never"),
    ),
    cost=Cost("cost", "scaled", context=True),
    label_window_s=30 * _DAY_S,
)


def read(source: Path, files: Files) -> Source:
    """The published tsv.gz (or csv, parquet), or the folder that holds it."""
    logs = find(source, ["criteo_attribution_dataset"], "Criteo log")[:1] if source.is_dir() else [source]
    log = scan_log(logs, files)
    types = log.collect_schema()
    raw = tuple(types.names()[1:])
    blank = [
        pl.when(pl.col(name) != -1).then(pl.col(name)).alias(name)
        for name in _NONE_IS_MINUS_ONE
        if name in raw and types[name].is_numeric()
    ]
    return Source(log.with_columns(blank), raw, tuple(logs), SCHEMA)
