"""The page of a run: complete, deterministic, self-contained."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import UserError
from headrace.report.page import FILES, write_page


class Loads(HTMLParser):
    """Collects everything that a browser would fetch, and every id."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        self.fetched += [tag] if tag in ("script", "link", "iframe", "object", "embed") else []
        self.fetched += [str(held[k]) for k in ("src", "href", "xlink:href", "srcset") if k in held]
        self.ids += [str(held["id"])] if "id" in held else []


def test_the_page_holds_the_answer_the_figures_and_the_provenance(run: Path) -> None:
    text = write_page(run).read_text()
    for part in (
        "MTORL on ads",
        "In part.",
        "difference -0.006 [-0.010, -0.002]: better",
        "0.907",
        "below floor: past-rate",
        "no propensity was logged",
        "What was varied: lambda",
        "Training",
        "Calibration",
        "How long journeys are",
        "time &lt;overlap&gt;",
        "d1d1",
        "5e5e",
        "abc123",
        "--out RUN",
        "&#34;width&#34;: 64",
    ):
        assert part in text, part


def test_the_page_loads_nothing(run: Path) -> None:
    text = write_page(run).read_text()
    page = Loads()
    page.feed(text)
    assert page.fetched == []
    assert len(page.ids) == len(set(page.ids))
    assert "http" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_equal_files_give_equal_bytes_whatever_the_folder_and_machine(run: Path, tmp_path: Path) -> None:
    first = write_page(run).read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    for name in FILES:
        (other / name).write_text((run / name).read_text().replace(f"--out {run}", f"--out {other}"))
    manifest = json.loads((other / "manifest.json").read_text()) | {"machine": "elsewhere", "threads": 7}
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert write_page(other, other / "page.html").read_bytes() == first
    assert str(tmp_path).encode() not in first


@pytest.mark.parametrize("missing", FILES)
def test_a_missing_file_leaves_out_its_section_only(run: Path, missing: str) -> None:
    (run / missing).unlink()
    text = write_page(run).read_text()
    assert "</html>" in text
    heading = {"metrics.jsonl": "Training", "calibration.json": "Calibration", "audit.json": "What the audit found"}
    if missing in heading:
        assert f"<h2>{heading[missing]}</h2>" not in text
    if missing == "results.json":
        assert "Nothing was measured yet" in text


def test_a_leaky_run_makes_no_claim(run: Path, records: list[dict[str, Any]]) -> None:
    (run / "results.json").write_text(json.dumps([r | {"leaky": True, "protocol": "paper"} for r in records]))
    text = write_page(run).read_text()
    assert "LEAKY: no claim." in text
    assert "<strong>Yes" not in text


def test_a_line_cut_short_by_a_kill_is_left_out_and_an_earlier_broken_one_is_told(run: Path) -> None:
    path = run / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"stage": "fi')
    write_page(run)
    path.write_text("{broken\n" + whole)
    with pytest.raises(UserError, match="line 1 is no line of metrics"):
        write_page(run)


def test_an_empty_directory_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to report"):
        write_page(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_floors_alone_are_called_floors_alone(run: Path, records: list[dict[str, Any]]) -> None:
    (run / "results.json").write_text(json.dumps([r for r in records if r["method"] != "mtorl"]))
    assert "Floors only." in write_page(run).read_text()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MEASURE = """<script>onload = () => document.title = [...document.querySelectorAll(".scroll")].map(
  e => e.scrollWidth + ">" + e.clientWidth).join(" ")</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize(("wide", "scrolls"), [(1280, False), (500, True)])
def test_the_tables_of_a_run_of_mtorl_fit_a_window_of_usual_width(
    run: Path, below: list[dict[str, Any]], wide: int, scrolls: bool
) -> None:
    (run / "results.json").write_text(json.dumps(below))
    page = run / "measured.html"
    page.write_text(write_page(run).read_text().replace("</body>", MEASURE + "</body>"))
    assert "below floor: past-frequencies" in page.read_text()
    assert BROWSER is not None
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={wide},900", "--dump-dom"]
    words += [f"--user-data-dir={run.parent / 'browser'}", page.as_uri()]
    shown = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
    title = re.search(r"<title>([\d> ]+)</title>", html.unescape(shown))
    assert title, shown[:300]
    sizes = [tuple(map(int, size.split(">"))) for size in title[1].split()]
    assert len(sizes) > 2
    assert any(whole > seen for whole, seen in sizes) == scrolls, sizes
