"""The next step's History is the one it would have if it stood in the log."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journey_logs import CLOCKED, CLOCKLESS, columns_of, plain_log, random_log, statistics_of, write

from headrace.errors import UserError
from headrace.journeys.statistics import running
from headrace.journeys.upcoming import upcoming
from headrace.journeys.views import histories

MANY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def with_next(schema, lengths, columns, now):
    """The log with one more step a user at `now`, its context that of the user's last step, its outcomes whatever."""
    last = np.cumsum(lengths) - 1
    ends = np.cumsum(lengths)
    out = {}
    for name, values in columns.items():
        if name.startswith("user/"):
            out[name] = values
            continue
        added = values[last].copy()
        if name == "time":
            added[:] = now
        elif name == "known_at/buy":
            added[:] = now + 1
        elif not name.startswith("feature/"):
            added = np.flip(added)
        out[name] = np.insert(values, ends, added)
    return out


@MANY
@given(
    schema=st.sampled_from([CLOCKED, CLOCKLESS]),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    seed=st.integers(0, 999),
    steps=st.integers(1, 8),
    size=st.integers(1, 4),
    later=st.sampled_from([None, 0.5, 1.0, 2.0, 3.0]),
)
def test_equals_the_history_of_a_step_appended_for_good(tmp_path, schema, lengths, seed, steps, size, later):
    columns = columns_of(schema, lengths, seed)
    journeys = write(tmp_path / "log", schema, lengths, columns)
    used = statistics_of(schema)
    now = None
    then = 0.0
    if schema.time:
        now = None if later is None else float(columns["time"].max()) + later
        then = np.nextafter(columns["time"].max(), np.inf) if now is None else now
    appended = write(tmp_path / "next", schema, [n + 1 for n in lengths], with_next(schema, lengths, columns, then))
    expected = histories(appended, appended.offsets[1:] - 1, steps, used)
    asked = []
    for users, found in upcoming(journeys, steps, used, running(journeys, used), now, size):
        asked += users.tolist()
        width = found.mask.shape[1]
        np.testing.assert_array_equal(found.mask, expected.mask[users, :width])
        assert not expected.mask[users, width:].any()
        assert set(found.user) == set(expected.user)
        for name in found.user:
            np.testing.assert_array_equal(found.user[name], expected.user[name][users])
        for part in ("before", "previous", "so_far"):
            ours, theirs = getattr(found, part), getattr(expected, part)
            assert set(ours) == set(theirs)
            for name in ours:
                assert ours[name].dtype == theirs[name].dtype
                np.testing.assert_array_equal(ours[name], theirs[name][users, :width], err_msg=f"{part}/{name}")
        assert found.categories == expected.categories
    assert asked == list(range(len(lengths)))


def test_an_outcome_known_at_the_next_steps_time_is_not_known_before_it(tmp_path):
    columns = columns_of(CLOCKED, [2], 0) | {
        "time": np.array([1.0, 2.0]),
        "gain/buy": np.array([1, 1], dtype=np.int8),
        "known_at/buy": np.array([4.0, 5.0]),
    }
    journeys = write(tmp_path / "j", CLOCKED, [2], columns)
    used = statistics_of(CLOCKED)
    so_far = running(journeys, used)
    for now, count, last in ((4.0, 0, np.nan), (5.0, 1, np.nan), (5.5, 2, 1.0)):
        [(_, found)] = upcoming(journeys, 9, used, so_far, now)
        assert found.so_far["buy"][0, 2].tolist() == [count, count]
        np.testing.assert_equal(found.previous["buy"][0, 2], last)


def test_nothing_is_known_of_a_user_without_steps(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, [0, 3, 0, 2, 0])
    used = statistics_of(CLOCKED)
    so_far = running(journeys, used)
    for steps in (1, 5):
        [(users, found)] = upcoming(journeys, steps, used, so_far)
        assert users.tolist() == [0, 1, 2, 3, 4]
        assert found.mask.sum(axis=1).tolist() == ([1] * 5 if steps == 1 else [1, 4, 1, 3, 1])
        np.testing.assert_array_equal(found.user["age"], journeys.feature("age"))
        for user in (0, 2, 4):
            for part in (found.before, found.previous):
                assert all(v[user, 0] == -1 if v.dtype.kind == "i" else np.isnan(v[user, 0]) for v in part.values())
            for name, values in found.so_far.items():
                assert np.isnan(values[user, 0]).all() if name == "gap" else (values[user, 0] == 0).all()


def test_a_time_that_has_passed_is_refused(tmp_path):
    journeys = plain_log(tmp_path / "j", [3], time=[1, 2, 5])
    with pytest.raises(UserError, match="not after the log's last step at 5"):
        next(upcoming(journeys, 5, (), {}, now=5.0))
    with pytest.raises(UserError, match="no clock; leave it out"):
        next(upcoming(plain_log(tmp_path / "k", [3]), 5, (), {}, now=5.0))
    with pytest.raises(UserError, match="holds no step"):
        next(upcoming(plain_log(tmp_path / "l", [0]), 5, (), {}))
