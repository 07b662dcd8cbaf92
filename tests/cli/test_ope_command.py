"""headrace ope: values beside the log, on rows nobody learnt from, or a refusal that leaves everything written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Told, bytes_of, whole

import headrace
from headrace.channel.methods import load
from headrace.cli import run
from headrace.evaluate.results import KEYS
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.ope.policies import named
from headrace.ope.selection import threshold

ESTIMATORS = ("ips", "clipped", "snips", "dm", "dr", "sndr", "switch_dr")


@pytest.fixture(scope="session")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose channels were drawn by lot."""
    folder = tmp_path_factory.mktemp("uniform") / "journeys"
    words = ["simulate", "ads", "--users", "300", "--policy", "uniform", "--seed", "5", "--out", str(folder)]
    assert run(words) == 0
    return folder


def results(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return found


def one(records: list[dict[str, Any]], method: str, metric: str, against: str | None = None, **setting: Any) -> Any:
    held = [r for r in records if (r["method"], r["metric"], r["against"]) == (method, metric, against)]
    held = [r for r in held if r["setting"] == setting]
    assert len(held) == 1, (method, metric, against, setting, len(held))
    return held[0]


def test_uniform_on_a_uniform_log_is_worth_the_logs_mean_gain(uniform: Path, tmp_path: Path, told: Told) -> None:
    assert told("ope", "uniform", "--data", uniform, "--out", tmp_path / "a") == (0, "")
    records = results(tmp_path / "a")
    mean = float(np.asarray(Journeys(uniform).gain("click"), dtype=np.float64).mean())
    for metric in ("value_ips", "value_snips", "value_clipped"):
        assert one(records, "uniform", metric)["value"] == pytest.approx(mean, abs=1e-12)
    logged = one(records, "logged", "value_ips")
    assert logged["value"] == pytest.approx(mean, abs=1e-12)
    assert logged["low"] < mean < logged["high"]
    assert one(records, "uniform", "ess")["value"] == pytest.approx(Journeys(uniform).n_steps)
    assert one(records, "uniform", "mean_weight")["value"] == pytest.approx(1)
    assert {r["part"] for r in records} == {"all"}
    assert all(tuple(r) == KEYS for r in records)


def test_every_estimator_the_log_and_each_pair_stand_in_the_results(uniform: Path, tmp_path: Path, told: Told) -> None:
    words = ("ope", "uniform", "constant:search", "past-rate", "--data", uniform, "--select", 0.5)
    log = Journeys(uniform)
    channel = log.channels[1]
    words = tuple(f"constant:{channel}" if w == "constant:search" else w for w in words)
    assert told(*words, "--out", tmp_path / "a")[0] in (0, 3)
    records = results(tmp_path / "a")
    share = {"share": 0.5}
    for name in ("uniform", f"constant:{channel}", "past-rate"):
        for e in ESTIMATORS:
            one(records, name, f"value_{e}", **share)
            whole_of = one(records, name, f"value_{e}", "logged", **share)
            parts = [one(records, name, f"value_{e}", "logged", part=p, **share) for p in ("selection", "channel")]
            if whole_of["value"] is not None:
                assert parts[0]["value"] + parts[1]["value"] == pytest.approx(whole_of["value"])
    one(records, "uniform", "value_dr", "past-rate", **share)
    assert {(r["protocol"], r["part"]) for r in records} == {("honest", "test")}
    n = {r["n"] for r in records}
    assert n == {int(log.split("honest", 0).parts["test"].sum())}


def test_the_threshold_is_fixed_on_validation_and_the_steps_above_it_are_chosen(
    uniform: Path, tmp_path: Path, told: Told
) -> None:
    told("ope", "past-rate", "--data", uniform, "--select", 0.5, "--estimators", "ips", "--out", tmp_path / "a")
    log = Journeys(uniform)
    split = log.split("honest", 0)
    act = named("past-rate", log, split)
    fixed = threshold(np.asarray(act(log, split.rows("validation")).score), 0.5)
    of = json.loads((tmp_path / "a" / "ope.json").read_text())["policies"]["past-rate"]
    assert of["threshold"] == fixed.at
    rows = split.rows("test")
    select = fixed.chances(np.asarray(act(log, rows).score))
    assert of["selected"] == pytest.approx(select.mean())
    click = np.asarray(log.gain("click"), dtype=np.float64)[rows]
    brought = one(results(tmp_path / "a"), "past-rate", "value_ips", "logged", share=0.5, part="selection")
    assert brought["value"] == pytest.approx((select * click).sum() / select.sum() - click.mean())


def test_a_run_weighs_the_same_steps_from_python_as_from_the_command(
    demo: Path, journeys: Path, tmp_path: Path, told: Told
) -> None:
    told("ope", demo, "--data", journeys, "--by", "policy", "--estimators", "ips", "--out", tmp_path / "a")
    log = Journeys(journeys)
    policy = load(Run.open(demo)).policy()
    found = headrace.ope.estimate(policy, log, log.split("honest", 0).rows("test"), estimators=["ips"])
    records = results(tmp_path / "a")
    for figure in ("ess", "mean_weight"):
        theirs = one(records, "mtorl", figure, by="policy")["value"]
        assert getattr(found.support, figure) == pytest.approx(theirs, rel=1e-4)


def test_equal_input_and_seed_give_equal_bytes_and_report_makes_the_page_again(
    uniform: Path, tmp_path: Path, told: Told
) -> None:
    for name in ("a", "b"):
        told("ope", "uniform", "past-rate", "--data", uniform, "--out", tmp_path / name, "--seed", 3)
    a, b = (bytes_of(tmp_path / name) for name in ("a", "b"))
    assert set(a) == {"config.json", "results.json", "ope.json", "report.html"}
    assert a == b
    (tmp_path / "a" / "report.html").unlink()
    assert told("report", tmp_path / "a") == (0, "")
    assert (tmp_path / "a" / "report.html").read_bytes() == b["report.html"]


def test_a_run_is_valued_on_its_own_test_steps_and_its_penalty_and_choices_count(
    demo: Path, journeys: Path, tmp_path: Path, told: Told
) -> None:
    log = Journeys(journeys)
    test = int(log.split("honest", 0).parts["test"].sum())
    for by in ("own", "policy", "greedy"):
        out = tmp_path / by
        assert told("ope", demo, "--data", journeys, "--by", by, "--penalty", 0.5, "--out", out)[0] in (0, 3)
        records = results(out)
        setting = {"penalty": 0.5} | ({} if by == "own" else {"by": by})
        assert one(records, "mtorl", "ess", **setting)["n"] == test
        assert {r["part"] for r in records} == {"test"}
    rows = log.split("honest", 0).rows("test")
    worth = log.gain("click")[rows] - 0.5 * log.column("cost")[rows]
    assert one(records, "logged", "value_ips", penalty=0.5)["value"] == pytest.approx(worth.mean())


def test_on_another_log_a_run_is_valued_on_users_it_never_saw(
    demo: Path, unseen: Path, tmp_path: Path, told: Told
) -> None:
    out = tmp_path / "a"
    assert told("ope", demo, "past-rate", "--data", unseen, "--select", 0.4, "--out", out)[0] in (0, 3)
    records = results(out)
    assert {r["part"] for r in records} == {"other"}
    account = json.loads((out / "ope.json").read_text())
    assert {"threshold", "selected"} <= account["policies"]["mtorl"].keys()
    own, other = Journeys(demo.with_name("demo-journeys")), Journeys(unseen)
    train = own.users[np.unique(own.user_of_step[own.split("honest", 0).rows("train")])]
    free = ~np.isin(other.users, train)
    assert 0 < free.sum() < other.n_users
    assert account["rows"] == np.diff(other.offsets)[free].sum()


def test_a_refusal_leaves_everything_written_and_no_raw_number_outside_the_diagnostics(
    uniform: Path, tmp_path: Path, told: Told
) -> None:
    whole("simulate", "ads", "--users", 12, "--policy", "uniform", "--seed", 5, "--out", tmp_path / "few")
    out = tmp_path / "a"
    code, said = told(
        "ope", "uniform", f"constant:{Journeys(uniform).channels[0]}", "--data", tmp_path / "few", "--out", out
    )
    assert code == 3
    assert said.startswith("headrace: refused: ")
    assert said.count("\n") == 1
    records = results(out)
    refused = [r for r in records if r["refused"] and r["metric"].startswith("value")]
    assert refused
    assert all(r["value"] is None and r["low"] is None for r in refused)
    account = json.loads((out / "ope.json").read_text())
    of = account["policies"][f"constant:{Journeys(uniform).channels[0]}"]["groups"]["all"]
    assert of["diagnostics"]["value"]["ips"]["raw_value"] is not None
    assert any(not c["passed"] for c in of["conditions"])
    assert "refused" in (out / "report.html").read_text()
    assert (out / "manifest.json").is_file()


@pytest.mark.parametrize(("campaign", "code"), [("women", 3), ("men", 0), ("all", 0)])
def test_open_bandit_women_is_refused_and_the_others_come_with_wide_intervals(
    campaign: str, code: int, shared_data: Path, tmp_path: Path, told: Told
) -> None:
    log = shared_data / "open_bandit_small" / f"bts_{campaign}_{campaign}.parquet"
    estimators = ("--estimators", "ips", "snips")
    assert told("ope", "uniform", "--data", log, "--out", tmp_path / "a", *estimators)[0] == code
    records = results(tmp_path / "a")
    snips = one(records, "uniform", "value_snips")
    ess = {"women": 2.1, "men": 656, "all": 340}[campaign]
    assert one(records, "uniform", "ess")["value"] == pytest.approx(ess, rel=0.02)
    if code == 3:
        assert snips["value"] is None
        assert "2.1" in snips["refused"]
    else:
        assert snips["high"] - snips["low"] > snips["value"]


def test_the_terminal_says_it_in_plain_words(uniform: Path) -> None:
    done = whole("ope", "uniform", "logged", "--data", uniform, "--estimators", "dm", "dr")
    assert "this log can't tell, because the interval of the difference to logged reaches from" in done.stdout
    assert "leaves out the model's own error" in done.stdout


def test_the_log_alone_is_valued_too(uniform: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ope", "logged", "--data", str(uniform)]) == 0
    assert "logged: 0." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("uniformly",), "unknown policy 'uniformly', did you mean 'uniform'?"),
        (("constant:nowhere",), "unknown channel 'nowhere'"),
        (("no/such/run",), "not a run"),
        (("uniform", "uniform"), "uniform is named twice"),
        (("uniform", "--gain", "clikc"), "unknown gain 'clikc', did you mean 'click'?"),
        (("uniform", "--gain", "click:much"), "click:1,conversion:10"),
        (("uniform", "--select", "1.5"), "more than 0 and at most 1"),
        (("uniform", "--select", "0"), "more than 0 and at most 1"),
        (("uniform", "--penalty", "-1"), "expected 0 or more"),
        (("uniform", "--penalty", "nan"), "expected 0 or more"),
        (("uniform", "--propensity", "guessed"), "unknown propensity 'guessed'"),
        (("uniform", "--estimators", "drr"), "unknown estimator 'drr', did you mean 'dr'?"),
        (("uniform", "--by", "luck"), "unknown value of --by 'luck'"),
        (("uniform", "--part", "train"), "unknown part 'train'"),
        (("uniform", "--protocol", "honst"), "did you mean 'honest'?"),
        (("uniform", "--subgroup", "nothing"), "unknown feature 'nothing'"),
        ((), "POLICY_OR_RUN missing"),
    ],
)
def test_a_mistake_leaves_as_one_line_and_writes_nothing(
    words: tuple[str, ...], expected: str, uniform: Path, tmp_path: Path, told: Told
) -> None:
    code, said = told("ope", *words, "--data", uniform, "--out", tmp_path / "a")
    assert (code, said.count("\n")) == (2, 1), said
    assert expected in said
    assert not (tmp_path / "a").exists()


