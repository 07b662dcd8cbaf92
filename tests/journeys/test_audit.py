"""The audit finds each leak it names, with rows and columns, and lets honest splits of honest logs pass."""

from dataclasses import replace

import numpy as np
import pytest
from journey_logs import CLOCKED, CLOCKLESS, columns_of, declared, random_log, write

from headrace.journeys.audit import Finding, audit, content_hash, has_leak
from headrace.journeys.prepare import prepare
from headrace.journeys.readers.samples import CRITEO, KUAIRAND
from headrace.journeys.schema import Candidates, Feature, Gain, LogSchema
from headrace.journeys.splits import split
from headrace.journeys.store import JourneysWriter
from headrace.journeys.transforms import Transforms

CRITEO_FILE = "criteo_attribution/criteo_sequence.parquet"
KUAIRAND_FILE = "kuairand_random/kuairand_sequence.parquet"
STAMPED = {"conversion": "after", "attribution": "after", "click_nb": "after"}


@pytest.fixture(scope="module")
def criteo(shared_data, tmp_path_factory):
    return prepare(shared_data / CRITEO_FILE, CRITEO, tmp_path_factory.mktemp("criteo") / "j")


@pytest.fixture(scope="module")
def kuairand(shared_data, tmp_path_factory):
    return prepare(shared_data / KUAIRAND_FILE, KUAIRAND, tmp_path_factory.mktemp("kuairand") / "j")


@pytest.fixture(scope="module")
def pure(shared_data, tmp_path_factory):
    return prepare(shared_data / "kuairand_pure", "kuairand-pure", tmp_path_factory.mktemp("pure") / "j")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    lengths = np.random.default_rng(0).integers(5, 30, 200).tolist()
    return random_log(tmp_path_factory.mktemp("log") / "j", CLOCKED, lengths)


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {f.check: f.verdict for f in findings}


def of(findings: list[Finding], check: str) -> Finding:
    return next(f for f in findings if f.check == check)


@pytest.mark.parametrize("sample", ["criteo", "kuairand"])
def test_the_released_sampling_leaks_on_both_samples(request, sample):
    journeys = request.getfixturevalue(sample)
    for seed in (0, 1):
        found = audit(journeys, split(journeys, "paper", seed))
        rows = of(found, "duplicate rows")
        assert rows.verdict == "leak" and rows.share >= 0.6
        assert of(found, "duplicate windows").share >= 0.15
        assert of(found, "shared users").verdict == "leak"
        assert has_leak(found)


@pytest.mark.parametrize(
    ("sample", "protocol", "notes"),
    [
        ("criteo", "honest", set()),
        ("criteo", "users", set()),
        ("criteo", "temporal", {"shared users", "equal rows across parts"}),
        ("kuairand", "honest", set()),
        ("kuairand", "users", {"time overlap"}),
        ("kuairand", "temporal", {"shared users", "time overlap"}),
        ("kuairand", "time", {"shared users"}),
        ("pure", "honest", set()),
        ("pure", "users", {"time overlap"}),
        ("pure", "temporal", {"shared users", "time overlap"}),
        ("pure", "time", {"shared users"}),
    ],
)
def test_the_other_protocols_pass_with_declared_overlaps_as_notes(request, sample, protocol, notes):
    journeys = request.getfixturevalue(sample)
    found = audit(journeys, split(journeys, protocol))
    always = (
        {"look-ahead columns", "twins in the history"} if sample == "criteo" else set()
    )  # labels; repeated impressions
    assert {f.check for f in found if f.verdict != "clean"} == notes | always
    assert not has_leak(found)


def test_each_fold_passes(kuairand):
    for fold in range(5):
        assert not has_leak(audit(kuairand, split(kuairand, "honest", 0, fold)))


