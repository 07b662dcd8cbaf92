"""What `headrace compare channel` does: it tells the hours, tunes, fits cell by cell, scores, writes the page."""

import dataclasses
import time
from collections.abc import Iterable
from typing import Any

from headrace.channel import comparing
from headrace.channel.allocated import allocations, cannot_be_valued
from headrace.channel.compared import figures, rows_of, targets_of
from headrace.channel.comparing import Cell, Setting
from headrace.channel.methods import METHODS, method_of
from headrace.cli.compare_channel import CompareChannel
from headrace.cli.console import out, progress
from headrace.cli.fitting import audited, provenance, settings
from headrace.cli.settings import configure, open_journeys, refuse_folder
from headrace.errors import UserError, unknown
from headrace.evaluate.floor_names import FLOORS
from headrace.evaluate.results import Source, save
from headrace.journeys.audit import has_leak
from headrace.journeys.splits import PROTOCOLS
from headrace.learn.run import Run
from headrace.ope.propensities import WAYS
from headrace.ope.selection import check_share
from headrace.report.compare_channel import print_comparison
from headrace.report.page import write_page
from headrace.report.summary import summarise


def compare_channels(flags: CompareChannel) -> None:
    """The whole comparison; one that was stopped goes on where it was."""
    methods, floors = _checked(flags)
    configs = {name: _config(name, flags) for name in methods}
    if not (flags.out / "config.json").is_file():
        refuse_folder(flags.out)
    journeys = open_journeys(flags.data, flags.schema, flags.out.with_name(f"{flags.out.name}-journeys"), resume=True)
    split = journeys.split(flags.protocol, flags.seed)
    findings = audited(journeys, split)
    if flags.propensity == "logged" and not journeys.has("propensity"):
        raise UserError(
            f"{journeys.path}: --propensity logged, and the log holds none; random, where channels were drawn by lot, "
            "or leave it out"
        )
    for name, config in configs.items():
        method_of(name)(config).check(journeys, split)
    config = {"command": "compare", "room": "channel", "dataset": journeys.schema.name, "protocol": flags.protocol}
    config |= {"split_seed": flags.seed, "preset": flags.preset, "set": sorted(flags.set), "tune": flags.tune}
    run = Run.create(flags.out, config, resume=True, **provenance(journeys, split))
    setting = Setting(journeys, split, run.path, settings({}, journeys, split), provenance(journeys, split))
    departed = departures(configs, flags)
    for line in departed:
        out.print(line)
    with run.locked():
        others = comparing.joining(setting, methods, METHODS, flags.seeds)
        configs |= {name: _config(name, flags) for name in others}
        _tell_hours(setting, configs, flags)
        if flags.tune:
            for name in configs:
                _tune(setting, name, configs[name], flags)
                configs[name] = comparing.tuned(setting, name, configs[name])
        plan = [comparing.cell_of(setting, name, seed, c) for seed in range(flags.seeds) for name, c in configs.items()]
        _fit(setting, plan)
        found = comparing.kept(plan)
        targets = targets_of(found)
        known = {t: held for t in targets if len(held := rows_of(found)[t.known(journeys, rows_of(found))])}
        for name in floors:
            with progress(f"fitting {name}"):
                comparing.fit_floor(setting, name, list(known), known)
        reference = flags.against or ("mtorl" if "mtorl" in configs else next(iter(configs)))
        with progress("scoring"):
            source = Source(journeys.schema.name, split.protocol, leaky=has_leak(findings))
            made = figures(setting, found, floors, reference, source, targets)
            way = flags.propensity or ("logged" if journeys.has("propensity") else None)
            unvalued = cannot_be_valued(next(iter(found.values())).reward_weights, journeys)
            if unvalued is None:
                allocations(setting, found, flags.share, way, reference, source, made)
        save(made.records, run.path / "results.json")
        told = {"methods": list(configs), "seeds": flags.seeds, "floors": floors, "reference": reference}
        told |= {"p_values": made.p_values, "tuned": flags.tune, "share": flags.share}
        told["departures"] = [*departures(configs, flags), *([unvalued] if unvalued else [])]
        told["compute"] = {f"{c.method}-{c.seed}": Run.open(c.folder).read_json("compute.json") for c in plan}
        run.write_json("comparison.json", told)
        run.write_json("audit.json", [f.to_dict() for f in findings])
        run.write_json("summary.json", summarise(journeys))
        write_page(run.path)
        run.seal()
    print_comparison(run.path, out)
    out.print(f"{run.path / 'report.html'}: the same as a page")


