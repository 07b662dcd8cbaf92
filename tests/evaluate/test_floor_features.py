"""What the floors see: exactly the past that was known, never more."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as from_these
from hypothesis import settings
from hypothesis import strategies as st
from small_logs import random_columns, schema, write

from headrace.errors import UserError
from headrace.evaluate import floor_features
from headrace.evaluate.floor_features import (
    Table,
    check_same_schema,
    given,
    known_before,
    last_value,
    past_counts,
    past_sums,
)
from headrace.journeys.store import Journeys


def seen(journeys: Journeys, rows: Any) -> dict[str, np.ndarray]:
    """Everything that the floors read of these rows, before the decision."""
    table = {name: c.values for name, c in given(known_before(journeys, rows), "before").items()}
    table["counts"] = past_counts(journeys, rows, 3)
    table["ratings"] = past_counts(journeys, rows, 3, "rating")
    table["last channel"] = last_value(journeys, rows)
    table["last rating"] = last_value(journeys, rows, "rating")
    if journeys.time is not None:
        table["states"] = past_counts(journeys, rows, 3, "state")
        table["last state"] = last_value(journeys, rows, "state")
    for gain in ("click", "play", "order") if journeys.time is not None else ("click", "play"):
        table[f"past {gain}"] = np.stack(past_sums(journeys, rows, gain))
    return table


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


CHANGED = ["channel", "cost", "feature/length", "feature/topic"]
CHANGED += [f"gain/{name}" for name in ("click", "play", "rating", "order", "state")]


@from_these(st.integers(0, 10_000), st.booleans(), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_changing_a_step_and_all_that_happens_with_or_after_it_changes_nothing_seen(
    seed: int, clock: bool, which: int
) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, 4)
    columns = random_columns(rng, lengths, clock)
    n = int(lengths.sum())
    row = which % n
    user = np.repeat(np.arange(4), lengths)
    if clock:
        hidden = columns["time"] >= columns["time"][row]  # of any user
    else:
        hidden = (user == user[row]) & (np.arange(n) >= row)
    other = random_columns(np.random.default_rng(seed + 1), lengths, clock)
    changed = {
        name: np.where(hidden, other[name], values) if name in CHANGED else values for name, values in columns.items()
    }
    changed["gain/sale"] = 1 - columns["gain/sale"]  # known = never: no row of it is ever seen
    if clock:
        for gain in ("order", "state"):
            late = ~(columns[f"known_at/{gain}"] < columns["time"][row])  # arrived when the row asks or later, or never
            changed[f"gain/{gain}"] = np.where(late, other[f"gain/{gain}"], changed[f"gain/{gain}"])
    with tempfile.TemporaryDirectory() as folder:
        before = write(Path(folder) / "a", lengths, columns)
        after = write(Path(folder) / "b", lengths, changed)
        assert_same(seen(before, np.array([row])), seen(after, np.array([row])))


@from_these(st.integers(0, 10_000), st.booleans())
@settings(max_examples=15, deadline=None)
def test_deleting_all_later_rows_changes_nothing_seen(seed: int, clock: bool) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 7, 3)
    columns = random_columns(rng, lengths, clock)
    user = np.repeat(np.arange(3), lengths)
    row = int(rng.integers(0, lengths.sum()))
    if clock:
        kept = columns["time"] < columns["time"][row]
    else:
        kept = (user != user[row]) | (np.arange(len(user)) < row)
    kept[row] = True
    fewer = {name: values if name.startswith("user/") else values[kept] for name, values in columns.items()}
    with tempfile.TemporaryDirectory() as folder:
        whole = write(Path(folder) / "a", lengths, columns)
        cut = write(Path(folder) / "b", np.bincount(user[kept], minlength=3), fewer)
        assert_same(seen(whole, np.array([row])), seen(cut, np.array([int(kept[:row].sum())])))


@from_these(st.integers(0, 10_000), st.booleans())
@settings(max_examples=15, deadline=None)
def test_the_table_equals_a_plain_loop(seed: int, clock: bool) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, 5)
    columns = random_columns(rng, lengths, clock)
    user = np.repeat(np.arange(5), lengths)
    n = len(user)
    when = columns["time"] if clock else np.arange(n)
    with tempfile.TemporaryDirectory() as folder:
        journeys = write(Path(folder) / "a", lengths, columns)
        rows = rng.permutation(n)
        table = known_before(journeys, rows)
        last = last_value(journeys, rows, "state") if clock else None
    for place, row in enumerate(rows):
        past = [r for r in range(n) if user[r] == user[row] and when[r] < when[row]]
        assert table["steps"].values[place] == len(past)
        clicks = [columns["gain/click"][r] for r in past]
        np.testing.assert_array_equal(table["click.rate"].values[place], np.mean(clicks) if past else np.nan)
        for c in range(3):
            assert table[f"steps.of.{c}"].values[place] == sum(columns["channel"][r] == c for r in past)
            plays = [columns["gain/play"][r] for r in past if columns["channel"][r] == c]
            plays = [p for p in plays if not np.isnan(p)]
            np.testing.assert_allclose(table[f"play.rate.of.{c}"].values[place], np.mean(plays) if plays else np.nan)
        for k in (1, 2, 3):
            lag = past[-k] if len(past) >= k else None
            expected = np.nan if lag is None else columns["channel"][lag]
            np.testing.assert_array_equal(table[f"channel.{k}"].values[place], expected)
            topic = np.nan if lag is None or columns["feature/topic"][lag] < 0 else columns["feature/topic"][lag]
            np.testing.assert_array_equal(table[f"topic.{k}"].values[place], topic)
            if clock:
                known = lag is not None and columns["known_at/order"][lag] < when[row]
                expected = columns["gain/order"][lag] if known else np.nan
                np.testing.assert_array_equal(table[f"order.{k}"].values[place], expected)
        if clock:
            assert last is not None
            known = bool(past) and columns["known_at/state"][past[-1]] < when[row]
            assert last[place] == (columns["gain/state"][past[-1]] if known else -1)
            arrived = [r for r in past if columns["known_at/order"][r] < when[row]]
            assert table["order.sum"].values[place] == sum(columns["gain/order"][r] for r in arrived)


def test_blocks_of_users_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 8, 20)
    journeys = write(tmp_path / "a", lengths, random_columns(rng, lengths))
    rows = rng.integers(0, journeys.n_steps, 50)
    whole = seen(journeys, rows)
    parts = list(floor_features.pasts(journeys, rows, steps=10))
    assert len(parts) > 5
    assert sorted(np.concatenate([where for where, _ in parts]).tolist()) == list(range(50))
    original = floor_features.pasts
    monkeypatch.setattr(floor_features, "pasts", lambda j, r: original(j, r, 10))
    assert_same(whole, seen(journeys, rows))


def test_a_target_sees_of_its_own_step_what_it_is_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([3, 2])
    table: Table = known_before(write(tmp_path / "a", lengths, random_columns(rng, lengths)), np.arange(5))
    own = {w: {n for n in given(table, w) if n.startswith("step/")} for w in ("before", "channel", "context")}
    assert own == {
        "before": set(),
        "channel": {"step/channel"},
        "context": {"step/channel", "step/length", "step/topic"},  # not the cost: billed by click, it tells the click
    }
    assert not [name for name in table if "sale" in name]


def test_another_logs_codes_stand_for_the_same_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([4, 3])
    columns = random_columns(rng, lengths)
    a = write(tmp_path / "a", lengths, columns)
    swapped = columns | {
        "feature/topic": np.where(columns["feature/topic"] < 0, -1, 2 - columns["feature/topic"]),
        "user/city": (columns["user/city"] + 1) % 3,
    }
    b = write(
        tmp_path / "b",
        lengths,
        swapped,
        categories={"feature/topic": ["art", "sport", "news"], "user/city": ["Ulm", "Bonn", "Kiel"]},
    )
    rows = np.arange(7)
    ours, theirs = known_before(a, rows), known_before(b, rows, texts=a.categories)
    for name in ours:
        np.testing.assert_array_equal(ours[name].values, theirs[name].values, err_msg=name)


def test_a_log_of_another_schema_is_not_predicted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([2, 2])
    a = write(tmp_path / "a", lengths, random_columns(rng, lengths))
    b = write(tmp_path / "b", lengths, random_columns(rng, lengths, clock=False), schema(clock=False))
    with pytest.raises(UserError, match="its gains differ"):
        check_same_schema(a, b)
