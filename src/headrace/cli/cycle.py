"""headrace cycle: the daily cycle of a fusion method in a world."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET


@dataclass(frozen=True, slots=True)
class Cycle:
    """Serve, log, keep three days, retrain, roll over; beside a frozen policy and static weights, user by user."""

    method: tyro.conf.Positional[str]
    """bcq, td3, uwac, cql-sac, iql, td3-bc, unified (explores in a band)"""
    world: str
    """feed, kuairand, a scenario file, or one of its variants as  kuairand:VARIANT"""
    out: Path
    """The new folder: nights, results.json, report.html. One that was stopped goes on."""
    days: int = 14
    """How many days are served."""
    keep: Annotated[int, QUIET] = 3
    """Days of logs that each night's policy is fitted to."""
    users: Annotated[int, QUIET] = 2_000
    """Users whom the three arms serve, the same for all, each arm in a world of its own."""
    explorers: Annotated[int, QUIET] = 1_500
    """Other users, who are explored on."""
    preset: Annotated[str, QUIET] = "default"
    """default | paper | quick | tiny | a TOML file of config fields"""
    set: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Fields of the method's config; trials: of the search for the static weights."""
    seed: int = 0
    """Everything random is a function of it."""

    def execute(self) -> None:
        import dataclasses

        from headrace.cli.console import out, progress
        from headrace.cli.settings import configure, refuse_folder
        from headrace.errors import UserError, unknown
        from headrace.evaluate.results import save
        from headrace.fuse.comparing import world_named
        from headrace.fuse.cycle import CycleConfig, cycle
        from headrace.fuse.methods import METHODS
        from headrace.learn.run import Run
        from headrace.report.brief import print_brief
        from headrace.report.page import write_page

        learnt = [name for name in METHODS if name not in ("bo", "es")]
        if self.method not in learnt:
            raise unknown("method", self.method, learnt, "cycle")
        kind = METHODS[self.method]
        if any(c.startswith("fusion=") for c in self.set):
            raise UserError("--set fusion: a world fuses by its own log-sum; leave it out")
        own = tuple(c for c in self.set if not c.startswith("trials="))
        trials = [c.removeprefix("trials=") for c in self.set if c.startswith("trials=")]
        if trials and not trials[-1].isdigit():
            raise UserError(f"--set trials={trials[-1]}: expected a whole number")
        config = configure(self.method, kind.config_type, kind.presets, self.preset, own)
        scenario = world_named(self.world)
        sizes = CycleConfig(
            self.days,
            self.keep,
            self.explorers,
            self.users,
            seed=self.seed,
            **({"trials": int(trials[-1])} if trials else {}),
        )
        if not (self.out / "config.json").is_file():
            refuse_folder(self.out)
        told = {"command": "cycle", "method": self.method, "config": dataclasses.asdict(config)}
        told |= {"cycle": dataclasses.asdict(sizes), "world": self.world, "scenario_sha256": scenario.sha256}
        run = Run.create(self.out, told, resume=True)
        with progress("cycle") as tell:
            records = cycle(self.method, scenario, self.world, config, sizes, self.out, tell)
        save(records, run.path / "results.json")
        write_page(run.path)
        run.seal()
        print_brief([r for r in records if not r["setting"]], out)
        out.print(f"{self.out / 'report.html'}: the same as a page, with each day")
