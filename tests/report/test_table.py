"""Tables: what stands in a cell, what is marked, and in which order."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from headrace.errors import UserError
from headrace.report import render
from headrace.report.names import direction
from headrace.report.records import load
from headrace.report.standing import answer, compare, headlines
from headrace.report.table import Cell, Table, differences_table, results_table, results_tables

Records = list[dict[str, Any]]
Make = Callable[..., dict[str, Any]]


def cell(table: Table, row: str, metric: str) -> Cell:
    return next(r for r in table.rows if r.label == row).cells[table.columns.index(metric)]


def test_the_learnt_model_stands_first_and_floors_follow_from_plain_to_strong(records: Records) -> None:
    assert [row.label for row in results_table(records).rows] == ["MTORL", "prior", "past-rate", "trees"]


def test_a_cell_is_its_value_and_interval_and_the_best_is_marked(records: Records) -> None:
    table = results_table(records)
    assert render.figure(cell(table, "MTORL", "action/log_loss"), table.rows[0]) == "0.907 [0.895, 0.919] ★"
    assert not cell(table, "trees", "action/log_loss").best


def test_a_model_below_its_floor_is_reported_as_such(records: Records) -> None:
    table = results_table(records)
    assert cell(table, "MTORL", "reward/auc").remark == "below floor: past-rate"
    assert cell(table, "MTORL", "action/log_loss").remark == ""
    assert "below floor: past-rate" in render.markdown(table)
    assert "below floor: past-rate" in render.html(table)


def test_a_worse_point_value_that_nobody_paired_is_below_its_floor(make: Make) -> None:
    table = results_table([make("mtorl", "reward/auc", 0.70), make("trees", "reward/auc", 0.71)])
    assert cell(table, "MTORL", "reward/auc").remark == "below floor: trees"


def test_a_paired_difference_that_cannot_tell_is_not_called_below(make: Make) -> None:
    held = [make("mtorl", "reward/auc", 0.70), make("trees", "reward/auc", 0.71)]
    held.append(make("mtorl", "reward/auc", -0.01, 0.02, against="trees"))
    assert cell(results_table(held), "MTORL", "reward/auc").remark == ""


def test_a_refused_figure_says_so_with_its_reason_in_a_footnote(records: Records) -> None:
    table = results_table(records)
    refused = cell(table, "MTORL", "value_ips")
    assert (refused.value, refused.note) == ("refused", 1)
    assert table.footnotes == ("Refused: no propensity was logged",)
    assert "(1) Refused: no propensity was logged" in render.markdown(table)


def test_a_leaky_figure_says_leaky_and_is_not_the_best(make: Make) -> None:
    held = [make("mtorl", "reward/auc", 0.99, leaky=True), make("trees", "reward/auc", 0.7)]
    table = results_table(held)
    assert not cell(table, "MTORL", "reward/auc").best
    for text in (render.markdown(table), render.html(table), terminal(table)):
        assert text.count("LEAKY") == 1


def test_differences_say_better_worse_or_cannot_tell(records: Records, make: Make) -> None:
    records.append(make("mtorl", "action/log_loss", -0.001, 0.004, against="prior"))
    table = differences_table(records)
    assert (
        render.figure(cell(table, "MTORL minus trees", "action/log_loss"), table.rows[0]) == "-0.006 [-0.010, -0.002]"
    )
    assert cell(table, "MTORL minus trees", "action/log_loss").remark == "better"
    assert cell(table, "MTORL minus prior", "action/log_loss").remark == "cannot tell"
    assert cell(table, "MTORL minus past-rate", "reward/auc").remark == "worse"


def test_a_metric_without_a_better_way_gets_no_verdict_of_better(make: Make) -> None:
    assert compare(make("a", "spend", 5.0, 1.0, against="b")) == "higher"
    assert direction("ess") == 0


@pytest.mark.parametrize("metric", ["action/log_loss", "ece", "reward/mse", "ctcvr/session_log_loss"])
def test_errors_are_better_down(metric: str) -> None:
    assert direction(metric) == -1


@pytest.mark.parametrize("metric", ["reward/auc", "action/f1_macro_per_step", "action/accuracy", "value_snips"])
def test_scores_are_better_up(metric: str) -> None:
    assert direction(metric) == 1


def test_the_aggregate_over_seeds_is_preferred(make: Make) -> None:
    held = [make("mtorl", "reward/auc", 0.7, seed=s) for s in range(3)] + [make("mtorl", "reward/auc", 0.72, seed=None)]
    assert results_table(held).rows[0].cells[0].value == "0.720"


def test_seeds_without_an_aggregate_are_averaged_and_no_interval_is_claimed(make: Make) -> None:
    table = results_table([make("mtorl", "reward/auc", 0.7 + 0.1 * s, 0.01, seed=s) for s in range(3)])
    assert (table.rows[0].cells[0].value, table.rows[0].cells[0].interval) == ("0.800", "")
    assert table.footnotes == ("Mean of 3 seeds; no interval was recorded.",)


def test_rows_that_score_different_numbers_of_steps_are_told(make: Make) -> None:
    table = results_table([make("mtorl", "reward/auc", 0.7, n=10), make("trees", "reward/auc", 0.7, n=1200)])
    assert "n is 10 to 1,200" in table.footnotes[0]


def test_tables_are_apart_by_target_and_protocol(records: Records, make: Make) -> None:
    records.append(make("mtorl", "reward/auc", 0.9, protocol="paper", leaky=True))
    titles = [(t.title, t.kind) for t in results_tables(records)]
    assert ("Next channel: ads, protocol users, test part", "results") in titles
    assert ("Next channel: ads, protocol users, test part: differences", "differences") in titles
    assert ("Reward, foreseen: ads, protocol paper, test part", "results") in titles
    with pytest.raises(UserError, match="one dataset and protocol"):
        results_table(records)


def test_the_answer_is_yes_only_by_a_paired_interval_without_zero(make: Make) -> None:
    measures = [make("mtorl", "action/log_loss", 0.9, 0.01), make("trees", "action/log_loss", 0.95, 0.01)]
    assert answer(headlines(measures, [])) == "cannot tell"
    pair = make("mtorl", "action/log_loss", -0.05, 0.01, against="trees")
    assert answer(headlines(measures, [pair])) == "yes"
    assert answer(headlines(measures, [pair | {"high": 0.01}])) == "cannot tell"
    assert answer(headlines([measures[0] | {"leaky": True}, measures[1]], [pair])) == "leaky"
    assert answer(headlines([measures[0] | {"value": 0.99}, measures[1]], [])) == "no"


@pytest.mark.parametrize("wide", [40, 80, 160])
def test_a_terminal_table_keeps_to_the_width_where_one_column_fits(records: Records, wide: int) -> None:
    text = terminal(results_table(records), wide)
    assert max(len(line) for line in text.splitlines()) <= max(wide, 45)
    assert "0.907 [0.895, 0.919]" in text


def test_names_are_escaped_in_html_and_markdown(make: Make) -> None:
    table = results_table([make("<b>|x", "reward/auc", 0.7)])
    assert "<b>|x" not in render.html(table)
    assert "<b>\\|x" in render.markdown(table)


def test_a_broken_results_file_is_the_users_to_mend(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"a": 1}')
    with pytest.raises(UserError, match="expected a list of records"):
        load(path)
    path.write_text(json.dumps([{"metric": "x"}]))
    with pytest.raises(UserError, match="record 0 has no dataset"):
        load(path)
    path.write_text(json.dumps([make("mtorl", "reward/auc", float("nan"))]))
    assert load(path)[0]["refused"] == "not a finite number"


def terminal(table: Table, wide: int = 120) -> str:
    console = Console(width=wide, force_terminal=False, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(render.Terminal(table))
    return capture.get()
