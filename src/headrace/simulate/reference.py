"""References that see the latent state: what advertising could be worth to somebody who knew everything but the luck.

`Planned` is greedy over true rates with the future priced in. Channel m shown now is worth

    revenue_m - (1 + price) cost_m                                        what it brings and costs
    + carry   d_share_m (sum_k L_mk use_k base_k n_carry + O_m organic)   purchases that its awareness lifts later on
    - tiring  use_m d_tired_m base_m n_tired                              clicks that its saturation takes from later
    - sating  conversion_m (1 - e^-s) (sum_k use_k earned_k n_sated + organic)
                                                                          purchases, organic ones too, taken from later

n_...: the opportunities that are left, each weighted by what is then still there of the effect; base, earned: revenue
and profit of an average opportunity of the user. use: the share of opportunities in which each channel will be shown,
a guess that `cem` corrects, as it does the weights in front. Every weight 0 is the myopic greedy-profit.

`Within` keeps any policy within a budget. N users, A in turn, M channels.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.errors import UserError
from headrace.simulate.ads import DAY_MS, AdsWorld, Context, Outcomes
from headrace.simulate.draws import Floats
from headrace.simulate.opportunities import opportunities
from headrace.simulate.policies import Acting, AdPolicy, Remembers, binding, name_of
from headrace.simulate.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Planned:
    """Greedy over what an advert brings now and later; see the module's head."""

    use: tuple[float, ...] = ()  # (M,) share of opportunities each channel gets; empty: all alike
    carry: float = 1.0
    tiring: float = 1.0
    sating: float = 1.0
    price: float = 0.0  # of a unit of the budget
    least: float = 0.0  # an advert must be worth more than this
    name: str = "planned"
    together: bool = False

    def bind(self, world: AdsWorld) -> AdPolicy:
        """The policy with the world's own calendar before it."""
        return _Planning(self, world)


class _Planning:
    def __init__(self, plan: Planned, world: AdsWorld):
        self._plan, self._world = plan, world
        scenario, ads, t = world.scenario, world.scenario.ads, world.tables
        m = len(scenario.channels)
        self._use = np.array(plan.use or np.full(m, 1 / m))
        seen = opportunities(AdsWorld(scenario, world.users, world.seed, world.days))
        self._count = np.zeros(len(world.users), dtype=np.int64)
        self._left = [  # (N, I) opportunities left after each, weighted
            seen.left(half_life)
            for half_life in (
                ads.carry_over_half_life_days,
                ads.saturation_half_life_days,
                scenario.users.sated_half_life_days,
            )
        ]
        self._click = seen.click.sum(axis=1) / np.maximum(seen.count, 1)[:, None]  # (N, M) of an average opportunity
        bought = -np.expm1(-t.conversion_rate * world.response.readiness[:, None])
        self._after_click = bought * t.value * world.response.spend[:, None]  # (N, M) revenue
        weight = ads.view_through + (1 - ads.view_through) * self._click
        self._base = weight * self._after_click
        self._earned = self._base - t.cost_per_exposure - t.cost_per_click * self._click
        self._organic = -np.expm1(-ads.organic_rate * world.response.readiness) * ads.organic_value
        self._organic *= world.response.spend  # (N,) revenue a night

    def __call__(self, context: Context) -> Floats:
        plan, world, rows = self._plan, self._world, context["row"]
        ads, t = world.scenario.ads, world.tables
        rates, latent = world.true_rates(), world.latent()
        place = self._count[rows]
        carry, tired, sated = (left[rows, place][:, None] for left in self._left)
        now = (context["time"] - world.scenario.start_ms) / DAY_MS
        organic = self._organic[rows, None]
        score = rates.revenue - (1 + plan.price) * rates.cost
        more = latent.aware + 1 + ads.click_carry_over * rates.click
        gained = more / (1 + more) - latent.aware / (1 + latent.aware)
        lifted = (self._use * self._base[rows]) @ t.lifts.T * carry
        lifted += t.organic_lift * organic * _nights(now, world.days, ads.carry_over_half_life_days)
        score = score + plan.carry * gained * lifted
        filled = latent.recent / latent.capacity
        lost = 1 / (1 + filled) - 1 / (1 + filled + 1 / latent.capacity)
        worth = (1 - ads.view_through) * self._after_click[rows] - t.cost_per_click
        score -= plan.tiring * self._use * tired * lost * self._click[rows] * np.maximum(worth, 0.0)
        later = (self._use * np.maximum(self._earned[rows], 0.0)).sum(axis=1, keepdims=True) * sated
        later = later + organic * _nights(now, world.days, world.scenario.users.sated_half_life_days)
        score -= plan.sating * rates.conversion * -np.expm1(-world.scenario.users.sated_by_purchase) * later
        best = np.eye(score.shape[1])[score.argmax(axis=1)]
        return np.asarray(best * (score.max(axis=1, keepdims=True) > plan.least))

    def record(self, context: Context, outcomes: Outcomes) -> None:
        self._count[context["row"]] += 1


