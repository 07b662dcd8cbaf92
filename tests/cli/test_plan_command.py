"""headrace plan: a plan within the budget, its page and its records; the same each time; mistakes in one line."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import ENVIRONMENT, Told, bytes_of, call, command, whole

from headrace.cli.planning import priced
from headrace.evaluate.results import KEYS
from headrace.journeys.store import Journeys


def test_a_plan_is_within_its_budget_and_leaves_every_file(demo: Path, unseen: Path, tmp_path: Path):
    out = tmp_path / "plan"
    words = ("plan", demo, "--data", unseen, "--budget", 1, "--cap", "search=40%", "--days", 2, "--exploration", 0.1)
    done = whole(*words, "--out", out, says="below a floor")
    table = pl.read_parquet(out / "plan.parquet")
    assert {"user", "channel", "expected_gain", "expected_cost", "price_micros"} <= set(table.columns)
    assert 0 < table["price_micros"].sum() <= 1_000_000
    assert table.filter(pl.col("channel") == "search")["price_micros"].sum() <= 400_000
    assert table["user"].is_duplicated().sum() == 0
    records = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(tuple(r) == KEYS for r in records)
    told = {r["metric"]: r["value"] for r in records if not r["setting"]}
    assert told["spend"] == pytest.approx(table["price_micros"].sum() / 1e6)
    assert told["expected_gain"] == pytest.approx(table["expected_gain"].sum())
    assert told["expected_gain"] <= told["expected_gain_bound"]
    page = (out / "plan.html").read_text(encoding="utf-8")
    assert "10 % more budget" in page and "<svg" in page
    assert "10 % more budget" in done.stdout and "marginal" in done.stdout
    again = tmp_path / "again"
    whole(*words, "--out", again, says="below a floor")
    assert bytes_of(again) == bytes_of(out)
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["files"].keys() >= {
        "plan.parquet",
        "plan.html",
    }


def test_no_exposure_is_planned_as_cheaper_than_a_fifth_of_its_channels_mean(unseen: Path):
    journeys = Journeys(unseen)
    cost, channel = np.asarray(journeys.column("cost")), np.asarray(journeys.channel)
    mean = np.array([cost[channel == c].mean() for c in range(len(journeys.channels))])
    foreseen = np.stack([-mean, 0 * mean, 0.01 * mean, 0.3 * mean, 2 * mean])
    costs, raised = priced(foreseen, journeys)
    assert costs == pytest.approx(np.stack([0.2 * mean] * 3 + [0.3 * mean, 2 * mean])) and raised == 3 * len(mean)


def test_a_world_is_planned_on_a_log_of_its_own(demo: Path, tmp_path: Path, told: Told):
    words = ("plan", demo, "--data", "ads", "--users", 30, "--budget", 1, "--out", tmp_path / "plan")
    assert told(*words)[0] == 0
    assert pl.read_parquet(tmp_path / "plan" / "plan.parquet")["price_micros"].sum() <= 1_000_000
    (tmp_path / "plan" / "plan.html").unlink()
    assert told("report", tmp_path / "plan")[0] == 0


def test_a_killed_plan_leaves_nothing_or_all_of_it(demo: Path, unseen: Path, tmp_path: Path):
    words = ("plan", demo, "--data", unseen, "--budget", 1)
    whole(*words, "--out", tmp_path / "whole", says="below a floor")
    out, beside = tmp_path / "plan", tmp_path / ".plan.new"
    for name in ("config.json", "plan.parquet", "plan.json"):
        process = subprocess.Popen(
            command(*words, "--out", out), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not (beside / name).is_file() and process.poll() is None:
            time.sleep(0.0005)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL and (beside / name).is_file() and not out.exists()
    whole(*words, "--out", out, says="below a floor")
    assert bytes_of(out) == bytes_of(tmp_path / "whole") and not beside.exists()
    done = call(*words, "--out", out)
    assert done.returncode == 2 and "exists; choose another --out" in done.stderr


def test_clashing_demands_leave_with_3_and_the_smallest_change(demo: Path, unseen: Path, tmp_path: Path):
    file = tmp_path / "demands.toml"
    file.write_text("budget = 1\n[channels.search]\nfloor = 0.7\n[channels.video]\nfloor = 0.5\n", encoding="utf-8")
    done = call("plan", demo, "--data", unseen, "--constraints", file, "--out", tmp_path / "plan")
    assert done.returncode == 3
    assert "budget (1)" in done.stderr and "raise budget by 0.2 to 1.2" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "plan").exists()
    done = call("plan", demo, "--data", unseen, "--budget", 1, "--score", "increment", "--out", tmp_path / "plan")
    assert done.returncode == 3 and "no steps without an advert" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "plan: no budget"),
        (("--budget", "0"), "budget is 0"),
        (("--budget", "-1"), "budget is -1, expected 0 or more"),
        (("--budget", "1", "--daily-budget", "0"), "daily_budget is 0"),
        (("--budget", "1", "--cap", "serch=1"), "did you mean 'search'?"),
        (("--budget", "1", "--cap", "search"), "expected CHANNEL=AMOUNT"),
        (("--budget", "1", "--floor", "search=x"), "floor of search is 'x'"),
        (("--budget", "1", "--freeze", "serch"), "did you mean 'search'?"),
        (("--budget", "1", "--price", "3"), "is in EUR already"),
        (("--budget", "1", "--score", "gian"), "did you mean 'gain'?"),
        (("--budget", "1", "--pacing", "evn"), "did you mean 'even'?"),
        (("--budget", "1", "--constraints", "no.toml"), "no such constraints file"),
        (("--budget", "1", "--no-ad", "serch"), "did you mean 'search'?"),
        (("--budget", "1", "--data", "adz"), "did you mean 'ads'?"),
        (("--budget", "1", "--alpha", "2"), "alpha = 2.0"),
    ],
)
def test_a_mistake_in_a_plan_is_one_line(
    words: tuple[str, ...], says: str, demo: Path, journeys: Path, tmp_path: Path, told: Told
):
    data = () if "--data" in words else ("--data", journeys)
    code, error = told("plan", demo, *data, *words, "--out", tmp_path / "plan")
    assert code == 2, error
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "plan").exists()
