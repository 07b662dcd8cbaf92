"""The two processed samples that the MTORL authors published beside their code: one parquet (or csv) file each.

KuaiRand: the random-exposure slice of KuaiRand-Pure with the length of the video (short, mid, long) as the channel.
Exposure was random by design, so no propensity is logged: it is the share of the class. Only the hour and the clock are
known before the channel. The user's one-hot features are ids stored as min-max scaled numbers, hence categorical.

Criteo: no clock, row order is time order within a user. `conversion`, `attribution` and `click_nb` are stamped back
onto earlier impressions, hence `never`. `campaign` and `cat1`-`cat9` are ids stored as min-max scaled numbers, hence
categorical, and come with the impression, hence `after`. `cat8` is one-to-one with the Type_* group that is the channel
and is left out.
"""

from pathlib import Path

from headrace.journeys.readers.files import Files, Source, only, scan_log
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema

_DEGREES = (
    "2_14_day_new",
    "30day_retention",
    "UNKNOWN",
    "day_new",
    "full_active",
    "high_active",
    "low_active",
    "middle_active",
    "single_low_active",
)
_ONEHOT = tuple(f"onehot_feat{i}" for i in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10))
_TYPES = (
    3225256, 5824233, 9068204, 9312274, 14911188, 20754144, 23998111, 26597096, 29196072, 29841067, 32440044,
)  # fmt: skip

KUAIRAND = LogSchema(
    name="kuairand-random-sample",
    user="user_id",
    time="time_ms",
    time_unit="scaled",
    channel=("short", "mid", "long"),
    features=(
        Feature("hourmin", "numeric", "before"),
        *(Feature(name, "numeric", "before", "user") for name in _DEGREES),
        *(Feature(name, "categorical", "before", "user") for name in _ONEHOT),
    ),
    gains=(Gain("is_click"), Gain("long_view"), Gain("play_time_ms", "continuous")),
)

CRITEO = LogSchema(
    name="criteo-attribution-sample",
    user="uid",
    channel=tuple(f"Type_{number}" for number in _TYPES),
    features=(
        *(
            Feature(name, "categorical", "after")
            for name in ("campaign", *(f"cat{i}" for i in (1, 2, 3, 4, 5, 6, 7, 9)))
        ),
        Feature("cpo", "numeric", "after"),
    ),
    gains=(
        Gain("click"),
        Gain("conversion", known="never"),
        Gain("attribution", known="never"),
        Gain("click_nb", "continuous", "never"),
    ),
    cost=Cost("cost", "scaled", context=True),
)


def read_kuairand(source: Path, files: Files) -> Source:
    """The random-exposure sample; a file, or the folder that holds it."""
    return _single(source, files, KUAIRAND)


def read_criteo(source: Path, files: Files) -> Source:
    """The attribution sample; a file, or the folder that holds it."""
    return _single(source, files, CRITEO)


def _single(source: Path, files: Files, schema: LogSchema) -> Source:
    paths = only(source)
    frame = scan_log(paths, files)
    return Source(frame, tuple(frame.collect_schema().names()[1:]), tuple(paths), schema)
