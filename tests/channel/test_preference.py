"""The preference loss: which journeys it compares, and what a reference changes."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from channel_logs import by_users, small_log

from headrace.channel.mtorl import MTORL, PRESETS, MTORLConfig
from headrace.channel.preference import partners, preference_loss
from headrace.journeys.seams import History
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.views import Batch
from headrace.learn.run import Run

TINY = MTORLConfig(**PRESETS["tiny"])


@pytest.fixture(scope="module")
def toy_log(tmp_path_factory) -> tuple[Journeys, Split]:
    journeys = small_log(tmp_path_factory.mktemp("toy") / "j", users=120)
    return journeys, by_users(journeys)


def batch_of(steps: list[int], **user: list[float]) -> Batch:
    """Journeys of so many labelled steps each, by users with these features."""
    label = np.arange(max(steps)) < np.array(steps)[:, None]
    history = History({}, {}, {}, {name: np.array(values) for name, values in user.items()}, label)
    nothing = np.zeros(label.shape, dtype=np.int64)
    return Batch(history, label, nothing, nothing, {}, None, {}, None)


def test_matched_pairs_are_of_like_users_and_like_lengths():
    batch = batch_of([4, 4, 9, 9, 4, 4], city=[1.0, 2.0, 1.0, 1.0, 1.0, 2.0])
    for seed in range(5):
        torch.manual_seed(seed)
        assert partners(batch, "matched", {"city"}).tolist() == [4, 5, 3, 2, 0, 1]


def test_a_number_is_near_or_far_and_a_category_is_not():
    batch = batch_of([5] * 3, code=[1.0, 2.0, 9.0])
    torch.manual_seed(0)
    assert partners(batch, "matched")[0] == 1  # 1 is nearer to 2 than to 9
    found = set()
    for seed in range(20):
        torch.manual_seed(seed)
        found.add(int(partners(batch, "matched", {"code"})[0]))
    assert found == {1, 2}  # other than 1, both alike


def test_any_pairs_are_a_permutation():
    torch.manual_seed(0)
    assert sorted(partners(batch_of([3] * 20), "any").tolist()) == list(range(20))


def test_equal_likelihoods_cost_log_2_and_pull_the_better_journey_up():
    likelihood = torch.zeros(2, 3, requires_grad=True)
    label = torch.ones(2, 3, dtype=torch.bool)
    loss = preference_loss(likelihood, torch.tensor([0.0, 1.0]), label, 0.5, torch.tensor([1, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert (likelihood.grad[1] < 0).all() and (likelihood.grad[0] > 0).all()


@pytest.mark.parametrize("pairs", ["any", "matched"])
def test_a_policy_with_a_reference_starts_where_one_without_ended(toy_log, tmp_path, pairs):
    """Its loss relative to itself is log 2 before the first step, and the reference is a stage that can be resumed."""
    journeys, split = toy_log
    plain = dataclasses.replace(TINY, average=None, calibrate=False)
    MTORL(plain).fit(journeys, split, tmp_path / "plain", progress=False)
    config = dataclasses.replace(plain, preference="reference", pairs=pairs, learning_rate=1e-12, weight_decay=0.0)
    config = dataclasses.replace(config, epochs=1)
    MTORL(config).fit(journeys, split, tmp_path / "run", progress=False)
    run = Run.open(tmp_path / "run")
    found = [r for r in run.read_metrics() if r["metric"] == "preference"]
    assert {r["stage"] for r in found} == {"train"}
    assert [r["value"] for r in found if r["part"] == "validation"] == [pytest.approx(math.log(2), abs=1e-6)]
    assert (tmp_path / "run" / "checkpoints" / "reference").is_dir()


def test_preference_shifts_the_policy_to_what_the_better_journeys_did(toy_log, tmp_path):
    """Clicks pay on channel 1 for half of the users: journeys with more of them are preferred."""
    journeys, split = toy_log
    shares = {}
    for kind in ("none", "free", "reference"):
        config = dataclasses.replace(
            TINY, epochs=20, batch_size=16, learning_rate=5e-3, preference=kind, preference_weight=20.0
        )
        config = dataclasses.replace(config, beta=1.0, calibrate=False, average=None, patience=None)
        method = MTORL(config).fit(journeys, split, tmp_path / kind, progress=False)
        shares[kind] = float(method.predict(journeys, split.parts["test"]).action[:, 1].mean())
    assert shares["free"] > shares["none"] + 0.02 and shares["reference"] > shares["none"] + 0.02
