"""A schema survives its file unchanged, and refuses in one line what would go wrong later."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import UserError
from headrace.journeys.schema import Candidates, Cost, Feature, Gain, LogSchema

names = st.text("abcdefgh_ é'\"\\\n0", min_size=1, max_size=6)


@st.composite
def schemas(draw: st.DrawFn) -> LogSchema:
    columns = draw(st.lists(names, unique=True, min_size=4, max_size=14))
    user, time, *rest = columns
    features, gains, channel = rest[:4], rest[4:8], tuple(rest[8:])
    return LogSchema(
        draw(names),
        user=draw(st.sampled_from([None, user])),
        time=time,
        time_unit=draw(st.sampled_from(["s", "ms", "datetime", "scaled"])),
        session=draw(st.sampled_from([None, "visit"])),
        channel=draw(st.sampled_from([None, "kind", channel or None])),
        channels=draw(st.sampled_from([(), ("a", "b")])),
        features=tuple(
            Feature(
                f,
                draw(st.sampled_from(["categorical", "numeric"])),
                *draw(st.sampled_from([("before", "step"), ("after", "step"), ("before", "user")])),
            )
            for f in features
        ),
        gains=tuple(
            Gain(
                g,
                draw(st.sampled_from(["binary", "continuous", "classes"])),
                draw(st.sampled_from(["after", "at:when", "never"])),
            )
            for g in gains
        ),
        cost=draw(st.sampled_from([None, Cost("w", "EUR"), Cost("w", context=True)])),
        propensity=draw(st.sampled_from([None, "p"])),
        label_window_s=draw(st.sampled_from([None, 3600.0])),
        candidates=draw(
            st.sampled_from(
                [
                    None,
                    Candidates("list"),
                    Candidates("list", ("s1", "s2"), "place", ("clicked",), (0.1, 0.01), ("s2",)),
                ]
            )
        ),
    )


@settings(deadline=None)
@given(schema=schemas())
def test_a_schema_survives_its_file(tmp_path_factory, schema):
    path = tmp_path_factory.mktemp("schema") / "log.toml"
    schema.save(path)
    assert LogSchema.load(path) == schema


@settings(deadline=None)
@given(schema=schemas())
def test_every_column_is_named_once(schema):
    assert len(set(schema.columns)) == len(schema.columns)
    assert {f.name for f in schema.features} | {g.name for g in schema.gains} <= set(schema.columns)


def test_columns_of_a_small_schema():
    schema = LogSchema(
        "s", user="u", time="t", channel=("x", "y"), gains=(Gain("buy", known="at:when"),), cost=Cost("w")
    )
    assert schema.columns == ("u", "t", "x", "y", "buy", "when", "w")


GOOD = """
name = "shop"
user = "visitor"
time = "t"
channel = "kind"

[[features]]
name = "hour"
kind = "categorical"

[[gains]]
name = "click"

[cost]
name = "price"
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('user = "visitor"', 'usr = "visitor"', "unknown key 'usr', did you mean 'user'?"),
        ('kind = "categorical"', 'kidn = "categorical"', "unknown key 'kidn', did you mean 'kind'?"),
        ('kind = "categorical"', 'kind = "categoric"', "'categoric', did you mean 'categorical'?"),
        ('name = "click"', 'name = "click"\nkind = "binry"', "'binry', did you mean 'binary'?"),
        ('name = "click"', 'name = "click"\nknown = "nevr"', "'nevr', did you mean 'never'?"),
        ('name = "click"', 'name = "click"\nknown = "at:"', "'at:', did you mean 'at:COLUMN'?"),
        ('kind = "categorical"', 'known = "at:t"', "known of hour in features 'at:t'"),
        ('kind = "categorical"', 'level = "usr"', "'usr', did you mean 'user'?"),
        ('kind = "categorical"', 'level = "user"\nknown = "after"', "every step sees it"),
        ('time = "t"', 'time = "t"\ntime_unit = "min"', "time_unit of t in time 'min'"),
        ('time = "t"', 'time = "t"\nlabel_window_s = 0', "label_window_s is 0, expected more than 0"),
        ('time = "t"', 'time = "t"\nlabel_window_s = "1h"', "expected a number of seconds"),
        ('time = "t"', 'time = "t"\nchannels = ["a", "a"]', "channel a declared twice"),
        ('time = "t"', 'time = "t"\nchannels = [1, 2]', "channels is [1, 2], expected text in quotes"),
        ('name = "click"', 'name = "hour"', "hour declared twice"),
        ('name = "click"', 'name = "cost"', "'cost' among features and gains"),
        ('name = "hour"', 'name = "channel"', "'channel' among features and gains"),
        ('name = "hour"', 'name = "gap"', "'gap' among features and gains"),
        ('name = "hour"\n', "", "no name; add"),
        ('name = "shop"', "", "no name; add"),
        ("[[features]]", "[features]", "features is no list; head each entry with  [[features]]"),
        ('[cost]\nname = "price"', "", None),
        ('name = "price"', 'unit = "EUR"', "[cost]: no name"),
        ('name = "price"', 'name = "price"\ncontext = "yes"', "expected true or false"),
        ('name = "shop"', 'name = "shop', "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_told_in_one_line(tmp_path, old, new, message):
    path = tmp_path / "log.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    if message is None:
        assert LogSchema.load(path).cost is None
        return
    with pytest.raises(UserError) as caught:
        LogSchema.load(path)
    told = str(caught.value)
    assert message in told
    assert "\n" not in told
    assert str(path) in told or "schema shop" in told


def test_a_delayed_gain_needs_a_clock():
    with pytest.raises(UserError, match="no time column"):
        LogSchema("s", gains=(Gain("buy", known="at:when"),))


def test_a_time_column_may_also_be_a_feature():
    assert LogSchema("s", time="time", features=(Feature("time"),)).feature("time").known == "before"
    with pytest.raises(UserError, match="'time' among features"):
        LogSchema("s", time="t", features=(Feature("time"),))


def test_a_missing_file_says_how_to_draft_one(tmp_path):
    with pytest.raises(UserError, match="headrace data inspect"):
        LogSchema.load(tmp_path / "none.toml")
    with pytest.raises(UserError, match="headrace data inspect"):
        LogSchema.load(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        LogSchema.load(tmp_path / "bytes.toml")


def test_an_unknown_name_proposes_the_nearest():
    schema = LogSchema("s", features=(Feature("hour"),), gains=(Gain("click"),))
    with pytest.raises(UserError, match="did you mean 'hour'"):
        schema.feature("huor")
    with pytest.raises(UserError, match="did you mean 'click'"):
        schema.gain("clik")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"offsets": [0.1]}, "offsets = [0.1] for 2 scores"),
        ({"offsets": [0.1, 0.0]}, "name one above 0"),
        ({"offsets": 0.1}, "offsets is 0.1, expected a list"),
        ({"negative": "s1"}, "negative is 's1', expected a list"),
        ({"negative": ["s3"]}, "unknown score in negative 's3'"),
    ],
)
def test_offsets_and_negative_scores_belong_to_the_scores(more: dict[str, object], told: str):
    lists = {"item": "list", "scores": ["s1", "s2"]}
    with pytest.raises(UserError, match=re.escape(told)):
        LogSchema.from_dict({"name": "s", "user": "u", "candidates": lists | more})
