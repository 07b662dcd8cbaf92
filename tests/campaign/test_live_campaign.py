"""headrace campaign --market: real users by exchanged files, a kill at any turn, and the log that comes of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from jobs import Shop, shop_log, wait_for

from headrace.cli import run
from headrace.journeys.store import Journeys
from headrace.learn.run import Run

SOURCE = Path(__file__).resolve().parents[2] / "src"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
SPEND = ("--budget", "4", "--hold-out", "0.2", "--daily", "1.5", "--cap", "1", "--wait", "60")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the shop's own log, which no world has anything to do with."""
    folder = tmp_path_factory.mktemp("trained")
    shop_log(folder)
    words = ("train", "mtorl", "--data", folder / "shop-journeys", "--preset", "tiny", "--out", folder / "run")
    assert run([str(w) for w in words]) == 0
    return folder / "run"


def command(trained: Path, folder: Path, out: Path, *more: str) -> list[str]:
    return ["campaign", str(trained), "--market", str(folder), "--out", str(out), *SPEND, *more]


def started(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "headrace.cli", *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def bytes_of(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if p.name != "manifest.json"}


@pytest.fixture(scope="module")
def spent(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the campaign's out and the market that it was run on."""
    folder = tmp_path_factory.mktemp("spent")
    with Shop(folder / "market", closing='["outcomes", "totals"]'):
        assert run(command(trained, folder / "market", folder / "out")) == 0
    return folder


def test_it_leaves_results_a_page_and_what_is_known(spent: Path) -> None:
    out = spent / "out"
    told = {(r["metric"], json.dumps(r["setting"])): r for r in json.loads((out / "results.json").read_text())}
    assert 0 < told["spend", "{}"]["value"] <= 4 and told["spend", "{}"]["part"] == "live"
    assert told["attributed_value", "{}"]["value"] > 0 and told["true_value", "{}"]["value"] >= 60
    assert told["incremental_value", "{}"]["refused"] and ("regret", "{}") not in told
    assert told["incremental_value", '{"by": "hold-out"}']["low"] is not None
    account = json.loads((out / "campaign.json").read_text())
    assert account["audit"]["sound"] and account["reference"] is None and account["currency"] == "EUR"
    assert all(sum(r["spent"] for r in account["rounds"] if r["day"] == day) <= 1_500_000 for day in range(4))
    page = (out / "campaign.html").read_text()
    assert "brought by adverts" in page and "ull information" not in page and "by hold-out" in page
    assert "adverts decided and not shown" in page and page.count("<svg") == 5


def test_its_log_is_valued_and_trained_on(spent: Path, trained: Path, tmp_path: Path) -> None:
    log = Journeys(spent / "out" / "journeys")
    assert log.schema.gains == Journeys(trained.parent / "shop-journeys").schema.gains
    assert run(["ope", "logged", "--data", str(log.path), "--out", str(tmp_path / "ope")]) == 0
    words = ["train", "mtorl", "--from", str(trained), "--data", str(log.path), "--out", str(tmp_path / "next")]
    assert run(words) == 0
    assert Run.open(tmp_path / "next").read_weights("model.safetensors")


def test_killed_at_any_turn_it_resumes_to_equal_bytes(spent: Path, trained: Path, tmp_path: Path) -> None:
    with Shop(tmp_path / "market", closing='["outcomes", "totals"]'):
        for name in ("turns/00001/decisions.parquet", "turns/00004/outcomes.parquet"):
            process = started(command(trained, tmp_path / "market", tmp_path / "out", "--resume"))
            wait_for(tmp_path / "market" / name)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
        process = started(command(trained, tmp_path / "market", tmp_path / "out", "--resume"))
        told = process.communicate()
    assert process.returncode == 0 and told[1] == "", told
    for part in ("out", "market"):
        ours, theirs = bytes_of(tmp_path / part), bytes_of(spent / part)
        assert set(ours) == set(theirs)
        assert {name for name in ours if ours[name] != theirs[name]} == set()


def test_sigterm_while_it_waits_loses_nothing(
    spent: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Shop(tmp_path / "market", closing='["outcomes", "totals"]')
    job.folder.joinpath("turns").mkdir()
    process = started(command(trained, job.folder, tmp_path / "out"))
    wait_for(tmp_path / "out" / "ledger.sqlite")
    time.sleep(0.2)
    process.terminate()
    assert process.communicate()[1].strip() == "headrace: stopped by SIGTERM" and process.returncode == 143
    capsys.readouterr()
    assert run([*command(trained, job.folder, tmp_path / "out", "--resume"), "--wait", "0"]) == 2
    assert "turns/00000/reachable.parquet: not there after 0 s" in capsys.readouterr().err
    with job:
        assert run(command(trained, job.folder, tmp_path / "out", "--resume")) == 0
    ours, theirs = bytes_of(tmp_path / "out"), bytes_of(spent / "out")
    assert {name for name in ours if ours[name] != theirs[name]} == set()


def test_it_is_trained_on_by_what_it_sees(trained: Path, tmp_path: Path) -> None:
    with Shop(tmp_path / "market"):
        assert run(command(trained, tmp_path / "market", tmp_path / "out", "--refit", "3")) == 0
    refits = sorted(p.name for p in (tmp_path / "out" / "refits").iterdir())
    assert refits == ["00003", "00006"]
    log = Journeys(tmp_path / "out" / "refits" / "00006" / "log")
    assert np.min(log.time) >= 10**9 and log.n_steps < Journeys(tmp_path / "out" / "journeys").n_steps


def test_mistakes_are_told_in_one_line(
    trained: Path, spent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    market, out = ("--market", str(spent / "market")), ("--out", str(tmp_path / "a"))
    for words, part in (
        ((*out,), "give either --world WORLD, to simulate, or --market FOLDER"),
        ((*market, "--world", "ads", *out), "give either --world WORLD, to simulate, or --market FOLDER"),
        ((*market, "--users", "9", *out), "market.toml tells it of a market"),
        (("--world", "ads", "--wait", "9", *out), "--wait is of a --market"),
        (("--world", "ads", *out), "other channels"),
        (("--market", str(tmp_path), *out), "market.toml: no such file"),
        ((*market, "--price", "3", *out), "in EUR already"),
        ((*market, "--wait", "-1", *out), "expected a number of seconds"),
        ((*market, "--channel-budget", "tv=3", *out), "unknown channel 'tv'"),
        ((*market, "--wait", "0", *out), "another campaign decided this turn"),
    ):
        capsys.readouterr()
        assert run(["campaign", str(trained), "--budget", "4", *words]) == 2
        line = capsys.readouterr().err
        assert part in line and line.count("\n") == 1, (words, line)
    shutil.copytree(spent, tmp_path / "copy")
    with (tmp_path / "copy" / "market" / "customers.csv").open("a") as file:
        file.write("c999,gold\n")
    assert run(command(trained, tmp_path / "copy" / "market", tmp_path / "copy" / "out", "--resume")) == 2
    assert "cannot resume" in capsys.readouterr().err
