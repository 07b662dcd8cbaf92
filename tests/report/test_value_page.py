"""The page and the words of a valuation, from its plain files alone."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headrace
from headrace.errors import UserError
from headrace.evaluate.results import Source, save
from headrace.journeys.store import Journeys
from headrace.ope.account import account
from headrace.ope.policies import named
from headrace.ope.records import records
from headrace.ope.support import Gate
from headrace.ope.valuation import Candidate, value
from headrace.report.page import write_page
from headrace.report.records import load
from headrace.report.value_words import reach, refusals, sentence, split_sentence

ESTIMATORS = ("ips", "snips", "dr")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    folder = tmp_path_factory.mktemp("log") / "log"
    return headrace.simulate_log(headrace.Scenario.load("ads"), 200, 4, "uniform", 0, folder)


def folder(log: Journeys, path: Path, gate: Gate | None = None, share: float | None = None) -> Path:
    """A valuation of two policies with subgroups, as the command leaves it."""
    rows = np.arange(log.n_steps)
    select = None if share is None else (rows % 10 < 10 * share).astype(np.float64)
    names = ("uniform", f"constant:{log.channels[1]}")
    candidates = {n: Candidate(named(n, log)(log, rows).chances, select) for n in names}
    halves = {"half=<a>": rows % 2 == 0, "half=b": rows % 2 == 1}
    found = value(candidates, log, subgroups=halves, estimators=ESTIMATORS, gate=gate, resamples=200)
    told = account(found, ESTIMATORS, dict.fromkeys(names, select), gate)
    for name in names:
        more = {"selected": share, "threshold": 0.5} if share else {}
        told["policies"][name] |= {"what": "as it says", "chosen": dict.fromkeys(log.channels, 0.2)} | more
    told |= {"gain": {"click": 1.0}, "penalty": 0.0, "share": share, "subgroup": "half", "asked": list(names)}
    told |= {
        "rows": log.n_steps,
        "left_out": 0,
        "groups": log.n_users,
        "grouped_by": "users",
        "where": "all steps of the log",
    }
    setting = {} if share is None else {"share": share}
    path.mkdir()
    save(records(found, Source("ads", "none", "all", 0, setting)), path / "results.json")
    (path / "ope.json").write_text(json.dumps(told))
    (path / "config.json").write_text(json.dumps({"command": "ope"}))
    provenance = {"data_fingerprint": "d1d1", "split_fingerprint": None}
    (path / "manifest.json").write_text(json.dumps({"provenance": provenance, "commit": "abc123"}))
    return path


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


def test_the_page_shows_estimates_gate_weights_propensities_and_subgroups(log: Journeys, tmp_path: Path) -> None:
    text = write_page(folder(log, tmp_path / "a", Gate(least_ess=10, least_gains=1), 0.5)).read_text()
    for part in (
        "What uniform and constant:",
        "Estimates side by side",
        "Whom, and over which channel",
        "half=&lt;a&gt;",
        "effective sample of users",
        "accepted",
        "How the weights lie",
        "mean of 1[channel] / propensity",
        "d1d1",
        "abc123",
    ):
        assert part in text, part
    page = Loads()
    page.feed(text)
    assert page.fetched == []
    assert len(page.ids) == len(set(page.ids))
    assert "http" not in text


def test_a_refused_policy_shows_the_reason_and_no_figure(log: Journeys, tmp_path: Path) -> None:
    path = folder(log, tmp_path / "a", Gate(least_ess=1e6, near_log=10))
    text = write_page(path).read_text()
    found = load(path / "results.json")
    told = json.loads((path / "ope.json").read_text())
    assert set(refusals(found, told)) == {"uniform", f"constant:{log.channels[1]}"}
    said, words = sentence(found, told, "uniform")
    assert said == "refused"
    assert words.startswith("uniform: refused, because too little overlap")
    assert "What would do: " in words
    assert "too little overlap" in text
    assert '<b class="bad">fail</b>' in text
    raw = told["policies"]["uniform"]["groups"]["all"]["diagnostics"]["value"]["snips"]["raw_value"]
    assert str(round(raw, 4)) not in text.partition("The log itself")[2].partition("</p>")[2].partition("Subgroups")[0]


def test_equal_files_give_equal_bytes_whatever_the_folder(log: Journeys, tmp_path: Path) -> None:
    pages = [write_page(folder(log, tmp_path / name)).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]
    assert str(tmp_path).encode() not in pages[0]


def test_a_damaged_account_is_told(log: Journeys, tmp_path: Path) -> None:
    path = folder(log, tmp_path / "a")
    (path / "ope.json").write_text("{")
    with pytest.raises(UserError, match=r"ope\.json: not valid JSON"):
        write_page(path)


def record(value: float, low: float, high: float, against: str | None, **setting: Any) -> dict[str, Any]:
    r = {"method": "trees", "metric": "value_dr", "value": value, "low": low, "high": high, "against": against}
    return r | {"setting": setting, "refused": None}


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.006, 0.018, ("better", "trees: better than logged by 3 to 9 % (dr).")),
        (-0.018, -0.006, ("worse", "trees: worse than logged by 3 to 9 % (dr).")),
        (0.0006, 0.018, ("better", "trees: better than logged by 0.3 to 9.0 % (dr).")),
    ],
)
def test_a_difference_is_told_in_per_cent_of_what_the_log_earned(
    low: float, high: float, words: tuple[str, str]
) -> None:
    logged = record(0.2, 0.19, 0.21, None) | {"method": "logged", "metric": "value_ips"}
    told = {"estimator": "dr", "share": None, "policies": {"trees": {}}}
    held = [logged, record((low + high) / 2, low, high, "logged")]
    assert sentence(held, told, "trees") == words
    unsure = [logged, record(0.002, -0.008, 0.012, "logged")]
    assert sentence(unsure, told, "trees") == (
        "cannot tell",
        "trees: this log can't tell, because the interval of the difference to logged reaches from -4 to +6 % (dr).",
    )


def test_what_comes_of_choosing_steps_and_of_choosing_channels_is_told_apart() -> None:
    logged = record(0.2, 0.19, 0.21, None) | {"method": "logged", "metric": "value_ips"}
    parts = [record(0.1, 0.08, 0.12, "logged", part="selection"), record(0.0, -0.02, 0.02, "logged", part="channel")]
    told = {"estimator": "dr", "share": 0.4, "policies": {"trees": {"threshold": 0.3}}}
    said = split_sentence([logged, *parts], told, "trees")
    assert said == "choosing the steps brings 40 to 60 %, choosing the channels -10 to +10 % (can't tell)"
    by_lot = told | {"policies": {"trees": {}}}
    assert split_sentence([logged, *parts], by_lot, "trees") == ""


def test_where_the_log_earned_nothing_the_difference_keeps_its_unit() -> None:
    assert reach(0.25, 0.5, -1.0).endswith("a step")
