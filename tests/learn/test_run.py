import json
import os
import sys

import pytest

from headrace.errors import UserError
from headrace.learn import durable
from headrace.learn.run import Run


def test_a_run_holds_its_config_and_manifest(tmp_path):
    run = Run.create(tmp_path / "new" / "run", {"width": 8, "sizes": (1, 2)}, data="d0", split="s0")
    assert Run.open(run.path).config == {"width": 8, "sizes": [1, 2]}
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["config"] == {"width": 8, "sizes": [1, 2]}
    assert manifest["provenance"] == {"data": "d0", "split": "s0"}
    assert {"version", "commit", "machine", "threads"} < manifest.keys()


def test_seal_lists_the_sha256_of_every_file(tmp_path):
    run = Run.create(tmp_path / "run", {})
    run.write_json("results.json", [])
    run.log("fit", 1, 1, "train", {"loss": 1.0})
    (run.path / ".left-over").write_text("by a kill")
    run.seal()
    files = run.manifest["files"]
    assert sorted(files) == ["config.json", "metrics.jsonl", "results.json"]
    assert files["results.json"] == durable.sha256(run.path / "results.json")


def test_a_run_that_exists_is_refused_unless_resumed(tmp_path):
    Run.create(tmp_path / "run", {"a": 1})
    with pytest.raises(UserError, match=r"run: a run is there already; go on with --resume, or choose another --out"):
        Run.create(tmp_path / "run", {"a": 1})
    run = Run.create(tmp_path / "run", {"a": 1}, resume=True)
    assert len(run.manifest["resumed"]) == 1


def test_resume_of_nothing_begins_a_run(tmp_path):
    assert Run.create(tmp_path / "run", {"a": 1}, resume=True).config == {"a": 1}


def test_a_run_killed_in_its_creation_can_be_created_again(tmp_path):
    run = Run.create(tmp_path / "run", {})
    (run.path / "config.json").rename(run.path / ".config.json.new")
    assert Run.create(tmp_path / "run", {"a": 1}).config == {"a": 1}


def test_resume_with_another_config_or_other_data_is_refused(tmp_path):
    Run.create(tmp_path / "run", {"a": 1, "b": 2}, data="d0")
    with pytest.raises(UserError, match=r"cannot resume, config 'b' is 3 and was 2; resume with what it was"):
        Run.create(tmp_path / "run", {"a": 1, "b": 3}, resume=True, data="d0")
    with pytest.raises(UserError, match=r"cannot resume, provenance 'data' is 'd1' and was 'd0'"):
        Run.create(tmp_path / "run", {"a": 1, "b": 2}, resume=True, data="d1")


def test_folders_and_files_of_something_else_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds files and is not a run"):
        Run.create(tmp_path, {}, resume=True)
    with pytest.raises(UserError, match="is a file, expected a folder"):
        Run.create(tmp_path / "thesis.tex", {})
    with pytest.raises(UserError, match="not a run"):
        Run.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_value_that_is_not_finite_is_null_in_metrics_and_an_error_in_results(tmp_path):
    run = Run.create(tmp_path / "run", {})
    run.log("fit", 1, 5, "validation", {"auc": float("nan"), "loss": 0.1 + 0.2})
    assert [line["value"] for line in run.read_metrics()] == [None, 0.1 + 0.2]
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("results.json", [float("nan")])
    assert not (run.path / "results.json").exists()


def test_a_torn_line_is_not_read(tmp_path):
    run = Run.create(tmp_path / "run", {})
    run.log("fit", 1, 5, "train", {"loss": 1.0})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "fi')
    assert len(run.read_metrics()) == 1


def test_a_damaged_or_missing_file_is_named(tmp_path):
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(UserError, match=r"results\.json: this run has no results\.json"):
        run.read_json("results.json")
    (run.path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: damaged, not JSON"):
        Run.open(run.path).config  # noqa: B018


def test_a_run_is_written_by_one_process_at_a_time(tmp_path):
    run = Run.create(tmp_path / "run", {})
    with run.locked():
        with pytest.raises(UserError, match="another process is writing this run"):
            Run.create(tmp_path / "run", {}, resume=True)
        if (child := os.fork()) == 0:
            try:
                Run.create(tmp_path / "run", {}, resume=True)
            except UserError:
                os._exit(2)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    Run.create(tmp_path / "run", {}, resume=True)


def test_tracking_writes_to_tensorboard_beside_the_metrics(tmp_path):
    pytest.importorskip("tensorboard")
    run = Run.create(tmp_path / "run", {}, track=True)
    run.log("fit", 1, 5, "train", {"loss": 1.0})
    run.seal()
    assert len(list((run.path / "tensorboard").glob("events.*"))) == 1
    assert len(run.read_metrics()) == 1
    assert not any("tensorboard" in name for name in run.manifest["files"])


def test_tracking_without_tensorboard_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'headrace\[track\]'"):
        Run.create(tmp_path / "run", {}, track=True)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_difference_is_told_by_field_and_no_more_than_four_of_them(tmp_path):
    Run.create(tmp_path / "run", {"method": "m", "config": {str(k): k for k in range(9)}})
    with pytest.raises(UserError, match=r"config 'config\.0' is 1 and was 0, .*'config\.3' is 4 and was 3, and 5 more"):
        Run.create(tmp_path / "run", {"method": "m", "config": {str(k): k + 1 for k in range(9)}}, resume=True)


def test_a_run_in_which_nothing_was_learnt_is_cleared_away_and_another_is_not(tmp_path):
    for name in ("empty", "learnt"):
        run = Run.create(tmp_path / name, {})
        if name == "learnt":
            run.checkpoints.mkdir()
        run.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["learnt"]
