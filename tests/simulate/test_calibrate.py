"""A scenario fitted to a log comes back to it; what the log does not tell is varied without leaving the log."""

import json
import math
import re
from hashlib import sha256
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from headrace.cli import run
from headrace.errors import UserError
from headrace.journeys.prepare import prepare
from headrace.journeys.schema import Cost, Gain, LogSchema
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.simulate.ads import AdsWorld, Context, Outcomes
from headrace.simulate.ads_statistics import Compared, by_channel, compare, read_rows, simulated_rows
from headrace.simulate.calibrate import calibrate, variants
from headrace.simulate.draws import Floats
from headrace.simulate.log import simulate
from headrace.simulate.policies import named, rollout
from headrace.simulate.scenario import Scenario

ADS, CRITEO = Scenario.load("ads"), Scenario.load("criteo")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return simulate(ADS, 3000, None, "logging", 1, tmp_path_factory.mktemp("log") / "journeys")


def logged(scenario: Scenario, users: int = 3000, seed: int = 7):  # type: ignore[no-untyped-def]
    world = AdsWorld(scenario, users, seed)
    return simulated_rows(world, rollout(world, named("logged", scenario)(world)))


def test_fit_to_a_simulated_log_finds_its_prices_and_rates_again(simulated: Journeys) -> None:
    fitted, compared = calibrate(simulated, "again")
    for ours, theirs in zip(fitted.ads.channels, ADS.ads.channels, strict=True):
        assert ours.name == theirs.name
        assert ours.cost_per_exposure == pytest.approx(theirs.cost_per_exposure, abs=1e-6)
        assert ours.cost_per_click == pytest.approx(theirs.cost_per_click, abs=1e-4)
        assert ours.cost_spread == 0
    assert fitted.days == ADS.days and fitted.start == ADS.start
    far = {c.statistic: c.distance for c in compared}
    for statistic in ("click rate", "channel distribution", "mean journey length", "cost by channel"):
        assert far[statistic] < 0.05, statistic
    assert far["click rate by channel"] < 0.1 and far["journey length distribution"] < 0.1
    assert far["spread of users' click rates"] < 0.3
    assert Scenario.from_dict(fitted.to_dict()) == fitted


def test_criteo_scenario_is_what_a_fit_to_the_sample_gives(shared_data: Path, tmp_path: Path) -> None:
    journeys = prepare(shared_data / "criteo_attribution", "criteo-attribution-sample", tmp_path / "criteo")
    fitted, compared = calibrate(journeys, "criteo")
    for ours, theirs in zip(fitted.ads.channels, CRITEO.ads.channels, strict=True):
        assert ours.click_rate == pytest.approx(theirs.click_rate, rel=1e-3)
        assert ours.conversion_rate == pytest.approx(theirs.conversion_rate, rel=1e-3)
        assert ours.cost_per_exposure == pytest.approx(theirs.cost_per_exposure, rel=1e-3)
    assert fitted.ads.logging.shares == pytest.approx(CRITEO.ads.logging.shares, rel=1e-2)
    assert fitted.users.click_spread == pytest.approx(CRITEO.users.click_spread, rel=1e-3)
    found = {c.statistic: c for c in compared}
    assert found["click rate"].real == pytest.approx(0.479, abs=0.002)
    for statistic, most in (
        ("click rate", 0.02),
        ("click rate by channel", 0.05),
        ("spread of users' click rates", 0.1),
        ("purchases per click", 0.1),
        ("channel distribution", 0.05),
        ("same channel as last time", 0.03),
        ("mean journey length", 0.02),
        ("journey length distribution", 0.2),
        ("cost by channel", 0.15),
    ):
        assert found[statistic].distance < most, statistic


def test_logged_policy_has_the_shares_and_the_repetition_of_the_scenario(tmp_path: Path) -> None:
    journeys = simulate(CRITEO, 1500, None, "logged", 3, tmp_path / "log")
    channel, user = np.asarray(journeys.channel), journeys.user_of_step
    share = np.bincount(channel, minlength=len(CRITEO.channels)) / len(channel)
    assert share.max() == pytest.approx(0.62, abs=0.04)
    same = user[1:] == user[:-1]
    assert (channel[1:] == channel[:-1])[same].mean() == pytest.approx(0.70, abs=0.03)
    cost = np.asarray(journeys.column("cost"))
    for m in np.flatnonzero(share > 0.1):
        mine = CRITEO.ads.channels[m]
        assert np.log(cost[channel == m]).std() == pytest.approx(mine.cost_spread, rel=0.05)
        assert np.log(cost[channel == m]).mean() == pytest.approx(
            math.log(mine.cost_per_exposure) - mine.cost_spread**2 / 2, abs=0.1
        )


