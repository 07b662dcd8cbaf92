"""A policy over histories acts in the world on what the written log would show it, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.journeys.seams import Channel, Decisions, Floats, History
from headrace.simulate.acting import MemoryPolicy
from headrace.simulate.ads import AdsWorld, Context, Outcomes
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import true_value

ADS = Scenario.load("ads")
M = len(ADS.channels)


class Clicked:
    """Softmax over each channel's clicks per exposure so far, the hour and the last channel: all parts of a history."""

    actions = Channel(M)

    def __init__(self) -> None:
        self.seen: list[History] = []

    def probabilities(self, histories: History) -> Floats:
        self.seen.append(histories)
        at = np.arange(len(histories)), histories.mask.sum(axis=1) - 1
        counts = histories.so_far["click_by_channel"][at].reshape(len(histories), M, 2)
        score = 3 * (counts[..., 1] + 0.3) / (counts[..., 0] + 3)
        score[:, 0] += 0.02 * histories.before["hour"][at]
        last = histories.previous["channel"][at]
        score += 0.5 * (np.arange(M) == last[:, None])
        p = np.exp(score)
        return p / p.sum(axis=1, keepdims=True)

    def act(self, histories: History, rng: np.random.Generator) -> Decisions:
        p = self.probabilities(histories)
        action = np.array([rng.choice(M, p=row) for row in p])
        return Decisions(action, np.log(p[np.arange(len(p)), action]))

    def log_prob(self, histories: History, actions: Any) -> Floats:
        return np.log(self.probabilities(histories)[np.arange(len(histories)), actions])


class Watched:
    """A MemoryPolicy that notes, by user and clock, which history each decision rested on."""

    together = False
    name = "watched"

    def __init__(self, steps: int):
        self.policy = Clicked()
        self.spec = MemoryPolicy(self.policy, steps, select=lambda h: np.full(len(h), 0.8))
        self.found: dict[tuple[int, float], tuple[History, int]] = {}

    def bind(self, world: AdsWorld) -> "Watched":
        self.acting = self.spec.bind(world)
        return self

    def __call__(self, context: Context) -> Floats:
        p = self.acting(context)
        for index, key in enumerate(zip(context["user"].tolist(), context["time"].tolist(), strict=True)):
            self.found[key] = self.policy.seen[-1], index
        return p

    def record(self, context: Context, outcomes: Outcomes) -> None:
        self.acting.record(context, outcomes)  # type: ignore[attr-defined]


@pytest.mark.parametrize("steps", [6, 20])
def test_histories_in_the_world_are_those_of_the_written_log(tmp_path: Path, steps: int) -> None:
    policy = Watched(steps)
    journeys = simulate(ADS, 60, 8, policy, 3, tmp_path / "log")
    assert journeys.manifest["notes"]["policy"] == "watched"
    assert len(policy.found) > 1.1 * journeys.n_steps  # some opportunities got no advert
    expected = journeys.histories(np.arange(journeys.n_steps), steps)
    for row in range(journeys.n_steps):
        user = journeys.user_of_step[row]
        t = int(expected.mask[row].sum())
        ours, index = policy.found[int(journeys.users[user]), float(journeys.time[row])]
        assert int(ours.mask[index].sum()) == t
        for part in ("before", "previous", "so_far"):
            a, b = getattr(ours, part), getattr(expected, part)
            assert set(a) == set(b)
            for name in a:
                assert a[name].dtype == b[name].dtype
                assert a[name][index, :t].tobytes() == b[name][row, :t].tobytes(), (part, name)
        for name in expected.user:
            assert ours.user[name][index] == expected.user[name][row]
        assert ours.categories == expected.categories


def test_propensities_in_the_log_are_the_policys_on_the_logs_histories(tmp_path: Path) -> None:
    journeys = simulate(ADS, 300, 6, MemoryPolicy(Clicked()), 5, tmp_path / "log")
    rows = np.arange(journeys.n_steps)
    p = Clicked().probabilities(journeys.histories(rows))
    assert np.array_equal(p[rows, journeys.channel], journeys.column("propensity"))


def test_blocks_of_users_leave_no_trace_and_values_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = true_value(ADS, MemoryPolicy(Clicked()), 300, days=4, seed=2)
    monkeypatch.setattr("headrace.simulate.value.BLOCK", 64)
    blocks = true_value(ADS, MemoryPolicy(Clicked()), 300, days=4, seed=2)
    for name, values in whole.per_user.items():
        assert np.array_equal(values, blocks.per_user[name]), name


def test_a_policy_that_learns_from_history_beats_uniform() -> None:
    base = true_value(ADS, "uniform", 1500, 8, seed=1)
    margin = true_value(ADS, MemoryPolicy(Clicked()), 1500, 8, seed=1).less(base, "clicks")
    assert margin.low is not None and margin.low > 0
