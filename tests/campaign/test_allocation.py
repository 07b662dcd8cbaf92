"""Shares of channels and the users under them: by hand, and never above a channel's money."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.campaign.allocation import (
    choose_threshold,
    explicit_ratio,
    implicit_ratio,
    increment,
    merged_ratio,
    no_ad_channel,
    top_users,
)
from headrace.errors import Refused, UserError


def test_the_explicit_ratio_is_the_click_rate_s_share():
    gained, channel = np.array([1, 0, 0, 0, 1, 1.0]), np.array([0, 0, 0, 0, 1, 1])
    assert explicit_ratio(gained, channel, 2).tolist() == pytest.approx([0.2, 0.8])


def test_a_channel_never_shown_counts_with_the_rate_of_all():
    assert explicit_ratio(np.array([1, 0.0]), np.array([0, 0]), 2).tolist() == [0.5, 0.5]


def test_a_channel_without_reliable_exposures_keeps_its_explicit_share():
    explicit = np.array([0.2, 0.5, 0.3])
    found = implicit_ratio(np.array([0.9, 0.8, 0.1, 0.9, 0.1]), np.array([0, 0, 1, 2, 2]), explicit, 0.5)
    assert found.tolist() == pytest.approx([1 / 3, 0.5, 1 / 6])
    assert implicit_ratio(np.array([0.1]), np.array([0]), explicit, 0.5) is explicit


def test_rare_rewards_get_a_threshold_that_leaves_some():
    rng = np.random.default_rng(0)
    predicted = rng.beta(1, 60, 5_000)
    gained = (rng.random(5_000) < predicted).astype(float)
    tau = choose_threshold(predicted, gained)
    assert 0 < tau < 0.5
    assert 0 < (predicted > tau).mean() < 0.5


def test_a_threshold_without_any_gain_is_an_error():
    with pytest.raises(UserError, match="no validation exposure gained"):
        choose_threshold(np.ones(3), np.zeros(3))


def test_merging_moves_from_the_explicit_to_the_implicit_ratio():
    a, b = np.array([0.2, 0.8]), np.array([0.6, 0.4])
    assert merged_ratio(a, b, 0.0).tolist() == a.tolist()
    assert merged_ratio(a, b, 0.25).tolist() == pytest.approx([0.3, 0.7])
    with pytest.raises(UserError, match="from 0 to 1"):
        merged_ratio(a, b, 1.5)


def test_who_is_turned_away_asks_for_the_next_channel():
    scores = np.array([[0.9, 0.5], [0.8, 0.6], [0.7, 0.1]])
    users, channels = top_users(scores, np.ones((3, 2)), np.array([0.5, 0.5]), 2.0)
    assert list(zip(users.tolist(), channels.tolist(), strict=True)) == [(0, 0), (1, 1)]


@given(st.integers(0, 10_000), st.floats(0, 40))
def test_no_channel_spends_more_than_its_share_and_no_user_is_met_twice(seed: int, budget: float):
    rng = np.random.default_rng(seed)
    scores, prices, ratios = rng.random((20, 3)), rng.random((20, 3)), rng.dirichlet(np.ones(3))
    users, channels = top_users(scores, prices, ratios, budget)
    assert len(set(users.tolist())) == len(users)
    spend = np.bincount(channels, prices[users, channels], 3)
    assert (spend <= ratios * budget * (1 + 1e-12)).all()


def test_the_increment_is_over_the_channel_of_no_advert_or_refused():
    assert no_ad_channel(("search", "none")) == 1
    gains = increment(np.array([[0.3, 0.1], [0.1, 0.2]]), 1)
    assert gains[:, 0].tolist() == pytest.approx([0.2, -0.1])
    assert np.isneginf(gains[:, 1]).all()
    with pytest.raises(Refused, match="cannot be estimated"):
        no_ad_channel(("search", "social"))
    with pytest.raises(UserError, match="did you mean 'social'"):
        no_ad_channel(("search", "social"), "socal")
