"""The contestants of a comparison of campaigns: by name a predictor, an allocator, and how the campaign is run.

    random, majority, explicit       users by lot; channels alike, the log's most frequent, by the explicit ratio
    last-touch ... shapley           users by lot; the money by attribution over the log's paths
    no-channel-level, no-user-level  printed Algorithm 1 without a half of it: channels from P_u alone; users by lot
    din-top-n                        DIN; the users of the largest gain, each on the channel that has it
    r-bcq, ag                        the same by values, at the price that the log's held-out exposures suggest
    fixed-threshold                  ours at the price that the log's held-out exposures suggest, for good
    trees-lp, trees-lp-corrected     boosted trees and the linear program's dual; with ours' correction too
    paper                            printed Algorithm 1, P_initial by (17)
    uncorrected                      ours on the network's own predictions
    ours                             the preset `default`
    informed                         reference: the posterior of every user by all that a log shows (informed.py)
    full-information                 reference: the true rates of the moment

All that learn, learn from the same log. M channels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from headrace.campaign.allocation import explicit_ratio
from headrace.campaign.allocator import Allocator, Forecast, Price, TopUsers
from headrace.campaign.attribution import MODELS, attribute
from headrace.campaign.config import PRESETS
from headrace.campaign.correction import Corrected, corrected, held_out
from headrace.campaign.informed import Informed
from headrace.campaign.rivals import Best, ByLot, Dual, FixedPrice, Means
from headrace.campaign.scores import Foreseeing, Predictor, Scores
from headrace.campaign.trees import BATCH, LAGS, Trees, fit_trees
from headrace.campaign.world_market import TrueRates
from headrace.channel.ag import AG
from headrace.channel.din import DIN
from headrace.channel.methods import Method, history_of, load, method_of
from headrace.channel.rbcq import RBCQ
from headrace.channel.recommend import values_of
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.splits import Split
from headrace.journeys.statistics import Statistic
from headrace.journeys.store import Journeys
from headrace.learn.run import Run

PLAIN: dict[str, Any] = {"exploration_share": 0.0, "exploration_days": 0, "explore": 0.0, "calibrate": False}
REFERENCES = ("informed", "full-information")
OURS = "ours"


Memory = tuple[int, tuple[Statistic, ...]]  # of a method: the steps of a user that it reads, and running statistics


@dataclass
class Material:
    """What contestants are made of: the log, the run that learnt from it, and what is fitted when it is asked for."""

    journeys: Journeys
    split: Split  # of the run
    method: Method  # fitted
    initial: tuple[float, ...]  # P_initial (17)
    price: float = 1.0  # of a unit of the log's cost
    rivals: Path | None = None  # where the runs of further methods are kept; None: nowhere
    _trained: dict[str, Method] = field(default_factory=dict, init=False, repr=False)

    @property
    def weights(self) -> dict[str, float]:
        return self.method.reward_weights

    @cached_property
    def memory(self) -> Memory:
        return history_of(self.method)

    @cached_property
    def rows(self) -> Integers:
        """The log's held-out steps."""
        return np.flatnonzero(held_out(self.journeys, self.split))

    @cached_property
    def network(self) -> Predictor:
        return Foreseeing(self.method, self.price)

    @cached_property
    def held(self) -> tuple[Floats, Floats]:
        """Gain and cost that the network predicts of the held-out steps, (n, M) each."""
        found = self.method.predict(self.journeys, held_out(self.journeys, self.split))
        assert np.array_equal(found.rows, self.rows)
        gain, cost, _ = values_of(found, self.weights, 0.0)
        return gain, self.price * cost

    @cached_property
    def corrected(self) -> Corrected:
        return corrected(self.network, *self.held, self.journeys, self.rows, self.price)

    def told(self) -> dict[str, Any]:
        """The correction's lines, rounded, for a page; empty where nobody asked for it."""
        held = self.__dict__.get("corrected")
        if held is None:
            return {}
        return {
            of: {name: [round(v, 4) for v in values] for name, values in line.to_dict().items()}
            for of, line in (("gain", held.gain), ("cost", held.cost))
        }

    @cached_property
    def trees(self) -> Trees:
        return fit_trees(self.journeys, self.split, self.weights)

    @cached_property
    def corrected_trees(self) -> Corrected:
        parts = (self.rows[k : k + BATCH] for k in range(0, len(self.rows), BATCH))
        found = zip(*(self.trees.of(self.journeys.histories(part, LAGS + 1)) for part in parts), strict=True)
        gain, cost = (np.concatenate(column) for column in found)
        return corrected(self.trees, gain, cost, self.journeys, self.rows, self.price)

    def trained(self, name: str) -> Method:
        """Another channel method, fitted on the same log and split for the same reward, by its defaults."""
        if name not in self._trained:
            with TemporaryDirectory() as scratch:
                self._trained[name] = self._fit(name, (self.rivals or Path(scratch)) / name)
        return self._trained[name]

    def _fit(self, name: str, path: Path) -> Method:
        kind = method_of(name)
        method = kind(kind.config_type(reward_weights=self.weights, **PRICED.get(name, {})))
        data, split = self.journeys.fingerprint, self.split.fingerprint
        run = Run.create(path, method.settings(), resume=True, data_fingerprint=data, split_fingerprint=split)
        if "files" not in run.manifest:
            method.fit(self.journeys, self.split, run, progress=False)
            run.seal()
        return load(run)

    @cached_property
    def means(self) -> Means:
        gain, shown, cost = self._sums
        return Means(self.weights, tuple((gain / shown).tolist()), tuple((cost / shown).tolist()))

    @cached_property
    def _sums(self) -> tuple[Floats, Floats, Floats]:
        channel, m = np.asarray(self.journeys.channel), len(self.journeys.channels)
        came = np.zeros(len(channel))
        for name, weight in self.weights.items():
            came += weight * np.nan_to_num(np.asarray(self.journeys.gain(name), dtype=np.float64))
        cost = self.price * np.nan_to_num(np.asarray(self.journeys.column("cost"), dtype=np.float64))
        sums = [np.bincount(channel, values, m).astype(np.float64) for values in (came, np.ones(len(channel)), cost)]
        return sums[0], np.maximum(sums[1], 1.0), sums[2]

    @cached_property
    def explicit(self) -> Floats:
        gain, shown, _ = self._sums
        channel = np.asarray(self.journeys.channel)
        return explicit_ratio((gain / shown)[channel], channel, len(shown))

    def price_of(self, allowance: float) -> float:
        """The price at which the log's held-out exposures would have spent so much each."""
        found = self.corrected
        gain, cost = found.gain.apply(self.held[0]), found.cost.apply(self.held[1])
        n, m = gain.shape
        scores = Scores(gain, cost, gain.max(axis=1), np.full((n, m), 1 / m))
        rule = Price().fix(Forecast(scores, np.ones(n), allowance, np.full(m, 1 / m)))
        return float(rule.told["price"])


