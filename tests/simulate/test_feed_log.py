"""Simulated feed logs: valid journeys with lists, exact densities, ends told apart."""

from pathlib import Path

import numpy as np
import pytest

from headrace.errors import UserError
from headrace.journeys.seams import History
from headrace.journeys.store import Journeys
from headrace.simulate import feed_log
from headrace.simulate.feed import FeedWorld, best
from headrace.simulate.feed_log import simulate_feed
from headrace.simulate.feed_policies import BoxNormal, log_density, rollout
from headrace.simulate.feed_scenario import BEHAVIOURS
from headrace.simulate.feed_schema import ITEM_OUTCOMES, schema
from headrace.simulate.scenario import Scenario

FEED = Scenario.load("feed")
TASK = FEED.feed_task
C, K = TASK.candidates, TASK.shown


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return simulate_feed(FEED, 400, 4, "groups", 1, tmp_path_factory.mktemp("feed") / "journeys")


def test_equal_settings_give_equal_journeys_and_others_do_not(tmp_path: Path) -> None:
    def fingerprint(users: int = 20, days: int = 2, policy: str = "random", seed: int = 1) -> str:
        return simulate_feed(FEED, users, days, policy, seed, tmp_path / "j").fingerprint

    same = fingerprint()
    assert fingerprint() == same
    for other in ({"users": 25}, {"days": 3}, {"policy": "uniform"}, {"seed": 2}):
        assert fingerprint(**other) != same  # type: ignore[arg-type]


def test_blocks_and_pieces_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate_feed(FEED, 150, 2, "groups", 1, tmp_path / "a", lists="shown")
    monkeypatch.setattr(feed_log, "BLOCK", 32)
    monkeypatch.setattr(feed_log, "_AT_ONCE", 10)
    assert simulate_feed(FEED, 150, 2, "groups", 1, tmp_path / "b", lists="shown").fingerprint == whole.fingerprint


def test_journeys_are_sorted_whole_and_finite(logged: Journeys) -> None:
    assert logged.schema == schema(FEED)
    lengths = np.diff(logged.offsets)
    assert (lengths > 0).all() and lengths.sum() == logged.n_steps
    assert (np.diff(logged.users) > 0).all()
    assert logged.time is not None
    same = np.diff(logged.user_of_step) == 0
    assert (np.diff(logged.time)[same] > 0).all()
    assert (np.diff(logged.column("item_offsets")) == C).all()
    for name in logged.column_names:
        values = logged.column(name)
        expected = logged.n_steps * C if name.startswith("item/") else logged.n_steps
        if name not in ("offsets", "item_offsets", "users") and not name.startswith("user/"):
            assert len(values) == expected, name
        assert np.isfinite(values).all(), name
        if name in logged.categories:
            assert values.min() >= 0 and values.max() < len(logged.categories[name]), name
    totals = logged.manifest["notes"]["totals"]
    for name in ("dwell_s", "click", "like", "positive", "exit"):
        assert logged.gain(name).sum() == pytest.approx(totals[name])
    assert logged.n_steps == totals["requests"]


def test_every_feature_gain_and_list_of_the_schema_is_there_and_the_rest_is_documented(logged: Journeys) -> None:
    features = {("user/" if f.level == "user" else "feature/") + f.name for f in logged.schema.features}
    gains = {f"gain/{g.name}" for g in logged.schema.gains} | {"known_at/returned"}
    items = {"item/id", "item/topic", "item/duration_s", "item/position"}
    items |= {f"item/score/{name}" for name in BEHAVIOURS} | {f"item/outcome/{name}" for name in ITEM_OUTCOMES}
    boxed = {f"{part}/{name}" for part in ("action", "mean", "low", "high") for name in BEHAVIOURS}
    plain = {"offsets", "users", "time", "session", "terminated", "truncated", "log_propensity", "item_offsets"}
    assert set(logged.column_names) == features | gains | items | boxed | plain


