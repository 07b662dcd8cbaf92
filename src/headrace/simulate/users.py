"""The users of a world, shared by all its tasks: latent traits, drifting tastes, and the features that hint at them.

A taste for topic k is  taste = lasting + moving  with variance 1 - s and s (`drift_share`); the moving part is an AR(1)
process over days, so over a gap of g days  moving' = r^g moving + sqrt(s (1 - r^2g)) e,  r = 2^(-1/half-life).
Features are noisy views of the traits, never the traits themselves.

N users, K topics.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.simulate import draws
from headrace.simulate.draws import Floats, Keys, Purpose
from headrace.simulate.scenario import Scenario

USER_FEATURES = ("activity_degree", "age_band", "favourite_topic", "region", "past_spend", "past_click_score")


@dataclass(frozen=True, slots=True)
class Traits:
    """What is true of N users for life; `features` is the part of it that a log shows."""

    activity: NDArray[np.int64]  # (N,) class
    lasting: Floats  # (N, K) lasting part of the tastes
    intent: Floats  # (N,) standard normal: readiness to buy
    spend: Floats  # (N,) standard normal: worth of their purchases
    clickiness: Floats  # (N,) standard normal: readiness to click
    last_visit: NDArray[np.int64]  # (N,) day of the last visit before day 0, negative
    features: dict[str, NDArray[np.float64] | NDArray[np.int32]]  # (N,) each; categorical ones as codes


def feature_categories(scenario: Scenario) -> dict[str, list[str]]:
    """The names behind the codes of the categorical user features."""
    return {
        "activity_degree": [activity.name for activity in scenario.users.activity],
        "age_band": list(scenario.users.ages),
        "favourite_topic": list(scenario.topics),
        "region": list(scenario.users.regions),
    }


def draw_traits(scenario: Scenario, keys: Keys) -> Traits:
    """The traits and features of the users with these keys."""
    users, k = scenario.users, len(scenario.topics)
    shares = draws.cumulative([activity.share for activity in users.activity])
    activity = draws.categorical(draws.uniform(keys, 0, 0, Purpose.ACTIVITY), shares)
    lasting = draws.normal(keys, 0, 0, Purpose.TASTE, k) * np.sqrt(1 - users.drift_share)
    intent = draws.normal(keys, 0, 0, Purpose.INTENT)
    spend = draws.normal(keys, 0, 0, Purpose.SPEND)
    clickiness = draws.normal(keys, 0, 0, Purpose.CLICKINESS)
    visit_rate = np.array([a.visit_rate for a in users.activity])[activity]
    missed = np.log(draws.uniform(keys, 0, 0, Purpose.LAST_VISIT)) / np.log1p(-np.minimum(visit_rate, 1 - 1e-9))
    noise = draws.normal(keys, 0, 0, Purpose.FEATURE, k + 4) * users.feature_noise
    age = _standard(0.7 * clickiness + 0.7 * (lasting[:, 0] - lasting[:, -1]) + noise[:, k])
    features = {
        "activity_degree": activity.astype(np.int32),
        "age_band": np.minimum(age * len(users.ages), len(users.ages) - 1).astype(np.int32),
        "favourite_topic": np.argmax(lasting + noise[:, :k], axis=1).astype(np.int32),
        "region": (draws.uniform(keys, 0, 1, Purpose.FEATURE) * len(users.regions)).astype(np.int32),
        "past_spend": np.round(40 * np.exp(0.5 * (intent + noise[:, k + 1]) + 0.3 * spend), 2),
        "past_click_score": np.round(clickiness + noise[:, k + 2], 3),
    }
    return Traits(activity, lasting, intent, spend, clickiness, -1 - missed.astype(np.int64), features)


def first_moving(scenario: Scenario, keys: Keys) -> Floats:
    """The moving part of the tastes at a user's last visit before day 0, (N, K)."""
    width = len(scenario.topics)
    return np.asarray(draws.normal(keys, 0, 1, Purpose.TASTE, width) * np.sqrt(scenario.users.drift_share))


def drift(scenario: Scenario, keys: Keys, moving: Floats, day: int, gap_days: NDArray[np.int64]) -> Floats:
    """The moving part on `day`, `gap_days` (N,) after it was `moving` (N, K)."""
    kept = np.exp2(-gap_days / scenario.users.drift_half_life_days)[:, None]
    shock = draws.normal(keys, day, 0, Purpose.DRIFT, moving.shape[1])
    return kept * moving + np.sqrt(scenario.users.drift_share * (1 - kept**2)) * shock


def _standard(x: Floats) -> Floats:
    """A monotone squashing of x to (0, 1) that doesn't depend on which users are there."""
    return np.asarray(1 / (1 + np.exp(-1.2 * x)))
