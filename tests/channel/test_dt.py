"""DT and ODT: returns by hand, the journey's own in training and a target elsewhere; the dual of the entropy."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from channel_logs import SCHEMA, by_users, columns_of, small_log

from headrace.channel.dt import DT, PRESETS, DTConfig, Network, aim, known_so_far, returns_to_go
from headrace.channel.odt import ODT, ODTConfig
from headrace.channel.odt import Learner as ODTLearner
from headrace.channel.odt import Network as ODTNetwork
from headrace.errors import UserError
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import View, histories, view

CLICKS = [[1, 0, 1, 1], [0, 0, 1], [1, 1]]


def log_of(folder: Path, clicks: list[list[int]]) -> Journeys:
    """Journeys with these clicks, and no costs."""
    lengths = np.array([len(c) for c in clicks])
    n = int(lengths.sum())
    columns = {c: np.resize(v, n) for c, v in columns_of(small_log(folder / "any", 4)).items() if "user" not in c}
    columns |= {"gain/click": np.concatenate(clicks).astype(np.int8), "cost": np.zeros(n)}
    columns |= {"time": np.concatenate([np.arange(k, dtype=float) for k in lengths])}
    columns |= {"user/half": np.zeros(len(lengths), dtype=np.int64)}
    with JourneysWriter(folder / "j", SCHEMA) as writer:
        writer.append(np.arange(len(lengths)), lengths, columns)
        return writer.close()


def fitted_on(journeys: Journeys, labels: np.ndarray) -> tuple[Transforms, View]:
    transforms = Transforms.fit(journeys, np.flatnonzero(labels))
    return transforms, View(journeys, labels)


def test_the_return_to_go_of_training_is_what_the_journey_still_brought(tmp_path: Path):
    journeys = log_of(tmp_path, CLICKS)
    everything = np.ones(9, dtype=bool)
    transforms, steps = fitted_on(journeys, everything)
    assert transforms.reward_range == (0.0, 1.0)
    assert returns_to_go(steps, transforms).tolist() == [3, 2, 2, 1, 1, 1, 1, 2, 1]
    held_out = everything.copy()
    held_out[3] = False  # the last step of the first journey is tested on: training does not know of it
    assert returns_to_go(View(journeys, held_out), transforms)[:4].tolist() == [2, 1, 1, 0]
    late = {"click": np.arange(9) == 2}
    unknown = View(journeys, everything, late=late)
    assert returns_to_go(unknown, transforms)[:4].tolist() == [2, 1, 1, 1]


def test_the_target_is_what_a_good_journey_would_bring_less_what_is_known_to_have_come(tmp_path: Path):
    journeys = log_of(tmp_path, CLICKS)
    transforms, steps = fitted_on(journeys, np.ones(9, dtype=bool))
    network = Network(DTConfig(**PRESETS["tiny"], length=4), transforms)
    aim(network, returns_to_go(steps, transforms), steps, quantile=0.5)
    # mean rewards a step: .75 of four steps, 1/3 of three, 1 of two; the median step has .75
    # left at t: (4 + 3 + 2) / 3, (3 + 2 + 1) / 3, (2 + 1) / 2, 1
    assert network.aim.tolist() == pytest.approx([0.75 * (0 + 3), 0.75 * (1 + 2), 0.75 * (2 + 1.5), 0.75 * (3 + 1)])
    assert network.most.tolist() == [3, 2, 2, 1]
    assert float(network.unit) == pytest.approx(14 / 9)
    known = torch.tensor([[0.0, 1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0], [0.0, 3.0, 3.0, 3.0]])
    assert network.target(known).tolist() == [
        pytest.approx([2.25, 1.25, 1.625, 1.0]),
        pytest.approx([2.25, 2.0, 2.0, 1.0]),  # never more than training has shown
        pytest.approx([2.25, 0.0, 0.0, 0.0]),  # nor less than nothing
    ]


def test_windows_are_aimed_at_by_the_place_in_the_window(tmp_path: Path):
    """Windows of two steps from the middle of journeys: what training shows at their first place, one aims at there."""
    journeys = log_of(tmp_path, CLICKS)
    transforms, _ = fitted_on(journeys, np.ones(9, dtype=bool))
    steps = View(journeys, np.ones(9, dtype=bool), 2, starts=np.array([2, 0, 7]))  # rows 2 3, 0 1, 7 8
    returns = returns_to_go(steps, transforms)
    network = Network(DTConfig(**(PRESETS["tiny"] | {"length": 2})), transforms)
    aim(network, returns, steps, quantile=0.5)
    assert network.most.tolist() == [returns[[2, 0, 7]].max(), returns[[3, 1, 8]].max()]
    left = np.array([[2, 1], [4, 3], [2, 1]])  # of the journeys, which have 4, 4 and 2 steps
    assert network.aim.tolist() == pytest.approx([0.75 * left[:, 0].mean(), 0.75 * (1 + left[:, 1].mean())])


def test_known_so_far_is_the_sum_of_the_rewards_before(tmp_path: Path):
    journeys = log_of(tmp_path, CLICKS)
    transforms, steps = fitted_on(journeys, np.ones(9, dtype=bool))
    history = next(steps.batches(8)).history
    assert known_so_far(history, transforms).tolist() == [[0, 1, 1, 2], [0, 0, 0, 0], [0, 1, 1, 1]]
    later = histories(journeys, np.array([2, 3, 8]), 2)  # two steps: what the one before them brought is not counted
    assert known_so_far(later, transforms).tolist() == [[0, 0], [0, 1], [0, 1]]


@pytest.mark.parametrize("kind", [DT, ODT])
def test_validation_reads_the_target_and_training_the_journeys_own_return(kind: Any, tmp_path: Path):
    """Flipping the last click of each journey changes its own return-to-go, and nothing that one who acts can know."""
    losses: dict[str, list[float]] = {"validation": [], "train": []}
    values = columns_of(small_log(tmp_path / "j"))
    last = np.arange(len(values["gain/click"])) % 8 == 7
    for name, click in (("a", values["gain/click"]), ("b", np.where(last, 1 - values["gain/click"], 0))):
        changed = np.where(last, click, values["gain/click"]).astype(np.int8)
        journeys = small_log(tmp_path / name, change=values | {"gain/click": changed})
        split = by_users(journeys)
        parts = split.parts["train"] | split.parts["validation"]
        transforms = Transforms.fit(small_log(tmp_path / f"{name}-fit"), np.flatnonzero(parts))
        config = kind.config_type(**PRESETS["tiny"], dropout=0.0, input_dropout=0.0, unknown=0.0)
        method = kind(config)
        method.transforms = transforms
        torch.manual_seed(0)
        network = method.new_network()
        learner = kind.learner(
            network, transforms, view(journeys, split, "train"), view(journeys, split, "train"), config
        )
        network.aim.fill_(2.0)  # the same of both, though they were fitted on other journeys
        network.most.fill_(9.0)
        network.unit.fill_(1.0)
        losses["validation"].append(learner.validate()["policy"])
        network.train()
        losses["train"].append(learner.losses(next(learner.train.batches(64)))["policy"].item())
    assert losses["validation"][0] == losses["validation"][1]
    assert losses["train"][0] != losses["train"][1]


def test_channels_follow_the_target_that_is_asked_for(tmp_path: Path):
    """Journeys of channel b bring clicks, those of a do not: a high target chooses b, a low one a."""
    rng = np.random.default_rng(0)
    good = np.repeat(rng.integers(0, 2, 200), 8)
    noise = rng.random(len(good)) < 0.1
    change = {"channel": (good ^ noise).astype(np.int16), "gain/click": good.astype(np.int8), "cost": np.zeros(1600)}
    journeys = small_log(tmp_path / "j", 200, change=change)
    split = by_users(journeys)
    first = np.flatnonzero(split.parts["test"] & (np.arange(1600) % 8 == 0))
    labels = np.zeros(1600, dtype=bool)
    labels[first] = True
    share = {}
    for quantile in (0.0, 1.0):
        change = PRESETS["tiny"] | {"quantile": quantile, "epochs": 12, "batch_size": 8, "learning_rate": 1e-2}
        change |= {"patience": None, "calibrate": False}  # both would go by a log that is not of good journeys alone
        method = DT(DTConfig(**change)).fit(journeys, split, tmp_path / f"run-{quantile}", progress=False)
        share[quantile] = method.predict(journeys, labels).action[:, 1].mean()
    assert share[0.0] < 0.3 < 0.7 < share[1.0]


def test_the_dual_variable_grows_while_the_entropy_is_below_its_floor(tmp_path: Path):
    journeys = small_log(tmp_path / "j")
    split = by_users(journeys)
    transforms = Transforms.fit(journeys, split.rows("train"))
    moved = {}
    for share in (0.05, 0.999):
        config = ODTConfig(**PRESETS["tiny"], entropy=share, learning_rate=0.05)
        torch.manual_seed(0)
        network = ODTNetwork(config, transforms)
        with torch.no_grad():
            network.action.bias.copy_(torch.tensor([2.0, 0.0, 0.0]))  # entropy about .8 of 1.1
        learner = ODTLearner(
            network, transforms, view(journeys, split, "train"), view(journeys, split, "train"), config
        )
        found = [learner.step(batch) for batch in list(learner.batches(0))[:1] * 5]
        assert found[0]["loss"] == pytest.approx(found[0]["policy"])  # what is watched is the cross-entropy
        assert config.entropy * math.log(3) == pytest.approx(network.floor)
        moved[share] = found[-1]["multiplier"] - found[0]["multiplier"]
    assert moved[0.05] < 0 < moved[0.999]


def test_a_floor_keeps_the_policy_stochastic(tmp_path: Path):
    rng = np.random.default_rng(0)
    half = rng.integers(0, 2, 60)
    change = {"user/half": half, "channel": np.repeat(half, 8).astype(np.int16)}  # the profile tells the channel
    journeys = small_log(tmp_path / "j", 60, change=change)
    split = by_users(journeys)
    entropy = {}
    for share in (0.0, 0.8):
        change = PRESETS["tiny"] | {"entropy": share, "epochs": 40, "patience": None, "batch_size": 4, "average": None}
        config = ODTConfig(**change, learning_rate=1e-2, multiplier_rate=5.0, calibrate=False, unknown=0.0, dropout=0.0)
        method = ODT(config).fit(journeys, split, tmp_path / f"run-{share}", progress=False)
        p = method.predict(journeys, split.parts["test"]).action
        entropy[share] = float(-(p * np.log(np.maximum(p, 1e-12))).sum(axis=1).mean()) / math.log(3)
    assert entropy[0.0] < 0.3
    assert entropy[0.8] == pytest.approx(0.8, abs=0.1)


def test_a_log_without_a_gain_known_in_time_is_refused():
    class Bare:
        path = "bare"
        schema = SCHEMA.__class__("toy", user="u", channel="c", channels=("a", "b"), gains=(SCHEMA.gains[3],))

    with pytest.raises(UserError, match="no gain known in time"):
        DT(DTConfig(**PRESETS["tiny"])).check(Bare())  # type: ignore[arg-type]