def test_lists_agree_with_their_steps(logged: Journeys) -> None:
    position = np.asarray(logged.column("item/position")).reshape(-1, C)
    assert (np.sort(position, axis=1)[:, -K:] == np.arange(K)).all() and (position == -1).sum() == len(logged) * (C - K)
    for name in ("click", "like", "seen", "exit", "hate"):
        of_items = np.asarray(logged.column(f"item/outcome/{name}")).reshape(-1, C)
        assert (of_items[position < 0] == 0).all()
        assert np.array_equal(of_items.sum(axis=1), logged.gain(name)), name
    play = np.asarray(logged.column("item/outcome/play_s")).reshape(-1, C).sum(axis=1, dtype=np.float64)
    assert play == pytest.approx(np.asarray(logged.gain("dwell_s")), rel=1e-5)
    alpha = np.stack([np.asarray(logged.column(f"action/{name}")) for name in BEHAVIOURS], axis=1).astype(np.float32)
    scores = [np.asarray(logged.column(f"item/score/{name}")).reshape(-1, C) for name in BEHAVIOURS]
    fused = np.zeros_like(scores[0])
    for k, made in enumerate(TASK.predictions):
        fused += np.log(scores[k] + np.float32(made.offset)) * alpha[:, k, None]
    assert np.array_equal(np.take_along_axis(position, best(fused, K), axis=1), np.tile(np.arange(K), (len(logged), 1)))


def test_logged_densities_are_those_of_the_logged_means_and_box(logged: Journeys) -> None:
    part = {
        p: np.stack([np.asarray(logged.column(f"{p}/{name}")) for name in BEHAVIOURS], axis=1)
        for p in ("action", "mean", "low", "high")
    }
    assert (part["action"] >= part["low"]).all() and (part["action"] <= part["high"]).all()
    found = np.asarray(logged.column("log_propensity"))
    half = (part["high"] - part["low"]) / 2
    explored = np.any(part["mean"] != 0, axis=1)
    for rows, spread in ((explored, 0.1), (~explored, 0.5)):
        made = log_density(
            part["action"][rows], part["mean"][rows], spread * half[0], part["low"][rows], part["high"][rows]
        )
        assert np.allclose(made, found[rows])
        assert rows.any()


def test_sessions_end_in_left_or_cut_and_returns_become_known_later(logged: Journeys) -> None:
    user, session = logged.user_of_step, np.asarray(logged.column("session"))
    last = np.append((np.diff(user) != 0) | (np.diff(session) != 0), True)
    terminated, truncated = (np.asarray(logged.column(name)) == 1 for name in ("terminated", "truncated"))
    assert np.array_equal(terminated | truncated, last) and not (terminated & truncated).any()
    assert np.array_equal(terminated, np.asarray(logged.gain("exit")) == 1)
    assert logged.time is not None
    day = (np.asarray(logged.time) - FEED.start_ms) // 86_400_000
    known, returned = np.asarray(logged.column("known_at/returned")), np.asarray(logged.gain("returned")) == 1
    assert (known > logged.time).all()
    midnight = FEED.start_ms + 86_400_000 * (day + 2)
    assert (known[~returned] >= midnight[~returned] - 86_400_000).all()
    assert 0.4 < returned.mean() < 0.9
    came = {(u, d) for u, d in zip(user.tolist(), day.tolist(), strict=True)}
    early = (day < 2) & (np.asarray(logged.feature("hour")) < 21)  # sessions beyond midnight belong to their day
    agrees = [((u, d + 1) in came) == r for u, d, r in zip(user[early], day[early], returned[early], strict=True)]
    assert np.mean(agrees) > 0.98


def test_logs_without_lists_or_with_the_shown_only_hold_the_same_steps(logged: Journeys, tmp_path: Path) -> None:
    shown = simulate_feed(FEED, 400, 4, "groups", 1, tmp_path / "s", lists="shown")
    none = simulate_feed(FEED, 400, 4, "groups", 1, tmp_path / "n", lists="none")
    for name in none.column_names:
        assert np.array_equal(none.column(name), logged.column(name)), name
    at = np.asarray(logged.column("item/position")) >= 0
    order = np.argsort(np.asarray(logged.column("item/position"))[at].reshape(-1, K), axis=1)
    for name in ("item/id", "item/score/click", "item/outcome/play_s"):
        kept = np.asarray(logged.column(name))[at].reshape(-1, K)
        assert np.array_equal(np.take_along_axis(kept, order, axis=1).ravel(), shown.column(name)), name
    assert not any(name.startswith("item/") for name in none.column_names)


