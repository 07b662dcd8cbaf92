"""The advertising procedure: never above its budget, the same after a kill, exact propensities, caps and hold-outs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.campaign.allocator import Price, TopUsers
from headrace.campaign.config import PRESET_ALLOCATORS, PRESETS, CampaignConfig
from headrace.campaign.ledger import Ledger
from headrace.campaign.market import Market
from headrace.campaign.procedure import CampaignResult, run_campaign
from headrace.campaign.rounds import Rounds
from headrace.campaign.scores import Predictor, Scores
from headrace.campaign.world_market import TrueRates, WorldMarket
from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.ope import estimate
from headrace.simulate.scenario import Scenario

ADS = Scenario.load("ads")
CLICKS = TrueRates({"click": 1.0})
EUR = 1_000_000


def market(users: int = 150, days: int = 3, seed: int = 0, **more: Any) -> WorldMarket:
    return WorldMarket(ADS, users, seed, days, **more)


def campaign(out: Path | None = None, users: int = 150, allocator: Any = None, **config: Any) -> CampaignResult:
    spending = CampaignConfig(**({"budget": 12 * EUR} | config))
    return run_campaign(market(users), CLICKS, allocator or Price(), spending, out)


def files(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


@settings(max_examples=10, deadline=None)
@given(
    st.tuples(*[st.none() | st.integers(0, 5 * EUR)] * len(ADS.channels)),
    st.sampled_from(sorted(PRESET_ALLOCATORS)),
    st.booleans(),
)
def test_a_channel_never_exceeds_its_pot(pots: tuple[int | None, ...], name: str, pacing: bool) -> None:
    config = CampaignConfig(12 * EUR, pots=pots, pacing=pacing)
    done = run_campaign(market(60, 2), CLICKS, PRESET_ALLOCATORS[name], config)
    assert done.audit.sound
    for channel, pot in zip(ADS.channels, pots, strict=True):
        if pot is not None:
            balance = done.audit.balances[f"channel/{channel}"]
            assert balance.budget == min(pot, 12 * EUR) and balance.spent <= pot and balance.reserved == 0


def test_a_pot_binds_and_the_rest_of_the_money_goes_elsewhere(tmp_path: Path) -> None:
    free = campaign(explore=0.0)
    shown = np.sum([r["channels"] for r in free.rounds], axis=0)
    most = int(np.argmax(shown))
    pots = tuple(EUR // 2 if c == most else None for c in range(len(shown)))
    bound = campaign(tmp_path / "c", explore=0.0, pots=pots)
    there = np.sum([r["channels"] for r in bound.rounds], axis=0)
    balance = bound.audit.balances[f"channel/{ADS.channels[most]}"]
    assert 0 < there[most] < shown[most] and 0 < balance.spent <= EUR // 2
    assert bound.spent > 0.8 * free.spent
    assert sum(r["refused"] for r in bound.rounds) < 0.05 * there.sum()
    again = campaign(tmp_path / "c", explore=0.0, pots=pots)  # read back
    assert again.rounds == bound.rounds
    closed = campaign(pots=tuple(0 if c == most else None for c in range(len(shown))))
    assert np.sum([r["channels"] for r in closed.rounds], axis=0)[most] == 0
    with pytest.raises(UserError, match="2 pots"):
        campaign(pots=(1, 2))


@settings(max_examples=12, deadline=None)
@given(
    budget=st.integers(0, 30 * EUR),
    preset=st.sampled_from(sorted(PRESETS)),
    name=st.sampled_from(sorted(PRESET_ALLOCATORS)),
    pacing=st.booleans(),
    daily=st.none() | st.integers(0, 8 * EUR),
)
def test_spend_never_exceeds_the_budget(budget: int, preset: str, name: str, pacing: bool, daily: int | None) -> None:
    config = CampaignConfig(budget, pacing=pacing, daily=daily, **PRESETS[preset])
    done = run_campaign(market(60, 2), CLICKS, PRESET_ALLOCATORS[name], config)
    assert done.audit.sound
    assert done.spent == sum(r["spent"] for r in done.rounds) == done.charged.sum() <= budget
    for account, balance in done.audit.balances.items():
        assert balance.spent <= balance.budget and balance.reserved == 0, account
    explored = sum(r["spent"] for r in done.rounds if r["stage"] == "exploration")
    assert explored <= config.exploration_share * budget
    if daily is not None:
        assert all(sum(r["spent"] for r in done.rounds if r["day"] == day) <= daily for day in range(2))


class Killed(Exception):
    pass


def kill(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, number: int, after: bool) -> None:
    """Let the call `number` of a method end the campaign, before or after it did its work."""
    real, calls = getattr(where, name), [0]

    def call(self: Any, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == number and not after:
            raise Killed
        found = real(self, *arguments)
        if calls[0] == number:
            raise Killed
        return found

    monkeypatch.setattr(where, name, call)


@pytest.mark.parametrize("number", [1, 4, 11])
@pytest.mark.parametrize(
    ("where", "name"), [(Ledger, "reserve"), (WorldMarket, "expose"), (Ledger, "settle"), (Rounds, "write")]
)
@pytest.mark.parametrize("after", [False, True])
def test_a_killed_campaign_goes_on_to_equal_bytes(
    where: Any, name: str, number: int, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # little money and no pacing: the ledger's answers matter, and differ if they are asked for anew
    setting: dict[str, Any] = {"budget": 6 * EUR, "pacing": False, "cap_per_day": 2}
    whole = campaign(tmp_path / "whole", 80, **setting)
    with monkeypatch.context() as patched:
        kill(patched, where, name, number, after)
        with pytest.raises(Killed):
            campaign(tmp_path / "killed", 80, **setting)
    done = campaign(tmp_path / "killed", 80, **setting)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert done.rounds == whole.rounds and done.audit == whole.audit
    assert np.array_equal(done.charged, whole.charged) and np.array_equal(done.value(), whole.value())
    assert campaign(tmp_path / "killed", 80, **setting).rounds == whole.rounds  # and once more, when all is done
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


@pytest.mark.parametrize("name", ["rounds/00001.npz", "ledger.sqlite"])
@pytest.mark.parametrize("damage", [lambda held: held[: len(held) // 2], lambda held: b"x" * len(held)])
def test_a_damaged_file_is_told_by_its_name(name: str, damage: Any, tmp_path: Path) -> None:
    campaign(tmp_path / "c", 30, rounds=3)
    path = tmp_path / "c" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path.name}: .*(damaged|not a ledger)"):
        campaign(tmp_path / "c", 30, rounds=3)


def test_another_campaign_is_not_gone_on_from(tmp_path: Path) -> None:
    campaign(tmp_path / "c", 30)
    with pytest.raises(UserError, match="other settings"):
        campaign(tmp_path / "c", 30, explore=0.5)
    with pytest.raises(UserError, match="other settings"):
        campaign(tmp_path / "c", 30, allocator=TopUsers())


class Watching(WorldMarket):
    """Notes the chances that were asked for, and what was drawn."""

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self.asked: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def choose(self, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = self.reachable().copy()
        channel, propensity = super().choose(chances)
        self.asked.append((rows, np.array(chances), channel.copy(), propensity.copy()))
        return channel, propensity


def test_another_policy_can_be_valued_by_a_campaigns_log(tmp_path: Path) -> None:
    market = WorldMarket(ADS, 600, 0, 6)
    run_campaign(market, CLICKS, Price(), CampaignConfig(60 * EUR, explore=0.6))
    log = market.journeys(tmp_path / "log")
    assert log is not None
    rows = np.arange(log.n_steps)
    uniform = np.full((len(rows), 5), 0.2)
    click = log.gain("click").astype(np.float64)
    found = estimate(uniform, log, rows, click, estimators=["snips"])
    assert found.support.refused is None and found.support.mean_weight == pytest.approx(1.0, abs=0.15)


def test_the_logs_propensities_are_those_of_the_draw(tmp_path: Path) -> None:
    watched = Watching(ADS, 400, 0, 3)
    done = run_campaign(watched, CLICKS, Price(), CampaignConfig(400 * EUR, explore=0.3))
    assert sum(r["refused"] for r in done.rounds) == 0
    log = watched.journeys(tmp_path / "log")
    assert log is not None and log.n_steps == done.shown.sum()
    drawn = sorted(
        (int(user), float(p / some))  # of the channel, given an advert: the log holds adverts alone
        for rows, chances, channel, propensity in watched.asked
        for user, p, some, c in zip(rows, propensity, chances.sum(axis=1), channel, strict=True)
        if c >= 0
    )
    users = np.asarray(log.users)[log.user_of_step]
    assert sorted(zip(users.tolist(), log.column("propensity").tolist(), strict=True)) == drawn
    chances = np.concatenate([c for _, c, _, _ in watched.asked])
    often = np.bincount(np.concatenate([c for _, _, c, _ in watched.asked]) + 1, minlength=6)[1:]
    sd = np.sqrt((chances * (1 - chances)).sum(axis=0)) + 1
    assert (np.abs(often - chances.sum(axis=0)) < 4 * sd).all()


def test_a_users_chances_do_not_depend_on_the_others_of_the_round() -> None:
    class Half:
        """The same predictions, but worthless ones for the users of one half from the second day on."""

        weights = CLICKS.weights

        def predict(self, market: Market, users: np.ndarray) -> Scores:
            found = CLICKS.predict(market, users)
            worthless = (users % 2 == 0) & (market.day >= 1)
            return dataclasses.replace(found, gain=np.where(worthless[:, None], 1e-9, found.gain))

    seen = []
    for predictor in (CLICKS, Half()):
        watched = Watching(ADS, 300, 0, 2)
        run_campaign(watched, predictor, Price(), CampaignConfig(400 * EUR, explore=0.0, rescore="reachable"))
        day_one = next(a for a in watched.asked[8:] if len(a[0]) > 100)  # its first turn
        seen.append(day_one[:2])
    (rows, ours), (others, theirs) = seen
    odd = rows % 2 == 1
    assert np.array_equal(rows, others) and np.array_equal(ours[odd], theirs[odd])
    assert not np.array_equal(ours[~odd], theirs[~odd])


def test_caps_and_hold_outs_are_kept() -> None:
    done = campaign(users=300, budget=60 * EUR, cap=3, cap_per_day=2, hold_out=0.3)
    assert done.shown.max() == 3
    assert 0.2 < done.held_out.mean() < 0.4
    assert done.shown[done.held_out].sum() == 0 < done.shown[~done.held_out].sum()
    again = campaign(users=300, budget=30 * EUR, hold_out=0.3)
    assert np.array_equal(again.held_out, done.held_out)  # drawn by user, once and for all


def test_a_daily_budget_is_an_account_of_its_own() -> None:
    done = campaign(users=800, budget=100 * EUR, daily=20 * EUR, pacing=False)
    free = campaign(users=800, budget=100 * EUR, pacing=False)
    spent, more = ([sum(r["spent"] for r in c.rounds if r["day"] == day) for day in range(3)] for c in (done, free))
    assert 10 * EUR < spent[1] <= 20 * EUR < more[1]
    assert [done.audit.balances[f"day/{d}"].spent for d in range(3)] == spent


def test_pacing_spreads_the_budget_over_the_days() -> None:
    paced = campaign(users=800, budget=100 * EUR)
    rushed = campaign(users=800, budget=100 * EUR, pacing=False)
    days = [[sum(r["spent"] for r in done.rounds if r["day"] == day) for day in range(3)] for done in (paced, rushed)]
    assert min(days[0][1:]) > 0.35 * sum(days[0][1:])
    assert days[1][1] > 0.7 * sum(days[1][1:])
    assert paced.spent > 0.8 * 100 * EUR


def test_spending_well_beats_spending_at_random() -> None:
    well = campaign(users=800, budget=60 * EUR, rescore="reachable")
    by_lot = campaign(users=800, budget=60 * EUR, exploration_share=1.0, exploration_days=3)
    margin = well.value() - by_lot.value()
    assert margin.sum() > 2 * np.sqrt(len(margin)) * margin.std()


def test_rounds_end_the_campaign_and_the_days_go_on() -> None:
    done = campaign(rounds=7)
    assert len(done.rounds) == 7
    assert done.worth["revenue"].gross.sum() >= done.worth["revenue"].attributed.sum()
    nothing = campaign(budget=0)
    assert nothing.spent == nothing.shown.sum() == 0
    for worth in nothing.worth.values():  # without money the market is as without a campaign
        assert np.array_equal(worth.gross, worth.without)


def test_a_cost_above_the_largest_is_not_charged() -> None:
    class Cheap(WorldMarket):
        """A market that believes its adverts to be cheaper than they are."""

        @property
        def largest_cost(self) -> np.ndarray:
            return super().largest_cost // 3

    done = run_campaign(Cheap(ADS, 150, 0, 2), CLICKS, Price(), CampaignConfig(12 * EUR))
    assert sum(r["excess"] for r in done.rounds) == done.audit.excess > 0
    assert done.spent <= 12 * EUR and done.audit.sound
    assert done.charged.sum() == done.spent
    costs = [r["spent"] + r["excess"] for r in done.rounds]  # what is gone is not spent again
    assert sum(costs) <= 12 * EUR + max(costs)


def test_refits_come_every_so_many_rounds_and_again_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def refit(market: Market, predictor: Predictor, folder: Path) -> Predictor:
        called.append(folder.name)
        if not folder.exists():
            log = market.journeys(folder / "journeys")
            assert log is not None and log.n_steps > 0
        assert Journeys(folder / "journeys").n_steps > 0
        return TrueRates({"click": 1.0})

    config = CampaignConfig(60 * EUR, refit_every=5, rounds=12)

    def go(out: Path) -> CampaignResult:
        return run_campaign(market(80, 2), CLICKS, Price(), config, out, refit)

    whole = go(tmp_path / "whole")
    assert called == ["00005", "00010"]
    assert whole.rounds[5]["scored"] == whole.rounds[5]["reachable"]  # everything is predicted anew
    with monkeypatch.context() as patched:
        kill(patched, Rounds, "write", 8, False)
        with pytest.raises(Killed):
            go(tmp_path / "killed")
    go(tmp_path / "killed")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_only_touched_users_are_predicted_anew() -> None:
    done = campaign(users=300, budget=3 * EUR)
    late = [r for r in done.rounds if r["day"] == 2]
    assert sum(r["scored"] for r in late) < 0.5 * sum(r["reachable"] for r in late)
    first = [r for r in done.rounds if r["day"] == 0]
    assert first[0]["scored"] == first[0]["reachable"]


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"explore": 1.5}, {"rounds": 0}, {"budget": -1}, {"initial": (0.0, 0.0)}, {"initial": (1.0, 2.0)}):
        with pytest.raises(UserError, match="campaign: "):
            campaign(**wrong)
    with pytest.raises(UserError, match="refit"):
        campaign(refit_every=3)
    with pytest.raises(UserError, match="tells no gain love"):
        run_campaign(market(20), TrueRates({"love": 1.0}), Price(), CampaignConfig(EUR))
    for world, price in (("criteo", None), ("criteo", -1.0), ("criteo", float("nan")), ("ads", 2.0)):
        with pytest.raises(UserError, match="--price"):
            WorldMarket(Scenario.load(world), 20, price=price)


def test_spread_costs_are_charged_at_most_up_to_what_was_said_to_be_possible() -> None:
    priced = WorldMarket(Scenario.load("criteo"), 200, 0, 3, price=2.0)
    done = run_campaign(priced, CLICKS, Price(), CampaignConfig(300 * EUR))
    assert done.audit.sound and 0 < done.spent <= 300 * EUR


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_money_that_a_dear_advert_does_not_fit_goes_to_the_channels_that_it_does(preset: str) -> None:
    dear = market(60).largest_cost > 600_000
    assert dear.tolist() == [True, True, False, False, False]
    spending = CampaignConfig(600_000, **PRESETS[preset])
    done = run_campaign(market(60, 8), CLICKS, PRESET_ALLOCATORS[preset], spending)
    assert np.sum([r["channels"] for r in done.rounds], axis=0)[dear].sum() == 0
    assert 540_000 < done.spent <= 600_000 and done.audit.sound
    assert sum(r["refused"] for r in done.rounds) <= 2
