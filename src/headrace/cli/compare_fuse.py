"""headrace compare fuse: methods of fusion beside one another in a world, by estimates and by the truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from headrace.cli.parse import QUIET


@dataclass(frozen=True, slots=True)
class CompareFuse:
    """Fit methods on logs of a world, value them by a log and by the truth; resumable, a cell a run folder."""

    data: str
    """A world: feed, kuairand, a scenario file, or one of its variants as  kuairand:VARIANT ."""
    out: Path
    """The new folder: cells/, logs/, results.json, report.html. One that was stopped goes on."""
    methods: Annotated[str | None, QUIET] = None
    """Comma between them: bo, es, td3, uwac, cql-sac, iql, td3-bc, unified (bounded exploration), bcq, bcq-re (random
    exploration only), bcq-time, bcq-integrity, bcq-interaction, bcq-dwell (dwell time alone); default: all."""
    seeds: int = 3
    """Each its own catalogue, log, split and start."""
    preset: str = "default"
    """default | tiny | quick | paper"""
    set: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Fields of every method's config that has them, over the preset's; or a size of the comparison, such as
    log_users=2000, fqe_fits=3."""

    def execute(self) -> None:
        from headrace.cli.console import err, out, progress
        from headrace.cli.settings import refuse_folder
        from headrace.errors import UserError, unknown
        from headrace.evaluate.results import save
        from headrace.fuse.comparing import Sizes, Table, compare, described, world_named
        from headrace.fuse.learner import PRESETS
        from headrace.fuse.methods import VARIANTS
        from headrace.learn.run import Run
        from headrace.report.brief import print_brief
        from headrace.report.page import write_page

        wanted = (self.methods or ",".join(VARIANTS)).split(",")
        methods = tuple(dict.fromkeys(name.strip() for name in wanted))
        for name in methods:
            if name not in VARIANTS:
                raise unknown("method", name, VARIANTS)
        if self.preset not in PRESETS:
            raise unknown("preset", self.preset, PRESETS, "fuse")
        if self.seeds < 1:
            raise UserError(f"--seeds {self.seeds}: expected 1 or more")
        given, sizes = _read(self.set)
        table = Table(world_named(self.data), self.data, methods, self.preset, given, Sizes(**sizes), self.out)
        for name in methods:
            table.config(name, 0)  # mistakes before any work
        if not (self.out / "config.json").is_file():
            refuse_folder(self.out)
        run = Run.create(self.out, described(table), resume=True)
        with progress("comparing") as tell:
            records = compare(table, self.seeds, tell, err.print)
        save(records, run.path / "results.json")
        write_page(run.path)
        run.seal()
        whole = [r for r in records if r["seed"] is None] if self.seeds > 1 else records
        print_brief(whole, out)
        out.print(f"{self.out / 'report.html'}: the same as a page")


def _read(changes: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, int]]:
    """--set: fields of the methods' configs, and sizes of the comparison."""
    import typing
    from dataclasses import asdict, fields

    from headrace.cli.settings import read
    from headrace.errors import UserError, unknown
    from headrace.fuse.comparing import Sizes
    from headrace.fuse.methods import METHODS

    known: dict[str, Any] = {}
    for method in METHODS.values():
        known |= typing.get_type_hints(method.config_type)
    of_sizes = {f.name for f in fields(Sizes)}
    given: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"--set {change}: expected key=value, for example  --set updates=5000")
        if key == "fusion":
            raise UserError("--set fusion: a world fuses by its own log-sum; leave it out")
        if key == "seed":
            raise UserError("--set seed: the comparison sets it; use --seeds")
        if key in of_sizes:
            sizes[key] = read(key, text, int)
        elif key in known:
            given[key] = read(key, text, known[key])
        else:
            raise unknown("key", key, [*known, *asdict(Sizes())], "compare fuse")
    return given, sizes
