"""Feed: the numbers of a world's feed task, the `[feed]` part of a scenario. Units stand in scenarios/feed.toml.

K topics.
"""

import math
from dataclasses import dataclass, fields

from headrace.errors import UserError, unknown

# The twelve things that are predicted of a candidate, in the order of every score array.
BEHAVIOURS = (
    "click",
    "play_time",
    "finish_rate",
    "long_view",
    "like",
    "follow",
    "share",
    "comment",
    "profile_visit",
    "hate",
    "exit",
    "positive",
)
REACTIONS = ("like", "share", "comment", "profile_visit", "follow", "hate")  # in the order in which they happen


@dataclass(frozen=True, slots=True)
class FeedActivity:
    """How a class of users (by its name in users.activity) behaves in the feed."""

    name: str
    sessions: float  # mean on a day with a visit, at least 1
    click_shift: float = 0.0  # logit
    leave_shift: float = 0.0  # logit


@dataclass(frozen=True, slots=True)
class Reaction:
    """What somebody may do after watching."""

    name: str
    rate: float  # per exposure, of an item shown at random to somebody unbiased
    enjoyment: float  # logit per unit of enjoyment
    watched: float = 0.0  # logit between nothing and all of the item watched


@dataclass(frozen=True, slots=True)
class Prediction:
    """How good a predictor of one behaviour is, and how its score enters the fusion."""

    name: str
    auc: float  # over random users and candidates
    calibration: float = 1.0  # mean score over mean true rate
    offset: float = 0.001  # beta of the fusion  sum_k alpha_k log(score_k + beta_k)
    low: float = 0.0  # the box of its fusion weight
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Feed:
    """The feed task."""

    items: int
    candidates: int
    shown: int
    most_requests: int
    most_sessions: int
    session_gap_minutes: float
    pause_s: float
    second_topic: float
    quality_clickbait: float
    duration_median_s: float
    duration_spread: float
    shortest_s: float
    longest_s: float
    click_rate: float
    click_match: float
    click_quality: float
    click_clickbait: float
    click_spread: float
    click_evening: float
    click_later: float
    evening_hour: float
    watch_s: float
    watch_match: float
    watch_quality: float
    watch_clickbait: float
    watch_duration: float
    patience_spread: float
    watch_spread: float
    glance_s: float
    glance_spread: float
    long_view_s: float
    enjoy_match: float
    enjoy_quality: float
    enjoy_trap: float
    trap_spread: float
    skip: float
    social_spread: float
    follow_after_profile: float
    fatigue_gain: float
    fatigue_match: float
    fatigue_half_life_hours: float
    mood_rate: float
    trust_rate: float
    trust_half_life_days: float
    leave_rate: float
    leave_mood: float
    leave_enjoyment: float
    leave_fatigue: float
    fickle_spread: float
    return_trust: float
    habit_spread: float
    visit_again: float
    sessions_spread: float
    predictor_insight: float
    activity: tuple[FeedActivity, ...]
    reactions: tuple[Reaction, ...]
    predictions: tuple[Prediction, ...]

    def reaction(self, name: str) -> Reaction:
        return self.reactions[REACTIONS.index(name)]


_RATES = ("second_topic", "click_rate", "mood_rate", "trust_rate", "leave_rate")
_POSITIVE = (
    "duration_median_s",
    "shortest_s",
    "longest_s",
    "watch_s",
    "watch_spread",
    "glance_s",
    "long_view_s",
    "fatigue_half_life_hours",
    "trust_half_life_days",
)
_ANY_SIGN = (
    "quality_clickbait",
    "click_evening",
    "click_later",
    "watch_duration",
    "follow_after_profile",
    "visit_again",
)


def check_feed(where: str, feed: Feed, classes: tuple[str, ...]) -> list[tuple[str, float, float, float]]:
    """(what, value, low, high) of every number, for the scenario's own check; raises UserError for wrong names."""
    for what, names, expected in (
        ("feed.activity", tuple(a.name for a in feed.activity), classes),
        ("feed.reactions", tuple(r.name for r in feed.reactions), REACTIONS),
        ("feed.predictions", tuple(p.name for p in feed.predictions), BEHAVIOURS),
    ):
        wrong = [name for name in names if name not in expected]
        if wrong:
            raise unknown(f"name in {what}", wrong[0], expected, where)
        if names != expected:
            raise UserError(
                f"{where}: {what} names {', '.join(names)}; expected {', '.join(expected)}, in this order, once each"
            )
    entries: list[tuple[str, float, float, float]] = [
        ("feed.candidates", feed.candidates, 1, 255),
        ("feed.items", feed.items, feed.candidates, 2**31 - 1),
        ("feed.shown", feed.shown, 1, min(feed.candidates, 256 // len(REACTIONS))),  # a draw has 256 places
        ("feed.most_sessions", feed.most_sessions, 1, 255),
        ("feed.most_requests", feed.most_requests, 1, 255),
        ("feed.quality_clickbait", feed.quality_clickbait, -1, 1),
        ("feed.predictor_insight", feed.predictor_insight, 0, 1),
        ("feed.evening_hour", feed.evening_hour, 0, 24),
        ("feed.longest_s less shortest_s", feed.longest_s - feed.shortest_s, 1e-9, math.inf),
    ]
    if feed.candidates == len(BEHAVIOURS):
        raise UserError(
            f"{where}: feed.candidates is {feed.candidates}, as many as there are predictions, so that an array of "
            "scores could be taken for fusion weights; choose another number"
        )
    for entry in fields(feed):
        value = getattr(feed, entry.name)
        if not isinstance(value, int | float) or entry.name in ("candidates", "items", "shown", "evening_hour"):
            continue
        if entry.name in _RATES:
            entries.append((f"feed.{entry.name}", value, 1e-9, 1 - 1e-9))
        elif entry.name not in _ANY_SIGN:
            entries.append((f"feed.{entry.name}", value, 1e-9 if entry.name in _POSITIVE else 0.0, math.inf))
    for activity in feed.activity:
        entries.append((f"feed.activity {activity.name} sessions", activity.sessions, 1, math.inf))
    for reaction in feed.reactions:
        entries.append((f"feed.reactions {reaction.name} rate", reaction.rate, 1e-7, feed.click_rate * 0.95))
    for made in feed.predictions:
        entries.append((f"feed.predictions {made.name} auc", made.auc, 0.5, 1))
        entries.append((f"feed.predictions {made.name} calibration", made.calibration, 1e-3, 1e3))
        entries.append((f"feed.predictions {made.name} offset", made.offset, 1e-12, math.inf))
        entries.append((f"feed.predictions {made.name} high less low", made.high - made.low, 1e-9, math.inf))
    return entries
