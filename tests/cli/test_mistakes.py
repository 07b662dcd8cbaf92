"""Every mistake leaves one line on stderr and exit code 2, and names the nearest right word where there is one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Told, call

TRAIN = ("train", "mtorl", "--data", "DATA", "--out", "OUT", "--preset", "tiny")
WORDS = [
    (("trian",), "did you mean 'train'?"),
    (("data", "prepar"), "did you mean 'data prepare'?"),
    (("train", "mtorl", "--dta", "x", "--out", "OUT"), "unknown flag '--dta', did you mean '--data'?"),
    (("train", "mtorl", "--data", "DATA"), "train: --out missing"),
    (("train",), "train: METHOD, --data, --out missing"),
    (("evaluate",), "evaluate: RUN missing"),
    (("train", "mtorl", "more", "--data", "DATA", "--out", "OUT"), "unexpected 'more'"),
    ((*TRAIN, "--fold"), "--fold: expected a value"),
    ((*TRAIN, "--fold", "x"), "--fold x: expected a whole number"),
    ((*TRAIN, "--seed=1.5"), "--seed 1.5: expected a whole number"),
    ((*TRAIN, "--seed", "-1"), "--seed -1: expected"),
    ((*TRAIN, "--seed", "1" * 30), "expected"),
    (("recommend", "RUN", "--data", "DATA", "--out", "x.csv", "--budget", "all"), "--budget all: expected a number"),
    (("train", "mtrl", "--data", "DATA", "--out", "OUT"), "unknown method 'mtrl', did you mean 'mtorl'?"),
    (("train", "mtorl", "--data", "DATA", "--out", "OUT", "--preset", "tny"), "did you mean 'tiny'?"),
    (("train", "mtorl", "--data", "DATA", "--out", "OUT", "--preset", "no.toml"), "no such file"),
    ((*TRAIN, "--set", "hed=1"), "unknown key 'hed', did you mean 'heads'?"),
    ((*TRAIN, "--set", "epochs"), "--set epochs: expected key=value"),
    ((*TRAIN, "--set", "epochs=1.5"), "--set epochs=1.5: expected a whole number"),
    ((*TRAIN, "--set", "epochs=1", "--set", "dropout=much"), "--set dropout=much: expected a number"),
    ((*TRAIN, "--set", "clip=nan"), "--set clip=nan: expected a number or none"),
    ((*TRAIN, "--set", "calibrate=0"), "--set calibrate=0: expected true or false"),
    ((*TRAIN, "--set", "schedule=cos"), "did you mean 'cosine'?"),
    ((*TRAIN, "--set", "reward_weights=click"), "expected NAME:NUMBER"),
    ((*TRAIN, "--set", "seed=3"), "use --seed 3"),
    ((*TRAIN, "--protocol", "honnest"), "did you mean 'honest'?"),
    ((*TRAIN, "--fold", "9"), "folds 0 to 4"),
    ((*TRAIN, "--reward", "klick"), "did you mean 'click'?"),
    (("train", "mtorl", "--data", "nowhere", "--out", "OUT"), "nowhere: no such file or folder"),
    (("train", "mtorl", "--data", "DATA", "--out", "RUN"), "a run is there already; choose another --out, or"),
    (("demo", "--out", "RUN"), "a run is there already"),
    (("demo", "--set", "epoch=1", "--out", "OUT"), "did you mean 'epochs'?"),
    (("simulate", "ads", "--out", "DATA"), "exists"),
    (("simulate", "adz", "--out", "OUT"), "did you mean 'ads'?"),
    (("simulate", "ads", "--days", "5000000000", "--out", "OUT"), "at most 100000"),
    (("simulate", "feed", "--policy", "shufle", "--out", "OUT"), "did you mean 'shuffle'?"),
    (("calibrate", "DATA", "--out", "OUT"), "ends in .toml"),
    (("calibrate", "DATA", "--out", "MINE.toml"), "exists; choose another --out"),
    (("simulate", "ads", "--users", "0", "--out", "OUT"), "expected 1 or more"),
    (("data", "prepare", "nowhere.csv", "--schema", "headrace", "--out", "OUT"), "nowhere.csv: no such file"),
    (("data", "prepare", "LOG", "--schema", "criteo", "--out", "OUT"), "did you mean 'criteo-attribution'?"),
    (("data", "prepare", "LOG", "--schema", "retailrocket", "--out", "DATA"), "exists"),
    (("data", "inspect", "nowhere.csv"), "nowhere.csv: no such file"),
    (("data", "audit", "nowhere"), "nowhere: no such file or folder"),
    (("data", "audit", "LOG"), "neither a journeys folder nor a log of a known layout"),
    (("data", "fetch", "kuairand"), "did you mean 'kuairand-1k'?"),
    (("evaluate", "nowhere"), "nowhere: not a run"),
    (("evaluate", "DATA"), "not a run"),
    (("evaluate", "RUN", "--part", "tests"), "did you mean 'test'?"),
    (("evaluate", "RUN", "--floors", "piror"), "did you mean 'prior'?"),
    (("evaluate", "RUN", "--out", "RUN/results.json"), "is a file"),
    (("recommend", "RUN", "--data", "DATA", "--out", "x.xlsx"), "unknown ending '.xlsx'"),
    (("recommend", "RUN", "--data", "DATA", "--out", "LOG"), "exists"),
    (("recommend", "RUN", "--data", "DATA", "--out", "x.csv", "--budget", "-1"), "expected 0 or more"),
    (("recommend", "RUN", "--data", "DATA", "--out", "x.csv", "--by", "luck"), "expected 'own', 'value' or 'policy'"),
    (("embed", "RUN", "--data", "DATA", "--out", "x.xlsx"), "unknown ending '.xlsx'"),
    (("embed", "RUN", "--data", "DATA", "--out", "LOG"), "exists"),
    (("embed", "nowhere", "--data", "DATA", "--out", "x.csv"), "nowhere: not a run"),
    (("embed", "RUN", "--data", "nowhere", "--out", "x.csv"), "nowhere: no such file or folder"),
    (("embed", "RUN", "--data", "DATA"), "embed: --out missing"),
    (("report", "nowhere"), "nowhere"),
]


@pytest.mark.parametrize(("words", "says"), WORDS, ids=lambda part: " ".join(part) if isinstance(part, tuple) else "")
def test_a_mistake_is_one_line_and_exit_code_2(
    words: tuple[str, ...], says: str, demo: Path, journeys: Path, tmp_path: Path, told: Told, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log.csv"
    log.write_text("customer,medium\na,mail\na,sms\n")
    places = {"DATA": journeys, "RUN": demo, "OUT": tmp_path / "out", "LOG": log}
    places["MINE.toml"] = tmp_path / "mine.toml"
    places["MINE.toml"].write_text("")
    places["RUN/results.json"] = demo / "results.json"
    before = sorted(path.name for path in tmp_path.iterdir())
    code, err = told(*(places.get(word, word) for word in words))
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith("headrace: ")
    assert says in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_mistake_is_one_line_in_a_process_of_its_own(tmp_path: Path):
    done = call("train", "mtorl", "--dta", "x", "--out", tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = call("data", "prepare", tmp_path / "no.csv", "--schema", "headrace", "--out", tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_toml_preset_is_checked_as_the_flags_are(tmp_path: Path, journeys: Path, told: Told):
    preset = tmp_path / "mine.toml"
    for text, says in (("epochs = \n", "not valid TOML"), ("epochs = 1.5\n", "whole number"), ("hed = 1\n", "heads")):
        preset.write_text(text)
        code, err = told("train", "mtorl", "--data", journeys, "--out", tmp_path / "out", "--preset", preset)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


READ_BY_MEASURING = ["model.safetensors", "config.json", "transforms.json", "calibrators.json", "manifest.json"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty_object(path: Path) -> None:
    path.write_text("{}")


@pytest.mark.parametrize("change", [cut, empty_object, Path.unlink], ids=["cut short", "emptied", "removed"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "transforms.json", "calibrators.json", "manifest.json"]
)
def test_a_damaged_run_is_refused_by_the_file_that_is_damaged(
    name: str, change: Callable[[Path], None], demo: Path, journeys: Path, tmp_path: Path, told: Told
):
    run = tmp_path / "run"
    shutil.copytree(demo, run)
    change(run / name)
    for words in (("recommend", run, "--data", journeys, "--out", tmp_path / "x.csv"), ("evaluate", run)):
        code, err = told(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert str(run) in err
    assert not (tmp_path / "x.csv").exists()


def test_a_changed_weight_is_noticed_in_a_file_that_can_be_read(demo: Path, journeys: Path, tmp_path: Path, told: Told):
    run = tmp_path / "run"
    shutil.copytree(demo, run)
    weights = bytearray((run / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (run / "model.safetensors").write_bytes(weights)
    code, err = told("recommend", run, "--data", journeys, "--out", tmp_path / "x.csv")
    assert code == 2
    assert "sha256" in err


def test_a_log_of_another_schema_is_refused(demo: Path, tmp_path: Path, told: Told):
    log, schema = tmp_path / "log.csv", tmp_path / "log.toml"
    log.write_text("who,medium,click\n" + "".join(f"u{i % 9},{'ab'[i % 2]},{i % 3 // 2}\n" for i in range(60)))
    schema.write_text('name = "other"\nuser = "who"\nchannel = "medium"\n[[gains]]\nname = "click"\n')
    assert told("data", "prepare", log, "--schema", schema, "--out", tmp_path / "other")[0] == 0
    for words in (
        ("evaluate", demo, "--data", tmp_path / "other", "--out", tmp_path / "out"),
        ("recommend", demo, "--data", tmp_path / "other", "--out", tmp_path / "x.csv"),
        ("embed", demo, "--data", tmp_path / "other", "--out", tmp_path / "x.csv"),
    ):
        code, err = told(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert "schema" in err


def test_a_run_whose_training_has_not_finished_says_so(demo: Path, journeys: Path, tmp_path: Path, told: Told):
    run = tmp_path / "run"
    shutil.copytree(demo, run)
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["files"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    code, err = told("evaluate", run)
    assert (code, err.count("\n")) == (2, 1)
    assert "--resume" in err
