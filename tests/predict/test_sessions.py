"""Sessions and tables: what follows what, and where it ends."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from item_logs import SCHEMA, by_users, columns_of, item_log

from headrace.errors import UserError
from headrace.journeys.store import JourneysWriter
from headrace.predict.features import Features, known_gains, statistics
from headrace.predict.sessions import lengths, rule_of, sessions
from headrace.predict.table import Table, table
from headrace.predict.tasks import keys_of, parents, parse, tasks_of


def test_sessions_by_each_rule(tmp_path: Path):
    log = item_log(tmp_path / "j", users=2, steps=4)  # at 0, 100, 200, 300 s; two sessions of two rows
    every = np.arange(8)
    assert sessions(log, every, "log").tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sessions(log, every, "user").tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert sessions(log, every, "gap", 2.0).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert sessions(log, every, "gap", 1.0).tolist() == list(range(8))
    later = item_log(tmp_path / "k", 1, 4, change={"time": np.array([0.0, 86_399, 86_400, 200_000])})
    assert sessions(later, np.arange(4), "day").tolist() == [0, 0, 1, 2]
    assert sessions(log, np.array([1, 2, 3, 6]), "user").tolist() == [0, 0, 0, 1]  # of the part's rows alone


def test_rows_without_a_session_are_sessions_of_their_own(tmp_path: Path):
    log = item_log(tmp_path / "j", 1, 4, change={"session": np.array([-1, -1, 5, 5])})
    assert sessions(log, np.arange(4), "log").tolist() == [0, 1, 2, 2]
    assert rule_of(log, "auto") == "log"


def test_a_log_that_names_sessions_and_no_user_has_sessions(tmp_path: Path):
    columns = columns_of(item_log(tmp_path / "j", 1, 4, change={"session": np.array([7, 7, 3, 3])}))
    schema = dataclasses.replace(SCHEMA, user=None, features=tuple(f for f in SCHEMA.features if f.level != "user"))
    kept = {k: v for k, v in columns.items() if not k.startswith("user/")}
    with JourneysWriter(tmp_path / "k", schema) as writer:
        writer.append(np.arange(4), np.ones(4, dtype=np.int64), kept)
        log = writer.close()
    assert sessions(log, np.arange(4), "log").tolist() == [0, 0, 1, 1]


def test_a_rule_that_the_log_cannot_carry_is_refused(tmp_path: Path):
    schema = dataclasses.replace(SCHEMA, time=None, session=None)
    columns = columns_of(item_log(tmp_path / "j", 1, 4))
    kept = {k: v for k, v in columns.items() if k not in ("time", "session")}
    with JourneysWriter(tmp_path / "k", schema) as writer:
        writer.append(np.arange(1), np.array([4]), kept)
        log = writer.close()
    assert rule_of(log, "auto") == "user"
    for rule in ("log", "gap", "day"):
        with pytest.raises(UserError, match="use session"):
            rule_of(log, rule)  # type: ignore[arg-type]


def test_lengths_say_when_reinforcement_learning_cannot_act():
    assert "cannot act" in lengths(np.array([0, 1, 2, 3, 3]), "gap").sentence
    told = lengths(np.array([0, 0, 0, 1, 1]), "user")
    assert "cannot act" not in told.sentence
    assert (told.sessions, told.mean, told.median, told.longest) == (2, 2.5, 2.5, 3)


def test_a_table_knows_what_follows_and_batches_keep_sessions_whole(tmp_path: Path):
    log = item_log(tmp_path / "j", 10, 8)
    tasks, keys = tasks_of(log.schema, None), keys_of(log.schema, None)
    so_far = statistics(log, keys, known_gains(log, tasks))
    features = Features.fit(log, np.arange(80), tasks, keys, so_far)
    held = table(log, np.arange(80), features, so_far, "log", 30.0)
    assert held.last.sum() == 20 and held.position.max() == 3
    assert held.next_of(torch.tensor([0, 3])).tolist() == [1, 3]
    for seed in range(3):
        batches = list(held.session_batches(10, seed))
        assert sorted(torch.cat(batches).tolist()) == list(range(80))
        for batch in batches:
            found, counts = np.unique(held.session[batch], return_counts=True)
            assert (counts == 4).all() and len(found) <= 3


def test_tasks_are_read_and_mistakes_named():
    tasks = parse("ctr=click,ctcvr=click&sale,any=like|sale,play=play/10")
    assert [t.how for t in tasks] == ["all", "all", "any", "all"]
    assert parents(tasks) == [None, 0, None, None]
    for wrong in ("ctr", "ctr=", "a=b&c|d", "a=b/x", "a=b/0", "a=b,a=c"):
        with pytest.raises(UserError, match="tasks"):
            parse(wrong)
    with pytest.raises(UserError, match="did you mean 'click'"):
        tasks_of(SCHEMA, "ctr=clik")
    with pytest.raises(UserError, match="is continuous"):
        tasks_of(SCHEMA, "p=play")


def test_a_gain_that_settles_a_task_does_so_whatever_the_others_would_tell(tmp_path: Path):
    """A sale that is blank where nothing was clicked is no sale."""
    log = item_log(tmp_path / "j")
    click, buy = (np.asarray(log.gain(g), dtype=np.float64) for g in ("click", "sale"))

    class Blank:
        schema = log.schema

        def gain(self, name: str) -> np.ndarray:
            return np.where(click == 0, np.nan, buy) if name == "sale" else click

    rows = np.arange(log.n_steps)
    both, either = parse("ctcvr=click&sale,any=click|sale")
    found = both.labels(Blank(), rows)  # type: ignore[arg-type]
    assert np.array_equal(found, click * buy) and not np.isnan(found).any()
    told = either.labels(Blank(), rows)  # type: ignore[arg-type]
    assert (told[click == 1] == 1).all() and np.isnan(told[click == 0]).all()


def test_labels_combine_gains(tmp_path: Path):
    log = item_log(tmp_path / "j", 5, 8)
    rows = np.arange(40)
    click, sale, like, play = (np.asarray(log.gain(g)).astype(float) for g in ("click", "sale", "like", "play"))
    both, either, share = (t.labels(log, rows) for t in parse("a=click&sale,b=sale|like,c=play/4"))
    assert both.tolist() == (click * sale).tolist()
    assert either.tolist() == np.maximum(sale, like).tolist()
    assert share.tolist() == np.minimum(play / 4, 1).tolist()
    assert by_users(log).rows("train").max() < 40


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 40), st.integers(0, 5))
def test_batches_of_sessions_hold_every_row_once_and_no_session_in_two(sizes: list[int], size: int, seed: int):
    session = np.repeat(np.arange(len(sizes)), sizes)
    position = torch.from_numpy(np.concatenate([np.arange(n) for n in sizes]))
    none = torch.zeros(len(session), 0)
    held = Table(np.arange(len(session)), none, none, none, none, session, position, position == 0)
    batches = [batch.numpy() for batch in held.session_batches(size, seed)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(session)))
    seen = [set(session[batch].tolist()) for batch in batches]
    assert sum(map(len, seen)) == len(sizes)
    assert all(len(batch) < size + max(sizes) for batch in batches)
