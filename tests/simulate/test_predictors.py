"""Predictors: as good and as biased as set, the same whenever asked, and blind to the luck of what happens."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from headrace.errors import UserError
from headrace.journeys.seams import Floats, History
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_policies import named, rollout
from headrace.simulate.feed_requests import Requests
from headrace.simulate.feed_scenario import BEHAVIOURS
from headrace.simulate.predictors import attainable, expected_auc
from headrace.simulate.scenario import Scenario

FEED = Scenario.load("feed")
TASK = FEED.feed_task
# what happened, for each behaviour's AUC and mean
EVENTS = {"finish_rate": "finish"}


@pytest.fixture(scope="module")
def first_shown() -> dict[str, np.ndarray]:
    """Scores and outcomes of the first item of many users' first requests, shown at random."""
    parts: list[dict[str, np.ndarray]] = []
    for block in range(4):
        world = FeedWorld(FEED, np.arange(10_000) + 10_000 * block, seed=11, days=1)
        requests = world.observe()
        scores, truth = requests.scores, world.truth()
        turn = world.turn
        outcomes = world.step(named("shuffle", FEED)(world)(requests).values)  # type: ignore[union-attr]
        rows, first = np.arange(len(requests)), outcomes.shown[:, 0]
        part = {f"score/{name}": scores[rows, first, k] for k, name in enumerate(BEHAVIOURS)}
        part |= {name: values[:, 0] for name, values in outcomes.by_item.items()}
        part |= {"p_click": truth.click[rows, first], "level": world.traits.activity[turn]}
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def weights(level: np.ndarray) -> np.ndarray:
    """What makes those who came as frequent as all users: those who come often are seen more."""
    share = np.array([a.share for a in FEED.users.activity])
    return (share / (np.bincount(level) / len(level)))[level]


