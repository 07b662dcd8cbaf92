"""A scenario file is read whole, or refused in one line that names what to correct."""

import dataclasses
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from headrace.errors import UserError
from headrace.simulate.ads import AdsWorld
from headrace.simulate.scenario import Scenario


def test_packaged_scenario_loads_by_name_and_by_path() -> None:
    packaged = resources.files("headrace.simulate") / "scenarios" / "ads.toml"
    with resources.as_file(packaged) as path:
        assert Scenario.load("ads") == Scenario.load(path)


def test_scenario_written_and_read_again_is_equal(tmp_path: Path) -> None:
    ads = Scenario.load("ads")
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(ads.to_dict()))
    again = Scenario.load(tmp_path / "mine.toml")
    assert again == ads
    assert again.sha256 == ads.sha256
    assert dataclasses.replace(ads, days=15).sha256 != ads.sha256


def _set(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("currencie", to="EUR"), "unknown key 'currencie', did you mean 'currency'?"),
        (_set("users", "clik_spread", to=1.0), "users: unknown key 'clik_spread', did you mean 'click_spread'?"),
        (_set("ads", "channels", 1, "clickrate", to=0.1), "channels[1]: unknown key 'clickrate'"),
        (_set("ads", "channels", 0, "click_rate", to=1.5), "ads.channels search click_rate is 1.5, expected"),
        (_set("ads", "channels", 0, "click_rate", to="high"), "'high' where float was expected"),
        (_set("ads", "channels", 0, "cost_per_click", to=-1), "search cost_per_click is -1, expected 0 to inf"),
        (_set("ads", "channels", 0, "topics", to=[1, 2]), "search number of topics is 2, expected 6"),
        (
            _set("ads", "channels", 0, "lifts", to={"vidio": 1}),
            "unknown channel in lifts 'vidio', did you mean 'video'?",
        ),
        (_set("ads", "channels", 0, "lifts", to={"search": 1}), "unknown channel in lifts 'search'"),
        (_set("ads", "channels", 1, "name", to="search"), "a name stands twice in channels"),
        (_set("topics", to=["sport"] * 6), "a name stands twice in topics"),
        (_set("ads", "saturation_half_life_days", to=0), "saturation_half_life_days is 0"),
        (_set("users", "activity", 0, "share", to=0.9), "sum of users.activity share is 1.7, expected 1"),
        (_set("hours", to=[1] * 23), "number of hours is 23, expected 24"),
        (_set("days", to=True), "days: True where int was expected"),
        (_set("start", to="soon"), "start is 'soon', expected a date"),
        (_set("users", to=3), "3 where a table of keys was expected"),
        (lambda values: values["ads"].pop("view_through"), "ads: no view_through; add the key"),
    ],
)
def test_mistake_in_a_scenario_is_told_in_one_line(change: Callable[[Any], Any], message: str) -> None:
    values = Scenario.load("ads").to_dict()
    values = {**values, "users": {**values["users"]}, "ads": {**values["ads"]}}
    for section, key in (("ads", "channels"), ("users", "activity")):
        values[section][key] = [dict(entry) for entry in values[section][key]]
    change(values)
    with pytest.raises(UserError) as error:
        Scenario.from_dict(values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_click_rate_out_of_reach_is_told_in_one_line() -> None:
    scenario = Scenario.load("ads")
    extreme = dataclasses.replace(scenario, ads=dataclasses.replace(scenario.ads, taste_weight=1e6))
    with pytest.raises(UserError, match="channels search can't reach its click_rate") as error:
        AdsWorld(extreme, 5, seed=0)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="number of topics is 251, expected 1 to 250"):
        dataclasses.replace(scenario, topics=tuple(f"topic {k}" for k in range(251)))


def test_unknown_scenario_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown scenario 'asd', did you mean 'ads'"):
        Scenario.load("asd")
    with pytest.raises(UserError, match="no such scenario file"):
        Scenario.load(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(UserError, match="not valid TOML"):
        Scenario.load(tmp_path / "broken.toml")


def test_unknown_channel_proposes_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'search'"):
        Scenario.load("ads").channel("serch")
