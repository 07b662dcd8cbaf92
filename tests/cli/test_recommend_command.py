"""headrace recommend: one row a user, best first, within the budget, the same each time."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from commands import Told, whole

from headrace.journeys.store import Journeys


def test_parquet_and_csv_hold_the_same_rows_of_the_users_ids(demo: Path, unseen: Path, tmp_path: Path, told: Told):
    for name in ("a.parquet", "a.csv", "b.csv"):
        code, err = told("recommend", demo, "--data", unseen, "--out", tmp_path / name)
        assert (code, err.count("\n")) == (0, 1) and "below a floor" in err  # so small a demo's is
    table = pl.read_parquet(tmp_path / "a.parquet")
    assert {"user", "channel", "expected_gain", "expected_cost", "propensity", "rank"} <= set(table.columns)
    assert table["rank"].to_list() == list(range(1, len(table) + 1))
    log = Journeys(unseen)
    assert sorted(table["user"].to_list()) == sorted(log.users.tolist())
    assert set(table["channel"]) <= set(log.channels)
    assert table["propensity"].is_between(0, 1, closed="right").all()
    assert pl.read_csv(tmp_path / "a.csv").equals(table, null_equal=False)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 2.0])
def test_the_expected_cost_stays_within_the_budget(share: float, demo: Path, unseen: Path, tmp_path: Path, told: Told):
    told("recommend", demo, "--data", unseen, "--out", tmp_path / "all.parquet")
    everyone = pl.read_parquet(tmp_path / "all.parquet")
    budget = share * everyone["expected_cost"].sum()
    code, _ = told("recommend", demo, "--data", unseen, "--budget", budget, "--out", tmp_path / "some.parquet")
    assert code == 0
    chosen = pl.read_parquet(tmp_path / "some.parquet")
    assert chosen["expected_cost"].sum() <= budget
    assert chosen.equals(everyone.head(len(chosen)))
    if share > 1:
        assert len(chosen) == len(everyone)


@pytest.mark.parametrize("metric", ["action/log_loss", "reward/log_loss", "reward_by_channel/log_loss"])
@pytest.mark.parametrize(("value", "low", "high", "warned"), [(0.7, 0.1, 0.3, True), (0.45, -0.1, 0.1, False)])
def test_a_run_below_its_floors_is_not_recommended_by_without_a_word(
    metric: str,
    value: float,
    low: float,
    high: float,
    warned: bool,
    demo: Path,
    unseen: Path,
    tmp_path: Path,
    told: Told,
):
    run = tmp_path / "run"
    shutil.copytree(demo, run)
    source = {"dataset": "ads", "protocol": "honest", "part": "test", "setting": {}, "seed": 0, "n": 90}
    source |= {"metric": metric, "leaky": False, "refused": None}
    rows = [("mtorl", value, 0.4, 0.8, None), ("trees", 0.5, 0.4, 0.6, None), ("prior", 0.6, 0.5, 0.7, None)]
    rows += [("mtorl", value - 0.5, low, high, "trees"), ("mtorl", value - 0.6, low, high, "prior")]
    keys = ("method", "value", "low", "high", "against")
    (run / "results.json").write_text(json.dumps([source | dict(zip(keys, r, strict=True)) for r in rows]))
    for words in (("recommend", "--out", tmp_path / "a.csv"), ("plan", "--budget", 1, "--out", tmp_path / "plan")):
        code, err = told(words[0], run, "--data", unseen, *words[1:])
        assert code == 0 and err.count("\n") == warned
        assert ("below a floor" in err and "trees 0.50" in err and "worse" in err) == warned
    (run / "results.json").unlink()  # nobody measured it
    assert told("recommend", run, "--data", unseen, "--out", tmp_path / "b.csv") == (0, "")


def test_a_recommendation_says_what_it_sums_to(demo: Path, unseen: Path, tmp_path: Path):
    done = whole("recommend", demo, "--data", unseen, "--budget", 2, "--out", tmp_path / "a.csv", says="below a floor")
    assert "EUR (budget 2)" in done.stdout
    assert not [name for name in tmp_path.iterdir() if name.name != "a.csv"]
