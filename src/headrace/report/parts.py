"""What every page is made of: charts as SVG, a folder's plain files, and where the figures come from."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from headrace.errors import UserError
from headrace.report import figures
from headrace.report.records import Record


class Drawing:
    """Charts to SVG, each with ids of its own."""

    def __init__(self) -> None:
        self.drawn = 0

    def all(self, charts: Iterable[Any]) -> list[str]:
        made = []
        for chart in charts:
            self.drawn += 1
            made.append(figures.svg(chart, f"f{self.drawn}"))
        return made


def provenance(
    records: list[Record], config: dict[str, Any], manifest: dict[str, Any], summary: dict[str, Any]
) -> list[Any]:
    """Where the figures come from; a run's own folder is left out, so that equal runs give equal pages."""
    seeds = sorted({r["seed"] for r in records if r["seed"] is not None}, key=str)
    prints = manifest.get("provenance", {})
    command = manifest.get("command", "")
    command = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    facts = [
        ("data fingerprint", prints.get("data_fingerprint") or summary.get("fingerprint")),
        ("split fingerprint", prints.get("split_fingerprint")),
        ("seed", ", ".join(map(str, seeds)) or config.get("seed")),
        ("version", manifest.get("version")),
        ("commit", manifest.get("commit")),
        ("command", re.sub(r"--out[ =]\S+", "--out RUN", command)),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def listed(words: Sequence[str]) -> str:
    words = [*words[:3], f"{len(words) - 3} more"] if len(words) > 4 else list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def read(path: Path, kind: type) -> Any:
    """A JSON file's value, empty where there is no such file."""
    if not path.is_file():
        return kind()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); make it again with the command that wrote it") from None
    if not isinstance(value, kind):
        raise UserError(f"{path}: expected a {kind.__name__}, found a {type(value).__name__}; make it again")
    return value
