"""RMTL and its backbones: repeatable, reloadable, what is there is learnt and nothing else; controls of equal steps."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from item_logs import TASKS, by_users, columns_of, item_log

from headrace.errors import UserError
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.learn.loop import derive_seed, seeded
from headrace.learn.run import Run
from headrace.predict.backbones import BACKBONES
from headrace.predict.methods import VARIANTS, load
from headrace.predict.retrain import MultiTask
from headrace.predict.rmtl import PRESETS, RMTL, RMTLConfig, prepare
from headrace.predict.weights import WEIGHTS


def tiny(**change: Any) -> RMTL:
    return RMTL(RMTLConfig(**(PRESETS["tiny"] | {"tasks": TASKS} | change)))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return item_log(tmp_path_factory.mktemp("log") / "j")


def weights_of(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_reloaded_run_predicts_the_same(backbone: str, log: Journeys, tmp_path: Path):
    method = tiny(backbone=backbone, weights="none").fit(log, by_users(log), tmp_path / "run", progress=False)
    rows = np.arange(log.n_steps)
    again = load(Run.open(tmp_path / "run"))
    assert method.predict(log, rows).tobytes() == again.predict(log, rows).tobytes()
    assert method.predict(log, rows).shape == (log.n_steps, 2)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_kind_of_weights_fits_and_the_same_seed_gives_the_same_bits(weights: str, log: Journeys, tmp_path: Path):
    for name in ("a", "b"):
        tiny(weights=weights).fit(log, by_users(log), tmp_path / name, progress=False)
    files = sorted(p.name for p in (tmp_path / "a").iterdir() if p.is_file() and p.name != "manifest.json")
    assert "model.safetensors" in files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_all_kinds_take_as_many_steps(log: Journeys, tmp_path: Path):
    found = {}
    for weights in WEIGHTS[1:]:
        run = tmp_path / weights
        method = tiny(weights=weights, retrain_epochs=3).fit(log, by_users(log), run, progress=False)
        assert method.stage is not None
        found[weights] = method.stage.steps
    assert len(set(found.values())) == 1


def test_the_constant_control_is_plain_retraining_bit_for_bit(log: Journeys, tmp_path: Path):
    split = by_users(log)
    plain = tiny(weights="none").fit(log, split, tmp_path / "plain", progress=False)
    control = tiny(weights="constant", retrain_epochs=1, average=None)
    # the model of stage A, then one epoch of unweighted cross-entropies written out
    base = tiny(weights="none", average=None).fit(log, split, tmp_path / "base", progress=False)
    held = prepare(log, split, base.config)
    again = MultiTask(base.network, held.train, held.validation, base.optimiser(), base.config.batch_size)  # type: ignore[arg-type]
    for n, batch in enumerate(again.batches(derive_seed(0, "retrain", 1))):
        with seeded(derive_seed(0, "retrain", 1, n)):
            again.network.train()
            logits = again.network(held.train.ids[batch], held.train.numbers[batch])
            each = F.binary_cross_entropy_with_logits(logits, held.train.labels[batch], reduction="none")
            again.optimiser.minimise((each.sum(dim=0) / len(batch)).sum())
    control.fit(log, split, tmp_path / "control", progress=False)
    ours, theirs = control.network.state_dict(), again.network.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert plain.network is not None


def test_lambda_zero_is_the_constant_control_bit_for_bit(log: Journeys, tmp_path: Path):
    changes: dict[str, dict[str, Any]] = {"constant": {"weights": "constant"}}
    changes |= {critics: {"weights": "rl", "lambda_": 0.0, "critics": critics} for critics in ("frozen", "joint")}
    for name, change in changes.items():
        tiny(**change).fit(log, by_users(log), tmp_path / name, progress=False)
    assert weights_of(tmp_path / "constant") == weights_of(tmp_path / "frozen") == weights_of(tmp_path / "joint")


def test_weights_change_the_model(log: Journeys, tmp_path: Path):
    kinds = [w for w in WEIGHTS if w != "none"]
    for name in kinds:
        tiny(weights=name, lambda_=5.0, decay=0.3, retrain_epochs=4).fit(
            log, by_users(log), tmp_path / name, progress=False
        )
    assert len({weights_of(tmp_path / name) for name in kinds}) == len(kinds)


def test_dynamic_weights_are_one_until_two_epochs_tell_how_fast_each_loss_falls(log: Journeys, tmp_path: Path):
    split = by_users(log)
    method = tiny(weights="none").fit(log, split, tmp_path / "run", progress=False)
    held = prepare(log, split, method.config)
    learner = MultiTask(method.network, held.train, held.validation, method.optimiser(), 32, "dwa")  # type: ignore[arg-type]
    at = torch.arange(20)
    means, told = [], []
    for epoch in range(3):
        told.append(learner.weights(at, held.train.ids[at], held.train.numbers[at], held.train.labels[at]))
        steps = [learner.step(batch)["bce"] for batch in learner.batches(epoch)]
        learner.validate()
        assert float(learner.losses[3].mean()) == pytest.approx(np.mean(steps))
        means.append(learner.losses[3])
    assert told[0].tolist() == told[1].tolist() == [1.0, 1.0]
    assert torch.allclose(told[2].double(), 2 * torch.softmax(means[1] / means[0] / 2, dim=0))


def test_weights_see_no_dropout_and_carry_no_gradient(log: Journeys, tmp_path: Path):
    split = by_users(log)
    method = tiny(weights="none", dropout=0.5).fit(log, split, tmp_path / "run", progress=False)
    held = prepare(log, split, method.config)
    learner = MultiTask(method.network, held.train, held.validation, method.optimiser(), 32, "focal")  # type: ignore[arg-type]
    at = torch.arange(20)
    given = held.train.ids[at], held.train.numbers[at], held.train.labels[at]
    learner.network.eval()
    first, second = learner.weights(at, *given), learner.weights(at, *given)
    assert torch.equal(first, second) and not first.requires_grad


@pytest.mark.parametrize("weights", ["constant", "return", "focal"])
def test_controls_without_critics_are_the_same_whether_those_of_others_learn_on(
    weights: str, log: Journeys, tmp_path: Path
):
    for critics in ("frozen", "joint"):
        tiny(weights=weights, critics=critics).fit(log, by_users(log), tmp_path / critics, progress=False)
    assert weights_of(tmp_path / "frozen") == weights_of(tmp_path / "joint")


@pytest.mark.parametrize("start", ["pretrained", "fresh"])
@pytest.mark.parametrize("critics", ["frozen", "joint"])
def test_stage_c_starts_and_keeps_its_critics_as_asked(start: str, critics: str, log: Journeys, tmp_path: Path):
    tiny(start=start, critics=critics).fit(log, by_users(log), tmp_path / "run", progress=False)
    names = {line["metric"] for line in Run.open(tmp_path / "run").read_metrics() if line["stage"] == "retrain"}
    assert ("td_error" in names) == (critics == "joint")


def test_esmm_never_says_that_a_conversion_is_likelier_than_its_click(log: Journeys, tmp_path: Path):
    method = tiny(backbone="esmm", weights="none").fit(log, by_users(log), tmp_path / "run", progress=False)
    p = method.predict(log, np.arange(log.n_steps))
    assert (p[:, 1] < p[:, 0]).all()


def test_aitm_pays_for_a_conversion_that_is_likelier_than_its_click_and_others_do_not(log: Journeys, tmp_path: Path):
    found = {}
    for backbone in ("aitm", "esmm"):
        method = tiny(backbone=backbone, weights="none").fit(log, by_users(log), tmp_path / backbone, progress=False)
        assert method.network is not None
        found[backbone] = float(method.network.penalty(torch.tensor([0.25, 0.75, 0.5, 0.25]).logit().reshape(2, 2)))
    assert found == {"aitm": pytest.approx(0.6 * 0.5 / 2), "esmm": 0.0}  # .5 too much in the first of two rows


@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_learns_what_is_there(backbone: str, tmp_path: Path):
    journeys = item_log(tmp_path / "j", users=250)
    split = by_users(journeys)
    change = {"epochs": 15, "patience": 15, "width": 32, "learning_rate": 5e-3, "unknown": 0.0, "dropout": 0.0}
    method = tiny(backbone=backbone, weights="none", user_ids=False, **change)
    method.fit(journeys, split, tmp_path / "run", progress=False)
    rows = split.rows("test")
    p = method.predict(journeys, rows)[:, 0]
    half = np.asarray(journeys.feature("half"))[journeys.users_of(rows)]
    likely = (np.asarray(journeys.feature("item"))[rows] % 2 == 0) & (half == 1)
    assert abs(p[likely].mean() - 0.9) < 0.08
    assert abs(p[~likely].mean() - 0.2) < 0.08


def test_shuffled_labels_teach_nothing(tmp_path: Path):
    journeys = item_log(tmp_path / "j", users=400)
    shuffled = np.random.default_rng(1).permutation(np.asarray(journeys.gain("click")))
    journeys = item_log(tmp_path / "k", users=400, change={"gain/click": shuffled, "gain/sale": 0 * shuffled})
    split = by_users(journeys)
    method = tiny(weights="rl", tasks="ctr=click", epochs=4).fit(journeys, split, tmp_path / "run", progress=False)
    rows = split.rows("test")
    p, y = method.predict(journeys, rows)[:, 0], shuffled[rows]
    prior = shuffled[split.rows("train")].mean()
    loss, floor = (-np.where(y == 1, np.log(q), np.log(1 - q)).mean() for q in (p, np.full(len(y), prior)))
    assert loss > floor - 0.01


def test_predictions_ignore_the_rows_own_outcome(log: Journeys, tmp_path: Path):
    method = tiny(weights="none").fit(log, by_users(log), tmp_path / "run", progress=False)
    columns = columns_of(log)
    last = np.asarray(log.time) == 700
    flipped = {"gain/click": np.where(last, 1 - columns["gain/click"], columns["gain/click"]).astype(np.int8)}
    other = item_log(tmp_path / "j", change=columns | flipped)
    rows = np.arange(log.n_steps)
    assert method.predict(log, rows).tobytes() == method.predict(other, rows).tobytes()


def test_critics_of_another_run_are_taken_and_those_of_other_data_refused(log: Journeys, tmp_path: Path):
    split = by_users(log)
    tiny(backbone="mmoe").fit(log, split, tmp_path / "mmoe", progress=False)
    tiny(critics_from=str(tmp_path / "mmoe")).fit(log, split, tmp_path / "run", progress=False)
    theirs, ours = (Run.open(tmp_path / n).read_weights("critics.safetensors") for n in ("mmoe", "run"))
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert not (tmp_path / "run" / "checkpoints" / "critics").exists()
    elsewhere = Split("users", 1, None, {**split.parts, "train": split.parts["test"]}, ("time",), fingerprint="other")
    with pytest.raises(UserError, match="other features"):
        tiny(critics_from=str(tmp_path / "mmoe")).fit(log, elsewhere, tmp_path / "no", progress=False)
    with pytest.raises(UserError, match=r"gamma is 0\.95 there and 0\.1 here"):
        tiny(critics_from=str(tmp_path / "mmoe"), gamma=0.1).check(log)
    tiny(weights="constant").fit(log, split, tmp_path / "plain", progress=False)
    with pytest.raises(UserError, match="holds no critics"):
        tiny(critics_from=str(tmp_path / "plain")).check(log)


def test_a_part_that_tells_nothing_of_a_task_is_named_before_any_fit(tmp_path: Path):
    silent = np.full(240, np.nan)
    silent[: 240 * 6 // 10] = 1.0  # the users who train
    log = item_log(tmp_path / "j", change={"gain/sale": silent, "gain/click": np.ones(240, dtype=np.int8)})
    with pytest.raises(UserError, match="no row of the validation part tells the task ctcvr"):
        tiny().fit(log, by_users(log), tmp_path / "run", progress=False)


def test_critics_of_a_run_written_before_features_had_a_new_field_are_taken(log: Journeys, tmp_path: Path):
    split = by_users(log)
    tiny().fit(log, split, tmp_path / "old", progress=False)
    file = tmp_path / "old" / "transforms.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "grown"}))
    tiny(critics_from=str(tmp_path / "old")).fit(log, split, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "checkpoints" / "critics").exists()


def test_names_of_variants_are_told_apart():
    assert {"ple", "rmtl-ple", "d-ple", "ple-constant", "rmtl-esmm", "mmoe-shuffled"} <= set(VARIANTS)
    assert len(VARIANTS) == len(BACKBONES) * len(WEIGHTS)
    assert all(RMTL(RMTLConfig(**changes)).label == name for name, changes in VARIANTS.items())


def test_a_wrong_config_is_named():
    wrong = ({"gamma": 1.0}, {"width": 0}, {"soft_update": 0.0}, {"retrain_rate": 0.0}, {"learning_rate": -1.0})
    for change in (*wrong, {"weights": "constant", "critics_from": "x"}):
        with pytest.raises(UserError, match="rmtl config"):
            RMTLConfig(**change)  # type: ignore[arg-type]


SCRIPT = """
import sys
from item_logs import TASKS, by_users
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.predict.rmtl import PRESETS, RMTL, RMTLConfig
log = Journeys(sys.argv[1])
long = {"epochs": 6, "critic_epochs": 6, "retrain_epochs": 6, "patience": 6, "batch_size": 8, "tasks": TASKS}
method = RMTL(RMTLConfig(**(PRESETS["tiny"] | long | {"critics": sys.argv[3]})))
method.fit(log, by_users(log), Run.create(sys.argv[2], method.settings(), resume=True), progress=False)
"""


def fit_in_a_process(log: Journeys, out: Path, critics: str) -> subprocess.Popen[bytes]:
    here, source = Path(__file__).parent, Path(__file__).resolve().parents[2] / "src"
    environment = {"PYTHONPATH": f"{source}:{here}", "OMP_NUM_THREADS": "1", "PATH": ""}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(log.path), str(out), critics], env=environment)


@pytest.mark.slow  # five processes; a kill in the midst of a comparison is among the quick ones
def test_a_fit_that_is_killed_in_each_stage_ends_in_the_same_bits(log: Journeys, tmp_path: Path):
    critics = "joint"  # the fullest state: model, critics and both targets in stage C
    assert fit_in_a_process(log, tmp_path / "whole", critics).wait() == 0
    for stage in ("model", "critics", "retrain"):
        process = fit_in_a_process(log, tmp_path / "run", critics)
        metrics = tmp_path / "run" / "metrics.jsonl"
        wanted = f'"{stage}", "epoch": 3'.encode()
        while process.poll() is None and not (metrics.is_file() and wanted in metrics.read_bytes()):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, stage
        assert not (tmp_path / "run" / "model.safetensors").exists()
    assert fit_in_a_process(log, tmp_path / "run", critics).wait() == 0
    for name in ("model.safetensors", "critics.safetensors", "metrics.jsonl", "transforms.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_method_that_is_not_fitted_says_so():
    with pytest.raises(UserError, match="not fitted"):
        RMTL().predictor()
    assert dataclasses.asdict(RMTLConfig())["lambda_"] == 0.7
