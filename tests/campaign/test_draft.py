"""Drafts: every demand kept in whole micros, exploration a lottery, the same seed the same plan."""

import numpy as np
import polars as pl
import pytest

from headrace.campaign.constraints import ChannelLimits, Constraints
from headrace.campaign.draft import Draft, Offer, draft
from headrace.campaign.money import MICROS
from headrace.errors import Refused, UserError

CHANNELS = ("search", "social", "video")
USERS = 400


def offer(price: float = 1.0, users: int = USERS, seed: int = 0) -> Offer:
    rng = np.random.default_rng(seed)
    gains = rng.beta(1, 10, (users, 3))
    costs = rng.gamma(4, 0.03, (users, 3))
    return Offer(np.arange(users) + 1_000, CHANNELS, gains, costs, price, np.array([0.2, 0.3, 0.5]))


def spend_of(found: Draft, **of: object) -> int:
    table = found.table
    for name, value in of.items():
        table = table.filter(pl.col(name) == value)
    return int(table["price_micros"].sum())


def test_every_demand_is_kept():
    channels = {"search": ChannelLimits(cap="20%"), "social": ChannelLimits(frozen=0), "video": ChannelLimits(floor=6)}
    wanted = Constraints(10, days=4, daily_budget=2.7, per_user=2, exploration=0.1, channels=channels)
    found = draft(offer(), wanted)
    assert spend_of(found) <= 10 * MICROS
    assert spend_of(found, channel="search") <= 2 * MICROS
    assert spend_of(found, channel="social") == 0
    assert spend_of(found, channel="video") >= 6 * MICROS - found.short.sum()
    assert found.short.sum() < 0.5 * MICROS
    assert spend_of(found, explores=True) >= 1 * MICROS
    for day in range(4):
        assert 0 < spend_of(found, day=day) <= 2.7 * MICROS
    assert found.table.group_by("user").len()["len"].max() <= 2
    assert not found.table.select("user", "channel").is_duplicated().any()


def test_prices_are_the_expected_costs_in_whole_micros_rounded_up():
    found = draft(offer(price=2.5), Constraints(10))
    exact = found.table["expected_cost"].to_numpy() * 2.5 * MICROS
    assert (found.table["price_micros"].to_numpy() >= exact - 1e-3).all()
    assert (found.table["price_micros"].to_numpy() < exact + 1).all()


def test_exploration_meets_users_and_channels_as_the_lottery_says():
    found = draft(offer(users=6_000), Constraints(500, exploration=0.5))
    lot = found.table.filter(pl.col("explores"))
    shares = lot["channel"].value_counts(normalize=True)
    share = dict(zip(shares["channel"], shares["proportion"], strict=True))
    assert [share[c] for c in CHANNELS] == pytest.approx([0.2, 0.3, 0.5], abs=0.04)
    gains = offer(users=6_000).gains @ np.array([0.2, 0.3, 0.5])
    assert lot["expected_gain"].mean() == pytest.approx(gains.mean(), rel=0.1)  # no better than everyone


def test_exploration_that_all_users_cannot_pay_for_is_refused_with_the_share_that_can_be():
    with pytest.raises(Refused, match=r"exploration.*lower exploration to 0"):
        draft(offer(), Constraints(1_000, exploration=0.9))


def test_demands_that_clash_are_refused():
    with pytest.raises(Refused, match="raise budget by 2 to 12"):
        draft(offer(), Constraints(10, channels={c: ChannelLimits(floor=6) for c in CHANNELS[:2]}))


def test_the_same_seed_gives_the_same_draft_and_another_one_another_lottery():
    wanted = Constraints(10, exploration=0.2, days=3)
    first, again, other = (draft(offer(), wanted, seed) for seed in (0, 0, 1))
    assert first.table.equals(again.table)
    assert not first.table.equals(other.table)
    assert first.curve.gain.tolist() == again.curve.gain.tolist()


def test_the_curve_at_the_plan_s_budget_is_the_plan():
    found = draft(offer(), Constraints(10, exploration=0.1))
    at = found.factors.index(1.0)
    assert found.curve.budget[at] == pytest.approx(10 * MICROS)
    assert found.table["expected_gain"].sum() == pytest.approx(found.curve.gain[at], rel=0.01)


def test_soon_puts_the_best_exposures_first():
    found = draft(offer(), Constraints(10, days=2, daily_budget=6, pacing="soon"))
    ratio = found.table.group_by("day").agg(pl.col("expected_gain").sum() / pl.col("price_micros").sum()).sort("day")
    assert ratio["expected_gain"][0] > ratio["expected_gain"][1]


def test_a_budget_of_nothing_is_a_mistake():
    with pytest.raises(UserError, match="budget is 0"):
        draft(offer(), Constraints(0))
