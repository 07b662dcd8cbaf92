"""Charts of a run: training curves, figures beside their floors, calibration, and what was varied.

Every function gives a small altair chart of one width, so that a page can lay them out by its own. `svg` and `save`
draw offline. Colours are Okabe and Ito's, told apart by any eye; the model is blue, everything for scale is grey.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from headrace.errors import UserError
from headrace.report.names import direction, floor_order, is_floor, method_words, metric_words, setting_words
from headrace.report.numbers import decimals, show, width
from headrace.report.records import Record, headline_settings, settle

BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8A8A8A", "#222222"
LINES = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00")
WIDTH = 300
NARROW = 220  # where names stand on the left and figures on the right
ROW = 22  # height of one row of a dot chart
SLIM = 17  # the same where there are dozens
Values = list[dict[str, Any]]
NAMES = alt.Axis(grid=False, ticks=False, domain=False, labelPadding=12)


def chart(values: Values, title: str, subtitle: str | list[str] = "") -> alt.Chart:
    """An empty chart over plain values, titled in words."""
    words: dict[str, Any] = {"text": title}
    if subtitle:
        words["subtitle"] = subtitle
    return alt.Chart(alt.InlineData(values=values), title=alt.TitleParams(**words))


def finish(made: Any, height: int = 180, width: int = WIDTH) -> Any:
    """The one look of all charts, in this size."""
    return look(made.properties(width=width, height=height))


def look(made: Any) -> Any:
    """The one look of all charts, for those whose panels have sizes of their own."""
    font = "Arial, Liberation Sans, Helvetica, sans-serif"
    return (
        made.configure(font=font, background="white")
        .configure_view(strokeWidth=0)
        .configure_title(
            anchor="start", frame="group", fontSize=14, color=INK, subtitleFontSize=12, subtitleColor="#555", offset=10
        )
        .configure_axis(
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelColor=INK,
            titleColor="#555",
            gridColor="#E6E6E6",
            domainColor="#999",
            tickColor="#999",
            labelLimit=150,
        )
        .configure_legend(labelFontSize=12, title=None, orient="top", symbolStrokeWidth=3)
    )


def whole_axis(field: str, title: str, values: Sequence[int]) -> alt.X:
    """An x axis of whole numbers, ticked at whole numbers only."""
    low, high = min(values, default=0), max(values, default=1)
    step = max(1, -(-(high - low) // 8))
    size = 10 ** (len(str(step)) - 1)
    step = next(s for s in (size, 2 * size, 5 * size, 10 * size) if s >= step)
    ticks = [t for t in range(low // step * step, high + 1, step) if t >= low]
    scale = alt.Scale(zero=False, nice=False)
    return alt.X(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(grid=False, values=ticks, format="~s"))


def svg(made: Any, key: str = "") -> str:
    """The chart as an SVG element to stand inside a page; `key` keeps its ids apart from those of other charts."""
    import vl_convert

    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", vl_convert.vegalite_to_svg(made.to_dict()))
    return apart(text, key) if key else text


def apart(text: str, key: str) -> str:
    """The SVG with `key` in front of every id that it defines and uses.

    >>> apart('<clipPath id="clip0"/><g clip-path="url(#clip0)"/>', "f1")
    '<clipPath id="f1-clip0"/><g clip-path="url(#f1-clip0)"/>'
    """
    return re.sub(r'(\bid="|url\(#)', rf"\g<1>{key}-", text)


def save(made: Any, path: str | Path) -> Path:
    """Write the chart as .png (at twice its size) or .svg."""
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"{path}: expected a name that ends in .png or .svg")
    made.save(str(path), scale_factor=2 if path.suffix == ".png" else 1)
    return path


def training_curves(lines: Iterable[dict[str, Any]]) -> list[Any]:
    """One chart for each stage and metric of metrics.jsonl, training and validation in it."""
    found: dict[tuple[str, str], Values] = {}
    for line in lines:
        found.setdefault((line["stage"], line["metric"]), []).append(line)
    order = sorted(found, key=lambda k: [s for s, _ in found].index(k[0]))
    several = len({stage for stage, _ in found}) > 1
    return [_curve(found[k], metric_words(k[1]) + (f", stage {k[0]}" if several else "")) for k in order]


def _curve(lines: Values, title: str) -> Any:
    per_epoch = len({(x["part"], x["epoch"]) for x in lines}) == len(lines) and len({x["epoch"] for x in lines}) > 1
    on = "epoch" if per_epoch else "step"
    values = [{"at": x[on], "value": x["value"], "part": x["part"]} for x in lines if math.isfinite(x["value"])]
    held = [v for v in values if v["part"] == "validation"]
    subtitle = ""
    best: Values = []
    if held:
        way = direction(lines[0]["metric"]) or -1
        best = [max(held, key=lambda v: way * v["value"])]
        subtitle = f"validation is best at {on} {best[0]['at']:,}: {best[0]['value']:.4g}"
    colours = alt.Scale(domain=["train", "validation"], range=[GREY, BLUE])
    base = chart(values, title[:1].upper() + title[1:], subtitle).encode(
        x=whole_axis("at", on, [v["at"] for v in values]),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
        color=alt.Color("part:N", scale=colours),
    )
    dash = alt.StrokeDash("part:N", scale=alt.Scale(domain=["train", "validation"], range=[[5, 3], [1, 0]]))
    marks = base.mark_line(strokeWidth=2).encode(strokeDash=dash)
    top = chart(best, "").mark_point(filled=True, size=60, color=BLUE, opacity=1).encode(x="at:Q", y="value:Q")
    return finish(alt.layer(marks, top).properties(title=base.title) if best else marks)


def metric_dots(records: Sequence[Record], metric: str, title: str | None = None) -> Any:
    """A metric's figures with their intervals, floors grey and learnt models blue, best on top.

    Floors far off would squeeze all others together; they stand as a triangle at the edge, their figure beside them.
    """
    measures = settle(headline_settings(r for r in records if r["against"] is None and r["metric"] == metric))
    held = [r for r in measures if r["value"] is not None and not r["refused"]]
    if not held:
        raise UserError(f"results: no figure of {metric} to draw; see its table for the reason")
    way = direction(metric)
    held.sort(key=lambda r: (-(way or 1) * r["value"], floor_order(r["method"])))
    digits = decimals([width(r["low"], r["high"]) for r in held], [r["value"] for r in held])
    lowest, highest = _reach(held, way)
    leaky = all(r["leaky"] for r in held)
    values = []
    for r in held:
        label = method_words(r["method"]) + (f" ({setting_words(r['setting'])})" if r["setting"] else "")
        low, high = (r["low"], r["high"]) if width(r["low"], r["high"]) is not None else (r["value"], r["value"])
        values.append(
            {
                "method": label,
                "at": min(max(r["value"], lowest), highest),
                "low": min(max(low, lowest), highest),
                "high": min(max(high, lowest), highest),
                "off": "left" if r["value"] < lowest else "right" if r["value"] > highest else "",
                "text": show(r["value"], digits) + (" LEAKY" if r["leaky"] and not leaky else ""),
                "kind": "floor" if is_floor(r["method"]) else "model",
            }
        )
    better = {1: "more is better", -1: "less is better", 0: "dot and 95 % interval"}[way] + (
        " (all LEAKY)" if leaky else ""
    )
    better += ", triangles are off the scale" if any(v["off"] for v in values) else ""
    words = title or metric_words(metric)
    base = chart(values, words[:1].upper() + words[1:], better).encode(
        y=alt.Y("method:N", sort=None, title=None, axis=NAMES),
        color=alt.Color("kind:N", scale=alt.Scale(domain=["model", "floor"], range=[BLUE, GREY]), legend=None),
    )
    scale = alt.Scale(domain=[lowest, highest], zero=False, nice=False)
    x = alt.X("at:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4))
    whisker = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", scale=scale, title=None), x2="high:Q")
    dot = base.transform_filter("datum.off == ''").mark_point(filled=True, size=70, opacity=1).encode(x=x)
    ends = [
        base.transform_filter(f"datum.off == '{side}'")
        .mark_point(shape=f"triangle-{side}", filled=True, size=80, opacity=1)
        .encode(x=x)
        for side in ("left", "right")
    ]
    text = base.mark_text(align="left", fontSize=12).encode(
        x=alt.value(NARROW + 10), text="text:N", color=alt.value(INK)
    )
    return finish(alt.layer(whisker, dot, *ends, text).properties(title=base.title), ROW * len(values), NARROW)


def _reach(held: Sequence[Record], way: int) -> tuple[float, float]:
    """The span of the axis: from the best as far as the learnt models and the better third of all reach."""
    near = list(held)
    best = max(way * r["value"] for r in held)
    behind = sorted(best - way * r["value"] for r in held)
    learnt = max((best - way * r["value"] for r in held if not is_floor(r["method"])), default=0.0)
    widths = sorted(width(r["low"], r["high"]) or 0.0 for r in held)
    far = max(2.5 * behind[len(held) // 3], 1.2 * learnt, 3 * widths[len(held) // 2])
    if way and far > 0:
        near = [r for r in held if best - way * r["value"] <= far]
    points = [v for r in near for v in (r["value"], r["low"], r["high"]) if v is not None]
    lowest, highest = min(points), max(points)
    room = 0.04 * (highest - lowest) or 0.01
    return lowest - room, highest + room


def calibration(points: Sequence[dict[str, Any]], title: str) -> Any:
    """What was predicted against what came; on the grey diagonal a prediction means what it says."""
    top = 1.05 * max([v for p in points for v in (p["predicted"], p["observed"], p["high"]) if v is not None] or [1.0])
    scale = alt.Scale(domain=[0, top], nice=False)
    x = alt.X("predicted:Q", scale=scale, title="predicted", axis=alt.Axis(tickCount=5))
    base = chart(list(points), title, "predicted against observed, 95 % intervals").encode(x=x)
    ends = [{"predicted": v, "observed": v} for v in (0, top)]
    observed = alt.Y("observed:Q", scale=scale, title="observed", axis=alt.Axis(tickCount=5))
    diagonal = chart(ends, "").mark_line(color=GREY, strokeWidth=1.5).encode(x=x, y=observed)
    whisker = base.transform_filter("isValid(datum.low) && isValid(datum.high)").mark_rule(color=BLUE, strokeWidth=1.5)
    dots = base.mark_point(filled=True, size=50, color=BLUE, opacity=1).encode(y=observed)
    whiskers = whisker.encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    return finish(alt.layer(diagonal, whiskers, dots).properties(title=base.title), WIDTH)


def sweep(records: Sequence[Record], metric: str, setting: str) -> Any:
    """A metric over what was varied: a line with intervals where the setting is a number, dots where it is a name."""
    held = [r for r in records if r["against"] is None and r["metric"] == metric and setting in r["setting"]]
    held = [r for r in settle(held) if r["value"] is not None and not r["refused"]]
    if not held:
        raise UserError(
            f"results: no figure of {metric} with setting {setting!r} to draw; see its table for the reason"
        )
    methods = list(dict.fromkeys(method_words(r["method"]) for r in held))
    numeric = all(
        isinstance(r["setting"][setting], (int, float)) and not isinstance(r["setting"][setting], bool) for r in held
    )
    values: Values = []
    for r in held:
        at = r["setting"][setting] if numeric else str(r["setting"][setting])
        values.append({k: r[k] for k in ("value", "low", "high")} | {"at": at, "method": method_words(r["method"])})
    better = {1: "more is better", -1: "less is better", 0: ""}[direction(metric)]
    better += " (LEAKY)" if any(r["leaky"] for r in held) else ""
    words = metric_words(metric)
    title = f"{words[:1].upper()}{words[1:]} by {setting.replace('_', ' ')}"
    colour = alt.Color(
        "method:N",
        scale=alt.Scale(domain=methods, range=[LINES[i % len(LINES)] for i in range(len(methods))]),
        legend=None if len(methods) == 1 else alt.Legend(),
    )
    base = chart(values, title, better).encode(color=colour)
    free = alt.Scale(zero=False)
    known = "isValid(datum.low) && isValid(datum.high)"
    if not numeric:
        y = alt.Y("at:N", sort=None, title=None, axis=NAMES)
        base = base.encode(y=y) if len(methods) == 1 else base.encode(y=y, yOffset=alt.YOffset("method:N", sort=None))
        whisker = (
            base.transform_filter(known).mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", scale=free), x2="high:Q")
        )
        dot = base.mark_point(filled=True, size=70, opacity=1).encode(
            x=alt.X("value:Q", scale=free, title=None, axis=alt.Axis(tickCount=4))
        )
        rows = len({v["at"] for v in values}) * max(1, 0.7 * len(methods))
        return finish(alt.layer(whisker, dot).properties(title=base.title), int(ROW * rows), NARROW)
    base = base.encode(
        x=alt.X(
            "at:Q",
            title=setting.replace("_", " "),
            scale=alt.Scale(zero=False, nice=False, padding=12),
            axis=alt.Axis(grid=False, tickCount=6),
        )
    )
    value = alt.Y("value:Q", scale=free, title=None, axis=alt.Axis(tickCount=5))
    whisker = base.transform_filter(known).mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", scale=free), y2="high:Q")
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=50, filled=True)).encode(y=value)
    return finish(alt.layer(whisker, line).properties(title=base.title))


def differences(values: Values, title: str, subtitle: str | list[str] = "", columns: int = 3) -> Any:
    """Paired differences with their intervals, a row a `name`, in the order given, and a panel each `panel`.

    `values` hold name, panel, value, low and high. One scale in all panels, so that their widths can be compared; the
    line at 0 is what was compared with, and where the interval reaches it the row is grey.
    """
    kinds = {"lower": BLUE, "higher": ORANGE, "not told apart": GREY}
    rows = [v | {"kind": "lower" if v["high"] < 0 else "higher" if v["low"] > 0 else "not told apart"} for v in values]
    axis = alt.Axis(tickCount=4, format="+.3~f", labelExpr="datum.value == 0 ? '0' : datum.label")
    scale = alt.Scale(zero=True, nice=True)
    names = list(dict.fromkeys(v["name"] for v in values))
    room = 7 * max((len(name) for name in names), default=0)  # a page may lack the font that labels were measured in
    aside = alt.Axis(grid=True, ticks=False, domain=False, labelPadding=8, labelLimit=room, minExtent=room)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(kinds), range=list(kinds.values())))
    base = alt.Chart().encode(y=alt.Y("name:N", sort=names, title=None, axis=aside), color=colour)
    zero = alt.Chart().mark_rule(color=INK, strokeWidth=1).encode(x=alt.datum(0, type="quantitative"))
    whisker = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=None, scale=scale, axis=axis), x2="high:Q")
    dot = base.mark_point(filled=True, size=45, opacity=1).encode(x="value:Q")
    panels = list(dict.fromkeys(v["panel"] for v in values))
    head = alt.Header(title=None, labelFontSize=13, labelColor=INK, labelAnchor="start")
    made = (
        alt.layer(zero, whisker, dot, data=alt.InlineData(values=rows))
        .properties(width=NARROW, height=SLIM * len(names))
        .facet(facet=alt.Facet("panel:N", sort=panels, header=head), columns=columns)
        .properties(title=chart([], title, subtitle).title)
    )
    return look(made)
