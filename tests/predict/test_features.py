"""Features: what a row is given was known before it, and nothing of what it brought."""

from pathlib import Path

import numpy as np
import pytest
from item_logs import columns_of, item_log

from headrace.errors import UserError
from headrace.journeys.schema import Gain, LogSchema
from headrace.predict.features import Features, known_gains, statistics
from headrace.predict.tasks import parse, tasks_of

KEYS = (("user",), ("item",), ("user", "item"))
TASKS = parse("ctr=click,ctcvr=click&sale")


def encoded(log, rows=None):  # type: ignore[no-untyped-def]
    every = np.arange(log.n_steps)
    so_far = statistics(log, KEYS, known_gains(log, TASKS))
    features = Features.fit(item_log_cache["log"], every, TASKS, KEYS, item_log_cache["so_far"])
    return features.encode(features.raw(log, every if rows is None else rows, so_far))


item_log_cache: dict = {}


@pytest.fixture(autouse=True)
def fitted_on(tmp_path: Path):
    log = item_log(tmp_path / "fitted")
    item_log_cache.update(log=log, so_far=statistics(log, KEYS, ("click", "sale")))
    yield
    item_log_cache.clear()


def test_running_statistics_are_counts_of_what_came_strictly_before():
    log = item_log_cache["log"]
    so_far = item_log_cache["so_far"]
    when, item, click = np.asarray(log.time), np.asarray(log.feature("item")), np.asarray(log.gain("click"))
    for row in (0, 5, 100, 239):
        earlier = (when < when[row]) & (item == item[row])
        assert so_far[("item",)][row, :2].tolist() == [earlier.sum(), click[earlier].sum()]
        own = earlier & (log.user_of_step == log.user_of_step[row])
        assert so_far["user", "item"][row, :2].tolist() == [own.sum(), click[own].sum()]


@pytest.mark.parametrize("changed", ["gain/click", "gain/sale"])
def test_a_row_ignores_its_own_outcome_and_all_that_is_later(tmp_path: Path, changed: str):
    log = item_log_cache["log"]
    columns = columns_of(log)
    later = np.asarray(log.time) >= 400
    columns[changed] = np.where(later, 1 - columns[changed], columns[changed]).astype(np.int8)
    other = item_log(tmp_path / "j", change=columns)
    kept = np.asarray(log.time) <= 400
    (ids, numbers), (their_ids, theirs) = encoded(log), encoded(other)
    assert ids.tobytes() == their_ids.tobytes()
    assert numbers[kept].tobytes() == theirs[kept].tobytes()
    assert not np.array_equal(numbers[~kept], theirs[~kept])


def test_labels_that_are_never_known_are_no_input(tmp_path: Path):
    log = item_log_cache["log"]
    assert known_gains(log, parse("a=click&secret,b=secret")) == ("click",)


def test_unknown_and_missing_have_ids_of_their_own(tmp_path: Path):
    log = item_log_cache["log"]
    columns = columns_of(log)
    columns["feature/item"] = np.where(np.arange(240) < 2, [77, -1] * 120, columns["feature/item"])
    other = item_log(tmp_path / "j", change=columns)
    ids, _ = encoded(other, np.arange(4))
    place = Features.fit(log, np.arange(240), TASKS, KEYS, item_log_cache["so_far"]).names[0].index("item")
    assert ids[:2, place].tolist() == [1, 2]
    assert (ids[2:, place] >= 3).all()


def test_they_are_the_same_after_json():
    import json

    log = item_log_cache["log"]
    features = Features.fit(log, np.arange(240), TASKS, KEYS, item_log_cache["so_far"])
    assert Features.from_dict(json.loads(json.dumps(features.to_dict()))) == features
    assert len(features.names[0]) == len(features.cardinalities)
    assert len(features.names[1]) == features.width


def test_a_log_of_events_is_refused_because_its_rows_tell_their_gain():
    schema = LogSchema("retailrocket", user="visitorid", gains=(Gain("transaction"),))
    with pytest.raises(UserError, match="make a log of views"):
        tasks_of(schema, None)
    with pytest.raises(UserError, match="make a log of views"):
        tasks_of(schema, "ctr=transaction")