def test_what_a_log_lacks_is_told_in_one_line(tmp_path: Path, told: Told, uniform: Path, demo: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("user,channel,click\n" + "".join(f"{i // 4},{'ab'[i % 2]},{i % 3 == 0:d}\n" for i in range(80)))
    (tmp_path / "bare.toml").write_text(
        'name = "bare"\nuser = "user"\nchannel = "channel"\n\n'
        '[[gains]]\nname = "click"\nkind = "binary"\nknown = "after"\n'
    )
    assert told("data", "prepare", bare, "--schema", tmp_path / "bare.toml", "--out", tmp_path / "j")[0] == 0
    code, said = told("ope", "uniform", "--data", tmp_path / "j", "--propensity", "logged")
    assert (code, said.count("\n")) == (2, 1)
    assert "no propensities" in said
    code, said = told("ope", "uniform", "--data", tmp_path / "j", "--penalty", 1)
    assert (code, said.count("\n")) == (2, 1)
    assert "has no cost" in said
    code, said = told("ope", demo, "--data", tmp_path / "j")
    assert (code, said.count("\n")) == (2, 1), said
    code, said = told("ope", demo, "--data", uniform, "--protocol", "users")
    assert (code, said.count("\n")) == (2, 1)
    assert "was fitted under honest" in said
