"""The bound holds for every policy tried, and is exact where nothing acts that it gives away."""

import dataclasses
import itertools

import numpy as np
import pytest
from tiny_worlds import best_adaptive, led_by, schedules, separable, small

from headrace.errors import UserError
from headrace.simulate import relaxation
from headrace.simulate.ads import AdsWorld
from headrace.simulate.clairvoyant import clairvoyant
from headrace.simulate.draws import Floats
from headrace.simulate.opportunities import Opportunities, opportunities
from headrace.simulate.reference import Planned, Within, cem, plan_of, plan_parameters, random_policy
from headrace.simulate.relaxation import Bound, bound
from headrace.simulate.satedness import most_purchases
from headrace.simulate.saturation import schedule_value
from headrace.simulate.scenario import Scenario
from headrace.simulate.value import mean_of, totals, true_value

ADS = Scenario.load("ads")
M = len(ADS.channels)
USERS = 60
GROSS = {"profit": "profit", "revenue": "gross_revenue", "clicks": "clicks"}


@pytest.mark.parametrize("objective", ["profit", "revenue"])
def test_bound_equals_brute_force_where_nothing_acts_that_it_gives_away(objective: str) -> None:
    scenario, users, seed = separable(), 6, 3
    plans = [schedules(scenario, user, seed) for user in range(users)]
    spent = 1.0 if objective == "profit" else 0.0
    free = sum(max(revenue - spent * cost for cost, revenue in each) for each in plans)
    assert bound(scenario, users, seed=seed, objective=objective).total == pytest.approx(free, rel=1e-6)


def test_bound_under_a_budget_equals_the_best_mixture_of_all_schedules() -> None:
    scenario, seed = separable(), 3
    users = 3
    plans = [schedules(scenario, user, seed) for user in range(users)]
    joint = np.array([np.sum(each, axis=0) for each in itertools.product(*plans)])  # (combinations, [cost, revenue])
    worth = joint[:, 1] - joint[:, 0]
    for budget in (0.0, 0.2, 0.5, 1.0):
        # the best mixture of plans that costs the budget in the mean: the dual of its linear program, by its price
        prices = np.linspace(0, 30, 60_001)
        best = min(float((worth - price * joint[:, 0]).max() + price * budget) for price in prices[::20])
        got = bound(scenario, users, seed=seed, budget=budget).total
        assert got == pytest.approx(best, rel=2e-3, abs=1e-3), budget


def test_bound_is_above_the_best_adaptive_policy_where_everything_acts() -> None:
    scenario = small(days=2, most=2)
    loose = []
    for user in range(12):
        shifted = AdsWorld(scenario, user + 1, seed=5)
        if opportunities(shifted).count[-1] > 3:
            continue
        best = best_adaptive(scenario, user, 5)
        upper = float(bound(scenario, user + 1, seed=5).per_user[-1])
        assert upper >= best - 1e-9, user
        loose.append(upper / best)
    print(f"bound over optimum in tiny worlds: {np.mean(loose):.2f}")
    assert len(loose) >= 5 and np.mean(loose) < 1.5


@pytest.mark.parametrize("what", ["purchases at night", "channels lifting each other", "satedness"])
def test_bound_is_above_the_best_adaptive_policy_whatever_brings_the_worth(what: str) -> None:
    scenario, users = led_by(what), 30
    upper = bound(scenario, users, seed=5).per_user
    count = opportunities(AdsWorld(scenario, users, seed=5)).count
    best = {user: best_adaptive(scenario, user, 5) for user in np.flatnonzero((count > 1) & (count <= 3)).tolist()}
    assert len(best) >= 5
    for user, worth in best.items():
        assert upper[user] >= worth - 1e-9, user
    loose = upper[list(best)].sum() / sum(best.values())
    print(f"{what}: bound over optimum {loose:.2f}")
    assert loose < 2.5


@pytest.fixture(scope="module")
def bounds() -> dict[tuple[str, float | None], Bound]:
    settings: list[tuple[str, float | None]] = [("profit", None), ("profit", 24.0), ("clicks", None), ("revenue", None)]
    return {(objective, budget): bound(ADS, USERS, seed=1, budget=budget, objective=objective)
            for objective, budget in settings}  # fmt: skip


