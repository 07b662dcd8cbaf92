"""The page and the tables of a comparison of channel methods, from results.json, comparison.json and the cells.

Seconds stand in the cells' manifests alone, since none is ever equal twice; equal files give equal bytes.
"""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
from rich.console import Console

from headrace.report import figures, render
from headrace.report.names import (
    PROTOCOLS,
    direction,
    floor_order,
    is_floor,
    method_words,
    metric_words,
    target,
    target_words,
)
from headrace.report.numbers import decimals, show, width
from headrace.report.parts import Drawing, listed, provenance, read
from headrace.report.published import PUBLISHED
from headrace.report.records import Record, load, settle
from headrace.report.table import Cell, Row, Table, results_table
from headrace.report.template import write

ACCOUNT = "comparison.json"
PAGE = "compare_channel.html"
CHOSEN = "value_snips_of_chosen"  # what value_snips with a share is called here
HEADLINES = ("action/log_loss", "reward/log_loss", "reward_by_channel/log_loss", "value_snips", CHOSEN)
DRAWN = (*HEADLINES[:2], "action/f1_macro", "imitation_reward", "gain_of_chosen", *HEADLINES[3:])
LEVEL = 0.05  # family-wise
GROUPS = {
    "action": "Which channel the log shows next: how well it is imitated, not what that earns.",
    "reward": "What a step brings, said before its channel is chosen.",
    "reward_by_channel": "What a step brings, said with its channel known.",
    "reward_in_context": "What a step brings, said with its channel and context known: a diagnostic.",
    "": "What the choices bring. Imitation score: mean logged reward where the most probable channel is the logged "
    "one, else 0. Gain of the chosen: of the steps advertised at, channels as logged. Value (SNIPS): of the channels "
    "chosen at every step, and at the chosen steps alone. A gain is less s times the cost where the log has one. Q of "
    "value-based methods counts what follows a step, too: it is not made to rank steps by their own gain.",
}


def write_comparison(directory: Path, out: Path | None = None) -> Path:
    """Write report.html of a comparison."""
    return write(PAGE, _content(directory), directory / "report.html" if out is None else out)


def print_comparison(directory: Path, console: Console) -> None:
    """The tables for a terminal, and the verdicts in words."""
    records, told = _records(directory), read(directory / ACCOUNT, dict)
    for name in _groups(records):
        console.print(render.Terminal(_table(records, name, told)))
    console.print(render.Terminal(compute(directory, told)))
    for line in (*verdicts(records, told), *told.get("departures", [])):
        console.print(f"- {line}", soft_wrap=True)


def _content(directory: Path) -> dict[str, Any]:
    records, told = _records(directory), read(directory / ACCOUNT, dict)
    config, manifest = read(directory / "config.json", dict), read(directory / "manifest.json", dict)
    first, drawing = records[0], Drawing()
    held = {r["metric"] for r in records if r["value"] is not None and not is_floor(r["method"])}
    spent = seconds(directory, told)
    groups = [
        {
            "title": target_words(name)[0],
            "words": GROUPS.get(name, ""),
            "results": render.html(_table(records, name, told)),
            "differences": render.html(_differences(records, name, told)),
        }
        for name in _groups(records)
    ]
    learnt = [method_words(m) for m in told["methods"]]
    return {
        "title": f"{listed(learnt)} on {first['dataset']}",
        "sentence": f"{len(learnt)} methods, {told['seeds']} seeds of each on one split, protocol {first['protocol']}: "
        f"{PROTOCOLS.get(first['protocol'], '')}. {_tuning(told)}",
        "departures": told.get("departures", []),
        "leaky": first["leaky"],
        "reference": method_words(told["reference"]),
        "verdicts": verdicts(records, told),
        "intervals": drawing.all(figures.metric_dots(records, m, _titled(m)) for m in DRAWN if m in held),
        "against_compute": drawing.all(quality(records, m, spent) for m in HEADLINES[:2] if m in held),
        "groups": groups,
        "compute": render.html(compute(directory, told)),
        "published": _published(first["dataset"], told["methods"]),
        "provenance": provenance(list(records), config, manifest, {}),
        "config": json.dumps(config, indent=2),
    }


def _titled(metric: str) -> str:
    """A metric's name with its target in front."""
    words = metric_words(metric)
    return f"{target_words(target(metric))[0]}, {words}" if target(metric) else words[:1].upper() + words[1:]


