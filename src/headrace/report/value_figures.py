"""Charts of a valuation: the estimates of a policy side by side, and how its importance weights lie."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from headrace.report.figures import BLUE, GREY, INK, NAMES, NARROW, ORANGE, ROW, WIDTH, Values, chart, finish
from headrace.report.numbers import show, width
from headrace.report.records import Record

GROUND = "the grey line is the log's own mean"


def estimates(
    title: str, held: Mapping[str, Record | None], logged: Record | None, reach: Sequence[float], digits: int
) -> Any:
    """One panel: each estimator's value with its interval, the log's own mean as a line; `reach` is the axis."""
    there = {e: r for e, r in held.items() if r is not None and not r["refused"] and r["value"] is not None}
    low, high = reach
    values: Values = []
    for name in held:
        r = there.get(name)
        if r is None:
            values.append({"by": name, "at": None, "low": None, "high": None, "text": "refused"})
            continue
        ends = [r["value"] if r[k] is None else r[k] for k in ("low", "high")]
        values.append(
            {"by": name, "at": r["value"], "low": max(ends[0], low), "high": min(ends[1], high)}
            | {"text": show(r["value"], digits)}
        )
    scale = alt.Scale(domain=[low, high], zero=False, nice=False)
    base = chart(values, title).encode(y=alt.Y("by:N", sort=None, title=None, axis=NAMES))
    known = base.transform_filter("isValid(datum.at)")
    x = alt.X("at:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4))
    whisker = known.mark_rule(strokeWidth=2, color=BLUE).encode(x=alt.X("low:Q", scale=scale, title=None), x2="high:Q")
    dot = known.mark_point(filled=True, size=70, opacity=1, color=BLUE).encode(x=x)
    text = base.mark_text(align="left", fontSize=12).encode(
        x=alt.value(NARROW + 10), text="text:N", color=alt.value(INK)
    )
    layers = [whisker, dot, text]
    if logged is not None and logged["value"] is not None:
        line = chart([{"at": logged["value"]}], "").mark_rule(color=GREY, strokeWidth=2, strokeDash=[4, 3]).encode(x=x)
        layers.insert(0, line)
    return finish(alt.layer(*layers).properties(title=base.title), ROW * len(values), NARROW)


def reach_of(records: Sequence[Record | None]) -> tuple[float, float]:
    """An axis that holds every interval, but those far wider than most: they run off it."""
    held = [r for r in records if r is not None and r["value"] is not None and not r["refused"]]
    if not held:
        return 0.0, 1.0
    widths = sorted(width(r["low"], r["high"]) or 0.0 for r in held)
    usual = 2 * widths[len(widths) // 2]
    lows = [max(r["value"] if r["low"] is None else r["low"], r["value"] - usual) for r in held]
    highs = [min(r["value"] if r["high"] is None else r["high"], r["value"] + usual) for r in held]
    room = 0.05 * (max(highs) - min(lows)) or 0.01
    return min(lows) - room, max(highs) + room


def ends_of(held: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """A logarithmic axis that holds every policy's weights and 1."""
    bins = [b for weights in held for b in weights["bins"] if b["rows"]]
    low = min([0.0, *(b["low"] for b in bins)])
    high = max([0.5, *(b["high"] for b in bins)])
    return 10.0 ** (low - 0.1), 10.0 ** (high + 0.1)


def weight_bars(title: str, weights: Mapping[str, Any], ends: tuple[float, float]) -> Any:
    """How many steps have which importance weight, on a logarithmic axis; those of weight 0 are told in words."""
    bins = weights["bins"]
    total = weights["zero"] + sum(b["rows"] for b in bins)
    share = weights["zero"] / total if total else 0.0
    values = [
        {"low": 10 ** b["low"], "high": 10 ** b["high"], "share": b["rows"] / total, "ground": 0.0}
        | {"held": b["share_of_weight"]}
        for b in bins
        if b["rows"]
    ]
    scale = alt.Scale(type="log", domain=list(ends), nice=False)
    decades = math.log10(ends[1] / ends[0])
    ticks = [10.0**k for k in range(-12, 13) if ends[0] <= 10.0**k <= ends[1]]
    if decades < 2:
        ticks = [t for k in ticks for t in (k / 2, k, 2 * k, 5 * k) if ends[0] <= t <= ends[1]]
    subtitle = ["blue: share of the steps; orange: of all weight"]
    subtitle += [f"{share:.0%} of the steps have weight 0"] if share > 0 else []
    base = chart(values, title, subtitle)
    x = alt.X("low:Q", scale=scale, title="weight", axis=alt.Axis(grid=False, values=ticks, format="~g"))
    tall = max((max(v["share"], v["held"]) for v in values), default=1.0)
    form = ".0%" if tall >= 0.05 else ".1%" if tall >= 0.005 else ".2%"
    up = alt.Scale(domain=[0, 1.05 * tall], nice=False)
    y = alt.Y("share:Q", title=None, scale=up, axis=alt.Axis(format=form, tickCount=4))
    bars = base.mark_bar(color=BLUE, stroke="white", strokeWidth=1).encode(x=x, x2="high:Q", y=y, y2="ground:Q")
    over = base.mark_bar(filled=False, stroke=ORANGE, strokeWidth=1.5).encode(
        x=x, x2="high:Q", y=alt.Y("held:Q", title=None, scale=up), y2="ground:Q"
    )
    one = chart([{"low": 1.0}], "").mark_rule(color=GREY, strokeWidth=2, strokeDash=[4, 3]).encode(x=x)
    return finish(alt.layer(bars, one, over).properties(title=base.title), 110, WIDTH)
