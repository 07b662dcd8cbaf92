"""headrace tune: killed and resumed it ends in the same files; best.toml trains; the test part is never read."""

import json
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from commands import ENVIRONMENT, Told, bytes_of, command, whole

from headrace.evaluate.results import KEYS
from headrace.journeys.prepare import prepare

TINY = ("--preset", "tiny", "--set", "epochs=2", "batch_size=16", "--trials", 3)
SPACE = 'width = [4, 8, 12]\nheads = [2, 3]\nlength = [5, "none"]\ndropout = {low = 0.0, high = 0.5}\n'


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.toml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def study(journeys: Path, space: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tune") / "study"
    told = whole("tune", "mtorl", "--data", journeys, "--space", space, "--out", out, *TINY)
    assert "3 trials: " in told.stdout
    assert "--preset" in told.stdout
    return out


def test_every_trial_is_a_record_on_the_validation_part(study: Path):
    trials = [json.loads(line) for line in (study / "trials.jsonl").read_text().splitlines()]
    records = json.loads((study / "results.json").read_text())
    assert [t["number"] for t in trials] == [0, 1, 2]
    assert [r["setting"] for r in records] == [t["changes"] for t in trials]
    assert records[0]["setting"] == {}
    for r, t in zip(records, trials, strict=True):
        assert tuple(r) == KEYS
        assert (r["part"], r["metric"], r["method"]) == ("validation", "action/log_loss", "mtorl")
        assert (r["value"], r["refused"]) == (t["value"], t["reason"])
        assert r["n"] > 0
        assert r["value"] is None or r["low"] <= r["value"] <= r["high"]
    assert not (study / "trials").exists()
    assert "Tuning" in (study / "report.html").read_text()
    assert set(json.loads((study / "manifest.json").read_text())["seconds"]) == {f"trial {n}" for n in range(3)}


def test_a_killed_study_ends_in_the_files_of_one_that_was_not(
    study: Path, journeys: Path, space: Path, tmp_path: Path, told: Told
):
    words = ("tune", "mtorl", "--data", journeys, "--space", space, "--out", tmp_path / "study", *TINY)
    process = subprocess.Popen(command(*words), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    ended = tmp_path / "study" / "trials.jsonl"
    while process.poll() is None and not (ended.is_file() and list(ended.parent.glob("trials/*/metrics.jsonl"))):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "study" / "best.toml").exists()

    code, err = told(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "--resume" in err
    code, err = told(*words, "--jobs", 2, "--resume")
    assert (code, err.count("\n")) == (2, 1)
    assert "'jobs' is 2 and was 1" in err
    assert told(*words, "--resume") == (0, "")
    assert bytes_of(tmp_path / "study") == bytes_of(study)


def test_the_best_configuration_trains(study: Path, journeys: Path, tmp_path: Path, told: Told):
    run = tmp_path / "run"
    assert told("train", "mtorl", "--data", journeys, "--preset", study / "best.toml", "--out", run) == (0, "")
    trials = [json.loads(line) for line in (study / "trials.jsonl").read_text().splitlines()]
    best = min((t for t in trials if t["value"] is not None), key=lambda t: t["value"])
    config = json.loads((run / "config.json").read_text())["config"]
    assert {name: config[name] for name in best["changes"]} == best["changes"]
    assert (config["batch_size"], config["epochs"], config["tcn_layers"]) == (16, 2, 1)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curve = [x["value"] for x in lines if (x["part"], x["metric"]) == ("validation", "policy")]
    assert curve == best["curve"], "training it again is what the study did"


def letters(path: Path, poisoned: set[str]) -> Path:
    """Journeys of a small log; of these users every channel, gain and feature is another."""
    rng = random.Random(0)
    lines = []
    for i in range(480):
        user, channel, heat, opened = f"u{i // 8}", rng.choice("abc"), rng.random(), int(rng.random() < 0.4)
        if user in poisoned:
            channel, heat, opened = "a", 1e6, 1
        lines.append(f"{user},{channel},{heat},{opened}\n")
    path.mkdir()
    (path / "log.csv").write_text("who,medium,heat,opened\n" + "".join(lines))
    (path / "log.toml").write_text(
        'name = "letters"\nuser = "who"\nchannel = "medium"\n[[features]]\nname = "heat"\n[[gains]]\nname = "opened"\n'
    )
    prepare(path / "log.csv", str(path / "log.toml"), path / "journeys")
    return path / "journeys"


def test_the_test_part_is_never_read(tmp_path: Path, space: Path, told: Told):
    from headrace.journeys.store import Journeys

    log = Journeys(letters(tmp_path / "clean", set()))
    split = log.split("users", 0)
    of_test = {str(log.users[u]) for u in set(log.user_of_step[split.rows("test")].tolist())}
    other = Journeys(letters(tmp_path / "poisoned", of_test))
    assert len(of_test) >= 3
    assert other.fingerprint != log.fingerprint
    assert (other.gain("opened")[other.split("users", 0).rows("test")] == 1).all()
    told_by = {}
    for name in ("clean", "poisoned"):
        out = tmp_path / f"{name}-study"
        words = ("tune", "mtorl", "--data", tmp_path / name / "journeys", "--protocol", "users", "--space", space)
        assert told(*words, *TINY[:-2], "--trials", 2, "--metric", "reward/log_loss", "--out", out) == (0, "")
        told_by[name] = [(out / file).read_bytes() for file in ("trials.jsonl", "results.json", "best.toml")]
    assert told_by["clean"] == told_by["poisoned"]
    assert json.loads(told_by["clean"][0].splitlines()[0])["value"] is not None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("widht = [4, 8]", "unknown key 'widht', did you mean 'width'?"),
        ("width = {low = 4, hihg = 8}", "unknown key 'hihg', did you mean 'high'?"),
        ("width = {low = 8, high = 4}", "width: range low = 8, high = 4: expected low < high"),
        ("width = {low = 8}", "width: high is missing"),
        ("width = [4, 'wide']", "width=wide: expected a whole number"),
        ("width = 4", "width = 4: expected a list of values"),
        ("width = []", "width = []: expected a list of values"),
        ("preference = ['fre']", "unknown value of preference 'fre', did you mean 'free'?"),
        ("seed = [1, 2]", "unknown key 'seed'"),
        ("width = [4", "not valid TOML"),
        ("", "names no field"),
    ],
)
def test_a_space_file_that_is_wrong_is_told_in_one_line(tmp_path: Path, told: Told, text: str, wanted: str):
    (tmp_path / "space.toml").write_text(text)
    words = ("tune", "mtorl", "--data", tmp_path, "--out", tmp_path / "study")
    code, err = told(*words, "--space", tmp_path / "space.toml")
    assert (code, err.count("\n")) == (2, 1)
    assert wanted in err
    assert str(tmp_path / "space.toml") in err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--metric", "action/log_los"), "did you mean 'action/log_loss'?"),
        (("--metric", "reward/auc"), "unknown metric 'reward/auc'"),
        (("--trials", 0), "trials = 0, expected 1 or more"),
        (("--jobs", 0), "jobs = 0, expected 1 or more"),
        (("--space", "nowhere.toml"), "no such file"),
        (("--protocol", "honset"), "did you mean 'honest'?"),
    ],
)
def test_a_mistake_is_told_before_any_work(tmp_path: Path, told: Told, words: tuple[object, ...], wanted: str):
    code, err = told("tune", "mtorl", "--data", tmp_path, "--out", tmp_path / "study", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert wanted in err
    assert not (tmp_path / "study").exists()


def test_without_optuna_the_extra_is_named_before_any_work(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, err = told("tune", "mtorl", "--data", tmp_path, "--out", tmp_path / "study")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'headrace[tune]'" in err


def test_a_field_that_is_fixed_and_searched_is_refused(tmp_path: Path, space: Path, told: Told):
    words = ("tune", "mtorl", "--data", tmp_path, "--out", tmp_path / "study", "--space", space)
    code, err = told(*words, "--set", "width=8")
    assert (code, err.count("\n")) == (2, 1)
    assert "--set width" in err


def test_the_space_of_the_method_is_read_back_from_a_file(tmp_path: Path):
    import tomli_w

    from headrace.channel.mtorl import SPACE as own
    from headrace.channel.mtorl import MTORLConfig
    from headrace.channel.tuning import space_of
    from headrace.cli.spaces import read_space, write_preset
    from headrace.learn.space import Range

    given = {
        name: {"low": v.low, "high": v.high, "log": v.log}
        if isinstance(v, Range)
        else ["none" if x is None else x for x in v]
        for name, v in own.items()
    }
    (tmp_path / "space.toml").write_text(tomli_w.dumps(given))
    assert read_space(tmp_path / "space.toml", "mtorl", MTORLConfig) == own
    assert "preference_weight" not in space_of("mtorl", MTORLConfig(), frozenset({"width"}))
    assert "width" not in space_of("mtorl", MTORLConfig(), frozenset({"width"}))
    assert space_of("mtorl", MTORLConfig(preference="free"), frozenset()) == own
    write_preset(tmp_path / "best.toml", {"length": None, "reward_weights": {"click": 1.0}, "seed": 3})
    assert tomllib.loads((tmp_path / "best.toml").read_text()) == {"length": "none", "reward_weights": {"click": 1.0}}


def test_the_space_file_of_table_4_holds_what_our_own_space_does_not_add():
    from headrace.channel.mtorl import PRESETS, SPACE, MTORLConfig
    from headrace.cli.spaces import read_space
    from headrace.learn.space import propose

    table = read_space(Path(__file__).resolve().parents[2] / "examples" / "mtorl-table4.toml", "mtorl", MTORLConfig)
    assert table == {name: SPACE[name] for name in table} | {"length": (5, 10, 15, 20, 25, 30, 35, 40)}
    assert SPACE.keys() - table.keys() == {"preference_weight", "reward_weight"}
    MTORLConfig(**(PRESETS["paper"] | propose(table, [], 0)))
    assert MTORLConfig().weight_decay not in table["weight_decay"]  # docs/tuning.md says so
