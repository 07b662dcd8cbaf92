"""A view shows each step what was known before it, blanks the rest, and counts every labelled step once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journey_logs import CLOCKED, CLOCKLESS, columns_of, plain_log, random_log, statistics_of, without, write

from headrace.errors import UserError
from headrace.journeys import views
from headrace.journeys.memory import Memory
from headrace.journeys.schema import Gain
from headrace.journeys.splits import PARTS, split
from headrace.journeys.statistics import running
from headrace.journeys.views import View, histories, known_for_training, view

MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
lists_of_lengths = st.lists(st.integers(0, 12), min_size=1, max_size=4)
both_schemas = st.sampled_from([CLOCKED, CLOCKLESS])
PARTS_OF_HISTORY = ("before", "previous", "so_far")


def tokens(history, batch_row, step):
    """{name: value} of everything that a history holds at one step."""
    return {
        f"{part}/{name}": values[batch_row, step]
        for part in PARTS_OF_HISTORY
        for name, values in getattr(history, part).items()
    }


def same(a, b):
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_by_hand(tmp_path):
    """Five steps, the second and third at the same time; the first's purchase is known after them."""
    schema = replace(
        CLOCKED, features=(), gains=(Gain("click"), Gain("buy", known="at:b"), Gain("label", known="never"))
    )
    columns = {
        "time": np.array([1.0, 2.0, 2.0, 5.0, 9.0]),
        "channel": np.array([0, 1, 2, 0, 1], dtype=np.int16),
        "gain/click": np.array([1, 0, 1, 1, 0], dtype=np.int8),
        "gain/buy": np.array([1, 1, 0, 1, 0], dtype=np.int8),
        "known_at/buy": np.array([3.0, 4.0, 5.0, np.nan, 9.0]),
        "gain/label": np.array([1, 1, 1, 1, 1], dtype=np.int8),
        "cost": np.array([0.1, 0.2, 0.3, 0.4, 0.5]),
        "propensity": np.full(5, 0.5),
    }
    journeys = write(tmp_path / "j", schema, [5], columns, categories={})
    batch = View(journeys, np.ones(5, dtype=bool)).batch([0])
    h = batch.history
    nan = np.nan
    assert set(h.previous) == {"channel", "click", "buy", "cost"}  # a label is no input
    assert h.previous["channel"].tolist() == [[-1, 0, 0, 2, 0]]  # the third sees the first, not its twin in time
    np.testing.assert_array_equal(h.previous["click"], [[nan, 1, 1, 1, 1]])
    np.testing.assert_array_equal(h.previous["cost"], [[nan, 0.1, 0.1, 0.3, 0.4]])
    np.testing.assert_array_equal(h.previous["buy"], [[nan, nan, nan, nan, nan]])  # at 2, not yet 3; at 5, not yet past
    np.testing.assert_array_equal(h.so_far["gap"][..., 0], [[nan, 1, 1, 3, 4]])
    assert h.so_far["buy"].tolist() == [[[0, 0], [0, 0], [0, 0], [2, 2], [3, 2]]]
    assert batch.channel.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.gains["label"].tolist() == [[1, 1, 1, 1, 1]]
    assert batch.cost.tolist() == [[0.1, 0.2, 0.3, 0.4, 0.5]]
    assert batch.rows.tolist() == [[0, 1, 2, 3, 4]]


