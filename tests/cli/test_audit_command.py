"""headrace data audit on the real samples: what it passes, and what it refuses with exit code 3."""

import json
import re
from pathlib import Path

import pytest
from commands import Told, whole

SAMPLES = {"criteo_attribution": "criteo-attribution-sample", "kuairand_random": "kuairand-random-sample"}


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / request.param
    whole("data", "prepare", shared_data / request.param, "--schema", SAMPLES[request.param], "--out", out)
    return out


@pytest.mark.parametrize("protocol", ["honest", "users", "temporal"])
def test_a_clean_protocol_passes(protocol: str, sample: Path, told: Told):
    assert told("data", "audit", sample, "--protocol", protocol) == (0, "")


def test_the_released_sampling_is_refused_and_recorded(sample: Path, tmp_path: Path, told: Told):
    code, err = told("data", "audit", sample, "--protocol", "paper", "--out", tmp_path / "audit")
    assert (code, err.count("\n")) == (3, 1)
    share = int(re.search(r"duplicate rows: (\d+)% of the labelled test steps", err)[1])  # type: ignore[index]
    assert share >= 60
    records = json.loads((tmp_path / "audit" / "results.json").read_text())
    assert {r["metric"]: r["leaky"] for r in records}["share/duplicate_rows"]


def test_a_look_ahead_column_among_the_inputs_is_refused(shared_data: Path, tmp_path: Path, told: Told):
    from headrace.journeys.readers.samples import CRITEO

    schema = tmp_path / "mine.toml"
    CRITEO.save(schema)
    text = schema.read_text()
    changed = re.sub(r'(name = "conversion"[^}\[]*known = )"never"', r'\1"after"', text)
    assert changed != text
    schema.write_text(changed)
    code, err = told("data", "prepare", shared_data / "criteo_attribution", "--schema", schema, "--out", tmp_path / "j")
    assert code == 0, err
    code, err = told("data", "audit", tmp_path / "j")
    assert (code, err.count("\n")) == (3, 1)
    assert "conversion" in err
    code, err = told("train", "mtorl", "--data", tmp_path / "j", "--preset", "tiny", "--out", tmp_path / "run")
    assert (code, err.count("\n")) == (3, 1)
    assert not (tmp_path / "run").exists()
