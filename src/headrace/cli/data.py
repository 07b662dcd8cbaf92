"""headrace data: from any log to journeys, and whether a split of them leaks."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG


@dataclass(frozen=True, slots=True)
class Inspect:
    """Draft a schema for a log: what each column seems to be, and why. Correct the draft, then prepare."""

    file: tyro.conf.Positional[Path]
    """parquet, csv or tsv (.gz, .zst)"""
    out: Annotated[Path | None, QUIET] = None
    """Where the draft goes; default: FILE with the ending .schema.toml, in this folder."""

    def execute(self) -> None:
        from rich.table import Table
        from rich.text import Text

        from headrace.cli.console import out
        from headrace.errors import UserError
        from headrace.journeys.inspect import describe, inspect, save

        draft, preview = inspect(self.file)
        target = self.out or Path(f"{self.file.name.split('.')[0]}.schema.toml")
        if target.exists():
            raise UserError(f"{target}: exists; choose another --out, so that no corrected schema is lost")
        save(draft, preview, target)
        table = Table(
            "column", "nulls", "distinct", "example", "taken as", title=f"{self.file}: {preview.rows:,} rows seen"
        )
        table.columns[0].no_wrap = True
        for column, kind, nulls, distinct, example, role, why in describe(preview):
            name = Text.assemble(column, (f"\n{kind}", "dim"))
            table.add_row(name, nulls, distinct, Text(example), Text.assemble(role, (f"\n{why}", "dim")))
        out.print(table)
        if not draft.gains:
            out.print(
                "no outcome was found: name one under [[gains]], there is nothing to learn without", soft_wrap=True
            )
        log, schema = quote(str(self.file)), quote(str(target))
        out.print(f"{target}: read and correct it, then  headrace data prepare {log} --schema {schema} --out JOURNEYS")


@dataclass(frozen=True, slots=True)
class Prepare:
    """Turn a log into journeys: checked, sorted, columnar, memory-mapped."""

    source: tyro.conf.Positional[Path]
    """A file, or a folder in the published layout."""
    schema: str
    """A layout's name or a TOML file."""
    out: Path
    """The new journeys folder."""
    keep_duplicates: Annotated[bool, QUIET] = False
    """Keep rows that are equal in every column."""

    def execute(self) -> None:
        from headrace.cli.console import out, progress
        from headrace.cli.settings import refuse_folder
        from headrace.journeys.prepare import prepare

        refuse_folder(self.out)
        with progress("preparing") as tell:
            journeys = prepare(self.source, self.schema, self.out, self.keep_duplicates, tell)
        counts = f"{journeys.n_users:,} users, {journeys.n_steps:,} steps"
        out.print(f"{self.out}: {counts}, fingerprint {journeys.fingerprint[:12]}")
        for name, value in journeys.manifest["notes"].items():
            if isinstance(value, int) and value and name != "users":
                out.print(f"  {name.replace('_', ' ')}: {value:,}")


@dataclass(frozen=True, slots=True)
class Audit:
    """Look for leaks between the parts of a split; exit code 3 where there is one the protocol does not declare."""

    journeys: tyro.conf.Positional[Annotated[Path, LOG]]
    """A journeys folder, or a raw log of a known layout."""
    protocol: str = "honest"
    """honest | users | temporal | time | paper"""
    seed: int = 0
    """Of the split."""
    fold: Annotated[int | None, QUIET] = None
    """0 to 4: one of five folds over the users."""
    schema: Annotated[str | None, QUIET] = None
    """Of JOURNEYS where that is a raw log."""
    out: Annotated[Path | None, QUIET] = None
    """A new folder for audit.json and results.json."""

    def execute(self) -> None:
        import numpy as np
        from rich.table import Table
        from rich.text import Text

        from headrace.cli.console import out
        from headrace.cli.settings import open_journeys, refuse_run
        from headrace.errors import Refused
        from headrace.evaluate.bootstrap import Interval
        from headrace.evaluate.results import Source, record, save
        from headrace.journeys.audit import audit, has_leak
        from headrace.learn.run import Run

        if self.out is not None:
            refuse_run(self.out)
        journeys = open_journeys(self.journeys, self.schema)
        split = journeys.split(self.protocol, self.seed, self.fold)
        findings = audit(journeys, split)
        counts = ", ".join(f"{part} {int(mask.sum()):,}" for part, mask in split.parts.items())
        table = Table("check", "verdict", "what was found", title=f"protocol {self.protocol}: {counts} steps to label")
        style = {"clean": "green", "note": "yellow", "leak": "bold red"}
        for f in findings:
            rows = f" (first rows {', '.join(map(str, f.rows))})" if f.rows and f.verdict == "leak" else ""
            table.add_row(f.check, Text(f.verdict, style[f.verdict]), f.detail + rows)
        out.print(table)
        rest = journeys.n_steps - int(np.logical_or.reduce(list(split.parts.values())).sum())
        if rest:
            why = "before the cut of users held out, so history alone, or behind it of training users"
            why = {"honest": why, "paper": "in no window that was drawn"}.get(self.protocol, "history alone")
            out.print(f"the other {rest:,} steps are labels of no part: {why}", soft_wrap=True)
        if self.out is not None:
            run = Run.create(
                self.out,
                {"command": "audit", "protocol": self.protocol, "seed": self.seed, "fold": self.fold},
                data_fingerprint=journeys.fingerprint,
                split_fingerprint=split.fingerprint,
            )
            run.write_json("audit.json", [f.to_dict() for f in findings])
            source = Source(journeys.schema.name, self.protocol, "test", self.seed, leaky=has_leak(findings))
            shares = [
                record(
                    source,
                    "audit",
                    f"share/{f.check.replace(' ', '_')}",
                    Interval(f.share, None, None),
                    journeys.n_steps,
                )
                for f in findings
                if f.share is not None
            ]
            save(shares, run.path / "results.json")
            run.seal()
        if has_leak(findings):
            leaks = "; ".join(f"{f.check}: {f.detail}" for f in findings if f.verdict == "leak")
            raise Refused(f"{self.journeys}, protocol {self.protocol}: {leaks}")


@dataclass(frozen=True, slots=True)
class Fetch:
    """Say where a public data set comes from, and check a copy that you have placed."""

    name: tyro.conf.Positional[str]
    """kuairand-pure, criteo-attribution, ..."""
    out: Path = Path("data")
    """The folder that holds or will hold the files."""

    def execute(self) -> None:
        from headrace.cli.console import out
        from headrace.journeys.fetch import fetch

        out.print(fetch(self.name, self.out))