def test_no_random_policy_beats_the_bound(bounds: dict[tuple[str, float | None], Bound]) -> None:
    rng = np.random.default_rng(0)
    for index in range(20):
        policy = random_policy(rng, ADS)
        for (objective, budget), upper in bounds.items():
            if (index % 4 == 0) != (budget is not None):
                continue
            acting = policy if budget is None else Within(policy, budget)
            value = totals(ADS, acting, USERS, seed=1)
            above = mean_of(value[GROSS[objective]] - upper.per_user)
            assert above.low is not None and above.low < 0, (index, objective, budget)
            if budget is not None:
                assert value["cost"].sum() <= budget


def test_no_policy_that_was_searched_for_beats_the_bound(bounds: dict[tuple[str, float | None], Bound]) -> None:
    def profit(x: Floats) -> float:
        return float(totals(ADS, plan_of(x, ADS), USERS, seed=1)["profit"].mean())

    spread = np.concatenate([np.ones(M), [0.5, 0.5, 0.5, 0.02]])
    best, met = cem(profit, plan_parameters(Planned(), ADS), spread, iterations=2, population=8, elite=3)
    upper = bounds["profit", None].estimate.value
    assert upper is not None and max(met) < upper
    value = totals(ADS, plan_of(best, ADS), USERS, seed=1)
    print(f"bound {upper:.2f}, best found {max(met):.2f}")
    assert (value["profit"] - bounds["profit", None].per_user).mean() < 0


def test_a_tighter_budget_never_raises_the_bound_and_none_is_no_advert() -> None:
    totals = [bound(ADS, 25, 6, seed=2, budget=budget).total for budget in (0.0, 1.0, 5.0, None)]
    assert totals == sorted(totals)
    free = bound(ADS, 25, 6, seed=2)
    assert bound(ADS, 25, 6, seed=2, budget=free.spent + 1).total == pytest.approx(free.total)


