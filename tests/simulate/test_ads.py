"""The advertising world: its equations, its luck, and what its scenario promises.

A users in turn, M channels.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
from plain_ads import run
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from headrace.errors import UserError
from headrace.simulate.ads import AdsWorld
from headrace.simulate.policies import rollout
from headrace.simulate.scenario import Scenario

ADS = Scenario.load("ads")
M = len(ADS.channels)


def with_ads(**changes: Any) -> Scenario:
    return dataclasses.replace(ADS, ads=dataclasses.replace(ADS.ads, **changes))


def with_channels(**changes: Any) -> Scenario:
    return with_ads(channels=tuple(dataclasses.replace(channel, **changes) for channel in ADS.ads.channels))


def everything(world: AdsWorld, rule: Any) -> dict[str, np.ndarray]:
    """All that happened, flat: (steps,) each; `rule(context)` gives the channels."""
    rows = []
    while not world.done:
        context = world.observe()
        outcomes = world.step(rule(context))
        rows.append(context | {f.name: getattr(outcomes, f.name) for f in dataclasses.fields(outcomes)})
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def mixed(context: dict[str, np.ndarray]) -> np.ndarray:
    return (context["user"] * 7 + context["day"] * 3 + context["slot"]) % (M + 1) - 1


def test_world_equals_a_plain_loop_over_users() -> None:
    # more purchases than the scenario has, so that all of them are compared
    scenario = with_ads(organic_rate=0.1)
    scenario = dataclasses.replace(
        scenario,
        ads=dataclasses.replace(
            scenario.ads,
            channels=tuple(
                dataclasses.replace(c, conversion_rate=0.8, click_rate=0.4, cost_spread=0.3)
                for c in scenario.ads.channels
            ),
        ),
    )
    users, days = 25, 8
    world = AdsWorld(scenario, users, seed=3, days=days)
    got = everything(world, mixed)
    purchases = 0
    for user in range(users):
        exposures, organic = run(scenario, user, 3, days, lambda u, d, s: (u * 7 + d * 3 + s) % (M + 1) - 1)
        mine = (got["user"] == user) & (got["channel"] >= 0)
        assert mine.sum() == len(exposures)
        for name in ("time", "channel", "topic", "click", "conversion", "conversion_time", "placement"):
            assert got[name][mine].tolist() == [e[name] for e in exposures], name
        assert got["days_since_last_visit"][mine].tolist() == [e["gap"] for e in exposures]
        assert got["revenue"][mine] == pytest.approx([e["revenue"] for e in exposures])
        assert got["cost"][mine] == pytest.approx([e["cost"] for e in exposures])
        assert world.totals["organic_conversions"][user] == len(organic)
        assert world.totals["organic_revenue"][user] == pytest.approx(sum(value for _, value in organic))
        purchases += len(organic) + int(got["conversion"][mine].sum())
    assert purchases > 30


def test_users_0_to_99_of_1000_equal_100_alone() -> None:
    many, few = AdsWorld(ADS, 1000, seed=1, days=5), AdsWorld(ADS, 100, seed=1, days=5)
    a, b = everything(many, mixed), everything(few, mixed)
    mine = a["user"] < 100
    for name in a:
        assert np.array_equal(a[name][mine], b[name], equal_nan=a[name].dtype.kind == "f"), name
    for name in many.totals:
        assert np.array_equal(many.totals[name][:100], few.totals[name])


def test_another_seed_gives_other_users() -> None:
    a, b = AdsWorld(ADS, 1000, seed=1), AdsWorld(ADS, 1000, seed=2)
    assert abs(np.corrcoef(a.traits.intent, b.traits.intent)[0, 1]) < 0.15


def test_two_policies_see_equal_luck_until_their_actions_differ() -> None:
    a, b = AdsWorld(ADS, 300, seed=4, days=6), AdsWorld(ADS, 300, seed=4, days=6)
    early = everything(a, lambda context: np.where(context["day"] < 4, 1, 0))
    late = everything(b, lambda context: np.where(context["day"] < 4, 1, 2))
    before = early["day"] < 4
    for name in early:
        assert np.array_equal(early[name][before], late[name][before], equal_nan=early[name].dtype.kind == "f"), name
    for name in ("user", "time", "hour", "placement", "days_since_last_visit"):
        assert np.array_equal(early[name], late[name]), name  # visits don't depend on adverts


def test_choices_to_come_change_nothing_that_happened() -> None:
    a, b = AdsWorld(ADS, 200, seed=4, days=5), AdsWorld(ADS, 200, seed=4, days=5)
    for world, later in ((a, 0), (b, 3)):
        while world.day < 3:
            world.step(mixed(world.observe()))
        world.step(np.full(len(world.observe()["row"]), later))
    assert all(np.array_equal(a.observe()[name], b.observe()[name]) for name in ("row", "time", "placement"))
    assert not np.array_equal(a.shown, b.shown)


@pytest.mark.parametrize("m", range(M))
def test_fresh_users_click_at_the_scenarios_rate(m: int) -> None:
    world = AdsWorld(with_channels(capacity=1e9), 20_000, seed=2, days=10)
    everything(world, lambda context: np.full(len(context["row"]), m))
    came = world.totals["exposures"] > 0
    rates = world.totals["clicks"][came] / world.totals["exposures"][came]
    error = rates.std() / np.sqrt(came.sum())
    assert rates.mean() == pytest.approx(ADS.ads.channels[m].click_rate, abs=4 * error)
    assert error < 0.02 * rates.mean()


def test_purchases_after_a_click_come_at_the_scenarios_rate() -> None:
    # no carry-over, no satedness, and a hazard so low that its probability is the hazard
    scenario = with_channels(conversion_rate=0.02, intent=0.0, lifts={})
    scenario = dataclasses.replace(scenario, users=dataclasses.replace(scenario.users, sated_by_purchase=0.0))
    got = everything(AdsWorld(scenario, 40_000, seed=2, days=5), lambda context: context["slot"] % 2)
    bought = got["conversion"][got["click"]]
    assert len(bought) > 10_000
    assert bought.mean() == pytest.approx(0.02, abs=4 * np.sqrt(0.02 / len(bought)))
    seen = got["conversion"][~got["click"]].mean()
    assert seen == pytest.approx(0.02 * ADS.ads.view_through, rel=0.35)


def test_true_rates_are_what_happens() -> None:
    world = AdsWorld(ADS, 20_000, seed=5, days=5)
    expected = {name: np.zeros(M) for name in ("click", "conversion", "revenue", "cost")}
    got, click_variance = {name: np.zeros(M) for name in expected}, np.zeros(M)
    while not world.done:
        channel = mixed(world.observe())
        rates = world.true_rates()
        outcomes = world.step(channel)
        shown = np.flatnonzero(channel >= 0)
        for name in expected:
            np.add.at(expected[name], channel[shown], getattr(rates, name)[shown, channel[shown]])
            np.add.at(got[name], channel[shown], getattr(outcomes, name)[shown])
        p = rates.click[shown, channel[shown]]
        np.add.at(click_variance, channel[shown], p * (1 - p))
    assert (np.abs(got["click"] - expected["click"]) < 4 * np.sqrt(click_variance)).all()
    assert (np.abs(got["conversion"] - expected["conversion"]) < 4 * np.sqrt(expected["conversion"])).all()
    assert got["cost"] == pytest.approx(expected["cost"], rel=0.05)
    assert got["revenue"].sum() == pytest.approx(expected["revenue"].sum(), rel=0.1)


def test_returns_diminish_with_recent_exposures_and_recover() -> None:
    """The same users at the same moments, after 0 to 3 exposures to video on day 0."""
    video = ADS.channel("video")
    worlds = [AdsWorld(ADS, 3000, seed=6, days=15) for _ in range(4)]
    response: dict[int, list[float]] = {1: [], 14: []}
    came = worlds[3]._count >= 3
    while not worlds[0].done:
        turn = worlds[0].observe()["row"]
        if worlds[0].day in response and worlds[0].slot == 0:
            response[worlds[0].day] = [world.true_rates().click[came[turn], video].mean() for world in worlds]
        for most, world in enumerate(worlds):
            world.step(video if world.day == 0 and world.slot < most else -1)
    losses = -np.diff(response[1])
    assert (losses > 0).all() and (np.diff(losses) < 0).all()  # each more costs less than the one before
    assert response[1][3] < 0.8 * response[1][0]
    assert response[14][3] > 0.95 * response[14][0]


def test_capacity_and_response_differ_between_users_and_channels() -> None:
    capacity = AdsWorld(ADS, 5000, seed=6).response.capacity
    assert np.median(capacity, axis=0) == pytest.approx([c.capacity for c in ADS.ads.channels], rel=0.05)
    assert np.log(capacity).std(axis=0) == pytest.approx(np.full(M, ADS.ads.capacity_spread), rel=0.05)


def test_an_advert_in_one_channel_lifts_purchases_in_another_and_without_one() -> None:
    search, video = ADS.channel("search"), ADS.channel("video")
    shown, bare = AdsWorld(ADS, 3000, seed=6, days=3), AdsWorld(ADS, 3000, seed=6, days=3)
    while shown.day < 1:
        shown.step(video)
        bare.step(-1)
    with_video, without = shown.true_rates(), bare.true_rates()
    per_click = with_video.conversion[:, search] / with_video.click[:, search]
    per_click_bare = without.conversion[:, search] / without.click[:, search]
    seen = shown.shown[shown.observe()["row"], video] > 0
    assert np.median(per_click[seen] / per_click_bare[seen]) > 1.3
    untouched = ~seen & (shown.totals["organic_conversions"] == 0)[shown.observe()["row"]]
    assert np.array_equal(per_click[untouched], per_click_bare[untouched])

    organic = [AdsWorld(with_ads(organic_rate=0.02), 10_000, seed=6) for _ in range(2)]
    for world, channel in zip(organic, (video, -1), strict=True):
        everything(world, lambda context, channel=channel: np.full(len(context["row"]), channel))
    lifted, alone = (world.totals["organic_conversions"].mean() for world in organic)
    assert lifted > 1.1 * alone > 0


def test_people_buy_without_any_advert_and_cost_nothing() -> None:
    world = AdsWorld(ADS, 20_000, seed=7)
    everything(world, lambda context: np.full(len(context["row"]), -1))
    days, rate = ADS.days, ADS.ads.organic_rate
    assert world.totals["organic_conversions"].mean() == pytest.approx(days * rate, rel=0.25)
    assert world.totals["cost"].sum() == world.totals["exposures"].sum() == world.totals["revenue"].sum() == 0


def test_a_mask_is_the_same_as_no_advert() -> None:
    a, b = AdsWorld(ADS, 500, seed=8, days=4), AdsWorld(ADS, 500, seed=8, days=4)
    while not a.done:
        odd = a.observe()["user"] % 2 == 1
        x, y = a.step(1, mask=odd), b.step(np.where(odd, 1, -1))
        for field in dataclasses.fields(x):
            assert np.array_equal(
                getattr(x, field.name), getattr(y, field.name), equal_nan=field.name == "conversion_time"
            )
        assert (x.topic[~odd] == -1).all() and np.isnan(x.conversion_time[~odd]).all() and not x.cost[~odd].any()
    assert not a.shown[::2].any()


def test_a_channel_that_is_none_is_refused() -> None:
    world = AdsWorld(ADS, 50, seed=0)
    for channel in (M, -2):
        with pytest.raises(ValueError, match="channels must lie in"):
            world.step(channel)
    with pytest.raises(UserError, match="days is 0"):
        AdsWorld(ADS, 50, seed=0, days=0)


def test_users_come_from_a_past_as_long_as_their_visits_are_rare() -> None:
    world = AdsWorld(ADS, 20_000, seed=2, days=1)
    context = world.observe()
    level = world.traits.activity[context["row"]]
    for index, activity in enumerate(ADS.users.activity):
        gap = context["days_since_last_visit"][level == index]
        error = 4.5 * gap.std() / np.sqrt(len(gap))
        assert gap.min() == 1 and gap.mean() == pytest.approx(1 / activity.visit_rate, abs=error)


def test_tastes_drift_and_keep_their_variance() -> None:
    world = AdsWorld(ADS, 20_000, seed=9, days=12)
    start = world._taste.copy()
    everything(world, lambda context: np.full(len(context["row"]), -1))
    assert world._taste.var() == pytest.approx(1, rel=0.03)
    assert start.var() == pytest.approx(1, rel=0.03)
    correlation = np.corrcoef(start.ravel(), world._taste.ravel())[0, 1]
    assert 1 - ADS.users.drift_share < correlation < 0.85


def test_features_hint_at_the_traits_without_being_them() -> None:
    traits = AdsWorld(ADS, 20_000, seed=9).traits
    for feature, trait in (("past_spend", traits.intent), ("past_click_score", traits.clickiness)):
        x = traits.features[feature]
        assert 0.4 < np.corrcoef(np.argsort(np.argsort(x)), trait)[0, 1] < 0.85
    favourite = np.argmax(traits.lasting, axis=1) == traits.features["favourite_topic"]
    assert 1.5 / len(ADS.topics) < favourite.mean() < 0.8
    for region in range(len(ADS.users.regions)):
        mine = traits.features["region"] == region
        assert abs(traits.clickiness[mine].mean()) < 4 / np.sqrt(mine.sum())


def test_features_and_past_clicks_tell_clicks_of_users_never_seen() -> None:
    rows = []
    world = AdsWorld(ADS, 3000, seed=10)
    for step in rollout(world, lambda context: np.full((len(context["row"]), M), 1 / M)):
        c = step.context
        rate = (c["clicks"].sum(axis=1) + 0.8) / (c["exposures"].sum(axis=1) + 10)
        onehot = [c["activity_degree"] == a for a in range(4)] + [c["age_band"] == a for a in range(5)]
        x = np.stack([rate, c["past_click_score"], np.log(c["past_spend"]), *onehot], axis=1)
        rows.append((c["user"], x, step.outcomes.click))
    user, x, y = (np.concatenate([row[i] for row in rows]) for i in range(3))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    train = user % 2 == 0
    model = LogisticRegression().fit(x[train], y[train])
    assert roc_auc_score(y[~train], model.predict_proba(x[~train])[:, 1]) > 0.6


def test_hours_follow_the_scenario_and_days_hold_their_own() -> None:
    got = everything(AdsWorld(ADS, 5000, seed=11, days=5), mixed)
    share = np.bincount(got["hour"].astype(int), minlength=24) / len(got["hour"])
    assert share == pytest.approx(np.array(ADS.hours) / np.sum(ADS.hours), abs=0.01)
    assert np.array_equal((got["time"] - ADS.start_ms) // 86_400_000, got["day"])
    assert np.array_equal((got["time"] % 86_400_000) // 3_600_000, got["hour"])
