"""A store appears whole or not at all, holds the log's values bit for bit, and is known by its content."""

import pickle
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journey_logs import CATEGORIES, CLOCKED, columns_of, plain_log, random_log, write

from headrace.errors import UserError
from headrace.journeys.schema import Candidates, Gain, LogSchema
from headrace.journeys.store import Journeys, JourneysWriter, ragged_rows, subset

MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
lists_of_lengths = st.lists(st.integers(0, 6), max_size=5)


def names_in(folder):
    return sorted(p.name for p in folder.iterdir())


def with_lists(path):
    """Two users of 1 and 2 steps; the steps hold 2, 0 and 1 items."""
    schema = LogSchema("lists", user="u", gains=(Gain("click"),), candidates=Candidates("item"))
    with JourneysWriter(path, schema) as writer:
        writer.append(
            np.array([7, 8]),
            np.array([1, 2]),
            {"gain/click": np.array([0, 1, 1], dtype=np.int8)},
            {"item/id": np.array([10, 11, 12]), "item/score/s": np.array([0.1, 0.2, 0.3])},
            np.array([2, 0, 1]),
        )
    return Journeys(path)


@MANY
@given(lengths=lists_of_lengths, seed=st.integers(0, 99), cut=st.integers(0, 5))
def test_what_was_appended_is_what_is_read(tmp_path, lengths, seed, cut):
    columns = columns_of(CLOCKED, lengths, seed)
    users = np.arange(len(lengths)) * 3
    steps = np.repeat(np.arange(len(lengths)), lengths)
    with patch("os.fsync"), JourneysWriter(tmp_path / "j", CLOCKED, CATEGORIES) as writer:
        for of_user, of_step in ((users < 3 * cut, steps < cut), (users >= 3 * cut, steps >= cut)):
            part = {k: v[of_user if k.startswith("user/") else of_step] for k, v in columns.items()}
            writer.append(users[of_user], np.array(lengths, dtype=int)[of_user], part)
        journeys = writer.close()
    assert journeys.n_users == len(lengths)
    assert len(journeys) == sum(lengths)
    assert np.diff(journeys.offsets).tolist() == lengths
    assert journeys.user_of_step.tolist() == steps.tolist()
    assert journeys.users_of(np.arange(len(steps))).tolist() == steps.tolist()
    assert journeys.users.tolist() == users.tolist()
    for name, values in columns.items():
        read = journeys.column(name)
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)
    assert journeys.fingerprint == write(tmp_path / "at once", CLOCKED, lengths, columns, users).fingerprint


@MANY
@given(seed=st.integers(0, 99), name=st.sampled_from(sorted(columns_of(CLOCKED, [1], 0))), data=st.data())
def test_the_fingerprint_changes_with_any_value(tmp_path, seed, name, data):
    lengths = [3, 1, 4]
    columns = columns_of(CLOCKED, lengths, seed)
    same = write(tmp_path / "a", CLOCKED, lengths, columns)
    assert write(tmp_path / "b", CLOCKED, lengths, columns).fingerprint == same.fingerprint
    at = data.draw(st.integers(0, len(columns[name]) - 1))
    changed = columns[name].copy()
    changed[at] = 5 if changed[at] != 5 else 4
    assert write(tmp_path / "c", CLOCKED, lengths, columns | {name: changed}).fingerprint != same.fingerprint


def test_the_fingerprint_is_of_users_lengths_categories_and_schema_but_not_of_notes(tmp_path):
    columns = columns_of(CLOCKED, [2, 2], 0)
    first = write(tmp_path / "a", CLOCKED, [2, 2], columns)
    others = [
        write(tmp_path / "b", CLOCKED, [2, 2], columns, users=[0, 8]),
        write(tmp_path / "c", CLOCKED, [1, 3], columns),
        write(tmp_path / "d", CLOCKED, [2, 2], columns, categories=CATEGORIES | {"user/city": ["Bern", "Wien"]}),
    ]
    assert len({first.fingerprint, *(j.fingerprint for j in others)}) == 4
    with JourneysWriter(tmp_path / "e", CLOCKED, CATEGORIES) as writer:
        writer.append(np.arange(2) * 7, np.array([2, 2]), columns)
        noted = writer.close({"rows_read": 4})
    assert noted.manifest["notes"] == {"rows_read": 4}
    assert noted.fingerprint == first.fingerprint


def test_an_exception_leaves_nothing_under_the_name(tmp_path):
    with pytest.raises(RuntimeError), JourneysWriter(tmp_path / "j", CLOCKED, CATEGORIES) as writer:
        writer.append(np.arange(1), np.array([3]), columns_of(CLOCKED, [3], 0))
        raise RuntimeError
    assert names_in(tmp_path) == []


def test_an_exception_leaves_the_old_folder_as_it_was(tmp_path):
    old = plain_log(tmp_path / "j", [3])
    with pytest.raises(RuntimeError), JourneysWriter(tmp_path / "j", old.schema):
        raise RuntimeError
    assert names_in(tmp_path) == ["j"]
    assert Journeys(tmp_path / "j").fingerprint == old.fingerprint


