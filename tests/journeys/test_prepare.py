"""Preparation: what is stored, in which order, what is refused and how it is told."""

import gzip
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tomli_w

from headrace.cli import run as headrace
from headrace.errors import UserError
from headrace.journeys import prepare as preparation
from headrace.journeys.inspect import inspect
from headrace.journeys.prepare import prepare
from headrace.journeys.schema import Candidates, Cost, Feature, Gain, LogSchema
from headrace.journeys.store import Journeys

SCHEMA = LogSchema(
    name="shop",
    user="who",
    time="at",
    time_unit="s",
    channel="via",
    features=(
        Feature("device", "categorical", "before"),
        Feature("price", "numeric", "after"),
        Feature("city", "categorical", "before", "user"),
        Feature("age", "numeric", "before", "user"),
    ),
    gains=(Gain("click"), Gain("spent", "continuous"), Gain("mood", "classes")),
    cost=Cost("cost", "EUR"),
    propensity="p",
)


def shop(**changes: list) -> pl.DataFrame:
    log = {
        "who": [7, 3, 7, 3, 7],
        "at": [30, 10, 10, 20, 20],
        "via": ["mail", "search", "social", "mail", "mail"],
        "device": ["phone", None, "desk", "phone", "desk"],
        "price": [1.5, 2.5, None, 4.5, 5.5],
        "city": ["Bonn", "Ulm", "Bonn", "Ulm", "Bonn"],
        "age": [40, 30, 40, 30, 40],
        "click": [1, 0, 0, 1, 1],
        "spent": [0.5, None, 2.0, 3.0, 4.0],
        "mood": ["good", "bad", None, "good", "good"],
        "cost": [0.1, 0.0, 0.2, 0.3, 0.4],
        "p": [0.5, 1.0, 0.25, 0.5, 0.5],
    }
    return pl.DataFrame(log | changes, strict=False)


def stored(journeys: Journeys) -> dict[str, list]:
    return {name: np.asarray(journeys.column(name)).tolist() for name in journeys.column_names}


def test_columns_are_sorted_by_user_and_time_and_stored_typed(tmp_path: Path) -> None:
    shop().write_parquet(tmp_path / "log.parquet")
    journeys = prepare(tmp_path / "log.parquet", SCHEMA, tmp_path / "out")
    assert journeys.users.tolist() == [3, 7]
    assert journeys.offsets.tolist() == [0, 2, 5]
    assert journeys.channels == ("mail", "search", "social")
    assert journeys.categories["feature/device"] == ["desk", "phone"]
    values = stored(journeys)
    assert values["time"] == [10.0, 20.0, 10.0, 20.0, 30.0]
    assert values["channel"] == [1, 0, 2, 0, 0]
    assert values["feature/device"] == [-1, 1, 0, 0, 1]
    assert values["gain/click"] == [0, 1, 0, 1, 1]
    assert values["gain/mood"] == [0, 1, -1, 1, 1]
    assert values["user/age"] == [30, 40]
    assert values["user/city"] == [1, 0]
    np.testing.assert_array_equal(values["feature/price"], [2.5, 4.5, np.nan, 5.5, 1.5])
    np.testing.assert_array_equal(values["gain/spent"], [np.nan, 3.0, 2.0, 4.0, 0.5])
    types = {name: journeys.column(name).dtype.name for name in journeys.column_names}
    assert types["time"] == types["cost"] == types["propensity"] == "float64"
    assert (types["channel"], types["gain/click"], types["gain/mood"]) == ("int16", "int8", "int32")
    assert journeys.manifest["notes"] | {"source": None} == {
        "source": None, "rows_read": 5, "duplicates_dropped": 0, "rows_unsorted": 1, "users": 2, "ties": 0,
        "costs_missing": 0,
    }  # fmt: skip