def _checked(flags: CompareChannel) -> tuple[list[str], list[str]]:
    """The methods and floors asked for; UserError for mistakes that need no data."""
    words = ",".join(METHODS) if flags.methods is None else flags.methods
    methods = list(dict.fromkeys(name.strip() for name in words.split(",")))
    for name in methods:
        method_of(name)
    floors = [] if flags.floors == "none" else list(dict.fromkeys(name.strip() for name in flags.floors.split(",")))
    for name in floors:
        if name not in FLOORS:
            raise unknown("floor", name, FLOORS)
    if flags.protocol not in PROTOCOLS:
        raise unknown("protocol", flags.protocol, PROTOCOLS)
    if flags.against is not None and flags.against not in methods:
        raise unknown("method", flags.against, methods, "--against")
    for flag, value, least in (("seeds", flags.seeds, 1), ("tune", flags.tune, 0), ("jobs", flags.jobs, 1)):
        if value < least:
            raise UserError(f"--{flag} {value}: expected {least} or more")
    if flags.propensity not in (None, "logged", "random"):
        raise unknown("propensity", flags.propensity, [way for way in WAYS if way != "estimated"])
    check_share(flags.share)
    fields = {f.name for name in methods for f in dataclasses.fields(method_of(name).config_type)}
    for change in flags.set:
        key = change.partition("=")[0]
        if key == "seed":
            raise UserError("--set seed: the comparison sets it; use --seeds and --seed")
        if key not in fields:
            raise unknown("key", key, sorted(fields), "compare channel")
    return methods, floors


def _config(name: str, flags: CompareChannel) -> Any:
    """A method's config: its preset, or its default where it has none of that name, and the changes that it knows."""
    kind = method_of(name)
    known = {f.name for f in dataclasses.fields(kind.config_type)}
    changes = tuple(c for c in flags.set if c.partition("=")[0] in known)
    named = any(flags.preset in method_of(n).presets for n in METHODS)
    preset = "default" if named and flags.preset not in kind.presets else flags.preset
    return configure(name, kind.config_type, kind.presets, preset, changes)


def departures(methods: Iterable[str], flags: CompareChannel) -> list[str]:
    """Where a method is not fitted as was asked for all: it has no preset of that name, or not the field of a --set.

    >>> from pathlib import Path
    >>> flags = CompareChannel(Path("j"), Path("o"), preset="paper", set=("heads=2",))
    >>> departures(["mtorl", "bc", "dt"], flags)
    ['no preset paper, so default: bc, dt', 'no field for heads=2: bc']
    """
    found = {}
    if not flags.preset.endswith(".toml"):
        found[f"no preset {flags.preset}, so default"] = [
            n for n in methods if flags.preset not in method_of(n).presets
        ]
    for change in flags.set:
        key = change.partition("=")[0]
        fields = {n: {f.name for f in dataclasses.fields(method_of(n).config_type)} for n in methods}
        found[f"no field for {change}"] = [n for n in methods if key not in fields[n]]
    return [f"{what}: {', '.join(names)}" for what, names in found.items() if names]


def _tell_hours(setting: Setting, configs: dict[str, Any], flags: CompareChannel) -> None:
    """What is left to do, and how long it should take, from a few timed batches of each method.

    A trial is timed as the configuration that its search starts from, so it is said that others may take longer.
    """
    left: dict[str, tuple[int, int]] = {}  # trials, fits
    for name, config in configs.items():
        folder = comparing.study_folder(setting, name)
        trials = 0 if comparing.is_sealed(folder) else max(flags.tune - comparing.ended(setting, name), 0)
        cells = [comparing.cell_of(setting, name, seed, config) for seed in range(flags.seeds)]
        left[name] = trials, sum(not cell.is_done for cell in cells)
        if flags.tune and not trials:
            configs = configs | {name: comparing.tuned(setting, name, config)}
    count = sum(sum(fits) for fits in left.values())
    if not count:
        out.print("nothing is left to fit")
        return
    usual = most = 0.0
    words = []
    with progress("timing") as tell:
        for name, (trials, fits) in left.items():
            if trials or fits:
                tell(name)
                cost = comparing.cost_of(setting, comparing.cell_of(setting, name, 0, configs[name]))
                turns = fits + trials / flags.jobs
                usual, most = usual + turns * cost.usual_s, most + turns * cost.most_s
                words.append(f"{name} {trials + fits} x {cost.usual_s:.0f} s")
    trying = any(trials for trials, _ in left.values())
    out.print(
        f"{count} fit{'s' * (count > 1)} to do, about {_duration(usual)} if nothing else runs here, "
        f"{_duration(most)} if none stops early ({', '.join(words)}); floors and scoring come on top"
        + ("; trials are timed as the presets, and what they try may be many times as large" if trying else "")
    )


def _duration(seconds: float) -> str:
    """
    >>> _duration(90.0), _duration(9000.0)
    ('2 min', '2.5 h')
    """
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _tune(setting: Setting, name: str, config: Any, flags: CompareChannel) -> None:
    fixed = frozenset(change.partition("=")[0] for change in flags.set)
    for trial in comparing.search(setting, name, config, flags.tune, fixed, flags.jobs):
        value = trial.ended if trial.value is None else f"{trial.value:.4f}"
        out.print(f"tuning {name}: trial {trial.number + 1} of {flags.tune}, {comparing.TRIED} {value}")


def _fit(setting: Setting, plan: list[Cell]) -> None:
    """Fit what is not done, a line a cell."""
    for cell in plan:
        comparing.check_cell(setting, cell)
    left = [cell for cell in plan if not cell.is_done]
    spent = 0.0
    for done, cell in enumerate(left, 1):
        started = time.perf_counter()
        comparing.fit_cell(setting, cell)
        took = time.perf_counter() - started
        spent += took
        rest = spent / done * (len(left) - done) / 60
        out.print(f"{done} of {len(left)}: {cell.method} seed {cell.seed}, {took:.0f} s; about {rest:.0f} min left")
