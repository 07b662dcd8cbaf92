"""headrace rank with a predictor's run: each session's items, and no value of a log without lists."""

from pathlib import Path

import polars as pl
import pytest
from item_logs import TASKS, item_log

from headrace.cli import run


def test_a_predictor_ranks_each_sessions_items_and_the_value_names_what_the_log_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    journeys = item_log(tmp_path / "j", users=60)
    words = ("train", "rmtl", "--data", tmp_path / "j", "--out", tmp_path / "run", "--protocol", "users")
    assert run([str(w) for w in (*words, "--preset", "tiny", "--set", f"tasks={TASKS}", "weights=none")]) == 0
    ranks = ("rank", tmp_path / "run", "--data", tmp_path / "j", "--k", "2")
    assert run([str(w) for w in (*ranks, "--out", tmp_path / "a.parquet")]) == 0
    assert "no value of this ranking, the log lacks candidate lists, predicted scores" in capsys.readouterr().out
    table = pl.read_parquet(tmp_path / "a.parquet")
    assert table.height == 2 * 2 * journeys.n_users  # two sessions a user, two items each
    assert table["rank"].to_list()[:4] == [1, 2, 1, 2]
    best = table.filter(pl.col("rank") == 1)["score"].to_numpy()
    assert (best >= table.filter(pl.col("rank") == 2)["score"].to_numpy()).all()
    assert run([str(w) for w in (*ranks, "--out", tmp_path / "b.parquet", "--value")]) == 3
    assert "fusion weights" in capsys.readouterr().err
