"""The loss of the reward heads, worked by hand on three steps: (14) and (20) as meant and not printed, (19), (21)."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from channel_logs import by_users, small_log

from headrace.channel.heads import ONEHOT, Calibrator, Target, reward_loss, targets
from headrace.channel.mirec import MIRECConfig
from headrace.channel.mtorl import MTORL, PRESETS, MTORLConfig
from headrace.errors import UserError
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch, View
from headrace.learn.run import Run

CLICK, PLAY, GRADE = Target("click", "binary"), Target("play", "continuous"), Target("grade", "classes", 3)
CLICKS, LIKELY = (1, 0, 1), (0.8, 0.4, 0.5)
PLAYED, FORETOLD = (1.0, 2.0, 6.0), (0.0, 0.5, 1.0)  # mean 3, variance 14 / 3; foretold in standard deviations
GRADES, SHARES = (0, 2, 1), ((0.7, 0.2, 0.1), (0.5, 0.3, 0.2), (0.1, 0.6, 0.3))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Batch, Transforms]:
    """One user's three steps, and transforms fitted on them."""
    columns = {
        "gain/click": np.array(CLICKS, dtype=np.int8),
        "gain/play": np.array(PLAYED),
        "gain/grade": np.array(GRADES, dtype=np.int32),
    }
    journeys = small_log(tmp_path_factory.mktemp("three") / "j", users=1, steps=3, change=columns)
    batch = next(View(journeys, np.ones(3, dtype=bool)).batches(1))
    return batch, Transforms.fit(journeys, np.arange(3))


def loss(
    output: torch.Tensor,
    heads: list[Target],
    three: tuple[Batch, Transforms],
    label: tuple[bool, ...] = (True, True, True),
    weights: dict[str, float] | None = None,
) -> torch.Tensor:
    batch, transforms = three
    weights = weights or {t.name: 1.0 for t in heads}
    return reward_loss(output[None], heads, batch, torch.tensor([label]), transforms, weights)


def logits(p: tuple[float, ...]) -> torch.Tensor:
    return torch.logit(torch.tensor(p, dtype=torch.float64))[:, None]


def test_a_binary_gain_has_its_cross_entropy_and_not_the_printed_sum(three: tuple[Batch, Transforms]):
    """(14) and (20) print (1 - r) (1 - log r^) where (1 - r) log (1 - r^) is meant."""
    found = float(loss(logits(LIKELY), [CLICK], three))
    assert found == pytest.approx(-(math.log(0.8) + math.log(1 - 0.4) + math.log(0.5)) / 3)
    assert found != pytest.approx(-(math.log(0.8) + (1 - math.log(0.4)) + math.log(0.5)) / 3, abs=0.1)


def test_each_step_pulls_its_logit_by_what_it_is_off(three: tuple[Batch, Transforms]):
    """By r^ - r. As printed, a step without a click would pull by 1 - r^: the harder, the righter it already is."""
    output = logits(LIKELY).requires_grad_()
    loss(output, [CLICK], three).backward()
    assert output.grad is not None
    np.testing.assert_allclose(output.grad[:, 0], [(0.8 - 1) / 3, 0.4 / 3, (0.5 - 1) / 3])


def test_a_number_has_half_its_squared_error_in_standard_deviations(three: tuple[Batch, Transforms]):
    """(19), halved; its target is standardised, not min-max scaled to 0, .2 and 1."""
    std = math.sqrt(14 / 3)
    found = float(loss(torch.tensor(FORETOLD, dtype=torch.float64)[:, None], [PLAY], three))
    assert found == pytest.approx(0.5 * ((0 + 2 / std) ** 2 + (0.5 + 1 / std) ** 2 + (1 - 3 / std) ** 2) / 3)


def test_a_class_has_minus_the_log_of_its_share(three: tuple[Batch, Transforms]):
    """(21): the softmax's share of what came, at every step one of three."""
    output = torch.log(torch.tensor(SHARES, dtype=torch.float64)) + 5.0  # a softmax takes no notice
    assert float(loss(output, [GRADE], three)) == pytest.approx(-(math.log(0.7) + math.log(0.2) + math.log(0.6)) / 3)


def test_a_class_that_the_head_has_no_output_for_is_left_out(three: tuple[Batch, Transforms]):
    output = torch.log(torch.tensor(SHARES, dtype=torch.float64))[:, :2]
    told = [math.log(0.7 / 0.9), math.log(0.6 / 0.7)]  # the middle step's is the third class
    assert float(loss(output, [Target("grade", "classes", 2)], three)) == pytest.approx(-sum(told) / 2)


def test_steps_that_are_no_labels_or_have_no_outcome_count_neither_above_nor_below(three: tuple[Batch, Transforms]):
    expected = -(math.log(0.8) + math.log(0.5)) / 2
    assert float(loss(logits(LIKELY), [CLICK], three, (True, False, True))) == pytest.approx(expected)
    batch, transforms = three
    unknown = dataclasses.replace(batch, gains=batch.gains | {"click": np.array([[1.0, np.nan, 1.0]])})
    assert float(loss(logits(LIKELY), [CLICK], (unknown, transforms))) == pytest.approx(expected)


def test_targets_add_up_by_their_weights(three: tuple[Batch, Transforms]):
    parts = [
        logits(LIKELY),
        torch.tensor(FORETOLD, dtype=torch.float64)[:, None],
        torch.log(torch.tensor(SHARES, dtype=torch.float64)),
    ]
    heads = [CLICK, PLAY, GRADE]
    alone = [float(loss(part, [head], three)) for part, head in zip(parts, heads, strict=True)]
    weights = {"click": 1.0, "play": 0.1, "grade": 2.0}
    found = float(loss(torch.cat(parts, dim=-1), heads, three, weights=weights))
    assert found == pytest.approx(alone[0] + 0.1 * alone[1] + 2 * alone[2])


