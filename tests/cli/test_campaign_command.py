"""headrace campaign: spends within the budget, tells what it brought, and goes on after kill -9 to equal bytes."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import ENVIRONMENT, Told, bytes_of, command, whole

from headrace.campaign.allocator import Price
from headrace.campaign.config import CampaignConfig
from headrace.campaign.contestants import PLAIN
from headrace.campaign.procedure import run_campaign
from headrace.campaign.world_market import TrueRates, WorldMarket
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.report.page import write_page
from headrace.simulate.scenario import Scenario

CLOSED = ("--channel-budget", *(f"{name}=0" for name in Scenario.load("ads").channels))
SPEND = ("--world", "ads", "--users", 60, "--days", 3, "--budget", 20, "--seed", 3)


@pytest.fixture(scope="module")
def spent(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("campaign") / "campaign"
    done = whole("campaign", demo, *SPEND, "--hold-out", 0.2, "--out", folder)
    assert "EUR of 20.00" in done.stdout and "users reached" in done.stdout
    return folder


def test_results_tell_spend_value_increment_and_regret(spent: Path) -> None:
    records = json.loads((spent / "results.json").read_text())
    told = {(r["metric"], json.dumps(r["setting"])): r for r in records}
    spend = told["spend", "{}"]
    assert 0 < spend["value"] <= 20 and spend["refused"] is None
    for metric in ("true_value", "incremental_value", "regret"):
        r = told[metric, "{}"]
        assert r["low"] < r["value"] < r["high"] and r["n"] == 60 and r["protocol"] == "campaign"
    assert told["regret", "{}"]["against"] == "reference"
    rounds = [r for r in records if r["metric"] == "spend" and "round" in r["setting"]]
    assert sum(r["value"] for r in rounds) == pytest.approx(spend["value"])
    assert told["incremental_value", '{"by": "hold-out"}']["value"] is not None
    for (metric, setting), r in told.items():
        if metric in ("true_value", "attributed_value") and "gain" in setting:
            assert r["low"] is None if r["value"] == 0 else 0 <= r["low"] <= r["value"], r
    revenue = told["true_value", '{"gain": "revenue"}'], told["incremental_value", '{"gain": "revenue"}']
    assert revenue[0]["value"] >= revenue[1]["value"]
    manifest = json.loads((spent / "manifest.json").read_text())
    assert {"results.json", "campaign.json", "campaign.html", "ledger.sqlite"} <= set(manifest["files"])


def test_the_reference_is_the_comparisons_full_information(spent: Path) -> None:
    known = CampaignConfig(20_000_000, **PLAIN, rescore="reachable")
    market = WorldMarket(Scenario.load("ads"), 60, 3, 3)
    done = run_campaign(market, TrueRates({"click": 1.0}), Price(), known)
    told = json.loads((spent / "campaign.json").read_text())["reference"]
    assert [r["spent"] for r in told] == [r["spent"] / 1_000_000 for r in done.rounds]


def test_the_page_is_whole_and_stands_alone(spent: Path) -> None:
    page = (spent / "campaign.html").read_text()
    assert page.count("<svg") == 5 and "every entry of the ledger adds up" in page and "http" not in page
    assert write_page(spent) == spent / "campaign.html" and not (spent / "report.html").exists()
    assert (spent / "campaign.html").read_text() == page
    account = json.loads((spent / "campaign.json").read_text())
    assert account["audit"]["sound"] and account["audit"]["accounts"]["total"]["reserved"] == 0
    assert [p["users"] for p in account["curve"]][::50] == [0.0, 1.0]


def test_its_log_can_be_valued(spent: Path, tmp_path: Path, told: Told) -> None:
    log = Journeys(spent / "journeys")
    propensity = log.column("propensity")
    assert log.n_steps > 0 and (propensity > 0).all() and (propensity <= 1).all()
    code, words = told("ope", "logged", "--data", spent / "journeys")
    assert code == 0, words


def test_a_campaign_killed_at_any_round_resumes_to_equal_bytes(demo: Path, spent: Path, tmp_path: Path) -> None:
    words = ("campaign", demo, *SPEND, "--hold-out", 0.2, "--out", tmp_path / "c")
    for number in (3, 11):
        process = subprocess.Popen(
            command(*words, "--resume"), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        round_file = tmp_path / "c" / "rounds" / f"{number:05d}.npz"
        while not round_file.is_file() and process.poll() is None:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "c" / "results.json").is_file()
    whole(*words, "--resume")
    ours, theirs = bytes_of(tmp_path / "c"), bytes_of(spent)
    assert {name for name in ours if ours[name] != theirs.get(name)} == set()
    assert set(ours) == set(theirs)


def test_resuming_a_campaign_that_is_not_there_begins_one_and_says_so(demo: Path, tmp_path: Path, told: Told) -> None:
    words = ("campaign", demo, *SPEND, "--days", 1, "--out", tmp_path / "c", "--resume")
    assert told(*words) == (0, f"{tmp_path / 'c'}: no campaign there to resume; beginning a new one\n")
    assert told(*words) == (0, "")


def test_mistakes_are_told_in_one_line(demo: Path, spent: Path, tmp_path: Path, told: Told) -> None:
    for words, part in (
        ((demo, *SPEND, "--out", spent), "--resume"),
        ((demo, *SPEND, "--preset", "papr", "--out", tmp_path / "a"), "did you mean 'paper'"),
        ((demo, "--world", "feed", "--budget", 1, "--out", tmp_path / "a"), "no [ads]"),
        ((demo, "--world", "criteo", "--budget", 1, "--out", tmp_path / "a"), "other channels"),
        ((demo, *SPEND, "--seed", 0, "--out", tmp_path / "a"), "the same users and luck"),
        ((demo, "--world", "ads", "--budget", -1, "--out", tmp_path / "a"), "budget"),
        ((demo, *SPEND, "--daily", -1, "--out", tmp_path / "a"), "daily is -1"),
        ((demo, *SPEND, "--users", 0, "--out", tmp_path / "a"), "users is 0"),
        ((demo, *SPEND, "--price", 3, "--out", tmp_path / "a"), "in EUR already"),
        ((demo, *SPEND, "--channel-budget", "serch=3", "--out", tmp_path / "a"), "did you mean 'search'"),
        ((demo, *SPEND, "--channel-budget", "email=1", "email=2", "--out", tmp_path / "a"), "given twice"),
        ((demo, *SPEND, "--channel-budget", "search", "--out", tmp_path / "a"), "CHANNEL=AMOUNT"),
        ((demo, *SPEND, *CLOSED, "--out", tmp_path / "a"), "every channel is closed"),
        ((demo, *SPEND, "--refit", 0, "--out", tmp_path / "a"), "refit_every = 0"),
        ((tmp_path / "none", *SPEND, "--out", tmp_path / "a"), "not a run"),
        ((demo, *SPEND, "--hold-out", 0.3, "--out", spent, "--resume"), "cannot resume"),
    ):
        code, line = told("campaign", *words)
        assert code == 2 and part in line and line.count("\n") == 1, (words, line)
        assert not (tmp_path / "a").exists()


def test_the_papers_preset_spends_within_the_same_budget(demo: Path, tmp_path: Path, told: Told) -> None:
    out = tmp_path / "paper"
    assert told("campaign", demo, *SPEND, "--preset", "paper", "--out", out)[0] == 0
    account = json.loads((out / "campaign.json").read_text())
    assert account["allocator"] == "top-users" and account["audit"]["sound"]
    assert sum(r["spent"] for r in account["rounds"]) <= 20_000_000


def test_a_channel_keeps_to_its_own_budget(demo: Path, tmp_path: Path, told: Told) -> None:
    out = tmp_path / "pots"
    assert told("campaign", demo, *SPEND, "--channel-budget", "email=1", "display=10%", "--out", out)[0] == 0
    held = json.loads((out / "campaign.json").read_text())["audit"]["accounts"]
    for name, pot in (("channel/email", 1_000_000), ("channel/display", 2_000_000)):
        assert held[name]["spent"] <= held[name]["budget"] == pot


def test_the_run_is_trained_on_by_what_the_campaign_sees(demo: Path, tmp_path: Path, told: Told) -> None:
    out = tmp_path / "refitted"
    assert told("campaign", demo, *SPEND, "--refit", 6, "--out", out)[0] == 0
    begun = np.min(Journeys(out / "journeys").time)
    assert begun > np.max(Journeys(Path(Run.open(demo).manifest["provenance"]["data"])).time)
    refits = sorted((out / "refits").iterdir())
    assert [int(folder.name) for folder in refits] == [6 * k for k in range(1, 1 + len(refits))] and refits
    trained = [folder / "run" for folder in refits if (folder / "run" / "manifest.json").is_file()]
    assert trained and Run.open(trained[-1]).read_weights("model.safetensors")


def test_a_user_is_shown_at_most_so_many_adverts_and_the_share_by_lot_is_kept(
    demo: Path, tmp_path: Path, told: Told
) -> None:
    words = (demo, *SPEND, "--cap-total", 1, "--explore", 0.5, "--out", tmp_path / "c")
    assert told("campaign", *words)[0] == 0
    log = Journeys(tmp_path / "c" / "journeys")
    assert log.n_steps > 0 and (np.diff(log.offsets) <= 1).all()
    config = json.loads((tmp_path / "c" / "config.json").read_text())["campaign"]
    assert config["cap"] == 1 and config["explore"] == 0.5
    code, line = told("campaign", demo, *SPEND, "--explore", 2, "--out", tmp_path / "d")
    assert code == 2 and "explore = 2" in line and not (tmp_path / "d").exists()
