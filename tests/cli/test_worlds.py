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
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import true_value


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
