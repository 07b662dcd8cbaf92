"""Tuning: a kill changes nothing, what falls behind is cut short, a trial that fails does not end the study."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_study import SPACE, TRIALS, Bowl, Mishap, study, value

from headrace.errors import UserError
from headrace.learn.space import Range, importances, propose
from headrace.learn.tune import Trial, TuneConfig, behind, best_of, read_trials

SOURCE = Path(__file__).resolve().parents[2] / "src"


def killed(folder: Path, jobs: int, after: int, slow: float = 0.04) -> list[int]:
    """Start a study and kill it when so many trials have ended; the processes that its trials had then."""
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{here}", "OMP_NUM_THREADS": "1"}
    script = str(Path(here) / "tiny_study.py")
    process = subprocess.Popen([sys.executable, script, str(folder), str(jobs), str(slow)], env=environment)
    while process.poll() is None and (len(read_trials(folder)) < after or not list(folder.glob("trials/*/pid"))):
        time.sleep(0.01)
    assert process.poll() is None, "the study ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    pids = [path.read_text() for path in folder.glob("trials/*/pid")]
    return [int(pid) for pid in pids if pid]


def gone(pid: int) -> bool:
    """Whether a process is no more, or only waits to be reaped."""
    path = Path(f"/proc/{pid}/stat")
    try:
        return path.read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_study_goes_on_to_the_very_trials_of_one_that_was_not(tmp_path: Path, jobs: int):
    whole = study(tmp_path / "whole", Bowl(slow=0.04), jobs=jobs)
    killed(tmp_path / "killed", jobs, after=11)
    before = read_trials(tmp_path / "killed")
    assert 11 <= len(before) < TRIALS
    rest = study(tmp_path / "killed", Bowl(slow=0.04), jobs=jobs)
    assert {t.number for t in rest} == set(range(TRIALS)) - {t.number for t in before}
    found = read_trials(tmp_path / "killed")
    assert [t.number for t in found] == list(range(TRIALS))
    assert (tmp_path / "killed" / "trials.jsonl").read_bytes() == (tmp_path / "whole" / "trials.jsonl").read_bytes()
    assert best_of(found) == best_of(whole)
    assert not (tmp_path / "killed" / "trials").exists()


def test_no_trial_outlives_its_study(tmp_path: Path):
    pids = killed(tmp_path, jobs=2, after=0, slow=1_000.0)
    deadline = time.monotonic() + 20
    while not all(map(gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    alive = [pid for pid in pids if not gone(pid)]
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert pids
    assert not alive


def test_more_trials_go_on_from_those_that_are_there(tmp_path: Path):
    study(tmp_path / "one", trials=3)
    assert [t.number for t in study(tmp_path / "one", trials=5)] == [3, 4]
    study(tmp_path / "other", trials=5)
    assert read_trials(tmp_path / "one") == read_trials(tmp_path / "other")


def test_the_search_does_better_than_its_start(tmp_path: Path):
    trials = study(tmp_path, trials=14)
    assert trials[0].changes == {}
    assert len({str(t.changes) for t in trials}) == 14
    assert best_of(trials).value is not None
    assert best_of(trials).value < 0.1 < value({})


def test_a_trial_that_falls_behind_is_ended_at_that_epoch(tmp_path: Path):
    trials = study(tmp_path, Bowl(slow=0.04, epochs=40), trials=8, prune_from=2, prune_after=2)
    pruned = [t for t in trials if t.ended == "pruned"]
    config = TuneConfig("loss", prune_from=2, prune_after=2)
    assert pruned
    assert any(t.ended == "done" and t.number > 1 for t in trials)
    for t in trials:
        others = [other.curve for other in trials[: t.number]]
        assert [behind(t.curve[:e], others, config) for e in range(1, len(t.curve) + 1)].count(True) == (
            t.ended == "pruned"
        )
        assert (t.value is None) == (t.ended == "pruned")
        assert len(t.curve) == 40 if t.ended == "done" else 2 <= len(t.curve) < 40


def test_curves_of_other_lengths_are_compared_after_as_many_epochs():
    config = TuneConfig("loss", prune_from=2, prune_after=2)
    assert not behind([9.0], [[1.0], [1.0]], config), "every trial may run its first epochs"
    assert not behind([9.0, 9.0], [[1.0], []], config), "one other is too few; a trial without epochs tells nothing"
    assert behind([9.0, 1.5], [[1.0], [1.0, 0.1, 0.1]], config)
    assert not behind([9.0, 1.0], [[2.0, 1.5, 0.0], [2.0, 1.5, 0.0]], config), "later epochs of others do not count"


@pytest.mark.parametrize("what", ["refused", "killed"])
def test_a_trial_that_fails_is_told_and_the_study_goes_on(tmp_path: Path, what: str):
    trials = study(tmp_path, Mishap(what), trials=3)
    assert [t.ended for t in trials] == ["done", "failed", "done"]
    assert {"refused": "no multiple", "killed": "memory"}[what] in (trials[1].reason or "")
    assert trials[2].changes != trials[1].changes


def test_a_trial_that_dies_of_a_bug_stops_the_study_and_is_run_again(tmp_path: Path):
    with pytest.raises(UserError, match=r"process of trial 1 ended with exit code 1.*--resume"):
        study(tmp_path, Mishap("bug"), trials=3)
    assert [t.number for t in read_trials(tmp_path)] == [0]
    study(tmp_path, Mishap("bug"), trials=3)
    assert [t.ended for t in read_trials(tmp_path)] == ["done"] * 3


def test_no_trial_with_a_value_is_said_with_the_reason():
    with pytest.raises(UserError, match="none of 1 trials came to a value; the first ended with: too wide"):
        best_of([Trial(0, {}, "failed", reason="too wide")])


def test_a_proposal_follows_from_what_was_seen_and_the_seed_alone():
    seen = [({"x": x / 10, "kind": "plain"}, (x / 10 - 0.3) ** 2) for x in range(-9, 10)]
    assert propose(SPACE, seen, 3) == propose(SPACE, seen, 3) != propose(SPACE, seen, 4)
    near = [abs(propose(SPACE, seen, seed)["x"] - 0.3) for seed in range(20)]
    assert sum(near) / 20 < 0.3, "it goes where values were small"


def test_nothing_is_tried_twice_while_something_is_left():
    space = {"kind": ("a", "b", "c")}
    assert propose(space, [({"kind": "a"}, 0.0), ({"kind": "b"}, 1.0)], 0) == {"kind": "c"}


def test_importances_name_what_mattered():
    seen = [({"x": x / 8, "kind": kind}, (x / 8) ** 2) for x in range(-8, 9) for kind in ("plain", "odd", None)]
    found = importances(SPACE, seen)
    assert found["x"] > 0.9 > sum(found.values()) - found["x"]
    assert importances(SPACE, seen[:3]) == {}


def test_a_range_that_is_none_is_refused():
    for low, high, log in ((1, 1, False), (0.0, 1.0, True)):
        with pytest.raises(UserError, match="low < high"):
            Range(low, high, log)


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"optuna is not installed; pip install 'headrace\[tune\]'"):
        propose(SPACE, [], 0)