def test_rows_without_a_cost_are_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop(cost=[0.1, None, 0.2, None, 0.4]).write_csv(tmp_path / "log.csv")
    (tmp_path / "log.toml").write_text(tomli_w.dumps(SCHEMA.to_dict()))
    words = [tmp_path / "log.csv", "--schema", tmp_path / "log.toml", "--out", tmp_path / "out"]
    assert headrace(["data", "prepare", *map(str, words)]) == 0
    assert "costs missing: 2" in capsys.readouterr().out
    assert np.isnan(np.asarray(Journeys(tmp_path / "out").column("cost"))).sum() == 2
    draft, preview = inspect(tmp_path / "log.csv")
    assert draft.cost is not None
    why = next(column.why for column in preview.columns if column.column == "cost")
    assert "2 rows have none, which counts as unknown and not as 0" in why


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "csv.zst", "zip"])
def test_every_file_type_gives_the_same_journeys(tmp_path: Path, ending: str) -> None:
    log, path = shop(), tmp_path / f"log.{ending}"
    log.write_parquet(tmp_path / "log.parquet")
    text = log.write_csv(separator="\t" if ending == "tsv" else ",").encode()
    if ending == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("log.csv", text)
    elif ending == "csv.zst":
        pl.read_csv(text).lazy().sink_csv(path, compression="zstd")
    else:
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    one = prepare(tmp_path / "log.parquet", SCHEMA, tmp_path / "one")
    two = prepare(path, SCHEMA, tmp_path / "two")
    assert one.fingerprint == two.fingerprint


def test_equal_input_gives_equal_bytes_whatever_the_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n = 5_000
    users = [f"u{i}" for i in rng.integers(0, 300, n)]
    log = pl.DataFrame(
        {
            "who": users,
            "at": rng.integers(0, 50, n),
            "via": rng.choice(["a", "b", "c"], n),
            "word": rng.choice(["x", "y", None], n),
            "click": rng.integers(0, 2, n),
        }
    )
    log.write_parquet(tmp_path / "log.parquet", row_group_size=500)
    log.write_csv(tmp_path / "log.csv")
    schema = LogSchema(
        "many", user="who", time="at", channel="via", features=(Feature("word", "categorical"),), gains=(Gain("click"),)
    )
    whole = prepare(tmp_path / "log.parquet", schema, tmp_path / "whole")
    monkeypatch.setattr(preparation, "BUCKET_CELLS", 4_000)
    monkeypatch.setattr(preparation, "_SMALL_BYTES", 0)
    for name in ("log.parquet", "log.csv"):
        dealt = prepare(tmp_path / name, schema, tmp_path / "dealt")
        assert dealt.fingerprint == whole.fingerprint
        for file in sorted((whole.path / "data").iterdir()):
            assert file.read_bytes() == (dealt.path / "data" / file.name).read_bytes()
        assert dealt.manifest | {"notes": 0} == whole.manifest | {"notes": 0}
        assert dealt.manifest["notes"] | {"source": 0} == whole.manifest["notes"] | {"source": 0}
    assert whole.manifest["notes"]["duplicates_dropped"] == n - log.unique().height > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dealt", "log.csv", "log.parquet", "whole"]
    expected = log.unique(keep="first", maintain_order=True).sort("who", "at", maintain_order=True)
    assert whole.users[whole.user_of_step].tolist() == expected["who"].to_list()
    assert [whole.channels[c] for c in whole.channel] == expected["via"].to_list()


def test_exact_duplicates_are_dropped_and_counted_unless_kept(tmp_path: Path) -> None:
    log = pl.concat([shop(), shop()[[0, 0, 3]]])
    log.write_csv(tmp_path / "log.csv")
    journeys = prepare(tmp_path / "log.csv", SCHEMA, tmp_path / "out")
    assert (len(journeys), journeys.manifest["notes"]["duplicates_dropped"]) == (5, 3)
    kept = prepare(tmp_path / "log.csv", SCHEMA, tmp_path / "kept", keep_duplicates=True)
    assert (len(kept), kept.manifest["notes"]["duplicates_dropped"], kept.manifest["notes"]["ties"]) == (8, 0, 5)


def test_rows_that_differ_in_a_column_the_schema_does_not_name_are_no_duplicates(tmp_path: Path) -> None:
    pl.concat([shop(), shop()]).with_row_index("serial").write_csv(tmp_path / "log.csv")
    assert len(prepare(tmp_path / "log.csv", SCHEMA, tmp_path / "out")) == 10


