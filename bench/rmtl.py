"""RMTL, its backbones and every control of equal steps: the tables of docs/rmtl.md.

    python bench/rmtl.py PART [--data FOLDER] [--share .25] [--seeds 5] [--cells FOLDER] [--set key=value ...]

PART: kuairand (all variants), feed (the long sessions of the world), sweeps (lambda and the
soft update), transfer (critics of another backbone), retailrocket (views, and whether the item is put into the cart
and bought within a day), criteo. Each leaves docs/tables/rmtl-PART.{json,md}.
`--share` is the share of users, drawn by a hash of their ids. `--cells` keeps the trainings, so that a bench that was
stopped goes on.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from made_by import made_by

from headrace.cli.settings import configure
from headrace.evaluate.results import Record, Source, save
from headrace.journeys.exposures import exposures
from headrace.journeys.prepare import prepare as prepare_log
from headrace.journeys.schema import Feature, Gain, LogSchema
from headrace.journeys.splits import uniform_of_users
from headrace.journeys.store import Journeys, subset
from headrace.predict import comparing
from headrace.predict.rmtl import PRESETS, RMTLConfig, prepare
from headrace.predict.sessions import lengths, rule_of, sessions
from headrace.report import figures
from headrace.report.names import method_words
from headrace.report.numbers import show
from headrace.simulate.feed_log import simulate_feed
from headrace.simulate.scenario import Scenario

TABLES = Path(__file__).resolve().parents[1] / "docs" / "tables"
CONTROLS: tuple[str, ...] = ("constant", "decay", "focal", "return", "shuffled", "normalised")
CONTROLS += ("uncertainty", "dwa", "gradnorm", "pcgrad", "wl", "nlc")
PLE = ("ple", "rmtl-ple", *(f"ple-{c}" for c in CONTROLS), "d-ple")
OTHERS = tuple(name for b in ("esmm", "mmoe") for name in (b, f"{b}-constant", f"rmtl-{b}"))
METHODS = {
    "kuairand": ("single", "shared", "aitm", *OTHERS, *PLE),
    "feed": ("ple", "rmtl-ple", *(f"ple-{c}" for c in CONTROLS[:6])),
    "retailrocket": ("single", "ple", "ple-constant", "rmtl-ple"),
    "criteo": ("single", "esmm", "aitm", "ple", "ple-constant", "rmtl-ple"),
}
PROTOCOL = {"criteo": "users"}
TASKS = {"retailrocket": ("tasks=ctr=addtocart|transaction,ctcvr=transaction",)}
LAMBDAS, RATES = (0.1, 0.3, 0.7, 1.5, 3.0), (0.02, 0.2, 0.5, 1.0)
SHOWN = ("auc", "log_loss", "session_log_loss", "ece")
HEAD = {"auc": "AUC", "log_loss": "log loss", "session_log_loss": "session log loss", "ece": "calibration error"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*METHODS, "sweeps", "transfer"])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--users", type=int, default=600, help="of the world's feed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cells", type=Path, default=None)
    parser.add_argument("--protocol", default=None, help="default: time; criteo, which has no clock: users")
    parser.add_argument("--floors", nargs="*", default=["prior", "lightgbm"])
    parser.add_argument("--methods", nargs="*", default=None)
    parser.add_argument("--pairs", nargs="*", default=[], help="also the mean of two seeds' chances of these methods")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", nargs="+", default=[], help="changes of the preset")
    parser.add_argument("--name", default=None, help="of the table; default: the part")
    parser.add_argument("--out", type=Path, default=TABLES)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.cells or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        measure(given, folder, Path(scratch))


def measure(given: argparse.Namespace, folder: Path, scratch: Path) -> None:
    """Fit the part's cells, score them, write the table."""
    started = time.perf_counter()
    journeys = log_of(given, scratch)
    split = journeys.split(given.protocol or PROTOCOL.get(given.part, "time"), 0)
    base = configure("rmtl", RMTLConfig, PRESETS, given.preset, (*TASKS.get(given.part, ()), *given.set))
    prepared = prepare(journeys, split, base, ("test",))
    more, settings = variants(given.part, folder)
    names = tuple(given.methods or METHODS.get(given.part, tuple(more)))
    plan = comparing.cells(names, given.seeds, dataclasses.asdict(base), folder / "cells", more)
    print(f"{comparing.expected_s(prepared, plan) / 60:.0f} min expected", file=sys.stderr, flush=True)
    found: dict[tuple[str, int], np.ndarray] = {}
    seconds: dict[str, list[float]] = {}
    steps: dict[str, int] = {}
    for cell, method in comparing.fit_cells(plan, journeys, split, prepared, lambda s: s, {}):
        found[cell.method, cell.seed] = method.predict_table(prepared.parts["test"], prepared.parts["test"].rows)
        spent = json.loads((cell.folder / "manifest.json").read_text())["seconds"]
        for stage, value in spent.items():
            seconds.setdefault(stage, []).append(value)
        if method.stage is not None:
            steps[cell.method] = method.stage.steps
        print(f"{cell.folder.name}: {sum(spent.values()):.0f} s", file=sys.stderr, flush=True)
    for pair in given.pairs:
        for seed in range(given.seeds):
            two = found[pair, seed], found[pair, (seed + 1) % given.seeds]
            found[f"{pair}-two-seeds", seed] = np.mean(two, axis=0)
    scored = comparing.predictions(found, journeys, split, prepared, "test", given.floors)
    source = Source(journeys.schema.name, split.protocol)
    records, p_values = comparing.compare(source, scored, comparing.rivals if not settings else own_controls(more))
    name = f"rmtl-{given.name or given.part}"
    told = [r | {"setting": settings.get(r["method"], ({}, r["method"]))[0]} for r in records]
    told = [r | {"method": settings.get(r["method"], ({}, r["method"]))[1]} for r in told]
    given.out.mkdir(parents=True, exist_ok=True)
    save([{k: r[k] for k in records[0]} for r in told], given.out / f"{name}.json")
    tasks = [t.name for t in prepared.features.tasks]
    train, test = (sessions(journeys, split.rows(p), base.session, base.session_gap_minutes) for p in ("train", "test"))
    rule = rule_of(journeys, base.session)
    text = [f"Sessions. Train: {lengths(train, rule).sentence}. Test: {lengths(test, rule).sentence}."]
    for task in tasks:
        text.append(results(records, task))
    told_of = ("ple", *(f"{pair}-two-seeds" for pair in given.pairs), *(n for n in names if n.startswith("rmtl-")))
    for method in told_of if not settings else ():
        text.append(differences(records, p_values, method, tasks))
    for control in ("constant", "its own critics") if settings else ():
        text.append(by_setting(records, settings, control, tasks))
    text += charts(given.part, told, given.out, name)
    words, hidden = (
        sys.argv[1:],
        {i + k for i, w in enumerate(sys.argv[1:]) if w in ("--cells", "--out", "--data") for k in (0, 1)},
    )
    command = " ".join(["python bench/rmtl.py", *(w for i, w in enumerate(words) if i not in hidden)])
    text.append(
        f"{len(plan)} trainings, {given.seeds} seeds on one split ({split.protocol}, {split.fingerprint[:12]}), "
        f"{len(split.rows('train')):,} training rows; brackets: 95 % interval over users"
        + (" and seeds" if given.seeds > 1 else "")
        + ". Seconds by stage, "
        + ", ".join(f"{s} {np.median([x for x in v if x >= 1] or [0]):.0f}" for s, v in seconds.items())
        + f" (median; machine shared with other work); all {time.perf_counter() - started:.0f} s. "
        + made_by(command)
    )
    (given.out / f"{name}.md").write_text("\n\n".join(t for t in text if t) + "\n", encoding="utf-8")


