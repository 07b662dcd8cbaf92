"""A valuation as the entries of results.json.

The log itself stands as method "logged"; every policy has a value by each estimator, its paired differences to the log
and to the policies after it, the effective sample size and the mean weight. What was asked for besides stands in
`setting`: {"gain"}, {"penalty"}, {"share"}, {"subgroup"}; the parts of a difference to the log as {"part": "selection"}
and {"part": "channel"}. A refused figure has value null and the reason.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Record, Source, record
from headrace.journeys.seams import Estimate
from headrace.ope.journey_value import JourneyValue
from headrace.ope.valuation import ALL, Valuation, Value


def metric(estimator: str) -> str:
    """
    >>> metric("switch-dr")
    'value_switch_dr'
    """
    return f"value_{estimator.replace('-', '_')}"


def records(found: Valuation, source: Source, settings: Mapping[str, dict[str, Any]] | None = None) -> list[Record]:
    """All records; `settings` adds to a policy's own setting (how a run chooses its channel)."""
    own = settings or {}
    made: list[Record] = []
    for group, values in found.values.items():
        here = source if group == ALL else _with(source, {"subgroup": group})
        made.append(_record(here, "logged", "value_ips", found.logged[group]))
        for name, value in values.items():
            made += _of(value, name, _with(here, own.get(name, {})))
    for (a, b), differences in found.differences.items():
        at = _with(source, own.get(a, {}))
        made += [_record(at, a, metric(e), estimate, b) for e, estimate in differences.items()]
    return made


def journey_records(
    found: Mapping[str, JourneyValue], source: Source, settings: Mapping[str, dict[str, Any]] | None = None
) -> list[Record]:
    """The values over journeys, and what the log's own journeys brought."""
    own = settings or {}
    made: list[Record] = []
    for name, value in found.items():
        if not made:
            made.append(_record(source, "logged", metric("pdis"), value.logged))
        here = _with(source, own.get(name, {}))
        made += [_record(here, name, metric(e), estimate) for e, estimate in value.estimates.items()]
    return made


def _of(value: Value, name: str, source: Source) -> list[Record]:
    made = [_record(source, name, metric(e), estimate) for e, estimate in value.estimates.items()]
    made += [_record(source, name, metric(e), estimate, "logged") for e, estimate in value.over_logged.items()]
    if value.selection is not None:
        by = _with(source, {"part": "selection"})
        made += [_record(by, name, metric(e), value.selection, "logged") for e in value.channel]
    by = _with(source, {"part": "channel"})
    made += [_record(by, name, metric(e), estimate, "logged") for e, estimate in value.channel.items()]
    for figure in ("ess", "mean_weight"):
        number = getattr(value.support, figure)
        known = Interval(float(number), None, None) if number == number else Interval(None, None, None, "no weight")
        made.append(record(source, name, figure, known, value.support.n))
    return made


def _with(source: Source, more: Mapping[str, Any]) -> Source:
    return replace(source, setting=source.setting | dict(more)) if more else source


def _record(source: Source, method: str, name: str, of: Estimate, against: str | None = None) -> Record:
    return record(source, method, name, Interval(of.value, of.low, of.high, of.refused), of.n, against)
