"""headrace compare predict: variants of RMTL beside one another, over several seeds with equal steps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG

DEFAULT = ("ple", "ple-constant", "rmtl-ple")


@dataclass(frozen=True, slots=True)
class ComparePredict:
    """Fit variants under several seeds on one split, and say which differ; resumable, a cell a run folder."""

    data: Annotated[Path, LOG]
    """A journeys folder, or a raw log of a known layout (its journeys are then kept as OUT-journeys)."""
    out: Path
    """The new folder: cells/, results.json, report.html. One that was stopped goes on."""
    methods: Annotated[str | None, QUIET] = None
    """Comma between them (default: ple,ple-constant,rmtl-ple): a backbone (single, shared, esmm, aitm, mmoe, ple),
    rmtl-BACKBONE, d-BACKBONE, or a control BACKBONE-WEIGHTS (constant, decay, focal, return, shuffled, normalised,
    uncertainty, dwa, gradnorm, pcgrad, wl, nlc)."""
    seeds: int = 3
    """Initialisations and orders of batches; the split is one."""
    protocol: str = "time"
    """honest | users | temporal | time"""
    seed: int = 0
    """Of the split."""
    preset: str = "default"
    """default | tiny | paper | a TOML file of config fields"""
    set: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Fields of every variant's config, over the preset's."""
    floors: Annotated[str, QUIET] = "prior,trees"
    """Comma between them: prior, logistic, trees, lightgbm; none"""
    schema: Annotated[str | None, QUIET] = None
    """Of --data where that is a raw log: a layout's name or a TOML file."""

    def execute(self) -> None:
        import dataclasses

        from headrace.cli.console import out, progress
        from headrace.cli.fitting import audited, provenance, settings
        from headrace.cli.settings import configure, open_items, refuse_folder
        from headrace.errors import UserError, unknown
        from headrace.evaluate.results import Source, save
        from headrace.journeys.audit import has_leak
        from headrace.journeys.splits import PROTOCOLS
        from headrace.learn.run import Run
        from headrace.predict import comparing
        from headrace.predict.methods import variant
        from headrace.predict.rmtl import PRESETS, RMTL, RMTLConfig
        from headrace.predict.scoring import FLOORS
        from headrace.predict.sessions import lengths, rule_of
        from headrace.report.brief import print_brief
        from headrace.report.page import write_page
        from headrace.report.summary import summarise

        if self.protocol not in PROTOCOLS:
            raise unknown("protocol", self.protocol, PROTOCOLS)
        if self.seeds < 1:
            raise UserError(f"--seeds {self.seeds}: expected 1 or more")
        methods = list(dict.fromkeys(name.strip() for name in (self.methods or ",".join(DEFAULT)).split(",")))
        for name in methods:
            variant(name)
        floors = [] if self.floors == "none" else [name.strip() for name in self.floors.split(",")]
        for name in floors:
            if name not in FLOORS:
                raise unknown("floor", name, FLOORS)
        for field in ("seed", "backbone", "weights"):
            if any(change.startswith(f"{field}=") for change in self.set):
                raise UserError(f"--set {field}: the comparison sets it; use --methods and --seeds")
        base = configure("rmtl", RMTLConfig, PRESETS, self.preset, self.set)
        if not (self.out / "config.json").is_file():
            refuse_folder(self.out)
        journeys = open_items(self.data, self.schema, self.out.with_name(f"{self.out.name}-journeys"), resume=True)
        for name in methods:
            RMTL(dataclasses.replace(base, **variant(name))).check(journeys)
        split = journeys.split(self.protocol, self.seed)
        findings = audited(journeys, split)
        config = {"command": "compare", "room": "predict", "methods": methods, "seeds": self.seeds}
        config |= {"base": dataclasses.asdict(base), "floors": floors, "dataset": journeys.schema.name}
        config |= {"protocol": self.protocol, "split_seed": self.seed}
        run = Run.create(self.out, config, resume=True, **provenance(journeys, split))
        prepared = comparing.prepare(journeys, split, base, ("test",))
        rule = rule_of(journeys, base.session)
        for part in ("train", "test"):
            out.print(f"{part}: {lengths(prepared.parts[part].session, rule).sentence}", soft_wrap=True)
        plan = comparing.cells(methods, self.seeds, dataclasses.asdict(base), self.out / "cells")
        left = sum(not cell.is_done for cell in plan)
        if left:
            minutes = comparing.expected_s(prepared, plan) / 60
            out.print(f"{left} of {len(plan)} trainings to do, about {minutes:.0f} min if nothing else runs here")
        found = {}
        with progress("comparing") as tell:
            tell(0, len(plan))
            told = provenance(journeys, split)
            fitted = comparing.fit_cells(
                plan, journeys, split, prepared, lambda method: settings(method, journeys, split), told
            )
            for number, (cell, method) in enumerate(fitted, 1):
                found[cell.method, cell.seed] = method.predict_table(
                    prepared.parts["test"], prepared.parts["test"].rows
                )
                tell(number, len(plan))
        with progress("scoring") as say:
            scored = comparing.predictions(found, journeys, split, prepared, "test", floors, say)
        source = Source(journeys.schema.name, self.protocol, seed=None, leaky=has_leak(findings))
        records, p_values = comparing.compare(source, scored, comparing.rivals)
        save(records, run.path / "results.json")
        run.write_json("p_values.json", [[*key, value] for key, value in p_values.items()])
        run.write_json("audit.json", [f.to_dict() for f in findings])
        run.write_json("summary.json", summarise(journeys))
        write_page(run.path)
        run.seal()
        print_brief(records, out)
        out.print(f"{run.path / 'report.html'}: the same as a page")
