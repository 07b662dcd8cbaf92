"""headrace tune: search a method's configurations, each measured on the validation part."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG


@dataclass(frozen=True, slots=True)
class Tune:
    """Search a method's configurations by a loss on the validation part; the test part is never read."""

    method: tyro.conf.Positional[str]
    """mtorl, or another method of channels"""
    data: Annotated[Path, LOG]
    """A journeys folder, or a raw log of a known layout (its journeys are then kept as OUT-journeys)."""
    out: Path
    """The study's new folder; best.toml in it is a preset that train takes."""
    trials: int = 30
    """How many configurations, the preset itself among them."""
    protocol: str = "honest"
    """honest | users | temporal | time | paper"""
    metric: str = "action/log_loss"
    """A loss: action/log_loss, reward/log_loss, reward_by_channel/log_loss, reward_in_context/log_loss, or mse where
    the gain is a number."""
    preset: str = "default"
    """Where the search begins: default | paper | tiny | a TOML file of config fields"""
    set: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Fields of the method's config that every trial has, over the preset's; they leave the method's own space."""
    space: Annotated[Path | None, QUIET] = None
    """A TOML file in place of the method's own space: field = [values], or field = {low, high, log}."""
    jobs: int = 1
    """Trials at a time, each a process."""
    seed: int = 0
    """Of the split, the fits and the search."""
    resume: Annotated[bool, QUIET] = False
    """Go on with a study that was stopped, or give it more trials."""

    def execute(self) -> None:
        from headrace.cli.rooms import ROOMS
        from headrace.errors import UserError, unknown

        if self.method not in ROOMS["channel"]:  # a mistake that is told before torch is imported
            raise unknown("method", self.method, ROOMS["channel"])
        from headrace.channel.methods import method_of
        from headrace.channel.tuning import FitAndMeasure, check_metric, space_of, study_of
        from headrace.cli.console import out, progress
        from headrace.cli.fitting import audited, provenance
        from headrace.cli.settings import begin_or_resume, configure, open_journeys
        from headrace.cli.spaces import read_space, write_preset
        from headrace.evaluate.results import save
        from headrace.journeys.audit import has_leak
        from headrace.journeys.splits import PROTOCOLS
        from headrace.learn.run import Run
        from headrace.learn.space import propose
        from headrace.learn.tune import best_of, importances_of, read_trials, tune
        from headrace.report.page import write_page
        from headrace.report.tuning import print_tuning, trial_records

        kind = method_of(self.method)
        config = configure(self.method, kind.config_type, kind.presets, self.preset, (*self.set, f"seed={self.seed}"))
        tuning = study_of(self.metric, kind, self.trials, self.jobs, self.seed)
        check_metric(self.metric, kind)
        fixed = frozenset(change.partition("=")[0] for change in self.set)
        if self.space is None:
            space = space_of(self.method, config, fixed)
        else:
            space = read_space(self.space, self.method, kind.config_type)
            if fixed & space.keys():
                raise UserError(f"--set {min(fixed & space.keys())}: {self.space} searches it; leave it out of one")
        propose(space, [], self.seed)  # that it can be searched, before any work
        if self.protocol not in PROTOCOLS:
            raise unknown("protocol", self.protocol, PROTOCOLS)
        begin_or_resume(self.out, self.resume, "study")
        keep = self.out.with_name(f"{self.out.name}-journeys")
        journeys = open_journeys(self.data, None, keep, self.resume)
        split = journeys.split(self.protocol, self.seed)
        leaky = has_leak(audited(journeys, split))  # under `paper` alone
        method = kind(config)
        method.check(journeys)
        values = method.settings()["config"]
        told = {"command": "tune", **method.settings(), "dataset": journeys.schema.name, "protocol": self.protocol}
        searched = {name: v if isinstance(v, tuple) else repr(v) for name, v in space.items()}
        told |= {"split_seed": self.seed, "metric": self.metric, "jobs": self.jobs, "space": searched}
        run = Run.create(self.out, told, self.resume, **provenance(journeys, split))
        objective = FitAndMeasure(journeys.path.resolve(), self.method, values, self.protocol, self.seed, self.metric)
        with progress(f"tuning {self.method}") as tell:
            tell(len(read_trials(run.path)), self.trials)
            for _ in tune(objective, space, run, tuning):
                tell(len(read_trials(run.path)), self.trials)
        trials = read_trials(run.path)
        best = best_of(trials)
        write_preset(run.path / "best.toml", values | best.changes)
        shares = importances_of(space, trials)
        run.write_json("importances.json", shares)
        save(trial_records(trials, told, leaky), run.path / "results.json")
        write_page(run.path)
        run.seal()
        if leaky:
            out.print("LEAKY: under this protocol training steps stand in the validation part")
        print_tuning(trials, shares, self.metric, out)
        out.print(f"{run.path / 'best.toml'}: trial {best.number}; train with it by  --preset {run.path / 'best.toml'}")
