"""A Table as text for a terminal, for Markdown and for HTML."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from headrace.report.names import direction, metric_words
from headrace.report.table import Cell, Row, Table

ARROWS = {1: " ↑", -1: " ↓", 0: ""}
TONES = {"better": "good", "worse": "bad", "cannot tell": "unsure"}


def header(metric: str, arrow: bool = True) -> str:
    """A column's heading: the metric in words and the way it is better."""
    return metric_words(metric) + (ARROWS[direction(metric)] if arrow else "")


def tone(remark: str) -> str:
    """How a remark is to be taken: good, bad, unsure, or nothing."""
    return "bad" if remark.startswith("below floor") else TONES.get(remark.partition(",")[0], "")


def label(row: Row) -> str:
    """The row's name, with LEAKY where all its figures are."""
    return row.label + (" LEAKY" if row.leaky else "")


def figure(cell: Cell, row: Row) -> str:
    """The cell's figure and marks on one line, without its remark."""
    marks = [cell.value, cell.interval, "★" if cell.best else "", "LEAKY" if cell.leaky and not row.leaky else ""]
    marks.append(f"({cell.note})" if cell.note else "")
    return " ".join(m for m in marks if m)


def markdown(table: Table, title: bool = True) -> str:
    """The table in Markdown, footnotes below it."""
    arrow = table.kind == "results"
    lines = [f"**{table.title}**", ""] if title else []
    lines.append("| method | " + " | ".join(header(c, arrow) for c in table.columns) + " |")
    lines.append("|---|" + "---|" * len(table.columns))
    for row in table.rows:
        cells = []
        for cell in row.cells:
            text = _pipe(figure(cell, row))
            text = f"**{text}**" if cell.best else text
            cells.append(f"{text} {cell.remark}".strip())
        lines.append(f"| {_pipe(label(row))} | " + " | ".join(cells) + " |")
    lines += ["", table.caption]
    lines += [f"({i}) {text}" for i, text in enumerate(table.footnotes, 1)]
    return "\n".join(lines) + "\n"


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")


def html(table: Table) -> str:
    """An HTML fragment: <table> and its footnotes; classes best, leaky, refused, good, bad, unsure, floor, learnt."""
    arrow = table.kind == "results"
    heads = "".join(f'<th scope="col">{escape(header(c, arrow))}</th>' for c in table.columns)
    body = "\n".join(_html_row(row) for row in table.rows)
    notes = "".join(f"<li>{escape(text)}</li>" for text in table.footnotes)
    return (
        f'<div class="scroll"><table class="{table.kind}"><thead><tr><th scope="col">method</th>{heads}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>\n"
        f'<p class="caption">{escape(table.caption)}</p>\n' + (f'<ol class="notes">{notes}</ol>\n' if notes else "")
    )


def _html_row(row: Row) -> str:
    cells = "".join(_html_cell(cell, row) for cell in row.cells)
    name = escape(row.label) + (' <span class="remark bad">LEAKY</span>' if row.leaky else "")
    return f'<tr class="{"learnt" if row.learnt else "floor"}"><th scope="row">{name}</th>{cells}</tr>'


def _html_cell(cell: Cell, row: Row) -> str:
    kinds = [k for k, on in (("best", cell.best), ("leaky", cell.leaky), ("refused", cell.refused)) if on]
    text = f'<span class="value">{escape(cell.value)}{" ★" if cell.best else ""}</span>'
    if cell.note:
        text += f"<sup>{cell.note}</sup>"
    if cell.interval:
        text += f' <span class="interval">{escape(cell.interval)}</span>'
    if cell.leaky and not row.leaky:
        text += ' <span class="remark bad">LEAKY</span>'
    if cell.remark:
        text += f' <span class="remark {tone(cell.remark)}">{escape(cell.remark)}</span>'
    return f'<td class="{" ".join(kinds)}">{text}</td>' if kinds else f"<td>{text}</td>"


@dataclass(frozen=True, slots=True)
class Terminal:
    """The table for a rich console: as many metrics side by side as the width allows, then the next block."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self.table
        yield Text(table.title, style="bold")
        for block in self._blocks(options.max_width):
            made = RichTable(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
            made.add_column("method", no_wrap=True)
            for i in block:
                made.add_column(header(table.columns[i], table.kind == "results"), no_wrap=True)
            for row in table.rows:
                name = Text(label(row), style="bold" if row.learnt and table.kind == "results" else "")
                name.highlight_words(["LEAKY"], style="bold red")
                made.add_row(name, *(_rich_cell(row.cells[i], row) for i in block))
            yield made
        yield Text(table.caption, style="dim")
        for number, text in enumerate(table.footnotes, 1):
            yield Text(f"({number}) {text}")

    def _blocks(self, width: int) -> Iterator[list[int]]:
        """Columns packed into the width by their longest line; rows without a figure in a block keep their place."""
        first = max([len("method"), *(len(label(row)) for row in self.table.rows)]) + 4  # with both edges
        block: list[int] = []
        used = first
        for i, name in enumerate(self.table.columns):
            lines = [
                header(name),
                *(line for row in self.table.rows for line in _rich_cell(row.cells[i], row).plain.split("\n")),
            ]
            wide = max(len(line) for line in lines) + 2
            if block and used + wide > width:
                yield block
                block, used = [], first
            block.append(i)
            used += wide
        if block:
            yield block


def _rich_cell(cell: Cell, row: Row) -> Text:
    if cell.refused or cell.value == "-":
        return Text(figure(cell, row), style="dim")
    text = Text(figure(cell, row), style="bold" if cell.best else "")
    text.highlight_words(["LEAKY"], style="bold red")
    if cell.remark:
        style = {"good": "green", "bad": "bold red", "unsure": "yellow"}.get(tone(cell.remark), "")
        text.append(("\n" if cell.remark.startswith("below floor") else " ") + cell.remark, style=style)
    return text
