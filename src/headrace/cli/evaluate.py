"""headrace evaluate: measure a run beside the floors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG, RUN


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Measure a run on its own test part, or on users of other journeys that it never saw; every floor on the same
    steps."""

    run: tyro.conf.Positional[Annotated[Path, RUN]]
    """A folder that train left."""
    data: Annotated[Path | None, LOG, QUIET] = None
    """Other journeys, or another raw log, of the same schema; or the run's own journeys where they were moved;
    default: the run's own test part."""
    out: Annotated[Path | None, QUIET] = None
    """A new folder for the results; default: the run's folder, or, of another part or log or of some floors alone,
    one beside it."""
    part: str = "test"
    """test | validation | train, of the run's own journeys"""
    floors: Annotated[tuple[str, ...] | None, QUIET, tyro.conf.arg(metavar="NAME ...")] = None
    """The floors wanted; default: all."""
    full: Annotated[bool, QUIET] = False
    """Print every metric and every paired difference."""
    updates: Annotated[int | None, QUIET] = None
    """At most, of the estimators of a fusion policy's value; default: as many as the fit had, 20,000 at most."""

    def execute(self) -> int:
        import numpy as np

        from headrace.cli.console import err, out, progress
        from headrace.cli.measuring import is_own, kept, leave, open_run, own_journeys, own_schema, own_split
        from headrace.cli.rooms import evaluate, load, room_of
        from headrace.cli.settings import open_journeys, refuse_run
        from headrace.errors import UserError, unknown
        from headrace.journeys.onward import unseen
        from headrace.journeys.splits import PARTS
        from headrace.learn.run import Run
        from headrace.report.brief import print_brief
        from headrace.report.summary import summarise

        if self.part not in PARTS:
            raise unknown("part", self.part, PARTS)
        run = open_run(self.run)
        method = load(run)
        more = {}
        if self.updates is not None:
            if room_of(method.name) != "fuse":
                raise UserError(f"--updates: {self.run} holds {method.name}, whose figures need no fit; leave it out")
            if self.updates < 1:
                raise UserError(f"--updates {self.updates}: expected 1 or more")
            more = {"updates": self.updates}
        other = None if self.data is None else open_journeys(self.data, own_schema(run))
        own = other is not None and is_own(run, other)
        folder = self._folder(own or other is None)
        if folder is not None:
            refuse_run(folder)
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
            found = evaluate(method, log, split, self.part, other, leaky=leaky, floors=floors, progress=tell, **more)
        target = run
        if folder is not None:
            config = run.config | {"command": "evaluate", "run": self.run.name, "part": self.part}
            target = Run.create(folder, config, data_fingerprint=(other or log).fingerprint, **kept(run))
            if other is None:
                for name in ("audit.json", "summary.json"):
                    target.write_json(name, run.read_json(name))
            else:  # the audit was of the log that was learnt from
                new = np.unique(other.user_of_step[unseen(journeys or other, split, other)])
                target.write_json("summary.json", summarise(other) | {"users_of_training": other.n_users - len(new)})
                left = f"left out: {other.n_users - len(new):,} of the {other.n_users:,} users, whom training saw"
                out.print(left, soft_wrap=True)
        leave(found, target)
        print_brief(found.records, out, self.full)
        out.print(f"{target.path / 'report.html'}: the same as a page")
        values = [r for r in found.records if r["method"] == method.name and r["metric"].startswith("value_")]
        return 3 if values and all(r["refused"] for r in values) else 0

    def _folder(self, own: bool) -> Path | None:
        """Where the results go; None for the run's own folder, whose results tell recommend and plan how far to trust
        it and hence are of all floors on its own test part."""
        named = [] if own or self.data is None else ["on", self.data.stem]
        named += [self.part] if own and self.part != "test" else []
        named += ["some", "floors"] if self.floors is not None else []
        if self.out is not None and (named or self.out.resolve() != self.run.resolve()):
            return self.out
        here = self.run if self.run.name.strip(".") else self.run.resolve()
        return here.with_name("-".join([here.name, *named])) if named else None
