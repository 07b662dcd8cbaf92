"""headrace embed: one row a user, the same numbers in parquet and csv, the same each time."""

from pathlib import Path

import numpy as np
import polars as pl
from commands import Told

from headrace.channel.methods import load
from headrace.journeys.store import Journeys
from headrace.learn.run import Run


def test_parquet_and_csv_hold_the_encoders_numbers(demo: Path, unseen: Path, tmp_path: Path, told: Told):
    for name in ("a.parquet", "b.parquet", "a.csv"):
        assert told("embed", demo, "--data", unseen, "--out", tmp_path / name) == (0, "")
    table, log = pl.read_parquet(tmp_path / "a.parquet"), Journeys(unseen)
    assert table["user"].to_list() == log.users.tolist()
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    numbers = table.drop("user").to_numpy()
    assert numbers.dtype == np.float32
    method = load(Run.open(demo))
    assert numbers.tobytes() == np.ascontiguousarray(method.embeddings(log)).tobytes()
    read = pl.read_csv(tmp_path / "a.csv").drop("user").to_numpy().astype(np.float32)
    assert np.array_equal(read, numbers)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.parquet", "b.parquet"]
