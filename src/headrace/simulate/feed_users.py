"""What users are like in the feed, beyond the traits that all of a world's tasks share, and what a log shows of it.

N users.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.simulate import draws
from headrace.simulate.draws import Floats, Keys, Purpose
from headrace.simulate.scenario import Scenario
from headrace.simulate.users import Traits

FEED_USER_FEATURES = (
    "activity_degree",
    "age_band",
    "favourite_topic",
    "region",
    "past_click_score",
    "past_length_score",
    "past_social_score",
    "past_complaint_score",
    "past_loyalty_score",
)


@dataclass(frozen=True, slots=True)
class FeedTraits:
    """What is true of N users for life, all standard normal; `features` is what a log shows."""

    habit: Floats  # (N,) readiness to come back at all
    patience: Floats  # (N,) liking of long items
    sensitive: Floats  # (N,) how much a trap spoils
    social: Floats  # (N,) readiness to react
    fickle: Floats  # (N,) how much mood and enjoyment decide whether they leave
    features: dict[str, NDArray[np.float64] | NDArray[np.int32]]  # (N,) each; categorical ones as codes


def draw_feed_traits(scenario: Scenario, keys: Keys, traits: Traits) -> FeedTraits:
    """The feed's traits and features of the users with these keys, whose shared traits are `traits`."""
    purposes = (Purpose.HABIT, Purpose.PATIENCE, Purpose.TRAP, Purpose.SOCIAL, Purpose.FICKLE)
    habit, patience, sensitive, social, fickle = (draws.normal(keys, 0, 0, purpose) for purpose in purposes)
    noise = draws.normal(keys, 0, 0, Purpose.FEED_FEATURE, 4) * scenario.users.feature_noise
    shown = {name: values for name, values in traits.features.items() if name in FEED_USER_FEATURES}
    own: dict[str, NDArray[np.float64] | NDArray[np.int32]] = {
        "past_length_score": np.round(patience + noise[:, 0], 3),
        "past_social_score": np.round(social + noise[:, 1], 3),
        "past_complaint_score": np.round(sensitive + noise[:, 2], 3),
        "past_loyalty_score": np.round(-fickle + noise[:, 3], 3),
    }
    return FeedTraits(habit, patience, sensitive, social, fickle, shown | own)
