"""Charts of a plan: what other budgets would bring, and which channels get the money."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from headrace.report.figures import BLUE, GREY, INK, NAMES, NARROW, ORANGE, ROW, Values, chart, finish


def response_curve(rows: Sequence[Mapping[str, Any]], planned: int, more: int | None, unit: str, gain: str) -> Any:
    """Expected gain against budget with its 95 % interval; the plan's budget blue, a tenth more orange."""
    words = ["blue: this plan; orange: 10 % more budget", "band: 95 % interval over users"]
    base = chart([dict(r) for r in rows], f"Expected {gain} at every budget", words)
    axis = alt.Axis(tickCount=6, grid=False, format="~s")
    x = alt.X("budget:Q", title=f"budget, {unit}", axis=axis, scale=alt.Scale(zero=True, nice=False))
    y = alt.Y("gain:Q", title=None, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    band = base.mark_area(color=BLUE, opacity=0.15).encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q")
    line = base.mark_line(color=GREY, strokeWidth=2).encode(x=x, y=y)
    layers = [band, line]
    for at, colour in ((planned, BLUE), (more, ORANGE)):
        if at is not None:
            dot = chart([dict(rows[at])], "").mark_point(filled=True, size=90, opacity=1, color=colour)
            layers.append(dot.encode(x=x, y=y))
    return finish(alt.layer(*layers).properties(title=base.title), 220, 420)


def spend_bars(rows: Sequence[Mapping[str, Any]], unit: str) -> Any:
    """What each channel gets of the money."""
    total = sum(r["spend"] for r in rows) or 1.0
    values: Values = [
        {"channel": r["channel"], "spend": r["spend"], "text": f"{r['spend']:,.4g} ({r['spend'] / total:.0%})"}
        for r in rows
    ]
    base = chart(values, f"Money by channel, {unit}").encode(y=alt.Y("channel:N", sort=None, title=None, axis=NAMES))
    x = alt.X("spend:Q", title=None, axis=alt.Axis(tickCount=4, grid=False, format="~s"))
    bars = base.mark_bar(color=BLUE, height=12).encode(x=x)
    text = base.mark_text(align="left", fontSize=12).encode(
        x=alt.value(NARROW + 10), text="text:N", color=alt.value(INK)
    )
    return finish(alt.layer(bars, text).properties(title=base.title), ROW * len(values), NARROW)