def log_of(given: argparse.Namespace, scratch: Path) -> Journeys:
    """The journeys of a part."""
    if given.part == "feed":
        scenario = Scenario.load("feed")
        log = simulate_feed(scenario, given.users, None, "explore", 0, scratch / "feed", lists="shown")
        return exposures(log, scratch / "items")
    if given.part == "retailrocket":
        return views(given.data / "retailrocket" / "events_sample.parquet", scratch)
    sources = {"criteo": ("criteo_attribution/criteo_sequence.parquet", "criteo-attribution-sample")}
    path, schema = sources.get(given.part, ("kuairand_pure", "kuairand-pure"))
    journeys = prepare_log(given.data / path, schema, scratch / "journeys")
    if given.share < 1:
        chosen = np.flatnonzero(uniform_of_users(journeys, 0, "bench") < given.share)
        journeys = subset(journeys, chosen, scratch / "share")
    return journeys


DAY_MS = 86_400_000
VIEWS = LogSchema(
    name="retailrocket-views",
    user="visitorid",
    time="timestamp",
    time_unit="ms",
    features=(Feature("itemid", "categorical", "after"),),
    gains=(Gain("addtocart", known="at:addtocart_at"), Gain("transaction", known="at:transaction_at")),
    label_window_s=DAY_MS / 1000,
)