def test_without_a_clock_rows_keep_their_order_and_none_is_dropped(tmp_path: Path) -> None:
    pl.DataFrame({"who": [2, 1, 2, 2], "via": ["b", "a", "a", "a"]}).write_csv(tmp_path / "log.csv")
    journeys = prepare(tmp_path / "log.csv", LogSchema("x", user="who", channel="via"), tmp_path / "out")
    assert (journeys.users.tolist(), journeys.channel.tolist(), journeys.time) == ([1, 2], [0, 1, 0, 0], None)


def test_without_users_each_row_is_a_journey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = shop().drop("who", "age", "city")
    pl.concat([log, log[[1]]]).write_parquet(tmp_path / "log.parquet")
    schema = replace(SCHEMA, user=None, features=SCHEMA.features[:2])
    journeys = prepare(tmp_path / "log.parquet", schema, tmp_path / "out")
    assert journeys.users.tolist() == [0, 1, 2, 3, 4]
    assert journeys.time is not None and journeys.time.tolist() == [30, 10, 10, 20, 20]
    assert journeys.manifest["notes"]["duplicates_dropped"] == 1
    monkeypatch.setattr(preparation, "BUCKET_CELLS", 10)
    assert prepare(tmp_path / "log.parquet", schema, tmp_path / "dealt").fingerprint == journeys.fingerprint


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_user_ids_beyond_64_bits_are_taken_as_text(tmp_path: Path, ending: str) -> None:
    ids = pl.Series([2**64 - 1, 5, 2**63, 5, 2**64 - 1], dtype=pl.UInt64)
    log, path = shop().with_columns(ids.alias("who")), tmp_path / f"log.{ending}"
    log.write_parquet(path) if ending == "parquet" else log.write_csv(path)
    journeys = prepare(path, replace(SCHEMA, features=SCHEMA.features[:2]), tmp_path / "out")
    assert journeys.users.tolist() == ["18446744073709551615", "5", "9223372036854775808"]
    assert journeys.offsets.tolist() == [0, 2, 4, 5]


def test_a_one_hot_group_becomes_one_code(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {"who": [1, 1, 2], "Type_10": [0, 1, 0], "Type_7": [1.0, 0.0, 0.0], "Type_19": [False, False, True]}
    )
    log.write_parquet(tmp_path / "log.parquet")
    schema = LogSchema("hot", user="who", channel=("Type_10", "Type_7", "Type_19"))
    journeys = prepare(tmp_path / "log.parquet", schema, tmp_path / "out")
    assert (journeys.channels, journeys.channel.tolist()) == (("10", "7", "19"), [1, 0, 2])
    again = prepare(tmp_path / "log.parquet", journeys.schema, tmp_path / "again")
    assert again.fingerprint == journeys.fingerprint


def test_number_channels_are_sorted_as_numbers_and_a_declared_order_is_kept(tmp_path: Path) -> None:
    pl.DataFrame({"who": [1, 2, 3], "via": [10, 9, 100]}).write_csv(tmp_path / "log.csv")
    schema = LogSchema("x", user="who", channel="via")
    assert prepare(tmp_path / "log.csv", schema, tmp_path / "a").channels == ("9", "10", "100")
    declared = prepare(tmp_path / "log.csv", replace(schema, channels=("100", "7", "10", "9")), tmp_path / "b")
    assert (declared.channels, declared.channel.tolist()) == (("100", "7", "10", "9"), [2, 3, 0])


def test_a_delayed_gain_carries_the_time_it_became_known(tmp_path: Path) -> None:
    log = {"who": [1, 1, 1, 1], "at": [10, 20, 30, 40], "buy": [1, 0, 1, 1], "buy_at": [50, None, None, 35]}
    pl.DataFrame(log).write_csv(tmp_path / "log.csv")
    schema = LogSchema("x", user="who", time="at", time_unit="s", gains=(Gain("buy", "binary", "at:buy_at"),))
    with pytest.raises(UserError, match="label_window_s is missing"):  # a blank would tell who buys later
        prepare(tmp_path / "log.csv", schema, tmp_path / "a")
    windowed = prepare(tmp_path / "log.csv", replace(schema, label_window_s=100.0), tmp_path / "b")
    np.testing.assert_array_equal(windowed.column("known_at/buy"), [50.0, 120.0, np.nan, 40.0])


