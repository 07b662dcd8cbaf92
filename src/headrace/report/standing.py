"""Where a learnt model stands against its floors: above, below, or the data cannot tell.

A model is `above` only by a paired difference whose interval excludes zero; a better point value alone proves
nothing. It is `below` by such a difference, or, where nobody paired the two, by a worse point value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.report.names import (
    HEADLINE,
    NO_YARDSTICK,
    direction,
    is_floor,
    method_words,
    metric_words,
    setting_words,
    target,
)
from headrace.report.numbers import decimals, show, width
from headrace.report.records import Record


@dataclass(frozen=True, slots=True)
class Standing:
    """A learnt method on one metric, beside the floor it is measured by. `verdict`: above, below, cannot tell, or
    refused; `floor` is None where no floor was measured."""

    method: str
    metric: str
    verdict: str
    floor: str | None
    model: Record
    floor_record: Record | None
    difference: Record | None

    @property
    def sentence(self) -> str:
        """The standing in plain words, with its numbers."""
        name, metric = method_words(self.method), metric_words(self.metric)
        if self.model["setting"]:
            name += f" ({setting_words(self.model['setting'])})"
        if self.verdict == "refused":
            return f"{name}'s {metric} is refused: {self.model['refused']}."
        digits = decimals([width(self.model["low"], self.model["high"])], [self.model["value"]])
        start = f"{name} has {metric} {show(self.model['value'], digits)}"
        if self.floor is None or self.floor_record is None:
            return f"{start}; no floor was measured beside it."
        start += f", {method_words(self.floor)} {show(self.floor_record['value'], digits)}"
        if self.difference is None:
            return f"{start}; no paired difference was recorded" + (
                ", but the point value is worse." if self.verdict == "below" else ", so no claim."
            )
        d = self.difference
        digits = decimals([width(d["low"], d["high"])], [d["value"]])
        interval = f"[{show(d['low'], digits, True)}, {show(d['high'], digits, True)}]"
        words = {"above": "better", "below": "worse"}.get(self.verdict, "the data cannot tell them apart")
        return f"{start}; difference {show(d['value'], digits, True)} {interval}: {words}."


def compare(difference: Record) -> str:
    """What a paired difference says of its method: better, worse, cannot tell; higher, lower where no way is better."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low <= 0 <= high or not low <= high:
        return "cannot tell"
    way = direction(difference["metric"])
    if way == 0:
        return "higher" if low > 0 else "lower"
    return "better" if (low > 0) == (way > 0) else "worse"


def standing(model: Record, measures: Sequence[Record], differences: Sequence[Record]) -> Standing:
    """Where one learnt record stands among the floors of the same metric."""
    method, metric = model["method"], model["metric"]
    way = direction(metric)
    floors = [
        r
        for r in measures
        if r["metric"] == metric and is_floor(r["method"]) and r["value"] is not None and not r["refused"]
    ]
    alike = [r for r in floors if r["setting"] == model["setting"]]
    floors = alike or [
        r for r in floors if not r["setting"]
    ]  # what was varied in a model leaves the floors as they are
    if model["refused"] or model["value"] is None:
        return Standing(method, metric, "refused", None, model, None, None)
    if not floors or way == 0 or metric.rpartition("/")[2] in NO_YARDSTICK:
        return Standing(method, metric, "cannot tell", None, model, None, None)
    pairs = {
        d["against"]: d
        for d in differences
        if d["method"] == method and d["metric"] == metric and d["setting"] == model["setting"] and not d["refused"]
    }
    floors.sort(key=lambda r: -way * r["value"])
    for floor in floors:
        pair = pairs.get(floor["method"])
        worse = way * model["value"] < way * floor["value"] if pair is None else compare(pair) == "worse"
        if worse:
            return Standing(method, metric, "below", floor["method"], model, floor, pair)
    best = floors[0]
    pair = pairs.get(best["method"])
    verdict = "above" if pair is not None and compare(pair) == "better" else "cannot tell"
    return Standing(method, metric, verdict, best["method"], model, best, pair)


def headlines(measures: Sequence[Record], differences: Sequence[Record]) -> list[Standing]:
    """One standing for each learnt record of each target's headline metric."""
    learnt = [r for r in measures if not is_floor(r["method"])]
    chosen: dict[str, str] = {}
    for name in dict.fromkeys(target(r["metric"]) for r in learnt):
        metrics = [r["metric"] for r in learnt if target(r["metric"]) == name and direction(r["metric"])]
        ranked = [m for h in HEADLINE for m in metrics if m.rpartition("/")[2] == h]
        if ranked or metrics:
            chosen[name] = (ranked or metrics)[0]
    return [standing(r, measures, differences) for m in chosen.values() for r in learnt if r["metric"] == m]


def answer(standings: Sequence[Standing]) -> str:
    """Is the model above its floors? yes, in part, no, cannot tell; leaky where a figure of the model leaks."""
    if any(s.model["leaky"] for s in standings):
        return "leaky"
    verdicts = {s.verdict for s in standings}
    if verdicts == {"above"}:
        return "yes"
    if "above" in verdicts:
        return "in part"
    return "no" if "below" in verdicts else "cannot tell"
