"""The page of a comparison of channel methods: verdicts follow the corrected p-values, compute beside quality."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Source
from headrace.evaluate.results import record as record_of
from headrace.report.compare_channel import ACCOUNT, compute, judged, p_of, verdicts
from headrace.report.page import write_page


def record(method: str, metric: str, value: float, half: float, **fields: Any) -> dict[str, Any]:
    figure = Interval(value, value - half, value + half)
    return record_of(Source("ads", "users"), method, metric, figure, 1000) | fields


@pytest.fixture
def told() -> dict[str, Any]:
    return {
        "methods": ["mtorl", "din", "bc"],
        "seeds": 2,
        "floors": ["prior"],
        "reference": "mtorl",
        "share": 0.375,
        "tuned": 0,
        "departures": ["no preset paper, so default: din, bc"],
        "compute": {f"{m}-{s}": {"parameters": 1234, "epochs": 3 + s} for m in ("mtorl", "din", "bc") for s in (0, 1)},
        "p_values": [
            ["action/log_loss", {}, "din", "mtorl", 0.01],
            ["action/log_loss", {}, "bc", "mtorl", 0.2],
            ["value_snips", {}, "din", "mtorl", 0.6],
            ["value_snips", {"share": 0.375}, "din", "mtorl", 0.03],
        ],
    }


@pytest.fixture
def compared(tmp_path: Path, told: dict[str, Any]) -> Path:
    """The folder of a comparison: DIN is worse in log loss, and better in the value of what it chooses."""
    chosen = {"seed": None, "setting": {"share": 0.375}}
    records = [
        record("prior", "action/log_loss", 1.5, 0.01, seed=None),
        record("mtorl", "action/log_loss", 0.9, 0.01, seed=None),
        record("din", "action/log_loss", 1.0, 0.01, seed=None),
        record("bc", "action/log_loss", 0.91, 0.01, seed=None),
        record("din", "action/log_loss", 0.1, 0.02, seed=None, against="mtorl"),
        record("bc", "action/log_loss", 0.01, 0.005, seed=None, against="mtorl"),
        record("mtorl", "value_snips", 0.2, 0.02, seed=None),
        record("din", "value_snips", 0.21, 0.02, seed=None),
        record("din", "value_snips", 0.01, 0.02, seed=None, against="mtorl"),
        record("mtorl", "value_snips", 0.3, 0.02, **chosen),
        record("din", "value_snips", 0.4, 0.02, **chosen),
        record("din", "value_snips", 0.1, 0.02, against="mtorl", **chosen),
    ]
    (tmp_path / "results.json").write_text(json.dumps(records))
    (tmp_path / "config.json").write_text(json.dumps({"command": "compare", "room": "channel"}))
    (tmp_path / ACCOUNT).write_text(json.dumps(told))
    for seed, spent in ((0, 2.0), (1, 4.0)):
        for name, factor in (("mtorl", 1.0), ("din", 2.0), ("bc", 0.5)):
            folder = tmp_path / "cells" / f"{name}-{seed}"
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text(json.dumps({"seconds": {"train": factor * spent, "more": 1.0}}))
    return tmp_path


def test_a_difference_counts_only_after_the_correction(told: dict[str, Any]):
    din = record("din", "action/log_loss", 0.1, 0.02, against="mtorl")
    bc = record("bc", "action/log_loss", 0.01, 0.005, against="mtorl")  # its own interval leaves 0 out
    assert (judged(din, told), judged(bc, told)) == ("worse", "cannot tell")
    everywhere = record("din", "value_snips", 0.01, 0.02, against="mtorl")
    chosen = record("din", "value_snips_of_chosen", 0.1, 0.02, against="mtorl")
    assert (p_of(everywhere, told), p_of(chosen, told)) == (0.6, 0.03)
    assert (judged(everywhere, told), judged(chosen, told)) == ("cannot tell", "better")
    said = verdicts([record("mtorl", "action/log_loss", 0.9, 0.01), din | {"against": None, "value": 1.0}, din], told)
    assert len(said) == 1 and "best MTORL" in said[0] and "worse than MTORL: DIN" in said[0]


def test_the_page_tells_figures_verdicts_and_compute(compared: Path, told: dict[str, Any]):
    page = write_page(compared).read_text()
    assert "worse than MTORL: DIN; 1 of 2 cannot be told from MTORL" in page
    assert "DIN minus MTORL" in page and "worse, p 0.010" in page and "better, p 0.030" in page
    assert "Not as asked for: no preset paper, so default: din, bc" in page
    assert "Quality against compute" in page and page.count("<svg") >= 4
    assert "src=" not in page and "http" not in page.replace("http://www.w3.org", "")  # it opens offline
    table = compute(compared, told)
    assert [(row.label, row.cells[0].value) for row in table.rows] == [("BC", "2.5"), ("MTORL", "4.0"), ("DIN", "7.0")]
    assert [cell.value for cell in table.rows[0].cells[1:]] == ["1,234", "3 to 4"]
    first = (compared / "report.html").read_bytes()
    assert write_page(compared).read_bytes() == first