def test_dates_become_milliseconds_since_1970(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {"who": [1, 1, 1], "at": ["1970-01-01 00:00:01.5+00:00", "1970-01-01T01:00:02+01:00", "1970-01-02"]}
    )
    log.write_csv(tmp_path / "log.csv")
    schema = LogSchema("x", user="who", time="at", time_unit="datetime")
    time = prepare(tmp_path / "log.csv", schema, tmp_path / "out").time
    assert time is not None and time.tolist() == [1500.0, 2000.0, 86_400_000.0]


def test_a_step_may_hold_candidates(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {
            "who": [2, 1, 2],
            "at": [2, 1, 1],
            "items": [["b", "a"], [], ["c"]],
            "ctr": [[0.1, 0.2], [], [0.3]],
            "place": [[1, 2], [], [1]],
            "seen": [[1, 0], [], [1]],
        }
    )
    log.write_parquet(tmp_path / "log.parquet")
    lists = Candidates("items", ("ctr",), "place", ("seen",))
    schema = LogSchema("lists", user="who", time="at", candidates=lists)
    journeys = prepare(tmp_path / "log.parquet", schema, tmp_path / "out")
    assert journeys.column("item_offsets").tolist() == [0, 0, 1, 3]
    assert [journeys.categories["item/id"][i] for i in journeys.column("item/id")] == ["c", "b", "a"]
    assert journeys.column("item/score/ctr").tolist() == [0.3, 0.1, 0.2]
    assert journeys.column("item/position").tolist() == [1, 1, 2]
    assert journeys.column("item/outcome/seen").tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"who": [7, None, 7, 3, 7]}, ["'who'", "nulls in 1 of 5 rows", "row 2", "user"]),
        ({"at": [30, 10, None, None, 20]}, ["'at'", "nulls in 2 of 5 rows", "row 3", "row 4"]),
        (
            {"at": [30.0, 10.0, float("nan"), 20.0, float("inf")]},
            ["'at'", "NaN or infinite in 2 of 5", "row 3", "row 5"],
        ),
        ({"who": [7.0, 3.0, 1e19, 3.0, 7.0]}, ["'who'", "beyond 64 bits in 1 of 5 rows", "row 3: 1e+19", "as text"]),
        ({"via": ["mail", "search", None, "mail", "mail"]}, ["'via'", "nulls in 1 of 5", "row 3"]),
        (
            {"cost": [0.1, -0.5, 0.2, 0.3, -1.0]},
            ["'cost'", "negative or infinite values in 2 of 5", "row 2: -0.5", "row 5: -1.0"],
        ),
        ({"p": [0.5, 0.0, 0.25, 1.5, 0.5]}, ["'p'", "values outside (0, 1] in 2 of 5", "row 2: 0.0", "row 4: 1.5"]),
        ({"click": [1, 0, 2, 1, 1]}, ["'click'", "values other than 0 and 1 in 1 of 5", "row 3: 2"]),
        (
            {"price": ["1", "2", "n/a", "4", "?"]},
            ["'price'", "values that are text in 2 of 5", "row 3: n/a", "row 5: ?", "numbers"],
        ),
        (
            {"city": ["Bonn", "Ulm", "Bonn", "Ulm", "Jena"]},
            ["'city'", "varies within 1 users (first 7)", "level = 'step'"],
        ),
    ],
)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_bad_rows_are_named_with_column_count_and_first_rows(
    tmp_path: Path, changes: dict[str, list], words: list[str], ending: str
) -> None:
    path = tmp_path / f"log.{ending}"
    log = shop(**changes)
    log.write_parquet(path) if ending == "parquet" else log.write_csv(path)
    with pytest.raises(UserError) as error:
        prepare(path, SCHEMA, tmp_path / "out")
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message
    assert list(tmp_path.iterdir()) == [path]


def test_text_far_behind_numbers_in_a_csv_is_still_told_by_its_row(tmp_path: Path) -> None:
    lines = [f"1,{i},0.5" for i in range(20_000)] + ["1,20000,oops"]
    (tmp_path / "log.csv").write_text("who,at,price\n" + "\n".join(lines))
    schema = LogSchema("x", user="who", time="at", features=(Feature("price"),))
    with pytest.raises(UserError, match=r"'price': values that are text in 1 of 20,001 rows \(first row 20001: oops\)"):
        prepare(tmp_path / "log.csv", schema, tmp_path / "out")


