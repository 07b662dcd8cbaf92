"""Going on from a run: ids in use stay what they are, what came since is learnt, and forgetting keeps its bound."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from channel_logs import columns_of, small_log
from hypothesis import given
from hypothesis import strategies as st

from headrace.channel.incremental import Incremental, IncrementalConfig, Parent, loss_of
from headrace.channel.methods import load
from headrace.channel.mtorl import MTORL, PRESETS, Learner, MTORLConfig
from headrace.errors import UserError
from headrace.journeys.onward import PAST, onward, rehearsing
from headrace.journeys.scales import BLANK, FIRST, UNKNOWN, Vocabulary
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.journeys.views import View, known_for_training, view
from headrace.learn.run import Run
from headrace.nn.embed import Piecewise
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario

USERS = 60


def before(journeys: Journeys, time: float, path: Path) -> Journeys:
    """The log as it stood at a time."""
    kept = np.asarray(journeys.time) < time
    lengths = np.bincount(journeys.user_of_step[kept], minlength=journeys.n_users)
    seen = np.flatnonzero(lengths)
    values = {n: v[seen] if n.startswith("user/") else v[kept] for n, v in columns_of(journeys).items()}
    with JourneysWriter(path, journeys.schema, journeys.categories) as writer:
        writer.append(journeys.column("users")[seen], lengths[seen], values)
        return writer.close()


def stream(path: Path) -> Journeys:
    """Eight steps a user; from the sixth on topics that were not there before: 7 (often) and 9 (once)."""
    topic = columns_of(small_log(path.with_name("plain"), USERS))["feature/topic"]
    late = np.arange(len(topic)) % 8 >= 5
    topic[late & (topic == 0)] = 7
    users = np.arange(len(topic)) // 8
    first = onward(small_log(path.with_name("plain"), USERS), "users", 0, None, -np.inf)
    learner = int(users[first.rows("train")[0]])
    topic[learner * 8 + 6] = 9
    return small_log(path, USERS, change={"feature/topic": topic})


def first_run(journeys: Journeys, path: Path, **change: object) -> Run:
    config = MTORLConfig(**(PRESETS["tiny"] | {"epochs": 4, "categories": "embedded"} | change))
    split = journeys.split("users", 0)
    settings = {"method": "mtorl", "config": dataclasses.asdict(config)}
    run = Run.create(path, {**settings, "protocol": "users", "split_seed": 0, "fold": None})
    MTORL(config).fit(journeys, split, run, progress=False)
    return run


def gone_on(parent: Run, journeys: Journeys, path: Path, **change: float) -> tuple[MTORL, Run, Split]:
    origin = Parent.of(parent)
    split = origin.split(journeys)
    fitting = Incremental(origin, IncrementalConfig(**({"epochs": 1, "forget": 0.05} | change)))  # type: ignore[arg-type]
    run = Run.create(path, {**fitting.settings(), "protocol": "users", "split_seed": 0, "fold": None})
    return fitting.fit(journeys, split, run, progress=False), run, split


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Journeys, Journeys]:
    """A log as it stood at time 5, and whole."""
    folder = tmp_path_factory.mktemp("stream")
    whole = stream(folder / "whole")
    return before(whole, 5, folder / "old"), whole


@pytest.fixture(scope="module")
def parent(logs: tuple[Journeys, Journeys], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return first_run(logs[0], tmp_path_factory.mktemp("parent") / "run")


NUMBERS = st.sets(st.integers(-5, 30).map(float), max_size=8)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_ids_in_use_stay_what_they_are_however_often_a_vocabulary_grows(
    old: set[float], seen: set[float], later: set[float]
):
    v = Vocabulary(tuple(sorted(old)))
    grown = v.extend(Vocabulary(tuple(sorted(seen)))).extend(Vocabulary(tuple(sorted(later))))
    known = [*sorted(old), *sorted(seen - old), *sorted(later - seen - old)]
    ids = grown.encode(np.array(known), None).tolist()
    assert ids == list(range(FIRST, FIRST + len(known)))
    assert grown.grown == len(known) - len(old)
    assert grown.encode(np.array([100.0, np.nan]), None).tolist() == [UNKNOWN, BLANK]


def test_words_that_join_stand_behind_and_other_words_stay_unknown():
    grown = Vocabulary(("b", "d")).extend(Vocabulary(("a", "b")))
    assert grown.encode(np.array([0, 1, 2, 3, -1]), ["a", "b", "c", "d"]).tolist() == [5, 3, UNKNOWN, 4, BLANK]


def test_a_category_joins_when_it_was_seen_often_enough(logs: tuple[Journeys, Journeys], parent: Run, tmp_path: Path):
    method, run, _ = gone_on(parent, logs[1], tmp_path / "run")
    old, new = parent.read_json("transforms.json"), run.read_json("transforms.json")
    assert method.transforms is not None
    assert new["vocabularies"]["topic"] == [*old["vocabularies"]["topic"], 7.0]  # and not 9, which was seen once
    assert method.transforms.vocabularies["topic"].encode(np.array([9.0]), None) == UNKNOWN
    assert new["grown"] == {"topic": 1} == run.read_json("stream.json")["new_ids"]
    for kept in ("scales", "means", "knots", "context_knots", "reward_range", "gap_unit"):
        assert new[kept] == old[kept], kept


def test_new_ids_change_nothing_before_anything_is_learnt_of_them(
    logs: tuple[Journeys, Journeys], parent: Run, tmp_path: Path
):
    """A rate so high that only the parent's weights keep the bound."""
    method, run, _ = gone_on(parent, logs[1], tmp_path / "run", learning_rate=0.5, pull=0.0, forget=0.0)
    assert run.read_json("stream.json")["share"] == 0.0
    old, new = parent.read_weights("model.safetensors"), run.read_weights("model.safetensors")
    grown = [name for name in old if len(old[name]) < len(new[name])]
    assert len(grown) == 2  # the topic's table, among the inputs and in the context
    for name in old:
        assert new[name][: len(old[name])].equal(old[name]), name
    for name in grown:
        assert new[name][-1].equal(old[name][UNKNOWN])
    everything = np.ones(logs[1].n_steps, dtype=bool)
    ours, theirs = method.predict(logs[1], everything), MTORL.load(parent).predict(logs[1], everything)
    assert ours.action.tobytes() == theirs.action.tobytes()
    assert ours.reward_in_context["click"].tobytes() == theirs.reward_in_context["click"].tobytes()