def test_logged_policys_probabilities_are_those_it_acts_by() -> None:
    world = AdsWorld(CRITEO, 1500, seed=4)
    policy = named("logged", CRITEO)(world)
    m = len(CRITEO.channels)
    expected, variance, got = np.zeros(m), np.zeros(m), np.zeros(m)
    given: list[np.ndarray] = []

    class Watched:
        def __call__(self, context: Context) -> Floats:
            given.append(policy(context))
            return given[-1]

        def record(self, context: Context, outcomes: Outcomes) -> None:
            policy.record(context, outcomes)  # type: ignore[attr-defined]

    for index, step in enumerate(rollout(world, Watched())):
        p = given[index]
        assert p.sum(axis=1) == pytest.approx(1)
        assert np.array_equal(step.propensity, p[np.arange(len(p)), step.outcomes.channel])
        expected, variance = expected + p.sum(axis=0), variance + (p * (1 - p)).sum(axis=0)
        got += np.bincount(step.outcomes.channel, minlength=m)
    assert (np.abs(got - expected) < 4 * np.sqrt(variance)).all()


def test_variants_differ_where_the_log_is_silent_and_agree_where_it_speaks() -> None:
    found = variants(CRITEO)
    assert len(found) >= 6 and found["as given"] == CRITEO
    assert len({scenario.sha256 for scenario in found.values()}) == len(found)
    base = logged(CRITEO)
    for name, scenario in found.items():
        rows = logged(scenario)
        assert rows.click.mean() == pytest.approx(base.click.mean(), abs=0.015), name
        assert rows.purchase[rows.click].mean() == pytest.approx(base.purchase[base.click].mean(), rel=0.2), name
        assert np.nanmax(np.abs(by_channel(rows, rows.click) - by_channel(base, base.click))) < 0.15, name


def test_a_purchase_that_is_stamped_back_counts_once(tmp_path: Path) -> None:
    schema = LogSchema(
        "stamped", user="u", channel="c", channels=("a", "b"), cost=Cost("w", context=True),
        gains=(Gain("click"), Gain("conversion", known="never")),
    )  # fmt: skip
    columns = {
        "channel": np.zeros(8, dtype=np.int32),
        "gain/click": np.array([1, 1, 0, 1, 1, 0, 1, 1]),
        "gain/conversion": np.array([1, 1, 0, 1, 0, 0, 1, 1]),
        "cost": np.ones(8),
    }
    with JourneysWriter(tmp_path / "j", schema) as writer:
        writer.append(np.array([0, 1]), np.array([6, 2]), columns)
        journeys = writer.close()
    assert read_rows(journeys).purchase.tolist() == [False, False, False, True, False, False, False, True]


def test_distances_are_nought_between_a_log_and_itself(simulated: Journeys) -> None:
    rows = read_rows(simulated)
    found = compare(rows, rows)
    assert all(isinstance(c, Compared) and c.distance == 0 for c in found)
    rate = next(c for c in found if c.statistic == "click rate")
    assert rate.low is not None and rate.high is not None and rate.low < rate.real < rate.high


def test_a_log_without_adverts_is_refused_in_one_line(tmp_path: Path) -> None:
    schema = LogSchema("bare", user="u", channel="c", channels=("a",), gains=(Gain("click"),))
    with JourneysWriter(tmp_path / "j", schema) as writer:
        writer.append(np.arange(2), np.array([1, 1]), {"channel": np.zeros(2, dtype=int), "gain/click": np.zeros(2)})
        journeys = writer.close()
    with pytest.raises(UserError, match="no conversion, cost; an advertising scenario"):
        calibrate(journeys)


def test_commands_fit_a_scenario_and_simulate_it(
    simulated: Journeys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "mine.toml"
    assert run(["calibrate", str(simulated.path), "--out", str(scenario)]) == 0
    assert "click rate by channel" in capsys.readouterr().out
    results = json.loads((tmp_path / "mine.results.json").read_text())
    assert {r["method"] for r in results} == {"log", "mine"}
    assert any(r["metric"] == "calibration/click_rate/distance" for r in results)
    command = ["simulate", str(scenario), "--policy", "logged", "--users", "50", "--out", str(tmp_path / "log")]
    assert run(command) == 0
    assert Journeys(tmp_path / "log").manifest["notes"]["policy"] == "logged"
    for wrong, message in (
        (["simulate", "ads", "--task", "fed"], "unknown task 'fed', did you mean 'feed'"),
        (["simulate", "ads", "--task", "feed"], "it has no [feed]"),
        (["simulate", "ads", "--policy", str(tmp_path)], "a folder, but not a run"),
        (["calibrate", str(simulated.path)], "expected a file that ends in .toml"),
    ):
        assert run([*wrong, "--out", str(tmp_path / "other")]) == 2
        assert message in capsys.readouterr().err


def test_shipped_scenarios_are_those_of_the_documented_table() -> None:
    """A scenario is frozen before any method runs on it: whoever changes one must change the table in docs/world.md."""
    page = Path(__file__).resolve().parents[2] / "docs" / "world.md"
    table = dict(re.findall(r"^\| `([a-z-]+)` \|.*`([0-9a-f]{64})` \|$", page.read_text(encoding="utf-8"), re.M))
    folder = resources.files("headrace.simulate") / "scenarios"
    files = {entry.name[:-5]: entry for entry in folder.iterdir() if entry.name.endswith(".toml")}
    assert {name: sha256(entry.read_bytes()).hexdigest() for name, entry in files.items()} == table
