"""What the terminal shows of a valuation: one table, and a sentence a policy."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.report.names import method_words
from headrace.report.records import Record
from headrace.report.value_words import (
    UNSURE_OF_DM,
    cell,
    digits_of,
    figure,
    gain_words,
    journeys_words,
    metric_of,
    refusals,
    sentence,
    split_sentence,
    step_words,
    verdict,
    where_words,
)

STYLES = {"better": "green", "worse": "bold red", "cannot tell": "yellow", "refused": "bold red"}
PROPENSITIES = {
    "logged": "as the log holds them",
    "random": "by design, each channel's share of the log",
    "estimated": "estimated by trees from what was known before",
    "given": "given",
}


def print_values(records: Sequence[Record], account: Mapping[str, Any], console: Console) -> None:
    """Print the answer."""
    console.print(Text(f"{gain_words(account)} of {step_words(account)}: {where_words(account)}", style="bold"))
    console.print(f"propensities: {PROPENSITIES[account['propensities']['way']]}")
    policies = list(account["policies"])
    if policies:
        console.print(_values(records, account, policies))
        valued = [p for p in policies if p not in refusals(records, account)]
        if valued and len(account["estimators"]) > 1:
            console.print(_others(records, account, valued))
        if len(valued) > 1:
            console.print(_pairs(records, account, valued))
        if "journeys" in account:
            console.print(_journeys(records, account, policies))
        if valued and "dm" in account["estimators"]:
            console.print(Text(f"* dm: its interval {UNSURE_OF_DM}", style="dim"))
    else:
        logged = figure(records, "logged", "value_ips")
        console.print(f"logged: {cell(logged, digits_of([logged]))}")
    for policy in policies:
        said, text = sentence(records, account, policy)
        console.print(Text("- ").append(text, style=STYLES[said]))
        split = split_sentence(records, account, policy)
        if split:
            console.print(f"  of that, {split}")


def _values(records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]) -> Table:
    metric = metric_of(account["estimator"])
    made = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("policy", f"value ({account['estimator']})", "minus logged", "effective"):
        made.add_column(name, no_wrap=True, justify="right" if name == "effective" else "left")
    logged = figure(records, "logged", "value_ips")
    values = {p: figure(records, p, metric) for p in policies}
    over = {p: figure(records, p, metric, "logged") for p in policies}
    digits, signed = digits_of([logged, *values.values()]), digits_of(list(over.values()))
    made.add_row("logged", cell(logged, digits), "", f"{account['rows']:,}")
    for p in policies:
        ess = figure(records, p, "ess")
        size = "-" if ess is None or ess["value"] is None else f"{ess['value']:,.0f}"
        made.add_row(method_words(p), cell(values[p], digits), cell(over[p], signed, sign=True), size)
    return made


def _pairs(records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]) -> Table:
    """The paired differences between the policies."""
    metric = metric_of(account["estimator"])
    held = {(a, b): figure(records, a, metric, b) for a, b in combinations(policies, 2)}
    digits = digits_of(list(held.values()))
    made = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("paired", f"difference ({account['estimator']})", ""):
        made.add_column(name, no_wrap=True)
    for (a, b), r in held.items():
        said = verdict(r)
        words = Text("" if said == "refused" else said, style=STYLES[said])
        made.add_row(f"{method_words(a)} minus {method_words(b)}", cell(r, digits, sign=True), words)
    return made


def _others(records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]) -> Table:
    """The same by every other estimator, values alone: the page and results.json hold their intervals."""
    names = [e for e in account["estimators"] if e != account["estimator"]]
    made = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    made.add_column("by", no_wrap=True)
    for e in names:
        made.add_column(e + ("*" if e == "dm" else ""), no_wrap=True, justify="right")
    held = {p: [figure(records, p, metric_of(e)) for e in names] for p in policies}
    digits = digits_of([r for found in held.values() for r in found])
    for p, found in held.items():
        made.add_row(method_words(p), *(cell(None if r is None else r | {"low": None}, digits) for r in found))
    return made


def _journeys(records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]) -> Table:
    """The values over journeys, what later steps bring included."""
    names = account["journeys"]["estimators"]
    made = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    made.title, made.title_justify = f"over whole journeys, {journeys_words(account)}", "left"
    for name in ("policy", *names):
        made.add_column(name)
    held = {p: [figure(records, p, metric_of(e)) for e in names] for p in policies}
    logged = figure(records, "logged", "value_pdis")
    digits = digits_of([logged, *(r for found in held.values() for r in found)])
    made.add_row("logged", cell(logged, digits), *[""] * (len(names) - 1))
    for p, found in held.items():
        made.add_row(method_words(p), *(cell(r, digits) for r in found))
    return made
