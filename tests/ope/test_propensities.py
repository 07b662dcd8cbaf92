"""Propensities that cannot be so are found out, and those that can are not."""

from pathlib import Path

import numpy as np
import pytest
from logs import drawn_log

from headrace.journeys.store import Journeys
from headrace.ope.intervals import groups_of
from headrace.ope.propensities import Propensities, _not_by_lot, calibration_error, propensities
from headrace.ope.valuation import Candidate, value

SHARES = np.array([0.5, 0.3, 0.2])
BY_HOUR = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])


def of(log: Journeys, way: str | np.ndarray | None, rows: np.ndarray | None = None) -> Propensities:
    rows = np.arange(log.n_steps) if rows is None else rows
    codes, _ = groups_of(log.user_of_step[rows], len(rows))
    return propensities(log, rows, codes, way)


@pytest.fixture(scope="module")
def by_lot(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return drawn_log(tmp_path_factory.mktemp("lot"), np.stack([SHARES, SHARES]))


@pytest.fixture(scope="module")
def by_hour(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return drawn_log(tmp_path_factory.mktemp("hour"), BY_HOUR)


def test_logged_ones_are_the_logs_own_and_fit(by_hour: Journeys) -> None:
    found = of(by_hour, "logged")
    late = (np.asarray(by_hour.feature("hour")) >= 12).astype(int)
    assert np.array_equal(found.values, BY_HOUR[late, np.asarray(by_hour.channel)])
    assert found.doubt is None and found.way == of(by_hour, None).way == "logged"


def test_a_lots_propensity_is_the_channels_share_of_the_whole_log(by_lot: Journeys) -> None:
    rows = np.arange(0, by_lot.n_steps, 3)
    found = of(by_lot, "random", rows)
    shares = np.bincount(by_lot.channel, minlength=3) / by_lot.n_steps
    assert np.array_equal(found.values, shares[np.asarray(by_lot.channel)[rows]])
    assert found.doubt is None


def test_a_channel_that_follows_the_hour_was_not_drawn_by_lot(by_hour: Journeys) -> None:
    found = of(by_hour, "random")
    assert found.doubt is not None and "not drawn by lot" in found.doubt
    alike = np.full((by_hour.n_steps, 3), 1 / 3)
    refused = value({"uniform": Candidate(alike)}, by_hour, propensity="random", estimators=["ips", "snips"])["uniform"]
    assert all(e.value is None and e.refused == found.doubt for e in refused.estimates.values())


def test_estimated_ones_come_near_the_true_ones_where_rows_are_many(tmp_path: Path) -> None:
    log = drawn_log(tmp_path, BY_HOUR, users=1_000)
    found, true = of(log, "estimated"), of(log, "logged")
    assert found.doubt is None and found.calibration_error is not None and found.calibration_error < 0.05
    assert np.abs(found.values - true.values).mean() < 0.05


@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_propensities_that_are_too_small_are_doubted(by_hour: Journeys, factor: float) -> None:
    true = of(by_hour, "logged").values
    found = of(by_hour, true * factor)
    assert found.doubt is not None and "do not fit the log" in found.doubt and "leaves decisions out" in found.doubt
    assert found.balance["a"] == pytest.approx(1 / factor, rel=0.1)


def test_a_constant_that_is_no_share_is_doubted(by_lot: Journeys) -> None:
    assert "do not fit" in str(of(by_lot, np.full(by_lot.n_steps, 1 / 3)).doubt)


def test_a_log_that_leaves_out_the_decisions_to_show_nothing_is_doubted(by_lot: Journeys) -> None:
    shown = 0.6  # so the log says of each channel that it was shown with .6 of its share
    found = of(by_lot, shown * SHARES[np.asarray(by_lot.channel)])
    assert found.doubt is not None and "such as those to show nothing" in found.doubt


def test_calibration_error_by_hand() -> None:
    action = np.array([0] * 80 + [1] * 20)
    assert calibration_error(np.tile([0.8, 0.2], (100, 1)), action) == pytest.approx(
        np.mean([0.2] * 16 + [0.8] * 4), abs=1e-12
    )


def test_estimated_ones_that_are_too_large_are_doubted_too(by_lot: Journeys, monkeypatch: pytest.MonkeyPatch) -> None:
    sure = np.full((by_lot.n_steps, 3), 0.05)
    sure[np.arange(by_lot.n_steps), np.asarray(by_lot.channel)] = 0.9
    monkeypatch.setattr("headrace.ope.propensities.propensity_model", lambda *_, **__: sure)
    found = of(by_lot, "estimated")
    assert found.doubt is not None and "do not fit the log" in found.doubt
    assert of(by_lot, np.full(by_lot.n_steps, 0.9)).doubt is None, "logged ones may lack support where given"


def test_a_gain_below_the_slack_is_let_pass_and_one_above_it_is_not(by_lot: Journeys) -> None:
    codes = np.arange(1_000)
    assert _not_by_lot(np.full(1_000, 0.0012), codes) is None
    assert "not drawn by lot" in str(_not_by_lot(np.full(1_000, 0.0013), codes))
    noise = np.where(codes % 2 == 0, 1.0, -0.9)  # a mean of .05, its standard error .03
    assert _not_by_lot(noise, codes) is None
