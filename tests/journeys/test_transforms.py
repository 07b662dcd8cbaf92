"""Transforms are fitted on the given steps alone, saved bit for bit, and never show a label or an infinity."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journey_logs import CLOCKED, CLOCKLESS, columns_of, random_log, statistics_of, write

from headrace.errors import UserError
from headrace.journeys.scales import BLANK, FIRST, PADDING, UNKNOWN, Scale, Vocabulary, squeeze
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.seams import History
from headrace.journeys.statistics import Statistic
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import View

MANY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
lists_of_lengths = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(lambda lengths: sum(lengths) > 0)
both_schemas = st.sampled_from([CLOCKED, CLOCKLESS])


def all_of(journeys, statistics=None):
    steps = View(journeys, np.ones(len(journeys), dtype=bool), None, statistics)
    return steps.batch(np.arange(len(steps)))


@MANY
@given(
    schema=both_schemas,
    lengths=lists_of_lengths,
    seed=st.integers(0, 999),
    categories=st.sampled_from(["embedded", "numbers", "both"]),
)
def test_fit_reads_the_given_steps_and_no_others(tmp_path, schema, lengths, seed, categories):
    rng = np.random.default_rng(seed)
    columns = columns_of(schema, lengths, seed)
    journeys = write(tmp_path / "a", schema, lengths, columns)
    rows = np.flatnonzero(rng.random(len(journeys)) < 0.5)
    other = columns_of(schema, lengths, seed + 1)
    if schema.time:  # moved, but still in order
        other["time"] = columns["time"].copy()
        for begin, end in zip(journeys.offsets[:-1], journeys.offsets[1:], strict=True):
            moved = np.setdiff1d(np.arange(begin, end), rows)
            for row in moved:
                low = other["time"][row - 1] if row > begin else -50.0
                other["time"][row] = low if row in (begin, end - 1) else (low + columns["time"][row]) / 2
    chosen = np.isin(np.arange(len(journeys)), rows)
    users = np.unique(journeys.user_of_step[rows])
    kept_users = np.isin(np.arange(len(lengths)), users)
    changed = {
        name: np.where(kept_users if name.startswith("user/") else chosen, columns[name], other[name])
        for name in columns
    }
    ours = Transforms.fit(journeys, rows, categories=categories, min_count=1).to_dict()
    theirs = Transforms.fit(
        write(tmp_path / "b", schema, lengths, changed), rows, categories=categories, min_count=1
    ).to_dict()
    assert json.dumps(ours) == json.dumps(theirs)


@MANY
@given(
    schema=both_schemas,
    lengths=lists_of_lengths,
    seed=st.integers(0, 999),
    categories=st.sampled_from(["embedded", "numbers", "both"]),
)
def test_widths_and_ids_are_as_declared(tmp_path, schema, lengths, seed, categories):
    journeys = random_log(tmp_path / "j", schema, lengths, seed)
    transforms = Transforms.fit(
        journeys, np.arange(0, len(journeys), 2), statistics=statistics_of(schema), categories=categories, min_count=1
    )
    batch = all_of(journeys, statistics_of(schema))
    for encoded, cardinalities, width in (
        (transforms.encode(batch.history), transforms.cardinalities, transforms.width),
        (transforms.encode_context(batch), transforms.context_cardinalities, transforms.context_width),
    ):
        assert encoded.ids.shape == (*batch.rows.shape, len(cardinalities))
        assert encoded.numbers.shape == (*batch.rows.shape, width)
        assert (encoded.ids.dtype, encoded.numbers.dtype) == (np.int64, np.float32)
        for i, size in enumerate(cardinalities):
            assert encoded.ids[..., i].max(initial=0) < size
        assert ((encoded.ids == PADDING) == ~batch.history.mask[..., None]).all()
        assert (encoded.numbers[~batch.history.mask] == 0).all()
        assert np.isfinite(encoded.numbers).all()


@MANY
@given(schema=both_schemas, lengths=lists_of_lengths, seed=st.integers(0, 999), data=st.data())
def test_encode_never_looks_at_padding(tmp_path, schema, lengths, seed, data):
    journeys = random_log(tmp_path / "j", schema, lengths, seed)
    transforms = Transforms.fit(journeys, np.arange(len(journeys)), min_count=1)
    h = all_of(journeys).history
    rng = np.random.default_rng(seed)

    def filled(values):
        junk = rng.integers(0, 2, values.shape) if values.dtype.kind == "i" else rng.random(values.shape) * 1e9
        mask = h.mask.reshape(*h.mask.shape, *(1,) * (values.ndim - 2))
        return np.where(mask, values, junk)

    parts = [{k: filled(v) for k, v in part.items()} for part in (h.before, h.previous, h.so_far)]
    ours, theirs = transforms.encode(h), transforms.encode(History(*parts, h.user, h.mask, None, h.categories))
    assert ours.ids.tobytes() == theirs.ids.tobytes()
    assert ours.numbers.tobytes() == theirs.numbers.tobytes()


@MANY
@given(schema=both_schemas, lengths=lists_of_lengths, seed=st.integers(0, 999))
def test_a_saved_file_encodes_bit_for_bit(tmp_path, schema, lengths, seed):
    journeys = random_log(tmp_path / "j", schema, lengths, seed)
    ours = Transforms.fit(journeys, np.arange(len(journeys)), {"click": 1.0, "play": 1 / 3}, 0.1, min_count=1)
    ours.save(tmp_path / "transforms.json")
    theirs = Transforms.load(tmp_path / "transforms.json")
    assert theirs == ours
    assert json.dumps(theirs.to_dict()) == json.dumps(ours.to_dict())
    batch = all_of(journeys)
    a, b = ours.encode(batch.history), theirs.encode(batch.history)
    assert a.ids.tobytes() == b.ids.tobytes() and a.numbers.tobytes() == b.numbers.tobytes()
    assert ours.reward(batch.gains, batch.cost).tobytes() == theirs.reward(batch.gains, batch.cost).tobytes()


@MANY
@given(schema=both_schemas, lengths=lists_of_lengths, seed=st.integers(0, 999))
def test_a_label_is_nowhere_among_the_inputs(tmp_path, schema, lengths, seed):
    columns = columns_of(schema, lengths, seed)
    flipped = columns | {"gain/label": 1 - columns["gain/label"]}
    first, second = (write(tmp_path / k, schema, lengths, c) for k, c in (("a", columns), ("b", flipped)))
    transforms = Transforms.fit(first, np.arange(len(first)), {"label": 1.0}, min_count=1)
    assert not transforms.reward_is_input
    ours, theirs = transforms.encode(all_of(first).history), transforms.encode(all_of(second).history)
    assert ours.ids.tobytes() == theirs.ids.tobytes()
    assert ours.numbers.tobytes() == theirs.numbers.tobytes()
    assert "label" not in all_of(first).history.previous


SHOP = LogSchema(
    "shop",
    user="u",
    channel="c",
    channels=("a", "b"),
    features=(Feature("place", "categorical"), Feature("size", "categorical"), Feature("price")),
    gains=(Gain("click"), Gain("play", "continuous")),
    cost=Cost("w"),
)


def shop(path, lengths, places=("home", "work"), **columns):
    n = sum(lengths)
    given = {
        "channel": np.zeros(n, dtype=np.int16),
        "feature/place": np.zeros(n, dtype=np.int32),
        "feature/size": np.zeros(n),
        "feature/price": np.zeros(n),
        "gain/click": np.zeros(n, dtype=np.int8),
        "gain/play": np.zeros(n),
        "cost": np.zeros(n),
    } | {("feature/" + k if k in ("place", "size", "price") else "gain/" + k if k in ("click", "play") else k): v
         for k, v in columns.items()}  # fmt: skip
    return write(path, SHOP, lengths, given, categories={"feature/place": list(places)})


def test_ids_by_hand(tmp_path):
    """Seen, rare, unseen, missing and padding are five different things."""
    journeys = shop(
        tmp_path / "j",
        [6, 1],
        place=np.array([1, 1, 0, -1, 1, 0, 0], dtype=np.int32),
        size=np.array([2.5, 2.5, 7.0, np.nan, -1.0, 2.5, 2.5]),
        channel=np.array([1, 0, 1, 0, 0, 1, 1], dtype=np.int16),
    )
    transforms = Transforms.fit(journeys, np.arange(3))
    assert transforms.vocabularies["place"].values == ("work",)  # home was seen once: unknown
    assert transforms.cardinalities == [4, 4, 5]
    ids = transforms.encode(all_of(journeys).history).ids
    assert ids[0, :, 0].tolist() == [FIRST, FIRST, UNKNOWN, BLANK, FIRST, UNKNOWN]
    assert ids[0, :, 1].tolist() == [FIRST, FIRST, UNKNOWN, BLANK, UNKNOWN, FIRST]  # -1 is a number like another
    assert ids[0, :, 2].tolist() == [BLANK, FIRST + 1, FIRST, FIRST + 1, FIRST, FIRST]  # the channel before
    assert ids[1].tolist() == [[UNKNOWN, FIRST, BLANK]] + [[PADDING] * 3] * 5


def test_numbers_by_hand(tmp_path):
    journeys = shop(
        tmp_path / "j",
        [4],
        price=np.array([1.0, 3.0, np.nan, 1e300]),
        click=np.array([1, 0, 1, 1], dtype=np.int8),
        play=np.array([0.0, 4.0, np.nan, 8.0]),
        cost=np.array([1.0, 0.0, 0.5, 2.0]),
    )
    t = Transforms.fit(journeys, np.arange(3), {"click": 1.0, "play": 0.5}, penalty=1.0, statistics=())
    assert t.scales["price"] == Scale(2.0, 1.0)
    assert t.means == {"click": 2 / 3, "play": 2.0}
    assert t.reward_range == (0.0, 2.0)  # of 1 + 0 - 1 and 0 + 2 - 0; the third step has none
    found = t.encode(all_of(journeys, ()).history).numbers[0].T
    one = np.float32(np.log(2))  # one standard deviation, squeezed
    assert found[0:2].tolist() == [[-one, one, 0, np.float32(np.log1p(1e150))], [1, 1, 0, 1]]  # price
    assert found[2:4].tolist() == [[0, one, 0, one], [0, 1, 1, 1]]  # click
    assert found[4:6].tolist() == [[0, -one, one, 0], [0, 1, 1, 0]]  # play
    assert found[8:10].tolist() == [[0, 0, 1, 0], [0, 1, 1, 0]]  # reward


def test_far_numbers_are_kept_in_order_and_near_ones_as_they_are():
    z = np.array([-1e150, -3.0, -1e-6, 0.0, 1e-6, 2.0, 1e150])
    assert (np.diff(squeeze(z)) > 0).all()
    np.testing.assert_allclose(squeeze(-z), -squeeze(z))
    np.testing.assert_allclose(squeeze(z[2:5]), z[2:5], rtol=1e-5)


def test_a_journey_without_a_past_starts_at_the_training_mean(tmp_path):
    """Rates enter as log-odds about it, one for each strength of smoothing."""
    journeys = shop(tmp_path / "j", [4, 4], click=np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=np.int8))
    clicks = Statistic("click", ("user",), "click")
    t = Transforms.fit(journeys, np.arange(8), statistics=(clicks,))
    assert t.means["click"] == 0.5
    count, weak, strong = t.encode(all_of(journeys, (clicks,)).history).numbers[0, :, -3:].T
    past = np.arange(4)
    assert count.tolist() == pytest.approx(np.log1p(past).tolist())
    for rate, k in ((weak, 2), (strong, 20)):
        assert rate.tolist() == pytest.approx(np.log((past + k / 2) / (k / 2)).tolist())
    assert np.abs(strong).max() < np.abs(weak).max()


def test_only_gaps_between_neighbours_among_the_given_steps_are_fitted(tmp_path):
    columns = columns_of(CLOCKED, [4, 2], 0) | {"time": np.array([0.0, 1.0, 10.0, 14.0, 20.0, 21.0])}
    journeys = write(tmp_path / "j", CLOCKED, [4, 2], columns)
    assert Transforms.fit(journeys, [0, 2, 3, 4]).gap_unit == pytest.approx(4.0)  # not 10, nor from user to user
    assert Transforms.fit(journeys, [0, 2, 4]).gap_unit == 1.0


def test_the_gap_is_read_in_the_logs_own_pace(tmp_path):
    """A log in seconds and the same in milliseconds look alike to a network."""
    slow = random_log(tmp_path / "a", CLOCKED, [9] * 8)
    columns = columns_of(CLOCKED, [9] * 8, 0)
    columns |= {name: columns[name] * 1000.0 for name in ("time", "known_at/buy")}
    fast = write(tmp_path / "b", CLOCKED, [9] * 8, columns)
    ours, theirs = (Transforms.fit(j, np.arange(72)).encode(all_of(j).history).numbers for j in (slow, fast))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@MANY
@given(
    train=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=6),
    asked=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=6),
)
def test_numbers_are_finite_for_any_input(tmp_path_factory, train, asked):
    path = tmp_path_factory.mktemp("log")
    n = len(train) + 1
    journeys = shop(path / "a", [n], price=np.array([*train, 1.0]), cost=np.full(n, 1e300))
    transforms = Transforms.fit(journeys, np.arange(n), statistics=())
    other = shop(path / "b", [len(asked)], price=np.array(asked), play=np.array(asked), size=np.array(asked))
    encoded = transforms.encode(all_of(other, ()).history)
    assert np.isfinite(encoded.numbers).all()
    assert np.abs(encoded.numbers).max() <= squeeze(np.array(1e150))


def test_anothers_codes_find_the_same_text(tmp_path):
    trained = shop(tmp_path / "a", [4], ("home", "work"), place=np.array([0, 0, 1, 1], dtype=np.int32))
    transforms = Transforms.fit(trained, np.arange(4))
    other = shop(tmp_path / "b", [4], ("abroad", "work", "home"), place=np.array([0, 1, 2, -1], dtype=np.int32))
    for _ in range(2):  # one log after the other and back
        assert transforms.encode(all_of(other).history).ids[0, :, 0].tolist() == [UNKNOWN, FIRST + 1, FIRST, BLANK]
        assert transforms.encode(all_of(trained).history).ids[0, :, 0].tolist() == [FIRST, FIRST, FIRST + 1, FIRST + 1]


def test_text_in_place_of_numbers_is_refused():
    numbers, text = Vocabulary((1.0, 2.0)), Vocabulary(("x", "y"))
    for vocabulary, raw, strings in ((numbers, np.array([0]), ["x"]), (text, np.array([1.0]), None)):
        with pytest.raises(UserError, match="or the reverse"):
            vocabulary.encode(raw, strings)


def test_a_class_that_is_missing_is_no_class(tmp_path):
    schema = LogSchema("s", user="u", gains=(Gain("mood", "classes"),))
    columns = {"gain/mood": np.array([2, -1, 0, 1], dtype=np.int32)}
    journeys = write(tmp_path / "j", schema, [4], columns, categories={})
    transforms = Transforms.fit(journeys, np.arange(4), statistics=())
    assert transforms.classes == {"mood": 3}
    assert transforms.means == {"mood": 1.0}
    batch = all_of(journeys, ())
    np.testing.assert_array_equal(batch.gains["mood"], [[2, np.nan, 0, 1]])
    mood = transforms.encode(batch.history).ids[0, :, -1]  # an id of its own each: classes have no order
    assert mood.tolist() == [BLANK, FIRST + 2, BLANK, FIRST]


def test_a_fit_without_steps_still_encodes(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, [3, 2])
    transforms = Transforms.fit(journeys, [])
    encoded = transforms.encode(all_of(journeys).history)
    assert np.isfinite(encoded.numbers).all()
    assert json.loads(json.dumps(transforms.to_dict())) == transforms.to_dict()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"features": SHOP.features[1:]}, "place"),
        ({"gains": (Gain("click", known="never"), SHOP.gains[1])}, "click"),
        ({"cost": None}, "cost"),
        ({"channels": ("a", "c")}, "fitted without channel c"),
        ({"time": "t"}, "time"),
    ],
)
def test_another_kind_of_log_is_refused(tmp_path, changed, named):
    transforms = Transforms.fit(shop(tmp_path / "a", [3]), np.arange(3))
    transforms.fits(shop(tmp_path / "b", [5]))
    schema = replace(SHOP, **changed)
    columns = {"channel": np.zeros(2, dtype=np.int16)}
    other = write(tmp_path / "c", schema, [2], columns, categories={})
    with pytest.raises(UserError, match=named):
        transforms.fits(other)
