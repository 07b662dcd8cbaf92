"""Running statistics count what was known before a step, exactly, and nothing else."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journey_logs import CLOCKED, CLOCKLESS, columns_of, plain_log, random_log, statistics_of, without, write

from headrace.errors import UserError
from headrace.journeys import statistics
from headrace.journeys.schema import Feature, Gain, LogSchema
from headrace.journeys.statistics import GAP, Statistic, check, default_statistics, fixed, running, sums_before

MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
lists_of_lengths = st.lists(st.integers(0, 8), min_size=1, max_size=4)
both_schemas = st.sampled_from([CLOCKED, CLOCKLESS])


def known_time(columns, gain, row, clocked):
    """When a step's outcome is known, in plain words."""
    if not clocked:
        return row
    if gain != "buy":
        return columns["time"][row]
    at = columns["known_at/buy"][row]
    return math.inf if math.isnan(at) else max(at, columns["time"][row])


def counted(columns, user_of, s, row, clocked):
    """{(channel or None): [count, sum]} of everything that a statistic holds at a step, by a plain loop."""

    def key(r):
        values = []
        for name in s.key:
            raw = user_of[r] if name == "user" else columns.get(f"feature/{name}", [0] * len(user_of))[r]
            if name in ("city", "age"):
                raw = columns[f"user/{name}"][user_of[r]]
            values.append("missing" if raw != raw else raw)
        return values

    found: dict[object, list[float]] = {}
    now = columns["time"][row] if clocked else row
    for other in range(len(user_of)):
        if key(other) != key(row) or not known_time(columns, s.of, other, clocked) < now:
            continue
        at = columns["channel"][other] if s.by_channel else None
        count_and_sum = found.setdefault(at, [0, 0.0])
        if s.of is None:
            count_and_sum[0] += 1
            continue
        value = columns[f"gain/{s.of}"][other]
        missing = value != value or (s.of == "mood" and value < 0)
        count_and_sum[0] += not missing
        count_and_sum[1] += 0.0 if missing else round(float(value) * 2**20) / 2**20
    return found


@MANY
@given(schema=both_schemas, lengths=lists_of_lengths, seed=st.integers(0, 999))
def test_equals_a_plain_loop(tmp_path, schema, lengths, seed):
    columns = columns_of(schema, lengths, seed)
    journeys = write(tmp_path / "j", schema, lengths, columns)
    used = statistics_of(schema)
    found = running(journeys, used)
    assert set(found) == {s.name for s in used} | ({GAP} if schema.time else set())
    user_of = journeys.user_of_step.tolist()
    for s in used:
        assert found[s.name].shape == (len(journeys), s.width(3))
        for row in range(len(journeys)):
            expected = counted(columns, user_of, s, row, schema.time is not None)
            places = [0, 1, 2] if s.by_channel else [None]
            flat = [v for place in places for v in expected.get(place, [0, 0.0])[: 1 if s.of is None else 2]]
            assert found[s.name][row].tolist() == flat, (s.name, row)


@MANY
@given(schema=both_schemas, lengths=lists_of_lengths, seed=st.integers(0, 999), data=st.data())
def test_deleting_everything_at_or_after_a_step_leaves_what_it_sees(tmp_path, schema, lengths, seed, data):
    """The leak property: only the step itself may stay, since it asks; its own outcomes are flipped."""
    n = sum(lengths)
    if n == 0:
        return
    columns = columns_of(schema, lengths, seed)
    journeys = write(tmp_path / "all", schema, lengths, columns)
    row = data.draw(st.integers(0, n - 1))
    user_of = journeys.user_of_step
    if schema.time:
        keep = columns["time"] < columns["time"][row]
    else:
        keep = (user_of != user_of[row]) | (np.arange(n) < row)
    keep[row] = True
    cut = without(columns, keep, np.ones(len(lengths), dtype=bool))
    at = int(keep[:row].sum())
    cut["gain/click"][at] ^= 1
    cut["gain/play"][at] = 99.0
    cut["channel"][at] = (cut["channel"][at] + 1) % 3
    fewer = np.bincount(user_of[keep], minlength=len(lengths)).tolist()
    used = statistics_of(schema)
    before, after = running(journeys, used), running(write(tmp_path / "cut", schema, fewer, cut), used)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name][at], values[row], err_msg=name)


