"""train, rank, evaluate, compare fuse and cycle as a user calls them; a decision log alone, the world not imported."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feed_logs import feed_log

from headrace.cli import run
from headrace.cli.settings import configure
from headrace.errors import UserError
from headrace.evaluate.results import KEYS
from headrace.fuse.methods import METHODS, load
from headrace.fuse.replay import logged_weights
from headrace.journeys.export import export
from headrace.journeys.prepare import prepare
from headrace.journeys.schema import LogSchema
from headrace.journeys.store import Journeys
from headrace.learn.run import Run

SOURCE = Path(__file__).resolve().parents[2] / "src"
TINY = ("--preset", "tiny", "--reward", "dwell_s:1,like:5")


def call(*words: object) -> int:
    return run([str(word) for word in words])


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decision log as parquet, its schema beside."""
    folder = tmp_path_factory.mktemp("decisions")
    export(feed_log(folder / "j", users=80, days=3, lists="all"), folder / "log")
    return folder / "log"


def test_an_exported_log_comes_back_with_its_actions_lists_and_propensities(decisions: Path, tmp_path: Path):
    there = Journeys(decisions.parent / "j")
    back = prepare(decisions / "log.parquet", "headrace", tmp_path / "j")
    assert np.array_equal(back.users, there.users)
    for name in ("time", "gain/dwell_s", "log_propensity", "terminated", "truncated", "item/id", "item/position"):
        assert np.array_equal(np.asarray(back.column(name)), np.asarray(there.column(name))), name
    ours, theirs = back.schema.candidates, there.schema.candidates
    for mine, yours in zip(ours.scores, theirs.scores, strict=True):
        assert np.array_equal(back.column(f"action/{mine}"), there.column(f"action/{yours}"))
        assert np.allclose(back.column(f"item/score/{mine}"), there.column(f"item/score/{yours}"))


