"""Every method: fit, save, load, act the same; the same seed, the same weights; a kill and resume, the same bits."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from feed_logs import FEED, feed_log

from headrace.errors import UserError
from headrace.fuse.acting import Fixed, world_box
from headrace.fuse.fusion import NEGATIVE, oriented, quantile_cells
from headrace.fuse.method import Prepared, prepare
from headrace.fuse.methods import METHODS, load
from headrace.fuse.replay import scores_of, whole
from headrace.journeys.splits import Split, split
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.simulate.feed_log import simulate_feed

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return feed_log(tmp_path_factory.mktemp("log") / "j")


@pytest.fixture(scope="module")
def parts(log: Journeys) -> Split:
    return split(log, "time", 0, fractions=(0.9, 0.0, 0.1))


def tiny(name: str) -> object:
    return METHODS[name].config_type(**METHODS[name].presets["tiny"], reward_weights={"dwell_s": 1.0, "like": 5.0})


@pytest.fixture(scope="module")
def ready(log: Journeys, parts: Split) -> Prepared:
    return prepare(log, parts.rows("train"), tiny("bcq"))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_loads_as_it_was_fitted_and_the_same_seed_gives_the_same(
    name: str, log: Journeys, parts: Split, ready: Prepared, tmp_path: Path
):
    fitted = [
        METHODS[name](tiny(name)).fit(log, parts, tmp_path / f"{i}", progress=False, prepared=ready) for i in (0, 1)
    ]
    loaded = load(Run.open(tmp_path / "0"))
    actions = [m.policy().of_states(ready.states[:50]) for m in (*fitted, loaded)]
    assert np.array_equal(actions[0], actions[1]) and np.array_equal(actions[0], actions[2])
    assert np.abs(actions[0]).max() <= 1.0
    files = [(tmp_path / f"{i}" / "model.safetensors").read_bytes() for i in (0, 1)]
    assert files[0] == files[1]
    weights = loaded.policy().weights(log.histories(np.arange(20), loaded.policy().state.steps))
    assert (weights >= np.array(loaded.actions.low)).all() and (weights <= np.array(loaded.actions.high)).all()


@pytest.mark.parametrize("name", METHODS)
def test_the_shared_choices_act_in_every_method(
    name: str, log: Journeys, parts: Split, ready: Prepared, tmp_path: Path
):
    changes = {"gamma": 0.0, "critic_rate": 0.05, "batch": 16, "replay": 30, "target_every": 3, "target_rate": 1.0}
    if name not in ("bo", "es"):  # a search has no actor
        changes["actor_rate"] = 0.05
    seen = set()
    for field, value in ({"seed": 0} | changes).items():
        config = dataclasses.replace(tiny(name), **{field: value})  # type: ignore[type-var]
        METHODS[name](config).fit(log, parts, tmp_path / field, progress=False, prepared=ready)
        (tensors,) = (tmp_path / field / "checkpoints").glob("*/*.safetensors")
        seen.add(tensors.read_bytes())
    assert len(seen) == 1 + len(changes)


@pytest.mark.parametrize("name", METHODS)
def test_a_number_that_makes_no_sense_is_refused_by_name(name: str):
    kind = METHODS[name].config_type
    for field in dataclasses.fields(kind):
        if field.name != "seed" and isinstance(field.default, int | float):
            with pytest.raises(UserError, match=f"fuse config: {field.name} = "):
                kind(**{field.name: -1})


def test_what_would_break_a_fit_or_do_nothing_is_refused():
    wrong = (
        ("bcq", {"samples": 0}),
        ("bcq", {"latent": 0}),
        ("bcq", {"lower": 1.5}),
        ("td3", {"delay": 0}),
        ("uwac", {"passes": 1}),  # no variance of one
        ("uwac", {"dropout": 1.0}),
        ("iql", {"tau": 1.0}),
        ("bo", {"first": 0}),
        ("bo", {"proposals": 1}),
        ("es", {"members": 1}),
        ("bcq", {"hidden": (8, 0)}),
        ("bcq", {"emphasis": "time", "reward_weights": {"dwell_s": 1.0}}),
    )
    for name, change in wrong:
        with pytest.raises(UserError, match="fuse config"):
            METHODS[name].config_type(**change)


@pytest.mark.parametrize("form", ["unit", "box"])
@pytest.mark.parametrize("fusion", ["log-sum", "weighted"])
def test_forms_of_actions_and_fusions_are_kept_by_the_run(
    form: str, fusion: str, log: Journeys, parts: Split, tmp_path: Path
):
    config = METHODS["td3"].config_type(
        **METHODS["td3"].presets["tiny"], reward_weights={"dwell_s": 1.0}, form=form, fusion=fusion
    )
    METHODS["td3"](config).fit(log, parts, tmp_path / "run", progress=False)
    found = load(Run.open(tmp_path / "run"))
    weights = found.policy().weights_of(found.policy().state.of_rows(log, np.arange(10)))
    assert found.config == config
    assert form == "box" or np.allclose(np.linalg.norm(weights, axis=1), 1.0)


@pytest.mark.parametrize("form", ["box", "simplex"])
def test_cells_are_fitted_to_the_scores_that_the_ranker_gives_them_and_kept_by_the_run(form: str, tmp_path: Path):
    """To those of training requests; on a simplex with more being better in all."""
    kind, equal = METHODS["td3"], Fixed(np.full(12, 1 / 12), world_box(FEED))  # weights that lie on a simplex, too
    log = simulate_feed(FEED, 20, 4, equal, 0, tmp_path / "j", lists="all")
    parts = split(log, "time", 0, fractions=(0.6, 0.0, 0.4))
    changes = {"reward_weights": {"dwell_s": 1.0}, "fusion": "cells", "form": form}
    made = kind(kind.config_type(**kind.presets["tiny"], **changes))
    made.fit(log, parts, tmp_path / "run", progress=False)
    of_training = np.repeat(parts.parts["train"], np.diff(log.column("item_offsets")))
    names = scores_of(log)
    scores = np.stack([log.column(f"item/score/{n}")[of_training].astype(np.float64) for n in names], axis=1)
    if form == "simplex":
        scores = oriented(scores, np.array([name in NEGATIVE for name in names]))
    assert made.fusion == load(Run.open(tmp_path / "run")).fusion == quantile_cells(scores)


def test_sessions_that_a_split_cuts_at_their_front_are_not_valued(log: Journeys):
    session, users = np.asarray(log.column("session")), log.users_of(np.arange(log.n_steps))
    opens = np.append(True, (session[1:] != session[:-1]) | (users[1:] != users[:-1]))
    rows = np.flatnonzero(np.random.default_rng(0).random(log.n_steps) < 0.7)
    kept = whole(log, rows)
    runs = np.split(kept, np.flatnonzero(np.diff(kept) != 1) + 1)
    assert 0 < len(kept) < len(rows) and all(opens[run[0]] for run in runs)
    assert np.array_equal(whole(log, np.arange(log.n_steps)), np.arange(log.n_steps))
    alone = [r for r in rows if opens[r]]
    assert set(alone) <= set(kept.tolist())


def test_a_fit_that_is_killed_and_resumed_ends_in_the_same_bits(log: Journeys, tmp_path: Path):
    words = ["train", "bcq", "--data", str(log.path), "--preset", "tiny", "--reward", "dwell_s"]
    words += ["--set", "updates=240", "samples=2"]
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}

    def start(out: Path, *more: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "headrace.cli", *words, "--out", str(out), *more]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    process = start(tmp_path / "run")
    saved = tmp_path / "run" / "checkpoints" / "policy" / "last.json"
    while process.poll() is None and not (saved.exists() and '"step": 60,' in saved.read_text()):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start(tmp_path / "run", "--resume").wait() == 0
    for name in ("model.safetensors", "fusion.json", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    lines_of = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"q", "q_spread"} <= {line["metric"] for line in lines_of}
