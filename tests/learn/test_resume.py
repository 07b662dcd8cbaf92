"""Killed by a real signal in a real process and resumed, a fit ends in the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_learner import EPOCHS, STEPS, contents

import headrace

SCRIPT = Path(__file__).with_name("tiny_learner.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(headrace.__file__).parents[1])}


class Jobs:
    """Runs jobs in processes of their own; what they write to stderr stands in `told`."""

    def __init__(self, folder):
        self.stderr = folder / "stderr"
        self._file = self.stderr.open("w")
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._file,
            text=True,
            bufsize=1,
        )

    def __call__(self, out, **job):
        self.process.stdin.write(json.dumps({"out": str(out), **job}) + "\n")
        return int(self.process.stdout.readline())

    def told(self):
        return self.stderr.read_text()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self._file.close()


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    jobs = Jobs(tmp_path_factory.mktemp("jobs"))
    yield jobs
    jobs.close()


@pytest.fixture(scope="module")
def whole(jobs, tmp_path_factory):
    """An undisturbed run's files."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert jobs(out) == 0
    assert jobs.told() == ""  # and no progress bar where stderr is no terminal
    return contents(out)


def test_kill_at_any_step_of_either_stage_then_resume_gives_equal_bytes(tmp_path, jobs, whole):
    rng = random.Random()
    steps = [(stage, step) for stage in ("warm", "fit") for step in [1, *rng.sample(range(2, STEPS * EPOCHS + 1), 3)]]
    for stage, step in steps:
        out = tmp_path / f"{stage}-{step}"
        assert jobs(out, signal=[stage, step, signal.SIGKILL]) == -signal.SIGKILL, steps
        assert not (out / "results.json").exists()
        assert jobs(out, resume=True) == 0, steps
        assert contents(out) == whole, (stage, step)


def test_kill_before_any_file_is_swapped_in_then_resume_gives_equal_bytes(tmp_path, jobs, whole):
    for nth in (1, 2, 3, 4, 9, 14, 21, 24, 26):
        out = tmp_path / str(nth)
        assert jobs(out, replace=nth) == -signal.SIGKILL, nth
        assert jobs(out, resume=True) == 0, nth
        assert contents(out) == whole, nth


def test_kills_one_after_the_other_at_any_moment_lose_nothing(tmp_path, jobs, whole):
    rng = random.Random()
    moments = [rng.uniform(0.02, 0.2) for _ in range(5)]
    for moment in moments:
        jobs(tmp_path / "run", resume=True, after_s=moment)
    assert jobs(tmp_path / "run", resume=True) == 0, moments
    assert contents(tmp_path / "run") == whole, moments


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_finishes_the_step_saves_and_resumes(tmp_path, jobs, whole, number):
    out = tmp_path / "run"
    assert jobs(out, signal=["fit", 8, number]) == 128 + number
    line = f"{out}: stopped by {number.name}, stage 'fit' is saved at epoch 2, step 8; go on with --resume\n"
    assert jobs.told().endswith(line)
    assert json.loads((out / "checkpoints/fit/last.json").read_text())["place"]["steps"] == 8
    assert jobs(out, resume=True) == 0
    assert contents(out) == whole
