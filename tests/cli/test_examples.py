"""The examples run as they stand."""

import subprocess
import sys
from pathlib import Path

from commands import ENVIRONMENT, SOURCE


def example(name: str, folder: Path) -> str:
    script = SOURCE.parent / "examples" / name
    words = [sys.executable, str(script), str(folder)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_log_of_ones_own_goes_from_csv_to_recommendations(tmp_path: Path):
    shown = example("own_log.py", tmp_path)
    assert "$ headrace data inspect" in shown
    lines = (tmp_path / "next.csv").read_text().splitlines()
    assert lines[0].startswith("user,channel,expected_gain,expected_cost")
    assert 1 < len(lines) <= 121
    assert {line.split(",")[1] for line in lines[1:]} <= {"mail", "push", "sms"}
    assert sum(float(line.split(",")[3]) for line in lines[1:]) <= 0.5
    assert (tmp_path / "model-some-floors" / "report.html").is_file()


def test_the_five_lines_of_the_notebook(tmp_path: Path):
    assert "reward/log_loss" in example("notebook.py", tmp_path)