@MANY
@given(schema=both_schemas, lengths=lists_of_lengths, seed=st.integers(0, 999), data=st.data())
def test_what_a_step_sees_needs_no_row_at_or_after_it(tmp_path, schema, lengths, seed, data):
    n = sum(lengths)
    if n == 0:
        return
    columns = columns_of(schema, lengths, seed)
    journeys = write(tmp_path / "all", schema, lengths, columns)
    row = data.draw(st.integers(0, n - 1))
    user_of = journeys.user_of_step
    keep = np.arange(n) < row if schema.time is None else columns["time"] < columns["time"][row]
    keep |= (user_of != user_of[row]) & (schema.time is None)
    keep[row] = True
    at = int(keep[:row].sum())
    cut = without(columns, keep, np.ones(len(lengths), dtype=bool))
    for name in ("gain/click", "gain/label", "gain/mood", "channel", "feature/topic"):  # what the step itself brings
        cut[name][at] = 1 - min(cut[name][at], 1)
    fewer = np.bincount(user_of[keep], minlength=len(lengths)).tolist()
    used = statistics_of(schema)
    before = histories(journeys, [row], 30, used)
    after = histories(write(tmp_path / "cut", schema, fewer, cut), [at], 30, used)
    same(
        tokens(before, 0, before.mask[0].sum() - 1),
        tokens(after, 0, after.mask[0].sum() - 1),
    )
    same(before.user, after.user)


