"""Comparisons of channel methods: differences, imitation and allocations by hand; cells that are asked only once."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from channel_logs import by_users, small_log

from headrace.channel.allocated import allocations, cannot_be_valued, chooses, weighted_mean
from headrace.channel.compared import Compared, add, figures, imitation, rewards, rows_of, targets_of
from headrace.channel.comparing import (
    Cell,
    Kept,
    Setting,
    cell_of,
    check_cell,
    cost_of,
    fit_cell,
    fit_floor,
    joining,
    kept,
    packed,
    shrunk,
)
from headrace.channel.methods import METHODS
from headrace.channel.predictions import Predictions
from headrace.cli import run as headrace
from headrace.errors import UserError
from headrace.evaluate.metrics import Predicted, Steps
from headrace.evaluate.results import KEYS, Source
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.learn.run import Run
from headrace.ope.policies import Worth

SOURCE = Source("toy", "users")
BINARY = np.array([1.0, 0.0, 1.0, 0.0])


def config_of(name: str, **change: Any) -> Any:
    kind = METHODS[name]
    return kind.config_type(**(kind.presets["tiny"] | {"epochs": 1} | change))


def setting_of(folder: Path, users: int = 40) -> Setting:
    journeys = small_log(folder / "j", users)
    return Setting(journeys, by_users(journeys), folder / "out", {"protocol": "users"}, {"data": "toy"})


def test_a_paired_difference_is_that_of_the_means_over_seeds():
    steps = Steps(BINARY, "binary", users=np.arange(4))
    ours = [np.array([0.8, 0.2, 0.6, 0.4]), np.array([0.9, 0.1, 0.7, 0.3])]
    theirs = [np.array([0.6, 0.4, 0.6, 0.4]), np.array([0.7, 0.3, 0.5, 0.5])]
    made = Compared()
    methods = {"din": [Predicted(p) for p in ours], "mtorl": [Predicted(p) for p in theirs]}
    methods |= {"prior": [Predicted(np.full(4, 0.5))]}
    add(made, SOURCE, {"reward": (steps, methods)}, "mtorl", 0)

    def loss(p: np.ndarray) -> float:
        return float(-np.log(np.where(BINARY == 1, p, 1 - p)).mean())

    records = {(r["method"], r["against"], r["seed"]): r for r in made.records if r["metric"] == "reward/log_loss"}
    assert all(tuple(r) == KEYS for r in made.records)
    assert records["din", None, 1]["value"] == pytest.approx(loss(ours[1]))
    assert records["din", None, None]["value"] == pytest.approx((loss(ours[0]) + loss(ours[1])) / 2)
    difference = (loss(ours[0]) + loss(ours[1]) - loss(theirs[0]) - loss(theirs[1])) / 2
    assert records["din", "mtorl", None]["value"] == pytest.approx(difference)
    assert records["din", "prior", None]["value"] == pytest.approx((loss(ours[0]) + loss(ours[1])) / 2 - np.log(2))
    assert ("mtorl", "din", None) not in records  # the reference is the right side of each difference
    assert ("prior", "mtorl", None) not in records


def test_holm_takes_all_differences_to_the_reference_together():
    rng = np.random.default_rng(0)
    n = 400
    truth = (rng.random(n) < 0.5).astype(float)
    steps = Steps(truth, "binary", users=np.arange(n))

    def tells(weight: float) -> list[Predicted]:
        return [Predicted(np.clip(0.5 + weight * (truth - 0.5) + rng.normal(0, 0.05, n), 0.01, 0.99))]

    methods = {"mtorl": tells(0.0), "a": tells(0.4), "b": tells(0.4), "c": tells(0.0), "d": tells(0.4)}
    one, all_of_them = Compared(), Compared()
    add(one, SOURCE, {"reward": (steps, {k: methods[k] for k in ("mtorl", "a")})}, "mtorl", 0)
    add(all_of_them, SOURCE, {"reward": (steps, methods)}, "mtorl", 0)

    def p_of(made: Compared, method: str) -> float:
        return next(p for m, _, name, _, p in made.p_values if (m, name) == ("reward/log_loss", method))

    least = 2 / 1001  # two-sided, of 1,000 resamples
    assert p_of(one, "a") == pytest.approx(least)
    assert [p_of(all_of_them, m) for m in ("a", "b", "d")] == pytest.approx([4 * least] * 3)
    assert p_of(all_of_them, "c") > 0.05


def test_a_difference_that_is_refused_is_no_comparison():
    """All of two users' rewards are unknown but one's: resamples without that one leave nothing to be told."""
    steps = Steps(np.array([0, 1]), "classes", 2, users=np.arange(2))
    right, wrong = np.eye(2), np.eye(2)[::-1]
    methods = {name: [Predicted(p)] for name, p in {"mtorl": right, "din": wrong}.items()}
    made = Compared()
    score = imitation(np.array([1.0, np.nan]))
    add(made, SOURCE, {"": (steps, methods)}, "mtorl", 0, {"imitation_reward": score})
    (difference,) = (r for r in made.records if r["against"] == "mtorl")
    assert "undefined" in difference["refused"]
    assert made.p_values == []


def test_imitation_counts_the_reward_where_the_logged_channel_is_the_most_probable():
    steps = Steps(np.array([0, 1, 2, 0]), "classes", 3, users=np.array([0, 0, 1, 1]))
    p = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2]])
    value = imitation(np.array([0.3, 1.0, np.nan, 1.0]))(steps, Predicted(p)).draw(np.ones((1, 2)))
    assert value == pytest.approx((0.3 + 0.0 + 0.5 * 1.0) / 3)  # a tie of two counts half, an unknown reward not at all


def cell_with(
    folder: Path, setting: Setting, test: Predictions, validation: Predictions, name: str, **change: Any
) -> Kept:
    """A finished cell that predicts this."""
    cell = Cell(name, 0, config_of(name, **change), folder / name)
    fitted = METHODS[name](cell.config).fit(setting.journeys, setting.split, folder / "fit" / name, progress=False)
    run = Run.create(cell.folder, {})
    assert fitted.transforms is not None
    run.write_json("transforms.json", fitted.transforms.to_dict())
    run.write_weights("test.safetensors", packed(test))
    run.write_weights("validation.safetensors", packed(validation))
    return Kept(cell)


def test_steps_are_chosen_by_a_threshold_of_the_validation_part_and_channels_by_the_largest_gain(tmp_path: Path):
    setting = setting_of(tmp_path)
    rows = setting.split.rows("test")[:4]
    action = np.full((4, 3), 1 / 3)
    gains = np.array([[0.1, 0.5, 0.2], [0.3, 0.1, 0.2], [0.1, 0.1, 0.9], [0.2, 0.1, 0.1]])
    before = np.array([[0.4, 0.0, 0.0], [0.3, 0.0, 0.0], [0.2, 0.0, 0.0], [0.1, 0.0, 0.0]])
    test = Predictions(rows, action, reward_by_channel={"click": gains})
    validation = Predictions(rows, action, reward_by_channel={"click": before})
    chances, select = chooses(cell_with(tmp_path, setting, test, validation, "din"), Worth({"click": 1.0}), 0.5)
    assert chances.argmax(axis=1).tolist() == [1, 0, 2, 0]
    assert select is not None
    assert select.tolist() == [1.0, 1.0, 1.0, 0.0]  # above .3 or level with it, as half of the validation steps are

    q = dataclasses.replace(test, reward_by_channel={}, values=np.where(gains > 0.15, gains, -np.inf))
    other = dataclasses.replace(validation, reward_by_channel={}, values=before)
    chances, select = chooses(cell_with(tmp_path / "q", setting, q, other, "din"), Worth({"click": 1.0}), 0.5)
    assert chances.argmax(axis=1).tolist() == [1, 0, 2, 0] and select is not None
    bare = dataclasses.replace(q, values=None, action=np.eye(3)[[2, 1, 0, 0]])
    chances, select = chooses(cell_with(tmp_path / "bare", setting, bare, bare, "din"), Worth({"click": 1.0}), 0.5)
    assert chances.argmax(axis=1).tolist() == [2, 1, 0, 0] and select is None


@pytest.mark.parametrize("name", ["mirec", "discrete-iql"])
def test_a_method_whose_choice_is_its_policy_is_not_valued_by_another(name: str, tmp_path: Path):
    """MIREC's gains without its prices, and IQL's Q without its policy, would choose the first channel everywhere."""
    setting = setting_of(tmp_path)
    rows = setting.split.rows("test")[:4]
    gains = np.array([[0.9, 0.4, 0.1], [0.9, 0.1, 0.3], [0.9, 0.2, 0.1], [0.9, 0.1, 0.1]])
    own: dict[str, Any] = {"values": gains} if name == "discrete-iql" else {"reward_by_channel": {"click": gains}}
    found = Predictions(rows, np.eye(3)[[1, 2, 1, 2]], **own)
    chances, select = chooses(cell_with(tmp_path, setting, found, found, name), Worth({"click": 1.0}), 0.5)
    assert chances.argmax(axis=1).tolist() == [1, 2, 1, 2]
    assert select is not None and select.tolist() == [1.0, 1.0, 0.0, 0.0]  # the channels chosen bring .4, .3, .2, .1


def test_a_value_is_the_mean_gain_by_the_weights():
    steps = Steps(np.array([1.0, 0.0, 1.0]), "continuous", users=np.arange(3))
    assert weighted_mean(steps, Predicted(np.array([3.0, 1.5, 0.0]))).draw(np.ones((1, 3))) == pytest.approx(3 / 4.5)


def with_propensity(journeys: Journeys, folder: Path) -> Journeys:
    """The same log with the probability 1 / 3 of each channel beside it."""
    columns = {c: np.array(journeys.column(c)) for c in journeys.column_names if c not in ("offsets", "users")}
    with JourneysWriter(folder, journeys.schema) as writer:
        columns |= {"propensity": np.full(journeys.n_steps, 1 / 3)}
        writer.append(np.asarray(journeys.users), np.diff(journeys.offsets), columns)
        return writer.close()


@pytest.mark.parametrize(("taught", "price"), [("gain", 0.0), ("penalised", 0.5)])
def test_values_by_exact_propensities_are_those_of_the_rows_that_agree(taught: str, price: float, tmp_path: Path):
    rng = np.random.default_rng(1)
    lot = {"channel": rng.integers(0, 3, 400 * 8).astype(np.int16)}
    log = with_propensity(small_log(tmp_path / "j", 400, change=lot), tmp_path / "p")
    setting = Setting(log, by_users(log), tmp_path / "out", {}, {})
    parts = {part: setting.split.rows(part) for part in ("test", "validation")}
    found = {p: Predictions(r, np.eye(3)[rng.integers(0, 3, len(r))]) for p, r in parts.items()}
    cell = cell_with(tmp_path, setting, found["test"], found["validation"], "mtorl", reward_target=taught)
    made = Compared()
    allocations(setting, {("mtorl", 0): cell}, 0.375, "logged", "mtorl", SOURCE, made)
    of = {(r["method"], r["metric"], r["against"]): r for r in made.records if not r["setting"]}
    rows = parts["test"]
    worth = np.asarray(log.gain("click"))[rows] - price * np.asarray(log.column("cost"))[rows]  # what all maximise
    agree = found["test"].action.argmax(axis=1) == np.asarray(log.channel)[rows]
    assert of["mtorl", "value_snips", None]["value"] == pytest.approx(worth[agree].mean())
    assert of["logged", "value_snips", None]["value"] == pytest.approx(worth.mean())
    assert of["mtorl", "value_snips", "logged"]["value"] == pytest.approx(worth[agree].mean() - worth.mean())
    chosen = [r for r in made.records if r["setting"] == {"share": 0.375} and r["method"] == "mtorl"]
    assert {r["metric"] for r in chosen} == {"gain_of_chosen", "value_snips"}
    assert all("ranks no steps" in r["refused"] for r in chosen)


def test_cells_are_scored_as_the_methods_themselves_would_be(tmp_path: Path):
    setting = setting_of(tmp_path)
    plan = [cell_of(setting, name, seed, config_of(name)) for seed in (0, 1) for name in ("mtorl", "din")]
    assert joining(setting, ["mtorl"], METHODS, 2) == []
    for cell in plan:
        fit_cell(setting, cell)
    assert joining(setting, ["mtorl"], METHODS, 2) == ["din"]
    assert joining(setting, ["mtorl"], METHODS, 3) == []
    found = kept(plan)
    rows = rows_of(found)
    assert np.array_equal(rows, setting.split.rows("test"))
    again = METHODS["din"].load(Run.open(plan[1].folder)).predict(setting.journeys, setting.split.parts["test"])
    ours = found["din", 0].part("test")
    order = np.argsort(again.rows)
    assert np.array_equal(ours.action, again.action[order])
    assert np.array_equal(ours.reward_by_channel["click"], again.reward_by_channel["click"][order])
    targets = targets_of(found)
    assert [t.prefix for t in targets] == ["action", "reward", "reward_by_channel", "reward_in_context"]
    fit_floor(setting, "prior", targets, dict.fromkeys(targets, rows))
    made = figures(setting, found, ("prior",), "mtorl", SOURCE, targets)
    of = {(r["method"], r["metric"], r["against"], r["seed"]): r["value"] for r in made.records}
    channel = np.asarray(setting.journeys.channel)[rows].astype(int)
    loss = -np.log(ours.action[np.arange(len(rows)), channel]).mean()
    assert of["din", "action/log_loss", None, 0] == pytest.approx(loss)
    right = ours.action.argmax(axis=1) == channel
    reward = np.asarray(setting.journeys.gain("click"))[rows]  # 0 or 1, the cost left out
    assert of["din", "imitation_reward", None, 0] == pytest.approx(np.where(right, reward, 0).mean())
    assert np.array_equal(rewards(setting, found["din", 0], rows), reward)
    assert ("din", "reward/auc", "mtorl", None) in of and ("din", "reward/auc", "prior", None) in of
    with pytest.raises(UserError, match="other settings"):
        check_cell(setting, cell_of(setting, "din", 0, config_of("din", dropout=0.5)))


def test_timing_fits_a_small_part_of_the_split_alone(tmp_path: Path):
    setting = setting_of(tmp_path, 60)
    before = sorted(path.name for path in tmp_path.iterdir())
    cost = cost_of(setting, cell_of(setting, "mtorl", 0, config_of("mtorl", batch_size=2, epochs=10)))
    assert 0 < cost.usual_s < cost.most_s
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    small = shrunk(setting.journeys, setting.split, 0.25)
    for part, mask in small.parts.items():
        assert mask.any() and not (mask & ~setting.split.parts[part]).any()
    assert len(np.unique(setting.journeys.user_of_step[small.parts["train"]])) == 9


def test_what_is_kept_of_a_method_without_gains_has_none():
    tensors = packed(Predictions(np.arange(2), np.eye(2), values=np.array([[1.0, -np.inf], [0.0, 2.0]])))
    assert set(tensors) == {"rows", "action", "values"} and tensors["values"].dtype == torch.float64


def test_a_reward_without_a_size_and_a_log_without_propensities_cost_no_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    log = small_log(tmp_path / "j")
    fixed = (
        "--protocol",
        "users",
        "--preset",
        "tiny",
        "--seeds",
        "1",
        "--floors",
        "none",
        "--out",
        str(tmp_path / "c"),
    )

    def call(*words: str) -> tuple[int, str]:
        return headrace(["compare", "channel", "--data", str(log.path), *words, *fixed]), capsys.readouterr().err

    code, err = call("--methods", "bc", "--propensity", "logged")
    assert code == 2 and "the log holds none" in err and not (tmp_path / "c").exists()
    code, err = call("--methods", "bc,dt", "--set", "reward_weights=grade:1")
    assert code == 2 and "grade has classes and no order" in err
    assert call("--methods", "bc", "--set", "reward_weights=grade:1", "epochs=1")[0] == 0
    told = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert any("grade has classes and no size" in line for line in told["departures"])
    metrics = {r["metric"] for r in json.loads((tmp_path / "c" / "results.json").read_text())}
    assert "action/log_loss" in metrics and "gain_of_chosen" not in metrics


def test_what_is_allocated_is_valued_by_gains_that_are_told(tmp_path: Path):
    log = small_log(tmp_path / "j")
    assert cannot_be_valued({"click": 1.0}, log) is None
    assert "no gain known in time" in str(cannot_be_valued({}, log))
