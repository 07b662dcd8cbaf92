"""Charts of a valuation: the estimates of a policy side by side, and how its importance weights lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from headrace.report.figures import BLUE, GREY, INK, NAMES, NARROW, ROW, WIDTH, Values, chart, finish
from headrace.report.numbers import decimals, show, width
from headrace.report.records import Record

GROUND = "the grey line is the log's own mean"


def estimates(title: str, held: Mapping[str, Record | None], logged: Record | None, reach: Sequence[float]) -> Any:
    """One panel: each estimator's value with its interval, the log's own mean as a line; `reach` is the axis."""
    there = {e: r for e, r in held.items() if r is not None and not r["refused"] and r["value"] is not None}
    digits = decimals([width(r["low"], r["high"]) for r in there.values()], [r["value"] for r in there.values()])
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
    dot = known.mark_point(filled=True, size=70, opacity=1, color=BLUE, clip=True).encode(x=x)
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


def weight_bars(title: str, weights: Mapping[str, Any]) -> Any:
    """How many steps have which importance weight, on a logarithmic axis; those of weight 0 are told in words."""
    bins = weights["bins"]
    total = weights["zero"] + sum(b["rows"] for b in bins)
    share = weights["zero"] / total if total else 0.0
    values = [{"low": 10 ** b["low"], "high": 10 ** b["high"], "share": b["rows"] / total} for b in bins if total]
    values = [v for v in values if v["share"] > 0] or [{"low": 1.0, "high": 1.0, "share": 0.0}]
    ends = [min(v["low"] for v in values) / 1.5, max(v["high"] for v in values) * 1.5]
    scale = alt.Scale(type="log", domain=ends, nice=False)
    subtitle = f"{share:.0%} of the steps have weight 0: the policy would not have chosen so"
    base = chart(values, title, subtitle if share > 0 else "share of the steps")
    axis = alt.Axis(grid=False, tickCount=5, format="~g")
    x = alt.X("low:Q", scale=scale, title="importance weight", axis=axis)
    top = max(v["share"] for v in values)
    y = alt.Y("share:Q", title=None, axis=alt.Axis(format=".0%" if top >= 0.05 else ".1%", tickCount=4))
    bars = base.mark_bar(color=BLUE, stroke="white", strokeWidth=1).encode(x=x, x2="high:Q", y=y)
    one = chart([{"low": 1.0}], "").mark_rule(color=GREY, strokeDash=[4, 3]).encode(x=x)
    layers = [bars, one] if ends[0] < 1 < ends[1] else [bars]
    return finish(alt.layer(*layers).properties(title=base.title), 110, WIDTH)
