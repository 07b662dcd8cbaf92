"""A trained model as a Predictor: of a request's items it says what it says of logged rows; it serves the world."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from item_logs import by_users, item_log

from headrace.errors import UserError
from headrace.journeys.exposures import exposures
from headrace.journeys.store import Journeys
from headrace.predict.rmtl import PRESETS, RMTL, RMTLConfig
from headrace.simulate.feed_log import simulate_feed
from headrace.simulate.scenario import Scenario

FEED = Scenario.load("feed")
SMALL = dataclasses.replace(FEED, feed=dataclasses.replace(FEED.feed_task, items=200, candidates=10))
BEHAVIOURS = (
    "click=click,play_time=play_s/600,finish_rate=finish,long_view=long_view,like=like,follow=follow,share=share,"
    "comment=comment,profile_visit=profile_visit,hate=hate,exit=exit,positive=like|follow|share|comment|profile_visit"
)


def fitted(log: Journeys, folder: Path, **change: object) -> RMTL:
    split = log.split("users", 0)
    config = RMTLConfig(**(PRESETS["tiny"] | {"weights": "none", "user_ids": False, "epochs": 1} | change))  # type: ignore[arg-type]
    return RMTL(config).fit(log, split, folder, progress=False)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Journeys, Journeys]:
    folder = tmp_path_factory.mktemp("feed")
    log = simulate_feed(SMALL, 60, 3, "shuffle", 0, folder / "log", lists="shown")
    return log, exposures(log, folder / "items")


def test_exposures_are_the_items_that_were_seen(feed: tuple[Journeys, Journeys]):
    log, items = feed
    assert items.n_steps == int(np.asarray(log.gain("seen")).sum())
    assert items.schema.candidates is None and items.n_users == log.n_users
    for gain in ("click", "like", "exit"):
        assert np.asarray(items.gain(gain)).sum() == np.asarray(log.gain(gain)).sum()
    requests = np.unique(np.stack([items.user_of_step, items.time]), axis=1)
    assert requests.shape[1] == log.n_steps
    with pytest.raises(UserError, match="hold no lists"):
        exposures(items, "nowhere")


def test_a_request_scores_its_items_as_the_logged_rows_are_predicted(feed: tuple[Journeys, Journeys], tmp_path: Path):
    log, items = feed
    method = fitted(items, tmp_path / "run", tasks="ctr=click,like=like", keys="user")
    at = np.asarray(log.column("item_offsets"))
    row = np.flatnonzero(np.asarray(log.gain("seen")) == 4)[:40]  # requests of which all four were seen
    assert len(row) > 10
    where = at[row][:, None] + np.arange(4)
    candidates = {
        "item": np.asarray(log.column("item/id"))[where],
        "topic": np.asarray(log.column("item/topic"))[where],
        "duration_s": np.asarray(log.column("item/duration_s"))[where],
    }
    served = method.predictor().predict(log.histories(row), candidates)
    logged = method.predict(items, np.arange(items.n_steps))
    seen = np.asarray(log.column("item/outcome/seen"))
    place = np.cumsum(seen) - 1
    np.testing.assert_allclose(served, logged[place[where]], rtol=1e-4)


def test_the_world_takes_it(feed: tuple[Journeys, Journeys], tmp_path: Path):
    method = fitted(feed[1], tmp_path / "run", tasks=BEHAVIOURS, keys="user,item,topic")
    predictor = method.predictor()
    log = simulate_feed(SMALL, 10, 1, "score:click", 1, tmp_path / "served", predictor=predictor, lists="none")
    assert log.n_steps > 0


def test_what_a_history_does_not_tell_is_refused(tmp_path: Path):
    log = item_log(tmp_path / "j")
    config = RMTLConfig(**(PRESETS["tiny"] | {"weights": "none", "keys": "user,user+item", "tasks": "ctr=click"}))
    method = RMTL(config).fit(log, by_users(log), tmp_path / "run", progress=False)
    with pytest.raises(UserError, match=r"user\+item"):
        method.predictor()


def test_one_candidate_each_gives_one_row_each(tmp_path: Path):
    log = item_log(tmp_path / "j")
    method = fitted(log, tmp_path / "run", tasks="ctr=click", keys="user,item")
    rows = np.array([3, 50, 100])
    columns = {name: np.asarray(log.feature(name))[rows] for name in ("item", "length")}
    found = method.predictor().predict(log.histories(rows), columns)
    assert found.shape == (3, 1)
    many = method.predictor().predict(log.histories(rows), {n: np.stack([v, v], axis=1) for n, v in columns.items()})
    np.testing.assert_allclose(many[:, 0], found)
