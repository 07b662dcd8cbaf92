"""The feed: its equations, its luck, and what its scenario promises.

A users in turn, C candidates, k shown.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
from plain_feed import PlainFeed

from headrace.errors import UserError
from headrace.simulate.feed import FeedWorld, best
from headrace.simulate.feed_policies import named, rollout
from headrace.simulate.feed_requests import OUTCOMES, Requests
from headrace.simulate.feed_scenario import BEHAVIOURS
from headrace.simulate.scenario import Scenario

FEED = Scenario.load("feed")
TASK = FEED.feed_task
DAY_MS = 86_400_000


def with_feed(**changes: Any) -> Scenario:
    return dataclasses.replace(FEED, feed=dataclasses.replace(TASK, **changes))


def by_number(requests: Requests) -> np.ndarray:
    """Scores that are a function of the item alone."""
    return (requests.items * 7919) % 10_007 + 0.0


def everything(world: FeedWorld, rule: Any) -> dict[str, np.ndarray]:
    """All that happened, flat: (steps, ...) each."""
    rows = []
    for step in rollout(world, rule):
        row = dict(step.requests.context) | {"items": step.requests.items, "session": step.session}
        row |= {"terminated": step.outcomes.terminated, "truncated": step.outcomes.truncated}
        rows.append(row | {f"item/{name}": values for name, values in step.outcomes.by_item.items()})
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def test_world_equals_a_plain_loop_over_users() -> None:
    lively = tuple(dataclasses.replace(r, rate=3 * r.rate) for r in TASK.reactions)
    scenario = with_feed(reactions=lively, visit_again=0.4, sessions_spread=0.5, predictor_insight=0.4, most_requests=6)
    world = FeedWorld(scenario, 10, seed=3, days=4)
    scores = []
    got = everything(world, lambda requests: scores.append(np.array(requests.scores)) or by_number(requests))
    score = np.concatenate(scores)
    plain = PlainFeed(scenario, 3)
    reactions = 0
    for user in range(10):
        expected = plain.run(user, 4, lambda asked: [(item * 7919) % 10_007 for item in asked["items"]])
        mine = np.flatnonzero(got["user"] == user)
        assert len(mine) == len(expected)
        for row, want in zip(mine, expected, strict=True):
            for name in ("day", "session", "request", "hour", "terminated", "truncated"):
                assert got[name][row] == want[name], name
            assert got["days_since_last_visit"][row] == want["gap"]
            assert abs(got["time"][row] - want["time"]) <= 20  # milliseconds: float32 in what is watched
            assert got["items"][row].tolist() == want["items"]
            assert score[row] == pytest.approx(np.array(want["scores"]), rel=2e-4, abs=1e-7)
            assert got["item/seen"][row].sum() == len(want["seen"])
            for p, seen in enumerate(want["seen"]):
                assert got["item/play_s"][row, p] == pytest.approx(seen["play_s"], rel=1e-4)
                for name in set(OUTCOMES) - {"seen", "play_s", "positive"}:
                    assert got[f"item/{name}"][row, p] == seen[name], name
            reactions += int(got["item/positive"][row].sum())
    assert reactions > 10


def test_users_0_to_99_of_1000_equal_100_alone() -> None:
    many, few = FeedWorld(FEED, 1000, seed=1, days=3), FeedWorld(FEED, 100, seed=1, days=3)
    a, b = (everything(w, lambda requests, w=w: w.fuse(np.ones(12))) for w in (many, few))
    mine = a["user"] < 100
    for name in a:
        assert np.array_equal(a[name][mine], b[name]), name
    for name in many.totals:
        assert np.array_equal(many.totals[name][:100], few.totals[name])


def test_a_rollout_repeats_and_another_seed_differs() -> None:
    def totals(seed: int) -> np.ndarray:
        world = FeedWorld(FEED, 200, seed, days=2)
        everything(world, named("static", FEED)(world))
        return world.totals["dwell_s"]

    assert np.array_equal(totals(1), totals(1))
    assert abs(np.corrcoef(totals(1), totals(2))[0, 1]) < 0.3


def test_two_policies_see_equal_luck_until_their_actions_differ() -> None:
    worlds = [FeedWorld(FEED, 300, seed=4, days=4) for _ in range(2)]

    def early(requests: Requests) -> np.ndarray:
        return by_number(requests)

    def late(requests: Requests) -> np.ndarray:
        sign = np.where(requests.context["day"] < 2, 1, -1)
        return by_number(requests) * sign[:, None]

    a, b = everything(worlds[0], early), everything(worlds[1], late)
    for name in a:
        assert np.array_equal(a[name][a["day"] < 2], b[name][b["day"] < 2]), name
    assert not np.array_equal(a["item/click"], b["item/click"])
    assert np.array_equal(a["items"][a["day"] == 2][:50], b["items"][b["day"] == 2][:50])


def test_candidates_differ_within_a_list_and_cover_the_catalogue() -> None:
    world = FeedWorld(with_feed(items=1003), 2000, seed=0, days=1)
    items = everything(world, by_number)["items"]
    assert (np.diff(np.sort(items, axis=1), axis=1) > 0).all()
    count = np.bincount(items.ravel(), minlength=1003)
    expected = items.size / 1003
    assert len(count) == 1003
    assert (np.abs(count - expected) < 6 * np.sqrt(expected) + 0.06 * expected).all()


def test_base_rates_are_the_scenarios() -> None:
    world = FeedWorld(FEED, 40_000, seed=5, days=1)
    outcomes = world.step(named("shuffle", FEED)(world)(world.observe()).values)  # type: ignore[union-attr]
    first = {name: values[:, 0] for name, values in outcomes.by_item.items()}

    def near(values: np.ndarray, rate: float) -> None:
        assert values.mean() == pytest.approx(rate, abs=4.5 * values.std() / np.sqrt(len(values)) + 0.02 * rate)

    level = world.traits.activity[np.arange(40_000)[world.totals["requests"] > 0]]
    assert len(level) == len(first["click"])
    weight = np.array([a.share for a in FEED.users.activity])[level] / (np.bincount(level) / len(level))[level]
    near(first["click"], TASK.click_rate)
    near(first["exit"] * weight, TASK.leave_rate)
    near(first["play_s"][first["click"]], TASK.watch_s)
    near(first["play_s"][~first["click"]], TASK.glance_s)
    for reaction in TASK.reactions:
        near(first[reaction.name], reaction.rate)
    for index, activity in enumerate(FEED.users.activity):
        near(world.totals["days"][world.traits.activity == index], activity.visit_rate)
        sessions = world._count_sessions[(world.traits.activity == index) & (world._count_sessions > 0)]
        near(sessions.astype(float), TASK.activity[index].sessions)


def test_behaviours_follow_their_causes() -> None:
    all_ = everything(FeedWorld(FEED, 2000, seed=2, days=4), by_number)
    seen, click = all_["item/seen"], all_["item/click"]
    assert (click <= seen).all()
    for name in ("finish", "long_view", "like", "share", "comment", "profile_visit", "follow"):
        assert (all_[f"item/{name}"] <= click).all(), name
    assert (all_["item/hate"] <= seen).all() and (all_["item/exit"] <= seen).all()
    assert (all_["item/play_s"][~seen] == 0).all() and (all_["item/play_s"][seen] > 0).all()
    left = np.cumsum(all_["item/exit"], axis=1) - all_["item/exit"]  # left before this item
    assert np.array_equal(seen, left == 0)
    visited = all_["item/profile_visit"]
    assert all_["item/follow"][visited].mean() > 3 * all_["item/follow"][click & ~visited].mean()


def test_clickbait_lifts_clicks_and_spoils_what_follows() -> None:
    world = FeedWorld(FEED, 6000, seed=2, days=1)
    truth = world.truth()
    high, low = truth.clickbait > 1, truth.clickbait < -1
    assert truth.click[high].mean() > 2 * truth.click[low].mean()
    assert truth.enjoyment[high].mean() < truth.enjoyment[low].mean() - 0.5
    bait = everything(FeedWorld(FEED, 1500, 2, 3), lambda q: q.world.truth().clickbait)
    honest = everything(FeedWorld(FEED, 1500, 2, 3), lambda q: -q.world.truth().trap)
    assert bait["item/click"].sum() / bait["item/seen"].sum() > honest["item/click"].sum() / honest["item/seen"].sum()
    assert bait["terminated"].mean() > 1.3 * honest["terminated"].mean()


def test_same_topics_tire_and_recover() -> None:
    scenario = with_feed(fatigue_gain=1.0)
    one = FeedWorld(scenario, 400, seed=6, days=3)
    everything(one, lambda q: (q.world.items.topic[q.items] == 0) + 0.0)
    mixed = FeedWorld(scenario, 400, seed=6, days=3)
    everything(mixed, by_number)
    assert one.totals["requests"].sum() < 0.85 * mixed.totals["requests"].sum()
    world = FeedWorld(scenario, 300, seed=6, days=1)
    before = world.fatigue.copy()
    turn = world.turn
    world.step(by_number(world.observe()))
    assert (world.fatigue[:, turn].sum(axis=0) > before[:, turn].sum(axis=0)).all()
    slow, quick = (FeedWorld(with_feed(fatigue_half_life_hours=h), 300, 6, 3) for h in (48.0, 0.5))
    for w in (slow, quick):
        everything(w, by_number)
    assert quick.fatigue.sum() < 0.5 * slow.fatigue.sum()


def test_content_people_come_back_more_often() -> None:
    good, bad = (FeedWorld(FEED, 1200, seed=7, days=6) for _ in range(2))
    everything(good, lambda q: q.world.truth().expected_enjoyment)
    everything(bad, lambda q: -q.world.truth().expected_enjoyment)
    rates = [w.totals["returns"].sum() / w.totals["days"].sum() for w in (good, bad)]
    assert rates[0] > rates[1] + 0.1
    assert good.trust.mean() > bad.trust.mean() + 0.3


def test_tastes_drift() -> None:
    world = FeedWorld(FEED, 2000, seed=1, days=7)
    before = world.taste.copy()
    everything(world, by_number)
    same = [np.corrcoef(a, b)[0, 1] for a, b in zip(before, world.taste, strict=True)]
    assert 0.6 < np.mean(same) < 0.98


def test_sessions_end_by_leaving_or_by_being_cut() -> None:
    all_ = everything(FeedWorld(with_feed(most_requests=5, leave_rate=0.03), 800, seed=8, days=2), by_number)
    assert not (all_["terminated"] & all_["truncated"]).any()
    assert np.array_equal(all_["terminated"], all_["item/exit"].any(axis=1))
    order = np.lexsort((all_["time"], all_["user"]))
    user, session = all_["user"][order], all_["session"][order]
    request, time = all_["request"][order], all_["time"][order]
    ends = (all_["terminated"] | all_["truncated"])[order]
    new = np.append(True, (np.diff(user) != 0) | (np.diff(session) != 0))
    assert np.array_equal(new, np.append(True, ends[:-1]))
    assert (request[new] == 0).all() and (np.diff(request)[~new[1:]] == 1).all()
    assert all_["truncated"].sum() > 50
    end = FEED.start_ms + 2 * DAY_MS
    assert (time < end).all()
    gap = np.diff(time)[(np.diff(user) == 0) & new[1:]]
    assert (gap >= TASK.session_gap_minutes * 60_000).all()
    assert (np.diff(time)[np.diff(user) == 0] > 0).all()


def test_the_end_of_the_clock_cuts_sessions() -> None:
    late = dataclasses.replace(FEED, hours=(0.0,) * 23 + (1.0,))
    all_ = everything(FeedWorld(late, 1500, seed=8, days=1), by_number)
    end = FEED.start_ms + DAY_MS
    cut = all_["truncated"] & (all_["request"] + 1 < TASK.most_requests)
    assert cut.any() and (all_["time"][cut] > end - 1_800_000).all() and (all_["time"] < end).all()


def test_best_takes_the_largest_first_and_ties_in_order() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (200, 9)).astype(np.float32)
    for row, found in zip(scores, best(scores, 4), strict=True):
        assert found.tolist() == sorted(range(9), key=lambda c: -row[c])[:4]


def test_weights_rank_as_the_fusion_says() -> None:
    world = FeedWorld(FEED, 50, seed=1)
    requests = world.observe()
    rng = np.random.default_rng(0)
    alpha = rng.uniform(-1, 1, (len(requests), 12))
    beta = np.array([p.offset for p in TASK.predictions])
    fused = (alpha[:, None, :] * np.log(requests.scores + beta)).sum(axis=2)
    assert np.allclose(world.fuse(alpha), fused, atol=1e-4)
    assert np.array_equal(best(world.fuse(alpha), 4), best(world.fuse(3 * alpha), 4))  # scale leaves the ranking
    outcomes = world.step(alpha)
    assert np.array_equal(outcomes.shown, best(fused.astype(np.float32), 4))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda q: np.ones((len(q), 7)), "expected weights"),
        (lambda q: np.full((len(q), 12), np.nan), "not finite"),
        (lambda q: np.full(q.items.shape, np.inf), "not finite"),
        (lambda q: np.ones(3), "expected weights"),
    ],
)
def test_wrong_actions_are_told_in_one_line(action: Any, message: str) -> None:
    world = FeedWorld(FEED, 20, seed=0)
    with pytest.raises(UserError, match=message) as error:
        world.step(action(world.observe()))
    assert "\n" not in str(error.value)


def test_scenarios_without_a_feed_or_with_wrong_numbers_are_refused() -> None:
    with pytest.raises(UserError, match=r"no \[feed\]"):
        FeedWorld(Scenario.load("ads"), 10, seed=0)
    with pytest.raises(UserError, match=r"click_rate is 1\.4, expected"):
        with_feed(click_rate=1.4)
    with pytest.raises(UserError, match="as many as there are predictions"):
        with_feed(candidates=len(BEHAVIOURS))
    with pytest.raises(UserError, match="did you mean 'like'"):
        with_feed(reactions=(dataclasses.replace(TASK.reactions[0], name="liek"), *TASK.reactions[1:]))
    with pytest.raises(UserError, match="watch_s is 500"):
        FeedWorld(with_feed(watch_s=500.0), 10, seed=0)
    for days in (0, 10**9):
        with pytest.raises(UserError, match=f"days is {days}, expected 1 or more, at most 100000"):
            FeedWorld(FEED, 10, seed=0, days=days)
    with pytest.raises(UserError, match=r"feed\.shown is 43, expected 1 to 42"):
        with_feed(shown=43)
    FeedWorld(with_feed(shown=42), 10, seed=0).step(np.zeros(12))
    for name, told in (("click_match", "click_rate"), ("watch_quality", "watch_s"), ("enjoy_match", "reactions like")):
        with pytest.raises(UserError, match=f"no intercept gives feed.{told}") as error:
            FeedWorld(with_feed(**{name: 1e9}), 10, seed=0)
        assert "\n" not in str(error.value)
    values = FEED.to_dict()
    assert "ads" not in values and "feed" not in Scenario.load("ads").to_dict()
    assert Scenario.from_dict(values) == FEED
