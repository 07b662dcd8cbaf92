"""The page of a plan, from plan.json: what it gains, who gets the money, and what other budgets would bring."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.report.names import method_words
from headrace.report.parts import Drawing, provenance, read
from headrace.report.plan_figures import response_curve, spend_bars
from headrace.report.records import load
from headrace.report.template import write

ACCOUNT = "plan.json"
PAGE = "plan.html"


def write_plan_page(directory: Path, out: Path | None = None) -> Path:
    """Write plan.html from plan.json and what else stands in the folder; equal files give equal bytes."""
    return write(PAGE, plan_content(directory), out or directory / PAGE)


def plan_content(directory: Path) -> dict[str, Any]:
    """Everything that plan.html shows."""
    told = read(directory / ACCOUNT, dict)
    config = read(directory / "config.json", dict)
    manifest = read(directory / "manifest.json", dict)
    records = load(directory / "results.json") if (directory / "results.json").is_file() else []
    drawing = Drawing()
    curve = told["response"]
    planned = next(k for k, r in enumerate(curve) if r["factor"] == 1.0)
    more = next((k for k, r in enumerate(curve) if r["factor"] == told["more"]["factor"]), None)
    figures = [
        response_curve(curve, planned, more, told["unit"], told["gain"]),
        spend_bars(told["channels"], told["unit"]),
    ]
    return {
        "title": f"A plan for {told['budget']:,.10g} {told['unit']} on {told['dataset']}",
        "method": method_words(told["method"]),
        "told": told,
        "answers": sentences(told),
        "figures": drawing.all(figures),
        "channels": [_cells(r) for r in told["channels"]],
        "total": _cells(_total(told)),
        "curve": [
            [_n(r["budget"]), _n(r["gain"]), f"[{_n(r['low'])}, {_n(r['high'])}]", _n(r["marginal"])] for r in curve
        ],
        "shares": [[name, *(f"{100 * s:.1f} %" for s in shares)] for name, shares in told["shares"].items()],
        "names": [r["channel"] for r in told["channels"]],
        "provenance": provenance(list(records), config, manifest, {}),
        "config": json.dumps(config, indent=2, ensure_ascii=False) if config else "",
    }


def sentences(told: Mapping[str, Any]) -> list[str]:
    """The answer in words: what is planned, what a tenth more would bring, and how good the plan can be at most."""
    more, unit = told["more"], told["unit"]
    base = next(r for r in told["response"] if r["factor"] == 1.0)
    said = [
        f"{told['exposures']:,} exposures for {_n(told['spend'])} of {told['budget']:,.10g} {unit}: "
        f"expected {told['gain']} {_n(told['expected_gain'])} [{_n(base['low'])}, {_n(base['high'])}].",
        f"10 % more budget ({_n(more['budget'])} {unit}) would bring {_n(more['gain'])} "
        f"[{_n(more['low'])}, {_n(more['high'])}] more, {_n(more['per_unit'])} for each {unit}.",
    ]
    if told["slack"]:
        said.append("The budget does not bind: every exposure with an expected gain that the limits allow is bought.")
    said.append(
        f"No plan can gain more than {_n(told['bound'])} by these predictions: this one is "
        f"within {told['gap']:.2g} of it."
    )
    if told["exploration"]["share"] > 0:
        e = told["exploration"]
        said.append(f"{_n(e['spend'])} {unit} of it are spent on users and channels drawn by lot, for {_n(e['gain'])}.")
    if told["left_out"]:
        said.append(f"Left out: {told['left_out']:,} exposures whose price no day had room for.")
    if told["raised"]:
        said.append(
            f"{told['raised']:,} of {told['users'] * len(told['channels']):,} expected costs were below a fifth of "
            "what an exposure on their channel costs in the log; that fifth stands in for them."
        )
    if told["free"]:
        said.append(f"Of the exposures {told['free']:,} are expected to cost nothing; see whether that can be.")
    said += [f"Floor of {name} is missed by {_n(money)} {unit}: exposures are whole." for name, money in told["short"]]
    return said


def print_plan(told: Mapping[str, Any], console: Console) -> None:
    """The plan for a terminal: a row a channel, then the answer."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    made.title = f"spend in {told['unit']}, gain: expected {told['gain']}"
    made.title_justify = "left"
    for name in ("channel", "users", "spend", "share", "gain", "per unit", "marginal"):
        made.add_column(name, justify="left" if name == "channel" else "right", no_wrap=True)
    for row in [*told["channels"], _total(told)]:
        made.add_row(*_cells(row))
    console.print(made)
    for sentence in sentences(told):
        console.print(Text("- ").append(sentence))


def _total(told: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("users", "spend", "gain")
    of: Sequence[Mapping[str, Any]] = told["channels"]
    sums = {k: sum(r[k] for r in of) for k in keys}
    return {"channel": "all", **sums, "users": told["users_reached"], "marginal": told["marginal"], "share": 1.0}


def _cells(row: Mapping[str, Any]) -> list[str]:
    each = row["gain"] / row["spend"] if row["spend"] > 0 else None
    return [
        row["channel"],
        f"{row['users']:,}",
        _n(row["spend"]),
        f"{row['share']:.1%}",
        _n(row["gain"]),
        "-" if each is None else _n(each),
        _n(row["marginal"]),
    ]


def _n(value: float) -> str:
    """Four digits of a figure, never an exponent.

    >>> _n(1234.5), _n(0.01236), _n(0.0), _n(5.0)
    ('1,234', '0.01236', '0', '5.000')
    """
    if value == 0:
        return "0"
    digits = max(0, min(8, 3 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{digits}f}"
