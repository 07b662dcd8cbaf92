"""Charts: drawn offline to PNG and SVG, with every method on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import UserError
from headrace.report import figures
from headrace.report.journey_figures import journey_figures

Records = list[dict[str, Any]]


def test_a_chart_is_saved_as_png_and_svg(records: Records, tmp_path: Path) -> None:
    chart = figures.metric_dots(records, "action/log_loss")
    assert figures.save(chart, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in figures.save(chart, tmp_path / "a.svg").read_text()
    with pytest.raises(UserError, match=r"\.png or \.svg"):
        figures.save(chart, tmp_path / "a.pdf")


def test_dots_show_every_method_and_its_figure(records: Records) -> None:
    text = figures.svg(figures.metric_dots(records, "action/log_loss"))
    for part in ("MTORL", "trees", "prior", "0.907", "0.913", "1.540"):
        assert f">{part}<" in text
    assert "less is better" in text


def test_a_refused_metric_has_nothing_to_draw(records: Records) -> None:
    with pytest.raises(UserError, match="no figure of value_ips"):
        figures.metric_dots(records, "value_ips")


def test_training_curves_are_one_chart_a_stage_and_metric_and_survive_divergence() -> None:
    line = {"stage": "fit", "step": 1, "part": "train", "metric": "loss", "value": 1.0}
    lines = [line | {"epoch": e, "value": v} for e, v in enumerate((2.0, 1.5, float("nan")))]
    lines += [x | {"part": "validation"} for x in lines] + [line | {"epoch": 0, "stage": "pretrain", "metric": "mse"}]
    made = figures.training_curves(lines)
    texts = [figures.svg(chart) for chart in made]
    assert len(texts) == 2
    assert ">Loss, stage fit<" in texts[0]
    assert "validation is best at epoch 1: 1.5" in texts[0]


def test_a_sweep_takes_numbers_and_names(records: Records, make: Callable[..., dict[str, Any]]) -> None:
    assert ">Log loss by lambda<" in figures.svg(figures.sweep(records, "action/log_loss", "lambda"))
    for method in ("mtorl", "iql"):
        records += [
            make(method, "reward/auc", v, 0.01, setting={"without": k}) for k, v in (("tcn", 0.7), ("none", 0.72))
        ]
    text = figures.svg(figures.sweep(records, "reward/auc", "without"))
    for part in ("tcn", "none", "MTORL", "IQL"):
        assert f">{part}<" in text
    with pytest.raises(UserError, match="setting 'mu'"):
        figures.sweep(records, "reward/auc", "mu")


def test_calibration_draws_points_without_intervals_too() -> None:
    points = [{"predicted": 0.1, "observed": 0.12, "low": None, "high": None, "n": 3}]
    assert "<svg" in figures.svg(figures.calibration(points, "Reward"))


def test_journeys_with_many_channels_and_long_tails_stay_readable() -> None:
    summary = {
        "length_histogram": [[i, 1000 - i] for i in range(1, 100)] + [[9000, 1]],
        "channel_share": {f"item {i}": 1 / (i + 1) for i in range(80)},
    }
    texts = [figures.svg(chart) for chart in journey_figures(summary)]
    assert "longer than 98 steps are not drawn" in texts[0]
    assert "the 20 most used of 80 channels" in texts[1]
    assert ">item 25<" not in texts[1]


def test_differences_keep_their_order_and_say_which_way_the_interval_lies() -> None:
    found = [("worse", 0.2, 0.1, 0.3), ("better", -0.2, -0.3, -0.1), ("alike", 0.0, -0.1, 0.1)]
    values = [{"name": n, "panel": p, "value": v, "low": lo, "high": hi} for p in "ab" for n, v, lo, hi in found]
    made = figures.differences(values, "Log loss", "minus the default's")
    kinds = {v["name"]: v["kind"] for rows in made.to_dict()["datasets"].values() for v in rows}
    assert kinds == {"worse": "higher", "better": "lower", "alike": "not told apart"}
    text = figures.svg(made)
    places = [text.index(f">{name}<") for name, *_ in found]
    assert places == sorted(places)
    for part in ("Log loss", "a", "b", "lower", "higher", "not told apart"):
        assert f">{part}<" in text
