"""The page of a valuation, from results.json and ope.json: the answer, the estimates, and why they may be believed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.report import value_figures
from headrace.report.names import PROTOCOLS, method_words
from headrace.report.numbers import show
from headrace.report.parts import Drawing, listed, provenance, read
from headrace.report.records import Record
from headrace.report.value_brief import PROPENSITIES
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

ACCOUNT = "ope.json"
TONES = {"better": "good", "worse": "bad", "cannot tell": "unsure", "refused": "bad"}
WORDS = {
    "ips": "logged gains weighted by how much likelier the policy is to choose as the log did; unbiased, wide",
    "clipped": "the same with weights cut at 10; biased towards 0",
    "snips": "the same divided by the mean weight; less wide, slightly biased",
    "dm": f"a model of the gain alone; as biased as the model, and its interval {UNSURE_OF_DM}",
    "dr": "the model, corrected by weighted surprises; unbiased where either the model or the propensities are right",
    "sndr": "the same with the correction divided by the mean weight",
    "pdis": "gains weighted by how much likelier the policy is to do all that came before",
    "wpdis": "the same, each step's weights divided by their sum",
    "lstdq": "a model of all later gains, linear in what is known and the channel",
    "sdr": "that model, corrected by weighted surprises",
    "fqe": "a network's model of all later gains",
    "cfqe": "the same, kept low where the log has not been: an alarm more than a value",
    "switch-dr": "the same without the correction where weights exceed 10",
}
Cells = list[dict[str, str]]


def values_content(directory: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Everything that value.html shows."""
    account = read(directory / ACCOUNT, dict)
    config = read(directory / "config.json", dict)
    manifest = read(directory / "manifest.json", dict)
    policies = list(account["policies"])
    drawing = Drawing()
    dataset = str(records[0]["dataset"]) if records else "a log"
    protocol = str(records[0]["protocol"]) if records else ""
    logged = figure(records, "logged", "value_ips")
    subgroups = _subgroups(records, account, policies)
    return {
        "title": f"What {listed([method_words(p) for p in policies]) or 'the log'} would be worth on {dataset}",
        "gain": gain_words(account),
        "where": where_words(account),
        "protocol_words": f"Protocol {protocol}: {PROTOCOLS[protocol]}." if protocol in PROTOCOLS else "",
        "step": step_words(account),
        "leaky": any(r["leaky"] for r in records),
        "logged": cell(logged, digits_of([logged])),
        "estimator": account["estimator"],
        "answers": [_answer(records, account, p) for p in policies],
        "estimates": _estimates(records, account, policies),
        "names": [method_words(p) for p in policies],
        "valued": [f"{method_words(p)} ({account['estimator']})" for p in policies],
        "panels": drawing.all(_panels(records, account, policies)),
        "ground": value_figures.GROUND,
        "differences": _differences(records, account, policies),
        "splits": _splits(records, account, policies),
        "subgroups": subgroups,
        "subgroup_notes": [
            (f"{r['name']}, {name}", c["title"])
            for r in subgroups
            for name, c in zip(map(method_words, policies), r["cells"], strict=True)
            if c["title"]
        ],
        "journeys": _journeys(records, account, policies) if "journeys" in account else None,
        "gates": [_gate(account, p) for p in policies],
        "bars": drawing.all(_bars(account, policies)),
        "propensities": _propensities(account["propensities"]),
        "provenance": provenance(list(records), config, manifest, {}),
        "config": json.dumps(config, indent=2, ensure_ascii=False) if config else "",
    }


def _answer(records: Sequence[Record], account: Mapping[str, Any], policy: str) -> dict[str, str]:
    said, text = sentence(records, account, policy)
    split = split_sentence(records, account, policy)
    what = account["policies"][policy]["what"]
    return {"tone": TONES[said], "text": text, "what": what, "split": f"Of that, {split}." if split else ""}


def _cell(r: Record | None, digits: int, sign: bool = False) -> dict[str, str]:
    """One cell of a table: value, interval, and what a difference says."""
    if r is None or r["refused"] or r["value"] is None:
        return {"value": "-" if r is None else "refused", "interval": "", "remark": "", "tone": "", "kind": "refused"}
    interval = "" if r["low"] is None else f"[{show(r['low'], digits, sign)}, {show(r['high'], digits, sign)}]"
    said = verdict(r) if sign else ""
    return {"value": show(r["value"], digits, sign), "interval": interval, "remark": said} | {
        "tone": TONES.get(said, ""),
        "kind": "",
    }


def _journeys(records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]) -> dict[str, Any]:
    """A row an estimator over journeys, and why some are refused."""
    names = account["journeys"]["estimators"]
    held = {e: [figure(records, p, metric_of(e)) for p in policies] for e in names}
    logged = figure(records, "logged", "value_pdis")
    digits = digits_of([logged, *(r for found in held.values() for r in found)])
    rows = [{"name": e, "words": WORDS[e], "cells": [_cell(r, digits) for r in found]} for e, found in held.items()]
    reasons: dict[tuple[str, str], list[str]] = {}  # by policy and reason
    for e, found in held.items():
        for p, r in zip(policies, found, strict=True):
            if r is not None and r["refused"]:
                reasons.setdefault((method_words(p), r["refused"]), []).append(e)
    why = [f"{name}, {', '.join(by)}: {reason}" for (name, reason), by in reasons.items()]
    return {"rows": rows, "logged": cell(logged, digits), "words": journeys_words(account), "refused": why}


