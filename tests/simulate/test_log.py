"""Simulated logs: valid journeys, exact propensities, nothing of the truth in them."""

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.simulate.ads import AdsWorld, Context, Outcomes
from headrace.simulate.draws import Floats
from headrace.simulate.log import BLOCK, schema, simulate
from headrace.simulate.policies import named, rollout
from headrace.simulate.scenario import Scenario

ADS = Scenario.load("ads")
M = len(ADS.channels)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return simulate(ADS, 3000, None, "logging", 1, tmp_path_factory.mktemp("world") / "journeys")


@pytest.fixture(scope="module")
def random_log(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return simulate(ADS, 12_000, 3, "uniform", 2, tmp_path_factory.mktemp("world") / "journeys")


def test_demo_size_is_simulated_in_seconds(tmp_path: Path) -> None:
    start = perf_counter()
    journeys = simulate(ADS, 3000, None, "logging", 0, tmp_path / "j")
    assert perf_counter() - start < 5
    assert 2900 < journeys.n_users <= 3000
    assert 20 < journeys.n_steps / journeys.n_users < 30


def test_equal_settings_give_equal_journeys_and_others_do_not(tmp_path: Path) -> None:
    def fingerprint(users: int = 200, days: int = 5, policy: str = "logging", seed: int = 1) -> str:
        return simulate(ADS, users, days, policy, seed, tmp_path / "j").fingerprint

    same = fingerprint()
    assert fingerprint() == same
    for other in ({"users": 201}, {"days": 6}, {"policy": "uniform"}, {"seed": 2}):
        assert fingerprint(**other) != same  # type: ignore[arg-type]


def test_blocks_of_users_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate(ADS, 700, 4, "logging", 1, tmp_path / "a")
    monkeypatch.setattr("headrace.simulate.log.BLOCK", 64)
    assert simulate(ADS, 700, 4, "logging", 1, tmp_path / "b").fingerprint == whole.fingerprint
    assert BLOCK > 700


def test_journeys_are_sorted_whole_and_within_bounds(logged: Journeys) -> None:
    assert logged.schema == schema(ADS)
    lengths = np.diff(logged.offsets)
    assert (lengths > 0).all() and lengths.sum() == logged.n_steps
    assert (np.diff(logged.users) > 0).all()
    assert logged.time is not None
    ahead = np.diff(logged.time)
    ahead[logged.offsets[1:-1] - 1] = 0
    assert (ahead >= 0).all()
    for name in logged.column_names:
        values = logged.column(name)
        expected = {"offsets": logged.n_users + 1, "users": logged.n_users}.get(name)
        if expected is None:
            expected = logged.n_users if name.startswith("user/") else logged.n_steps
        assert len(values) == expected, name
        assert np.isfinite(values).all(), name
        if name in logged.categories:
            assert values.min() >= 0 and values.max() < len(logged.categories[name]), name
    assert set(np.unique(logged.channel)) == set(range(M))
    for name, total in (("click", "clicks"), ("conversion", "conversions"), ("revenue", "revenue")):
        assert logged.gain(name).sum() == pytest.approx(logged.manifest["notes"]["totals"][total])


def test_every_feature_and_gain_of_the_schema_is_there_and_no_other(logged: Journeys) -> None:
    features = {("user/" if f.level == "user" else "feature/") + f.name for f in logged.schema.features}
    gains = {f"gain/{g.name}" for g in logged.schema.gains} | {"known_at/conversion", "known_at/revenue"}
    plain = {"offsets", "users", "time", "channel", "cost", "propensity"}
    assert set(logged.column_names) == features | gains | plain


def test_conversions_are_known_after_their_exposure_and_within_the_window(logged: Journeys) -> None:
    known, converted = logged.column("known_at/conversion"), logged.gain("conversion") == 1
    window = ADS.ads.conversion_window_days * 86_400_000
    assert logged.time is not None
    delay = known - logged.time
    assert (delay >= 1).all() and (delay <= window).all()
    assert (delay[~converted] == window).all()
    hours = delay[converted] / 3_600_000
    assert hours.mean() == pytest.approx(ADS.ads.conversion_delay_hours, rel=0.2)
    assert (logged.gain("revenue")[~converted] == 0).all() and (logged.gain("revenue")[converted] > 0).all()
    assert converted.sum() > 300


def test_costs_are_the_channels_prices(logged: Journeys) -> None:
    exposure = np.array([c.cost_per_exposure for c in ADS.ads.channels])[logged.channel]
    click = np.array([c.cost_per_click for c in ADS.ads.channels])[logged.channel]
    assert np.array_equal(logged.column("cost"), exposure + click * logged.gain("click"))


def test_logged_propensities_are_the_policys_and_match_the_frequencies() -> None:
    world = AdsWorld(ADS, 3000, seed=3, days=6)
    policy = named("logging", ADS)(world)
    given: list[Floats] = []

    def watched(context: Context) -> Floats:
        given.append(policy(context))
        return given[-1]

    expected, variance, got = np.zeros(M), np.zeros(M), np.zeros(M)
    for index, step in enumerate(rollout(world, watched)):
        p, channel = given[index], step.outcomes.channel
        assert p.sum(axis=1) == pytest.approx(1)
        assert p.min() > 0.02  # every channel is possible
        assert np.array_equal(step.propensity, p[np.arange(len(p)), channel])
        expected += p.sum(axis=0)
        variance += (p * (1 - p)).sum(axis=0)
        got += np.bincount(channel, minlength=M)
    assert (np.abs(got - expected) < 4 * np.sqrt(variance)).all()


def test_no_advert_has_the_propensity_that_is_left() -> None:
    world = AdsWorld(ADS, 400, seed=3, days=2)
    none = 0
    for step in rollout(world, lambda context: np.tile([0.1, 0.05, 0.0, 0.2, 0.05], (len(context["row"]), 1))):
        shown = step.outcomes.channel
        assert step.propensity == pytest.approx(np.array([0.1, 0.05, 0.0, 0.2, 0.05, 0.6])[shown])
        none += int((shown == -1).sum())
    assert none == pytest.approx(0.6 * (none + world.totals["exposures"].sum()), rel=0.1)


def test_inverse_propensities_average_to_one_in_every_channel(logged: Journeys) -> None:
    for m in range(M):
        weight = (logged.channel == m) / logged.column("propensity")
        assert weight.mean() == pytest.approx(1, abs=5 * weight.std() / np.sqrt(len(weight)))


def test_random_log_estimates_cover_the_true_value_of_constant_policies(random_log: Journeys, tmp_path: Path) -> None:
    """Per-decision importance sampling over each user's first two exposures, against rollouts of other users."""
    first = random_log.offsets[:-1][np.diff(random_log.offsets) >= 2]
    covered = 0
    for m, name in enumerate(ADS.channels):
        w1 = (random_log.channel[first] == m) / random_log.column("propensity")[first]
        w2 = w1 * (random_log.channel[first + 1] == m) / random_log.column("propensity")[first + 1]
        click = random_log.gain("click")
        estimate = w1 * click[first] + w2 * click[first + 1]
        truth_log = simulate(ADS, 12_000, 3, f"constant:{name}", 77, tmp_path / "truth")
        rows = truth_log.offsets[:-1][np.diff(truth_log.offsets) >= 2]
        truth = truth_log.gain("click")[rows].astype(float) + truth_log.gain("click")[rows + 1]
        error = np.sqrt(estimate.var() / len(estimate) + truth.var() / len(truth))
        difference = abs(estimate.mean() - truth.mean())
        assert difference < 3.5 * error, name
        covered += difference < 1.96 * error
    assert covered >= M - 1


def test_policy_object_acts_in_calendar_order_and_is_told_outcomes(tmp_path: Path) -> None:
    class LastClick:
        """Stays with a channel that was clicked, else explores; a tenth of the opportunities get no advert."""

        def __init__(self) -> None:
            self.favourite: dict[int, int] = {}
            self.days: list[int] = []

        def __call__(self, context: Context) -> Floats:
            self.days.append(int(context["day"][0]))
            p = np.full((len(context["user"]), M), 0.9 / M)
            for i, user in enumerate(context["user"]):
                if user in self.favourite:
                    p[i] = 0.0
                    p[i, self.favourite[user]] = 0.9
            return p

        def record(self, context: Context, outcomes: Outcomes) -> None:
            for i in np.flatnonzero(outcomes.click):
                self.favourite[int(context["user"][i])] = int(outcomes.channel[i])

    policy = LastClick()
    journeys = simulate(ADS, 300, 6, policy, 0, tmp_path / "j")
    assert policy.days == sorted(policy.days)
    assert journeys.n_steps == journeys.manifest["notes"]["totals"]["exposures"]
    assert (journeys.channel >= 0).all()
    assert {round(p, 9) for p in np.unique(journeys.column("propensity"))} == {0.9 / M, 0.9}
    everything = simulate(ADS, 300, 6, "uniform", 0, tmp_path / "all").n_steps
    assert journeys.n_steps == pytest.approx(0.9 * everything, rel=0.05)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    simulate(ADS, 100, 5, "uniform", 0, tmp_path / "j", progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (500, 500)


@pytest.mark.parametrize(
    ("users", "policy", "message"),
    [
        (10, "unifrm", "unknown policy 'unifrm', did you mean 'uniform'?"),
        (10, "constant:serch", "unknown channel 'serch', did you mean 'search'?"),
        (10, "none", "showed no advert"),
        (0, "uniform", "users is 0, expected 1 or more"),
        (10, lambda context: np.full((len(context["row"]), M), 0.5), "no distribution, first user"),
        (10, lambda context: np.ones((len(context["row"]), 2)), "expected"),
        (10, lambda context: np.full((len(context["row"]), M), np.nan), "no distribution"),
    ],
)
def test_mistake_is_told_in_one_line_and_leaves_nothing_behind(
    users: int, policy: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        simulate(ADS, users, 3, policy, 0, tmp_path / "j")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
