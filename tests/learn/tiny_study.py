"""A study without a network, its objectives at module level as other processes need them.

python tiny_study.py FOLDER JOBS SLOW    runs TRIALS trials of Bowl, as slow as chance has it
"""

import os
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import UserError
from headrace.learn.run import Run
from headrace.learn.space import Changes, Range, Space
from headrace.learn.tune import Trial, TuneConfig, tune

TRIALS = 14  # the first ten are drawn without looking at what came before
SPACE: Space = {"x": Range(-1.0, 1.0), "kind": ("plain", "odd", None)}


def value(changes: Changes) -> float:
    return float((changes.get("x", 0.9) - 0.3) ** 2 + (changes.get("kind", "odd") == "odd"))


@dataclass(frozen=True)
class Bowl:
    """A loss with its smallest value at x = 0.3; four epochs that each last up to `slow` seconds."""

    slow: float = 0.0
    epochs: int = 4

    def __call__(self, changes: Changes, folder: Path) -> Mapping[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.jsonl").unlink(missing_ok=True)  # of a fit that was killed
        (folder / "pid").write_text(str(os.getpid()))
        run, rng = Run(folder), random.Random()
        for epoch in range(1, self.epochs + 1):
            time.sleep(self.slow * rng.random())
            run.log("train", epoch, epoch, "train", {"loss": 0.0})
            run.log("train", epoch, epoch, "validation", {"other": 0.0, "loss": value(changes) + 1 / epoch})
        return {"value": value(changes), "n": 7}


@dataclass(frozen=True)
class Mishap:
    """What may go wrong in trial 1: it is refused, killed, or runs into a bug."""

    what: str

    def __call__(self, changes: Changes, folder: Path) -> Mapping[str, Any]:
        if changes and not (folder.parent / "met").is_file():
            (folder.parent / "met").write_text("")
            if self.what == "killed":
                os.kill(os.getpid(), 9)
            if self.what == "bug":
                os._exit(1)
            raise UserError("width = 3 is no multiple of heads = 2")
        (folder.parent).mkdir(parents=True, exist_ok=True)
        return {"value": value(changes)}


def study(folder: Path, objective: Any = None, **changes: Any) -> list[Trial]:
    """All trials of a study in a folder, gone on with where it stands."""
    run = Run.create(folder, {"study": "tiny"}, resume=True)
    return list(tune(objective or Bowl(), SPACE, run, TuneConfig("loss", **{"trials": TRIALS, **changes})))


if __name__ == "__main__":
    study(Path(sys.argv[1]), Bowl(slow=float(sys.argv[3])), jobs=int(sys.argv[2]))