def test_a_new_id_is_told_from_the_unknown_one_once_it_was_learnt(
    logs: tuple[Journeys, Journeys], parent: Run, tmp_path: Path
):
    _, run, _ = gone_on(parent, logs[1], tmp_path / "run", learning_rate=0.02, forget=9.0, pull=0.0, epochs=8)
    weights = run.read_weights("model.safetensors")
    assert run.read_json("stream.json")["share"] > 0
    rows = next(w for name, w in weights.items() if name.startswith("inputs.tables.1"))
    assert not rows[-1].equal(rows[UNKNOWN])


def test_by_default_a_new_id_is_a_number_beyond_those_seen_and_no_vocabulary_grows(
    logs: tuple[Journeys, Journeys], tmp_path: Path
):
    """Ids that a log stores as numbers are read as numbers: 7, which is new, as more than 3, in the bin of 3."""
    first = first_run(logs[0], tmp_path / "first", categories=MTORLConfig().categories)
    method, run, _ = gone_on(first, logs[1], tmp_path / "run", forget=9.0)
    assert run.read_json("stream.json")["share"] > 0
    assert run.read_json("stream.json")["new_ids"] == {}
    assert run.read_json("transforms.json") == first.read_json("transforms.json")  # so old ids are read as they were
    old, new = first.read_weights("model.safetensors"), run.read_weights("model.safetensors")
    assert {name: w.shape for name, w in old.items()} == {name: w.shape for name, w in new.items()}

    transforms, whole = method.transforms, logs[1]
    assert transforms is not None and transforms.vocabularies == {}
    everything = np.ones(whole.n_steps, dtype=bool)
    batch = next(View(whole, everything, None, transforms.statistics).batches(USERS))
    topic, numbers = batch.context["topic"][batch.label], transforms.encode_context(batch).numbers[batch.label]
    bins = Piecewise(transforms.context_knots)
    binned = bins(torch.from_numpy(numbers)).numpy()[:, : bins.width_of(1)]  # the topic stands first
    value = {int(t): numbers[topic == t][0, 0] for t in np.unique(topic)}
    place = {int(t): tuple(binned[topic == t][0]) for t in np.unique(topic)}
    assert all((numbers[topic == t][:, 0] == value[t]).all() for t in value)
    assert value[0] < value[1] < value[2] < value[3] < value[7]
    assert place[3] == place[7] == (1.0,) * bins.width_of(1)
    assert len({place[t] for t in (0, 1, 2, 3)}) == 4
    found = method.predict(whole, everything)
    assert np.isfinite(found.action).all() and np.isfinite(found.reward_in_context["click"]).all()