def test_a_channel_outside_the_declared_set_is_refused(tmp_path: Path) -> None:
    shop().write_csv(tmp_path / "log.csv")
    schema = replace(SCHEMA, channels=("mail", "social"))
    with pytest.raises(
        UserError, match=r"'via': values outside the declared channels in 1 of 5 rows \(first row 2: search\)"
    ):
        prepare(tmp_path / "log.csv", schema, tmp_path / "out")


def test_one_hot_rows_must_hold_exactly_one(tmp_path: Path) -> None:
    pl.DataFrame({"who": [1, 1, 2], "a": [0, 1, 0], "b": [1, 1, 0]}).write_csv(tmp_path / "log.csv")
    with pytest.raises(
        UserError, match=r"a one-hot channel without exactly one 1 in 2 of 3 rows .*row 2: 2.0, row 3: 0.0"
    ):
        prepare(tmp_path / "log.csv", LogSchema("x", user="who", channel=("a", "b")), tmp_path / "out")


def test_a_missing_column_proposes_the_nearest(tmp_path: Path) -> None:
    shop().rename({"click": "clicks"}).write_csv(tmp_path / "log.csv")
    with pytest.raises(UserError, match=r"log.csv.*'click', did you mean 'clicks'"):
        prepare(tmp_path / "log.csv", SCHEMA, tmp_path / "out")


def test_broken_and_unknown_files_are_told_by_name(tmp_path: Path) -> None:
    packed = gzip.compress(shop().write_csv().encode() * 500)
    files = {
        "cut.csv.gz": (packed[: len(packed) // 2], "cut short or damaged"),
        "cut.parquet": (b"PAR1 nothing", "not a whole parquet"),
        "cut.zip": (b"PK\x03\x04 nothing", "cut short or damaged"),
        "empty.csv": (b"", "empty"),
        "header.csv": (shop().head(0).write_csv().encode(), "no rows"),
        "log.xlsx": (b"PK", "unknown file type '.xlsx'"),
    }
    for name, (content, words) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as error:
            prepare(tmp_path / name, SCHEMA, tmp_path / "out")
        assert name in str(error.value) and words in str(error.value), name
    with pytest.raises(UserError, match="no such file"):
        prepare(tmp_path / "gone.csv", SCHEMA, tmp_path / "out")
    with pytest.raises(UserError, match=r"'kuairand-pur', did you mean 'kuairand-pure'"):
        prepare(tmp_path / "header.csv", "kuairand-pur", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_preparation_leaves_the_earlier_journeys(tmp_path: Path) -> None:
    shop().write_csv(tmp_path / "good.csv")
    shop(cost=[-1.0] * 5).write_csv(tmp_path / "bad.csv")
    good = prepare(tmp_path / "good.csv", SCHEMA, tmp_path / "out")
    with pytest.raises(UserError):
        prepare(tmp_path / "bad.csv", SCHEMA, tmp_path / "out")
    assert Journeys(tmp_path / "out").fingerprint == good.fingerprint


def test_an_interrupted_preparation_leaves_nothing(tmp_path: Path) -> None:
    shop().write_csv(tmp_path / "log.csv")

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "log.csv", SCHEMA, tmp_path / "out", progress=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_a_schema_file_is_read_by_its_path(tmp_path: Path) -> None:
    shop().write_csv(tmp_path / "log.csv")
    SCHEMA.save(tmp_path / "shop.toml")
    journeys = prepare(tmp_path / "log.csv", str(tmp_path / "shop.toml"), tmp_path / "out")
    assert json.loads((journeys.path / "journeys.json").read_text())["schema"]["channels"] == [
        "mail",
        "search",
        "social",
    ]


def test_session_numbers_beyond_64_bits_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("who,visit,click\n1,7,0\n1,99999999999999999999,1\n", encoding="utf-8")
    schema = LogSchema("s", user="who", session="visit", gains=(Gain("click"),))
    with pytest.raises(UserError, match=r"'visit': numbers beyond 64 bits in 1 of 2 rows \(first row 2: 9+\)"):
        prepare(path, schema, tmp_path / "out")
