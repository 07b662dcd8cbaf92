"""write_campaign: the folder of a campaign -> campaign.html, from results.json and campaign.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.report import campaign_figures as figures
from headrace.report.numbers import show
from headrace.report.parts import Drawing, listed, provenance, read
from headrace.report.records import Record, load
from headrace.report.template import write

ACCOUNT, PAGE = "campaign.json", "campaign.html"
MICROS = figures.MICROS


def write_campaign(directory: Path, out: Path | None = None) -> Path:
    """Write the page of a campaign; equal files give equal bytes."""
    return write(PAGE, _content(directory, load(directory / "results.json")), out or directory / PAGE)


def gain_words(gain: Mapping[str, float]) -> str:
    """The campaign's gain in words.

    >>> gain_words({"click": 1.0}), gain_words({"click": 1.0, "conversion": 10.0})
    ('click', 'click + 10 conversion')
    """
    return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in gain.items())


def figure(records: Sequence[Record], metric: str, **setting: Any) -> Record | None:
    """The record of a metric under exactly this setting."""
    return next((r for r in records if r["metric"] == metric and r["setting"] == setting), None)


def words(r: Record | None, digits: int = 0) -> str:
    """A figure with its interval, or why there is none."""
    if r is None:
        return "-"
    if r["refused"] or r["value"] is None:
        return f"refused: {r['refused']}"
    value = show(r["value"], digits)
    if r["low"] is None or r["low"] == r["high"]:
        return value
    return f"{value} [{show(r['low'], digits)}, {show(r['high'], digits)}]"


def summary(records: Sequence[Record], account: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The campaign in a few lines; the terminal shows the same."""
    currency, gain = account["currency"], gain_words(account["gain"])
    spend = figure(records, "spend")
    assert spend is not None
    rounds = account["rounds"]
    lines = [("spent", f"{show(spend['value'], 2)} {currency} of {show(account['budget'], 2)} in {len(rounds)} rounds")]
    attributed = figure(records, "attributed_value")
    if attributed is not None:  # of a live campaign, whose increment nobody knows
        lines.append((f"{gain} brought by adverts", words(attributed)))
    if attributed is None or _told(records):
        lines.append((f"{gain}, gross", words(figure(records, "true_value"))))
    if attributed is None:
        lines.append((f"{gain}, incremental", words(figure(records, "incremental_value"))))
    if account["held_out"]:
        lines.append(
            (
                f"{gain}, incremental, by hold-out" if attributed else "the same by hold-out",
                words(figure(records, "incremental_value", by="hold-out")),
            )
        )
    regret = figure(records, "regret")
    if regret is not None:
        lines.append(("less than with full information by", words(regret)))
    lost = sum(r.get("lost", 0) for r in rounds)
    if lost:
        lines.append(("adverts decided and not shown", f"{lost:,}"))
    lines.append(("users reached", f"{account['reached']:,} of {account['users']:,}"))
    excess = account["audit"]["excess"]
    if excess:
        lines.append(
            ("costs above what was said to be possible, not charged", f"{show(excess / MICROS, 2)} {currency}")
        )
    explored = sum(r["spent"] for r in rounds if r["stage"] == "exploration") / MICROS
    lines.append(("spent on exploration", f"{show(explored, 2)} {currency}"))
    return lines


def _told(records: Sequence[Record]) -> bool:
    """Whether all of the users' gains are known, whatever they came from."""
    gross = figure(records, "true_value")
    return gross is not None and not gross["refused"]


def _content(directory: Path, records: Sequence[Record]) -> dict[str, Any]:
    account = read(directory / ACCOUNT, dict)
    config, manifest = read(directory / "config.json", dict), read(directory / "manifest.json", dict)
    audit, rounds = account["audit"], account["rounds"]
    drawing = Drawing()
    dataset = str(records[0]["dataset"]) if records else ""
    return {
        "title": f"A campaign on {dataset}: {show(account['budget'], 2)} {account['currency']}",
        "summary": summary(records, account),
        "sound": audit["sound"],
        "problems": audit["problems"],
        "excess": show(audit["excess"] / MICROS, 2),
        "alarm": audit["excess"] > 0,
        "refused": sum(r["refused"] for r in rounds),
        "currency": account["currency"],
        "figures": drawing.all(figures_of(account)),
        "accounts": [
            (name, *(show(held[k] / MICROS, 2) for k in ("budget", "spent", "reserved", "free")))
            for name, held in audit["accounts"].items()
        ],
        "entries": listed([f"{count:,} {state}" for state, count in audit["entries"].items()]),
        "reference": account["reference"] is not None,
        "channels": _channels(account),
        "gains": _gains(records, account),
        "provenance": provenance(list(records), config, manifest, {}),
        "config": json.dumps(config, indent=2, ensure_ascii=False) if config else "",
    }


def figures_of(account: Mapping[str, Any]) -> list[Any]:
    """The page's charts."""
    rounds, reference, currency = account["rounds"], account["reference"], account["currency"]
    gain = gain_words(account["gain"])
    spend = figures.course(rounds, [r["spent"] / MICROS for r in rounds], figures.CAMPAIGN)
    value = figures.course(rounds, account["value"], figures.CAMPAIGN)
    worth = figures.worth([r["spent"] / MICROS for r in rounds], account["value"], figures.CAMPAIGN)
    if reference:
        worth += figures.worth([r["spent"] for r in reference], [r["value"] for r in reference], figures.REFERENCE)
        spend += figures.course(reference, [r["spent"] for r in reference], figures.REFERENCE)
        value += figures.course(reference, [r["value"] for r in reference], figures.REFERENCE)
    end = max((v["day"] for v in spend), default=1.0)
    spend += [
        {"day": 0.0, "value": 0.0, "who": figures.EVEN},
        {"day": end, "value": account["budget"], "who": figures.EVEN},
    ]
    return [
        figures.lines("Spend", f"{currency}, running sum", spend, currency),
        figures.lines("Value", f"{gain} brought by adverts, running sum", value, gain),
        figures.lines("Value for money", f"{gain} brought by adverts against {currency} spent", worth, gain, currency),
        figures.shares("Channels", rounds, account["channels"]),
        figures.gains_curve("Who was reached", account["curve"]),
    ]


def _channels(account: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Adverts of each channel, and their share."""
    sums = [sum(r["channels"][m] for r in account["rounds"]) for m in range(len(account["channels"]))]
    every = max(sum(sums), 1)
    return [(name, f"{n:,}", f"{n / every:.0%}") for name, n in zip(account["channels"], sums, strict=True)]


def _gains(records: Sequence[Record], account: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every gain, gross and incremental; in a live campaign attributed to adverts, and gross."""
    first, second = ("true_value", "incremental_value") if account["reference"] else ("attributed_value", "true_value")
    named = [r["setting"]["gain"] for r in records if r["metric"] == first and "gain" in r["setting"]]
    return [(g, words(figure(records, first, gain=g)), words(figure(records, second, gain=g))) for g in named]