@pytest.mark.parametrize("rate", [1e-3, 0.02, 0.1])
def test_no_more_is_forgotten_than_is_allowed(
    logs: tuple[Journeys, Journeys], parent: Run, tmp_path: Path, rate: float
):
    bound = 0.002
    method, run, split = gone_on(parent, logs[1], tmp_path / "run", learning_rate=rate, forget=bound, epochs=3)
    found = {}
    for name, of in (("parent", MTORL.load(parent)), ("run", method)):
        assert of.network is not None and of.transforms is not None
        past = view(logs[1], split, PAST)
        found[name] = loss_of(
            Learner(of.network, of.transforms, past, past, dataclasses.replace(of.config, average=None)), past
        )
    for part in ("policy", "reward"):
        rise = found["run"][part] - found["parent"][part]
        assert rise <= bound + 1e-6, part
        assert run.read_json("stream.json")["forgotten"][part] == pytest.approx(max(0.0, rise), abs=1e-6)


def test_what_a_chain_forgets_adds_up(logs: tuple[Journeys, Journeys], parent: Run, tmp_path: Path):
    middle = before(logs[1], 7, tmp_path / "middle")
    _, second, _ = gone_on(parent, middle, tmp_path / "second", learning_rate=0.02, forget=0.2, epochs=3)
    told = second.read_json("stream.json")
    assert told["until"] > Parent.of(parent).until
    spent = told["forgotten"] | {"policy": 0.5}
    second.write_json("stream.json", told | {"forgotten": spent})
    _, third, _ = gone_on(second, logs[1], tmp_path / "third", learning_rate=0.02, forget=0.2, epochs=3)
    last = third.read_json("stream.json")
    assert last["share"] == 0.0  # the allowance is spent
    assert last["forgotten"] == spent


def test_a_policy_that_prefers_relative_to_a_reference_goes_on_relative_to_its_parent(
    logs: tuple[Journeys, Journeys], tmp_path: Path
):
    first = first_run(logs[0], tmp_path / "first", preference="reference", epochs=1)
    _, run, _ = gone_on(first, logs[1], tmp_path / "run")
    at_start = run.read_json("stream.json")["measured"][0]
    assert at_start["share"] == 0.0
    assert at_start["new"]["preference"] == pytest.approx(np.log(2), abs=1e-5)  # it is its own reference


