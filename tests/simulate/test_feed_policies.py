"""Feed policies: densities that normalise, and names that are told apart."""

import dataclasses

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid, trapezoid

from headrace.errors import UserError
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_policies import (
    NAMES,
    Action,
    BoxNormal,
    box,
    log_density,
    named,
    rollout,
    static_weights,
    truncated_normal,
)
from headrace.simulate.feed_scenario import BEHAVIOURS
from headrace.simulate.scenario import Scenario

FEED = Scenario.load("feed")


@pytest.mark.parametrize(
    ("mean", "spread"), [(0.2, 0.5), (0.95, 0.1), (-1.0, 2.0), (0.0, np.inf), (-6.0, 0.5), (6.0, 0.5)]
)
def test_density_integrates_to_one_and_is_that_of_the_draws(mean: float, spread: float) -> None:
    low, high = -1.0, 1.0
    grid = np.linspace(low, high, 4001)[:, None]
    edges = (np.full_like(grid, low), np.full_like(grid, high))
    density = np.exp(log_density(grid, np.full_like(grid, mean), np.array([spread]), *edges))
    assert trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=1e-3)
    luck = ((np.arange(20_000) + 0.5) / 20_000)[:, None]
    many = (np.full_like(luck, mean), np.array([spread]), np.full_like(luck, low), np.full_like(luck, high))
    drawn = truncated_normal(luck, *many)
    assert (drawn >= low).all() and (drawn <= high).all()
    below = np.interp([-0.5, 0.0, 0.5, 0.9], grid[:, 0], cumulative_trapezoid(density, grid[:, 0], initial=0))
    assert [(drawn < edge).mean() for edge in (-0.5, 0.0, 0.5, 0.9)] == pytest.approx(below, abs=1e-3)
    beyond = log_density(np.array([[1.2]]), np.array([[mean]]), np.array([spread]), edges[0][:1], edges[1][:1])
    assert beyond[0] == -np.inf


def test_a_mean_far_below_the_box_draws_at_its_lower_edge_with_a_finite_density() -> None:
    mean, spread = np.full((3, 1), -8.0), np.array([0.5])
    low, high = np.zeros((3, 1)), np.ones((3, 1))
    drawn = truncated_normal(np.array([[0.1], [0.5], [0.9]]), mean, spread, low, high)
    assert (np.diff(drawn[:, 0]) > 0).all() and (drawn > 0).all() and (drawn < 0.1).all()
    mirrored = truncated_normal(np.array([[0.9], [0.5], [0.1]]), 1 - mean, spread, low, high)
    assert drawn == pytest.approx(1 - mirrored, abs=1e-9)
    density = log_density(drawn, mean, spread, low, high)
    assert density == pytest.approx(log_density(1 - drawn, 1 - mean, spread, low, high))
    assert np.isfinite(density).all()


@pytest.mark.parametrize("mean", [1e4, -1e4, np.nan])
def test_a_mean_without_a_density_in_the_box_is_refused(mean: float) -> None:
    world = FeedWorld(FEED, 20, seed=1, days=1)
    with pytest.raises(UserError, match="clip the means to the box"):
        BoxNormal(world, np.full(12, mean), np.full(12, 0.1))(world.observe())


@pytest.mark.parametrize("wrong", [np.inf, np.nan, "too short"])
def test_a_propensity_that_is_none_never_reaches_a_log(wrong: float | str) -> None:
    world = FeedWorld(FEED, 20, seed=1, days=1)
    a = len(world.observe())
    given = np.zeros(a - 1) if isinstance(wrong, str) else np.full(a, wrong)
    with pytest.raises(UserError, match="log_propensity has the shape"):
        next(rollout(world, lambda requests: Action(np.ones((a, 12)), given)))


def test_density_ratios_average_to_one_between_box_policies() -> None:
    world = FeedWorld(FEED, 4000, seed=1, days=1)
    low, high = box(FEED.feed_task)
    wide = BoxNormal(world, (low + high) / 2, (high - low) / 2)
    action = wide(world.observe())
    assert action.log_propensity is not None and action.low is not None and action.high is not None
    near = np.full_like(action.values, 0.1)
    other = log_density(action.values, near, np.full(12, 0.7), action.low, action.high)
    ratio = np.exp(other - action.log_propensity)
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / np.sqrt(len(ratio)))


def test_a_shuffle_is_uniform_over_ordered_lists_and_says_so() -> None:
    small = dataclasses.replace(FEED, feed=dataclasses.replace(FEED.feed_task, candidates=4, items=400, shown=2))
    world = FeedWorld(small, 6000, seed=1, days=1)
    action = named("shuffle", small)(world)(world.observe())
    assert isinstance(action, Action) and action.log_propensity is not None
    assert np.exp(action.log_propensity) == pytest.approx(1 / 12)
    shown = world.step(action.values).shown
    count = np.bincount(shown[:, 0] * 4 + shown[:, 1], minlength=16)
    expected = len(shown) / 12
    assert np.array_equal(count == 0, np.eye(4, dtype=bool).ravel())
    assert (np.abs(count[count > 0] - expected) < 4.5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("name", [n.replace("BEHAVIOUR", "like") for n in NAMES])
def test_every_named_policy_acts_and_says_how_probable_that_was(name: str) -> None:
    world = FeedWorld(FEED, 100, seed=1, days=1)
    policy = named(name, FEED)(world)
    certain = name not in ("shuffle", "random", "uniform", "explore", "groups")
    for step in rollout(world, policy):
        assert isinstance(step.action, Action)
        assert (step.action.log_propensity is None) == certain
        if name in ("random", "explore", "groups", "uniform"):
            a = step.action
            assert a.mean is not None and a.low is not None and a.high is not None
            assert ((a.values >= a.low) & (a.values <= a.high)).all()
            assert np.isfinite(a.log_propensity).all()
    assert world.done


def test_groups_are_half_random_and_half_near_the_static_weights() -> None:
    world = FeedWorld(FEED, 4000, seed=1, days=1)
    action = named("groups", FEED)(world)(world.observe())
    assert isinstance(action, Action) and action.mean is not None
    near = (action.mean == static_weights(FEED.feed_task)).all(axis=1)
    assert 0.45 < near.mean() < 0.55
    away = np.abs(action.values - action.mean).mean(axis=1)
    assert away[near].max() < away[~near].mean()
    low, high = box(FEED.feed_task)
    for group, spread in ((near, 0.1), (~near, 0.5)):
        expected = log_density(
            action.values[group], action.mean[group], spread * (high - low) / 2, low[None], high[None]
        )
        assert action.log_propensity is not None
        assert np.allclose(action.log_propensity[group], expected)


def test_score_policy_shows_what_it_says() -> None:
    world = FeedWorld(FEED, 200, seed=1, days=1)
    requests = world.observe()
    exits = requests.scores[..., BEHAVIOURS.index("exit")]
    outcomes = world.step(named("score:exit", FEED)(world)(requests))  # type: ignore[arg-type]
    assert np.array_equal(outcomes.shown[:, 0], exits.argmin(axis=1))


@pytest.mark.parametrize(
    ("name", "message"),
    [("statik", "did you mean 'static'"), ("score:lik", "did you mean 'like'"), ("score", "unknown behaviour")],
)
def test_unknown_names_are_told_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        named(name, FEED)