def _tuning(told: Mapping[str, Any]) -> str:
    if not told["tuned"]:
        return "Presets as they are, nothing tuned."
    return (
        f"Each method's configuration is the best of {told['tuned']} trials on the validation part, by the log loss of "
        "the next channel, also where it is told what its choices bring."
    )


def _records(directory: Path) -> list[Record]:
    """One record a cell, best in the first metric on top; what belongs to a share of the steps under its own name."""
    found = []
    for r in settle(load(directory / "results.json")):
        if "share" in r["setting"]:
            name = CHOSEN if r["metric"] == "value_snips" else r["metric"]
            r = r | {"metric": name, "setting": {k: v for k, v in r["setting"].items() if k != "share"}}
        found.append(r)
    way = direction(found[0]["metric"])
    first = {r["method"]: r["value"] for r in reversed(found) if r["metric"] == found[0]["metric"] and not r["against"]}
    rank = sorted(first, key=lambda m: -way * (first[m] if first[m] is not None else -way * 1e9))
    return sorted(found, key=lambda r: rank.index(r["method"]) if r["method"] in rank else len(rank))


def _groups(records: Sequence[Record]) -> list[str]:
    return [name for name in GROUPS if any(target(r["metric"]) == name for r in records)]


def _table(records: Sequence[Record], name: str, told: Mapping[str, Any]) -> Table:
    mine = [r for r in records if target(r["metric"]) == name]
    share = f", chosen: {told['share']:.1%} of the steps" if name == "" else ""
    return dataclasses.replace(results_table(mine), title=f"{target_words(name)[0]}{share}")


def _differences(records: Sequence[Record], name: str, told: Mapping[str, Any]) -> Table:
    """Each method less the reference, with what Holm's correction leaves of the difference."""
    of = [r for r in records if r["against"] == told["reference"] and target(r["metric"]) == name]
    metrics = tuple(dict.fromkeys(r["metric"] for r in of))
    rows = []
    digits = {m: decimals([width(r["low"], r["high"]) for r in of if r["metric"] == m]) for m in metrics}
    for method in dict.fromkeys(r["method"] for r in of):
        cells = {r["metric"]: _difference(r, digits[r["metric"]], told) for r in of if r["method"] == method}
        label = f"{method_words(method)} minus {method_words(told['reference'])}"
        rows.append(Row(label, tuple(cells.get(m, Cell()) for m in metrics)))
    caption = (
        "Paired on the same steps; p after Holm's correction for all methods of a column, "
        f"{LEVEL:g} or more cannot tell the two apart."
    )
    return Table("Differences", caption, metrics, tuple(rows), kind="differences")


def _difference(r: Record, digits: int, told: Mapping[str, Any]) -> Cell:
    if r["value"] is None or r["low"] is None:
        return Cell("refused", refused=True)
    interval = f"[{show(r['low'], digits, True)}, {show(r['high'], digits, True)}]"
    p = p_of(r, told)
    return Cell(show(r["value"], digits, True), interval, remark=f"{judged(r, told)}, p {p:.3f}")


def p_of(r: Record, told: Mapping[str, Any]) -> float:
    """The p-value of a difference after Holm."""
    metric = "value_snips" if r["metric"] == CHOSEN else r["metric"]
    with_share = r["metric"] in (CHOSEN, "gain_of_chosen")
    for name, setting, method, against, p in told["p_values"]:
        same = {k: v for k, v in setting.items() if k != "share"} == r["setting"] and ("share" in setting) == with_share
        if same and (name, method, against) == (metric, r["method"], r["against"]):
            return float(p)
    return 1.0


def judged(r: Record, told: Mapping[str, Any]) -> str:
    """better, worse or cannot tell, after Holm."""
    if r["value"] is None or p_of(r, told) >= LEVEL:
        return "cannot tell"
    return "better" if r["value"] * direction(r["metric"]) > 0 else "worse"


