"""The records of results.json: reading them, and choosing the one record that stands for each cell of a table."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from headrace.errors import UserError
from headrace.report.names import target

Record = dict[str, Any]
FIELDS = (
    "dataset",
    "protocol",
    "part",
    "method",
    "setting",
    "seed",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "against",
    "leaky",
    "refused",
)
PARTS = ("test", "validation", "train")


def load(path: str | Path) -> list[Record]:
    """The records of a results.json; raises UserError where it is not such a list."""
    path = Path(path)
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with  headrace evaluate RUN") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); evaluate the run again") from None
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise UserError(f"{path}: expected a list of records; evaluate the run again")
    for number, record in enumerate(records):
        missing = [field for field in FIELDS if field not in record]
        if missing:
            raise UserError(f"{path}: record {number} has no {', '.join(missing)}; evaluate the run again")
    return [_finite(record) for record in records]


def _finite(record: Record) -> Record:
    """A figure that is no number is refused as such; an interval's end that is none is left out."""
    broken = {k for k in ("value", "low", "high") if record[k] is not None and not math.isfinite(record[k])}
    record = record | dict.fromkeys(broken)
    return record | {"refused": record["refused"] or "not a finite number"} if "value" in broken else record


def groups(records: Iterable[Record]) -> list[tuple[str, str, str]]:
    """Every (dataset, protocol, part) in the records, in order of appearance, test parts first."""
    found = list(dict.fromkeys((r["dataset"], r["protocol"], r["part"]) for r in records))
    return sorted(found, key=lambda g: PARTS.index(g[2]) if g[2] in PARTS else len(PARTS))


def of_group(records: Iterable[Record], group: tuple[str, str, str]) -> list[Record]:
    return [r for r in records if (r["dataset"], r["protocol"], r["part"]) == group]


def by_target(records: Sequence[Record]) -> list[tuple[str, str, list[Record]]]:
    """(target, gain, records): a target's records, those of other gains than the reward's apart (its own is "")."""
    found: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        found.setdefault((target(r["metric"]), str(r["setting"].get("gain", ""))), []).append(r)
    return [(name, gain, held) for (name, gain), held in found.items()]


def headline_settings(records: Iterable[Record]) -> list[Record]:
    """Leave out what was varied wherever the same method and metric also stand with setting {}."""
    records = list(records)
    plain = {(r["method"], r["metric"], r["against"]) for r in records if not r["setting"]}
    return [r for r in records if not r["setting"] or (r["method"], r["metric"], r["against"]) not in plain]


def settle(records: Iterable[Record]) -> list[Record]:
    """One record for each method, setting, metric and `against`: the aggregate (seed null) where there is one.

    Several seeds without an aggregate become their mean, which has no interval; `seeds` then says how many.
    """
    cells: dict[tuple[Any, ...], list[Record]] = {}
    for r in records:
        key = (r["method"], json.dumps(r["setting"], sort_keys=True), r["metric"], r["against"])
        cells.setdefault(key, []).append(r)
    return [_one(found) for found in cells.values()]


def _one(found: list[Record]) -> Record:
    aggregates = [r for r in found if r["seed"] is None]
    if aggregates:
        return aggregates[-1]
    by_seed = list({r["seed"]: r for r in found}.values())
    if len(by_seed) == 1:
        return by_seed[0]
    refused = [r for r in by_seed if r["refused"]]
    values = [r["value"] for r in by_seed if r["value"] is not None]
    mean = by_seed[0] | {"seed": None, "low": None, "high": None, "seeds": len(by_seed)}
    mean |= {"value": statistics.fmean(values) if values else None, "leaky": any(r["leaky"] for r in by_seed)}
    return mean | {"value": None, "refused": refused[0]["refused"]} if refused else mean