def _estimates(records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]) -> list[dict[str, Any]]:
    """A row an estimator: every policy's value by it."""
    held = {e: [figure(records, p, metric_of(e)) for p in policies] for e in account["estimators"]}
    digits = digits_of([r for found in held.values() for r in found])
    return [
        {"name": e, "words": WORDS.get(e, ""), "cells": [_cell(r, digits) for r in found]} for e, found in held.items()
    ]


def _panels(records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]) -> list[Any]:
    refused = refusals(records, account)
    valued = [p for p in policies if p not in refused]
    held = {p: {e: figure(records, p, metric_of(e)) for e in account["estimators"]} for p in valued}
    logged = figure(records, "logged", "value_ips")
    drawn = [logged, *(r for found in held.values() for r in found.values())]
    reach, digits = value_figures.reach_of(drawn), digits_of(drawn)
    return [value_figures.estimates(method_words(p), held[p], logged, reach, digits) for p in valued]


def _bars(account: Mapping[str, Any], policies: Sequence[str]) -> list[Any]:
    held = {p: account["policies"][p]["weights"] for p in policies}
    ends = value_figures.ends_of(list(held.values()))
    return [value_figures.weight_bars(method_words(p), weights, ends) for p, weights in held.items()]


def _differences(
    records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]
) -> list[dict[str, Any]]:
    """Paired differences to the log, then between the policies, by the account's own estimator."""
    metric = metric_of(account["estimator"])
    pairs = [(p, "logged") for p in policies] + [(a, b) for i, a in enumerate(policies) for b in policies[i + 1 :]]
    held = {(a, b): figure(records, a, metric, b) for a, b in pairs}
    digits = digits_of(list(held.values()))
    return [
        {"name": f"{method_words(a)} minus {method_words(b)}", "cells": [_cell(r, digits, sign=True)]}
        for (a, b), r in held.items()
    ]


def _splits(records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]) -> list[dict[str, Any]]:
    """The difference to the log, what the selection brings of it, and what the channels bring."""
    if account["share"] is None:
        return []
    metric = metric_of(account["estimator"])
    parts: tuple[dict[str, str], ...] = ({}, {"part": "selection"}, {"part": "channel"})
    held = {p: [figure(records, p, metric, "logged", **part) for part in parts] for p in policies}
    digits = digits_of([r for found in held.values() for r in found])
    rows = []
    for p, found in held.items():
        chosen = account["policies"][p]
        how = f"{100 * chosen['selected']:.1f} % of the steps" + ("" if "threshold" in chosen else ", by lot")
        rows.append({"name": method_words(p), "how": how, "cells": [_cell(r, digits, sign=True) for r in found]})
    return rows


def _subgroups(records: Sequence[Record], account: Mapping[str, Any], policies: Sequence[str]) -> list[dict[str, Any]]:
    """A row a group of rows: n, the log's mean, each policy's value and its difference to the log."""
    groups = list(dict.fromkeys(str(r["setting"]["subgroup"]) for r in records if "subgroup" in r["setting"]))
    metric = metric_of(account["estimator"])
    rows: list[dict[str, Any]] = []
    digits = digits_of(
        [r for r in records if "subgroup" in r["setting"] and r["metric"] == metric and not r["against"]]
    )
    for group in groups:
        logged = figure(records, "logged", "value_ips", subgroup=group)
        cells = []
        for p in policies:
            over = figure(records, p, metric, "logged", subgroup=group)
            value = figure(records, p, metric, subgroup=group)
            made = _cell(value, digits)
            reason = str(value["refused"]) if value is not None and value["refused"] else ""
            said = "" if reason else verdict(over)
            cells.append(made | {"remark": said, "tone": TONES.get(said, ""), "title": reason})
        n = 0 if logged is None else logged["n"]
        rows.append({"name": group, "n": f"{n:,}", "logged": _cell(logged, digits), "cells": cells})
    return rows


def _gate(account: Mapping[str, Any], policy: str) -> dict[str, Any]:
    of = account["policies"][policy]
    found = of["groups"]["all"]
    support = found["support"]
    facts = [
        ("steps", f"{support['n']:,}"),
        ("effective steps", _number(support["ess"], ",.0f")),
        ("largest weight", _number(support["largest_weight"], ",.4g")),
        ("it would choose", _chosen(of["chosen"])),
    ]
    return {
        "name": method_words(policy),
        "refused": support["refused"],
        "needed": support["needed"],
        "conditions": found["conditions"],
        "facts": facts,
    }


def _chosen(shares: Mapping[str, float]) -> str:
    often = [f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.05]
    return ", ".join(often) or f"no channel at more than {max(shares.values()):.1%} of the steps"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _propensities(p: Mapping[str, Any]) -> dict[str, Any]:
    balance = sorted(p["balance"].items(), key=lambda entry: -abs(entry[1] - 1))
    shown = [(name, f"{mean:.3f}") for name, mean in balance[:8]]
    error = p["calibration_error"]
    return {
        "way": PROPENSITIES[p["way"]],
        "balance": shown,
        "left_out": len(balance) - len(shown),
        "calibration": "" if error is None else f"{error:.4f}",
        "doubt": p["doubt"],
        "let_pass": p["distance_let_pass"],
        "errors": f"{p['standard_errors_let_pass']:g}",
    }
