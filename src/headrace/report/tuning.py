"""A study's trials as records, in the terminal and on the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Record, Source, record
from headrace.learn.tune import Trial, best_of, read_trials
from headrace.report import figures
from headrace.report.names import metric_words, setting_words, target_words
from headrace.report.numbers import decimals, show, width
from headrace.report.parts import Drawing, read

SHOWN = 5


def trial_records(trials: Sequence[Trial], config: Mapping[str, Any], leaky: bool = False) -> list[Record]:
    """A record a trial, its changes the setting; a trial without a value is refused with the reason."""
    n = next((t.kept["n"] for t in trials if "n" in t.kept), 0)
    found = []
    for t in trials:
        source = Source(config["dataset"], config["protocol"], "validation", config["split_seed"], t.changes, leaky)
        figure = Interval(t.value, t.kept.get("low"), t.kept.get("high"), t.reason)
        found.append(record(source, config["method"], config["metric"], figure, n))
    return found


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that came to a value, best first."""
    return sorted((t for t in trials if t.value is not None), key=lambda t: (t.value, t.number))


def rows(trials: Sequence[Trial]) -> list[tuple[str, str, str, str]]:
    """(trial, value, interval, what it changed) of each, with digits that the intervals carry."""
    digits = decimals([width(t.kept.get("low"), t.kept.get("high")) for t in trials], [t.value or 0.0 for t in trials])
    out = []
    for t in trials:
        low, high = t.kept.get("low"), t.kept.get("high")
        interval = "" if low is None or high is None else f"[{show(low, digits)}, {show(high, digits)}]"
        out.append((str(t.number), show(t.value, digits), interval, words(t.changes) or "the preset itself"))
    return out


def words(changes: Mapping[str, Any]) -> str:
    """What a trial changes, its numbers short.

    >>> words({"width": 8, "dropout": 0.15314037470918035})
    'width 8, dropout 0.153'
    """
    return setting_words({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in changes.items()})


def print_tuning(trials: Sequence[Trial], shares: Mapping[str, float], metric: str, console: Console) -> None:
    """How the trials ended, the best of them, and what mattered."""
    console.print(ended(trials) + f"; {target_words(metric.partition('/')[0])[0].lower()} on validation, best first:")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("trial", metric_words(metric), "95 % interval"):
        table.add_column(name, no_wrap=True)
    table.add_column("changes", overflow="fold")
    for row in rows(ranked(trials)[:SHOWN]):
        table.add_row(*row)
    console.print(table)
    console.print("Chosen as the best of many on these users, so its figure flatters it: measure it on the test part.")
    if shares:
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005)
        console.print(f"What the differences came from: {told}")


def ended(trials: Sequence[Trial]) -> str:
    """How many trials ended in which way.

    >>> ended([Trial(0, {}, "done", 1.0), Trial(1, {"width": 8}, "pruned")])
    '2 trials: 1 done, 1 pruned'
    """
    ways = [(way, sum(t.ended == way for t in trials)) for way in ("done", "pruned", "failed")]
    return f"{len(trials)} trials: " + ", ".join(f"{n} {way}" for way, n in ways if n)


def study(directory: Path, drawing: Drawing) -> dict[str, Any]:
    """What the page tells of a study; {} where the folder holds none."""
    trials = read_trials(directory)
    if not ranked(trials):
        return {}
    shares = read(directory / "importances.json", dict)
    metric = str(read(directory / "config.json", dict).get("metric", ""))
    drawn = [history(trials, metric), *([importance(shares)] if shares else [])]
    return {
        "ended": ended(trials),
        "best": best_of(trials).number,
        "metric": metric_words(metric),
        "rows": rows(ranked(trials)),
        "others": [(str(t.number), t.reason, words(t.changes)) for t in trials if t.value is None],
        "figures": drawing.all(drawn),
    }


def history(trials: Sequence[Trial], metric: str) -> Any:
    """The value of each trial, and the best so far."""
    values, best = [], float("inf")
    for t in trials:
        if t.value is not None:
            best = min(best, t.value)
            values.append({"trial": t.number, "value": t.value, "best": best})
    base = figures.chart(values, f"Trials by {metric_words(metric)}", "validation part; the line is the best so far")
    base = base.encode(x=figures.whole_axis("trial", "trial", [t.number for t in trials]))
    scale = alt.Scale(zero=False)
    dots = base.mark_point(filled=True, size=40, color=figures.GREY, opacity=1)
    dots = dots.encode(y=alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5)))
    line = base.mark_line(interpolate="step-after", strokeWidth=2, color=figures.BLUE).encode(y="best:Q")
    return figures.finish(alt.layer(dots, line).properties(title=base.title))


def importance(shares: Mapping[str, float]) -> Any:
    """The share of each parameter in how the values vary."""
    values = [{"name": setting, "share": share} for setting, share in shares.items()]
    bars = figures.chart(values, "What the differences came from", "functional ANOVA over the finished trials")
    bars = bars.mark_bar(color=figures.BLUE, height=10).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=figures.NAMES),
        x=alt.X("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4)),
    )
    return figures.finish(bars, figures.ROW * len(values), figures.NARROW)
