"""The records of results.json, and the scoring that fills them.

`score` takes every method's predictions of the same labelled steps and gives one record a figure, and one a paired
difference of each model against each other method (`against`; value = method - against).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.evaluate.bootstrap import RESAMPLES, Interval, Metric, draws, interval
from headrace.evaluate.metrics import MetricOf, Predicted, Steps, metrics_of
from headrace.evaluate.significance import holm, over_seeds, p_value
from headrace.journeys.seams import Floats

Record = dict[str, Any]
KEYS = (
    *("dataset", "protocol", "part", "method", "setting", "seed", "metric"),
    *("value", "low", "high", "n", "against", "leaky", "refused"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """What all records of a table have in common."""

    dataset: str
    protocol: str
    part: str = "test"
    seed: int | None = None
    setting: dict[str, Any] = field(default_factory=dict)  # what was varied
    leaky: bool = False  # the audit found a leak that the protocol does not declare


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The records of results.json and the calibration curves of the page."""

    records: list[Record]
    calibration: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Scores:
    """The records of a table; p-values of its paired differences by (metric, method, against), plain and after Holm."""

    records: list[Record]
    p_values: dict[tuple[str, str, str], float]

    @property
    def adjusted(self) -> dict[tuple[str, str, str], float]:
        return holm(self.p_values)


def record(
    source: Source,
    method: str,
    metric: str,
    figure: Interval,
    n: int,
    against: str | None = None,
) -> Record:
    """One entry of results.json, its keys in the contract's order.

    >>> r = record(Source("log", "users"), "prior", "action/log_loss", Interval(1.0, 0.9, 1.1), 10)
    >>> tuple(r) == KEYS, r["value"], r["refused"]
    (True, 1.0, None)
    """
    return {
        "dataset": source.dataset,
        "protocol": source.protocol,
        "part": source.part,
        "method": method,
        "setting": dict(source.setting),
        "seed": source.seed,
        "metric": metric,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "n": n,
        "against": against,
        "leaky": source.leaky,
        "refused": figure.refused,
    }


def score(
    source: Source,
    target: str,
    steps: Steps,
    predictions: Mapping[str, Predicted | str],
    models: Sequence[str] = (),
    metrics: Mapping[str, MetricOf] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Score every method on the same steps; each of `models` is also compared with every other method.

    `target` is the metric's prefix ("action", "reward", "reward_by_channel", ...). A prediction given as a string is
    the reason why the method has none; its figures are refused with it. Raises ValueError where predictions do not
    belong to these steps.
    """
    for model in models:
        if model not in predictions:
            raise ValueError(f"no predictions of {model}; there are {', '.join(predictions)}")
    for method, predicted in predictions.items():
        if isinstance(predicted, Predicted):
            predicted.check(steps, method)
    functions = metrics_of(steps) if metrics is None else dict(metrics)
    _, groups = steps.groups
    figures: dict[tuple[str, str], Metric] = {}
    for method, predicted in predictions.items():
        for name, function in functions.items():
            reason = None if isinstance(predicted, Predicted) else predicted
            figures[method, name] = (
                function(steps, predicted) if isinstance(predicted, Predicted) else Metric(None, reason)
            )
    drawn = draws(figures, groups, resamples, seed)

    records: list[Record] = []
    p_values: dict[tuple[str, str, str], float] = {}
    for (method, name), metric in figures.items():
        found = _figure(metric, drawn.get((method, name)), groups)
        records.append(record(source, method, f"{target}/{name}", found, len(steps)))
    for model in models:
        for other in predictions:
            if other == model:
                continue
            for name in functions:
                key = f"{target}/{name}"
                ours, theirs = figures[model, name], figures[other, name]
                if ours.draw is None or theirs.draw is None:
                    found = Interval(None, None, None, ours.refused or theirs.refused)
                else:
                    difference = drawn[model, name] - drawn[other, name]
                    found = interval(difference, groups, ours.reflect)
                    if found.refused is None:
                        p_values[key, model, other] = p_value(difference)
                records.append(record(source, model, key, found, len(steps), other))
    return Scores(records, p_values)


def _figure(metric: Metric, drawn: Floats | None, groups: int) -> Interval:
    if drawn is None:
        return Interval(None, None, None, metric.refused)
    found = interval(drawn, groups, metric.reflect)
    if metric.reflect and found.low is not None:
        return Interval(found.value, max(found.low, 0.0), found.high)
    return found


def aggregate(records: Sequence[Record]) -> list[Record]:
    """The mean over seeds of records that differ in nothing else, with its interval over seeds; `seed` is null."""
    kept = ("dataset", "protocol", "part", "method", "setting", "metric", "against")
    tables: dict[str, list[Record]] = {}
    for r in records:
        tables.setdefault(json.dumps([r[k] for k in kept], sort_keys=True), []).append(r)
    out = []
    for group in tables.values():
        refused = next((r["refused"] for r in group if r["refused"] is not None), None)
        figure = Interval(None, None, None, refused) if refused else over_seeds([r["value"] for r in group])
        leaky = any(r["leaky"] for r in group)
        first = group[0]
        source = Source(first["dataset"], first["protocol"], first["part"], None, first["setting"], leaky)
        out.append(record(source, first["method"], first["metric"], figure, first["n"], first["against"]))
    return out


def save(records: Sequence[Record], path: str | Path) -> None:
    """Write results.json beside its place and swap it in; equal records give equal bytes."""
    for r in records:
        if tuple(r) != KEYS:
            raise ValueError(f"a record holds {', '.join(r)}; expected {', '.join(KEYS)}")
    path = Path(path)
    beside = path.with_name(f".{path.name}.part")
    lines = ",\n".join(json.dumps(r, allow_nan=False) for r in records)
    beside.write_text(f"[\n{lines}\n]\n" if records else "[]\n", encoding="utf-8")
    beside.replace(path)