@dataclass(frozen=True, slots=True)
class Within:
    """`policy` until the money is gone: an advert is admitted only if its highest cost still fits what is left."""

    policy: Acting
    budget: float  # of all users over all days, in the scenario's currency
    together: bool = True

    @property
    def name(self) -> str:
        """The policy's name, and its budget."""
        return f"{name_of(self.policy)} within {self.budget:g}"

    def bind(self, world: AdsWorld) -> AdPolicy:
        """The policy with a full purse. Raises UserError where an exposure's cost has no highest value."""
        if any(channel.cost_spread for channel in world.scenario.ads.channels):
            raise UserError(
                f"budget: the costs of scenario {world.scenario.name} are spread, so the highest cost of an exposure "
                "is not known; set cost_spread = 0 to charge to a budget"
            )
        return _Purse(self, world)


class _Purse:
    def __init__(self, within: Within, world: AdsWorld):
        bind, _ = binding(within.policy, world.scenario)
        self._policy = bind(world)
        self.left = within.budget
        self._highest = world.tables.cost_per_exposure + world.tables.cost_per_click

    def __call__(self, context: Context) -> Floats:
        p = np.asarray(self._policy(context), dtype=np.float64)
        dearest = (self._highest * (p > 0)).max(axis=1)
        return np.where((np.cumsum(dearest) <= self.left)[:, None], p, 0.0)

    def record(self, context: Context, outcomes: Outcomes) -> None:
        self.left -= float(outcomes.cost.sum())
        if isinstance(self._policy, Remembers):
            self._policy.record(context, outcomes)


def cem(
    objective: Callable[[Floats], float],
    mean: Floats,
    spread: Floats,
    iterations: int = 8,
    population: int = 24,
    elite: int = 6,
    seed: int = 0,
    progress: Callable[[int, float], Any] | None = None,
) -> tuple[Floats, list[float]]:
    """The cross-entropy method: the mean of the last elite, and every value met on the way.

    >>> found, _ = cem(lambda x: -float(((x - 2) ** 2).sum()), np.zeros(2), np.full(2, 3.0), iterations=20)
    >>> bool(np.abs(found - 2).max() < 0.1)
    True
    """
    rng = np.random.default_rng(seed)
    met: list[float] = []
    for iteration in range(iterations):
        tried = mean + spread * rng.standard_normal((population, len(mean)))
        tried[0] = mean
        values = np.array([objective(x) for x in tried])
        met += values.tolist()
        best = tried[np.argsort(-values)[:elite]]
        mean, spread = best.mean(axis=0), best.std(axis=0) + 0.02 * spread
        if progress:
            progress(iteration, float(values.max()))
    return mean, met


def plan_of(parameters: Floats, scenario: Scenario, **fixed: Any) -> Planned:
    """The Planned of a vector: log-odds of `use` (M), then carry, tiring, sating and least."""
    m = len(scenario.channels)
    use = 1 / (1 + np.exp(-parameters[:m]))
    carry, tiring, sating, least = parameters[m : m + 4].tolist()
    return dataclasses.replace(Planned(tuple(use.tolist()), carry, tiring, sating, 0.0, least), **fixed)


def plan_parameters(plan: Planned, scenario: Scenario) -> Floats:
    """The vector of a Planned: `plan_of` turned round."""
    m = len(scenario.channels)
    use = np.clip(np.array(plan.use or np.full(m, 1 / m)), 1e-4, 1 - 1e-4)
    return np.concatenate([np.log(use / (1 - use)), [plan.carry, plan.tiring, plan.sating, plan.least]])


def random_policy(rng: np.random.Generator, scenario: Scenario) -> Acting:
    """A policy at random, to try a bound on: a plan with random weights, or channels by random weights of features."""
    m = len(scenario.channels)
    if rng.random() < 0.5:
        spread = np.concatenate([np.full(m, 2.0), [1.0, 1.0, 1.0, 0.05]])
        return plan_of(plan_parameters(Planned(), scenario) + spread * rng.standard_normal(m + 4), scenario)
    weights = rng.normal(size=(4, m)) * rng.choice([0.5, 2.0])
    no_advert = np.exp(rng.normal(scale=1.5))

    def policy(context: Context) -> Floats:
        x = np.stack(
            [
                np.ones(len(context["row"])),
                np.log(context["past_spend"] / 40),
                context["past_click_score"],
                context["exposures"].sum(axis=1) / 10,
            ],
            axis=1,
        )
        score = np.exp(x @ weights)
        return np.asarray(score / (score.sum(axis=1, keepdims=True) + no_advert))

    return policy


def _nights(now: Floats, days: int, half_life_days: float) -> Floats:
    """The midnights that are left at `now` (A,), each weighted by how much of an effect then remains, (A, 1)."""
    kept = 2.0 ** (-1 / half_life_days)
    first = np.exp2(-(np.floor(now) + 1 - now) / half_life_days)
    left = days - np.floor(now)
    return np.asarray(first * (1 - kept**left) / (1 - kept))[:, None]
