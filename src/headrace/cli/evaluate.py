"""headrace evaluate: measure a run beside the floors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from headrace.channel.methods import load
from headrace.channel.scoring import Evaluation, evaluate
from headrace.cli.console import out, progress
from headrace.cli.settings import open_journeys
from headrace.errors import UserError
from headrace.evaluate.results import save
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.report.brief import print_brief
from headrace.report.page import write_page


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Measure a run on its own test part, or on other journeys of the same schema; every floor on the same steps."""

    run_: tyro.conf.Positional[Path]
    """A folder that train left."""
    data: Path | None = None
    """Other journeys of the same schema; default: the run's own test part."""
    out: Path | None = None
    """Where results go; default: the run's folder."""
    part: str = "test"
    """test | validation | train"""
    floors: tuple[str, ...] | None = None
    """Names of the floors wanted; default: all."""

    full: bool = False
    """Print every metric and every paired difference."""

    def run(self) -> None:
        run = Run.open(self.run_)
        journeys, split = own_data(run)
        method = load(run)
        other = None if self.data is None else open_journeys(self.data)
        if other is not None and other.fingerprint == journeys.fingerprint:
            other = None
        leaky = any(f["verdict"] == "leak" for f in run.read_json("audit.json"))
        with progress("evaluating") as tell:
            found = evaluate(method, journeys, split, self.part, other, leaky=leaky, floors=self.floors, progress=tell)
        target = run
        if self.out is not None and self.out != self.run_:
            config = run.config | {"command": "evaluate", "run": self.run_.name, "part": self.part}
            target = Run.create(self.out, config, data_fingerprint=(other or journeys).fingerprint, **kept(run))
            for name in ("audit.json", "summary.json"):
                target.write_json(name, run.read_json(name))
        leave(found, target)
        print_brief(found.records, out, self.full)
        out.print(f"{target.path / 'report.html'}: the same as a page")


def own_data(run: Run) -> tuple[Journeys, Split]:
    """The journeys and the split that a run was fitted on, checked by their fingerprints."""
    data, config = run.manifest["provenance"], run.config
    path = Path(data["data"])
    if not (path / "journeys.json").is_file():
        raise UserError(
            f"{run.path}: trained on {path}, which is gone; prepare the log there again, floors and split come from it"
        )
    journeys = Journeys(path)
    if journeys.fingerprint != data["data_fingerprint"]:
        raise UserError(f"{path}: not the journeys that {run.path} was trained on (another fingerprint); restore them")
    return journeys, journeys.split(config["protocol"], config["split_seed"], config["fold"])


def kept(run: Run) -> dict[str, Any]:
    """The provenance of the run that another folder's results speak of."""
    found = run.manifest["provenance"]
    return {"trained_on": found["data_fingerprint"], "split_fingerprint": found["split_fingerprint"]}


def leave(found: Evaluation, run: Run) -> None:
    """Write results, calibration and the page, and seal the folder."""
    save(found.records, run.path / "results.json")
    run.write_json("calibration.json", found.calibration)
    write_page(run.path)
    run.seal()
