"""Demands on a plan: read from a file, resolved to micros, and refused by name where they clash."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.campaign.constraints import (
    ChannelLimits,
    Constraints,
    bounds_of,
    limits_of,
    load,
    pace,
    with_flags,
)
from headrace.campaign.feasible import check
from headrace.campaign.money import MICROS
from headrace.campaign.problem import Problem
from headrace.errors import Refused, UserError

CHANNELS = ("search", "social", "video")


def problem_of(wanted: Constraints, users: int = 100, price: float = 1.0) -> tuple[Problem, list]:
    prices = np.full((users, len(CHANNELS)), price * MICROS)
    limits = limits_of(wanted, CHANNELS)
    lower, upper = bounds_of(limits, prices)
    return Problem(np.ones_like(prices), prices, wanted.total_micros, lower, upper, wanted.per_user), limits


def refusal(wanted: Constraints, **kwargs: float) -> str:
    problem, limits = problem_of(wanted, **kwargs)
    with pytest.raises(Refused) as said:
        check(problem, limits)
    return str(said.value)


def test_a_file_and_flags_give_one_set_of_limits(tmp_path: Path):
    file = tmp_path / "plan.toml"
    file.write_text('budget = 100\nper_user = 2\n[channels.search]\ncap = "30%"\nfloor = 10\n', encoding="utf-8")
    values = load(file)
    channels = with_flags(values["channels"], "cap", ("search=20", "video=50%"), "--cap")
    wanted = Constraints(**(values | {"channels": channels}))
    lower, upper = bounds_of(limits_of(wanted, CHANNELS), np.ones((1, 3)))
    assert lower.tolist() == [10 * MICROS, 0, 0]
    assert upper.tolist() == [20 * MICROS, np.inf, 50 * MICROS]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bugdet = 1", "did you mean 'budget'"),
        ("[channels.search]\nflor = 1", "did you mean 'floor'"),
        ("days = 1.5", "a whole number"),
        ("budget = true", "a number"),
        ("channels = 3", "tables"),
        ("budget =", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_names_its_place(text: str, says: str, tmp_path: Path):
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        load(tmp_path / "c.toml")


def test_an_unknown_channel_proposes_the_nearest():
    with pytest.raises(UserError, match="did you mean 'social'"):
        limits_of(Constraints(1, channels={"socal": ChannelLimits(cap=1)}), CHANNELS)


@pytest.mark.parametrize("amount", ["-1", "much", "nan"])
def test_an_amount_that_is_none_is_an_error(amount: str):
    with pytest.raises(UserError, match="floor of search"):
        limits_of(Constraints(1, channels={"search": ChannelLimits(floor=amount)}), CHANNELS)


def test_floors_above_the_budget_name_both_and_the_smallest_change():
    floors = {"search": ChannelLimits(floor=6), "social": ChannelLimits(floor=7)}
    said = refusal(Constraints(10, channels=floors))
    assert "budget (10)" in said and "floor of search (6)" in said and "floor of social (7)" in said
    assert "raise budget by 3 to 13" in said
    assert "lower floor of search by 3 to 3" in said


def test_a_floor_above_what_all_users_cost_is_lowered_to_that():
    said = refusal(Constraints(1_000, channels={"search": ChannelLimits(floor=250)}))
    assert "floor of search (250) is more than these users can be made to cost" in said
    assert "lower floor of search by 150 to 100" in said


def test_floors_that_need_the_same_users_clash():
    floors = {name: ChannelLimits(floor=70) for name in ("search", "video")}
    said = refusal(Constraints(1_000, channels=floors))
    assert "cannot be kept together" in said and "by 40 to 30" in said
    check(*problem_of(Constraints(1_000, per_user=2, channels=floors)))


def test_a_floor_above_its_own_cap_is_refused_and_the_daily_budget_is_named():
    said = refusal(Constraints(100, channels={"video": ChannelLimits(floor=30, cap="20%")}))
    assert "floor of video (30)" in said and "cap of video (20)" in said
    said = refusal(Constraints(100, days=5, daily_budget=4, channels={"video": ChannelLimits(floor=30)}))
    assert "daily budget (5 days of 4) (20)" in said


def test_demands_that_can_be_met_pass():
    floors = {"search": ChannelLimits(floor=5), "social": ChannelLimits(frozen=5), "video": ChannelLimits(cap=0)}
    check(*problem_of(Constraints(10, channels=floors)))


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 5), st.integers(0, 60), st.booleans())
def test_no_day_spends_more_than_it_may(prices: list[int], days: int, daily: int, even: bool):
    day = pace(np.array(prices, dtype=float), days, daily, even)
    for d in range(days):
        assert np.array(prices)[day == d].sum() <= daily
    if sum(prices) <= daily:
        assert (day >= 0).all()


def test_even_days_differ_by_less_than_an_exposure_and_soon_fills_the_first_days():
    prices = np.random.default_rng(0).integers(1, 9, 500).astype(float)
    spent = np.bincount(pace(prices, 7, 1e9, even=True), prices)
    assert len(spent) == 7 and np.ptp(spent) <= 9
    soon = np.bincount(pace(prices, 7, 1_000.0, even=False), prices)
    assert soon[0] > 990 and len(soon) == int(np.ceil(prices.sum() / 1_000))
    assert Constraints(10, days=3, daily_budget=2).total_micros == 6 * MICROS
    assert Constraints(10, days=3).day_micros == 10 * MICROS


def test_what_may_be_spent_is_rounded_down_and_what_must_be_up():
    channels = {
        "a": ChannelLimits(cap="33.33333%", floor=0.0000004),
        "b": ChannelLimits(cap=0.5000009, floor="0.00003%"),
    }
    limits = limits_of(Constraints(1.0000006, channels=channels), ("a", "b"))
    assert {limit.name: limit.micros for limit in limits} == {
        "budget": 1_000_000,
        "cap of a": 333_333,
        "floor of a": 1,
        "cap of b": 500_000,
        "floor of b": 1,
    }
    assert Constraints(10, days=2, daily_budget=3.3333336).total_micros == 6_666_666
    for wrong in (Constraints(1e300), Constraints(1, daily_budget=1e300)):
        with pytest.raises(UserError, match=r"budget is 1e\+300, expected an amount from 0 to 1,000,000,000"):
            limits_of(wrong, ())
