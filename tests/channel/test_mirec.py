"""MIREC's own promises: prices that are the dual's, exposures that come out as wanted, gains in the log's units."""

import dataclasses

import numpy as np
import pytest
import torch
from channel_logs import by_users, small_log
from scipy.optimize import linprog

from headrace.channel.mirec import MIREC, PRESETS, MIRECConfig, prices_of, shares_of
from headrace.errors import UserError
from headrace.journeys.views import View, histories
from headrace.learn.run import Run

TINY = MIRECConfig(**PRESETS["tiny"], calibrate=False)


def linear_program(gains, shares):
    """The allocation by an independent solver: its value, and the prices of the exposure constraints."""
    n, m = gains.shape
    one = np.kron(np.eye(n), np.ones(m))  # each step shows one channel
    held = np.kron(np.ones(n) / n, np.eye(m))  # each channel has its share
    found = linprog(-gains.ravel() / n, A_eq=np.vstack([one, held]), b_eq=[*np.ones(n), *shares], method="highs")
    prices = -found.eqlin.marginals[n:]
    return -found.fun, prices - shares @ prices


@pytest.mark.parametrize(("channels", "scale"), [(2, 1.0), (3, 1e-3), (5, 40.0)])
def test_prices_are_the_duals_of_the_linear_program(channels: int, scale: float):
    rng = np.random.default_rng(channels)
    n = 151
    gains = scale * (rng.normal(size=(n, channels)) + rng.normal(size=channels))
    shares = rng.dirichlet(np.ones(channels))  # n times a share is no whole number: the duals are single points
    prices = prices_of(gains, shares)
    value, theirs = linear_program(gains, shares)
    np.testing.assert_allclose(prices, theirs, atol=2e-3 * scale)
    bound = shares @ prices + (gains - prices).max(axis=1).mean()
    assert value - 1e-9 * scale <= bound <= value + 1e-3 * scale  # the dual bounds every allocation from above
    chosen = np.bincount((gains - prices).argmax(axis=1), minlength=channels) / n
    assert np.abs(chosen - shares).max() <= (channels - 1) / n  # of a vertex so many steps are split at most


def test_prices_hold_shares_that_the_gains_alone_would_not():
    gains = np.column_stack([np.linspace(1, 2, 100), np.linspace(0, 0.5, 100)])  # the first is better everywhere
    assert (gains.argmax(axis=1) == 0).all()
    worth = gains - prices_of(gains, np.array([0.3, 0.7]))
    assert (worth.argmax(axis=1) == 0).sum() in (29, 30, 31) and worth.argmax(axis=1)[-1] == 0  # where it matters most


def test_a_channel_that_is_to_have_nothing_gets_nothing():
    gains = np.random.default_rng(0).normal(size=(200, 3))
    chosen = (gains - prices_of(gains, np.array([0.0, 0.5, 0.5]))).argmax(axis=1)
    assert (chosen == 0).sum() <= 1 and abs((chosen == 1).mean() - 0.5) <= 0.01


def test_gains_that_do_not_differ_have_no_prices():
    assert not prices_of(np.ones((4, 3)), np.full(3, 1 / 3)).any() and not prices_of(np.zeros((0, 2)), np.ones(2)).any()


def test_shares_that_are_not_named_follow_the_log():
    logged = np.array([2.0, 2.0, 6.0])
    assert shares_of(None, ("a", "b", "c"), logged).tolist() == [0.2, 0.2, 0.6]
    assert shares_of({"a": 0.5}, ("a", "b", "c"), logged).tolist() == [0.5, 0.125, 0.375]
    np.testing.assert_allclose(shares_of({"a": 0.2, "b": 0.2, "c": 0.2}, ("a", "b", "c"), logged), 1 / 3)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirec")
    journeys = small_log(folder / "j")
    config = dataclasses.replace(TINY, exposures={"a": 0.5}, epochs=6)
    return MIREC(config).fit(journeys, by_users(journeys), folder / "run", progress=False), journeys, folder / "run"


def test_the_policy_shows_each_channel_as_often_as_wanted(fitted):
    method, journeys, run = fitted
    split = by_users(journeys)
    told = Run.open(run).read_json("prices.json")
    logged = np.bincount(np.asarray(journeys.channel)[split.parts["train"]], minlength=3)
    wanted = [0.5, *(0.5 * logged[1:] / logged[1:].sum())]
    np.testing.assert_allclose(told["shares"], wanted)
    rows = np.flatnonzero(split.parts["validation"])
    p = method.policy(stochastic=False).probabilities(histories(journeys, rows, 8))
    assert np.abs(p.mean(axis=0) - wanted).max() <= 3 / len(rows)
    free = method.value_policy().probabilities(histories(journeys, rows, 8))
    assert np.abs(free.mean(axis=0) - wanted).max() > 0.1  # without prices it does as it likes


def test_scores_are_gains_less_prices_in_the_logs_units(fitted):
    method, journeys, run = fitted
    found = method.predict(journeys, np.ones(journeys.n_steps, dtype=bool))
    value = found.reward_by_channel["click"]  # no price on cost was asked for
    scores = np.log(found.action) * float(method.network.unit)
    by_hand = value - np.array(Run.open(run).read_json("prices.json")["prices"])
    np.testing.assert_allclose(
        scores - scores.mean(axis=1, keepdims=True), by_hand - by_hand.mean(axis=1, keepdims=True), atol=1e-5
    )


def test_nothing_imitates(fitted):
    """The logged channel reaches the weights through no loss of the policy."""
    method, journeys, _ = fitted
    method.network.zero_grad()
    view = View(journeys, np.ones(journeys.n_steps, dtype=bool))
    learner = method.learner(method.network, method.transforms, view, view, method.config)
    parts = learner.losses(next(learner.train.batches(8)))
    torch.testing.assert_close(parts["loss"], parts["reward"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"action_weight": 1.0}, "expected 0: its policy follows from predicted gains"),
        ({"exposures": {"a": 0.8, "b": 0.4}}, "1 in all or less"),
        ({"exposures": {"a": -0.1}}, "shares of 0 or more"),
    ],
)
def test_wrong_configs_are_refused(change: dict, told: str):
    with pytest.raises(UserError, match=told):
        MIRECConfig(**change)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"exposures": {"d": 0.8}}, "exposures: unknown channel 'd'"),
        ({"reward_weights": {"grade": 1.0}}, "grade has classes and no order"),
    ],
)
def test_logs_that_do_not_suit_are_refused(fitted, change: dict, told: str):
    with pytest.raises(UserError, match=told):
        MIREC(dataclasses.replace(TINY, **change)).check(fitted[1])
