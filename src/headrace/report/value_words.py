"""What a valuation says in plain words: better or worse than the log by so many per cent, cannot tell, or refused."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.report.names import method_words
from headrace.report.numbers import decimals, show, width
from headrace.report.records import Record

PARTS = ("subgroup", "part")  # settings that make a record speak of less than the whole
UNSURE_OF_DM = "leaves out the model's own error"


def figure(
    records: Sequence[Record], method: str, metric: str, against: str | None = None, **part: str
) -> Record | None:
    """The record of a figure over all rows, or of the part named: subgroup = ..., part = "selection"."""
    for r in records:
        held = {k: r["setting"][k] for k in PARTS if k in r["setting"]}
        if (r["method"], r["metric"], r["against"]) == (method, metric, against) and held == part:
            return r
    return None


def metric_of(estimator: str) -> str:
    return f"value_{estimator.replace('-', '_')}"


def verdict(difference: Record | None) -> str:
    """better, worse, cannot tell, or refused: what a paired difference says."""
    if difference is None or difference["refused"] or difference["low"] is None:
        return "refused"
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "cannot tell"


def reach(low: float, high: float, base: float) -> str:
    """A difference's interval in per cent of what the log earned; in the gain's own unit where that is not positive.

    >>> reach(0.0051, 0.0153, 0.17), reach(-0.0068, 0.0102, 0.17), reach(0.5, 1.0, -2.0)
    ('3 to 9 %', '-4 to +6 %', '0.50 to 1.00 a step')
    """
    signs = low < 0 < high
    if base <= 0:
        digits = decimals([high - low], [low, high])
        return f"{show(low, digits, signs)} to {show(high, digits, signs)} a step"
    ends = [100 * low / base, 100 * high / base]
    digits = (0 if ends[1] - ends[0] >= 2 else 1) if signs else next((d for d in (0, 1, 2) if _apart(ends, d)), 3)
    return " to ".join(show(end, digits, signs) for end in ends) + " %"


def _apart(ends: Sequence[float], digits: int) -> bool:
    """Whether so many digits neither join the ends nor round one of them to 0."""
    low, high = (round(end, digits) for end in ends)
    return low != high and 0 not in (low, high)


def sentence(records: Sequence[Record], account: Mapping[str, Any], policy: str) -> tuple[str, str]:
    """(verdict, one sentence) for a policy, by the account's own estimator."""
    estimator = account["estimator"]
    metric = metric_of(estimator)
    difference, base = figure(records, policy, metric, "logged"), figure(records, "logged", "value_ips")
    said = verdict(difference)
    name = method_words(policy)
    if said == "refused" or difference is None or base is None:
        of = account["policies"][policy]["groups"]["all"]["support"]
        why = of["refused"] or (difference or {}).get("refused") or "no figure"
        needed = f". What would do: {of['needed']}" if of["needed"] else ""
        return "refused", f"{name}: refused, because {why}{needed}."
    low, high = difference["low"], difference["high"]
    if base["value"] is None:
        return "refused", f"{name}: the log's own value is unknown, because {base['refused']}."
    if max(-low, high) < 1e-6 * abs(base["value"]):
        return said, f"{name}: the same as logged, because it chooses as the log did ({estimator})."
    if said == "better":
        return said, f"{name}: better than logged by {reach(low, high, base['value'])} ({estimator})."
    if said == "worse":
        return said, f"{name}: worse than logged by {reach(-high, -low, base['value'])} ({estimator})."
    return said, (
        f"{name}: this log can't tell, because the interval of the difference to logged reaches from "
        f"{reach(low, high, base['value'])} ({estimator})."
    )


def split_sentence(records: Sequence[Record], account: Mapping[str, Any], policy: str) -> str:
    """What of the difference comes from choosing whom to advertise to, and what from choosing the channel."""
    metric = metric_of(account["estimator"])
    base = figure(records, "logged", "value_ips")
    if base is None or base["value"] is None or "threshold" not in account["policies"][policy]:
        return ""  # steps chosen by lot bring nothing of themselves
    said = []
    for part, words in (("selection", "choosing the steps brings"), ("channel", "choosing the channels")):
        r = figure(records, policy, metric, "logged", part=part)
        if r is None or r["refused"] or r["low"] is None:
            return ""
        how = " (can't tell)" if r["low"] <= 0 <= r["high"] else ""
        said.append(f"{words} {reach(r['low'], r['high'], base['value'])}{how}")
    return ", ".join(said)


def refusals(records: Sequence[Record], account: Mapping[str, Any]) -> dict[str, str]:
    """The policies that have no value over all rows, each with the reason."""
    found = {}
    for policy in account["policies"]:
        r = figure(records, policy, metric_of(account["estimator"]))
        if r is not None and r["refused"]:
            found[policy] = str(r["refused"])
    return found


def cell(r: Record | None, digits: int, sign: bool = False) -> str:
    """'0.171 [0.165, 0.177]', 'refused', or '-'."""
    if r is None:
        return "-"
    if r["refused"] or r["value"] is None:
        return "refused"
    text = show(r["value"], digits, sign)
    if r["low"] is None:
        return text
    return f"{text} [{show(r['low'], digits, sign)}, {show(r['high'], digits, sign)}]"


def digits_of(records: Sequence[Record | None]) -> int:
    """Decimals for figures that stand together."""
    held = [r for r in records if r is not None and not r["refused"]]
    return decimals([width(r["low"], r["high"]) for r in held], [r["value"] for r in held])


def gain_words(account: Mapping[str, Any]) -> str:
    """What a value is the mean of.

    >>> gain_words({"gain": {"click": 1.0, "sale": 10.0}, "penalty": 0.5})
    'click + 10 sale - 0.5 cost'
    """
    text = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in account["gain"].items())
    return text + (f" - {account['penalty']:g} cost" if account["penalty"] else "")


def step_words(account: Mapping[str, Any]) -> str:
    """Which steps a value is the mean of."""
    share = account["share"]
    return "a step" if share is None else f"a step that is advertised at (about {100 * share:g} % of them)"


def where_words(account: Mapping[str, Any]) -> str:
    """How many rows the figures rest on, and which."""
    of = f" of {account['groups']:,} users" if account["grouped_by"] == "users" else ""
    text = f"{account['rows']:,} steps{of}, {account['where']}"
    if not account["left_out"]:
        return text
    return (
        f"{text}; {account['left_out']:,} steps are left out, their {gain_words(account)} being unknown, and where "
        "that depends on what it will be, values are biased"
    )


def journeys_words(account: Mapping[str, Any]) -> str:
    """Over which horizon journeys are valued."""
    gamma = account["journeys"]["gamma"]
    return f"discounted by {gamma:.3g} a step, as journeys are {1 / (1 - gamma):.3g} steps long"
