"""Records: the contract's keys, equal n, paired differences, refusals with their reason, bit-equal files."""

import json
from pathlib import Path

import numpy as np
import pytest

from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.metrics import Predicted, Steps
from headrace.evaluate.results import KEYS, Record, Scores, Source, aggregate, record, save, score


def table(leaky: bool = False) -> Scores:
    rng = np.random.default_rng(0)
    n = 400
    users = np.repeat(np.arange(40), 10)
    p = rng.random(n)
    steps = Steps((rng.random(n) < p).astype(int), "binary", users=users, rows=np.arange(n))
    predictions: dict[str, Predicted | str] = {
        "model": Predicted(p, rows=np.arange(n)),
        "prior": Predicted(np.full(n, 0.5)),
        "logged": "no propensities in the log",
    }
    return score(Source("log", "users", leaky=leaky), "reward", steps, predictions, ["model"], resamples=200)


def pick(records: list[Record], method: str, metric: str, against: str | None = None) -> Record:
    (found,) = [r for r in records if (r["method"], r["metric"], r["against"]) == (method, metric, against)]
    return found


def test_every_record_has_the_contracts_keys_and_the_same_n() -> None:
    records = table().records
    assert all(tuple(r) == KEYS for r in records)
    assert {r["n"] for r in records} == {400}
    assert json.loads(json.dumps(records, allow_nan=False)) == records


def test_a_difference_is_the_method_minus_the_other_with_its_own_interval() -> None:
    scores = table()
    ours, theirs = pick(scores.records, "model", "reward/log_loss"), pick(scores.records, "prior", "reward/log_loss")
    difference = pick(scores.records, "model", "reward/log_loss", "prior")
    assert difference["value"] == pytest.approx(ours["value"] - theirs["value"])
    assert difference["low"] < difference["value"] < difference["high"] < 0
    assert scores.p_values["reward/log_loss", "model", "prior"] == pytest.approx(2 / 201)
    assert scores.adjusted["reward/log_loss", "model", "prior"] >= 2 / 201


def test_a_method_that_cannot_be_given_is_refused_with_its_reason() -> None:
    records = table().records
    for against in (None, "logged"):
        method = "logged" if against is None else "model"
        refused = pick(records, method, "reward/auc", against)
        assert refused["value"] is refused["low"] is refused["high"] is None
        assert refused["refused"] == "no propensities in the log"


def test_the_leak_mark_passes_through() -> None:
    assert not any(r["leaky"] for r in table().records)
    assert all(r["leaky"] for r in table(leaky=True).records)


def test_predictions_of_other_rows_are_never_compared() -> None:
    steps = Steps(np.array([0, 1]), "binary", rows=np.array([3, 4]))
    source = Source("log", "users")
    with pytest.raises(ValueError, match="other rows"):
        score(source, "reward", steps, {"a": Predicted(np.array([0.1, 0.2]), rows=np.array([3, 5]))})
    with pytest.raises(ValueError, match="shape"):
        score(source, "reward", steps, {"a": Predicted(np.array([0.1, 0.2, 0.3]))})
    with pytest.raises(ValueError, match="no predictions of b"):
        score(source, "reward", steps, {"a": Predicted(np.array([0.1, 0.2]))}, ["b"])


def test_equal_input_and_seed_give_bit_equal_files(tmp_path: Path) -> None:
    save(table().records, tmp_path / "a.json")
    save(table().records, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == table().records
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]
    with pytest.raises(ValueError, match="a record holds"):
        save([{"value": 1}], tmp_path / "c.json")


def test_an_aggregate_over_seeds_has_no_seed_and_the_interval_over_seeds() -> None:
    records = [
        record(Source("log", "users", seed=seed), "model", "reward/auc", Interval(v, 0.0, 1.0), 10)
        for seed, v in enumerate([0.6, 0.7, 0.8])
    ]
    (found,) = aggregate(records)
    assert found["seed"] is None
    assert found["value"] == pytest.approx(0.7)
    assert found["low"] == pytest.approx(0.7 - 4.302653 * 0.1 / np.sqrt(3))
    refused = record(Source("log", "users", seed=9), "model", "reward/auc", Interval(None, None, None, "why"), 10)
    assert aggregate([*records, refused])[0]["refused"] == "why"
