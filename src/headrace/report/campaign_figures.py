"""Charts of a campaign: spend and value over time, channel shares, and who was reached."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from headrace.report.figures import BLUE, GREEN, GREY, LINES, ORANGE, Values, chart, finish

MICROS = 1_000_000
CAMPAIGN, REFERENCE, EVEN = "the campaign", "full information", "even pace"
STYLES = {CAMPAIGN: (BLUE, [1, 0]), REFERENCE: (ORANGE, [6, 3]), EVEN: (GREY, [2, 3])}


def when(rounds: Sequence[Mapping[str, Any]]) -> list[float]:
    """The end of each round on the clock, in days; turns of a day are drawn evenly."""
    turns: dict[int, int] = {}
    for r in rounds:
        turns[r["day"]] = max(turns.get(r["day"], 0), r["turn"] + 1)
    return [r["day"] + (r["turn"] + 1) / turns[r["day"]] for r in rounds]


def course(rounds: Sequence[Mapping[str, Any]], values: Sequence[float], who: str) -> Values:
    """A line of running sums from 0."""
    points, sum_so_far = [{"day": 0.0, "value": 0.0, "who": who}], 0.0
    for at, value in zip(when(rounds), values, strict=True):
        sum_so_far += value
        points.append({"day": at, "value": sum_so_far, "who": who})
    return points


def lines(title: str, subtitle: str, values: Values, unit: str, money: str | None = None) -> Any:
    """Running sums over time, or over what was spent of this money."""
    there = [who for who in STYLES if any(v["who"] == who for v in values)]
    colour = alt.Scale(domain=there, range=[STYLES[w][0] for w in there])
    dash = alt.Scale(domain=there, range=[STYLES[w][1] for w in there])
    made = (
        chart(values, title, subtitle)
        .mark_line(strokeWidth=2)
        .encode(
            x=_days(values) if money is None else alt.X("spent:Q", title=f"spent, {money}", axis=alt.Axis(tickCount=5)),
            y=alt.Y("value:Q", title=unit, axis=alt.Axis(tickCount=5, format="~s")),
            color=alt.Color("who:N", scale=colour),
            strokeDash=alt.StrokeDash("who:N", scale=dash),
        )
    )
    return finish(made)


def worth(spent: Sequence[float], brought: Sequence[float], who: str) -> Values:
    """A line of running value over running spend, from nothing."""
    points, money, value = [{"spent": 0.0, "value": 0.0, "who": who}], 0.0, 0.0
    for cost, gain in zip(spent, brought, strict=True):
        money, value = money + cost, value + gain
        points.append({"spent": money, "value": value, "who": who})
    return points


def shares(title: str, rounds: Sequence[Mapping[str, Any]], channels: Sequence[str]) -> Any:
    """Each channel's share of a day's adverts, stacked."""
    days: dict[int, list[int]] = {}
    for r in rounds:
        sums = days.setdefault(r["day"], [0] * len(channels))
        days[r["day"]] = [a + b for a, b in zip(sums, r["channels"], strict=True)]
    values: Values = []
    for day, counts in days.items():
        edges = [sum(counts[:k]) / max(sum(counts), 1) for k in range(len(counts) + 1)]
        for name, low, high in zip(channels, edges[:-1], edges[1:], strict=True):
            if high > low:
                values.append({"day": day, "end": day + 1, "channel": name, "low": low, "high": high})
    colours = [LINES[k % len(LINES)] for k in range(len(channels))]
    made = (
        chart(values, title, "of a day's adverts")
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=_days(values),
            x2="end:Q",
            y=alt.Y("low:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%", tickCount=5)),
            y2="high:Q",
            color=alt.Color("channel:N", scale=alt.Scale(domain=list(channels), range=colours)).legend(columns=5),
        )
    )
    return finish(made)


def gains_curve(title: str, points: Sequence[Mapping[str, float]]) -> Any:
    """How much of adverts, spend and gain went to the users of whom most was foreseen."""
    names = {"gain": BLUE, "spend": ORANGE, "adverts": GREEN}
    values = [{"users": p["users"], "share": p[name], "of": name} for p in points for name in names]
    percent = alt.Axis(format=".0%", tickCount=5)
    base = chart(values, title, "share of all, by users of whom most was foreseen first")
    line = base.mark_line(strokeWidth=2).encode(
        x=alt.X("users:Q", title="share of the users", axis=percent),
        y=alt.Y("share:Q", title=None, axis=percent),
        color=alt.Color("of:N", scale=alt.Scale(domain=list(names), range=list(names.values()))),
    )
    even = chart([{"users": 0.0, "share": 0.0}, {"users": 1.0, "share": 1.0}], "").mark_line(
        color=GREY, strokeDash=[2, 3]
    )
    level = even.encode(x="users:Q", y="share:Q")
    return finish(alt.layer(level, line).properties(title=base.title))


def _days(values: Values) -> alt.X:
    ends = [float(v["end"] if "end" in v else v["day"]) for v in values]
    last = max(ends, default=1.0)
    scale = alt.Scale(domain=[0, last], nice=False)
    return alt.X("day:Q", title="day", scale=scale, axis=alt.Axis(grid=False, tickCount=7, tickMinStep=1, format="d"))
