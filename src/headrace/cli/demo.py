"""headrace demo: the whole way on simulated ads, with nothing to download."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET


@dataclass(frozen=True, slots=True)
class Demo:
    """Simulate ad journeys, audit, train MTORL, measure it beside every floor, recommend, and write the report."""

    out: Path = Path("runs/demo")
    """A new folder for the run; the journeys go beside it, to OUT-journeys."""
    users: int = 3_000
    """How many users are simulated."""
    seed: int = 0
    """Everything random is a function of it."""
    set: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Fields of MTORL's config."""

    def execute(self) -> None:
        from headrace.channel.mtorl import MTORL, PRESETS
        from headrace.channel.recommend import recommend, save
        from headrace.channel.scoring import evaluate
        from headrace.cli.console import out, progress
        from headrace.cli.fitting import audited, provenance, settings
        from headrace.cli.measuring import leave
        from headrace.cli.settings import configure, refuse_folder, refuse_run
        from headrace.learn.run import Run
        from headrace.report.brief import print_brief
        from headrace.report.summary import summarise
        from headrace.simulate.log import simulate
        from headrace.simulate.scenario import Scenario

        config = configure("mtorl", MTORL.config_type, PRESETS, "default", (*self.set, f"seed={self.seed}"))
        log = self.out.with_name(f"{self.out.name}-journeys")
        refuse_run(self.out)
        refuse_folder(log)
        scenario = Scenario.load("ads")
        with progress("simulating") as tell:
            journeys = simulate(scenario, self.users, None, "logging", self.seed, log, tell)
        out.print(
            f"1. {journeys.n_users:,} users, {journeys.n_steps:,} exposures over {len(journeys.channels)} channels"
        )
        split = journeys.split("honest", self.seed)
        findings = audited(journeys, split)
        notes = [f.detail for f in findings if f.verdict == "note"]
        out.print("2. audit, protocol honest: no leak" + "".join(f"; note: {n}" for n in notes))
        method = MTORL(config)
        run = Run.create(self.out, settings(method.settings(), journeys, split), **provenance(journeys, split))
        method.fit(journeys, split, run)
        run.write_json("audit.json", [f.to_dict() for f in audited(journeys, split, method.transforms)])
        run.write_json("summary.json", summarise(journeys))
        stage = method.stage
        if stage is not None:
            out.print(f"3. MTORL: {stage.epochs} epochs, {stage.steps} steps, best epoch {stage.best_epoch}")
        with progress("evaluating") as tell_part:
            found = evaluate(method, journeys, split, progress=tell_part)
        table = recommend(method, journeys)
        save(table, self.out / "recommendations.csv")
        leave(found, run)
        out.print("4. measured on users and days that training never saw:\n")
        print_brief(found.records, out)
        out.print(f"5. {self.out / 'recommendations.csv'}: the next channel of {table.height:,} users, best first")
        out.print(f"6. {self.out / 'report.html'}: all of it as a page; open it in a browser")
