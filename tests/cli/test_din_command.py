"""A second method goes through every command that takes a run; its encoder must come from its own split."""

from pathlib import Path

import polars as pl
import pytest
from commands import Told

from headrace.journeys.store import Journeys

TINY = ("--preset", "tiny", "--set", "epochs=1")


@pytest.fixture(scope="module")
def din(demo: Path, journeys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from headrace.cli import run

    out = tmp_path_factory.mktemp("din") / "run"
    words = ("train", "din", "--data", journeys, "--out", out, *TINY, f"encoder={demo}", "co_train=true")
    assert run([str(word) for word in words]) == 0
    return out


def test_it_is_measured_recommends_and_acts(din: Path, unseen: Path, tmp_path: Path, told: Told):
    assert told("evaluate", din, "--floors", "prior", "past-rate", "--out", tmp_path / "worth") == (0, "")
    assert "DIN" in (tmp_path / "worth" / "report.html").read_text()
    assert told("recommend", din, "--data", unseen, "--out", tmp_path / "next.parquet") == (0, "")
    assert sorted(pl.read_parquet(tmp_path / "next.parquet")["user"]) == sorted(Journeys(unseen).users.tolist())
    words = ("simulate", "ads", "--users", "8", "--days", "3", "--policy", din, "--out", tmp_path / "log")
    assert told(*words) == (0, "")


def test_it_has_no_embeddings_of_users(din: Path, unseen: Path, tmp_path: Path, told: Told):
    code, err = told("embed", din, "--data", unseen, "--out", tmp_path / "users.csv")
    assert (code, err.count("\n")) == (2, 1)
    assert "din has no encoder of users" in err
    assert not (tmp_path / "users.csv").exists()


@pytest.mark.parametrize("change", [("--seed", "5"), ("--protocol", "users")])
def test_an_encoder_of_another_split_is_refused_before_anything_is_written(
    demo: Path, journeys: Path, tmp_path: Path, told: Told, change: tuple[str, ...]
):
    words = ("train", "din", "--data", journeys, "--out", tmp_path / "out", *change)
    code, err = told(*words, *TINY, f"encoder={demo}")
    assert (code, err.count("\n")) == (2, 1)
    assert "another split" in err and "leak" in err
    assert not (tmp_path / "out").exists()


def test_a_damaged_encoder_is_refused_by_its_file(din: Path, unseen: Path, tmp_path: Path, told: Told):
    held = (din / "encoder.json").read_bytes()
    try:
        (din / "encoder.json").write_bytes(held.replace(b"0", b"1", 1))
        code, err = told("recommend", din, "--data", unseen, "--out", tmp_path / "x.csv")
    finally:
        (din / "encoder.json").write_bytes(held)
    assert (code, err.count("\n")) == (2, 1)
    assert "encoder.json" in err
