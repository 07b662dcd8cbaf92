"""headrace evaluate: measure a run beside the floors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG, RUN


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Measure a run on its own test part, or on other journeys of the same schema; every floor on the same steps."""

    run: tyro.conf.Positional[Annotated[Path, RUN]]
    """A folder that train left."""
    data: Annotated[Path | None, LOG, QUIET] = None
    """Other journeys, or another raw log, of the same schema; or the run's own journeys where they were moved;
    default: the run's own test part."""
    out: Annotated[Path | None, QUIET] = None
    """A new folder for the results; default: the run's folder."""
    part: str = "test"
    """test | validation | train, of the run's own journeys"""
    floors: Annotated[tuple[str, ...] | None, QUIET, tyro.conf.arg(metavar="NAME ...")] = None
    """The floors wanted; default: all."""
    full: Annotated[bool, QUIET] = False
    """Print every metric and every paired difference."""

    def execute(self) -> None:
        from headrace.cli.console import err, out, progress
        from headrace.cli.measuring import is_own, kept, leave, open_run, own_journeys, own_schema, own_split
        from headrace.cli.rooms import evaluate, load
        from headrace.cli.settings import open_journeys, refuse_run
        from headrace.errors import UserError, unknown
        from headrace.journeys.splits import PARTS
        from headrace.learn.run import Run
        from headrace.report.brief import print_brief

        if self.part not in PARTS:
            raise unknown("part", self.part, PARTS)
        run = open_run(self.run)
        elsewhere = self.out is not None and self.out.resolve() != self.run.resolve()
        if self.out is not None and elsewhere:
            refuse_run(self.out)
        method = load(run)
        other = None if self.data is None else open_journeys(self.data, own_schema(run))
        own = other is not None and is_own(run, other)
        journeys = other if own else own_journeys(run)
        other = None if own else other
        floors = self.floors
        if journeys is None:
            gone = f"{self.run}: the journeys it was trained on ({run.manifest['provenance']['data']}) are gone"
            if other is None:
                raise UserError(f"{gone}; if they were moved, say where with  --data JOURNEYS , or prepare them again")
            if floors:
                raise UserError(f"{gone}, and floors are fitted on them; restore them, or leave --floors out")
            floors = ()
            err.print(f"{gone}: no floors, they are fitted on them")
        split = own_split(run, journeys)
        leaky = any(f["verdict"] == "leak" for f in run.read_json("audit.json"))
        log = journeys or other
        assert log is not None
        with progress("evaluating") as tell:
            found = evaluate(method, log, split, self.part, other, leaky=leaky, floors=floors, progress=tell)
        target = run
        if self.out is not None and elsewhere:
            config = run.config | {"command": "evaluate", "run": self.run.name, "part": self.part}
            target = Run.create(self.out, config, data_fingerprint=(other or log).fingerprint, **kept(run))
            for name in ("audit.json", "summary.json"):
                target.write_json(name, run.read_json(name))
        leave(found, target)
        print_brief(found.records, out, self.full)
        out.print(f"{target.path / 'report.html'}: the same as a page")
