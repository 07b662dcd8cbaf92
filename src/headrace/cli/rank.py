"""headrace rank: order the candidates of each request by a fusion policy, or a session's items by a predictor."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG, RUN

if TYPE_CHECKING:
    import polars as pl

    from headrace.journeys.store import Journeys
    from headrace.learn.run import Run


@dataclass(frozen=True, slots=True)
class Rank:
    """Write the best items of each request (a run of fusion) or session (a run of rmtl): user, rank, item, score."""

    run: tyro.conf.Positional[Annotated[Path, RUN]]
    """A folder that train left."""
    data: Annotated[Path, LOG]
    """Journeys, or a raw log of the run's schema."""
    out: Path
    """A new .parquet or .csv file."""
    k: int = 10
    """Items of a request, or of a session."""
    value: Annotated[bool, QUIET] = False
    """Also say what the policy would be worth by this log, by its test part where the run was fitted on it; exit code 3
    where the log cannot tell."""

    def execute(self) -> None:
        from headrace.channel.recommend import check_ending, save
        from headrace.cli.console import out, progress
        from headrace.cli.measuring import open_run, own_schema
        from headrace.cli.rooms import load, room_of
        from headrace.cli.settings import open_journeys
        from headrace.errors import Refused, UserError
        from headrace.fuse.ranking import rank_requests
        from headrace.fuse.replay import lacking

        check_ending(self.out)
        if self.out.exists():
            raise UserError(f"{self.out}: exists; choose another --out, so that nothing is lost")
        if self.k < 1:
            raise UserError(f"--k {self.k}: expected 1 or more")
        run = open_run(self.run)
        room = room_of(run.config["method"])
        if room == "channel":
            raise UserError(f"{self.run}: a run of {run.config['method']} chooses channels; use  headrace recommend")
        method = load(run)
        journeys = open_journeys(self.data, own_schema(run))
        if room == "fuse":
            with progress("ranking"):
                table = rank_requests(method, journeys, self.k)
        else:
            table = self._of_sessions(method, journeys)
        save(table, self.out)
        out.print(f"{self.out}: {table.height:,} items, the first {self.k} of each list")
        lacks = lacking(journeys)
        if room == "predict":
            lacks = lacks or ["a fusion policy"]
        if lacks and (self.value or room == "predict"):
            told = f"{journeys.path}: no value of this ranking, the log lacks {', '.join(lacks)}"
            if self.value:
                raise Refused(told)
            out.print(told)
        elif self.value:
            self._value(method, run, journeys)

    def _of_sessions(self, method: Any, journeys: "Journeys") -> "pl.DataFrame":
        """A session's items by the predictor's scores, as they would have been told when they were shown."""
        import numpy as np

        from headrace.cli.console import progress
        from headrace.errors import UserError
        from headrace.fuse.fusion import NEGATIVE
        from headrace.fuse.ranking import rank_sessions
        from headrace.predict.sessions import sessions

        names = [f.name for f in journeys.schema.features if f.kind == "categorical"]
        item = next((n for n in ("video_id", "item", "item_id", "itemid") if n in names), None)
        if item is None:
            raise UserError(f"{journeys.path}: no feature that names an item (video_id, item, item_id)")
        rows = np.arange(journeys.n_steps)
        with progress("ranking"):
            scores = method.predict(journeys, rows)
        tasks = [task.name for task in method.features.tasks]
        negative = np.array([name in NEGATIVE for name in tasks])
        session = sessions(journeys, rows, method.config.session, method.config.session_gap_minutes)
        return rank_sessions(journeys, rows, session, scores, item, negative, self.k)

    def _value(self, method: Any, run: "Run", journeys: "Journeys") -> None:
        """The policy's value by the log, of the run's own by its test part; Refused where it cannot tell."""
        from headrace.cli.console import out, progress
        from headrace.cli.measuring import is_own, own_split
        from headrace.errors import Refused
        from headrace.fuse.scoring import evaluate
        from headrace.journeys.splits import Split
        from headrace.report.brief import print_brief

        with progress("valuing") as tell:
            if is_own(run, journeys):  # the policy learnt from the rest of it
                found = evaluate(method, journeys, own_split(run, journeys), progress=tell)
            else:
                found = evaluate(method, journeys, Split("time", 0, None, {}), other=journeys, progress=tell)
        print_brief(found.records, out)
        refused = {r["metric"]: r["refused"] for r in found.records if r["refused"] and r["method"] != "logged"}
        if refused:
            raise Refused("; ".join(f"{metric}: {why}" for metric, why in refused.items()))
