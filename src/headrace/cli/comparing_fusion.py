"""headrace compare fuse: methods of fusion beside one another in a world, by estimates and by the truth."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from headrace.cli.console import err, out, progress
from headrace.cli.settings import read, refuse_folder
from headrace.errors import UserError, unknown
from headrace.evaluate.results import save
from headrace.fuse.comparing import Sizes, Table, compare, described, world_named
from headrace.fuse.learner import PRESETS
from headrace.fuse.methods import METHODS, VARIANTS
from headrace.learn.run import Run
from headrace.report.brief import print_brief
from headrace.report.page import write_page


def compare_fusion(
    world: Path, folder: Path, names: str | None, seeds: int, preset: str, changes: tuple[str, ...]
) -> None:
    """Fit every method under every seed, and leave results.json and the page; a comparison that was stopped goes on."""
    methods = tuple(dict.fromkeys(n.strip() for n in names.split(","))) if names else tuple(VARIANTS)
    for name in methods:
        if name not in VARIANTS:
            raise unknown("method", name, VARIANTS)
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS, "fuse")
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: expected 1 or more")
    given, sizes = _read(changes)
    table = Table(world_named(str(world)), str(world), methods, preset, given, Sizes(**sizes), folder)
    for name in methods:
        table.config(name, 0)  # mistakes before any work
    if not (folder / "config.json").is_file():
        refuse_folder(folder)
    run = Run.create(folder, described(table), resume=True)
    with progress("comparing") as tell:
        records = compare(table, seeds, tell, err.print)
    save(records, run.path / "results.json")
    write_page(run.path)
    run.seal()
    whole = [r for r in records if r["seed"] is None] if seeds > 1 else records
    print_brief(whole, out)
    out.print(f"{folder / 'report.html'}: the same as a page")


def _read(changes: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, int]]:
    """--set: fields of the methods' configs, and sizes of the comparison."""
    import typing

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
