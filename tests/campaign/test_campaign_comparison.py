"""Comparisons of campaigns: equal users and luck, resumed cell by cell, references where they belong."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from headrace.campaign import world_market
from headrace.campaign.account import total
from headrace.campaign.allocator import Forecast, Price
from headrace.campaign.bounds import BOUNDS, bound_of, why_none
from headrace.campaign.comparing import Cell, Contest, compare, mean_total, share_of
from headrace.campaign.config import CampaignConfig
from headrace.campaign.contestants import CONTESTANTS, PLAIN, TRAINED
from headrace.campaign.correction import Corrected, Line, line
from headrace.campaign.informed import Informed, Posterior
from headrace.campaign.procedure import run_campaign
from headrace.campaign.rivals import ByLot, Dual, FixedPrice, Means
from headrace.campaign.scores import OverNoAd, Scores
from headrace.campaign.world_market import TrueRates, WorldMarket
from headrace.cli import run as headrace
from headrace.evaluate.results import Source
from headrace.report.page import write_page
from headrace.simulate.ads import AdsWorld
from headrace.simulate.relaxation import bound
from headrace.simulate.scenario import Scenario

ADS = Scenario.load("ads")


def scores(n: int = 400, m: int = 3, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    gain, cost = rng.random((n, m)), 0.5 + rng.random((n, m))
    return Scores(gain, cost, gain.max(axis=1), np.full((n, m), 1 / m))


def forecast(found: Scores, allowance: float = 0.3) -> Forecast:
    n, m = found.gain.shape
    return Forecast(found, np.ones(n), allowance, np.full(m, 1 / m))


@pytest.mark.parametrize("allocator", [ByLot((1.0, 2.0, 1.0)), ByLot((1.0, 2.0, 1.0), "money"), Dual(), Price()])
def test_every_rule_is_expected_to_spend_its_allowance(allocator) -> None:
    found = scores()
    chances = allocator.fix(forecast(found)).chances(found)
    assert (chances >= 0).all() and (chances.sum(axis=1) <= 1 + 1e-9).all()
    assert float((chances * found.cost).sum()) == pytest.approx(0.3 * len(found), rel=0.02)


def test_money_by_lot_is_shared_as_it_was_asked_for() -> None:
    found = scores()
    chances = ByLot((1.0, 3.0, 0.0), "money").fix(forecast(found)).chances(found)
    spend = (chances * found.cost).sum(axis=0)
    assert spend / spend.sum() == pytest.approx([0.25, 0.75, 0.0], abs=0.03)


def test_the_dual_keeps_a_channels_cap_and_floor() -> None:
    found = scores()
    free = Dual().fix(forecast(found)).chances(found)
    bound = Dual(caps=(0.1, 1.0, 1.0), floors=(0.0, 0.6, 0.0)).fix(forecast(found)).chances(found)
    share = [(c * found.cost).sum(axis=0) / (c * found.cost).sum() for c in (free, bound)]
    assert share[0][0] > 0.2 and share[1][0] < 0.11 and share[1][1] > 0.58


def test_without_limits_the_dual_is_the_price() -> None:
    found = scores()
    assert np.array_equal(Dual().fix(forecast(found)).chances(found), Price().fix(forecast(found)).chances(found)) or (
        np.abs(Dual().fix(forecast(found)).chances(found) - Price().fix(forecast(found)).chances(found)).sum() <= 4
    )


def test_a_fixed_price_does_not_look_at_the_forecast() -> None:
    a, b = scores(seed=1), scores(seed=2)
    assert np.array_equal(FixedPrice(0.4).fix(forecast(a)).chances(b), FixedPrice(0.4).fix(forecast(b)).chances(b))


def test_weighting_by_propensities_undoes_who_was_shown_a_channel() -> None:
    rng = np.random.default_rng(0)
    n = 60_000
    taste = rng.random((n, 2))  # the policy sees it, the predictor does not
    chance = np.stack([0.1 + 0.8 * (taste[:, 0] > taste[:, 1]), 0.9 - 0.8 * (taste[:, 0] > taste[:, 1])], axis=1)
    channel = (rng.random(n) > chance[:, 0]).astype(np.int64)
    came = (rng.random(n) < taste[np.arange(n), channel]).astype(np.float64)
    foreseen = np.stack([np.full(n, came[channel == c].mean()) for c in range(2)], axis=1)
    foreseen += rng.normal(0, 0.05, foreseen.shape)  # says nothing of anybody
    weight = 1 / chance[np.arange(n), channel]
    found = line(foreseen, came, channel, weight).apply(foreseen)
    assert foreseen.mean() > 0.57  # those who were shown a channel liked it
    assert found.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.02)
    assert found.std() < 0.5 * foreseen.std()


def test_a_channel_that_was_never_shown_keeps_its_predictions() -> None:
    found = line(np.full((50, 2), 0.3), np.zeros(50), np.zeros(50, dtype=np.int64), np.ones(50))
    assert found.slope[1] == 1 and found.apply(np.array([[0.3, 0.7]]))[0, 1] == pytest.approx(0.7)


def test_what_few_large_gains_say_of_a_channel_is_hardly_believed() -> None:
    """Two channels alike, one gain of 100 among 200 adverts of the first: its level stays near that of both together.
    With as much gain spread over all of its adverts it is believed."""
    channel, foreseen, weight = np.repeat([0, 1], 200), np.full((400, 2), 0.25), np.ones(400)
    rare, common = np.zeros(400), np.where(channel == 0, 0.5, 0.0)
    rare[7] = 100.0
    lucky, sure = (line(foreseen, came, channel, weight).observed[0] for came in (rare, common))
    assert 0.25 < lucky < 0.3 and sure == pytest.approx(0.5, rel=0.01)


def test_corrected_gains_never_fall_below_a_share_of_the_channels_mean() -> None:
    lines = Line(np.array([0.5]), np.array([0.2]), np.array([1.0]))
    assert lines.apply(np.array([[0.0]]))[0, 0] == pytest.approx(0.02)


def test_the_increment_closes_the_channel_of_no_advert() -> None:
    base = Means({"click": 1.0}, (0.3, 0.1), (1.0, 0.0))
    market = WorldMarket(ADS, 20, 0, 1)
    found = OverNoAd(base, 1).predict(market, market.reachable())
    assert found.gain[:, 0] == pytest.approx(0.2) and np.isneginf(found.gain[:, 1]).all()
    assert (Price().fix(forecast(found, 10.0)).chances(found)[:, 1] == 0).all()


def test_the_posterior_is_right_in_the_mean_and_learns_from_clicks() -> None:
    market, true, informed = WorldMarket(ADS, 1_500, 3, 4), TrueRates({"click": 1.0}), Informed({"click": 1.0}, 100)
    first, later = [], []
    while not market.done:
        rows = market.reachable()
        ours, real = informed.predict(market, rows), true.predict(market, rows)
        (first if market.day == 0 else later).append((ours.gain, real.gain))
        market.expose(np.arange(len(rows)) % len(ADS.channels), np.ones(len(rows)))
    for parts in (first, later):
        ours, real = (np.concatenate(column) for column in zip(*parts, strict=True))
        assert ours.mean(axis=0) == pytest.approx(real.mean(axis=0), rel=0.12)
        for channel in range(len(ADS.channels)):  # best guesses: no line through them predicts better
            assert np.polyfit(ours[:, channel], real[:, channel], 1)[0] == pytest.approx(1.0, abs=0.25)
    ours, real = (np.concatenate(column) for column in zip(*later, strict=True))
    alone = Posterior(market.world, 100).log_weight.std()
    assert informed._of is not None and informed._of.log_weight.std() > 1.2 * alone
    assert ((ours - real) ** 2).mean() < 0.75 * ((real.mean(axis=0) - real) ** 2).mean()


def test_more_knowledge_brings_more_for_the_same_budget() -> None:
    config = CampaignConfig(30_000_000, **PLAIN, rescore="reachable")
    gained = [
        run_campaign(WorldMarket(ADS, 400, 5, 5), known, Price(), config).value().sum()
        for known in (
            Means({"click": 1.0}, (0.16, 0.1, 0.05, 0.03, 0.12), (0.24, 0.08, 0.055, 0.023, 0.085)),
            Informed({"click": 1.0}),
            TrueRates({"click": 1.0}),
        )
    ]
    assert gained[0] < gained[1] < gained[2]


def cell(gross: np.ndarray, without: float = 0.0) -> Cell:
    n = len(gross)
    return Cell(gross, np.full(n, without), np.full(n, 0.1), np.zeros(2), 0)


def test_differences_are_paired_and_shares_are_of_the_increment() -> None:
    rng = np.random.default_rng(0)
    luck = rng.poisson(5, 500).astype(float)
    found = {
        ("ours", 0): cell(luck + 1, 2.0),
        ("random", 0): cell(luck, 2.0),
        ("full-information", 0): cell(luck + 3, 2.0),
    }
    records, p_values = compare(Source("w", "campaign", "world"), found)
    less = next(r for r in records if r["against"] == "random" and r["metric"] == "true_value")
    assert less["value"] == 500 and less["low"] == less["high"] == 500  # the luck is the same
    share = next(r for r in records if r["metric"] == "share_of_full_information" and r["method"] == "ours")
    assert share["value"] == pytest.approx((luck - 1).sum() / (luck + 1).sum())
    regret = next(r for r in records if r["metric"] == "regret" and r["method"] == "ours" and r["seed"] is None)
    assert regret["value"] == 1_000 and set(p_values) == {"random"}


def test_the_opportunities_to_expect_are_not_counted_on_users_that_play(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = world_market.AdsWorld

    def watched(scenario: Scenario, users: int, seed: int, days: int | None = None) -> AdsWorld:
        seen.append(seed)
        return real(scenario, users, seed, days)

    monkeypatch.setattr(world_market, "AdsWorld", watched)
    Contest(ADS, 50, 1_000_000, 1, first_seed=7).contestant("full-information", SimpleNamespace(weights={"click": 1.0}))
    assert seen and 7 not in seen


def test_bounds_are_those_of_the_very_users_and_say_where_there_are_none(tmp_path: Path) -> None:
    contest = Contest(ADS, 40, 2_000_000, 2)
    found = bound_of("lp-bound", contest, {"click": 3.0}, 5, tmp_path)
    assert found == pytest.approx(3 * bound(ADS, 40, 2, 5, 2.0, "clicks").total)
    assert found == bound_of("lp-bound", contest, {"click": 1.0}, 5, tmp_path)  # kept
    assert why_none(ADS, {"revenue": 1.0}) is None
    assert "clicks alone" in str(why_none(ADS, {"click": 1.0, "revenue": 0.1}))
    assert "spread" in str(why_none(Scenario.load("criteo"), {"click": 1.0}))


def test_intervals_of_a_mean_total_narrow_with_seeds() -> None:
    draws = [np.random.default_rng(s).random(200) for s in range(4)]
    one, four = mean_total(draws[:1]), mean_total(draws)
    assert one.high - one.low == pytest.approx(2 * (four.high - four.low), rel=0.1)
    assert share_of(draws, [np.zeros(200)] * 4).refused


def test_gross_gains_have_no_interval_below_0_and_increments_may() -> None:
    one = np.zeros(300)
    one[7] = 1.0  # who would have bought anyway
    found = {("random", 0): cell(one), ("ours", 0): cell(np.zeros(300)), ("paper", 0): cell(-one)}
    found["random", 0] = dataclasses.replace(found["random", 0], without=np.roll(one, 1))
    records, _ = compare(Source("w", "campaign", "world"), found)
    of = {(r["method"], r["metric"]): r for r in records if r["seed"] == 0}
    normal = total(one)
    assert normal.low < 0
    gross = of["random", "true_value"]
    assert (gross["value"], gross["low"], gross["high"]) == (1.0, 0.0, pytest.approx(normal.high))
    assert of["random", "incremental_value"]["low"] < 0
    assert (of["ours", "true_value"]["value"], of["ours", "true_value"]["low"]) == (0.0, None)  # nothing tells how far
    assert of["paper", "true_value"]["low"] < 0 < of["paper", "true_value"]["high"]  # a gain of negative weight


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contest")
    headrace(["simulate", "ads", "--users", "150", "--days", "8", "--out", str(folder / "log")])
    flags = ["--data", str(folder / "log"), "--reward", "click", "--preset", "tiny", "--out", str(folder / "run")]
    assert headrace(["train", "mtorl", *flags]) == 0
    return folder / "run"


def flags(run: Path, out: Path, methods: str, *budgets: str) -> list[str]:
    found = [
        "compare",
        "campaign",
        "--data",
        "ads",
        "--run",
        str(run),
        "--methods",
        methods,
        "--seeds",
        "2",
        "--seed",
        "1",
    ]
    return [*found, "--users", "60", "--days", "2", "--budget", *(budgets or "5"), "--out", str(out)]


def test_what_a_method_is_worth_alone_is_its_best_channel(trained: Path, tmp_path: Path) -> None:
    from headrace.cli.contest import material_of

    material = material_of(trained, ADS, rivals=tmp_path)
    found = {name: CONTESTANTS[name](material, 0.2) for name in TRAINED}
    weights = {name: (tmp_path / of / "model.safetensors") for name, of in TRAINED.items()}
    written = {name: path.stat().st_mtime_ns for name, path in weights.items()}
    for name, made in found.items():
        market = WorldMarket(ADS, 80, 3, 1, *made.memory)
        users = market.reachable()
        said = made.predictor.predict(market, users)
        foreseen = made.predictor.method.foresee(market.histories(users))
        value = foreseen.reward_by_channel["click"] if name == "din-top-n" else foreseen.values
        assert np.array_equal(said.policy.argmax(axis=1), value.argmax(axis=1)) and (said.policy.sum(axis=1) == 1).all()
        assert said.reward == pytest.approx(value.max(axis=1))
        rule = made.allocator.fix(forecast(said, 0.2 * float(said.cost.mean())))
        served = rule.chances(said).sum(axis=1) > 0
        assert 0.05 < served.mean() < 0.4 and said.reward[served].min() >= said.reward[~served].max()
    again = material_of(trained, ADS, rivals=tmp_path)
    for name in TRAINED:
        CONTESTANTS[name](again, 0.2)
        assert weights[name].stat().st_mtime_ns == written[name]  # read, not fitted again


def test_value_based_rivals_play_at_the_price_that_the_budget_asks_for(trained: Path, tmp_path: Path) -> None:
    from headrace.cli.contest import material_of

    material = material_of(trained, ADS, rivals=tmp_path)
    scarce, ample = (CONTESTANTS["r-bcq"](material, allowance).predictor.method.multiplier for allowance in (0.01, 0.3))
    assert scarce > ample >= 0
    few, many = (CONTESTANTS["ag"](material, allowance).predictor.method.chosen for allowance in (0.01, 1e3))
    assert few > many == 0


def test_every_contestant_plays_and_none_overspends(trained: Path, tmp_path: Path) -> None:
    assert headrace(flags(trained, tmp_path / "c", "all")) == 0
    records = json.loads((tmp_path / "c" / "results.json").read_text())
    spend = [r for r in records if r["metric"] == "spend" and r["seed"] is None]
    assert {r["method"] for r in spend} == set(CONTESTANTS) and all(0 < r["high"] <= 5 for r in spend)
    assert {r["against"] for r in records if r["method"] == "ours"} == {None, *CONTESTANTS} - {"ours"}
    most = {(r["method"], r["seed"]): r["value"] for r in records if r["metric"] == "true_value_bound"}
    assert {name for name, _ in most} == set(BOUNDS)
    for r in records:
        if r["metric"] == "true_value" and r["against"] is None:  # luck may lift a method above the other one
            assert r["value"] <= most["clairvoyant-bound", r["seed"]]
    assert all(most["lp-bound", seed] < most["clairvoyant-bound", seed] for seed in (1, 2, None))
    page = (tmp_path / "c" / "compare.html").read_text()
    assert "full-information" in page and "<svg" in page and "lp-bound (bound)" in page
    assert write_page(tmp_path / "c") == tmp_path / "c" / "compare.html"
    assert (tmp_path / "c" / "compare.html").read_text() == page


def test_several_budgets_are_compared_as_each_alone_would_be(trained: Path, tmp_path: Path) -> None:
    methods = "random,ours,full-information,lp-bound"
    assert headrace(flags(trained, tmp_path / "one", methods)) == 0
    assert headrace(flags(trained, tmp_path / "many", methods, "5", "1.25")) == 0
    one, many = (json.loads((tmp_path / f / "results.json").read_text()) for f in ("one", "many"))
    assert [r for r in many if r["setting"] == {"budget": 5.0}] == one
    assert len(many) == 2 * len(one) and {r["setting"]["budget"] for r in many} == {1.25, 5.0}
    assert all(r["high"] <= r["setting"]["budget"] for r in many if r["metric"] == "spend")
    page = (tmp_path / "many" / "compare.html").read_text()
    assert "Value against budget" in page and "Value against budget" not in (tmp_path / "one/compare.html").read_text()
    assert len(set(re.findall(r'id="(f\d+[^"]*)"', page))) == len(re.findall(r'id="(f\d+[^"]*)"', page))
    p_values = json.loads((tmp_path / "many" / "p_values.json").read_text())
    assert set(p_values) == {"1.25", "5"} and all(set(of) == {"random"} for of in p_values.values())
    assert p_values["5"]["random"] >= json.loads((tmp_path / "one" / "p_values.json").read_text())["5"]["random"]


def test_a_killed_comparison_goes_on_to_equal_results(trained: Path, tmp_path: Path) -> None:
    methods = "random,ours,full-information"
    assert headrace(flags(trained, tmp_path / "whole", methods)) == 0
    command = [sys.executable, "-m", "headrace.cli", *flags(trained, tmp_path / "killed", methods)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cells = tmp_path / "killed" / "cells" / "5"
    while process.poll() is None and not (cells.is_dir() and len(list(cells.iterdir())) >= 2):
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "killed" / "results.json").exists()
    played = {path: path.stat().st_mtime_ns for path in cells.glob("*/cell.npz")}
    assert headrace(flags(trained, tmp_path / "killed", methods)) == 0
    assert played and all(path.stat().st_mtime_ns == when for path, when in played.items())  # not played again
    for name in ("results.json", "compare.html", "contest.json", "p_values.json"):
        whole, killed = ((tmp_path / f / name).read_text() for f in ("whole", "killed"))
        # where it was started stands on the page
        assert re.sub("<dt>command.*", "", whole) == re.sub("<dt>command.*", "", killed), name


def test_a_comparison_takes_further_methods_and_budgets_and_plays_nothing_twice(trained: Path, tmp_path: Path) -> None:
    assert headrace(flags(trained, tmp_path / "c", "random")) == 0
    played = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").glob("cells/*/*/cell.npz")}
    assert headrace(flags(trained, tmp_path / "c", "random,majority", "5", "2")) == 0
    assert len(played) == 2 and all(path.stat().st_mtime_ns == when for path, when in played.items())
    assert headrace(flags(trained, tmp_path / "whole", "random,majority", "5", "2")) == 0
    for name in ("results.json", "contest.json", "p_values.json"):
        assert (tmp_path / "c" / name).read_text() == (tmp_path / "whole" / name).read_text(), name
    assert headrace([*flags(trained, tmp_path / "c", "random"), "--users", "61"]) == 2


def test_a_comparison_does_not_go_on_with_another_run_of_the_same_name(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for seed in ("0", "1"):
        shutil.rmtree(run, ignore_errors=True)
        words = ["--data", str(trained.with_name("log")), "--reward", "click", "--preset", "tiny", "--seed", seed]
        assert headrace(["train", "mtorl", *words, "--out", str(run)]) == 0
        assert headrace(flags(run, tmp_path / "c", "random")) == (0 if seed == "0" else 2)


def test_mistakes_are_told_in_a_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert headrace(flags(trained, tmp_path / "x", "ors")) == 2
    assert "did you mean 'ours'" in capsys.readouterr().err
    assert headrace([*flags(trained, tmp_path / "x", "ours"), "--seed", "0"]) == 2
    assert "the same users and luck" in capsys.readouterr().err and not (tmp_path / "x").exists()
    for wrong, told in (
        (["--price", "2"], "in EUR already"),
        (["--alpha", "3"], "--alpha 3"),
    ):
        assert headrace([*flags(trained, tmp_path / "x", "ours"), *wrong]) == 2
        assert told in capsys.readouterr().err and not (tmp_path / "x").exists()
    for wrong, told in ((["5", "2", "5"], "5 is given twice"), (["-1"], "expected an amount")):
        assert headrace(flags(trained, tmp_path / "x", "ours", *wrong)) == 2
        assert told in capsys.readouterr().err and not (tmp_path / "x").exists()
    campaign = ["campaign", str(trained), "--world", "ads", "--budget", "5", "--users", "40", "--days", "2"]
    assert headrace([*campaign, "--score", "increment", "--out", str(tmp_path / "y")]) == 3
    assert "cannot be estimated" in capsys.readouterr().err


def test_a_refit_goes_on_from_the_run_and_keeps_the_correction(trained: Path, tmp_path: Path) -> None:
    from headrace.campaign.refit import GoingOn
    from headrace.channel.incremental import IncrementalConfig
    from headrace.cli.contest import material_of
    from headrace.learn.run import Run

    material = material_of(trained, ADS)
    later = dataclasses.replace(ADS, start="2024-02-01")
    market = WorldMarket(later, 120, 1, 3, *material.memory)
    refit = GoingOn(Run.open(trained), IncrementalConfig(epochs=1))
    config = CampaignConfig(30_000_000, refit_every=6)
    seen: list[Corrected] = []

    def watched(market, predictor, folder):
        seen.append(refit(market, predictor, folder))
        return seen[-1]

    done = run_campaign(market, material.corrected, Price(), config, tmp_path / "c", watched)
    assert done.audit.sound and refit.refits >= 1
    assert seen[-1].gain is material.corrected.gain and seen[-1].predictor is not material.corrected.predictor
