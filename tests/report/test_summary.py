"""The summary of journeys, against counts by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.journeys.schema import Cost, Gain, LogSchema
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.report import summary as module
from headrace.report.figures import svg
from headrace.report.journey_figures import journey_figures
from headrace.report.summary import summarise


@pytest.fixture
def journeys(tmp_path: Path) -> Journeys:
    schema = LogSchema(
        "small",
        user="u",
        time="t",
        channel="c",
        channels=("a", "b"),
        gains=(Gain("click"), Gain("watched", "continuous"), Gain("outcome", "classes")),
        cost=Cost("cost", "EUR"),
    )
    steps: dict[str, Any] = {
        "time": np.array([0.0, 1000.0, 2000.0, 0.0, 86_400_000.0]),
        "channel": np.array([0, 0, 1, 1, 0]),
        "gain/click": np.array([1.0, 0.0, 1.0, 0.0, np.nan]),
        "gain/watched": np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
        "gain/outcome": np.array([0, 1, 1, 2, 0]),
        "cost": np.array([1.0, 1.0, 2.0, 4.0, 1.0]),
    }
    categories = {"gain/outcome": ["left", "bought", "asked"]}
    with JourneysWriter(tmp_path / "j", schema, categories) as writer:
        writer.append(np.array([7, 9]), np.array([3, 2]), steps)
        return writer.close()


def test_counts_shares_and_rates_are_those_of_the_log(journeys: Journeys) -> None:
    found = summarise(journeys)
    assert (found["users"], found["steps"], found["channels"]) == (2, 5, ["a", "b"])
    assert found["length_histogram"] == [[2, 1], [3, 1]]
    assert found["channel_share"] == {"a": 0.6, "b": 0.4}
    assert found["gain_rate"]["click"][0] == 0.5
    assert found["gain_rate_by_channel"]["click"]["a"][0] == 0.5
    assert found["gain_rate_by_channel"]["watched"]["b"][0] == 3.5
    assert found["gain_rate"]["outcome = bought"][0] == 0.4
    assert found["cost_by_channel"]["b"][0] == 3.0
    assert found["cost_unit"] == "EUR"
    assert found["time_span"] == {"from": "1970-01-01 00:00:00", "to": "1970-01-02 00:00:00", "unit": "UTC"}


def test_intervals_hold_their_rate_and_stay_in_bounds(journeys: Journeys) -> None:
    for rates in summarise(journeys)["gain_rate_by_channel"]["click"].values():
        rate, low, high = rates
        assert 0 <= low <= rate <= high <= 1


def test_the_rate_along_the_journey_leaves_out_what_few_reach(
    journeys: Journeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert summarise(journeys)["gain_rate_by_step"]["click"] == []
    monkeypatch.setattr(module, "FEWEST", 1)
    assert summarise(journeys)["gain_rate_by_step"]["click"] == [[1, 0.5, 2], [2, 0.0, 1], [3, 1.0, 1]]


def test_a_summary_can_be_drawn(journeys: Journeys) -> None:
    assert all("<svg" in svg(chart) for chart in journey_figures(summarise(journeys)))


def test_the_interval_covers_the_mean_of_clustered_users_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        taste = rng.beta(2, 6, 200)
        user = np.repeat(np.arange(200), 10)
        clicks = (rng.random(2000) < taste[user]).astype(float)
        _, low, high = module._rate(clicks, np.ones(2000, bool), user, 200, "binary")
        hits += low <= 0.25 <= high
    assert 0.91 <= hits / 300 <= 0.98
