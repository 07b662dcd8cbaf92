"""Each protocol keeps its promise: who is tested, when, and that a growing log leaves its users where they were."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journey_logs import CLOCKED, CLOCKLESS, columns_of, plain_log, random_log, write

from headrace.errors import UserError
from headrace.journeys.splits import FOLDS, PARTS, split, uniform_of_users
from headrace.journeys.store import Journeys

MANY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def users_in(journeys, mask):
    return set(journeys.user_of_step[mask].tolist())


@pytest.fixture(scope="module")
def clocked(tmp_path_factory) -> Journeys:
    rng = np.random.default_rng(0)
    return random_log(tmp_path_factory.mktemp("log") / "j", CLOCKED, rng.integers(1, 40, 300).tolist())


@pytest.fixture(scope="module")
def clockless(tmp_path_factory) -> Journeys:
    rng = np.random.default_rng(1)
    return random_log(tmp_path_factory.mktemp("log") / "j", CLOCKLESS, rng.integers(1, 40, 300).tolist())


@pytest.mark.parametrize("protocol", ["honest", "users"])
@pytest.mark.parametrize("fold", [None, *range(FOLDS)])
def test_users_are_disjoint(clocked, clockless, protocol, fold):
    for journeys in (clocked, clockless):
        parts = split(journeys, protocol, 3, fold).parts
        seen = [users_in(journeys, parts[p]) for p in PARTS]
        assert sum(len(s) for s in seen) == len(set.union(*seen))


def test_honest_tests_later_steps_than_it_trains_on(clocked):
    found = split(clocked, "honest", 1)
    time = clocked.time
    held_out = found.parts["validation"] | found.parts["test"]
    assert time[found.parts["train"]].max() < time[held_out].min()
    earlier = time < time[held_out].min()
    assert earlier.mean() <= 0.75  # a tie at the cut is later
    of_train_users = np.isin(clocked.user_of_step, list(users_in(clocked, found.parts["train"])))
    assert (found.parts["train"] == (earlier & of_train_users)).all()


def test_honest_without_a_clock_takes_whole_journeys(clockless):
    parts = split(clockless, "honest", 1).parts
    assert (parts["train"] ^ parts["validation"] ^ parts["test"]).all()


@pytest.mark.parametrize("protocol", ["honest", "users"])
def test_five_folds_test_each_later_step_once(clocked, clockless, protocol):
    for journeys in (clocked, clockless):
        tested = sum(split(journeys, protocol, 2, fold).parts["test"].astype(int) for fold in range(FOLDS))
        later = np.ones(len(journeys), dtype=bool)
        if protocol == "honest" and journeys.time is not None:
            later = journeys.time >= np.sort(journeys.time)[int(0.75 * len(journeys))]
        assert (tested == later).all()


@pytest.mark.parametrize(("protocol", "shares"), [("honest", (0.6, 0.15, 0.25)), ("users", (0.8, 0.1, 0.1))])
def test_shares_of_users_are_as_printed(tmp_path, protocol, shares):
    journeys = plain_log(tmp_path / "j", [1] * 20_000)
    parts = split(journeys, protocol).parts
    for part, share in zip(PARTS, shares, strict=True):
        assert parts[part].mean() == pytest.approx(share, abs=0.012)
    fold = split(journeys, protocol, fold=2).parts
    assert fold["test"].mean() == pytest.approx(0.2, abs=0.012)
    assert fold["validation"].sum() / fold["train"].sum() == pytest.approx(shares[1] / shares[0], abs=0.02)


@pytest.mark.parametrize("kind", ["whole numbers", "negative numbers", "text"])
def test_a_growing_log_leaves_its_users_where_they_were(tmp_path, kind):
    """Text ids are stored as places in a sorted list, which shift as users join; the id itself must decide."""

    def log(path, ids):
        if kind == "text":
            names = sorted(f"user {i}" for i in ids)
            schema = replace(CLOCKLESS, features=(), gains=(), cost=None, propensity=None)
            columns = {"channel": np.zeros(len(names), dtype=np.int16)}
            return write(path, schema, [1] * len(names), columns, np.arange(len(names)), {"users": names})
        return plain_log(path, [1] * len(ids), users=np.array(ids) * (-1 if kind == "negative numbers" else 1))

    few = log(tmp_path / "few", range(0, 400, 2))
    many = log(tmp_path / "many", range(400))
    for protocol, fold in (("honest", None), ("users", None), ("users", 3)):
        part_of = []
        for journeys in (few, many):
            parts = split(journeys, protocol, 5, fold).parts
            part_of.append({u: p for p in PARTS for u in journeys.users[parts[p]].tolist()})
        assert all(part_of[1][u] == part for u, part in part_of[0].items())
        assert len(set(part_of[0].values())) == 3


def test_the_seed_and_the_purpose_deal_the_users_anew(tmp_path):
    journeys = plain_log(tmp_path / "j", [1] * 2_000)
    draws = [uniform_of_users(journeys, s, p) for s, p in ((0, "a"), (1, "a"), (0, "b"))]
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 0.1
    assert all(d.min() >= 0 and d.max() < 1 for d in draws)
    assert (uniform_of_users(journeys, 0, "a") == draws[0]).all()


@MANY
@given(lengths=st.lists(st.integers(0, 40), min_size=3, max_size=12))
def test_temporal_takes_the_last_fifth_of_each_journey(tmp_path, lengths):
    journeys = plain_log(tmp_path / "j", [*lengths, 10])
    parts = split(journeys, "temporal").parts
    assert (parts["train"] ^ parts["validation"] ^ parts["test"]).all()
    for begin, end in zip(journeys.offsets[:-1], journeys.offsets[1:], strict=True):
        n = int(end - begin)
        counts = [int(parts[p][begin:end].sum()) for p in PARTS]
        assert counts[0] == -(-n * 8 // 10)
        assert counts[0] + counts[1] == -(-n * 9 // 10)
        place = [np.flatnonzero(parts[p][begin:end]) for p in PARTS]
        assert np.concatenate(place).tolist() == list(range(n))  # in order of time


def test_time_cuts_at_shares_of_the_steps(tmp_path):
    journeys = plain_log(tmp_path / "j", [50, 50], time=[*range(50), *range(50)])
    parts = split(journeys, "time").parts
    assert [int(parts[p].sum()) for p in PARTS] == [60, 20, 20]
    assert journeys.time[parts["train"]].max() < journeys.time[parts["validation"]].min()
    fuse = split(journeys, "time", fractions=(0.9, 0.0, 0.1)).parts
    assert [int(fuse[p].sum()) for p in PARTS] == [90, 0, 10]


@MANY
@given(lengths=st.lists(st.integers(5, 30), min_size=4, max_size=8), seed=st.integers(0, 99))
def test_no_session_straddles_a_cut_in_time(tmp_path, lengths, seed):
    rng = np.random.default_rng(seed)
    schema = replace(CLOCKED, session="visit")
    columns = columns_of(schema, lengths, seed)
    columns["time"] = np.concatenate([np.sort(rng.random(k)) for k in lengths])
    columns["known_at/buy"] = columns["time"]
    visit = np.concatenate([np.cumsum(rng.random(k) < 0.2) for k in lengths])
    columns["session"] = np.where(rng.random(len(visit)) < 0.1, -1, visit)  # -1: none
    journeys = write(tmp_path / "j", schema, lengths, columns)
    try:
        parts = split(journeys, "time", fractions=(0.5, 0.25, 0.25)).parts
    except UserError as error:  # a few long sessions may leave a part empty, which is refused
        assert "leaves no step" in str(error)
        return
    part = np.select([parts[p] for p in PARTS], [0, 1, 2], -1)
    assert part.min() == 0
    starts = {}
    for row in range(len(journeys)):
        user, session = int(journeys.user_of_step[row]), int(columns["session"][row])
        key = (user, session) if session >= 0 else row
        starts.setdefault(key, (columns["time"][row], part[row]))
        assert starts[key][1] == part[row]
    begin, in_part = np.array(list(starts.values())).T
    assert begin[in_part == 0].max() < begin[in_part > 0].min()
    assert begin[in_part < 2].max() < begin[in_part == 2].min()


def test_paper_samples_as_the_released_code_did(tmp_path):
    lengths = [21, 22, 23, 60, 5, 40]
    journeys = plain_log(tmp_path / "j", lengths)
    found = split(journeys, "paper", 4)
    windows = found.windows
    assert [len(windows[p]) for p in PARTS] == [3200, 400, 400]
    assert found.window_length == 20
    begin = np.concatenate([windows[p] for p in PARTS])
    user = journeys.users_of(begin)
    assert set(user.tolist()) == {1, 2, 3, 5}  # those of 22 rows or more
    assert (begin + 20 <= journeys.offsets[user + 1]).all()
    assert np.bincount(user)[[1, 2, 3, 5]] == pytest.approx([1000] * 4, abs=120)  # each user alike
    assert set((begin - journeys.offsets[user])[user == 1].tolist()) == {0, 1, 2}
    for part in PARTS:
        rows = (windows[part][:, None] + np.arange(20)).ravel()
        assert set(found.rows(part).tolist()) == set(rows.tolist())
    assert found.declared == ()


@pytest.mark.parametrize("protocol", ["honest", "users", "temporal", "time", "paper"])
def test_a_split_is_a_function_of_log_protocol_and_seed(clocked, protocol):
    first, again = split(clocked, protocol, 1), split(Journeys(clocked.path), protocol, 1)
    assert first.fingerprint == again.fingerprint
    assert all((first.parts[p] == again.parts[p]).all() for p in PARTS)
    if protocol in ("honest", "users", "paper"):
        assert split(clocked, protocol, 2).fingerprint != first.fingerprint
        assert not all((split(clocked, protocol, 2).parts[p] == first.parts[p]).all() for p in PARTS)
    if protocol == "users":
        folds = {split(clocked, protocol, 1, fold).fingerprint for fold in (None, *range(FOLDS))}
        assert len(folds) == FOLDS + 1


def test_parts_stay_what_they_were(tmp_path):
    """A change here moves every split that was ever published: it wants a reason in the changelog."""
    journeys = plain_log(tmp_path / "j", [30] * 40, time=np.tile(np.arange(30.0), 40))
    found = {}
    for protocol in ("honest", "users", "temporal", "time"):  # paper's draws are numpy's to change
        parts = split(journeys, protocol, 7).parts
        found[protocol] = hashlib.sha256(b"".join(np.packbits(parts[p]).tobytes() for p in PARTS)).hexdigest()[:8]
    assert found == {"honest": "b3755ea7", "users": "3fed5b80", "temporal": "d319827a", "time": "a9ffb204"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("hones",), "unknown protocol 'hones', did you mean 'honest'?"),
        (("temporal", 0, 1), "folds 0 to 4 exist for the protocols honest and users"),
        (("users", 0, 5), "fold 5: folds 0 to 4"),
        (("time",), "protocol time needs a clock and this log has none; use honest, users or temporal"),
        (("paper",), "users of 22 or more steps and there are none"),
        (("users",), "leaves no step for"),
    ],
)
def test_what_cannot_be_split_is_told_in_one_line(tmp_path, call, message):
    journeys = plain_log(tmp_path / "j", [3, 2])
    with pytest.raises(UserError) as caught:
        split(journeys, *call)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_log_is_told_in_one_line(tmp_path):
    for protocol in ("honest", "users", "temporal", "time", "paper"):
        with pytest.raises(UserError, match="holds no step"):
            split(plain_log(tmp_path / "j", [], time=[]), protocol)


def test_shares_that_do_not_add_up_are_refused(tmp_path):
    journeys = plain_log(tmp_path / "j", [9], time=range(9))
    for fractions in ((0.5, 0.1, 0.1), (1.2, -0.1, -0.1)):
        with pytest.raises(UserError, match="add up to 1"):
            split(journeys, "time", fractions=fractions)


def test_a_part_that_does_not_exist_proposes_the_nearest(clockless):
    with pytest.raises(UserError, match="did you mean 'validation'"):
        split(clockless, "users").rows("valid")