def test_by_hand(tmp_path):
    schema = replace(
        LogSchema("s", user="u", time="t", channel="c", channels=("a", "b")),
        gains=(Gain("click"), Gain("buy", known="at:b")),
    )
    columns = {
        "time": np.array([1.0, 2.0, 2.0, 5.0, 1.0]),
        "channel": np.array([0, 1, 1, 0, 1], dtype=np.int16),
        "gain/click": np.array([1, 0, 1, 1, 1], dtype=np.int8),
        "gain/buy": np.array([1, 1, 0, 0, 0], dtype=np.int8),
        "known_at/buy": np.array([2.0, 4.0, 5.0, np.nan, 0.0]),
    }
    found = running(write(tmp_path / "j", schema, [4, 1], columns, categories={}), default_statistics(schema))
    assert found["steps"].ravel().tolist() == [0, 1, 1, 3, 0]
    assert found["click"].tolist() == [[0, 0], [1, 1], [1, 1], [3, 2], [0, 0]]
    assert found["buy"].tolist() == [[0, 0], [0, 0], [0, 0], [2, 2], [0, 0]]  # known at 2: not yet at 2
    assert found["steps_by_channel"].tolist() == [[0, 0], [1, 0], [1, 0], [1, 2], [0, 0]]
    assert found["click_by_channel"][3].tolist() == [1, 1, 2, 1]
    assert found[GAP].ravel().tolist() == pytest.approx([np.nan, 1, 1, 3, np.nan], nan_ok=True)


@MANY
@given(values=st.lists(st.floats(-1e4, 1e4), max_size=50), seed=st.integers(0, 99))
def test_sums_do_not_depend_on_the_order_of_arrival(values, seed):
    order = np.random.default_rng(seed).permutation(len(values))
    numbers = np.array(values)
    assert fixed(numbers).sum() == fixed(numbers[order]).sum()
    np.testing.assert_allclose(fixed(numbers) / 2.0**20, numbers, atol=2.0**-21)


@MANY
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 7), st.integers(-9, 9)), max_size=20)
)
def test_sums_before_equals_a_plain_loop(rows):
    keys, asked, known, values = (
        (np.array(c, dtype=np.int64) for c in zip(*rows, strict=True)) if rows else [np.zeros(0, dtype=np.int64)] * 4
    )
    found = sums_before(keys, asked.astype(float), known.astype(float), values[:, None])
    expected = [sum(v for k2, _, at, v in rows if k2 == k and at < t) for k, t, _, _ in rows]
    assert found.ravel().tolist() == expected


def test_a_sum_too_large_to_be_exact_is_refused():
    assert fixed(np.array([2.0**40, np.nan])).tolist() == [2**60, 0]
    for value in (2.0**41, np.inf, -np.inf):
        with pytest.raises(UserError, match="more than running sums can hold"):
            fixed(np.array([1.0, value]))


@MANY
@given(schema=both_schemas, seed=st.integers(0, 99))
def test_neither_pieces_nor_files_change_a_bit(tmp_path, monkeypatch, schema, seed):
    journeys = random_log(tmp_path / "j", schema, [5, 0, 7, 3, 30, 1], seed)
    used = statistics_of(schema)
    expected = running(journeys, used)
    with monkeypatch.context() as patched:
        patched.setattr(statistics, "IN_MEMORY", 0)
        patched.setattr(statistics.user_chunks, "__defaults__", (4,))
        found = running(journeys, used)
    assert any(isinstance(t.base, np.memmap) for t in found.values())
    assert sorted(p.name for p in journeys.path.iterdir()) == ["data", "journeys.json"]
    for name, values in expected.items():
        assert found[name].tobytes() == values.tobytes()


def test_a_label_is_in_no_statistic():
    assert all(s.of != "label" for s in default_statistics(CLOCKED))
    with pytest.raises(UserError, match="label only"):
        check((Statistic("x", ("user",), "label"),), CLOCKED)


@pytest.mark.parametrize(
    ("statistic", "message"),
    [
        (Statistic("x", ("topic",)), "topic is not known before the decision"),
        (Statistic("x", ("user",), "clik"), "did you mean 'click'"),
        (Statistic("x", ("huor",)), "did you mean 'hour'"),
        (Statistic("steps", ("user",)), "two running statistics are called steps"),
        (Statistic("gap", ("user",)), "two running statistics are called gap"),
    ],
)
def test_a_statistic_that_cannot_be_is_told_in_one_line(statistic, message):
    with pytest.raises(UserError, match=message):
        check((*default_statistics(CLOCKED), statistic), CLOCKED)


def test_counting_across_users_needs_a_clock():
    with pytest.raises(UserError, match="needs a clock"):
        check((Statistic("x", ("hour",)),), CLOCKLESS)


def test_a_log_without_users_has_no_running_statistics():
    assert default_statistics(LogSchema("s", features=(Feature("x"),), gains=(Gain("click"),))) == ()


def test_a_log_without_steps_has_empty_tables(tmp_path):
    found = running(plain_log(tmp_path / "j", [], time=[]), default_statistics(plain_log(tmp_path / "j", []).schema))
    assert all(len(values) == 0 for values in found.values())