def test_a_decision_log_alone_is_enough_and_the_world_is_not_imported(
    decisions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [
        ["train", "td3-bc", "--data", str(decisions / "log.parquet"), "--schema", "headrace", "--out", "run", *TINY],
        ["rank", "run", "--data", "run-journeys", "--out", "ranked.parquet", "--k", "3"],
        ["evaluate", "run", "--out", "value"],
        ["rank", "run", "--data", "run-journeys", "--out", "again.csv", "--value"],
    ]
    code = (
        "import sys\nfrom headrace.cli import run\n"
        f"assert [run(words) for words in {words!r}] == [0, 0, 3, 3]\n"
        "assert not [m for m in sys.modules if m.startswith('headrace.simulate')], 'the world was imported'\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ranked = pl.read_parquet(tmp_path / "ranked.parquet")
    journeys = Journeys(tmp_path / "run-journeys")
    assert ranked.height == 3 * journeys.n_steps
    assert ranked["rank"].to_list()[:3] == [1, 2, 3]
    assert call("evaluate", tmp_path / "run", "--updates", "0", "--out", tmp_path / "none") == 2
    records = json.loads((tmp_path / "value" / "results.json").read_text())
    assert {tuple(r) for r in records} == {KEYS}
    assert {"value_fqe", "value_cfqe"} <= {r["metric"] for r in records if r["method"] == "td3-bc"}
    assert all((r["value"] is None) == (r["refused"] is not None) for r in records)
    refused = [r["refused"] for r in records if r["refused"]]  # by the test part alone: the policy learnt from the rest
    assert refused and all(why in done.stderr for why in refused)


@pytest.fixture(scope="module")
def trained(decisions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert call("train", "bo", "--data", decisions / "log.parquet", "--schema", "headrace", "--out", out, *TINY) == 0
    return out


def test_logged_weights_rank_first_what_was_shown_first(trained: Path, decisions: Path):
    """The fusion of a run is that of its log, offsets and all: with the weights of the log it makes the log's lists."""
    method, log = load(Run.open(trained)), Journeys(trained.with_name("run-journeys"))
    lengths = np.diff(log.column("item_offsets"))
    scores = np.stack([np.asarray(log.column(f"item/score/{n}")) for n in method.scores], axis=1)
    weights = np.repeat(logged_weights(log, np.arange(log.n_steps)), lengths, axis=0)
    fused = method.fusion(scores[:, None], weights)[:, 0]
    place = np.asarray(log.column("item/position"))
    request = np.repeat(np.arange(log.n_steps), lengths)
    best = np.lexsort((-fused, request))[np.cumsum(lengths) - lengths]
    assert (place[best] == place[place >= 0].min()).mean() > 0.99


def test_ids_of_items_come_out_as_the_log_has_them(trained: Path, decisions: Path, tmp_path: Path):
    log = pl.read_parquet(decisions / "log.parquet")
    ids = {"text": pl.col("item").list.eval("v" + pl.element().cast(pl.String)),
           "long": pl.col("item").list.eval(pl.element().cast(pl.Int64) + 2**60 + 1)}  # fmt: skip
    for name, made in ids.items():
        there = log.with_columns(made)
        there.write_parquet(tmp_path / f"{name}.parquet")
        shutil.copy(decisions / "schema.toml", tmp_path / "schema.toml")
        journeys = tmp_path / f"{name}-journeys"
        prepare(tmp_path / f"{name}.parquet", tmp_path / "schema.toml", journeys)
        assert call("rank", trained, "--data", journeys, "--out", tmp_path / f"{name}-ranked.parquet") == 0
        found = pl.read_parquet(tmp_path / f"{name}-ranked.parquet")["item"]
        assert set(found.to_list()) <= set(there["item"].explode().to_list())


def test_a_run_is_not_applied_to_another_logs_scores(
    trained: Path, decisions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    schema = LogSchema.load(decisions / "schema.toml")
    assert schema.candidates is not None and schema.fusion is not None
    turned = dataclasses.replace(
        schema,
        candidates=dataclasses.replace(
            schema.candidates, scores=schema.candidates.scores[::-1], offsets=schema.candidates.offsets[::-1]
        ),
    )
    turned.save(tmp_path / "schema.toml")
    prepare(decisions / "log.parquet", tmp_path / "schema.toml", tmp_path / "j")
    assert call("rank", trained, "--data", tmp_path / "j", "--out", tmp_path / "x.parquet") == 2
    assert "the run weighs" in capsys.readouterr().err
    log = pl.read_parquet(decisions / "log.parquet")
    name = schema.candidates.scores[0]
    for change, told in ((pl.element() - 5.0, "takes logarithms"), (pl.lit(None, pl.Float64), "without a score")):
        log.with_columns(pl.col(name).list.eval(change)).write_parquet(tmp_path / "log.parquet")
        shutil.rmtree(tmp_path / "j2", ignore_errors=True)
        prepare(tmp_path / "log.parquet", decisions / "schema.toml", tmp_path / "j2")
        assert call("rank", trained, "--data", tmp_path / "j2", "--out", tmp_path / "x.parquet") == 2
        assert told in capsys.readouterr().err


def test_a_log_without_lists_is_refused_with_what_it_lacks(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert call("train", "bcq", "--data", shared_data / "kuairand_random", "--out", tmp_path / "run", *TINY) == 2
    told = capsys.readouterr().err
    assert "candidate lists, predicted scores, fusion weights" in told.splitlines()[-1]


def test_mistakes_leave_as_one_line(decisions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wrong = (
        ("train", "bcqq", "--data", decisions, "--out", tmp_path / "x"),
        ("train", "bcq", "--data", decisions, "--out", tmp_path / "x", "--set", "roh=.1"),
        ("compare", "fuse", "--data", "feed", "--out", tmp_path / "x", "--methods", "bcq,td4"),
        ("compare", "fuse", "--data", "kuairand:long", "--out", tmp_path / "x"),
        ("compare", "fuse", "--data", "feed", "--out", tmp_path / "x", "--set", "upates=3"),
        ("cycle", "bcqq", "--world", "feed", "--out", tmp_path / "x"),
    )
    for words in wrong:
        assert call(*words) == 2, words
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and ("did you mean" in err or "Known" in err), err


def test_an_emphasis_on_weights_that_are_given_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ("compare", "fuse", "--data", "feed", "--methods", "bo,bcq-time", "--set", "reward_weights=dwell_s:1")
    assert call(*words, "--out", tmp_path / "x") == 2
    assert "emphasis = time" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_flags_and_sizes_that_would_do_nothing_or_break_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    compared = ("compare", "fuse", "--data", "feed", "--methods", "bo")
    cycled = ("cycle", "td3", "--world", "feed")
    wrong = (
        (*compared, "--set", "users=0"),
        (*cycled, "--days", "2"),
        (*cycled, "--explorers", "0"),
        (*cycled, "--users", "-2"),
        (*cycled, "--keep", "0"),
        (*cycled, "--set", "reward_weights=dwell_s:0"),
    )
    for words in wrong:
        assert call(*words, "--out", tmp_path / "x") == 2, words
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and words[-1].partition("=")[0] in err, err
        assert not (tmp_path / "x").exists()


def test_widths_are_set_by_a_flag_or_a_file(tmp_path: Path):
    kind, file = METHODS["bcq"], tmp_path / "own.toml"
    file.write_text("hidden = [8, 4]")
    for preset, changes in (("tiny", ("hidden=8,4",)), (str(file), ())):
        assert configure("bcq", kind.config_type, kind.presets, preset, changes).hidden == (8, 4)
    with pytest.raises(UserError, match="hidden=8x4: expected whole numbers, comma between them"):
        configure("bcq", kind.config_type, kind.presets, "tiny", ("hidden=8x4",))


SMALL = (
    "--preset", "tiny", "--set", "trials=4", "first=3", "proposals=50", "log_users=60", "log_days=3", "users=20",
    "days=2", "search_users=10", "search_days=1", "fqe_steps=60", "fqe_hidden=8", "generations=1", "members=4",
)  # fmt: skip


def test_a_comparison_tells_estimates_and_the_truth_and_is_not_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    words = (
        "compare",
        "fuse",
        "--data",
        "feed",
        "--methods",
        "bo,bcq,bcq-dwell,bcq-re,unified",
        "--seeds",
        "1",
        *SMALL,
    )
    assert call(*words, "--out", tmp_path / "a") == 0
    records = json.loads((tmp_path / "a" / "results.json").read_text())
    assert {tuple(r) for r in records} == {KEYS}
    found = {(r["method"], r["metric"], r["against"]) for r in records}
    for method in ("bcq", "bcq-dwell", "bcq-re", "unified"):
        assert {(method, "dwell_time", "bo"), (method, "value_cfqe", None)} <= found
        assert (method, "dwell_time_gap_closed", None) in found
    assert {(name, "dwell_time_gain", None) for name in ("long-horizon", "best-static")} <= found
    assert ("bo", "dwell_time", None) in found
    assert len({r["n"] for r in records if r["metric"] == "value_cfqe"}) == 1  # all valued on the same sessions
    fusions = {
        name: json.loads((tmp_path / "a/cells" / f"{name}-0" / "fusion.json").read_text())
        for name in ("bcq", "bcq-dwell", "bcq-re", "unified")
    }
    assert (
        fusions["bcq"]["reward_weights"] == fusions["unified"]["reward_weights"] == fusions["bcq-re"]["reward_weights"]
    )
    assert fusions["bcq-dwell"]["reward_weights"] == {"dwell_s": 1.0} != fusions["bcq"]["reward_weights"]
    for metric in ("value_fqe_fit_spread", "value_cfqe_late_change"):
        of_fits = [r for r in records if r["metric"] == metric]
        assert len(of_fits) == 5 and all(r["value"] > 0 and r["n"] == 5 for r in of_fits)  # by default five fits
    figure = {(r["method"], r["metric"]): r for r in records if r["against"] is None}
    for method in ("bo", "bcq", "unified", "long-horizon"):  # the truth in the estimates' unit
        true = figure[method, "reward_per_session"]
        assert true["low"] <= true["value"] <= true["high"]
    for method in ("bo", "bcq", "unified"):
        estimated, bias = (figure[method, f"value_fqe{what}"] for what in ("", "_bias"))
        assert (bias["value"] is None) == (estimated["value"] is None)
        if bias["value"] is not None:
            away = estimated["value"] - figure[method, "reward_per_session"]["value"]
            assert bias["low"] < bias["value"] == pytest.approx(away) and bias["value"] < bias["high"]
    first = (tmp_path / "a" / "results.json").read_bytes()
    cell = tmp_path / "a" / "cells" / "bcq-0" / "manifest.json"
    made = cell.stat().st_mtime_ns
    fewer = [word.replace(",bcq-re,unified", "") for word in words]
    assert call(*fewer, "--out", tmp_path / "a") == 0  # and back: methods come and go, cells stay
    assert {r["method"] for r in json.loads((tmp_path / "a" / "results.json").read_text())} == {
        "bo", "bcq", "bcq-dwell", "long-horizon", "best-static"
    }  # fmt: skip
    shutil.rmtree(tmp_path / "a" / "truths")  # a kill after the cells
    assert call(*words, "--out", tmp_path / "a") == 0
    assert (tmp_path / "a" / "results.json").read_bytes() == first
    with monkeypatch.context() as other:  # another gate judges the fits that are there
        other.setattr("headrace.fuse.value.MOST_FAR", -1.0)
        assert call(*words, "--out", tmp_path / "a") == 0
        told = json.loads((tmp_path / "a" / "results.json").read_text())
        assert all("holds hardly any" in r["refused"] for r in told if r["metric"] in ("value_fqe", "value_cfqe"))
    assert cell.stat().st_mtime_ns == made
    held = json.loads(cell.read_text())
    held["provenance"]["data"] = "another log's"
    cell.write_text(json.dumps(held))
    capsys.readouterr()
    assert call(*words, "--out", tmp_path / "a") == 0
    again = f"{cell.parent}: learnt from another log, for another reward or as told otherwise; fitted again\n"
    assert capsys.readouterr().err == again  # and of the others nothing
    assert (tmp_path / "a" / "results.json").read_bytes() == first


def test_the_cycle_serves_three_arms_and_goes_on_after_a_stop(tmp_path: Path):
    words = ("cycle", "td3-bc", "--world", "feed", "--days", "4", "--keep", "2", "--users", "15", "--explorers", "40")
    words = (*words, "--preset", "tiny", "--set", "trials=12", "reward_weights=dwell_s:1")
    assert call(*words, "--out", tmp_path / "c") == 0
    records = json.loads((tmp_path / "c" / "results.json").read_text())
    days = {r["setting"].get("day") for r in records}
    assert days == {None, 1, 2, 3, 4}
    told = {(r["method"], r["against"]) for r in records}
    assert {("td3-bc-cycle", "bo"), ("td3-bc-cycle", "td3-bc-frozen"), ("bo", None)} <= told
    same = [r for r in records if r["setting"].get("day") in (1, 2) and r["against"] is not None]
    assert all(r["value"] == 0 for r in same)  # before the first night with a policy all arms are one
    apart = {
        r["setting"]["day"]: r["value"]
        for r in records
        if (r["metric"], r["method"], r["against"]) == ("dwell_time", "td3-bc-cycle", "td3-bc-frozen") and r["setting"]
    }
    assert apart[3] == 0 != apart[4]  # the frozen arm stays with the first night's policy, the other takes the second's
    first = (tmp_path / "c" / "results.json").read_bytes()
    assert [p.name for p in sorted((tmp_path / "c").glob("night-*"))] == ["night-02", "night-03"]
    shutil.rmtree(tmp_path / "c" / "night-03")  # stopped in the second night
    assert call(*words, "--out", tmp_path / "c") == 0
    assert (tmp_path / "c" / "results.json").read_bytes() == first
