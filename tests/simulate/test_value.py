"""The true value of a policy: repeatable, paired, and an increment that is zero without adverts."""

import numpy as np
import pytest

from headrace.errors import UserError
from headrace.simulate.ads import AdsWorld, Context
from headrace.simulate.draws import Floats
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import TrueValue, true_value

ADS = Scenario.load("ads")
USERS = 6000


@pytest.fixture(scope="module")
def uniform() -> TrueValue:
    return true_value(ADS, "uniform", USERS, seed=1)


def test_no_advert_has_no_increment_but_gross_revenue() -> None:
    value = true_value(ADS, "none", 2000, days=5)
    assert value["incremental_revenue"].value == value["incremental_profit"].value == value["cost"].value == 0
    assert value["gross_revenue"].value == value["organic_revenue"].value > 0


def test_value_repeats_and_its_parts_add_up(uniform: TrueValue) -> None:
    again = true_value(ADS, "uniform", USERS, seed=1).per_user
    for name, values in uniform.per_user.items():
        assert np.array_equal(values, again[name]), name
    p = uniform.per_user
    assert np.allclose(p["gross_revenue"], p["revenue"] + p["organic_revenue"])
    assert np.allclose(p["profit"], p["gross_revenue"] - p["cost"])
    estimate = uniform["clicks"]
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low < estimate.value < estimate.high  # type: ignore[operator]
    assert estimate.n == USERS


def test_increment_is_less_than_what_adverts_claim(uniform: TrueValue) -> None:
    search = true_value(ADS, "constant:search", USERS, seed=1)
    claimed = search.per_user["revenue"] - search.per_user["incremental_revenue"]
    assert claimed.mean() > 2 * claimed.std() / np.sqrt(USERS)  # some of them would have bought anyway


def test_paired_variance_is_below_unpaired(uniform: TrueValue) -> None:
    logging, elsewhere = true_value(ADS, "logging", USERS, seed=1), true_value(ADS, "logging", USERS, seed=2)
    for name, share in (("clicks", 0.8), ("gross_revenue", 0.9), ("cost", 0.8)):
        paired = (logging.per_user[name] - uniform.per_user[name]).var()
        unpaired = (elsewhere.per_user[name] - uniform.per_user[name]).var()
        assert paired < share * unpaired, name


def test_differences_are_of_the_same_users_days_and_seed_only() -> None:
    value = true_value(ADS, "uniform", 50, days=2, seed=1)
    for users, days, seed in ((51, 2, 1), (50, 3, 1), (50, 2, 2)):
        with pytest.raises(UserError, match=f"none on {users} users, {days} days, seed {seed}; a paired"):
            value.less(true_value(ADS, "none", users, days, seed), "profit")
    with pytest.raises(UserError, match="users is 0, expected 1 or more"):
        true_value(ADS, "uniform", 0)


def test_choosing_by_the_true_rates_beats_uniform_by_a_clear_margin(uniform: TrueValue) -> None:
    best = true_value(ADS, "greedy-click", USERS, seed=1)
    margin, base = best.less(uniform, "clicks"), uniform["clicks"].value
    assert margin.low is not None and base is not None
    assert margin.low > 0.25 * base


def test_seeing_history_beats_not_seeing_it() -> None:
    """The best fixed channel per user, known from day 0, against the best channel of the moment."""
    world = AdsWorld(ADS, USERS, seed=1)
    favourite = np.argmax(world.response.click_logit, axis=1)

    def fixed(context: Context) -> Floats:
        return np.eye(len(ADS.channels))[favourite[context["user"]]]

    margin = true_value(ADS, "greedy-click", USERS, seed=1).less(true_value(ADS, fixed, USERS, seed=1), "clicks")
    assert margin.low is not None and margin.low > 0.1


def test_advertising_to_the_right_users_beats_all_of_them() -> None:
    """Uniform channels, but only for users whose readiness to buy is above a threshold fixed beforehand."""
    intent = AdsWorld(ADS, USERS, seed=1).traits.intent

    def right(context: Context) -> Floats:
        m = len(ADS.channels)
        return np.where(intent[context["user"], None] > -0.25, np.full(m, 1 / m), 0.0)

    everyone = true_value(ADS, "uniform", USERS, seed=1)
    chosen = true_value(ADS, right, USERS, seed=1)
    margin, base = chosen.less(everyone, "incremental_profit"), everyone["incremental_profit"].value
    assert margin.low is not None and base is not None
    assert margin.low > 0.2 * base > 0