@pytest.mark.parametrize("column", list(STAMPED))
@pytest.mark.parametrize("role", ["gain", "feature after", "feature before"])
def test_criteos_stamped_columns_are_found_wherever_an_input_uses_them(shared_data, tmp_path, column, role):
    if role == "gain":
        schema = declared(CRITEO, {column: "after"})
    else:
        feature = Feature(column, "numeric", role.split()[1])
        gains = tuple(g for g in CRITEO.gains if g.name != column)
        if column == "conversion":  # something must be left that they tell of
            gains = tuple(replace(g, known="never") for g in gains)
        schema = replace(CRITEO, gains=gains, features=(*CRITEO.features, feature))
    journeys = prepare(shared_data / CRITEO_FILE, schema, tmp_path / "j")
    found = audit(journeys, split(journeys, "users"))
    leaks = [f for f in found if f.verdict == "leak"]
    assert [f.check for f in leaks] == ["look-ahead columns"]
    assert leaks[0].columns[0] == column
    assert "declare it known = 'never'" in leaks[0].detail


def test_kuairands_outcomes_are_their_own_steps(pure):
    assert of(audit(pure, split(pure, "honest")), "look-ahead columns").verdict == "clean"
    assert pure.schema.gain("is_like").known == pure.schema.gain("is_follow").known == "after"


def test_labels_that_look_ahead_are_a_note(criteo):
    note = of(audit(criteo, split(criteo, "users")), "look-ahead columns")
    assert note.verdict == "note"
    assert note.columns == ("conversion", "attribution", "click_nb")


def test_a_test_row_that_is_trained_on_is_named(log):
    found = split(log, "users")
    row = int(found.rows("test")[3])
    found.parts["train"][row] = True
    told = of(audit(log, found), "duplicate rows")
    assert (told.verdict, told.rows) == ("leak", (row,))
    assert told.share == pytest.approx(1 / (found.parts["test"].sum() + found.parts["validation"].sum()))


def test_a_row_copied_into_the_training_part_is_named(tmp_path):
    """A log line written twice, its copies on both sides of a cut."""
    lengths = [10] * 30
    columns = columns_of(CLOCKED, lengths, 1)
    columns["time"] = np.tile(np.arange(10.0), 30)
    for name, values in columns.items():
        if not name.startswith("user/"):
            values[7] = values[8]  # of the first user: 7 is the last of train, 8 of validation
    journeys = write(tmp_path / "j", CLOCKED, lengths, columns)
    told = of(audit(journeys, split(journeys, "temporal")), "equal rows across parts")
    assert (told.verdict, told.rows) == ("leak", (8,))


def test_a_user_shared_under_users_is_named(log):
    found = split(log, "users")
    user = int(log.user_of_step[found.rows("test")[0]])
    begin = int(log.offsets[user])
    found.parts["test"][begin], found.parts["train"][begin] = False, True
    told = of(audit(log, found), "shared users")
    assert (told.verdict, told.rows) == ("leak", (begin,))


def test_training_after_the_test_is_named_under_honest(log):
    found = split(log, "honest")
    late = int(np.flatnonzero(~found.parts["train"] & (log.time == log.time.max()))[0])
    users = np.repeat(log.user_of_step == log.user_of_step[late], 1)
    for part in ("validation", "test"):
        found.parts[part][users] = False
    found.parts["train"][late] = True
    told = of(audit(log, found), "time overlap")
    assert told.verdict == "leak"
    assert told.share == 1.0


def test_a_session_that_lasts_past_the_cut_in_time_is_no_leak(tmp_path):
    lengths = [12] * 20
    schema = replace(CLOCKED, session="visit")
    columns = columns_of(schema, lengths, 3)
    columns["time"] = np.concatenate([u + 5.0 * np.arange(12) for u in range(20)])
    columns["session"] = np.tile(np.repeat([0, 1, 2], 4), 20)
    journeys = write(tmp_path / "j", schema, lengths, columns)
    found = split(journeys, "time")
    held_out = found.parts["validation"] | found.parts["test"]
    assert journeys.time[found.parts["train"]].max() > journeys.time[held_out].min()  # sessions under way at the cut
    assert of(audit(journeys, found), "time overlap").verdict == "clean"


