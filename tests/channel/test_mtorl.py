"""MTORL's promises: it never sees the future or padding, it learns what is there, and nothing where nothing is."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from headrace.channel.mtorl import MTORL, PRESETS, Learner, MTORLConfig, Network
from headrace.channel.preference import preference_loss
from headrace.errors import UserError
from headrace.evaluate.calibrate import Line
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import View, histories
from headrace.learn.run import Run

TINY = MTORLConfig(**PRESETS["tiny"])
UNCALIBRATED = dataclasses.replace(TINY, calibrate=False)  # a line of slope 0 would hide what a head sees
SCHEMA = LogSchema(
    "toy",
    user="u",
    time="t",
    time_unit="s",
    channel="c",
    channels=("a", "b", "c"),
    features=(
        Feature("half", "categorical", level="user"),
        Feature("hour", "numeric"),
        Feature("topic", "categorical", "after"),
    ),
    gains=(Gain("click"), Gain("play", "continuous"), Gain("grade", "classes"), Gain("label", known="never")),
    cost=Cost("w", "EUR"),
)


def toy(
    path: Path, users: int = 40, steps: int = 8, seed: int = 0, change: dict[str, np.ndarray] | None = None
) -> Journeys:
    """Clicks pay double on channel b for half of the users; channels follow the last one in part."""
    rng = np.random.default_rng(seed)
    n = users * steps
    half = rng.integers(0, 2, users)
    channel = rng.integers(0, 3, n)
    repeat = (rng.random(n) < 0.5) & (np.arange(n) % steps > 0)
    for i in np.flatnonzero(repeat):
        channel[i] = channel[i - 1]
    rate = np.where((channel == 1) & (np.repeat(half, steps) == 1), 0.8, 0.2)
    columns = {
        "time": np.tile(np.arange(steps), users).astype(float),
        "channel": channel.astype(np.int16),
        "user/half": half.astype(np.int64),
        "feature/hour": rng.normal(size=n),
        "feature/topic": rng.integers(0, 4, n),
        "gain/click": (rng.random(n) < rate).astype(np.int8),
        "gain/play": rng.exponential(3.0, n),
        "gain/grade": rng.integers(0, 3, n).astype(np.int32),
        "gain/label": rng.integers(0, 2, n).astype(np.int8),
        "cost": rng.random(n),
    } | (change or {})
    with JourneysWriter(path, SCHEMA) as writer:
        writer.append(np.arange(users), np.full(users, steps), columns)
        return writer.close()


def everything(journeys: Journeys) -> Split:
    u = journeys.user_of_step
    n = journeys.n_users
    parts = {"train": u < 0.6 * n, "validation": (u >= 0.6 * n) & (u < 0.8 * n), "test": u >= 0.8 * n}
    return Split("users", 0, None, parts, ("time",), fingerprint="toy")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[MTORL, Journeys, Split, Path]:
    folder = tmp_path_factory.mktemp("fitted")
    journeys = toy(folder / "j")
    split = everything(journeys)
    return MTORL(UNCALIBRATED).fit(journeys, split, folder / "run", progress=False), journeys, split, folder / "run"


def outputs(method: MTORL, journeys: Journeys, rows: np.ndarray) -> dict[str, np.ndarray]:
    labels = np.zeros(journeys.n_steps, dtype=bool)
    labels[rows] = True
    found = method.predict(journeys, View(journeys, labels, method.length))
    return {
        "action": found.action,
        **{f"reward/{k}": v for k, v in found.reward.items()},
        **{f"by_channel/{k}": v for k, v in found.reward_by_channel.items()},
        **{f"in_context/{k}": v for k, v in found.reward_in_context.items()},
    }


def columns_of(journeys: Journeys) -> dict[str, np.ndarray]:
    return {c: np.array(journeys.column(c)) for c in journeys.column_names if c not in ("offsets", "users")}


@pytest.mark.parametrize("changed", ["channel", "gain/click", "gain/play", "cost", "feature/topic", "feature/hour"])
def test_the_heads_of_a_step_ignore_its_own_outcome_and_the_future(fitted, tmp_path, changed):
    method, journeys, _, _ = fitted
    steps, t = 8, 4
    values = columns_of(journeys)
    later = np.arange(journeys.n_steps) % steps >= (t + 1 if changed == "feature/hour" else t)
    other = {"channel": (values["channel"] + 1) % 3, "gain/click": 1 - values["gain/click"]}
    values[changed] = np.where(later, other.get(changed, values[changed] + 1), values[changed]).astype(
        values[changed].dtype
    )
    flipped = toy(tmp_path / "j", change=values)
    rows = np.flatnonzero(np.arange(journeys.n_steps) % steps <= t)
    here = np.flatnonzero(rows % steps == t)
    before, after = outputs(method, journeys, rows), outputs(method, flipped, rows)
    for name in before:
        if name.startswith("in_context") and changed in ("channel", "feature/topic"):
            assert not np.array_equal(before[name][here], after[name][here])  # that head is given them on purpose
            earlier = np.flatnonzero(rows % steps < t)
            assert before[name][earlier].tobytes() == after[name][earlier].tobytes()
        else:
            assert before[name].tobytes() == after[name].tobytes(), name


def test_earlier_labels_that_are_never_known_change_nothing(fitted, tmp_path):
    method, journeys, _, _ = fitted
    flipped = toy(tmp_path / "j", change=columns_of(journeys) | {"gain/label": 1 - np.array(journeys.gain("label"))})
    rows = np.arange(journeys.n_steps)
    before, after = outputs(method, journeys, rows), outputs(method, flipped, rows)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_padding_changes_nothing(fitted):
    method, journeys, _, _ = fitted
    assert method.network is not None and method.transforms is not None
    encoded = method.transforms.encode(histories(journeys, np.array([3, 15]), 8))  # 4 and 8 steps
    ids, numbers, mask = (torch.from_numpy(a) for a in (encoded.ids, encoded.numbers, encoded.mask))
    noisy_ids = torch.where(mask[..., None], ids, 1)
    noisy_numbers = torch.where(mask[..., None], numbers, 99.0)
    method.network.eval()
    with torch.no_grad():
        clean, dirty = method.network(ids, numbers, mask), method.network(noisy_ids, noisy_numbers, mask)
        alone = method.network(ids[:1, :4], numbers[:1, :4], mask[:1, :4])
    for a, b, c in zip(clean, dirty, alone, strict=True):
        assert torch.equal(a[mask], b[mask])
        torch.testing.assert_close(a[:1, :4], c, rtol=1e-5, atol=1e-6)  # padded or alone: the same but for rounding


def test_padding_counts_in_no_loss(tmp_path):
    journeys = toy(tmp_path / "j", users=2)
    labels = np.ones(journeys.n_steps, dtype=bool)
    transforms = Transforms.fit(journeys, np.arange(journeys.n_steps))
    network = Network(TINY, transforms).eval()
    view = View(journeys, labels, 8)
    learner = Learner(network, transforms, view, view, TINY)
    whole = learner.losses(view.batch(np.array([0])))
    longer = View(journeys, labels, 8)
    longer.start, longer.steps = np.array([0, 8]), np.array([8, 2])
    longer.labels = np.where(np.arange(journeys.n_steps) < 8, True, False)
    padded = learner.losses(longer.batch(np.array([0, 1])))
    torch.testing.assert_close(whole["policy"], padded["policy"])
    torch.testing.assert_close(whole["reward"], padded["reward"])


def test_dropout_is_off_when_predicting(fitted):
    method, journeys, _, _ = fitted
    rows = np.arange(16)
    first, second = outputs(method, journeys, rows), outputs(method, journeys, rows)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_a_reloaded_run_predicts_the_same(fitted):
    method, journeys, _, run = fitted
    again = MTORL.load(Run.open(run))
    rows = np.arange(journeys.n_steps)
    ours, theirs = outputs(method, journeys, rows), outputs(again, journeys, rows)
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_the_same_seed_gives_the_same_weights(fitted, tmp_path):
    _, journeys, split, run = fitted
    MTORL(UNCALIBRATED).fit(journeys, split, tmp_path / "again", progress=False)
    for name in ("model.safetensors", "transforms.json", "calibrators.json", "metrics.jsonl", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes(), name


def test_held_out_values_change_neither_transforms_nor_weights(fitted, tmp_path):
    _, journeys, split, _ = fitted
    values = columns_of(journeys)
    held_out = ~split.parts["train"]
    for name in values:
        if not name.startswith("user/") and name != "time":
            flipped = (values[name] + 1) % 3 if name in ("channel", "gain/grade") else 1 - values[name]
            values[name] = np.where(held_out, flipped, values[name]).astype(values[name].dtype)
    values["user/half"] = np.where(np.arange(journeys.n_users) >= 24, 7, values["user/half"])
    other = toy(tmp_path / "j", change=values)
    config = dataclasses.replace(TINY, patience=None)
    MTORL(config).fit(journeys, split, tmp_path / "one", progress=False)
    MTORL(config).fit(other, split, tmp_path / "two", progress=False)
    for name in ("model.safetensors", "transforms.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_it_overfits_eight_journeys(tmp_path):
    journeys = toy(tmp_path / "j", users=8)
    mask = np.ones(journeys.n_steps, dtype=bool)
    split = Split("users", 0, None, {"train": mask, "validation": mask, "test": mask}, fingerprint="toy")
    config = MTORLConfig(
        width=32, dropout=0.0, epochs=150, patience=None, learning_rate=1e-2, batch_size=8, average=None
    )
    method = MTORL(dataclasses.replace(config, calibrate=False, weight_decay=0.0)).fit(
        journeys, split, tmp_path / "run", progress=False
    )
    found = method.predict(journeys, mask)
    channel = np.asarray(journeys.channel)[found.rows]
    assert (found.action.argmax(axis=1) == channel).mean() > 0.95
    assert ((found.reward_in_context["click"] > 0.5) == np.asarray(journeys.gain("click"))[found.rows]).mean() > 0.95


def test_reward_by_channel_finds_the_channel_that_pays(tmp_path):
    journeys = toy(tmp_path / "j", users=1200)
    split = everything(journeys)
    config = MTORLConfig(width=32, batch_size=16)
    method = MTORL(config).fit(journeys, split, tmp_path / "run", progress=False)
    found = method.predict(journeys, split.parts["test"])
    half = np.asarray(journeys.feature("half"))[journeys.user_of_step[found.rows]]
    click = found.reward_by_channel["click"]
    assert click[half == 1, 1].mean() > 0.65  # truth .8
    assert click[half == 0, 1].mean() < 0.35  # truth .2
    assert click[half == 1][:, [0, 2]].mean() < 0.35


def test_the_preference_loss_is_equation_15():
    chosen = torch.log(torch.tensor([[0.5, 0.25], [0.8, 0.1]]))
    label = torch.tensor([[True, True], [True, False]])
    totals = torch.tensor([1.0, 0.0])
    beta = 0.1
    margin = beta * (np.log(0.5) - np.log(0.8))  # the first is preferred; only step 1 is valid in both
    expected = np.log1p(np.exp(-margin))
    other = torch.tensor([1, 0])
    assert float(preference_loss(chosen, totals, label, beta, other)) == pytest.approx(expected, rel=1e-5)
    assert float(preference_loss(chosen, torch.zeros(2), label, beta, other)) == 0.0  # equal totals say nothing


def _swaps(seed: int) -> bool:
    torch.manual_seed(seed)
    return torch.randperm(2).tolist() == [1, 0]


def test_the_objective_is_equation_16_with_means_per_step(tmp_path):
    """A long journey of small rewards loses to a short one of large rewards; unknown rewards count for nothing."""
    journeys = toy(
        tmp_path / "j", users=2, change={"gain/click": np.array([1, 1, 0, 0, 0, 0, 0, 0] + [1, 1] * 4, np.int8)}
    )
    view = View(journeys, np.ones(16, dtype=bool), 8)
    view.start, view.steps = np.array([0, 8]), np.array([8, 2])  # sums 2 and 2, means .25 and 1
    transforms = Transforms.fit(journeys, np.arange(16), penalty=0.0)
    config = dataclasses.replace(TINY, preference="free", preference_weight=1.4, reward_weight=0.0, beta=2.0)
    network = Network(config, transforms).eval()
    learner = Learner(network, transforms, view, view, config)
    seed = next(s for s in range(50) if _swaps(s))
    torch.manual_seed(seed)
    found = learner.losses(view.batch(np.array([0, 1])))
    batch = view.batch(np.array([0, 1]))
    encoded = transforms.encode(batch.history)
    logits, _ = network(*(torch.from_numpy(a) for a in (encoded.ids, encoded.numbers, encoded.mask)))
    chosen = torch.log_softmax(logits, -1).gather(-1, torch.from_numpy(batch.channel)[..., None])[..., 0]
    expected = -torch.nn.functional.logsigmoid(2.0 * (chosen[1, :2] - chosen[0, :2])).mean()
    torch.testing.assert_close(found["preference"], expected)
    torch.testing.assert_close(found["loss"], found["policy"] + 1.4 * expected)


def test_the_policy_gives_forbidden_channels_no_probability(fitted):
    method, journeys, _, _ = fitted
    history = histories(journeys, np.array([5, 20, 33]), 8)
    allowed = np.array([[True, False, True]] * 3)
    policy = method.policy()
    p = policy.probabilities(dataclasses.replace(history, allowed=allowed))
    assert np.allclose(p.sum(axis=1), 1) and (p[:, 1] == 0).all()
    rng = np.random.default_rng(0)
    decisions = policy.act(history, rng)
    np.testing.assert_allclose(decisions.log_propensity, policy.log_prob(history, decisions.action))
    greedy = method.policy(stochastic=False)
    assert (greedy.probabilities(history).max(axis=1) == 1).all()
    assert (greedy.act(history, rng).action == policy.probabilities(history).argmax(axis=1)).all()


def test_the_policy_of_a_history_is_the_prediction_of_its_step(fitted, tmp_path):
    method = fitted[0]
    journeys = toy(tmp_path / "j", users=3, steps=40)
    rows = np.array([5, 39, 75, 119])
    p = method.policy().probabilities(journeys.histories(rows))
    labels = np.zeros(journeys.n_steps, dtype=bool)
    labels[rows] = True
    np.testing.assert_allclose(p, method.predict(journeys, labels).action, rtol=1e-5)


def test_what_is_foreseen_of_a_history_is_the_prediction_of_its_step(fitted, tmp_path):
    method = fitted[0]
    journeys = toy(tmp_path / "j", users=3, steps=40)
    rows = np.array([5, 39, 75, 119])
    labels = np.zeros(journeys.n_steps, dtype=bool)
    labels[rows] = True
    ours, theirs = method.foresee(journeys.histories(rows)), method.predict(journeys, labels)
    np.testing.assert_allclose(ours.action, theirs.action, rtol=1e-5)
    for part in ("reward", "reward_by_channel"):
        for name, values in getattr(theirs, part).items():
            np.testing.assert_allclose(getattr(ours, part)[name], values, rtol=1e-4, atol=1e-6)


def test_predictions_are_in_the_units_of_the_log(fitted):
    method, journeys, _, _ = fitted
    found = method.predict(journeys, np.ones(journeys.n_steps, dtype=bool))
    assert found.reward["play"].mean() == pytest.approx(float(np.mean(journeys.gain("play"))), rel=0.5)
    assert found.reward["grade"].shape == (journeys.n_steps, 3)
    np.testing.assert_allclose(found.reward["grade"].sum(axis=1), 1)
    assert found.reward_by_channel["cost"].shape == (journeys.n_steps, 3)


def test_a_penalised_reward_is_predicted_on_its_scale(tmp_path):
    journeys = toy(tmp_path / "j")
    config = dataclasses.replace(TINY, reward_target="penalised", penalty=0.5)
    method = MTORL(config).fit(journeys, everything(journeys), tmp_path / "run", progress=False)
    assert method.transforms is not None
    rows = np.flatnonzero(everything(journeys).parts["train"])
    click, cost = np.asarray(journeys.gain("click"))[rows], np.asarray(journeys.column("cost"))[rows]
    expected = click - 0.5 * cost
    r = method.transforms.reward({"click": click.astype(float)}, cost)
    np.testing.assert_allclose(r, (expected - expected.min()) / (expected.max() - expected.min()))
    assert "penalised" in method.predict(journeys, everything(journeys).parts["test"]).reward


@pytest.mark.parametrize(
    ("channels", "told"),
    [(("a", "b", "z"), "fitted without channel z; fit one"), (("a", "c", "b"), r"channels = \['a', 'b', 'c'\]")],
)
def test_a_log_of_other_channels_is_refused(channels, told, fitted, tmp_path):
    method, journeys, _, _ = fitted
    schema = dataclasses.replace(SCHEMA, channels=channels)
    with JourneysWriter(tmp_path / "j", schema) as writer:
        writer.append(np.arange(40), np.full(40, 8), columns_of(journeys))
    with pytest.raises(UserError, match=told):
        method.predict(Journeys(tmp_path / "j"), np.ones(320, dtype=bool))


def test_expected_costs_are_calibrated_and_not_negative(tmp_path):
    journeys = toy(tmp_path / "j")
    split = everything(journeys)
    method = MTORL(TINY).fit(journeys, split, tmp_path / "run", progress=False)
    cost = method.predict(journeys, split.parts["validation"]).reward["cost"]
    truth = np.asarray(journeys.column("cost"))[split.parts["validation"]].mean()
    assert cost.mean() == pytest.approx(truth, rel=1e-3) and cost.min() > 0


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"heads": 3}, {"kernel": 0}, {"dropout": 1.5}, {"length": -3}, {"batch_size": 0}]
)
def test_a_config_out_of_range_is_refused(wrong):
    with pytest.raises(UserError, match="mtorl config"):
        MTORLConfig(**wrong)


def test_calibration_is_the_identity_by_default():
    assert Line()(np.array([0.3])).tolist() == [0.3]