def test_only_what_came_since_is_a_label_and_held_out_users_stay_held_out(logs: tuple[Journeys, Journeys], parent: Run):
    whole = logs[1]
    split = Parent.of(parent).split(whole)
    first = whole.split("users", 0)
    for part in ("train", "validation", "test"):
        assert np.array_equal(split.parts[part], first.parts[part] & (np.asarray(whole.time) >= 5)), part
    assert np.array_equal(split.parts[PAST], first.parts["validation"] & (np.asarray(whole.time) < 5))
    drawn = rehearsing(whole, split, 0.5, 3).parts["train"] & ~split.parts["train"]
    assert drawn.sum() == round(0.5 * split.parts["train"].sum())
    assert (drawn <= first.parts["train"]).all()


def test_an_outcome_that_is_still_open_is_no_label_and_is_one_when_it_is_settled(tmp_path: Path):
    day = 86_400_000.0
    log = simulate(Scenario.load("ads"), 60, 24, "logging", 0, tmp_path / "log")
    time = np.asarray(log.time)
    window, end = log.schema.label_window, time.max()
    assert window is not None
    until = end - 2 * day
    split = onward(log, "users", 0, None, until)
    settled = time + window
    open_ = settled > end
    assert np.array_equal(known_for_training(log, split, "conversion"), ~open_)
    for part in ("train", "validation"):
        rows = split.rows(part)
        assert (time[rows] >= until).any() and (time[rows] < until).any()
        assert ((time[rows] >= until) | ((settled[rows] >= until) & (settled[rows] <= end))).all()
        for batch in view(log, split, part).batches(16):
            at = batch.rows[batch.label]
            assert np.isnan(batch.gains["conversion"][batch.label]).tolist() == open_[at].tolist()
            assert not np.isnan(batch.gains["click"][batch.label]).any()


def test_the_same_run_log_and_seed_give_the_same_bytes(logs: tuple[Journeys, Journeys], parent: Run, tmp_path: Path):
    for name in ("one", "two"):
        gone_on(parent, logs[1], tmp_path / name)
    gone_on(parent, logs[1], tmp_path / "other", seed=1)
    for name in (
        "config.json",
        "transforms.json",
        "model.safetensors",
        "calibrators.json",
        "stream.json",
        "metrics.jsonl",
    ):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert (tmp_path / "one" / "metrics.jsonl").read_bytes() != (tmp_path / "other" / "metrics.jsonl").read_bytes()


def test_a_run_that_went_on_is_loaded_as_any(logs: tuple[Journeys, Journeys], parent: Run, tmp_path: Path):
    method, run, split = gone_on(parent, logs[1], tmp_path / "run", forget=9.0)
    again = load(Run.open(run.path))
    ours, theirs = method.predict(logs[1], split.parts["test"]), again.predict(logs[1], split.parts["test"])
    assert ours.action.tobytes() == theirs.action.tobytes()


def test_a_log_that_tells_nothing_new_is_refused(logs: tuple[Journeys, Journeys], parent: Run):
    with pytest.raises(UserError, match="give a longer log"):
        Parent.of(parent).split(logs[0])


def test_a_new_channel_is_refused(logs: tuple[Journeys, Journeys], parent: Run, tmp_path: Path):
    more = dataclasses.replace(logs[1].schema, channels=("a", "b", "c", "d"))
    with JourneysWriter(tmp_path / "more", more) as writer:
        lengths = np.diff(logs[1].offsets)
        writer.append(logs[1].column("users"), lengths, columns_of(logs[1]))
        journeys = writer.close()
    with pytest.raises(UserError, match="channel d is new"):
        gone_on(parent, journeys, tmp_path / "run")


def test_a_protocol_that_holds_no_users_out_is_refused(logs: tuple[Journeys, Journeys]):
    with pytest.raises(UserError, match="protocol temporal holds none"):
        onward(logs[1], "temporal", 0, None, 5.0)


@pytest.mark.parametrize("change", [{"forget": -1.0}, {"epochs": 0}, {"pull": 5.0, "learning_rate": 0.5}])
def test_a_setting_out_of_range_is_refused(change: dict[str, float]):
    with pytest.raises(UserError, match="incremental config"):
        IncrementalConfig(**change)  # type: ignore[arg-type]
