"""A bound on what anybody could earn who knew all luck in advance: who will click, who will buy, and for how much.

At each opportunity the draws are known, so of each channel it is known whether its advert can be clicked at all, is
clicked even when the channel is worn out, and leads to a purchase if the user isn't sated and awareness is complete.
The bound takes the best that these allow at every opportunity by itself, and every purchase at midnight that complete
awareness allows. It holds on every course of events, not only in the mean; it is loose, and shows how much of what
adverts bring is luck.

A budget has a price: at any price, what is best after paying it, and the budget's own worth, bound what can be had.

N users, A in turn, M channels, I opportunities of all users.
"""

import numpy as np

from headrace.simulate import draws
from headrace.simulate.ads import NO_AD, AdsWorld, Integers
from headrace.simulate.draws import Floats, Purpose
from headrace.simulate.relaxation import Bound, check
from headrace.simulate.scenario import Scenario


def clairvoyant(
    scenario: Scenario,
    users: int,
    days: int | None = None,
    seed: int = 0,
    budget: float | None = None,
    objective: str = "profit",
) -> Bound:
    """What users 0 .. `users` - 1 of this seed can bring at most on the very luck that `true_value` meets."""
    check(objective, budget)
    world = AdsWorld(scenario, users, seed, days)
    rows, gains, costs = [], [], []
    share = _complete_awareness(AdsWorld(scenario, users, seed, days))
    while not world.done:
        row = world.observe()["row"]
        gain, cost = _options(world, row, share[row], objective)
        rows.append(row)
        gains.append(gain)
        costs.append(cost)
        world.step(NO_AD)
    row = np.concatenate(rows)
    gain, cost = np.concatenate(gains), np.concatenate(costs)  # (I, 2 M)
    base = np.zeros(users) if objective == "clicks" else _at_night(world, share)

    def at(price: float) -> Bound:
        worth = np.concatenate([gain - price * cost, np.zeros((len(gain), 1))], axis=1)
        best = worth.argmax(axis=1)
        taken = np.take_along_axis(worth, best[:, None], axis=1)[:, 0]
        paid = np.take_along_axis(np.pad(cost, ((0, 0), (0, 1))), best[:, None], axis=1)[:, 0]
        per_user = base + np.bincount(row, taken, users) + price * (budget or 0.0) / users
        return Bound(objective, float(per_user.sum()), per_user, float(paid.sum()), price)

    found = at(0.0)
    if budget is None or found.spent <= budget:
        return found
    low, high = 0.0, 1.0
    while at(high).spent > budget and high < 1e9:
        low, high = high, 4 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).spent > budget else (low, middle)
    return min((at(low), at(high)), key=lambda bound: bound.total)


def _complete_awareness(world: AdsWorld) -> Floats:
    """The awareness share if every opportunity had gone to the channel and been clicked, (N,)."""
    count = np.zeros(len(world.users))
    while not world.done:
        count[world.observe()["row"]] += 1
        world.step(NO_AD)
    full = (1 + world.scenario.ads.click_carry_over) * count
    return np.asarray(full / (1 + full))


def _options(world: AdsWorld, row: Integers, share: Floats, objective: str) -> tuple[Floats, Floats]:
    """Gain and cost of each channel's advert, clicked and not, (A, 2 M) each; minus infinity where it can't be."""
    ads, t, r = world.scenario.ads, world.tables, world.response

    def luck(purpose: Purpose) -> Floats:
        return draws.uniform(world.keys[row], world.day, world.slot, purpose)

    creative = luck(Purpose.CREATIVE)
    fresh = world.fresh_click(np.stack([draws.categorical(creative, edges) for edges in t.topics_cumulative], axis=1))
    before = world.slot + world.day * ads.most_exposures_per_day  # no more exposures than this can have been
    worn = fresh / (1 + before / r.capacity[row])
    hazard = t.conversion_rate * (1 + share[:, None] * t.lifts.sum(axis=0)) * r.readiness[row, None]
    bought = -np.expm1(-hazard)
    value = _worth(world, row, world.day, t.value, world.slot, Purpose.VALUE)
    paid = np.broadcast_to(t.cost_per_exposure, fresh.shape)
    if t.cost_spread.any():
        z = draws.normal(world.keys[row], world.day, world.slot, Purpose.COST)[:, None]
        paid = paid * np.exp(t.cost_spread * (z - t.cost_spread / 2))
    click, conversion = luck(Purpose.CLICK)[:, None], luck(Purpose.CONVERSION)[:, None]
    cost = np.concatenate([paid + t.cost_per_click, paid], axis=1)
    if objective == "clicks":
        gain = np.concatenate([np.ones(fresh.shape), np.zeros(fresh.shape)], axis=1)
    else:
        seen = bought * ads.view_through
        gain = np.concatenate([value * (conversion < bought), value * (conversion < seen)], axis=1)
        gain -= cost if objective == "profit" else 0.0
    possible = np.concatenate([click < fresh, click >= worn], axis=1)
    return np.where(possible, gain, -np.inf), cost


def _at_night(world: AdsWorld, share: Floats) -> Floats:
    """Revenue of all purchases without an advert that complete awareness allows, (N,)."""
    ads, t, r = world.scenario.ads, world.tables, world.response
    p = -np.expm1(-ads.organic_rate * (1 + share * t.organic_lift.sum()) * r.readiness)
    everyone, total = np.arange(len(world.users)), np.zeros(len(world.users))
    for day in range(world.days):
        bought = draws.uniform(world.keys, day, 0, Purpose.ORGANIC) < p
        total += bought * _worth(world, everyone, day, np.array([ads.organic_value]), 0, Purpose.ORGANIC_VALUE)[:, 0]
    return total


def _worth(world: AdsWorld, rows: Integers, day: int, mean: Floats, slot: int, purpose: Purpose) -> Floats:
    """A purchase's value, (A, len(mean)), rounded as the world rounds it."""
    spread = world.scenario.ads.value_spread
    noise = np.exp(spread * draws.normal(world.keys[rows], day, slot, purpose) - spread**2 / 2)
    return np.asarray(np.round(mean * world.response.spend[rows, None] * noise[:, None], 2))
