"""Inspection: a drafted schema errs on the safe side, explains itself, and can be prepared as it stands."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headrace.errors import UserError
from headrace.journeys.fetch import DATA_SETS, fetch, sha256
from headrace.journeys.inspect import describe, inspect, save
from headrace.journeys.prepare import prepare
from headrace.journeys.readers import READERS
from headrace.journeys.schema import Gain, LogSchema


def unusual(rows: int = 4_000) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    shopper = rng.integers(0, 300, rows)
    seen = 1_650_000_000 + np.sort(rng.integers(0, 10**6, rows))
    bought = rng.random(rows) < 0.1
    return pl.DataFrame(
        {
            "Zeile": np.arange(rows),
            "shopperKey": [f"S-{i:04d}" for i in shopper],
            "momentSeen": seen,
            "reachedVia": rng.choice(["letter", "radio", "web"], rows),
            "deviceKind": rng.choice(["phone", "desk"], rows),
            "homeRegion": [f"R{i % 7}" for i in shopper],
            "yearsWithUs": (shopper * 7) % 31,
            "basketSize": rng.normal(size=rows),
            "wasClicked": rng.integers(0, 2, rows),
            "gotPurchased": bought.astype(int),
            "purchasedTime": [int(t) + 3_600 if b else None for t, b in zip(seen, bought, strict=True)],
            "attributedShare": rng.random(rows) < 0.5,
            "kosten": rng.random(rows),
            "orderId": [int(i) if b else None for i, b in zip(rng.integers(1, 99, rows), bought, strict=True)],
        }
    )


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_log_with_unusual_names_goes_from_inspection_to_journeys(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"my log.{ending}"
    log = unusual()
    log.write_parquet(path) if ending == "parquet" else log.write_csv(path)
    draft, preview = inspect(path)
    assert (draft.user, draft.time, draft.time_unit) == ("shopperKey", "momentSeen", "s")
    assert (draft.channel, draft.cost and draft.cost.name) == ("reachedVia", "kosten")
    assert {gain.name: gain.known for gain in draft.gains} == {
        "wasClicked": "after", "gotPurchased": "at:purchasedTime", "attributedShare": "never",
    }  # fmt: skip
    assert draft.label_window_s == 3_600
    features = {f.name: (f.kind, f.known, f.level) for f in draft.features}
    assert features == {
        "deviceKind": ("categorical", "before", "step"),
        "homeRegion": ("categorical", "before", "user"),
        "yearsWithUs": ("numeric", "before", "user"),
        "basketSize": ("numeric", "after", "step"),
    }
    save(draft, preview, tmp_path / "log.toml")
    assert LogSchema.load(tmp_path / "log.toml") == draft
    text = (tmp_path / "log.toml").read_text()
    assert "# left out: orderId: the number of an outcome" in text and "# left out: Zeile" in text
    journeys = prepare(path, str(tmp_path / "log.toml"), tmp_path / "out")
    assert (journeys.n_users, journeys.n_steps) == (300, 4_000)
    assert journeys.channels == ("letter", "radio", "web")


def test_every_column_is_in_the_table_with_a_reason(tmp_path: Path) -> None:
    unusual().write_csv(tmp_path / "log.csv")
    draft, preview = inspect(tmp_path / "log.csv")
    rows = describe(preview)
    assert [row[0] for row in rows] == unusual().columns
    assert all(len(row) == 7 and row[6] for row in rows)
    used = {row[0] for row in rows if row[5] != "left out"}
    assert used == set(draft.columns)


def test_a_one_hot_group_is_found_and_a_group_that_describes_users_is_not_taken(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    user, channel = rng.integers(0, 50, 1_000), rng.integers(0, 3, 1_000)
    log = {"member_id": user} | {f"new{i}": (user % 4 == i).astype(int) for i in range(4)}
    log |= {"is_click": rng.integers(0, 2, 1_000)} | {f"ch_{i}": (channel == i).astype(int) for i in range(3)}
    pl.DataFrame(log).write_parquet(tmp_path / "log.parquet")
    draft, _ = inspect(tmp_path / "log.parquet")
    assert draft.channel == ("ch_0", "ch_1", "ch_2")
    assert [f.level for f in draft.features] == ["user"] * 4


def test_dates_in_text_are_a_clock(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {"customer": [1, 1, 2], "day_of_visit": ["2024-01-01 10:00:00", "2024-01-02 09:00:00", "2024-01-03 11:30:00"]}
    )
    log.write_csv(tmp_path / "log.csv")
    draft, _ = inspect(tmp_path / "log.csv")
    assert (draft.time, draft.time_unit) == ("day_of_visit", "datetime")


def test_on_the_real_criteo_sample_what_looks_ahead_is_never_an_input(shared_data: Path) -> None:
    draft, preview = inspect(shared_data / "criteo_attribution" / "criteo_sequence.parquet")
    assert (draft.user, draft.time, draft.channel) == ("uid", None, READERS["criteo-attribution-sample"].schema.channel)
    known = {gain.name: gain.known for gain in draft.gains}
    assert known == {"click": "after", "conversion": "never", "attribution": "never", "click_nb": "never"}
    assert preview.known_as == "criteo-attribution-sample"


@pytest.mark.parametrize(
    ("place", "user", "time", "channel"),
    [
        ("kuairand_random/kuairand_sequence.parquet", "user_id", "time_ms", ("short", "mid", "long")),
        ("kuairand_pure/log_standard_4_25_to_5_08_pure.parquet", "user_id", "time_ms", None),
        ("retailrocket/events_sample.parquet", "visitorid", "timestamp", None),
        ("open_bandit_small/bts_men_men.parquet", None, "timestamp", "item_id"),
    ],
)
def test_the_real_logs_are_drafted_and_prepared(
    shared_data: Path, tmp_path: Path, place: str, user: str | None, time: str, channel: str | tuple[str, ...] | None
) -> None:
    draft, preview = inspect(shared_data / place)
    assert (draft.user, draft.time, draft.channel) == (user, time, channel)
    save(draft, preview, tmp_path / "draft.toml")
    assert prepare(shared_data / place, str(tmp_path / "draft.toml"), tmp_path / "out").n_steps > 0


def test_an_empty_log_is_told(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="no rows"):
        inspect(tmp_path / "log.csv")


def test_fetch_names_the_address_and_checks_what_is_there(tmp_path: Path) -> None:
    assert set(DATA_SETS) == set(READERS) - {"headrace"}
    assert "https://ailab.criteo.com" in fetch("criteo-attribution", tmp_path)
    assert "can't download" in fetch("criteo-attribution", tmp_path)
    file = tmp_path / "criteo_attribution_dataset.tsv.gz"
    file.write_bytes(b"rows")
    assert "nothing known to compare it with" in fetch("criteo-attribution", tmp_path)
    (tmp_path / "SHA256SUMS").write_text(f"{sha256(file)}  {file.name}\n")
    assert "as expected" in fetch("criteo-attribution", tmp_path)
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {file.name}\n")
    with pytest.raises(UserError, match="not whole"):
        fetch("criteo-attribution", tmp_path)
    with pytest.raises(UserError, match="did you mean 'open-bandit'"):
        fetch("open-bandits", tmp_path)


def test_a_clock_with_a_bad_value_is_told_and_not_dropped_in_silence(tmp_path: Path) -> None:
    stamps = [*(f"{1_700_000_000 + k}" for k in range(6)), "oops", "1700000007"]
    pl.DataFrame({"customer": [1, 1, 2, 2, 3, 3, 4, 4], "timestamp": stamps, "click": [0, 1] * 4}).write_csv(
        tmp_path / "log.csv"
    )
    draft, preview = inspect(tmp_path / "log.csv")
    column = next(c for c in preview.columns if c.column == "timestamp")
    assert draft.time is None and column.role == "left out"
    assert "1 of its values is no time, first 'oops' in row 7" in column.why


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["yes", "no", "no", "maybe", "no", "yes"], "1 of its values is neither yes nor no, first 'maybe' in row 4"),
        (["Y", None, "N", None, "N", "N"], "2 of its values are neither yes nor no, first empty in row 2"),
        (["1", "0", "?", "0", "1", "1"], "1 of its values is no number, first '?' in row 3"),
    ],
)
def test_an_outcome_with_a_bad_value_is_told_and_is_never_a_feature(
    values: list[str | None], told: str, tmp_path: Path
) -> None:
    pl.DataFrame({"customer": [1, 1, 2, 2, 3, 3], "bought": values, "clicked": [0, 1] * 3}).write_csv(
        tmp_path / "log.csv"
    )
    draft, preview = inspect(tmp_path / "log.csv")
    column = next(c for c in preview.columns if c.column == "bought")
    assert column.role == "left out" and told in column.why
    assert [g.name for g in draft.gains] == ["clicked"] and not draft.features


def answers(rows: int = 400) -> pl.DataFrame:
    """A log whose outcomes and one trait are written in words."""
    rng = np.random.default_rng(4)
    user, bought = rng.integers(0, 40, rows), rng.random(rows) < 0.2
    return pl.DataFrame(
        {
            "customer": [f"c{i}" for i in user],
            "timestamp": 1_700_000_000 + np.arange(rows),
            "medium": rng.choice(["mail", "sms"], rows),
            "opened": rng.choice(["Y", "N"], rows),
            "response": rng.choice(["True", "False"], rows),
            "bought": np.where(bought, "yes", "no"),
            "bought_at": [1_700_000_060 + i if b else None for i, b in enumerate(bought)],
            "premium": np.where(user % 3 == 0, "yes", "no"),
            "device_known": rng.choice(["yes", "no"], rows),
        }
    )


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_outcomes_in_words_are_drafted_as_binary_gains_and_read_as_0_and_1(tmp_path: Path, ending: str) -> None:
    path, log = tmp_path / f"log.{ending}", answers()
    log.write_parquet(path) if ending == "parquet" else log.write_csv(path)
    draft, preview = inspect(path)
    assert draft.gains == (
        Gain("opened", "binary", "after", "Y", "N"),
        Gain("response", "binary", "after", *(("True", "False") if ending == "parquet" else ())),  # a csv's are no text
        Gain("bought", "binary", "at:bought_at", "yes", "no"),
    )
    assert draft.channel == "medium"
    assert {f.name: (f.kind, f.level) for f in draft.features} == {
        "premium": ("categorical", "user"), "device_known": ("categorical", "step"),
    }  # fmt: skip
    assert "'Y' is read as 1, 'N' as 0" in next(c.why for c in preview.columns if c.column == "opened")
    save(draft, preview, tmp_path / "log.toml")
    assert LogSchema.load(tmp_path / "log.toml") == draft
    journeys = prepare(path, str(tmp_path / "log.toml"), tmp_path / "out")
    log.with_columns((pl.col(g.name) == (g.one or "True")).cast(pl.Int8) for g in draft.gains).write_parquet(
        tmp_path / "n.parquet"
    )
    numbers = prepare(tmp_path / "n.parquet", draft, tmp_path / "numbers")  # 0 and 1 need no words
    for gain in draft.gains:
        assert np.array_equal(journeys.gain(gain.name), numbers.gain(gain.name)), gain
        assert 0 < journeys.gain(gain.name).mean() < 1
    assert np.array_equal(journeys.column("known_at/bought"), numbers.column("known_at/bought"), equal_nan=True)


def test_without_another_outcome_in_sight_words_are_gains_and_never_the_channel(tmp_path: Path) -> None:
    answers().select("customer", "timestamp", "device_known", "medium").write_csv(tmp_path / "log.csv")
    renamed = pl.read_csv(tmp_path / "log.csv").rename({"device_known": "happy", "medium": "colour"})
    renamed.write_csv(tmp_path / "log.csv")
    draft, _ = inspect(tmp_path / "log.csv")
    assert (draft.channel, draft.gains) == ("colour", (Gain("happy", "binary", "after", "yes", "no"),))


@pytest.mark.parametrize(("third", "shown"), [("maybe", "row 8: maybe"), (None, "row 8: null")])
def test_a_third_value_of_a_gain_in_words_is_one_line(tmp_path: Path, third: str | None, shown: str) -> None:
    log = answers()
    draft = LogSchema("log", "customer", "timestamp", "s", channel="medium", gains=(Gain("opened", one="Y", zero="N"),))
    opened = [third if row == 7 else value for row, value in enumerate(log["opened"])]
    log.with_columns(pl.Series("opened", opened)).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(UserError, match=f"'opened': values other than 'Y' and 'N' in 1 of 400 rows .first {shown}"):
        prepare(tmp_path / "log.parquet", draft, tmp_path / "out")


def test_a_gain_in_words_without_their_meaning_is_told_what_to_say(tmp_path: Path) -> None:
    answers().write_parquet(tmp_path / "log.parquet")
    with pytest.raises(UserError, match=r'values that are text.*one = "yes", zero = "no"'):
        prepare(tmp_path / "log.parquet", LogSchema("log", "customer", gains=(Gain("opened"),)), tmp_path / "out")
    for wrong in (
        Gain("opened", one="Y"),
        Gain("opened", "classes", one="Y", zero="N"),
        Gain("opened", one="Y", zero="Y"),
    ):
        with pytest.raises(UserError, match="expected two texts of a binary gain"):
            LogSchema("log", "customer", gains=(wrong,))
