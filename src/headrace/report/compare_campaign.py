"""The page and the table of a comparison of campaigns, from results.json and contest.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from headrace.report.figures import BLUE, GREY, LINES, NAMES, ROW, chart, finish
from headrace.report.numbers import show
from headrace.report.parts import Drawing, listed, provenance, read
from headrace.report.records import Record, load
from headrace.report.template import write

ACCOUNT, PAGE = "contest.json", "compare.html"
COLUMNS = ("method", "gross", "increment", "of full information", "spent", "ours less it")
GROSS = ("true_value", "incremental_value")
NARROW = ("method", "increment", "of full information", "spent", "ours less it")  # what a terminal has room for
BOUND = " (bound)"
PALE, OTHERS = "#c8c8c8", "the others"
STYLES = {"ours": (BLUE, [1, 0]), "informed": (GREY, [6, 3]), "full-information": (GREY, [2, 3])}  # colour and dash
RIVAL_COLOURS = tuple(colour for colour in LINES if colour != BLUE)


def write_contest(directory: Path, out: Path | None = None) -> Path:
    """Write compare.html; equal files give equal bytes."""
    records, told = load(directory / "results.json"), read(directory / ACCOUNT, dict)
    config, manifest = read(directory / "config.json", dict), read(directory / "manifest.json", dict)
    drawing = Drawing()
    parts: list[dict[str, Any]] = []
    for name, amount in told["budgets"].items():
        of = at(records, amount)
        parts.append(
            {
                "budget": f"{show(amount, 2)} {told['currency']}",
                "verdict": verdict(of),
                "figures": drawing.all([intervals(of, told["gain"])]),
                "rows": rows(of),
                "shares": [[method, *_shares(adverts)] for method, adverts in told["adverts"][name].items()],
            }
        )
    several = len(parts) > 1
    content = {
        "title": f"Campaigns of {money(told)} in the world {config['dataset']}",
        "sentence": sentence(told),
        "curves": drawing.all([by_budget(records, told["gain"], told["currency"])] if several else []),
        "parts": parts,
        "columns": COLUMNS,
        "channels": told["channels"],
        "correction": told["correction"],
        "provenance": provenance(list(records), config, manifest, {}),
        "config": json.dumps(config, indent=2),
    }
    return write(PAGE, content, out or directory / PAGE)


def at(records: Sequence[Record], budget: float) -> list[Record]:
    """The records of one budget."""
    return [r for r in records if r["setting"]["budget"] == budget]


def sentence(told: Mapping[str, Any]) -> str:
    """What is compared, in words."""
    return (
        f"{told['gain']}, sums over {told['users']:,} users, mean of {told['seeds']} worlds, "
        f"95 % intervals over users; every method meets the same users and luck with {money(told)}."
    )


def money(told: Mapping[str, Any]) -> str:
    """The budgets in words."""
    amounts = [f"{show(amount, 2)} {told['currency']}" for amount in told["budgets"].values()]
    return listed(amounts) if len(amounts) < 4 else f"each of {len(amounts)} budgets from {amounts[0]} to {amounts[-1]}"


def rows(records: Sequence[Record]) -> list[list[str]]:
    """The table of one budget, bounds first, then the best increment."""
    held = [r for r in records if r["seed"] is None]
    names = list(dict.fromkeys(r["method"] for r in held if r["metric"] == "spend"))
    value = {name: _figure(held, name, "incremental_value") for name in names}
    names.sort(key=lambda name: -(value[name] or {"value": 0.0})["value"])
    found = [
        [f"{name}{BOUND}", *(f"at most {_words(_figure(held, name, f'{of}_bound'))}" for of in GROSS), "-", "-", "-"]
        for name in dict.fromkeys(r["method"] for r in held if r["metric"] == "true_value_bound")
    ]
    for name in names:
        spend = _figure(held, name, "spend")
        found.append(
            [
                name,
                _words(_figure(held, name, "true_value")),
                _words(value[name]),
                _words(_figure(held, name, "share_of_full_information"), 2),
                show(spend["value"], 2) if spend else "-",
                _words(_figure(held, "ours", "incremental_value", name)),
            ]
        )
    return found


def verdict(records: Sequence[Record]) -> list[str]:
    """Whether ours reaches nine tenths of full information, and beats every rival."""
    held = [r for r in records if r["seed"] is None]
    share = _figure(held, "ours", "share_of_full_information")
    said = []
    if share is not None and share["value"] is not None:
        reached = "reaches" if share["value"] >= 0.9 else "does not reach"
        said.append(f"ours {reached} 90 % of full information's increment: {_words(share, 2)}.")
        seen = _figure(held, "informed", "share_of_full_information")
        if seen is not None:
            said.append(f"Who knows the world and all that a log shows of its users gets to {_words(seen, 2)}.")
    most = _figure(held, "lp-bound", "incremental_value_bound")
    full = _figure(held, "full-information", "incremental_value")
    if most is not None and full is not None and most["value"] > 0:
        reached = show(full["value"] / most["value"], 2)
        said.append(f"Full information gets to {reached} of what nobody can be expected to exceed.")
    against = [
        r
        for r in held
        if r["method"] == "ours"
        and r["metric"] == "incremental_value"
        and r["against"] not in (None, "informed", "full-information")
    ]
    beaten = [r["against"] for r in against if r["low"] is not None and r["low"] > 0]
    not_beaten = [r["against"] for r in against if r["against"] not in beaten]
    if against:
        said.append(f"Its increment is above that of {len(beaten)} of {len(against)} rivals (paired interval above 0).")
    if not_beaten:
        said.append(f"It cannot be told from, or is below: {', '.join(not_beaten)}.")
    return said


def intervals(records: Sequence[Record], gain: str) -> Any:
    """Increment of every method with its interval."""
    held = [r for r in records if r["seed"] is None and r["metric"] == "incremental_value" and r["against"] is None]
    held.sort(key=lambda r: -r["value"])
    values = [{"by": r["method"], "at": r["value"], "low": r["low"], "high": r["high"]} for r in held]
    base = chart(values, f"Increment: {gain}", "mean of the worlds; whisker: 95 % interval over users")
    base = base.encode(y=alt.Y("by:N", sort=None, title=None, axis=NAMES))
    x = alt.X("at:Q", title=None, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    colour = alt.condition(alt.datum.by == "ours", alt.value(BLUE), alt.value(GREY))
    whisker = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=None), x2="high:Q", color=colour)
    dot = base.mark_point(filled=True, size=70, opacity=1).encode(x=x, color=colour)
    return finish(alt.layer(whisker, dot).properties(title=base.title), ROW * len(values), 360)


def by_budget(records: Sequence[Record], gain: str, currency: str) -> Any:
    """Increment of every method by budget; the best few have a colour each, the references are broken lines."""
    held = [r for r in records if r["seed"] is None and r["metric"] == "incremental_value" and r["against"] is None]
    most = max(r["setting"]["budget"] for r in held)
    last = sorted((r for r in held if r["setting"]["budget"] == most), key=lambda r: -r["value"])
    names = [r["method"] for r in last]
    rivals = [name for name in names if name not in STYLES]
    colours = {n: c for n, (c, _) in STYLES.items() if n in names} | dict(zip(rivals, RIVAL_COLOURS, strict=False))
    shown = [name for name in names if name in colours]
    others = [name for name in rivals if name not in colours]
    values = [
        {"budget": r["setting"]["budget"], "of": r["method"], **{k: r[k] for k in ("value", "low", "high")}}
        | {"method": r["method"] if r["method"] in colours else OTHERS}
        for r in held
    ]
    keys = [*shown, *([OTHERS] if others else [])]
    budgets = sorted({v["budget"] for v in values})
    scale = alt.Scale(type="log" if budgets[0] > 0 and most / budgets[0] >= 8 else "linear", nice=False, padding=12)
    base = chart(
        values, f"Increment by budget: {gain}", "mean of the worlds; band: 95 % interval of ours over users"
    ).encode(
        x=alt.X("budget:Q", title=currency, scale=scale, axis=alt.Axis(grid=False, values=budgets)),
        color=alt.Color("method:N", scale=alt.Scale(domain=keys, range=[colours.get(k, PALE) for k in keys])).legend(
            columns=4, symbolOpacity=1
        ),
        strokeDash=alt.StrokeDash(
            "method:N",
            scale=alt.Scale(domain=keys, range=[STYLES.get(k, (PALE, [1, 0]))[1] for k in keys]),
            legend=None,
        ),
        detail="of:N",
    )
    band = base.transform_filter("datum.method == 'ours' && isValid(datum.low)").mark_area(opacity=0.2, line=False)
    band = band.encode(y="low:Q", y2="high:Q", strokeDash=alt.value([1, 0]))
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=40, filled=True)).encode(
        y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5, format="~s"))
    )
    return finish(alt.layer(band, line).properties(title=base.title), 240, 420)


def print_contest(directory: Path, console: Console) -> None:
    """The table of each budget for a terminal."""
    records, told = load(directory / "results.json"), read(directory / ACCOUNT, dict)
    console.print(sentence(told))
    for amount in told["budgets"].values():
        of = at(records, amount)
        title = f"{show(amount, 2)} {told['currency']}" if len(told["budgets"]) > 1 else None
        made = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, title=title, title_justify="left")
        for name in NARROW:
            head = name.replace("full information", "full\ninformation")
            made.add_column(head, justify="left" if name == "method" else "right", no_wrap=True)
        for row in rows(of):
            cells = dict(zip(COLUMNS, row, strict=True))
            cells["of full information"] = cells["of full information"].split(" [")[0]
            cells["method"] = cells["method"].removesuffix(BOUND)
            made.add_row(*(cells[name] for name in NARROW))
        console.print(made)
        for line in verdict(of):
            console.print(f"- {line}")


def _figure(held: Sequence[Record], method: str, metric: str, against: str | None = None) -> Record | None:
    found = [r for r in held if r["method"] == method and r["metric"] == metric and r["against"] == against]
    return found[0] if found else None


def _words(r: Record | None, digits: int = 0) -> str:
    if r is None or r["value"] is None:
        return "-"
    if r["low"] is None:
        return show(r["value"], digits)
    return f"{show(r['value'], digits)} [{show(r['low'], digits)}, {show(r['high'], digits)}]"


def _shares(adverts: Sequence[float]) -> list[str]:
    total = sum(adverts) or 1.0
    return [f"{100 * n / total:.0f} %" for n in adverts]