def test_log_splits_and_gives_histories(logged: Journeys) -> None:
    split = logged.split("time", 0)
    assert sum(int(part.sum()) for part in split.parts.values()) > 0
    histories = logged.histories(np.array([3, 10]), steps=5)
    assert histories.before["hour"].shape == (2, 5)
    assert "dwell_s" in histories.previous and "past_loyalty_score" in histories.user


def test_a_predictor_sees_the_histories_that_the_log_gives(tmp_path: Path) -> None:
    asked: list[History] = []

    class Watching:
        behaviours = BEHAVIOURS

        def predict(self, histories: History, candidates: dict[str, np.ndarray]) -> np.ndarray:
            asked.append(histories)
            return np.random.default_rng(len(asked)).random((*candidates["item"].shape, 12))

    journeys = simulate_feed(FEED, 40, 4, "score:click", 5, tmp_path / "j", predictor=Watching(), lists="none")
    assert sum(len(histories) for histories in asked) == len(journeys)
    whole = journeys.histories(np.arange(len(journeys)))

    def rows(histories: History) -> list[str]:
        found = []
        for b in range(len(histories)):
            t = histories.mask[b]
            parts = [histories.before[n][b][t] for n in sorted(histories.before)]
            parts += [histories.previous[n][b][t] for n in sorted(histories.previous)]
            parts += [histories.so_far[n][b][t].ravel() for n in sorted(histories.so_far)]
            parts += [np.atleast_1d(histories.user[n][b]) for n in sorted(histories.user)]
            found.append(repr([part.astype(float).tolist() for part in parts]))
        return found

    assert sorted(row for histories in asked for row in rows(histories)) == sorted(rows(whole))


def test_random_log_estimates_cover_the_first_request_value_of_another_policy(tmp_path: Path) -> None:
    """Density ratios over the first request of each user, against rollouts of others."""
    narrow = 0.9 * np.ones(12)

    def target(world: FeedWorld) -> np.ndarray:
        return np.full(12, 0.15)

    random = simulate_feed(FEED, 6000, 1, "random", 2, tmp_path / "r", lists="none")
    first = random.offsets[:-1]
    action = np.stack([np.asarray(random.column(f"action/{name}")) for name in BEHAVIOURS], axis=1)[first]
    low, high = (
        np.stack([np.asarray(random.column(f"{p}/{name}")) for name in BEHAVIOURS], axis=1)[first]
        for p in ("low", "high")
    )
    world = FeedWorld(FEED, np.arange(6000) + 50_000, 3, 1)
    policy = BoxNormal(world, target(world), narrow)
    step = next(iter(rollout(world, policy)))
    truth = step.outcomes.by_item["play_s"].sum(axis=1)
    mean = np.broadcast_to(target(world), action.shape)
    ratio = np.exp(log_density(action, mean, narrow, low, high) - np.asarray(random.column("log_propensity"))[first])
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / np.sqrt(len(ratio)))
    value = ratio * np.asarray(random.gain("dwell_s"))[first]
    error = np.sqrt(value.var() / len(value) + truth.var() / len(truth))
    assert abs(value.mean() - truth.mean()) < 3.5 * error


@pytest.mark.parametrize(
    ("users", "policy", "message"),
    [(0, "random", "users is 0"), (10, "randm", "did you mean 'random'"), (10, lambda q: np.ones((1, 5)), "expected")],
)
def test_mistake_is_told_in_one_line_and_leaves_nothing_behind(
    users: int, policy: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        simulate_feed(FEED, users, 2, policy, 0, tmp_path / "j")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_memory_like_callables_are_told_outcomes_in_order(tmp_path: Path) -> None:
    class Counting:
        def __init__(self) -> None:
            self.days: list[int] = []
            self.seen = 0

        def __call__(self, requests):  # type: ignore[no-untyped-def]
            self.days.append(int(requests.context["day"][0]))
            return np.zeros(12)

        def record(self, requests, outcomes) -> None:  # type: ignore[no-untyped-def]
            self.seen += int(outcomes.by_item["seen"].sum())

    policy = Counting()
    journeys = simulate_feed(FEED, 50, 3, policy, 0, tmp_path / "j")
    assert policy.days == sorted(policy.days)
    assert policy.seen == np.asarray(journeys.gain("seen")).sum()
    assert not journeys.has("log_propensity") and journeys.has("action/click")
