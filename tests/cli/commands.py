"""Calling the command line as a user does."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
Done = subprocess.CompletedProcess[str]
Told = Callable[..., tuple[int, str]]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "headrace.cli", *map(str, words)]


def call(*words: object, cwd: Path | None = None) -> Done:
    """A command in a process of its own, its outputs no terminals."""
    return subprocess.run(command(*words), env=ENVIRONMENT, cwd=cwd, capture_output=True, text=True, check=False)


def whole(*words: object, says: str = "") -> Done:
    """A command that must end well, and say nothing on stderr, or one line with `says`."""
    done = call(*words)
    assert done.returncode == 0 and done.stderr.count("\n") == bool(says) and says in done.stderr, done.stderr
    return done


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but its manifest and what a kill may leave half-written."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name != "manifest.json"}
