"""How people respond to adverts: the tables that a scenario's numbers become, and the equations over them.

    p_click      = sigmoid(a_m + user_um + context + w taste_uk) / (1 + S_um / capacity_um)
    hazard       = rate_m exp(s g_u - s^2/2) (1 + sum_j L_jm A_uj / (1 + A_uj)) exp(-sated_u)
    p_conversion = (click ? 1 : view_through) (1 - exp(-hazard))
    organic, a day: 1 - exp(-rate_0 exp(s g_u - s^2/2) (1 + sum_j O_j A_uj / (1 + A_uj)) exp(-sated_u))

S counts recent exposures of a channel (diminishing returns), A the awareness they left (carry-over), both with a
half-life; g is the readiness to buy, k the topic of the advert shown. The intercept a_m is solved so that without
saturation (S = 0) the mean of p_click over users, tastes and contexts is the scenario's click_rate.

N users, M channels, K topics, P placements.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from headrace.errors import UserError
from headrace.simulate import draws
from headrace.simulate.draws import Floats, Keys, Purpose
from headrace.simulate.scenario import Scenario
from headrace.simulate.users import Traits


@dataclass(frozen=True, slots=True)
class Tables:
    """A scenario's numbers as arrays."""

    intercept: Floats  # (M,) logit
    placement_shift: Floats  # (P,) logit
    placements: Floats  # (P,) cumulative
    hours: Floats  # (25,) cumulative from 0
    topics: Floats  # (M, K) probability
    topics_cumulative: Floats  # (M, K)
    conversion_rate: Floats  # (M,) hazard
    value: Floats  # (M,)
    cost_per_exposure: Floats  # (M,)
    cost_per_click: Floats  # (M,)
    cost_spread: Floats  # (M,) sd of the log of an exposure's cost
    lifts: Floats  # (M, M) from channel j to channel m
    organic_lift: Floats  # (M,)


def tables(scenario: Scenario) -> Tables:
    """The arrays of a scenario."""
    ads, channels = scenario.ads, scenario.ads.channels
    topics = np.array([channel.topics for channel in channels])
    names = scenario.channels
    return Tables(
        intercept=np.array([_intercept(scenario, m) for m in range(len(channels))]),
        placement_shift=np.array([place.click_shift for place in ads.placements]),
        placements=draws.cumulative([place.share for place in ads.placements]),
        hours=np.concatenate([[0.0], draws.cumulative(scenario.hours)]),
        topics=topics / topics.sum(axis=1, keepdims=True),
        topics_cumulative=draws.cumulative(topics),
        conversion_rate=np.array([c.conversion_rate for c in channels]),
        value=np.array([c.value for c in channels]),
        cost_per_exposure=np.array([c.cost_per_exposure for c in channels]),
        cost_per_click=np.array([c.cost_per_click for c in channels]),
        cost_spread=np.array([c.cost_spread for c in channels]),
        lifts=np.array([[c.lifts.get(name, 0.0) for name in names] for c in channels]),
        organic_lift=np.array([c.organic_lift for c in channels]),
    )


def evening(scenario: Scenario, hour: Floats) -> Floats:
    """The click logit's shift at an hour of the day, (N,)."""
    return scenario.ads.evening_shift * np.cos((hour - scenario.ads.evening_hour) * (np.pi / 12))


@dataclass(frozen=True, slots=True)
class Response:
    """What N users' responses to M channels rest on for life."""

    click_logit: Floats  # (N, M)
    capacity: Floats  # (N, M) exposures
    readiness: Floats  # (N,) factor of every purchase hazard, mean 1
    spend: Floats  # (N,) factor of a purchase's value, mean 1


def response(scenario: Scenario, tabled: Tables, keys: Keys, traits: Traits) -> Response:
    """The lasting part of the users' responses."""
    users, ads = scenario.users, scenario.ads
    m = len(ads.channels)
    liking = draws.normal(keys, 0, 0, Purpose.SENSITIVITY, m) * np.array([c.sensitivity for c in ads.channels])
    search = traits.intent[:, None] * np.array([c.intent for c in ads.channels])
    shift = np.array([a.click_shift for a in users.activity])[traits.activity] + users.click_spread * traits.clickiness
    spread = draws.normal(keys, 0, 0, Purpose.CAPACITY, m) * ads.capacity_spread
    return Response(
        click_logit=tabled.intercept + shift[:, None] + liking + search,
        capacity=np.array([c.capacity for c in ads.channels]) * np.exp(spread),
        readiness=np.exp(users.intent_spread * traits.intent - users.intent_spread**2 / 2),
        spend=np.exp(users.spend_spread * traits.spend - users.spend_spread**2 / 2),
    )


def _intercept(scenario: Scenario, m: int) -> float:
    """The logit at which channel m's mean click probability, over users and contexts, is its click_rate."""
    users, ads, channel = scenario.users, scenario.ads, scenario.ads.channels[m]
    variance = users.click_spread**2 + channel.sensitivity**2 + channel.intent**2 + ads.taste_weight**2
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    hours = np.array(scenario.hours) / np.sum(scenario.hours)
    parts = [  # independent shifts of the logit, each with its distribution
        (np.array([a.click_shift for a in users.activity]), np.array([a.share for a in users.activity])),
        (np.array([p.click_shift for p in ads.placements]), np.array([p.share for p in ads.placements])),
        (evening(scenario, np.arange(0.5, 24.0, 1.0)), hours),
        (nodes * np.sqrt(variance), weights / weights.sum()),
    ]
    shift, weight = np.zeros(1), np.ones(1)
    for values, shares in parts:
        shift = (shift[:, None] + values).ravel()
        weight = (weight[:, None] * shares).ravel()

    def beyond(a: float) -> float:
        return float(weight @ expit(a + shift)) - channel.click_rate

    if not beyond(-60) < 0 < beyond(60):
        raise UserError(
            f"scenario {scenario.name}: ads.channels {channel.name} can't reach its click_rate {channel.click_rate:g}, "
            f"because users, placements and hours shift the click logit by up to {np.abs(shift).max():.3g}; lower "
            "click_shift, click_spread, sensitivity, intent, taste_weight or evening_shift"
        )
    return float(brentq(beyond, -60, 60))