def test_blocks_with_a_price_bound_like_the_whole_program(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bound(ADS, 40, days=5, seed=2, budget=5.0)
    free = bound(ADS, 40, days=5, seed=2)
    monkeypatch.setattr(relaxation, "WHOLE", 20)
    assert bound(ADS, 40, days=5, seed=2).total == pytest.approx(free.total, rel=1e-6)
    blocks = bound(ADS, 40, days=5, seed=2, budget=5.0)
    assert whole.total - 1e-6 <= blocks.total <= 1.01 * whole.total
    assert whole.per_user.sum() == pytest.approx(whole.total)
    assert blocks.per_user.sum() == pytest.approx(blocks.total)


def test_schedule_values_are_those_of_the_best_schedule() -> None:
    rng = np.random.default_rng(4)
    count, half_life = 6, 2.0
    time = np.sort(rng.random((3, count)) * 5, axis=1)
    seen = Opportunities(np.full(3, count), time, rng.random((3, count, 1)) * 0.5)
    capacity, price = np.array([[1.0], [3.0], [9.0]]), np.broadcast_to([0.0, 0.1, 0.2], (3, 1, 3))
    most = schedule_value(seen, capacity, half_life, price)
    least = schedule_value(seen, capacity, half_life, price, least=True)
    for u in range(3):
        for p in range(3):
            clicks = []
            for shown in itertools.product([0, 1], repeat=count):
                recent, total = 0.0, 0.0
                for i in range(count):
                    recent *= 0.5 ** ((time[u, i] - time[u, i - 1]) / half_life) if i else 1.0
                    total += shown[i] * seen.click[u, i, 0] / (1 + recent / capacity[u, 0])
                    recent += shown[i]
                clicks.append((total, sum(shown)))
            best = max(c - price[u, 0, p] * n for c, n in clicks)
            worst = max(price[u, 0, p] * n - c for c, n in clicks)
            assert best <= most[u, 0, p] + 1e-12 and most[u, 0, p] <= 1.03 * best + 1e-3
            assert worst <= least[u, 0, p] + 1e-12 and least[u, 0, p] <= worst + 0.1


def test_purchases_are_at_most_what_satedness_allows() -> None:
    time, cap = np.arange(1.0, 7.0)[None], np.full((1, 6), 0.6)
    prices = np.array([0.0, 0.3, 1.0])
    got = most_purchases(time, cap, np.array([1.0]), 1.5, 3.0, prices)[0]

    def best(i: int, sated: float, price: float) -> float:
        if i == 6:
            return 0.0
        sated *= 0.5 ** (1 / 3.0) if i else 1.0
        kept = np.expm1(-np.exp(-sated)) / np.expm1(-1.0)
        rest, bought = best(i + 1, sated, price), best(i + 1, sated + 1.5, price)
        return rest + 0.6 * max(0.0, kept * (1 + bought - rest) - price)

    exact = [best(0, 0.0, price) for price in prices]
    assert (got >= np.array(exact) - 1e-12).all()
    assert got == pytest.approx(exact, rel=0.05, abs=1e-9)
    assert got[2] == 0 and got[0] < 0.7 * 3.6


def test_clairvoyant_is_above_every_course_of_events() -> None:
    for policy in ("uniform", "greedy-click", "constant:search", Planned()):
        value = totals(ADS, policy, 200, seed=1)
        for objective, name in GROSS.items():
            upper = clairvoyant(ADS, 200, seed=1, objective=objective)
            assert (value[name] <= upper.per_user + 1e-9).all()
    free, tight = clairvoyant(ADS, 200, seed=1), clairvoyant(ADS, 200, seed=1, budget=10.0)
    spending = totals(ADS, Within(Planned(), 10.0), 200, seed=1)
    assert spending["profit"].sum() < tight.total < free.total


def test_clairvoyant_is_what_the_money_buys_where_every_advert_sells_for_the_same() -> None:
    base = separable()
    sure = tuple(
        dataclasses.replace(c, click_rate=0.999, conversion_rate=100.0, capacity=1e9, value=3.0, cost_per_exposure=0.5,
                            cost_per_click=0.0, sensitivity=0.0, intent=0.0) for c in base.ads.channels
    )  # fmt: skip
    people = dataclasses.replace(base.users, click_spread=0.0, intent_spread=0.0, spend_spread=0.0)
    alike = dataclasses.replace(base, users=people, ads=dataclasses.replace(base.ads, channels=sure, value_spread=0.0))
    for budget in (2.0, 5.0):
        upper = clairvoyant(alike, 40, seed=1, budget=budget, objective="revenue").total
        reached = totals(alike, Within("constant:search", budget), 40, seed=1)["gross_revenue"].sum()
        assert 0.8 * 6 * budget < reached <= upper + 1e-9
        assert upper == pytest.approx(6 * budget, rel=1e-3)


def test_planning_ahead_beats_the_myopic_greedy_and_carry_over_is_why() -> None:
    planned, myopic = true_value(ADS, Planned(), 3000, seed=1), true_value(ADS, "greedy-profit", 3000, seed=1)
    margin, base = planned.less(myopic, "profit"), myopic["incremental_profit"].value
    assert margin.low is not None and base is not None
    assert margin.low > 0.2 * base > 0
    same = totals(ADS, Planned(carry=0.0, tiring=0.0, sating=0.0), 500, seed=1)
    greedy = totals(ADS, "greedy-profit", 500, seed=1)
    assert np.array_equal(same["profit"], greedy["profit"])


def test_a_budget_is_never_exceeded_and_is_used() -> None:
    for policy in ("uniform", Planned(price=2.0)):
        spent = totals(ADS, Within(policy, 100.0), 400, seed=3)["cost"].sum()
        assert 95.0 < spent <= 100.0


def test_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(UserError, match="unknown objective 'proft', did you mean 'profit'"):
        bound(ADS, 10, objective="proft")
    with pytest.raises(UserError, match="budget is -1, expected 0 or more"):
        clairvoyant(ADS, 10, budget=-1)
    channels = tuple(dataclasses.replace(c, cost_spread=0.5) for c in ADS.ads.channels)
    spread = dataclasses.replace(ADS, ads=dataclasses.replace(ADS.ads, channels=channels))
    with pytest.raises(UserError, match="costs of scenario ads are spread"):
        true_value(spread, Within("uniform", 5.0), 10)
