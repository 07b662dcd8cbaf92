"""headrace compare channel: as a user calls it, stopped in the middle, gone on with, and with a method added later."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import ENVIRONMENT, Told, command

from headrace.cli import run
from headrace.evaluate.results import KEYS

TINY = ("--preset", "tiny", "--set", "epochs=1", "batch_size=16", "--seeds", "2", "--floors", "prior")


@pytest.fixture(scope="module")
def compared(journeys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two methods that nothing stopped."""
    out = tmp_path_factory.mktemp("compared") / "c"
    words = ("compare", "channel", "--data", journeys, "--methods", "mtorl,din", *TINY, "--out", out)
    assert run([str(w) for w in words]) == 0
    return out


def test_a_comparison_tells_hours_cells_and_every_figure(
    journeys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    changes = ("--set", "epochs=1", "batch_size=16", "hidden=8", "layers=1", "--seeds", "1", "--floors", "prior")
    words = ("compare", "channel", "--data", journeys, "--methods", "din,bc", *changes)
    assert run([str(w) for w in (*words, "--preset", "paper", "--out", tmp_path / "c")]) == 0
    told = capsys.readouterr().out
    for departed in ("no preset paper, so default: din, bc", "no field for layers=1: din"):
        assert told.count(departed) == 2 and departed in (tmp_path / "c" / "report.html").read_text()
    assert "hidden=8" not in told
    assert "2 fits to do, about 0 min" in told and "if nothing else runs here" in told
    assert "1 of 2: din seed 0, " in told
    assert "Next channel" in told and "seconds of a fit" in told


def test_results_hold_each_seed_the_mean_and_differences_to_the_reference(compared: Path):
    records = json.loads((compared / "results.json").read_text())
    assert {tuple(r) for r in records} == {KEYS}
    metrics = {r["metric"] for r in records if r["method"] == "din" and r["against"] == "mtorl"}
    assert {"action/log_loss", "action/f1_macro", "reward/auc", "reward_by_channel/log_loss"} <= metrics
    assert "imitation_reward" in metrics
    alone = {(r["metric"], "share" in r["setting"]) for r in records if r["method"] == "din" and not r["against"]}
    assert {("gain_of_chosen", True), ("value_snips", False), ("value_snips", True)} <= alone  # propensities are logged
    seeds = {r["seed"] for r in records if r["method"] == "din" and r["metric"] == "action/log_loss"}
    assert seeds == {0, 1, None}
    page = (compared / "report.html").read_text()
    assert "Quality against compute" in page and "Differences to MTORL" in page and "<svg" in page


def test_a_comparison_that_is_killed_goes_on_to_the_same_results(compared: Path, journeys: Path, tmp_path: Path):
    words = ("compare", "channel", "--data", journeys, "--methods", "mtorl,din", *TINY, "--out", tmp_path / "c")
    process = subprocess.Popen(command(*words), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    second = tmp_path / "c" / "cells" / "din-0" / "checkpoints"
    while process.poll() is None and not second.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "c" / "results.json").exists()
    first = (tmp_path / "c" / "cells" / "mtorl-0" / "manifest.json").read_bytes()
    assert run([str(w) for w in words]) == 0
    assert (tmp_path / "c" / "cells" / "mtorl-0" / "manifest.json").read_bytes() == first
    for name in ("results.json", "comparison.json", "config.json"):
        assert (tmp_path / "c" / name).read_bytes() == (compared / name).read_bytes(), name


def test_a_method_added_later_leaves_the_other_cells_alone(compared: Path, journeys: Path, tmp_path: Path, told: Told):
    out = tmp_path / "c"
    words = ("compare", "channel", "--data", journeys, *TINY, "--out", out)
    assert told(*words, "--methods", "mtorl")[0] == 0
    kept = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*") if path.is_file()}
    assert kept
    assert told(*words, "--methods", "din")[0] == 0  # what was done stays in the table
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert json.loads((out / "comparison.json").read_text())["methods"] == ["din", "mtorl"]

    def figures(folder: Path) -> set[str]:
        records = json.loads((folder / "results.json").read_text())
        return {json.dumps(r) for r in records}

    assert figures(out) == figures(compared)


def test_every_method_is_given_the_same_trials(journeys: Path, tmp_path: Path, told: Told):
    out = tmp_path / "c"
    words = ("compare", "channel", "--data", journeys, "--methods", "mtorl,din", *TINY, "--seeds", "1", "--tune", "2")
    assert told(*words, "--out", out)[0] == 0
    trials = {m: (out / "tuning" / m / "trials.jsonl").read_text().splitlines() for m in ("mtorl", "din")}
    assert [len(lines) for lines in trials.values()] == [2, 2]
    for name, lines in trials.items():
        done = [t for t in map(json.loads, lines) if t["value"] is not None]
        best = min(done, key=lambda t: t["value"])
        config = json.loads((out / "cells" / f"{name}-0" / "config.json").read_text())["config"]
        assert {k: config[k] for k in best["changes"]} == best["changes"]
        assert config["epochs"] == 1 and "epochs" not in json.loads(lines[1])["changes"]
    studied = {path: path.stat().st_mtime_ns for path in (out / "tuning").rglob("trials.jsonl")}
    assert told(*words, "--methods", "mtorl,din,bc", "--jobs", "2", "--out", out)[0] == 0  # one more, by two processes
    assert {path: path.stat().st_mtime_ns for path in studied} == studied


def test_mistakes_leave_as_one_line(compared: Path, journeys: Path, tmp_path: Path, told: Told):
    base = ("compare", "channel", "--data", journeys, "--out", tmp_path / "x")
    wrong = (
        ((*base, "--methods", "mtorl,dim"), "unknown method 'dim', did you mean 'din'?"),
        ((*base, "--protocol", "honets"), "did you mean 'honest'?"),
        ((*base, "--floors", "priro"), "did you mean 'prior'?"),
        ((*base, "--methods", "din", "--against", "mtorl"), "--against: unknown method 'mtorl'"),
        ((*base, "--seeds", "0"), "--seeds 0: expected 1 or more"),
        ((*base, "--tune", "-1"), "--tune -1: expected 0 or more"),
        ((*base, "--set", "epoch=1"), "did you mean 'epochs'?"),
        ((*base, "--set", "seed=1"), "--set seed: the comparison sets it"),
        ((*base, "--preset", "tny"), "did you mean 'tiny'?"),
        ((*base, "--propensity", "logd"), "did you mean 'logged'?"),
        ((*base, "--share", "2"), "expected a share"),
        (("compare", "channel", "--data", tmp_path / "no", "--out", tmp_path / "x"), "no such file or folder"),
        (("compare", "channel", "--data", journeys, "--out", compared, *TINY, "--seed", "1"), "cannot resume"),
        (("compare", "channel", "--data", journeys, "--out", journeys), "exists; choose another --out"),
    )
    for words, expected in wrong:
        code, err = told(*words)
        assert (code, err.count("\n")) == (2, 1), (words, err)
        assert expected in err, err
    assert not (tmp_path / "x").exists()
