"""headrace train --from: a run goes on with what a stream brought since; killed, it ends in the same bits."""

import json
import random
import signal
from pathlib import Path

import pytest
from commands import Told, bytes_of, call, whole
from test_train_command import stop

from headrace.cli import run
from headrace.learn import durable

TINY = ("--preset", "tiny", "--set", "epochs=6", "forget=0.5")


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A world's log as it stood after so many days."""
    folder = tmp_path_factory.mktemp("days")
    for n in (12, 15, 18):
        words = ["simulate", "ads", "--users", "120", "--days", str(n), "--seed", "7", "--out", str(folder / str(n))]
        assert run(words) == 0
    return {n: folder / str(n) for n in (12, 15, 18)}


@pytest.fixture(scope="module")
def first(days: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "run"
    whole("train", "mtorl", "--data", days[12], "--out", out, "--preset", "tiny", "--protocol", "users")
    return out


def test_a_chain_of_runs_is_killed_resumed_and_measured(days: dict[int, Path], first: Path, tmp_path: Path, told: Told):
    undisturbed, disturbed, third = tmp_path / "second", tmp_path / "again", tmp_path / "third"
    done = whole("train", "mtorl", "--from", first, "--data", days[15], "--out", undisturbed, *TINY)
    assert "forgotten along the chain: policy " in done.stdout

    at = random.Random().randint(1, 20)
    words = ("train", "mtorl", "--from", first, "--data", days[15], "--out", disturbed, *TINY)
    assert stop(signal.SIGKILL, at, *words) == (-signal.SIGKILL, ""), at
    assert not (disturbed / "model.safetensors").exists()
    code, err = told(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "--resume" in err
    whole(*words, "--resume")
    assert bytes_of(disturbed) == bytes_of(undisturbed), at

    whole("train", "mtorl", "--from", undisturbed, "--data", days[18], "--out", third, *TINY)
    provenance = json.loads((third / "manifest.json").read_text())["provenance"]
    assert provenance["parent"]["model"] == durable.sha256(undisturbed / "model.safetensors")
    assert json.loads((third / "config.json").read_text())["from"]["model"] == provenance["parent"]["model"]
    assert told("evaluate", third, "--floors", "prior") == (0, "")
    assert json.loads((third.with_name("third-some-floors") / "results.json").read_text())
    assert told("evaluate", third, "--data", days[12], "--floors", "prior", "--out", tmp_path / "other") == (0, "")
    audit = {f["check"]: f for f in json.loads((third / "audit.json").read_text())}
    assert audit["transforms"]["verdict"] == "clean" and "parent" in audit["transforms"]["detail"]


def test_resuming_from_another_parent_is_refused(days: dict[int, Path], first: Path, tmp_path: Path, told: Told):
    other = tmp_path / "other"
    whole("train", "mtorl", "--data", days[12], "--out", other, "--preset", "tiny", "--protocol", "users", "--seed", 1)
    whole("train", "mtorl", "--from", first, "--data", days[15], "--out", tmp_path / "run", *TINY)
    code, err = told(
        "train", "mtorl", "--from", other, "--data", days[15], "--out", tmp_path / "run", *TINY, "--resume"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot resume" in err


def test_what_cannot_go_on_is_told_in_one_line(days: dict[int, Path], first: Path, tmp_path: Path, told: Told):
    log, schema = tmp_path / "log.csv", tmp_path / "log.toml"
    rows = [f"{i // 8},{'abc'[i % 3]},{i % 2}\n" for i in range(640)]
    log.write_text("who,medium,opened\n" + "".join(rows))
    schema.write_text('name = "letters"\nuser = "who"\nchannel = "medium"\n[[gains]]\nname = "opened"\n')
    assert call("data", "prepare", log, "--schema", schema, "--out", tmp_path / "letters").returncode == 0
    whole("train", "mtorl", "--data", tmp_path / "letters", "--out", tmp_path / "clockless", "--preset", "tiny")
    out = ("--out", tmp_path / "run")
    wrong = {
        "which this log lacks": ("--from", first, "--data", tmp_path / "letters", *out),
        "no stream.json": ("--from", tmp_path / "clockless", "--data", tmp_path / "letters", *out),
        "give a longer log": ("--from", first, "--data", days[12], *out),
        "not a run": ("--from", tmp_path / "none", "--data", days[15], *out),
        "keeps its parent's": ("--from", first, "--data", days[15], *out, "--protocol", "honest"),
        "did you mean 'forget'": ("--from", first, "--data", days[15], *out, "--set", "forgets=1"),
        "Known: default, tiny": ("--from", first, "--data", days[15], *out, "--preset", "paper"),
    }
    for expected, words in wrong.items():
        code, err = told("train", "mtorl", *words)
        assert (code, err.count("\n")) == (2, 1), (expected, err)
        assert expected in err, err
        assert not (tmp_path / "run" / "config.json").exists()
    code, err = told("train", "din", "--from", first, "--data", days[15], *out)
    assert (code, err.count("\n")) == (2, 1)
    assert "of din" in err