def test_the_cost_and_the_penalised_reward_are_numbers_of_their_own(three: tuple[Batch, Transforms], tmp_path: Path):
    """(3) at s = .5: click less half of the cost, min-max scaled: 1, -.2, .4 becomes 1, 0, .5."""
    costs = np.array([0.0, 0.4, 1.2])
    columns = {"gain/click": np.array(CLICKS, dtype=np.int8), "cost": costs}
    journeys = small_log(tmp_path / "j", users=1, steps=3, change=columns)
    batch, transforms = next(View(journeys, np.ones(3, dtype=bool)).batches(1)), Transforms.fit(journeys, np.arange(3))
    output = torch.tensor([[0.5], [0.5], [0.5]], dtype=torch.float64)
    penalised = float(loss(output, [Target("penalised", "continuous")], (batch, transforms)))
    assert penalised == pytest.approx(0.5 * (0.25 + 0.25 + 0.0) / 3)
    z = (costs - costs.mean()) / costs.std()
    assert float(loss(output, [Target("cost", "continuous")], (batch, transforms))) == pytest.approx(
        float(0.5 * ((0.5 - z) ** 2).mean())
    )


TOGETHER = {"label": 10.0, "click": 1.0}  # classes: none, click, label, both


def test_gains_that_come_together_are_one_class_of_a_softmax(three: tuple[Batch, Transforms], tmp_path: Path):
    """(18) and (21), the one-hot: click 1, 0, 1 and label 0, 0, 1 are the classes click, none and both."""
    columns = {"gain/click": np.array(CLICKS, dtype=np.int8), "gain/label": np.array([0, 0, 1], dtype=np.int8)}
    journeys = small_log(tmp_path / "j", users=1, steps=3, change=columns)
    batch = next(View(journeys, np.ones(3, dtype=bool)).batches(1))
    transforms = Transforms.fit(journeys, np.arange(3), TOGETHER)
    (head,) = [t for t in targets(transforms, "onehot") if t.kind == "classes" and t.name == ONEHOT]
    assert head == Target(ONEHOT, "classes", 4)
    assert [t.name for t in targets(transforms, "onehot")] == ["play", "grade", "cost", ONEHOT]  # none of their own
    shares = torch.tensor(((0.2, 0.5, 0.2, 0.1), (0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)), dtype=torch.float64)
    expected = -(math.log(0.5) + math.log(0.4) + math.log(0.4)) / 3
    assert float(loss(torch.log(shares), [head], (batch, transforms))) == pytest.approx(expected)
    unknown = dataclasses.replace(batch, gains=batch.gains | {"label": np.array([[0.0, np.nan, 1.0]])})
    expected = -(math.log(0.5) + math.log(0.4)) / 2
    assert float(loss(torch.log(shares), [head], (unknown, transforms))) == pytest.approx(expected)

    found = Calibrator().units("reward", torch.log(shares).numpy(), [head], transforms)
    np.testing.assert_allclose(found["click"], [0.6, 0.4, 0.6])
    np.testing.assert_allclose(found["label"], [0.3, 0.3, 0.7])


def test_a_method_that_learns_the_onehot_reward_foretells_each_gain_by_it(tmp_path: Path):
    journeys = small_log(tmp_path / "j", users=300)
    label = np.asarray(journeys.gain("click")) * (np.random.default_rng(1).random(journeys.n_steps) < 0.5)
    journeys = small_log(tmp_path / "k", users=300, change={"gain/label": label.astype(np.int8)})
    split = by_users(journeys)
    config = MTORLConfig(**PRESETS["tiny"] | {"width": 32, "epochs": 15, "batch_size": 16, "average": 0.9})
    config = dataclasses.replace(config, reward_weights=TOGETHER, reward_target="onehot")
    method = MTORL(config).fit(journeys, split, tmp_path / "run", progress=False)
    found = method.predict(journeys, split.parts["test"])
    shares = found.reward_by_channel[ONEHOT]
    assert shares.shape == (len(found.rows), 3, 4)
    np.testing.assert_allclose(shares.sum(axis=-1), 1)
    np.testing.assert_allclose(found.reward_by_channel["click"], shares[..., 1] + shares[..., 3])
    np.testing.assert_allclose(found.reward["label"], found.reward[ONEHOT][..., 2:].sum(axis=-1))
    half = np.asarray(journeys.feature("half"))[journeys.user_of_step[found.rows]]
    pays, pays_less = (found.reward_by_channel["click"][half == h, 1].mean() for h in (1, 0))
    assert pays - pays_less > 0.15  # truth .8 and .2
    assert (found.reward_by_channel["label"] < found.reward_by_channel["click"]).mean() > 0.95  # half of the clicks
    again = MTORL.load(Run.open(tmp_path / "run")).predict(journeys, split.parts["test"])
    assert again.reward[ONEHOT].tobytes() == found.reward[ONEHOT].tobytes()


def test_a_onehot_reward_of_other_than_a_few_binary_gains_is_refused(tmp_path: Path):
    journeys = small_log(tmp_path / "j")
    for weights in (None, {"click": 1.0}, {"click": 1.0, "play": 1.0}):
        with pytest.raises(UserError, match="expected 2 to 6 binary gains"):
            MTORL(MTORLConfig(reward_weights=weights, reward_target="onehot")).check(journeys)
    with pytest.raises(UserError, match="its policy weighs each gain's own output"):
        MIRECConfig(action_weight=0.0, reward_weights=TOGETHER, reward_target="onehot")
