"""Synthetic records and a run's directory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def record(method: str, metric: str, value: float | None, half: float | None = None, **fields: Any) -> dict[str, Any]:
    ends = (None, None) if value is None or half is None else (value - half, value + half)
    return {
        "dataset": "ads",
        "protocol": "users",
        "part": "test",
        "method": method,
        "setting": {},
        "seed": 0,
        "metric": metric,
        "value": value,
        "low": ends[0],
        "high": ends[1],
        "n": 1000,
        "against": None,
        "leaky": False,
        "refused": None,
    } | fields


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """MTORL above trees in log loss (paired), below past-rate in reward AUC, value refused."""
    return [
        record("trees", "action/log_loss", 0.913, 0.012),
        record("prior", "action/log_loss", 1.54, 0.012),
        record("mtorl", "action/log_loss", 0.907, 0.012),
        record("mtorl", "action/log_loss", -0.006, 0.004, against="trees"),
        record("mtorl", "reward/auc", 0.73, 0.005),
        record("past-rate", "reward/auc", 0.737, 0.005),
        record("mtorl", "reward/auc", -0.007, 0.003, against="past-rate"),
        record("mtorl", "value_ips", None, refused="no propensity was logged"),
        record("mtorl", "action/log_loss", 0.92, 0.012, setting={"lambda": 0.4}),
        record("mtorl", "action/log_loss", 0.95, 0.012, setting={"lambda": 1.4}),
    ]


@pytest.fixture
def below() -> list[dict[str, Any]]:
    """MTORL below a floor with a long name on six metrics, and so remarked upon."""
    found = []
    for name in ("log_loss", "accuracy", "f1_macro", "f1_macro_per_step", "precision_macro", "recall_macro"):
        metric, worse = f"action/{name}", 0.03 if name == "log_loss" else -0.03
        found += [record("mtorl", metric, 0.5 + worse, 0.012), record("past-frequencies", metric, 0.5, 0.012)]
        found += [record("mtorl", metric, worse, 0.012, against="past-frequencies")]
    return found


@pytest.fixture
def run(tmp_path: Path, records: list[dict[str, Any]]) -> Path:
    """A run's directory with every file that a page reads."""
    point = {"predicted": 0.2, "observed": 0.21, "low": 0.18, "high": 0.24, "n": 100}
    lines = [
        {"stage": "fit", "epoch": e, "step": 10 * e, "part": part, "metric": "loss", "value": 1 / e}
        for e in range(1, 6)
        for part in ("train", "validation")
    ]
    summary = {
        "users": 50,
        "steps": 600,
        "channels": ["short", "long"],
        "length_histogram": [[10, 30], [15, 20]],
        "channel_share": {"short": 0.7, "long": 0.3},
        "gain_rate_by_channel": {"click": {"short": [0.1, 0.08, 0.12], "long": [0.2, 0.17, 0.23]}},
        "gain_rate_by_step": {"click": [[1, 0.1, 50], [2, 0.12, 50]]},
        "cost_by_channel": {"short": [1.0, 0.9, 1.1], "long": [2.0, 1.8, 2.2]},
        "time_span": None,
    }
    contents: dict[str, Any] = {
        "results.json": records,
        "calibration.json": {
            "reward": [point, point | {"predicted": 0.6, "observed": 0.55, "low": None, "high": None}]
        },
        "summary.json": summary,
        "audit.json": [{"check": "time <overlap>", "verdict": "note", "detail": "declared by protocol users"}],
        "config.json": {"method": "mtorl", "width": 64, "out": str(tmp_path)},
        "manifest.json": {
            "version": "0.1.0",
            "commit": "abc123",
            "machine": "somewhere",
            "command": f"headrace train mtorl --data J --out {tmp_path}",
            "provenance": {"data_fingerprint": "d1d1", "split_fingerprint": "5e5e"},
        },
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


@pytest.fixture
def make() -> Callable[..., dict[str, Any]]:
    """Makes one record."""
    return record
