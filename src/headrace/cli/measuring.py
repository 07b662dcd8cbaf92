"""What the commands that measure share: the run's own log and split, and what an evaluation leaves in a folder."""

from pathlib import Path
from typing import Any

from headrace.cli.console import err
from headrace.cli.fitting import cut
from headrace.errors import UserError
from headrace.evaluate.results import Evaluation, save
from headrace.journeys.onward import onward
from headrace.journeys.schema import LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.learn import durable
from headrace.learn.run import Run
from headrace.report.brief import below_floor
from headrace.report.page import write_page
from headrace.report.records import load as load_records

PREDICTS = ("config.json", "transforms.json", "model.safetensors", "audit.json", "summary.json")
OF_SOME = (
    "calibrators.json",
    "encoder.json",
    "stream.json",
    "snapshot.safetensors",
    "fusion.json",
)  # that a run holds by its method


def open_run(path: Path) -> Run:
    """The finished run in a folder, its files as they were when the fit ended; UserError names one that is not."""
    run = Run.open(path)
    sealed = run.manifest.get("files")
    if not isinstance(run.manifest.get("provenance"), dict):
        raise UserError(f"{path}/manifest.json: damaged, it tells no provenance; restore it from a copy, or fit again")
    if sealed is None:
        raise UserError(f"{path}: its training has not finished; go on with  headrace train ... --resume")
    for name in (*PREDICTS, *(name for name in OF_SOME if name in sealed)):
        if name not in sealed:
            raise UserError(f"{path}: holds no {name}; expected a run that  headrace train  left")
        if not (path / name).is_file():
            raise UserError(f"{path / name}: missing; restore it from a copy, or fit again")
        if durable.sha256(path / name) != sealed[name]:
            raise UserError(
                f"{path / name}: damaged or changed, its sha256 is not the one in manifest.json; "
                "restore it from a copy, or fit again"
            )
    return run


def own_schema(run: Run) -> LogSchema:
    """The schema of the log that a run was fitted on."""
    return LogSchema.from_dict(run.read_json("transforms.json")["schema"], str(run.path))


def own_journeys(run: Run) -> Journeys | None:
    """The journeys that a run was fitted on, where it found them or beside the run; None where they are gone."""
    told = Path(run.manifest["provenance"]["data"])
    beside = run.path.resolve().parent
    for path in (told, beside / told.name, beside / f"{run.path.resolve().name}-journeys"):
        if (path / "journeys.json").is_file():
            journeys = Journeys(path)
            if is_own(run, journeys):
                return journeys
    return None


def is_own(run: Run, journeys: Journeys) -> bool:
    """Whether these are the journeys that a run was fitted on."""
    return bool(journeys.fingerprint == run.manifest["provenance"]["data_fingerprint"])


def own_split(run: Run, journeys: Journeys | None) -> Split:
    """The split that a run was fitted on; without its journeys, only what it is called."""
    config = run.config
    until = config["from"]["until"] if "from" in config else None  # of a run that went on from another
    told = (config["protocol"], config["split_seed"], config["fold"])
    if journeys is None:
        known = run.manifest["provenance"]["split_fingerprint"]
        return Split(*told, {}, fingerprint=known, until=until)
    if until is None:
        return cut(config["method"], journeys, *told)
    return onward(journeys, *told, until)


def warn_of_floors(run: Run) -> None:
    """Say so where the run's own results hold a floor that outdoes it at channels or what they bring."""
    path = run.path / "results.json"
    told = below_floor(load_records(path)) if path.is_file() else None
    if told is not None:
        err.print(f"{path}: below a floor, so weigh what is chosen by it: {told}")


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
