"""Comparisons: what cells share is fitted once and is bit for bit what each would have fitted; intervals by hand."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from item_logs import TASKS, by_users, item_log

from headrace.errors import UserError
from headrace.evaluate.metrics import Predicted, Steps
from headrace.evaluate.results import KEYS, Source
from headrace.predict.comparing import cells, compare, expected_s, fit_cells, rivals
from headrace.predict.rmtl import PRESETS, RMTL, RMTLConfig, prepare

BASE: dict[str, Any] = dataclasses.asdict(RMTLConfig(**(PRESETS["tiny"] | {"tasks": TASKS})))
METHODS = ("rmtl-ple", "ple-shuffled", "ple-return", "ple")


def test_cells_that_share_stages_are_what_they_would_have_been_alone(tmp_path: Path):
    log = item_log(tmp_path / "j")
    split, prepared = by_users(log), prepare(log, by_users(log), RMTLConfig(**BASE), ("test",))
    plan = cells(METHODS, 1, BASE, tmp_path / "cells")
    assert [cell.method for cell in plan] == ["ple", "rmtl-ple", "ple-shuffled", "ple-return"]
    assert expected_s(prepared, plan) > 0
    for _ in fit_cells(plan, log, split, prepared, lambda s: s, {}):
        pass
    for cell in plan:
        alone = tmp_path / "alone" / cell.method
        RMTL(cell.config).fit(log, split, alone, progress=False)
        for name in ("model.safetensors", "metrics.jsonl", "transforms.json"):
            assert (alone / name).read_bytes() == (cell.folder / name).read_bytes(), (cell.method, name)
    assert expected_s(prepared, plan) == 0
    before = {cell.method: (cell.folder / "manifest.json").stat().st_mtime_ns for cell in plan}
    for _ in fit_cells(plan, log, split, prepared, lambda s: s, {}):
        pass
    assert before == {cell.method: (cell.folder / "manifest.json").stat().st_mtime_ns for cell in plan}
    other = cells(METHODS, 1, BASE | {"dropout": 0.5}, tmp_path / "cells")
    with pytest.raises(UserError, match="other settings"):
        list(fit_cells(other, log, split, prepared, lambda s: s, {}))


def test_a_difference_of_a_method_with_its_copy_is_zero_and_a_better_one_is_seen():
    rng = np.random.default_rng(0)
    n = 4_000
    p = rng.uniform(0.1, 0.9, n)
    steps = Steps((rng.random(n) < p).astype(float), "binary", users=np.arange(n) // 4, sessions=np.arange(n) // 2)
    good = [Predicted(p), Predicted(np.clip(p + 0.01, 0, 1))]
    poor = [Predicted(np.clip(p + rng.normal(0, 0.2, n), 0.01, 0.99)) for _ in range(2)]
    scored = {
        "ctr": (steps, {"rmtl-ple": good, "ple-constant": poor, "ple": good, "prior": [Predicted(np.full(n, 0.5))]})
    }
    records, p_values = compare(Source("toy", "time"), scored, rivals)
    assert all(tuple(r) == KEYS for r in records)
    of = {(r["metric"], r["method"], r["against"]): r for r in records if r["seed"] is None}
    same = of["ctr/auc", "rmtl-ple", "ple"]
    assert same["value"] == 0 and same["low"] == same["high"] == 0
    better = of["ctr/log_loss", "rmtl-ple", "ple-constant"]
    assert better["high"] < 0 and p_values["ctr/log_loss", "rmtl-ple", "ple-constant"] < 0.1  # of many
    assert ("ctr/session_log_loss", "rmtl-ple", None) in of
    alone = [r["value"] for r in records if r["seed"] is not None and r["method"] == "ple" and r["metric"] == "ctr/auc"]
    assert len(alone) == 2 and of["ctr/auc", "ple", None]["value"] == pytest.approx(np.mean(alone))
    constant = of["ctr/auc", "prior", None]
    assert constant["value"] == constant["low"] == constant["high"] == 0.5
