"""KuaiRand-Pure and KuaiRand-1K as published: standard and random logs, user features, basic video features.

    log_standard_4_08_to_4_21_pure.csv   log_standard_4_22_to_5_08_pure.csv   log_random_4_22_to_5_08_pure.csv
    user_features_pure.csv               video_features_basic_pure.csv        (`_1k` for KuaiRand-1K)

Also as parquet, packed, or with other dates in the name. A folder is read with all its logs; a single log file with the
feature files beside it. `video_features_statistic` is not read: it holds averages over the whole month, and so the
future of every row. `visible_status` is not read either: it is the state of the video when the data were collected.

Channel: the length of the video, from the log's duration_ms: short under 40 s, mid from 40 to under 120 s, long from
120 s. The bounds are fixed; they cut the standard log of 25 April to 8 May into .35, .32 and .33. Pictures have
duration 0 and count as short. The video brings the channel about, so all that describes the video is known `after`.
Of a video's tags the first is kept.
"""

from pathlib import Path

import polars as pl

from headrace.journeys.readers.files import Files, Source, find, scan, scan_log
from headrace.journeys.schema import Feature, Gain, LogSchema

SHORT_BELOW_MS = 40_000
LONG_FROM_MS = 120_000
_CATEGORICAL_USER = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
)
_NUMERIC_USER = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_CATEGORICAL_VIDEO = ("author_id", "video_type", "upload_type", "music_id", "music_type", "tag")
_NUMERIC_VIDEO = ("server_width", "server_height")


def _schema(name: str) -> LogSchema:
    clicks = (
        "is_click",
        "is_like",
        "is_follow",
        "is_comment",
        "is_forward",
        "is_hate",
        "long_view",
        "is_profile_enter",
    )
    return LogSchema(
        name=name,
        user="user_id",
        time="time_ms",
        time_unit="ms",
        channel="channel",
        channels=("short", "mid", "long"),
        features=(
            Feature("hourmin", "categorical", "before"),
            Feature("tab", "categorical", "before"),
            Feature("is_rand", "categorical", "after"),
            Feature("video_id", "categorical", "after"),
            Feature("duration_ms", "numeric", "after"),
            *(Feature(column, "categorical", "after") for column in _CATEGORICAL_VIDEO),
            *(Feature(column, "numeric", "after") for column in _NUMERIC_VIDEO),
            *(Feature(column, "categorical", "before", "user") for column in _CATEGORICAL_USER),
            *(Feature(column, "numeric", "before", "user") for column in _NUMERIC_USER),
        ),
        gains=(
            *(Gain(column) for column in clicks),
            *(Gain(column, "continuous") for column in ("play_time_ms", "profile_stay_time", "comment_stay_time")),
        ),
    )


PURE = _schema("kuairand-pure")
ONE_K = _schema("kuairand-1k")


def read_pure(source: Path, files: Files) -> Source:
    """KuaiRand-Pure: a folder in the published layout, or one log file with the feature files beside it."""
    return _read(source, files, PURE, "pure")


def read_one_k(source: Path, files: Files) -> Source:
    """KuaiRand-1K: the same layout."""
    return _read(source, files, ONE_K, "1k")


def _read(source: Path, files: Files, schema: LogSchema, size: str) -> Source:
    folder = source if source.is_dir() else source.parent
    if source.is_dir():
        logs = find(folder, [f"log_standard_*_{size}", f"log_random_*_{size}"], "KuaiRand log")
    else:
        logs = [source]
    log = scan_log(logs, files)
    raw = tuple(log.collect_schema().names()[1:])
    users = _lookup(folder, f"user_features_{size}", "user_id", (*_CATEGORICAL_USER, *_NUMERIC_USER), files)
    videos = _lookup(folder, f"video_features_basic_{size}", "video_id", (*_CATEGORICAL_VIDEO, *_NUMERIC_VIDEO), files)
    first_tag = pl.col("tag").cast(pl.String).str.split(",").list.first().str.strip_chars()
    ids = [pl.col(name).cast(pl.Int64, strict=False) for name in ("user_id", "video_id") if name in raw]
    length = pl.col("duration_ms")
    channel = (
        pl.when(length < SHORT_BELOW_MS)
        .then(pl.lit("short"))
        .when(length < LONG_FROM_MS)
        .then(pl.lit("mid"))
        .when(length >= LONG_FROM_MS)
        .then(pl.lit("long"))
    )
    derived = [channel.alias("channel")] if "duration_ms" in raw else []
    joined = log.with_columns(*ids, *derived)
    if "user_id" in raw:
        joined = joined.join(users, on="user_id", how="left", maintain_order="left")
    if "video_id" in raw:
        joined = joined.join(videos.with_columns(first_tag), on="video_id", how="left", maintain_order="left")
    return Source(joined, raw, tuple(logs), schema)


def _lookup(folder: Path, stem: str, key: str, columns: tuple[str, ...], files: Files) -> pl.LazyFrame:
    """One row a key; of a key that stands twice, the first."""
    [path, *_] = find(folder, [stem], "feature file")
    table = scan(path, files)
    there = table.collect_schema().names()
    kept = [key, *(name for name in columns if name in there)]
    return table.select(kept).with_columns(pl.col(key).cast(pl.Int64)).unique(key, keep="first", maintain_order=True)