def happened(shown: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name == "play_time":
        return shown["click"] & (shown["play_s"] >= TASK.watch_s)
    return shown[EVENTS.get(name, name)]


@pytest.mark.parametrize("made", TASK.predictions, ids=lambda made: made.name)
def test_auc_and_calibration_are_the_set_ones(made: Any, first_shown: dict[str, np.ndarray]) -> None:
    event, score = happened(first_shown, made.name), first_shown[f"score/{made.name}"].astype(float)
    weight = weights(first_shown["level"])
    auc = roc_auc_score(event, score, sample_weight=weight)
    events = int(event.sum())
    assert auc == pytest.approx(made.auc, abs=0.012 + 1.2 / np.sqrt(events)), events
    true = first_shown["play_s"] / TASK.longest_s if made.name == "play_time" else event
    ratio = (weight @ score) / (weight @ true)
    assert ratio == pytest.approx(made.calibration, rel=0.06 + 4 / np.sqrt(events))
    assert score.min() > 0 and score.max() < 1


def test_scores_know_nothing_of_the_luck_given_the_true_rate(first_shown: dict[str, np.ndarray]) -> None:
    luck = first_shown["click"] - first_shown["p_click"]
    for name in BEHAVIOURS:
        score = np.log(first_shown[f"score/{name}"].astype(float))
        assert abs(np.corrcoef(luck, score)[0, 1]) < 4.5 / np.sqrt(len(luck)), name


def test_asking_again_gives_the_same_score_and_another_day_another() -> None:
    few = dataclasses.replace(FEED, feed=dataclasses.replace(TASK, items=60, click_evening=0.0))
    world = FeedWorld(few, 25, seed=3, days=3)
    seen: dict[tuple[int, int, int], list[tuple[float, ...]]] = {}
    for step in rollout(world, lambda requests: requests.scores[:, :, 0], keep_scores=True):
        assert step.planes is not None
        for row, user in enumerate(step.requests.context["user"]):
            for c, item in enumerate(step.requests.items[row]):
                key = (int(user), int(step.requests.context["day"][row]), int(item))
                seen.setdefault(key, []).append(tuple(step.planes[:2, row, c].tolist()))
    again = [values for values in seen.values() if len(values) > 1]
    assert len(again) > 100
    assert all(len(set(values)) == 1 for values in again)
    days = {}
    for (user, day, item), values in seen.items():
        days.setdefault((user, item), {})[day] = values[0]
    both = [tuple(by_day.values()) for by_day in days.values() if len(by_day) > 1]
    assert len(both) > 100 and all(len(set(values)) == len(values) for values in both)


def test_noise_of_behaviours_is_independent() -> None:
    world = FeedWorld(FEED, 400, seed=3, days=1)
    sight = world.sight(world.turn, world.observe().items, TASK.predictor_insight)
    f = world.predictor.fitted  # type: ignore[attr-defined]
    planes = world.score_planes().astype(float)
    own = np.stack([world.click_offset(), TASK.social_spread * world.own.social[world.turn]])
    own = np.vstack([own, world.tables.leave_shift[world.traits.activity[world.turn]]])
    noise = []
    for k in range(12):
        latent = sum(
            p * v for p, v in zip(f.parts[k, :4], (sight.click, sight.desire, sight.length, sight.joy), strict=True)
        )
        latent = latent + (f.parts[k, 4:] @ own[1:] + f.parts[k, 0] * own[0])[:, None]
        logit = np.log(planes[k] / (1 - planes[k]))
        noise.append(((logit - f.intercept[k]) / f.slope[k] - latent + f.mean[k]).ravel() / f.noise[k])
    made = np.array(noise)
    assert np.allclose(made.mean(axis=1), 0, atol=5 / np.sqrt(made.shape[1]))
    assert np.allclose(made.std(axis=1), 1, atol=0.05)
    together = np.corrcoef(made) - np.eye(12)
    assert np.abs(together).max() < 5 / np.sqrt(made.shape[1])


def test_an_auc_beyond_the_attainable_is_refused_with_the_limit() -> None:
    better = tuple(dataclasses.replace(p, auc=0.99) if p.name == "like" else p for p in TASK.predictions)
    with pytest.raises(UserError, match=r"like auc is 0.99, but who sees all that is true of a pair reaches 0\.8"):
        FeedWorld(dataclasses.replace(FEED, feed=dataclasses.replace(TASK, predictions=better)), 10, seed=0)
    assert (attainable(FEED) > [p.auc for p in TASK.predictions]).all()


def test_expected_auc_is_the_auc_over_many_outcomes() -> None:
    rng = np.random.default_rng(0)
    score, chance = rng.standard_normal(400), rng.uniform(0.05, 0.6, 400)
    many = [roc_auc_score(rng.random(400) < chance, score) for _ in range(150)]
    assert expected_auc(score, chance) == pytest.approx(np.mean(many), abs=0.008)


class Constant:
    """Gives every behaviour of every candidate its own constant, and looks at what it is told."""

    behaviours = tuple(reversed(BEHAVIOURS))

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.returned: list[float] = []

    def predict(self, histories: History, candidates: dict[str, np.ndarray]) -> Floats:
        assert set(candidates) == {"item", "topic", "duration_s"}
        self.lengths.append(histories.mask.sum(axis=1).max())
        values = histories.previous["returned"][histories.mask]
        self.returned += values[~np.isnan(values)].tolist()
        size = candidates["duration_s"] / candidates["duration_s"].max()
        return np.stack([size * (k + 1) / 20 for k in range(12)], axis=2).astype(np.float64)


def test_any_predictor_may_be_handed_in_and_sees_histories() -> None:
    predictor = Constant()
    world = FeedWorld(FEED, 60, seed=2, days=3, predictor=predictor)
    longest = 0.0

    def by_play_time(requests: Requests) -> np.ndarray:
        assert requests.scores[..., 0].max() == pytest.approx(12 / 20)  # click is its last behaviour
        return requests.scores[..., 1]

    for step in rollout(world, by_play_time):
        longest = max(longest, float(step.requests.context["request"].max()))
        duration = world.items.duration_s[step.requests.items]
        assert (world.items.duration_s[step.outcomes.items[:, 0]] == duration.max(axis=1)).all()
    assert max(predictor.lengths) > longest + 1  # histories run over sessions
    assert set(predictor.returned) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("behaviours", "made", "message"),
    [
        (BEHAVIOURS[:-1], np.zeros, "no positive among its behaviours"),
        (BEHAVIOURS, lambda shape: np.zeros((*shape[:2], 3)), "expected"),
        (BEHAVIOURS, lambda shape: np.full(shape, 1.5), r"outside \[0, 1\]"),
    ],
)
def test_a_wrong_predictor_is_told_in_one_line(behaviours: tuple[str, ...], made: Any, message: str) -> None:
    class Wrong:
        def __init__(self) -> None:
            self.behaviours = behaviours

        def predict(self, histories: History, candidates: dict[str, np.ndarray]) -> Floats:
            return made((*candidates["item"].shape, len(self.behaviours)))

    with pytest.raises(UserError, match=message) as error:
        world = FeedWorld(FEED, 20, seed=0, predictor=Wrong())
        world.score_planes()
    assert "\n" not in str(error.value)
