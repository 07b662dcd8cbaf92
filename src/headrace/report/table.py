"""results.json records -> tables a person wants to read: methods down, metrics across, floors always beside the model.

    for table in results_tables(load("RUN/results.json")):
        console.print(render.terminal(table))

A cell is 'value [low, high]'; the best of a column is marked, a leaky figure says LEAKY, a refused one says refused and
has its reason in a footnote, and a learnt model that is below a floor says which.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.errors import UserError
from headrace.report.names import direction, floor_order, is_floor, method_words, setting_words, target_words
from headrace.report.numbers import decimals, show, width
from headrace.report.records import Record, by_target, groups, headline_settings, of_group, settle
from headrace.report.standing import compare, standing


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure. `remark` is what has to be said of it: "below floor: trees", "better", "cannot tell"."""

    value: str = "-"
    interval: str = ""
    best: bool = False
    leaky: bool = False
    refused: bool = False
    remark: str = ""
    note: int | None = None  # number of its footnote


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    cells: tuple[Cell, ...]
    learnt: bool = True

    @property
    def leaky(self) -> bool:
        """True where all figures of the row are leaky; the row then says so once, and its cells need not."""
        held = [cell for cell in self.cells if cell.value != "-"]
        return bool(held) and all(cell.leaky for cell in held)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under metrics; `columns` hold the metrics' own names, footnotes count from 1."""

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()
    kind: str = "results"  # results | differences


@dataclass(slots=True)
class _Footnotes:
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def results_tables(records: Sequence[Record], part: str | None = None) -> list[Table]:
    """A table for each dataset, protocol, part and target; differences follow the results that they belong to."""
    tables = []
    for group in groups(records):
        if part is not None and group[2] != part:
            continue
        mine = of_group(records, group)
        for name, gain, chosen in by_target(mine):
            of = f" ({gain})" if gain else ""
            title = f"{target_words(name)[0]}{of}: {group[0]}, protocol {group[1]}, {group[2]} part"
            for table in (_results(chosen, title), _differences(chosen, title)):
                if table.rows:
                    tables.append(table)
    return tables


def results_table(records: Sequence[Record], part: str = "test") -> Table:
    """All metrics of one part in one table; raises UserError where the records hold several datasets or protocols."""
    group = _only(records, part)
    return _results(of_group(records, group), f"{group[0]}, protocol {group[1]}, {part} part")


def differences_table(records: Sequence[Record], part: str = "test") -> Table:
    """The paired differences of one part: 'MTORL minus trees', with a verdict in each cell."""
    group = _only(records, part)
    return _differences(of_group(records, group), f"{group[0]}, protocol {group[1]}, {part} part")


def _only(records: Sequence[Record], part: str) -> tuple[str, str, str]:
    found = [g for g in groups(records) if g[2] == part]
    if len(found) != 1:
        held = "; ".join(", ".join(g) for g in groups(records)) or "nothing"
        raise UserError(
            f"results: expected one dataset and protocol with part {part!r}, found {held}; use results_tables"
        )
    return found[0]


def _results(records: Sequence[Record], title: str) -> Table:
    measures = settle(headline_settings(r for r in records if r["against"] is None))
    differences = settle(r for r in records if r["against"] is not None)
    notes = _Footnotes()
    metrics = list(dict.fromkeys(r["metric"] for r in measures))
    keys = list(dict.fromkeys((r["method"], setting_words(r["setting"])) for r in measures))
    columns: list[dict[tuple[str, str], Cell]] = []
    for metric in metrics:
        held = [r for r in measures if r["metric"] == metric]
        digits = decimals([width(r["low"], r["high"]) for r in held], [r["value"] for r in held])
        best = _best(held, metric)
        column = {}
        for r in held:
            cell = _cell(r, digits, notes)
            if not cell.refused and not is_floor(r["method"]):
                stands = standing(r, measures, differences)
                if stands.verdict == "below" and stands.floor:
                    cell = dataclasses.replace(cell, remark=f"below floor: {method_words(stands.floor)}")
            column[r["method"], setting_words(r["setting"])] = dataclasses.replace(cell, best=r in best)
        columns.append(column)
    order = sorted(range(len(keys)), key=lambda i: (is_floor(keys[i][0]), floor_order(keys[i][0]), i))
    rows = tuple(
        Row(_label(*keys[i]), tuple(c.get(keys[i], Cell()) for c in columns), not is_floor(keys[i][0])) for i in order
    )
    return Table(title, _caption(measures, notes), tuple(metrics), rows, tuple(notes.texts))


def _differences(records: Sequence[Record], title: str) -> Table:
    differences = settle(headline_settings(r for r in records if r["against"] is not None))
    notes = _Footnotes()
    metrics = list(dict.fromkeys(r["metric"] for r in differences))
    rows: dict[str, dict[str, Cell]] = {}
    order: dict[str, int] = {}
    for metric in metrics:
        held = [r for r in differences if r["metric"] == metric]
        digits = decimals([width(r["low"], r["high"]) for r in held], [r["value"] for r in held])
        for r in held:
            label = f"{_label(r['method'], setting_words(r['setting']))} minus {method_words(r['against'])}"
            cell = _cell(r, digits, notes, sign=True)
            rows.setdefault(label, {})[metric] = cell if cell.refused else dataclasses.replace(cell, remark=compare(r))
            order[label] = floor_order(r["against"])
    made = tuple(Row(k, tuple(rows[k].get(m, Cell()) for m in metrics)) for k in sorted(rows, key=lambda k: order[k]))
    caption = "Paired on the same steps. An interval that holds 0 cannot tell the two apart."
    return Table(f"{title}: differences", caption, tuple(metrics), made, tuple(notes.texts), "differences")


def _cell(r: Record, digits: int, notes: _Footnotes, sign: bool = False) -> Cell:
    if r["refused"]:
        return Cell("refused", refused=True, leaky=bool(r["leaky"]), note=notes.add(f"Refused: {r['refused']}"))
    note = notes.add(f"Mean of {r['seeds']} seeds; no interval was recorded.") if "seeds" in r else None
    interval = ""
    if r["low"] is not None and r["high"] is not None:
        interval = f"[{show(r['low'], digits, sign)}, {show(r['high'], digits, sign)}]"
    return Cell(show(r["value"], digits, sign), interval, leaky=bool(r["leaky"]), note=note)


def _best(held: Sequence[Record], metric: str) -> list[Record]:
    """The records of the best value; a leaky one counts only where all are."""
    way = direction(metric)
    measured = [r for r in held if r["value"] is not None and not r["refused"]]
    measured = [r for r in measured if not r["leaky"]] or measured
    if way == 0 or len(measured) < 2:
        return []
    top = max(way * r["value"] for r in measured)
    return [r for r in measured if way * r["value"] == top]


def _label(method: str, setting: str) -> str:
    return f"{method_words(method)} ({setting})" if setting else method_words(method)


def _caption(measures: Sequence[Record], notes: _Footnotes) -> str:
    counts = sorted({r["n"] for r in measures if r["n"] is not None and not r["refused"]})
    if len(counts) > 1:
        notes.add(f"The rows do not all score the same number of cases: n is {counts[0]:,} to {counts[-1]:,}.")
    text = f"n = {counts[0]:,}. " if len(counts) == 1 else ""
    return text + "Brackets: 95 % interval. ★ best of its column. ↓ less is better, ↑ more is better."