def views(events: Path, scratch: Path) -> Journeys:
    """RetailRocket's views, and whether the visitor then put the item into the cart, or bought it, within a day.

    Not every event a row with its kind as the label: that a cart's row exists, seconds behind the view of the same
    item, is itself the outcome.
    """
    log = pl.read_parquet(events).sort("timestamp")
    key = ["visitorid", "itemid"]
    found = log.filter(pl.col("event") == "view").select("timestamp", *key)
    for gain in ("addtocart", "transaction"):
        then = log.filter(pl.col("event") == gain).select("timestamp", *key, pl.col("timestamp").alias(f"{gain}_at"))
        found = found.join_asof(
            then, on="timestamp", by=key, strategy="forward", tolerance=DAY_MS, check_sortedness=False
        ).with_columns(
            pl.col(f"{gain}_at").is_not_null().alias(gain),
            pl.col(f"{gain}_at").fill_null(pl.col("timestamp") + DAY_MS),
        )
    found.write_parquet(scratch / "views.parquet")
    return prepare_log(scratch / "views.parquet", VIEWS, scratch / "journeys")


def variants(part: str, folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[dict[str, Any], str]]]:
    """Named changes of a part's variants, and the setting and method that each is recorded under."""
    more: dict[str, dict[str, Any]] = {}
    settings: dict[str, tuple[dict[str, Any], str]] = {}

    def add(name: str, setting: dict[str, Any], method: str, **change: Any) -> None:
        more[name], settings[name] = change, (setting, method)

    if part == "sweeps":
        more |= {"ple": {"backbone": "ple", "weights": "none"}}
        more |= {"ple-constant": {"backbone": "ple", "weights": "constant"}}
        for value in LAMBDAS:
            setting = {"lambda": value}
            add(f"rmtl-ple-lambda-{value}", setting, "rmtl-ple", backbone="ple", weights="rl", lambda_=value)
        for value in RATES:
            setting = {"soft_update": value}
            add(f"rmtl-ple-soft-{value}", setting, "rmtl-ple", backbone="ple", weights="rl", soft_update=value)
    if part == "transfer":
        for backbone in ("esmm", "mmoe", "ple"):
            more[backbone] = {"backbone": backbone, "weights": "none"}
            more[f"{backbone}-constant"] = {"backbone": backbone, "weights": "constant"}
            more[f"rmtl-{backbone}"] = {"backbone": backbone, "weights": "rl"}
        for critic in ("esmm", "mmoe", "ple"):
            for backbone in ("esmm", "mmoe", "ple"):
                if critic != backbone:
                    change = {"critics_from": str(folder / "cells" / f"rmtl-{critic}-0")}
                    add(f"{critic}-{backbone}", {"critics of": critic}, f"rmtl-{backbone}", backbone=backbone, **change)
    return more, settings


def own_controls(more: Mapping[str, Mapping[str, Any]]) -> Callable[[str, Sequence[str]], list[str]]:
    """What a variant of some setting is compared with: the constant control of its backbone, RMTL with its critics."""

    def against(method: str, names: Sequence[str]) -> list[str]:
        change = more.get(method, {})
        if change.get("weights", "rl") != "rl" or "backbone" not in change:
            return []
        wanted = f"{change['backbone']}-constant", f"rmtl-{change['backbone']}"
        return [name for name in wanted if name in names and name != method]

    return against


