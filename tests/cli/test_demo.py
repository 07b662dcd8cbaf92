"""headrace demo: every file of the contract, and the same bytes each time."""

import hashlib
import json
import re
from pathlib import Path

from commands import bytes_of, whole

KEYS = ["dataset", "protocol", "part", "method", "setting", "seed", "metric"]
KEYS += ["value", "low", "high", "n", "against", "leaky", "refused"]


def test_the_demo_leaves_every_file_of_the_contract(demo: Path):
    records = json.loads((demo / "results.json").read_text())
    assert {tuple(r) for r in records} == {tuple(KEYS)}
    assert {"action/log_loss", "action/f1_macro", "reward/auc", "reward/log_loss"} <= {r["metric"] for r in records}
    assert {"mtorl", "prior", "trees", "logistic", "past-rate"} <= {r["method"] for r in records}
    assert not any(r["leaky"] for r in records)
    lines = [json.loads(line) for line in (demo / "metrics.jsonl").read_text().splitlines()]
    assert {tuple(line) for line in lines} == {("stage", "epoch", "step", "part", "metric", "value")}
    assert json.loads((demo / "config.json").read_text())["config"]["epochs"] == 1
    assert json.loads((demo / "transforms.json").read_text())
    assert (demo / "recommendations.csv").read_text().startswith("user,channel,expected_gain,expected_cost,propensity,")


def test_the_manifest_says_where_the_numbers_come_from_and_seals_every_file(demo: Path):
    manifest = json.loads((demo / "manifest.json").read_text())
    assert {"version", "commit", "machine", "threads", "config", "provenance", "files"} <= manifest.keys()
    assert {"data_fingerprint", "split_fingerprint"} <= manifest["provenance"].keys()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in bytes_of(demo).items()}
    assert manifest["files"] == digests


def test_the_page_needs_no_network(demo: Path):
    page = (demo / "report.html").read_text()
    assert "<table" in page
    assert "<svg" in page
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']+|@import|url\((?!["']?(?:#|data:))""", page)


def test_the_demo_again_gives_the_same_bytes(demo: Path, journeys: Path, tmp_path: Path):
    again = tmp_path / "again"
    whole("demo", "--users", 60, "--set", "epochs=1", "--out", again)
    assert bytes_of(again) == bytes_of(demo)
    assert bytes_of(tmp_path / "again-journeys") == bytes_of(journeys)