def test_a_new_folder_takes_the_place_of_an_old_one_that_stays_readable_where_it_is_open(tmp_path):
    old = plain_log(tmp_path / "j", [3])
    before = old.channel.tolist()
    new = plain_log(tmp_path / "j", [5, 5])
    assert names_in(tmp_path) == ["j"]
    assert Journeys(tmp_path / "j").n_steps == new.n_steps == 10
    assert old.channel.tolist() == before


def test_the_folder_has_the_permissions_of_any_new_folder(tmp_path):
    (tmp_path / "plain").mkdir()
    plain_log(tmp_path / "j", [2])
    assert (tmp_path / "j").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_another_folder_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not a journeys folder; choose another"):
        plain_log(tmp_path / "mine", [2])
    assert names_in(tmp_path) == ["mine"]


@pytest.mark.parametrize(
    ("append", "error"),
    [
        ({"gain/click": np.zeros(2, dtype=np.int8)}, "gain/click: 2 values for 3"),
        ({"gain/click": np.zeros(3)}, "gain/click: float64 values after int8"),
        ({"gain/click": np.full(3, 300)}, "gain/click: int64 values after int8"),
        ({}, "gain/click: 2 values for 5"),
        ({"gain/click": np.zeros(3, dtype=np.int8), "cost": np.zeros(3)}, "cost: 3 values for 5"),
    ],
)
def test_a_misshapen_append_is_refused_and_leaves_nothing(tmp_path, append, error):
    schema = LogSchema("s", user="u", gains=(Gain("click"),))
    with pytest.raises((ValueError, TypeError), match=error), JourneysWriter(tmp_path / "j", schema) as writer:
        writer.append(np.array([1]), np.array([2]), {"gain/click": np.ones(2, dtype=np.int8)})
        writer.append(np.array([2]), np.array([3]), append)
    assert names_in(tmp_path) == []


def test_pickling_carries_the_path_alone(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, [900, 800])
    journeys.user_of_step, journeys.channel, journeys.time  # noqa: B018  opened and kept
    packed = pickle.dumps(journeys)
    assert len(packed) < 1_000
    assert pickle.loads(packed).fingerprint == journeys.fingerprint  # noqa: S301


def test_columns_cannot_be_written_to(tmp_path):
    journeys = plain_log(tmp_path / "j", [3])
    with pytest.raises(ValueError, match="read-only"):
        journeys.channel[0] = 1


def test_what_is_not_there_is_told_in_one_line(tmp_path):
    journeys = plain_log(tmp_path / "j", [3])
    with pytest.raises(UserError, match="did you mean 'gain/click'"):
        journeys.column("gain/clik")
    with pytest.raises(UserError, match="did you mean 'click'"):
        journeys.gain("clik")
    with pytest.raises(UserError, match="no journeys"):
        Journeys(tmp_path / "elsewhere")
    manifest = tmp_path / "j" / "journeys.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(UserError, match="journeys format 99, this version reads 1; prepare the log again"):
        Journeys(tmp_path / "j")


def test_a_log_without_a_channel_says_how_to_name_one(tmp_path):
    with pytest.raises(UserError, match="channel = COLUMN"):
        with_lists(tmp_path / "j").channel  # noqa: B018


@MANY
@given(lengths=lists_of_lengths, seed=st.integers(0, 99), data=st.data())
def test_a_subset_keeps_every_value_of_its_users(tmp_path, lengths, seed, data):
    journeys = random_log(tmp_path / "j", CLOCKED, lengths, seed)
    users = data.draw(st.permutations(range(len(lengths))))[: data.draw(st.integers(0, len(lengths)))]
    with patch("os.fsync"):
        part = subset(journeys, users, tmp_path / "part")
        everyone = subset(journeys, range(len(lengths)), tmp_path / "all")
    assert everyone.fingerprint == journeys.fingerprint
    assert part.users.tolist() == journeys.users[list(users)].tolist()
    rows = [r for u in users for r in range(journeys.offsets[u], journeys.offsets[u + 1])]
    for name in journeys.column_names:
        if name not in ("users", "offsets"):
            kept = list(users) if name.startswith("user/") else rows
            np.testing.assert_array_equal(part.column(name), journeys.column(name)[kept])


def test_a_subset_keeps_the_lists_of_its_steps(tmp_path):
    journeys = with_lists(tmp_path / "j")
    assert journeys.column("item_offsets").tolist() == [0, 2, 2, 3]
    part = subset(journeys, [1, 0], tmp_path / "part")
    assert part.column("item_offsets").tolist() == [0, 0, 1, 3]
    assert part.column("item/id").tolist() == [12, 10, 11]
    assert part.column("item/score/s").tolist() == [0.3, 0.1, 0.2]


def test_a_store_of_nobody_can_be_opened(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, [])
    assert (journeys.n_users, journeys.n_steps, len(journeys.users)) == (0, 0, 0)
    assert journeys.column("cost").dtype == np.float64


def test_ragged_rows_of_nothing_are_none():
    assert ragged_rows(np.zeros(0, dtype=int), np.zeros(0, dtype=int)).tolist() == []
    assert ragged_rows(np.array([4, 9, 2]), np.array([0, 2, 0])).tolist() == [9, 10]
