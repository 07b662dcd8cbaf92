"""What random logs say of other policies, by inverse propensities, covers what the world says of them."""

from pathlib import Path

import numpy as np
import pytest

from headrace.journeys.store import Journeys
from headrace.simulate.acting import MemoryPolicy
from headrace.simulate.ads import AdsWorld, Context
from headrace.simulate.draws import Floats
from headrace.simulate.log import simulate
from headrace.simulate.policies import rollout
from headrace.simulate.scenario import Scenario

ADS = Scenario.load("ads")
M = len(ADS.channels)
USERS, DAYS, FIRST = 6_000, 2, 3  # the worth is counted over each user's first three adverts
SEARCH, VIDEO, EMAIL = (ADS.channel(name) for name in ("search", "video", "email"))


def by_spend(spend: Floats, hour: Floats) -> Floats:
    """Mostly search for those who spent much, video in the evening, else email."""
    best = np.where(spend > 40, SEARCH, np.where(hour >= 18, VIDEO, EMAIL))
    return 0.7 * np.eye(M)[best] + 0.3 / M


def tilted(spend: Floats, hour: Floats) -> Floats:
    """Like the log, but away from display and towards whom the hour suits."""
    p = np.ones((len(spend), M))
    p[:, SEARCH] += hour / 24
    p[:, ADS.channel("display")] = 0.2
    return p / p.sum(axis=1, keepdims=True)


def only_search(spend: Floats, hour: Floats) -> Floats:
    return np.broadcast_to(np.eye(M)[SEARCH], (len(spend), M))


POLICIES = {"by spend": by_spend, "tilted": tilted, "only search": only_search}


def worth(click: Floats, cost: Floats) -> Floats:
    return 2 * click - cost


def estimates(log: Journeys, policy: str) -> Floats:
    """Per-decision importance sampling over each user's first adverts, (U,)."""
    first, length = log.offsets[:-1], np.diff(log.offsets)
    spend, total, weight = np.asarray(log.feature("past_spend")), np.zeros(len(first)), np.ones(len(first))
    for place in range(FIRST):
        there = np.flatnonzero(length > place)
        row = first[there] + place
        p = POLICIES[policy](spend[there], np.asarray(log.feature("hour"))[row])
        weight[there] *= p[np.arange(len(row)), log.channel[row]] / log.column("propensity")[row]
        reward = worth(np.asarray(log.gain("click"))[row].astype(float), np.asarray(log.column("cost"))[row])
        total[there] += weight[there] * reward
    return total


def truths(policy: str, seed: int) -> Floats:
    """The same worth in a rollout of other users, (U,) of those who got any advert."""
    world = AdsWorld(ADS, USERS, seed, DAYS)
    total, place = np.zeros(USERS), np.zeros(USERS)

    def acting(context: Context) -> Floats:
        return POLICIES[policy](context["past_spend"], context["hour"])

    for step in rollout(world, acting):
        row = step.context["row"]
        counts = place[row] < FIRST
        total[row] += counts * worth(step.outcomes.click.astype(float), step.outcomes.cost)
        place[row] += 1
    return total[place > 0]


@pytest.mark.parametrize("policy", POLICIES)
def test_estimates_from_uniform_logs_cover_the_true_worth(policy: str, tmp_path: Path) -> None:
    truth = np.concatenate([truths(policy, 1000 + seed) for seed in range(10)])
    truth_error = truth.std() / np.sqrt(len(truth))
    means, errors = np.zeros(8), np.zeros(8)
    for seed in range(8):
        found = estimates(simulate(ADS, USERS // 2, DAYS, "uniform", seed, tmp_path / "log"), policy)
        means[seed], errors[seed] = found.mean(), found.std() / np.sqrt(len(found))
    covered = np.abs(means - truth.mean()) < 1.96 * np.hypot(errors, truth_error)
    assert covered.sum() >= 6  # of 8 at 95 %: fewer has a probability below 1 %
    pooled = np.hypot(np.sqrt((errors**2).sum()) / 8, truth_error)
    assert abs(means.mean() - truth.mean()) < 3 * pooled


def test_a_policy_over_histories_is_estimated_from_the_log_as_it_acts_in_the_world(tmp_path: Path) -> None:
    """The same policy through a memory: its weights on the log's histories average to one."""

    class BySpend:
        def probabilities(self, histories):  # type: ignore[no-untyped-def]
            last = np.arange(len(histories)), histories.mask.sum(axis=1) - 1
            return by_spend(histories.user["past_spend"], histories.before["hour"][last])

    log = simulate(ADS, 1500, DAYS, "uniform", 3, tmp_path / "log")
    rows = np.arange(log.n_steps)
    p = BySpend().probabilities(log.histories(rows))
    weight = p[rows, log.channel] / log.column("propensity")
    assert weight.mean() == pytest.approx(1, abs=4 * weight.std() / np.sqrt(len(weight)))
    acted = simulate(ADS, 1500, DAYS, MemoryPolicy(BySpend()), 3, tmp_path / "acted")  # type: ignore[arg-type]
    again = BySpend().probabilities(acted.histories(np.arange(acted.n_steps)))
    assert np.array_equal(again[np.arange(acted.n_steps), acted.channel], acted.column("propensity"))