def verdicts(records: Sequence[Record], told: Mapping[str, Any]) -> list[str]:
    """Of each headline metric: who is best, and who differs from the reference after the correction."""
    reference, said = told["reference"], []
    for metric in HEADLINES:
        held = [r for r in records if r["metric"] == metric and r["value"] is not None]
        learnt = [r for r in held if not r["against"] and not is_floor(r["method"])]
        if not learnt:
            continue
        way = direction(metric)
        best = max(learnt, key=lambda r: way * r["value"])
        digits = decimals([width(best["low"], best["high"])], [best["value"]])
        line = f"{_titled(metric)}: best {method_words(best['method'])} {show(best['value'], digits)}"
        floors = [r for r in held if not r["against"] and is_floor(r["method"])]
        if floors:
            floor = max(floors, key=lambda r: way * r["value"])
            line += f", best floor {method_words(floor['method'])} {show(floor['value'], digits)}"
        pairs = [r for r in held if r["against"] == reference]
        for verdict in ("better", "worse"):
            names = [method_words(r["method"]) for r in pairs if judged(r, told) == verdict]
            if names:
                line += f"; {verdict} than {method_words(reference)}: {', '.join(names)}"
        unsure = sum(judged(r, told) == "cannot tell" for r in pairs)
        said.append(
            line + (f"; {unsure} of {len(pairs)} cannot be told from {method_words(reference)}" if unsure else "") + "."
        )
    return said


def seconds(directory: Path, told: Mapping[str, Any]) -> dict[str, float]:
    """The median seconds that a fit of each method took, from the cells."""
    found = {}
    for method in told["methods"]:
        paths = [directory / "cells" / f"{method}-{seed}" / "manifest.json" for seed in range(told["seeds"])]
        spent = [sum(read(path, dict).get("seconds", {}).values()) for path in paths]
        found[method] = float(statistics.median(spent))
    return found


def compute(directory: Path, told: Mapping[str, Any]) -> Table:
    """What each method cost: seconds of a fit, parameters, epochs."""
    spent = seconds(directory, told)
    rows = []
    for method in sorted(told["methods"], key=lambda m: spent[m]):
        of = [told["compute"][f"{method}-{seed}"] for seed in range(told["seeds"])]
        epochs = [c["epochs"] for c in of if "epochs" in c]
        cells = (
            Cell(show(spent[method], 1)),
            Cell(f"{of[0]['parameters']:,}"),
            Cell(" to ".join(dict.fromkeys((str(min(epochs)), str(max(epochs))))) if epochs else "-"),
        )
        rows.append(Row(method_words(method), cells))
    caption = "Seconds: the median of the seeds on the machine of this comparison, one fit at a time."
    return Table("Compute", caption, ("seconds of a fit", "parameters", "epochs"), tuple(rows), kind="compute")


def quality(records: Sequence[Record], metric: str, spent: Mapping[str, float]) -> Any:
    """A metric against the seconds of a fit."""
    held = [r for r in records if r["metric"] == metric and not r["against"] and r["method"] in spent]
    held = [r for r in held if r["value"] is not None]
    values = [{"method": method_words(r["method"]), "s": max(spent[r["method"]], 0.1), "at": r["value"]} for r in held]
    better = {1: "more is better", -1: "less is better", 0: ""}[direction(metric)]
    free = alt.Scale(zero=False, nice=False, padding=14)
    scale = alt.Scale(type="log", nice=False, padding=30)
    base = figures.chart(values, f"{_titled(metric)} against compute", f"{better}; intervals stand above").encode(
        x=alt.X("s:Q", title="seconds of a fit", scale=scale, axis=alt.Axis(tickCount=4)),
        y=alt.Y("at:Q", title=None, scale=free, axis=alt.Axis(tickCount=5)),
    )
    dot = base.mark_point(filled=True, size=60, opacity=1, color=figures.BLUE)
    text = base.mark_text(align="left", dx=6, dy=-6, fontSize=11, color=figures.INK).encode(text="method:N")
    return figures.finish(alt.layer(dot, text).properties(title=base.title), 320, 400)


def _published(dataset: str, methods: Sequence[str]) -> dict[str, Any]:
    """The paper's own figures of this sample's source, for the methods compared."""
    table = PUBLISHED.get(dataset, {})
    names = [m for m in methods if any(m in column for column in table.values())]
    names.sort(key=lambda m: (floor_order(m), list(methods).index(m)))
    rows = [[method_words(m), *(show(column.get(m), 4) for column in table.values())] for m in names]
    return {"columns": [metric_words(metric) for metric in table], "rows": rows}
