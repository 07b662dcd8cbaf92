"""A run that was trained on a simulated log acts in the world by its folder's name."""

from pathlib import Path

import numpy as np
import pytest

from headrace.channel.methods import load
from headrace.cli import run
from headrace.cli.worlds import acting
from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.simulate import calibrate
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import true_value


def test_what_calibrate_proposes_next_can_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, out = str(tmp_path / "log"), tmp_path / "again"
    assert run(["simulate", "feed", "--users", "5", "--days", "1", "--out", log]) == 0
    for name in ("feed", "criteo"):
        monkeypatch.setattr(calibrate, "calibrate", lambda *_, name=name, **__: (Scenario.load(name), []))
        fitted = str(tmp_path / f"{name}.toml")
        assert run(["calibrate", log, "--out", fitted]) == 0
        words = "".join(capsys.readouterr().out.split("headrace simulate ")[1]).split()
        assert words[1] == "--policy"
        assert run(["simulate", fitted, *words[1:3], "--users", "5", "--days", "1", "--out", f"{out}-{name}"]) == 0


def test_a_simulated_feed_is_told_what_a_feed_is_calibrated_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(tmp_path / "log")
    assert run(["simulate", "feed", "--users", "5", "--days", "1", "--out", log]) == 0
    assert run(["calibrate", log, "--out", str(tmp_path / "mine.toml")]) == 2
    assert "a feed is calibrated to a log in KuaiRand's layout" in capsys.readouterr().err


def test_trained_policy_acts_in_the_world_as_it_would_on_the_log(tmp_path: Path) -> None:
    log, fitted, acted = (str(tmp_path / name) for name in ("log", "run", "acted"))
    assert run(["simulate", "ads", "--users", "200", "--out", log]) == 0
    command = ["train", "mtorl", "--data", log, "--protocol", "users", "--out", fitted]
    assert run([*command, "--set", "epochs=1", "--set", "width=8", "--set", "length=12"]) == 0
    assert run(["simulate", "ads", "--users", "60", "--days", "5", "--policy", fitted, "--out", acted]) == 0
    journeys = Journeys(acted)
    assert journeys.manifest["notes"]["policy"] == "run"
    policy = load(Run.open(fitted)).policy()
    rows = np.arange(journeys.n_steps)
    p = policy.probabilities(journeys.histories(rows, 12))
    # the same histories in other batches: equal but for the rounding of float32 sums
    assert p[rows, journeys.channel] == pytest.approx(journeys.column("propensity"), rel=1e-4)
    value = true_value(Scenario.load("ads"), acting(fitted, Scenario.load("ads")), 60, days=3)
    assert value.policy == "run" and value["exposures"].value > 0  # type: ignore[operator]
    with pytest.raises(UserError, match="trained on logs of schema world-ads, the world criteo writes"):
        acting(fitted, Scenario.load("criteo"))
