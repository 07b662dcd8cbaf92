"""headrace train: fit a method on journeys and leave a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET


@dataclass(frozen=True, slots=True)
class Train:
    """Fit a method on journeys and leave a run: weights, transforms, config, metrics, manifest."""

    method: tyro.conf.Positional[str]
    """mtorl | din | rmtl"""
    data: Path
    """A journeys folder, or a raw log of a known layout (its journeys are then kept as OUT-journeys)."""
    out: Path
    """The run's new folder."""
    protocol: str = "honest"
    """honest | users | temporal | time | paper"""
    fold: Annotated[int | None, QUIET] = None
    """0 to 4: one of five folds over the users (honest, users); none of them without it."""
    preset: str = "default"
    """default | tiny | paper (mtorl) | a TOML file of config fields"""
    seed: int = 0
    """Of the split, the weights and the order of batches."""
    reward: Annotated[str | None, QUIET] = None
    """A gain; gains with weights (click:1,sale:10); penalised (less s times cost); multi, all binary gains alike;
    default: the first gain known in time."""
    set: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Fields of the method's config, over the preset's."""
    resume: Annotated[bool, QUIET] = False
    """Go on with a run that was stopped, to the same bits."""
    schema: Annotated[str | None, QUIET] = None
    """Of --data where that is a raw log: a layout's name or a TOML file."""
    track: Annotated[bool, QUIET] = False
    """Write tensorboard files too."""

    def execute(self) -> None:
        from headrace.cli.console import out
        from headrace.cli.fitting import audited, foretold, provenance, reward_changes, settings
        from headrace.cli.rooms import method_of, room_of
        from headrace.cli.settings import configure, open_items, open_journeys, refuse_run
        from headrace.errors import unknown
        from headrace.journeys.splits import PROTOCOLS
        from headrace.learn.run import Run
        from headrace.report.summary import summarise

        kind = method_of(self.method)
        changes = (*self.set, f"seed={self.seed}")
        configure(self.method, kind.config_type, kind.presets, self.preset, changes)  # mistakes before any work
        if self.protocol not in PROTOCOLS:
            raise unknown("protocol", self.protocol, PROTOCOLS)
        if not self.resume:
            refuse_run(self.out, ", or go on with that run by  --resume")
        keep = self.out.with_name(f"{self.out.name}-journeys")
        opened = open_items if room_of(self.method) == "predict" else open_journeys
        journeys = opened(self.data, self.schema, keep, self.resume)
        changes = (*reward_changes(self.reward, journeys.schema), *changes)
        config = configure(self.method, kind.config_type, kind.presets, self.preset, changes)
        split = journeys.split(self.protocol, self.seed, self.fold)
        audited(journeys, split)
        method = kind(config)
        method.check(journeys, split)
        for line in foretold(method, journeys, split):
            out.print(line, soft_wrap=True)
        run = Run.create(
            self.out,
            settings(method.settings(), journeys, split),
            self.resume,
            self.track,
            **provenance(journeys, split),
        )
        method.fit(journeys, split, run)
        run.write_json("audit.json", [f.to_dict() for f in audited(journeys, split, method.transforms)])
        run.write_json("summary.json", summarise(journeys))
        run.seal()
        stage = method.stage
        if stage is not None:
            out.print(f"{self.method}: {stage.epochs} epochs, {stage.steps} steps, best epoch {stage.best_epoch}")
        out.print(f"{self.out}: the run; measure it with  headrace evaluate {self.out}")