def by_setting(
    records: Sequence[Record],
    settings: Mapping[str, tuple[Mapping[str, Any], str]],
    control: str,
    tasks: Sequence[str],
) -> str:
    """Each setting's paired differences from one control; bold where the interval excludes zero."""
    suffix = "-constant" if control == "constant" else ""
    mine = [r for r in records if r["against"] is not None and r["method"] in settings and r["seed"] is None]
    mine = [r for r in mine if r["against"].endswith("-constant") == bool(suffix)]
    if not mine:
        return ""
    columns = [f"{t}/{m}" for t in tasks for m in ("auc", "log_loss")]
    names = [f"{c.partition('/')[0]} {HEAD[c.partition('/')[2]]}" for c in columns]
    lines = [f"| minus {control} | " + " | ".join(names) + " |", "|---" * (len(columns) + 1) + "|"]
    for method in dict.fromkeys(r["method"] for r in mine):
        of = {r["metric"]: r for r in mine if r["method"] == method}
        setting, words = settings[method]
        told = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in setting.items())
        cells = [f"**{figure(of[c], 4, True)}**" if sure(of[c]) else figure(of[c], 4, True) for c in columns]
        lines.append(f"| {method_words(words)}, {told} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\nBold: the interval excludes zero, not adjusted for the number of rows."


def sure(r: Record) -> bool:
    """Whether a difference's interval excludes zero."""
    return r["low"] is not None and (r["low"] > 0 or r["high"] < 0)


def results(records: Sequence[Record], task: str) -> str:
    """A task's figures, methods down."""
    mine = [r for r in records if r["seed"] is None and r["against"] is None and r["metric"].startswith(f"{task}/")]
    metrics = [m for m in SHOWN if any(r["metric"] == f"{task}/{m}" for r in mine)]
    lines = [f"| {task} | " + " | ".join(HEAD[m] for m in metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for method in dict.fromkeys(r["method"] for r in mine):
        of = {r["metric"].rpartition("/")[2]: r for r in mine if r["method"] == method}
        cells = [figure(of[m], 4) for m in metrics]
        lines.append(f"| {method_words(method)} | " + " | ".join(cells) + " |")
    n = mine[0]["n"]
    return "\n".join(lines) + f"\n\nn = {n:,}."


def differences(records: Sequence[Record], p_values: dict[Any, float], method: str, tasks: Sequence[str]) -> str:
    """A variant's paired differences in AUC and log loss; bold where the interval excludes zero."""
    mine = [r for r in records if r["method"] == method and r["against"] is not None]
    columns = [f"{t}/{m}" for t in tasks for m in ("auc", "log_loss") if any(r["metric"] == f"{t}/{m}" for r in mine)]
    if not columns:
        return ""
    names = [f"{c.partition('/')[0]} {HEAD[c.partition('/')[2]]}" for c in columns]
    lines = [f"| {method_words(method)} minus | " + " | ".join(names) + " |", "|---" * (len(columns) + 1) + "|"]
    for other in dict.fromkeys(r["against"] for r in mine if r["against"] != "prior"):
        of = {r["metric"]: r for r in mine if r["against"] == other}
        cells = []
        for c in columns:
            text = figure(of[c], 4, True)
            p = p_values.get((c, method, other), 1.0)
            cells.append(f"**{text}** (p {p:.3f})" if sure(of[c]) else text)
        lines.append(f"| {method_words(other)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\nBold: the interval excludes zero; p after Holm over the rows of its column."


def figure(r: Record, digits: int, sign: bool = False) -> str:
    """value [low, high]"""
    if r["value"] is None:
        return "refused"
    ends = [show(r[k], digits, sign) if r[k] is not None else "-" for k in ("value", "low", "high")]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def charts(part: str, records: Sequence[Record], out: Path, name: str) -> list[str]:
    """The sweeps' charts, written beside the table: what each setting adds to the constant control."""
    if part != "sweeps":
        return []
    lines = []
    for key in ("lambda", "soft_update"):
        held = [
            r for r in records if r["against"] == "ple-constant" and r["seed"] is None and set(r["setting"]) == {key}
        ]
        for metric in ("ctr/auc", "ctcvr/auc"):
            task = metric.partition("/")[0]
            drawn = [r | {"against": None} for r in held if r["metric"] == metric]
            chart = figures.sweep(drawn, metric, key)
            chart.title.text = f"AUC of {task} minus the constant control"
            file = f"{name}-{key}-{task}.svg"
            figures.save(chart, out / file)
            lines.append(f"![AUC of {task} minus the constant control, by {key}](tables/{file})")
    return [" ".join(lines)]


if __name__ == "__main__":
    main()
