"""What every channel method promises: causal, repeatable, reloadable; it learns what is there and nothing else."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from channel_logs import by_users, columns_of, small_log

from headrace.channel.methods import METHODS, Method, load
from headrace.channel.mtorl import MTORL, PRESETS, MTORLConfig
from headrace.channel.recommend import recommend
from headrace.channel.tuning import study_of
from headrace.cli.fitting import foretold
from headrace.errors import UserError
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.views import View, histories
from headrace.learn.run import Run

Fitted = tuple[Method, Journeys, Split, Path]
VARIANTS = (*METHODS, "din with a frozen encoder", "din co-trained")


def tiny(variant: str, encoder: Path, **change: Any) -> Method:
    """A method in its tiny preset, uncalibrated: a line of slope 0 would hide what a head sees."""
    kind = METHODS[variant.split()[0]]
    values = kind.presets["tiny"] | {"calibrate": False}
    if " " in variant:
        values |= {"encoder": str(encoder), "co_train": variant.endswith("co-trained")}
    return kind(kind.config_type(**(values | change)))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    journeys = small_log(folder / "j")
    MTORL(MTORLConfig(**PRESETS["tiny"])).fit(journeys, by_users(journeys), folder / "run", progress=False)
    return folder / "run"


@pytest.fixture(scope="module", params=VARIANTS)
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Fitted:
    folder = tmp_path_factory.mktemp("fitted")
    journeys = small_log(folder / "j")
    split = by_users(journeys)
    return tiny(request.param, encoder).fit(journeys, split, folder / "run", progress=False), journeys, split, folder


def outputs(method: Method, journeys: Journeys, rows: np.ndarray) -> dict[str, np.ndarray]:
    labels = np.zeros(journeys.n_steps, dtype=bool)
    labels[rows] = True
    found = method.predict(journeys, View(journeys, labels, method.length))
    alone = {"action": found.action} | ({} if found.values is None else {"values": found.values})
    return alone | {
        f"{head}/{gain}": values
        for head in ("reward", "reward_by_channel", "reward_in_context")
        for gain, values in getattr(found, head).items()
    }


STEPWISE = ("bc", "mirec", "star", "wide-deep")  # read the step and what the last one brought, no step before it
OWN = ("channel", "gain/click", "gain/play", "gain/grade", "cost", "feature/topic", "feature/size")


@pytest.mark.parametrize("changed", [*OWN, "feature/hour"])
def test_the_heads_of_a_step_ignore_its_own_outcome_and_the_future(fitted: Fitted, tmp_path: Path, changed: str):
    method, journeys, _, _ = fitted
    steps, t = 8, 4
    values = columns_of(journeys)
    place = np.arange(journeys.n_steps) % steps
    other = {"gain/click": 1 - values["gain/click"]}
    other |= {name: (values[name] + 1) % 3 for name in ("channel", "gain/grade")}
    later = place >= (t + 1 if changed == "feature/hour" else t)
    values[changed] = np.where(later, other.get(changed, values[changed] + 1), values[changed]).astype(
        values[changed].dtype
    )
    flipped = small_log(tmp_path / "j", change=values)
    everything = np.arange(journeys.n_steps)  # all are predicted: the later steps stand in the batch
    before, after = outputs(method, journeys, everything), outputs(method, flipped, everything)
    rewards = {"reward", "reward_by_channel", "reward_in_context"} if method.predicts_gains else {"values"}
    assert {name.split("/")[0] for name in before} in ({"action"}, {"action"} | rewards)
    assert not method.predicts_gains or "reward/click" in before
    for name in before:
        kept = place <= t
        if name.startswith("reward_in_context") and changed in ("channel", "feature/topic", "feature/size"):
            here = place == t
            assert not np.array_equal(before[name][here], after[name][here])  # that head is given them on purpose
            kept = place < t
        assert before[name][kept].tobytes() == after[name][kept].tobytes(), name
        assert not np.array_equal(before[name][~kept], after[name][~kept]), name


@pytest.mark.parametrize("changed", [*OWN, "feature/hour"])
def test_what_a_step_brought_is_read_at_the_next(fitted: Fitted, tmp_path: Path, changed: str):
    """The counterpart: without it the test above would pass for a method that reads nothing."""
    method, journeys, _, _ = fitted
    values = columns_of(journeys)
    here = np.arange(journeys.n_steps) % 8 == 4
    flipped = (values[changed] + 1) % 3 if changed in ("channel", "gain/grade") else 1 - values[changed]
    values[changed] = np.where(here, flipped, values[changed]).astype(values[changed].dtype)
    rows = np.flatnonzero(np.arange(journeys.n_steps) % 8 == 5)
    before = outputs(method, journeys, rows)
    after = outputs(method, small_log(tmp_path / "j", change=values), rows)
    for name in {"reward/click", "reward_by_channel/click", "values"} & before.keys() or {"action"}:
        remembered = changed != "feature/hour" or method.name not in STEPWISE
        assert remembered != np.array_equal(before[name], after[name]), name


def test_labels_that_are_never_known_change_nothing(fitted: Fitted, tmp_path: Path):
    method, journeys, _, _ = fitted
    change = columns_of(journeys) | {"gain/label": 1 - np.array(journeys.gain("label"))}
    rows = np.arange(journeys.n_steps)
    before, after = outputs(method, journeys, rows), outputs(method, small_log(tmp_path / "j", change=change), rows)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_a_step_is_the_same_whatever_journeys_stand_beside_it(fitted: Fitted, tmp_path: Path):
    """Longer journeys in the same batch mean padding behind the shorter one."""
    method, journeys, _, _ = fitted
    alone = method.policy().probabilities(histories(journeys, np.array([3]), 8))
    beside = method.policy().probabilities(histories(journeys, np.array([3, 15]), 8))
    np.testing.assert_allclose(alone[0], beside[0], rtol=1e-5)


def test_a_reloaded_run_predicts_the_same(fitted: Fitted):
    method, journeys, _, folder = fitted
    again = load(Run.open(folder / "run"))
    rows = np.arange(journeys.n_steps)
    ours, theirs = outputs(method, journeys, rows), outputs(again, journeys, rows)
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    if method.predicts_gains or "values" in ours:
        assert recommend(method, journeys).equals(recommend(again, journeys))


def test_the_same_seed_gives_the_same_weights_and_another_does_not(fitted: Fitted, tmp_path: Path):
    method, journeys, split, folder = fitted
    kind = METHODS[method.name]
    config = method.config  # type: ignore[attr-defined]
    kind(config).fit(journeys, split, tmp_path / "again", progress=False)
    kind(dataclasses.replace(config, seed=1)).fit(journeys, split, tmp_path / "other", progress=False)
    names = sorted(p.name for p in (folder / "run").iterdir() if p.is_file() and p.name != "manifest.json")
    assert "model.safetensors" in names
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / "run" / name).read_bytes(), name
    weights = [(path / "model.safetensors").read_bytes() for path in (folder / "run", tmp_path / "other")]
    assert weights[0] != weights[1]


def test_the_policy_of_a_history_is_the_prediction_of_its_step(fitted: Fitted, tmp_path: Path):
    method = fitted[0]
    journeys = small_log(tmp_path / "j", users=3, steps=60)
    rows = np.array([5, 49, 75, 179])
    policy = method.policy()
    history = histories(journeys, rows, method.length or 256)
    labels = np.zeros(journeys.n_steps, dtype=bool)
    labels[rows] = True
    np.testing.assert_allclose(policy.probabilities(history), method.predict(journeys, labels).action, rtol=1e-4)
    allowed = np.array([[True, False, True]] * 4)
    p = policy.probabilities(dataclasses.replace(history, allowed=allowed))
    assert np.allclose(p.sum(axis=1), 1) and (p[:, 1] == 0).all()
    assert (method.policy(stochastic=False).probabilities(history).max(axis=1) == 1).all()


def test_an_epoch_tells_the_log_loss_of_the_policy_or_no_trial_is_cut_short_by_it(fitted: Fitted):
    method, journeys, split, folder = fitted
    labels = split.parts["validation"]
    found = method.predict(journeys, labels)  # uncalibrated
    chosen = np.asarray(journeys.channel)[found.rows].astype(int)
    loss = -np.log(found.action[np.arange(len(chosen)), chosen]).mean()
    assert method.stage is not None
    epoch = method.stage.best_epoch
    (told,) = (
        line["value"]
        for line in Run.open(folder / "run").read_metrics()
        if (line["part"], line["metric"], line["epoch"]) == ("validation", "policy", epoch)
    )
    kind = METHODS[method.name]
    if kind.epochs_tell:
        assert told == pytest.approx(loss, abs=1e-4)
    elif method.name != "discrete-cql":  # which has it right but for the temperature that its Q need
        assert told != pytest.approx(loss, abs=1e-4)
    studies = [study_of(metric, kind, 9, 1, 0) for metric in ("action/log_loss", "reward/log_loss")]
    assert [s.prune_after for s in studies] == [4 if kind.epochs_tell else 9, 4]


VALUED = {"width": 32, "epochs": 150, "batch_size": 8, "unknown": 0.0}
PLAIN = {"hidden": 64, "epochs": 120, "batch_size": 8, "unknown": 0.0, "input_dropout": 0.0}
RETURNS = {"width": 32, "epochs": 120, "batch_size": 8, "unknown": 0.0, "input_dropout": 0.0}
RETURNS |= {
    "reward_target": "penalised"
}  # how many clicks are still to come tells channels, and nobody who acts has it
BIG: dict[str, dict[str, Any]] = {
    "ag": VALUED | {"alpha": 10.0},
    "discrete-cql": VALUED | {"alpha": 10.0},
    "discrete-iql": VALUED,
    "r-bcq": VALUED,
    "mtorl": {"width": 32, "epochs": 150, "batch_size": 8},
    "bc": PLAIN,
    "din": {"width": 16, "unit": 16, "hidden": 64, "epochs": 120, "batch_size": 8, "unknown": 0.0},
    "gru4rec": PLAIN,
    "mirec": PLAIN,
    "sasrec": PLAIN | {"hidden": 32},
    "star": PLAIN | {"hidden": 32},
    "wide-deep": PLAIN,
    "dt": RETURNS,
    "odt": RETURNS,
}


@pytest.mark.parametrize("name", METHODS)
def test_it_overfits_eight_journeys(name: str, tmp_path: Path):
    journeys = small_log(tmp_path / "j", users=8)
    mask = np.ones(journeys.n_steps, dtype=bool)
    split = Split("users", 0, None, {"train": mask, "validation": mask, "test": mask}, fingerprint="toy")
    change = {"dropout": 0.0, "patience": None, "learning_rate": 1e-2, "average": None, "weight_decay": 0.0}
    method = tiny(name, tmp_path, **(change | BIG[name])).fit(journeys, split, tmp_path / "run", progress=False)
    found = method.predict(journeys, mask)
    channel = np.asarray(journeys.channel)[found.rows].astype(int)
    click = np.asarray(journeys.gain("click"))[found.rows]
    if name != "mirec":  # its policy weighs gains, and imitates nothing
        assert (found.action.argmax(axis=1) == channel).mean() > 0.95
    if not method.predicts_gains:
        return
    assert ((found.reward_in_context["click"] > 0.5) == click).mean() > 0.95
    assert ((found.reward_by_channel["click"][np.arange(len(channel)), channel] > 0.5) == click).mean() > 0.95


WEIGHED = ("discrete-iql", "mirec")  # policies that gains weigh: no log loss to speak of before they are calibrated


def excess(method: Method, journeys: Journeys, split: Split) -> dict[str, float]:
    """The log loss on test steps over that of the prior: of the channel, and of the click under each conditioning."""
    found = method.predict(journeys, split.parts["test"])
    at = np.arange(len(found.rows))
    channel = np.asarray(journeys.channel).astype(int)
    click = np.asarray(journeys.gain("click")).astype(int)
    seen, rows = split.rows("train"), found.rows
    shares = {"channel": np.bincount(channel[seen], minlength=3) / len(seen)}
    shares["click"] = np.bincount(click[seen], minlength=2) / len(seen)
    told = {"channel": -np.log(found.action[at, channel[rows]]) + np.log(shares["channel"][channel[rows]])}
    if method.predicts_gains:
        given = {
            "reward": found.reward["click"],
            "reward_by_channel": found.reward_by_channel["click"][at, channel[rows]],
            "reward_in_context": found.reward_in_context["click"],
        }
        for head, p in given.items():
            told[head] = np.log(shares["click"][click[rows]]) - np.log(np.where(click[rows] == 1, p, 1 - p))
    return {head: float(values.mean()) for head, values in told.items()}


def noise(path: Path, users: int) -> Journeys:
    """Channels and clicks that nothing foretells."""
    rng = np.random.default_rng(3)
    n = users * 8
    click = (rng.random(n) < 0.3).astype(np.int8)
    return small_log(path, users, change={"channel": rng.integers(0, 3, n).astype(np.int16), "gain/click": click})


@pytest.mark.parametrize("name", METHODS)
def test_shuffled_labels_teach_nothing(name: str, tmp_path: Path):
    """Uncalibrated: a slope of 0, fitted on validation steps, would hide whatever a net has learnt by heart."""
    journeys = noise(tmp_path / "j", 300)
    split = by_users(journeys)
    method = tiny(name, tmp_path, epochs=12, batch_size=16, learning_rate=1e-2, calibrate=name in WEIGHED)
    found = excess(method.fit(journeys, split, tmp_path / "run", progress=False), journeys, split)
    assert len(found) == (4 if method.predicts_gains else 1)
    for head, loss in found.items():
        assert -0.01 < loss < 0.03, head


def test_noise_that_was_learnt_by_heart_would_show(tmp_path: Path):
    """The counterpart: without early stopping, dropout and decay the yardstick of the test above is passed by far."""
    journeys = noise(tmp_path / "j", 60)
    split = by_users(journeys)
    change = {"dropout": 0.0, "input_dropout": 0.0, "unknown": 0.0, "average": None, "weight_decay": 0.0}
    change |= {"width": 32, "epochs": 40, "patience": None, "batch_size": 8, "learning_rate": 1e-2}
    method = tiny("mtorl", tmp_path, **change).fit(journeys, split, tmp_path / "run", progress=False)
    assert min(excess(method, journeys, split).values()) > 0.1


@pytest.mark.parametrize("name", METHODS)
def test_tuning_searches_values_that_the_config_takes(name: str, encoder: Path):
    config = tiny(name, encoder).config  # type: ignore[attr-defined]
    for field, values in METHODS[name].space.items():
        for value in values if isinstance(values, tuple) else (values.low, values.high):
            assert getattr(dataclasses.replace(config, **{field: value}), field) == value


@pytest.mark.parametrize("name", METHODS)
def test_a_log_without_channels_is_refused(name: str, tmp_path: Path, encoder: Path):
    class Bare:
        path = "bare"
        schema = dataclasses.replace(small_log(tmp_path / "j").schema, channel=None, channels=())

    with pytest.raises(UserError, match="names no channel"):
        tiny(name, encoder).check(Bare())  # type: ignore[arg-type]


@pytest.mark.parametrize(("categories", "told"), [("numbers", "read as numbers: half, topic;"), ("both", None)])
def test_ids_that_are_read_as_numbers_are_named_before_a_fit(tmp_path: Path, categories: str, told: str | None):
    journeys = small_log(tmp_path / "j")
    lines = foretold(MTORL(MTORLConfig(categories=categories)), journeys, by_users(journeys))
    assert [line[: len(told or "")] for line in lines] == ([told] if told else [])
