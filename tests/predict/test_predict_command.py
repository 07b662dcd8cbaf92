"""headrace train rmtl, evaluate and compare predict: as a user calls them, stopped in the middle too."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from item_logs import TASKS, item_log

from headrace.cli import run
from headrace.evaluate.results import KEYS
from headrace.simulate.feed_log import simulate_feed
from headrace.simulate.scenario import Scenario

SOURCE = Path(__file__).resolve().parents[2] / "src"
TINY = ("--protocol", "time", "--preset", "tiny", "--set", f"tasks={TASKS}")


def call(*words: object) -> int:
    return run([str(word) for word in words])


@pytest.fixture(scope="module")
def journeys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log") / "j"
    later = np.tile(np.arange(8), 120) * 100.0 + np.repeat(np.arange(120), 8) * 50.0  # one user comes after the other
    item_log(folder, users=120, change={"time": later})
    return folder


def test_train_and_evaluate_tell_session_lengths_and_each_task(
    journeys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "run"
    assert call("train", "rmtl", "--data", journeys, "--out", out, *TINY, "backbone=mmoe") == 0
    told = capsys.readouterr().out
    assert told.startswith("train: ") and "sessions by log: median 4 rows" in told
    worth = tmp_path / "worth"
    assert call("evaluate", out, "--floors", "prior", "trees", "--out", worth) == 0
    records = json.loads((worth / "results.json").read_text())
    assert {tuple(r) for r in records} == {KEYS}
    metrics = {r["metric"] for r in records}
    assert {f"{t}/{m}" for t in ("ctr", "ctcvr") for m in ("auc", "log_loss", "session_log_loss", "ece")} <= metrics
    assert {r["method"] for r in records} == {"rmtl-mmoe", "prior", "trees"}
    assert (worth / "report.html").read_text().count("RMTL-MMoE") > 1
    assert call("evaluate", out, "--floors", "prior", "trees", "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "results.json").read_bytes() == (worth / "results.json").read_bytes()


def test_evaluate_on_another_log_scores_users_that_training_never_saw(journeys: Path, tmp_path: Path):
    out, other = tmp_path / "run", tmp_path / "other"
    item_log(other, users=200, seed=5)
    assert call("train", "rmtl", "--data", journeys, "--out", out, *TINY, "weights=none") == 0
    assert call("evaluate", out, "--data", other, "--floors", "prior", "--out", tmp_path / "there") == 0
    records = json.loads((tmp_path / "there" / "results.json").read_text())
    assert {r["part"] for r in records} == {"other"}
    seen = json.loads((out / "sessions.json").read_text())["train"]["rows"] / 8  # users with all rows in training
    assert 80 * 8 <= records[0]["n"] <= (200 - seen) * 8


def test_mistakes_leave_as_one_line(journeys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wrong = (
        ("train", "rmlt", "--data", journeys, "--out", tmp_path / "x"),
        ("train", "rmtl", "--data", journeys, "--out", tmp_path / "x", "--set", "backbone=pel"),
        ("train", "rmtl", "--data", journeys, "--out", tmp_path / "x", "--set", "tasks=ctr=clik"),
        ("compare", "predict", "--data", journeys, "--out", tmp_path / "x", "--methods", "ple,rmtl-pel"),
        ("compare", "predikt", "--data", journeys, "--out", tmp_path / "x"),
        ("compare", "predict", "--data", journeys, "--out", tmp_path / "x", "--floors", "treees"),
    )
    for words in wrong:
        assert call(*words) == 2, words
        err = capsys.readouterr().err
        assert err.count("\n") == 1, err
        assert "did you mean" in err or "Known" in err, err


def test_a_reward_is_refused_with_what_to_name_instead(
    journeys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert call("train", "rmtl", "--data", journeys, "--out", tmp_path / "x", "--reward", "click") == 2
    assert "--set tasks=" in capsys.readouterr().err


def test_lists_are_laid_out_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    simulate_feed(Scenario.load("feed"), 40, 3, "shuffle", 0, tmp_path / "feed", lists="shown")
    out = tmp_path / "run"
    words = ("--preset", "tiny", "--set", "tasks=ctr=click,like=like", "weights=none")
    assert call("train", "rmtl", "--data", tmp_path / "feed", "--out", out, *words) == 0
    assert "laying them out" in capsys.readouterr().err
    assert call("evaluate", out, "--floors", "prior") == 0


def test_a_comparison_that_is_killed_goes_on_to_the_same_results(journeys: Path, tmp_path: Path):
    words = (
        "compare",
        "predict",
        "--data",
        journeys,
        "--seeds",
        "2",
        "--floors",
        "prior",
        *TINY,
        "epochs=3",
    )
    methods = ("--methods", "ple,ple-constant,rmtl-ple")
    assert call(*words, *methods, "--out", tmp_path / "whole") == 0
    command = [sys.executable, "-m", "headrace.cli", *map(str, (*words, *methods, "--out", tmp_path / "run"))]
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    second = tmp_path / "run" / "cells" / "ple-constant-0" / "checkpoints"
    while process.poll() is None and not second.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "run" / "results.json").exists()
    first = (tmp_path / "run" / "cells" / "ple-0" / "manifest.json").read_bytes()
    assert call(*words, *methods, "--out", tmp_path / "run") == 0
    assert (tmp_path / "run" / "cells" / "ple-0" / "manifest.json").read_bytes() == first
    for name in ("results.json", "p_values.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    records = json.loads((tmp_path / "run" / "results.json").read_text())
    assert any(r["method"] == "rmtl-ple" and r["against"] == "ple-constant" for r in records)
