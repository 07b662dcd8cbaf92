"""headrace evaluate: the own test part, journeys that the run never saw, and what is left when journeys are gone."""

import json
import shutil
from pathlib import Path

import pytest
from commands import Told, bytes_of, call

FLOORS = ("--floors", "prior", "past-rate", "trees")


@pytest.fixture
def run(demo: Path, tmp_path: Path) -> Path:
    """A copy of the demo's run, without its journeys beside it; its manifest still tells where they are."""
    shutil.copytree(demo, tmp_path / "run")
    return tmp_path / "run"


def records(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "results.json").read_text())
    return found


def test_the_own_journeys_given_by_name_are_the_own_test_part(run: Path, journeys: Path, tmp_path: Path, told: Told):
    own = tmp_path / "moved"
    shutil.copytree(journeys, own)
    before = bytes_of(run)
    assert told("evaluate", run, *FLOORS, "--out", tmp_path / "a") == (0, "")
    assert told("evaluate", run, *FLOORS, "--data", own, "--out", tmp_path / "b") == (0, "")
    assert bytes_of(run) == before
    assert records(tmp_path / "a") == records(tmp_path / "b")
    assert {r["part"] for r in records(tmp_path / "a")} == {"test"}


def test_only_all_floors_on_the_own_test_part_replace_the_results_of_the_run(run: Path, unseen: Path, told: Told):
    before = bytes_of(run)
    for words, name in (
        (("--floors", "prior"), "run-some-floors"),
        (("--floors", "prior", "--part", "validation"), "run-validation-some-floors"),
        (("--data", unseen), "run-on-journeys"),
    ):
        assert told("evaluate", run, *words) == (0, "")
        assert bytes_of(run) == before
        assert records(run.with_name(name))
        for again in ((), ("--out", run)):
            code, err = told("evaluate", run, *words, *again)
            assert (code, err.count("\n")) == (2, 1)
            assert "choose another --out" in err
    assert told("evaluate", run) == (0, "")
    assert {r["method"] for r in records(run)} > {"mtorl", "prior", "trees"}


def test_a_page_of_another_log_shows_that_log_and_no_audit_of_the_own_one(demo: Path, unseen: Path, tmp_path: Path):
    done = call("evaluate", demo, "--data", unseen, "--floors", "prior", "--out", tmp_path / "other")
    assert "users, whom training saw" in done.stdout
    page = (tmp_path / "other" / "report.html").read_text()
    assert "another log than it was fitted on, users that training never saw" in page
    assert "of a run fitted under protocol" in page and "tested on later time" not in page
    assert "users of the training, left out" in page
    assert "What the audit found" not in page
    assert "What the audit found" in (demo / "report.html").read_text()


def test_a_run_is_measured_on_journeys_it_never_saw_with_the_floors(demo: Path, unseen: Path, tmp_path: Path):
    before = bytes_of(demo)
    done = call("evaluate", demo, "--data", unseen, *FLOORS, "--out", tmp_path / "other")
    assert (done.returncode, done.stderr) == (0, "")
    assert bytes_of(demo) == before
    found = [r for r in records(tmp_path / "other") if r["metric"] == "action/log_loss" and r["against"] is None]
    assert {r["method"] for r in found} == {"mtorl", "prior", "trees"}
    assert {(r["part"], r["n"]) for r in found} == {("other", found[0]["n"])}
    manifest = json.loads((tmp_path / "other" / "manifest.json").read_text())
    assert manifest["provenance"]["trained_on"] != manifest["provenance"]["data_fingerprint"]
    assert (tmp_path / "other" / "report.html").is_file()


def test_without_the_journeys_of_the_training_other_ones_are_measured_without_floors(
    run: Path, unseen: Path, tmp_path: Path, told: Told
):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["provenance"]["data"] = str(tmp_path / "gone")
    (run / "manifest.json").write_text(json.dumps(manifest))
    code, err = told("evaluate", run)
    assert (code, err.count("\n")) == (2, 1)
    assert "--data JOURNEYS" in err
    code, err = told("evaluate", run, "--data", unseen, "--out", tmp_path / "a", *FLOORS)
    assert (code, err.count("\n")) == (2, 1)
    assert "--floors" in err
    code, err = told("evaluate", run, "--data", unseen, "--out", tmp_path / "b")
    assert (code, err.count("\n")) == (0, 1)
    assert "no floors" in err
    assert {r["method"] for r in records(tmp_path / "b")} == {"mtorl"}