@MANY
@given(schema=both_schemas, lengths=lists_of_lengths, seed=st.integers(0, 999), length=st.integers(1, 14))
def test_each_labelled_step_counts_once(tmp_path, schema, lengths, seed, length):
    journeys = random_log(tmp_path / "j", schema, lengths, seed)
    labels = np.random.default_rng(seed).random(len(journeys)) < 0.5
    for cut in ("chunks", "exact"):
        counted = np.zeros(len(journeys), dtype=int)
        for batch in View(journeys, labels, length, cut=cut).batches(3, seed):
            assert batch.rows.shape[1] <= length
            assert batch.label.any(axis=1).all()  # no piece without a label
            assert not (batch.label & ~batch.history.mask).any()
            np.add.at(counted, batch.rows[batch.label], 1)
            past = batch.history.mask.cumsum(axis=1)[batch.label]
            index = batch.rows[batch.label] - journeys.offsets[journeys.users_of(batch.rows[batch.label])] + 1
            assert (past >= np.minimum(index, length if cut == "exact" else -(-length // 2))).all()
        assert (counted == labels).all()


@MANY
@given(schema=both_schemas, lengths=lists_of_lengths, seed=st.integers(0, 999), length=st.integers(1, 14))
def test_the_exact_view_is_what_a_step_has_when_served(tmp_path, schema, lengths, seed, length):
    journeys = random_log(tmp_path / "j", schema, lengths, seed)
    labels = np.random.default_rng(seed).random(len(journeys)) < 0.7
    used = statistics_of(schema)
    for batch in View(journeys, labels, length, used, cut="exact").batches(4):
        b, t = np.nonzero(batch.label)
        served = histories(journeys, batch.rows[b, t], length, used)
        for k in range(len(b)):
            shown = int(served.mask[k].sum())
            for step in range(shown):
                same(tokens(batch.history, b[k], t[k] - shown + 1 + step), tokens(served, k, step))


@MANY
@given(schema=both_schemas, lengths=lists_of_lengths, seed=st.integers(0, 999))
def test_a_short_journey_is_whole_in_both_cuts(tmp_path, schema, lengths, seed):
    journeys = random_log(tmp_path / "j", schema, lengths, seed)
    labels = np.random.default_rng(seed).random(len(journeys)) < 0.7
    for a, b in zip(
        View(journeys, labels, 12).batches(2), View(journeys, labels, None, cut="exact").batches(2), strict=True
    ):
        assert a.rows.tolist() == b.rows.tolist()
        assert a.label.tolist() == b.label.tolist()
        same({f"{p}/{k}": v for p in PARTS_OF_HISTORY for k, v in getattr(a.history, p).items()},
             {f"{p}/{k}": v for p in PARTS_OF_HISTORY for k, v in getattr(b.history, p).items()})  # fmt: skip


@MANY
@given(lengths=lists_of_lengths, seed=st.integers(0, 999), steps=st.integers(2, 6))
def test_memory_says_the_same_with_missing_keys_and_classes(tmp_path, lengths, seed, steps):
    """The other face of every statistic; test_memory.py has the plainer log, and what a network reads of it."""
    schema, columns = CLOCKED, columns_of(CLOCKED, lengths, seed)
    journeys = write(tmp_path / "j", schema, lengths, columns)
    used = statistics_of(schema)
    categories = {k.split("/")[1]: v for k, v in journeys.categories.items()}
    static = {f: columns[f"user/{f}"] for f in ("age", "city")}
    memory = Memory(schema, len(lengths), steps, static, used, categories)
    every = np.arange(len(journeys))
    expected = histories(journeys, every, steps, used)
    for row in np.lexsort((every, columns["time"])):
        step = {
            name.removeprefix("feature/").removeprefix("gain/"): values[row : row + 1]
            for name, values in columns.items()
            if not name.startswith("user/")
        }
        user = journeys.user_of_step[row : row + 1]
        got = memory.histories(user, step)
        assert got.mask[0].sum() == expected.mask[row].sum()
        for t in range(int(got.mask[0].sum())):
            same(tokens(got, 0, t), tokens(expected, row, t))
        memory.append(user, step)


def test_batches_are_a_function_of_the_seed_and_hold_each_piece_once(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, np.random.default_rng(0).integers(1, 30, 90).tolist())
    steps = View(journeys, np.ones(len(journeys), dtype=bool), 8)

    def order(seed):
        return [batch.rows[:, 0].tolist() for batch in steps.batches(5, seed)]

    flat = [row for rows in order(None) for row in rows]
    assert flat == steps.start.tolist() == sorted(flat)
    assert order(1) == order(1) != order(2)
    assert sorted(row for rows in order(1) for row in rows) == flat
    assert all(len(rows) <= 5 for rows in order(1))


def test_shuffled_batches_put_pieces_of_like_length_together(tmp_path):
    lengths = np.random.default_rng(0).integers(1, 50, 600).tolist()
    steps = View(plain_log(tmp_path / "j", lengths), np.ones(sum(lengths), dtype=bool))
    padding = [(~b.history.mask).mean() for b in steps.batches(16, 0)]
    assert np.mean(padding) < 0.1


def test_paper_shows_its_windows_as_drawn(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKLESS, [30, 22, 21, 44])
    found = split(journeys, "paper", 0)
    so_far = running(journeys, ())
    for part in PARTS:
        steps = view(journeys, found, part, statistics=(), so_far=so_far)
        batches = list(steps.batches(64))
        rows = np.concatenate([b.rows for b in batches])
        assert rows[:, 0].tolist() == found.windows[part].tolist()
        assert (np.diff(rows, axis=1) == 1).all()
        assert rows.shape[1] == 20
        assert all(b.label.all() and b.history.mask.all() for b in batches)


def test_padding_is_blank(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, [3, 9, 1])
    batch = View(journeys, np.ones(13, dtype=bool)).batch([0, 1, 2])
    away = ~batch.history.mask
    assert away.sum() == 14
    assert (batch.rows[away] == -1).all()
    assert (batch.channel[away] == 0).all() and (batch.cost[away] == 0).all() and (batch.propensity[away] == 1).all()
    for part in (batch.history.before, batch.history.previous, batch.context, batch.gains):
        for name, values in part.items():
            assert (values[away] == -1).all() if values.dtype.kind == "i" else np.isnan(values[away]).all(), name
    assert all((values[away] == 0).all() for values in batch.history.so_far.values())


def test_a_batch_reads_the_rows_it_needs_and_no_others(tmp_path, monkeypatch):
    journeys = random_log(tmp_path / "j", CLOCKED, [6] * 500)
    steps = View(journeys, np.ones(len(journeys), dtype=bool))
    read = []

    class Watched(np.ndarray):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            read.append(np.size(found))
            return np.asarray(found)

        def astype(self, *args, **kwargs):
            raise AssertionError("a whole column was copied")

    columns = {name: journeys.column(name).view(Watched) for name in journeys.column_names if name != "offsets"}
    monkeypatch.setattr(journeys, "_maps", {**journeys._maps, **columns})
    batch = steps.batch(np.arange(4))
    assert read
    assert max(read) <= batch.rows.size


def test_a_history_computes_the_statistics_of_its_users_alone(tmp_path, monkeypatch):
    journeys = random_log(tmp_path / "j", CLOCKED, [6] * 50)
    rows = np.array([299, 0, 7, 9, 7])
    everything = running(journeys, views.default_statistics(CLOCKED))

    def never(*args):
        raise AssertionError("the whole log was counted")

    monkeypatch.setattr(views, "running", never)
    found = histories(journeys, rows, 6)
    for name, values in found.so_far.items():
        np.testing.assert_array_equal(values[np.arange(5), found.mask.sum(axis=1) - 1], everything[name][rows])


def test_a_view_of_nothing_has_no_batches(tmp_path):
    journeys = plain_log(tmp_path / "j", [3, 4])
    steps = View(journeys, np.zeros(7, dtype=bool), 2)
    assert len(steps) == 0
    assert list(steps.batches(4)) == list(steps.batches(4, 1)) == []
    assert len(histories(journeys, [], 5)) == 0


def test_mistakes_are_told_in_one_line(tmp_path):
    journeys = plain_log(tmp_path / "j", [3, 4])
    with pytest.raises(UserError, match="row -1 asked for, the log has rows 0 to 6"):
        histories(journeys, [2, -1])
    with pytest.raises(UserError, match="row 7 asked for"):
        histories(journeys, [7])
    with pytest.raises(UserError, match="a view of 0 steps"):
        View(journeys, np.ones(7, dtype=bool), 0)
    with pytest.raises(UserError, match="did you mean 'test'"):
        view(
            journeys,
            split(journeys, "temporal") if False else split(plain_log(tmp_path / "k", [10]), "temporal"),
            "tset",
        )


def test_a_gain_that_became_known_after_the_cut_is_no_training_label(tmp_path):
    """Under honest nobody who trains at the cut knows of a purchase that is reported later."""
    lengths = [6] * 60
    columns = columns_of(CLOCKED, lengths, 0)
    columns["time"] = np.tile(np.arange(6.0), 60)
    columns["known_at/buy"] = columns["time"] + np.tile([0.5, 9.0], 180)  # every second outcome comes late
    journeys = write(tmp_path / "j", CLOCKED, lengths, columns)
    split = journeys.split("honest", 0)
    train = view(journeys, split, "train")
    found = [(b.rows[b.label], b.gains["buy"][b.label]) for b in train.batches(16)]
    rows, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    first = journeys.time[split.parts["validation"] | split.parts["test"]].min()
    late = columns["known_at/buy"][rows] >= first
    assert late.any() and (~late).any()
    assert np.isnan(labels[late]).all() and not np.isnan(labels[~late]).any()
    held_out = view(journeys, split, "test")
    assert not any(np.isnan(b.gains["buy"][b.label]).any() for b in held_out.batches(16))


def test_training_labels_are_not_those_that_came_early(tmp_path):
    """A yes is known soon, a no only when its window has closed: labels by arrival would be all yes near the cut."""
    schema = replace(CLOCKED, label_window_s=2.0)  # the clock counts seconds
    lengths = [8] * 200
    columns = columns_of(schema, lengths, 0)
    columns["time"] = np.tile(np.arange(8.0), 200)
    columns["gain/buy"] = (np.arange(1600) % 4 == 0).astype(np.int8)
    columns["known_at/buy"] = columns["time"] + np.where(columns["gain/buy"] == 1, 0.1, 2.0)
    journeys = write(tmp_path / "j", schema, lengths, columns)
    split = journeys.split("honest", 0)
    first = journeys.time[split.parts["validation"] | split.parts["test"]].min()
    known = known_for_training(journeys, split, "buy")
    assert (known == (columns["time"] + 2.0 < first)).all()
    assert known[split.parts["train"]].any() and not known[split.parts["train"]].all()
