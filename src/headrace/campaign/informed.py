"""Informed: what the world's users can be expected to do by all that a log shows of them, and nothing that it hides.

Between a predictor and the true rates lie two gaps: what the predictor has not learnt, and what nobody can see. This
one knows every equation and number of the scenario, and of each user only the features, where and when they come, and
their clicks so far: the posterior of the latent traits by `PARTICLES` weighted draws a user,

    features     past_click_score and past_spend: linear and Gaussian, conditioned exactly (Matheron's rule)
                 favourite_topic: drawn among the draws with the same one; age_band: by its probability, as weight
    tastes       the moving part drifts from visit to visit, in every draw by itself
    clicks       weight p or 1 - p of each advert that was shown, on the topic that it was on

so that its rates are, but for noise of the draws, the best that any predictor can say of clicks. Purchases are too rare
to tell much of a user, and are not conditioned on; how sated a user is by purchases is taken to be unknown (none).

A users in turn, P draws, M channels, K topics.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from headrace.campaign.market import Market
from headrace.campaign.scores import Scores
from headrace.campaign.world_market import WorldMarket
from headrace.journeys.seams import Floats, Integers
from headrace.simulate.ads import AdsWorld, Context
from headrace.simulate.response import evening

PARTICLES = 200
POOL = 40_000  # draws of tastes that users take theirs from
BLOCK = 500  # users looked at together
LEAST = 0.02  # of the noise of a feature, so that weights exist
Draws = NDArray[np.float32]


class Posterior:
    """The draws of every user of a world, and their weights."""

    def __init__(self, world: AdsWorld, particles: int = PARTICLES, seed: int = 0):
        self.world, self.steps = world, 0
        self._rng = rng = np.random.default_rng(seed)
        scenario, users, n, p = world.scenario, world.scenario.users, len(world.users), particles
        m, k = len(scenario.channels), len(scenario.topics)
        noise, features = max(users.feature_noise, LEAST), world.traits.features

        def normal(*shape: int) -> Draws:
            return rng.standard_normal(shape, dtype=np.float32)

        self.clickiness, self.intent, self.spend = normal(n, p), normal(n, p), normal(n, p)
        score = self.clickiness + noise * normal(n, p)
        self.clickiness += ((features["past_click_score"][:, None] - score) / (1 + noise**2)).astype(np.float32)
        bought = 0.5 * (self.intent + noise * normal(n, p)) + 0.3 * self.spend
        off = (np.log(np.maximum(features["past_spend"], 0.01) / 40)[:, None] - bought) / (0.25 * (1 + noise**2) + 0.09)
        self.intent += (0.5 * off).astype(np.float32)
        self.spend += (0.3 * off).astype(np.float32)
        lasting = normal(POOL, k) * np.float32(np.sqrt(1 - users.drift_share))
        favourite = (lasting + noise * normal(POOL, k)).argmax(axis=1)
        self.lasting = np.zeros((n, p, k), dtype=np.float32)
        for topic in range(k):
            rows = np.flatnonzero(features["favourite_topic"] == topic)
            self.lasting[rows] = rng.choice(lasting[favourite == topic], (len(rows), p))
        bands = len(users.ages)
        with np.errstate(divide="ignore"):
            share = np.arange(bands + 1) / bands
            edges = np.log(share / (1 - share)) / 1.2  # of what is squashed to the age
        age = 0.7 * self.clickiness + 0.7 * (self.lasting[:, :, 0] - self.lasting[:, :, -1])
        band = features["age_band"].astype(np.int64)[:, None]
        chance = ndtr((edges[band + 1] - age) / noise) - ndtr((edges[band] - age) / noise)
        self.log_weight = np.log(np.maximum(chance, 1e-9)).astype(np.float32)  # (N, P)
        self.moving = normal(n, p, k) * np.float32(np.sqrt(users.drift_share))
        self.when = np.zeros(n)  # the day that `moving` is of
        shift = np.array([a.click_shift for a in users.activity])[world.traits.activity]
        channels = scenario.ads.channels
        liking = normal(n, p, m) * np.array([c.sensitivity for c in channels], dtype=np.float32)
        liking += self.intent[:, :, None] * np.array([c.intent for c in channels], dtype=np.float32)
        base = shift[:, None] + users.click_spread * self.clickiness
        self.logit = (world.tables.intercept + base[:, :, None] + liking).astype(np.float32)  # (N, P, M)
        spread = np.exp(normal(n, p, m) * np.float32(scenario.ads.capacity_spread))
        self.capacity = np.array([c.capacity for c in channels], dtype=np.float32) * spread
        self._recent: Floats = np.zeros((n, m))
        self._aware: Floats = np.zeros((n, m))
        self._shift: Floats = np.zeros(n)

    def look(self, context: Context) -> None:
        """The users in turn come: their tastes have drifted, and it shows what they saw lately, where, and when."""
        world, rows = self.world, context["row"]
        users = world.scenario.users
        gap = world.day - self.when[rows]
        later, gap = rows[gap > 0], gap[gap > 0]
        kept = np.exp2(-gap / users.drift_half_life_days).astype(np.float32)[:, None, None]
        shock = self._rng.standard_normal((len(later), *self.moving.shape[1:]), dtype=np.float32)
        self.moving[later] = kept * self.moving[later] + np.sqrt(users.drift_share * (1 - kept**2)) * shock
        self.when[rows] = world.day
        latent = world.latent()  # both follow from the adverts and clicks that a log shows
        self._recent[rows], self._aware[rows] = latent.recent, latent.aware
        hour = context["hour"] + 0.5
        self._shift[rows] = world.tables.placement_shift[context["placement"]] + evening(world.scenario, hour)

    def learn(self, rows: Integers, channel: Integers, topic: Integers, click: Integers) -> None:
        """Adverts were shown to users whom `look` has seen, and clicked or not, (n,) each."""
        taste = self.lasting[rows, :, topic] + self.moving[rows, :, topic]  # (n, P)
        p = expit(self.logit[rows, :, channel] + self._shift[rows, None] + self.world.scenario.ads.taste_weight * taste)
        p /= 1 + self._recent[rows, channel][:, None] / self.capacity[rows, :, channel]
        self.log_weight[rows] += np.log(np.where(click[:, None] > 0, p, 1 - p)).astype(np.float32)

    def expected(self, rows: Integers) -> tuple[Floats, Floats, Floats]:
        """Click, conversion and revenue expected of an advert, (A, M) each."""
        parts = [self._some(rows[k : k + BLOCK]) for k in range(0, max(len(rows), 1), BLOCK)]
        click, conversion, revenue = (np.concatenate(part) for part in zip(*parts, strict=True))
        return click, conversion, revenue

    def _some(self, rows: Integers) -> tuple[Floats, Floats, Floats]:
        ads, t, users = self.world.scenario.ads, self.world.tables, self.world.scenario.users
        weight = np.exp(self.log_weight[rows] - self.log_weight[rows].max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)  # (A, P)
        logit = self.logit[rows] + self._shift[rows, None, None].astype(np.float32)
        taste = np.float32(ads.taste_weight) * (self.lasting[rows] + self.moving[rows])
        click = np.zeros_like(logit)
        for k in range(taste.shape[2]):
            click += t.topics[:, k].astype(np.float32) * expit(logit + taste[:, :, k, None])
        click /= 1 + self._recent[rows, None].astype(np.float32) / self.capacity[rows]
        aware = self._aware[rows]
        hazard = t.conversion_rate * (1 + aware / (1 + aware) @ t.lifts)  # (A, M)
        ready = np.exp(users.intent_spread * self.intent[rows] - users.intent_spread**2 / 2)
        bought = -np.expm1(-hazard[:, None] * ready[:, :, None])
        conversion = (click + ads.view_through * (1 - click)) * bought
        worth = np.exp(users.spend_spread * self.spend[rows] - users.spend_spread**2 / 2)
        revenue = conversion * worth[:, :, None] * t.value
        found = (np.einsum("ap,apm->am", weight, x) for x in (click, conversion, revenue))
        a, b, c = found
        return a, b, c


@dataclass(slots=True)
class Informed:
    """The posterior as a predictor; it must be asked for all who are in turn, at every turn."""

    weights: Mapping[str, float]
    particles: int = PARTICLES
    _of: Posterior | None = field(default=None, repr=False, compare=False)

    def predict(self, market: Market, users: Integers) -> Scores:
        """Raises ValueError for any other market than the world, or for a part of the users in turn."""
        if not isinstance(market, WorldMarket):
            raise ValueError("the posterior is known of the world alone")
        context = market.context()
        if len(users) != len(context["row"]):
            raise ValueError("the posterior looks at all users in turn; rescore = reachable")
        if self._of is None or self._of.world is not market.world:
            self._of = Posterior(market.world, self.particles)
        posterior = self._of
        for step in market.shown[posterior.steps :]:
            told = (step.columns[name] for name in ("channel", "feature/topic", "gain/click"))
            posterior.learn(step.rows, *told)
        posterior.steps = len(market.shown)
        posterior.look(context)
        click, conversion, revenue = posterior.expected(users)
        by_name = {"click": click, "conversion": conversion, "revenue": revenue}
        gain = np.sum([w * by_name[g] for g, w in self.weights.items()], axis=0)
        t, m = market.world.tables, gain.shape[1]
        cost = market.price * (t.cost_per_exposure + t.cost_per_click * click)
        return Scores(gain, cost, gain.max(axis=1), np.full(gain.shape, 1 / m))
