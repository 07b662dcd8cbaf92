"""GoingOn: renew a campaign's predictor every R rounds on what the campaign has seen, by going on from its run.

The campaign must lie later in time than the log that the run learnt from (channel/incremental.py asks for new steps).
The correction stays that of the first log. Where the campaign's log is still too thin to go on from, the predictor
stays. The folder keeps the log and the run, so that a resumed campaign gets the same predictor.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from headrace.campaign.correction import Corrected
from headrace.campaign.market import Market
from headrace.campaign.scores import Foreseeing, Predictor
from headrace.channel.incremental import Incremental, IncrementalConfig, Parent
from headrace.channel.mtorl import MTORL
from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.learn.run import Run


@dataclass(slots=True)
class GoingOn:
    """A refit for `run_campaign`, from a run of mtorl; each refit goes on from the one before."""

    run: Run
    config: IncrementalConfig = field(default_factory=IncrementalConfig)
    refits: int = 0  # that changed the predictor

    def __call__(self, market: Market, predictor: Predictor, folder: Path) -> Predictor:
        path, log = folder / "run", folder / "log"
        if (path / "manifest.json").is_file() and "files" in Run.open(path).manifest:
            self.run = Run.open(path)
            self.refits += 1
            return renewed(predictor, MTORL.load(self.run))
        folder.mkdir(parents=True, exist_ok=True)
        journeys = Journeys(log) if (log / "journeys.json").is_file() else market.journeys(log)
        if journeys is None:
            return predictor
        fitting = Incremental(Parent.of(self.run), self.config)
        try:
            split = fitting.parent.split(journeys)
        except UserError:  # no step of a training or a validation user yet
            return predictor
        kept = {key: self.run.config[key] for key in ("protocol", "split_seed", "fold")}
        run = Run.create(path, {**fitting.settings(), **kept}, resume=True, data_fingerprint=journeys.fingerprint)
        method = fitting.fit(journeys, split, run, progress=False)
        run.seal()
        self.run = run
        self.refits += 1
        return renewed(predictor, method)


def renewed(predictor: Predictor, method: MTORL) -> Predictor:
    """The predictor with another method inside."""
    if isinstance(predictor, Corrected):
        return dataclasses.replace(predictor, predictor=renewed(predictor.predictor, method))
    if isinstance(predictor, Foreseeing):
        return dataclasses.replace(predictor, method=method)
    raise UserError("refit: only a run's own predictions can be renewed")
