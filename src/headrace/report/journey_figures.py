"""Charts of what the journeys look like, from the summary that `summarise` gives."""

from typing import Any

import altair as alt

from headrace.report.figures import BLUE, INK, NAMES, NARROW, ROW, chart, finish, whole_axis
from headrace.report.numbers import decimals, show, width

MOST = 20  # channels in a chart; a log with more shows the most used
BARS = 40  # bars in a histogram of lengths

Summary = dict[str, Any]


def journey_figures(summary: Summary) -> list[Any]:
    """Every chart that the summary holds data for."""
    made = []
    if summary.get("length_histogram"):
        made.append(journey_lengths(summary))
    if summary.get("channel_share"):
        made.append(channel_shares(summary))
    for gain, rates in summary.get("gain_rate_by_channel", {}).items():
        if rates:
            made.append(_by_channel(rates, f"{_gain_words(summary, gain)} by channel", summary))
    for gain, steps in summary.get("gain_rate_by_step", {}).items():
        if len(steps) > 1:
            made.append(gain_by_step(summary, gain))
    if summary.get("cost_by_channel"):
        unit = summary.get("cost_unit")
        title = "Mean cost by channel" + (f", in {unit}" if unit and unit != "scaled" else "")
        made.append(_by_channel(summary["cost_by_channel"], title, summary))
    return made


def journey_lengths(summary: Summary) -> Any:
    """How many journeys have how many steps."""
    pairs = [(int(length), int(count)) for length, count in summary["length_histogram"]]
    longest = _whole_share(pairs, 0.99)
    beyond = sum(count for length, count in pairs if length > longest)
    wide = max(1, -(-longest // BARS))
    bars: dict[int, int] = {}
    for length, count in pairs:
        if length <= longest:
            bars[(length - 1) // wide] = bars.get((length - 1) // wide, 0) + count
    values = [{"from": b * wide + 0.5, "to": (b + 1) * wide + 0.5, "count": n} for b, n in sorted(bars.items())]
    users = sum(count for _, count in pairs)
    mean = sum(length * count for length, count in pairs) / max(1, users)
    subtitle = [f"{users:,} journeys, {mean:.1f} steps on average"]
    if beyond:
        subtitle.append(f"{beyond:,} longer than {longest} steps are not drawn")
    base = chart(values, "How long journeys are", subtitle).mark_bar(
        orient="vertical", color=BLUE, stroke="white", strokeWidth=0.5
    )
    return finish(
        base.encode(
            x=whole_axis("from", "steps", [p[0] for p in pairs if p[0] <= longest]),
            x2="to:Q",
            y=alt.Y("count:Q", title="journeys", axis=alt.Axis(tickCount=5, format="~s")),
        )
    )


def _whole_share(pairs: list[tuple[int, int]], share: float) -> int:
    """The length that `share` of the journeys do not exceed, or the longest where that is at most twice as long."""
    pairs = sorted(pairs)
    total, seen = sum(count for _, count in pairs), 0
    for length, count in pairs:
        seen += count
        if seen >= share * total:
            return pairs[-1][0] if pairs[-1][0] <= 2 * length else length
    return 1


def channel_shares(summary: Summary) -> Any:
    """Which share of the steps each channel has, the most used on top."""
    shares = summary["channel_share"]
    names, note = _most_used(summary, list(shares))
    values = [{"channel": str(n), "share": shares[n], "text": f"{100 * shares[n]:.1f} %"} for n in names]
    base = chart(values, "Share of steps by channel", note).encode(
        y=alt.Y("channel:N", sort=None, title=None, axis=NAMES),
        x=alt.X("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4)),
    )
    bar = base.mark_bar(color=BLUE, height={"band": 0.65})
    text = base.mark_text(align="left", fontSize=12, color=INK).encode(x=alt.value(NARROW + 10), text="text:N")
    return finish(alt.layer(bar, text).properties(title=base.title), ROW * len(values), NARROW)


def _by_channel(rates: dict[str, list[float]], title: str, summary: Summary) -> Any:
    """Means with their intervals by channel, in the order of the channels' shares."""
    names, note = _most_used(summary, list(rates))
    digits = decimals([width(rates[n][1], rates[n][2]) for n in names], [rates[n][0] for n in names])
    values = [
        {
            "channel": str(n),
            "rate": rates[n][0],
            "low": rates[n][1],
            "high": rates[n][2],
            "text": show(rates[n][0], digits),
        }
        for n in names
    ]
    base = chart(values, title, note or "channels by share of steps; 95 % intervals").encode(
        y=alt.Y("channel:N", sort=None, title=None, axis=NAMES)
    )
    free = alt.Scale(zero=True)
    whisker = base.transform_filter("isValid(datum.low) && isValid(datum.high)").mark_rule(strokeWidth=2, color=BLUE)
    whiskers = whisker.encode(x=alt.X("low:Q", scale=free), x2="high:Q")
    dot = base.mark_point(filled=True, size=70, color=BLUE, opacity=1).encode(
        x=alt.X("rate:Q", title=None, scale=free, axis=alt.Axis(tickCount=4))
    )
    text = base.mark_text(align="left", fontSize=12, color=INK).encode(x=alt.value(NARROW + 10), text="text:N")
    return finish(alt.layer(whiskers, dot, text).properties(title=base.title), ROW * len(values), NARROW)


def gain_by_step(summary: Summary, gain: str) -> Any:
    """How a gain's rate changes along the journey."""
    values = [{"step": i, "rate": rate, "n": n} for i, rate, n in summary["gain_rate_by_step"][gain]]
    subtitle = f"from {values[0]['n']:,} journeys at the first step drawn to {values[-1]['n']:,} at the last"
    base = chart(values, f"{_gain_words(summary, gain)} along the journey", subtitle).encode(
        x=whole_axis("step", "step of the journey", [v["step"] for v in values]),
        y=alt.Y("rate:Q", title=None, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5)),
    )
    line = base.mark_line(color=BLUE, strokeWidth=2)
    dots = base.mark_point(filled=True, color=BLUE, size=20, opacity=1)
    return finish(alt.layer(line, dots).properties(title=base.title))


def _most_used(summary: Summary, names: list[str]) -> tuple[list[str], str]:
    shares = summary.get("channel_share", {})
    names = sorted(names, key=lambda n: -shares.get(n, 0.0))
    if len(names) <= MOST:
        return names, ""
    return names[:MOST], f"the {MOST} most used of {len(names)} channels"


def _gain_words(summary: Summary, gain: str) -> str:
    words = gain.replace("_", " ")
    if summary.get("gains", {}).get(gain) == "continuous":
        return f"Mean {words}"
    return f"Share of steps with {words}"
