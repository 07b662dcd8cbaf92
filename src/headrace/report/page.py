"""write_page: a run's directory -> one report.html that opens offline, without a script, on paper and on a phone.

Reads the plain files that stand there and leaves out the section of any that does not: results.json, metrics.jsonl,
calibration.json, summary.json, audit.json, config.json, manifest.json. Where ope.json stands among them the page is
that of a valuation (value_page.py); plan.json, campaign.json, contest.json and comparison.json bring pages of their
own. Equal files give equal bytes.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from headrace.errors import UserError
from headrace.report import (
    campaign_page,
    compare_campaign,
    compare_channel,
    figures,
    journey_figures,
    plan_page,
    render,
)
from headrace.report.names import PROTOCOLS, direction, is_floor, method_words, setting_words, target, target_words
from headrace.report.parts import Drawing, listed, provenance, read
from headrace.report.records import Record, by_target, groups, headline_settings, load, of_group, settle
from headrace.report.standing import Standing, answer, headlines
from headrace.report.table import results_tables
from headrace.report.template import write
from headrace.report.tuning import study
from headrace.report.value_page import ACCOUNT, values_content

ANSWERS = {
    "yes": (
        "good",
        "Yes.",
        "On every headline figure the model is better than its strongest floor, by a paired 95 % interval without 0.",
    ),
    "in part": ("unsure", "In part.", "The model is above its floors on some headline figures and not on others."),
    "no": ("bad", "No.", "The model is below a floor on a headline figure, and above its floors on none."),
    "cannot tell": (
        "unsure",
        "Cannot tell.",
        "No paired difference shows the model above or below its strongest floor.",
    ),
    "leaky": (
        "bad",
        "LEAKY: no claim.",
        "An undeclared leak was found under this protocol. These figures say how well the test part is remembered, "
        "nothing about users that were not seen.",
    ),
}
PART = {"other": "another log than it was fitted on, users that training never saw"}
FILES = (
    "results.json",
    "metrics.jsonl",
    "calibration.json",
    "summary.json",
    "audit.json",
    "config.json",
    "manifest.json",
)
PAGES = {
    plan_page.ACCOUNT: plan_page.write_plan_page,
    campaign_page.ACCOUNT: campaign_page.write_campaign,
    compare_campaign.ACCOUNT: compare_campaign.write_contest,
    compare_channel.ACCOUNT: compare_channel.write_comparison,
}
TONES = {"leak": "bad", "note": "unsure", "clean": "good", "pass": "good"}


def write_page(directory: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run (or of a comparison) to `out`, by default report.html beside its files; plans,
    campaigns and their comparisons have a page of another name.

    Raises UserError where the directory holds none of the files, or a file that is not what it should be.
    """
    directory = Path(directory)
    for account, write_its_page in PAGES.items():
        if (directory / account).is_file():
            return write_its_page(directory, None if out is None else Path(out))
    if not any((directory / name).is_file() for name in FILES):
        raise UserError(f"{directory}: nothing to report, expected {FILES[0]} or {FILES[1]}; give a run's directory")
    records = load(directory / "results.json") if (directory / "results.json").is_file() else []
    out = Path(out) if out is not None else directory / "report.html"
    if (directory / ACCOUNT).is_file():
        return write("value.html", values_content(directory, records), out)
    return write("page.html", _content(directory, records), out)


def _content(directory: Path, records: list[Record]) -> dict[str, Any]:
    config = read(directory / "config.json", dict)
    manifest = read(directory / "manifest.json", dict)
    summary = read(directory / "summary.json", dict)
    calibration = read(directory / "calibration.json", dict)
    drawing = Drawing()
    learnt = list(dict.fromkeys(method_words(r["method"]) for r in records if not is_floor(r["method"])))
    if not learnt and config.get("method"):
        learnt = [method_words(str(config["method"]))]
    data = list(dict.fromkeys(str(r["dataset"]) for r in records)) or [str(summary.get("dataset", "a log"))]
    return {
        "title": f"{listed(learnt) or 'Journeys'} on {listed(data)}",
        "groups": [_group(records, group, drawing) for group in groups(records)],
        "sweeps": _sweeps(records, drawing),
        "study": study(directory, drawing),
        "training": drawing.all(figures.training_curves(_lines(directory / "metrics.jsonl"))),
        "calibration": drawing.all(
            figures.calibration(points, target_words(name)[0]) for name, points in calibration.items() if points
        ),
        "journeys": _journeys(summary),
        "journey_figures": drawing.all(journey_figures.journey_figures(summary)),
        "audit": [f | {"tone": TONES.get(f["verdict"], "")} for f in read(directory / "audit.json", list)],
        "provenance": provenance(records, config, manifest, summary),
        "config": json.dumps({k: v for k, v in config.items() if k != "out"}, indent=2, ensure_ascii=False)
        if config
        else "",
    }