@pytest.mark.parametrize("schema", [CLOCKED, CLOCKLESS])
@pytest.mark.parametrize("categories", ["embedded", "numbers", "both"])
def test_transforms_fitted_on_all_rows_are_found(tmp_path, schema, categories):
    lengths = np.random.default_rng(2).integers(5, 30, 100).tolist()
    journeys = random_log(tmp_path / "j", schema, lengths)
    found = split(journeys, "users")
    honest = Transforms.fit(journeys, found.rows("train"), {"click": 1.0}, 0.2, categories=categories, min_count=1)
    assert of(audit(journeys, found, honest), "transforms").verdict == "clean"
    assert of(audit(journeys, found, Transforms.from_dict(honest.to_dict())), "transforms").verdict == "clean"
    everything = Transforms.fit(
        journeys, np.arange(len(journeys)), {"click": 1.0}, 0.2, categories=categories, min_count=1
    )
    told = of(audit(journeys, found, everything), "transforms")
    assert told.verdict == "leak"
    assert {"means/click", "scales/price"} <= set(told.columns)


def test_transforms_of_text_alone_need_no_embedding(tmp_path):
    schema = LogSchema("s", user="u", features=(Feature("place", "categorical"),), gains=(Gain("click"),))
    columns = {"feature/place": np.arange(300, dtype=np.int32) % 3, "gain/click": np.arange(300, dtype=np.int8) % 2}
    categories = {"feature/place": ["home", "way", "work"]}
    journeys = write(tmp_path / "j", schema, [3] * 100, columns, categories=categories)
    found = split(journeys, "users")
    honest = Transforms.fit(journeys, found.rows("train"), categories="numbers")
    assert of(audit(journeys, found, honest), "transforms").verdict == "clean"


@pytest.mark.parametrize(("every", "verdict"), [(5, "leak"), (100, "note")])
def test_duplicates_that_were_kept_are_counted_and_named(tmp_path, every, verdict):
    lengths = [10] * 100
    columns = columns_of(CLOCKED, lengths, 4)
    columns["time"] = np.tile(np.arange(10.0), 100)
    copies = np.arange(3, 1000, every)
    for name, values in columns.items():
        if not name.startswith("user/"):
            values[copies] = values[copies - 1]
    journeys = write(tmp_path / "j", CLOCKED, lengths, columns)
    told = of(audit(journeys, split(journeys, "users")), "twins in the history")
    assert (told.verdict, told.share) == (verdict, 1 / every)
    assert told.rows == tuple(copies[:5].tolist())


def test_lists_tell_steps_apart(tmp_path):
    """Two steps equal but for the items of their lists, or the order of these, are no twins."""
    schema = LogSchema("lists", user="u", time="t", gains=(Gain("click"),), candidates=Candidates("item"))
    with JourneysWriter(tmp_path / "j", schema) as writer:
        writer.append(
            np.array([1]),
            np.array([5]),
            {"time": np.full(5, 1.0), "gain/click": np.zeros(5, dtype=np.int8)},
            {"item/id": np.array([1, 2, 2, 1, 1, 1, 2])},
            np.array([2, 2, 1, 0, 2]),
        )
        journeys = writer.close()
    hashes = content_hash(journeys)
    assert len(set(hashes.tolist())) == 4
    assert hashes[0] == hashes[4]


def test_large_whole_numbers_tell_steps_apart(tmp_path):
    schema = LogSchema("ids", user="u", features=(Feature("item", "categorical", "after"),))
    columns = {"feature/item": np.array([2**60, 2**60 + 1])}
    assert len(set(content_hash(write(tmp_path / "j", schema, [2], columns, categories={})).tolist())) == 2


def test_a_finding_is_plain_values(log):
    for finding in audit(log, split(log, "users")):
        told = finding.to_dict()
        assert set(told) == {"check", "verdict", "detail", "share", "rows", "columns"}
        assert "\n" not in finding.detail