@dataclass(frozen=True, slots=True)
class Contestant:
    """One campaign's ingredients."""

    predictor: Predictor
    allocator: Allocator
    config: Mapping[str, Any]  # over CampaignConfig's own
    memory: Memory | None = None  # of users, that the predictor needs; None: the last few steps and all statistics


Make = Callable[[Material, float], Contestant]  # of the material and the money for a mean opportunity


def _by_lot(shares: Callable[[Material], Floats], of: Any = "adverts") -> Make:
    def make(material: Material, allowance: float) -> Contestant:
        return Contestant(material.means, ByLot(tuple(shares(material).tolist()), of), PLAIN)

    return make


def _attributed(model: str) -> Make:
    def shares(material: Material) -> Floats:
        found = [w * attribute(material.journeys, gain)[model] for gain, w in material.weights.items()]
        return np.asarray(np.sum(found, axis=0))

    return _by_lot(shares, "money")


def _majority(material: Material) -> Floats:
    shown = material._sums[1]
    return np.asarray(np.eye(len(shown))[shown.argmax()])


def _printed(allocator: Allocator) -> Make:
    def make(material: Material, allowance: float) -> Contestant:
        return Contestant(
            material.network, allocator, PRESETS["paper"] | {"initial": material.initial}, material.memory
        )

    return make


def _ours(what: Callable[[Material], Predictor], **changes: Any) -> Make:
    def make(material: Material, allowance: float) -> Contestant:
        return Contestant(what(material), Price(), PRESETS["default"] | changes, material.memory)

    return make


def _trees(what: Callable[[Material], Predictor]) -> Make:
    return lambda material, allowance: Contestant(what(material), Dual(), PLAIN | {"rescore": "reachable"})


def _best(name: str, material: Material, allowance: float) -> Contestant:
    method = material.trained(name)
    if isinstance(method, (RBCQ, AG)):
        method = method.nearest(material.price_of(allowance) * material.price)
    predictor = Best(method, material.means)
    return Contestant(predictor, TopUsers(eta=1.0), PLAIN | {"rescore": "reachable"}, history_of(method))


def _fixed(material: Material, allowance: float) -> Contestant:
    price = FixedPrice(material.price_of(allowance))
    return Contestant(material.corrected, price, PLAIN | {"pacing": False, "rescore": "reachable"}, material.memory)


def _reference(kind: Callable[[Mapping[str, float]], Predictor]) -> Make:
    known = PLAIN | {"rescore": "reachable"}
    return lambda material, allowance: Contestant(kind(material.weights), Price(), known)


PRICED: dict[str, dict[str, Any]] = {  # a campaign asks these for a price of money: s among the prices they learn of
    name: {"reward_target": "penalised"} for name in (RBCQ.name, AG.name)
}
TRAINED = {"din-top-n": DIN.name, "r-bcq": RBCQ.name, "ag": AG.name}  # contestants that learn a network of their own
CONTESTANTS: dict[str, Make] = {
    "random": _by_lot(lambda material: np.ones(len(material.initial))),
    "majority": _by_lot(_majority),
    "explicit": _by_lot(lambda material: material.explicit),
    **{name: _attributed(name) for name in MODELS},
    "no-channel-level": _printed(TopUsers(eta=1.0)),
    "no-user-level": _printed(ByLot(eta=0.5)),
    "paper": _printed(TopUsers()),
    **{name: partial(_best, learner) for name, learner in TRAINED.items()},
    "fixed-threshold": _fixed,
    "trees-lp": _trees(lambda material: material.trees),
    "trees-lp-corrected": _trees(lambda material: material.corrected_trees),
    "uncorrected": _ours(lambda material: material.network),
    OURS: _ours(lambda material: material.corrected),
    "informed": _reference(Informed),
    "full-information": _reference(TrueRates),
}