def _group(records: list[Record], group: tuple[str, str, str], drawing: Drawing) -> dict[str, Any]:
    """Everything said of one dataset, protocol and part: the headline, the tables, the dots."""
    mine = of_group(records, group)
    measures = settle(headline_settings(r for r in mine if r["against"] is None))
    differences = settle(r for r in mine if r["against"] is not None)
    standings = headlines(measures, differences)
    targets = []
    for name, gain, held in by_target(mine):
        tables = results_tables(held)
        title, words = target_words(name)
        targets.append(
            {
                "title": f"{title} ({gain})" if gain else title,
                "words": words,
                "results": [render.html(t) for t in tables if t.kind == "results"],
                "differences": [render.html(t) for t in tables if t.kind == "differences"],
                "dots": drawing.all(_dots(settle(r for r in held if r["against"] is None), held, name)),
            }
        )
    counts = sorted({r["n"] for r in measures if r["n"] is not None and not r["refused"]})
    return {
        "dataset": group[0],
        "protocol": group[1],
        "protocol_words": "" if group[2] == "other" else PROTOCOLS.get(group[1], ""),
        "how": "of a run fitted under" if group[2] == "other" else "under",
        "part": PART.get(group[2], f"the {group[2]} part"),
        "n": f"{counts[-1]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}" if counts else "",
        "answer": _answer(standings, measures),
        "standings": [
            {"target": target_words(target(s.metric))[0], "verdict": s.verdict, "text": s.sentence} for s in standings
        ],
        "targets": targets,
    }


def _answer(standings: Sequence[Standing], measures: Sequence[Record]) -> tuple[str, str, str]:
    if standings:
        return ANSWERS[answer(standings)]
    if measures and all(is_floor(r["method"]) for r in measures):
        return "unsure", "Floors only.", "These results hold no learnt model."
    return "unsure", "Cannot tell.", "No figure here says of itself whether more or less is better."


def _dots(measures: Sequence[Record], mine: list[Record], name: str) -> Iterable[Any]:
    """Dot charts of a target's metrics that several methods have, proper scores first, four at most."""
    metrics = dict.fromkeys(r["metric"] for r in measures if target(r["metric"]) == name and direction(r["metric"]))
    first = [
        m
        for word in ("log_loss", "auc", "mse", "value", "f1", "accuracy")
        for m in metrics
        if word in m.rpartition("/")[2]
    ]
    for metric in list(dict.fromkeys(first))[:4]:
        drawn = [r for r in measures if r["metric"] == metric and r["value"] is not None and not r["refused"]]
        if len(drawn) > 1:
            yield figures.metric_dots(mine, metric)


def _sweeps(records: list[Record], drawing: Drawing) -> list[dict[str, Any]]:
    """A chart for every setting that takes more than one value and each headline metric measured under it."""
    made = []
    for group in groups(records):
        varied = [r for r in of_group(records, group) if r["against"] is None and r["setting"]]
        for key in dict.fromkeys(k for r in varied for k in r["setting"]):
            held = [r for r in varied if set(r["setting"]) == {key}]
            charts = []
            for metric in dict.fromkeys(r["metric"] for r in held if direction(r["metric"])):
                drawn = [r for r in held if r["metric"] == metric and r["value"] is not None and not r["refused"]]
                if len({setting_words(r["setting"]) for r in drawn}) > 1:
                    charts.append(figures.sweep(drawn, metric, key))
            if charts:
                title = key.replace("_", " ") + (f" ({', '.join(group)})" if len(groups(records)) > 1 else "")
                made.append({"title": title, "figures": drawing.all(charts[:8])})
    return made


def _journeys(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The counts that stand above the charts."""
    facts: list[tuple[str, str]] = [(word, f"{summary[word]:,}") for word in ("users", "steps") if word in summary]
    if "users_of_training" in summary:
        facts.append(("users of the training, left out", f"{summary['users_of_training']:,}"))
    if summary.get("channels"):
        facts.append(("channels", f"{len(summary['channels']):,}"))
    for gain, rate in summary.get("gain_rate", {}).items():
        if rate:
            facts.append((f"mean {gain}", f"{rate[0]:.4g}"))
    span = summary.get("time_span")
    if isinstance(span, dict):
        facts.append(("time", f"{span['from']} to {span['to']} ({span['unit']})"))
    elif span:
        facts.append(("time", str(span)))
    return facts


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    texts = path.read_text(encoding="utf-8").splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict) or not {"stage", "metric", "part", "value"} <= line.keys():
                raise ValueError("not a line of metrics")
            lines.append(line)
        except ValueError:
            if number < len(texts):
                raise UserError(
                    f"{path}: line {number} is no line of metrics; delete it or train the run again"
                ) from None
    return lines
