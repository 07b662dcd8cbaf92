"""Table 1: every method and variant on one world, by off-policy estimates and by the truth, cell by cell.

A seed's course: Bayesian optimisation finds static weights by rollouts, as a product would have before any learning;
users explore around them (mixed), and the same users, as if for the first time, at random (for -re) or in a band about
them (for unified); every method learns on the sessions of its log that began before the last 10 % of the mixed log's,
for one reward, and all are valued on those 10 %; then all policies meet the same fresh users with the same luck, as
do static weights that were searched for much longer and the long-horizon reference, which sees the latent state: how
much of the way from the one to the other each method closes. The truth is told in the unit of the estimates, too: the
common reward of a session, discounted. Each method's run is a folder, `cells/METHOD-SEED`; what is there and whole is
not done again, so that methods and seeds can be added.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import UserError, unknown
from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Record, Source, aggregate, record
from headrace.fuse import bo
from headrace.fuse.acting import Fixed, Rewards, WorldObjective, together, world_box
from headrace.fuse.affinity import reward_weights
from headrace.fuse.exploration import Exploration, Kind, balanced
from headrace.fuse.method import Prepared, prepare
from headrace.fuse.methods import COMMON, LOG_OF, METHODS, VARIANTS, load
from headrace.fuse.policy import Act
from headrace.fuse.replay import transitions
from headrace.fuse.value import DECAY, Worth, directed, directed_act, judged, measured, own_values
from headrace.journeys.seams import Estimate, Floats
from headrace.journeys.splits import Split, split
from headrace.journeys.store import Journeys
from headrace.learn import durable
from headrace.learn.run import Run
from headrace.ope.fitted import OnPolicy
from headrace.ope.fqe import FQEConfig
from headrace.ope.transitions import Transitions
from headrace.simulate import feed_references
from headrace.simulate.calibrate import variants
from headrace.simulate.feed import FeedWorld
from headrace.simulate.feed_log import simulate_feed
from headrace.simulate.feed_policies import rollout
from headrace.simulate.feed_value import FeedValue
from headrace.simulate.scenario import Scenario

FRACTIONS = (0.9, 0.0, 0.1)  # of sessions in time: policies learn on the first, estimators on the last
FIGURES = ("dwell_time", "positive_interaction_rate", "reward_per_session")
STATIC, LATENT = "best-static", "long-horizon"
REFERENCES = {  # of many more rollouts than Bayesian optimisation has
    STATIC: (feed_references.search_static, feed_references.static),
    LATENT: (feed_references.search_latent, feed_references.latent),
}
EVALUATION, SEARCH = 500_000, 1_000_000  # first numbers of the users that policies are valued, and searched, on
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is simulated and fitted."""

    log_users: int = 10_000
    log_days: int = 5
    users: int = 2_000  # fresh ones, for the truth
    days: int = 4
    search_users: int = 300  # of each measurement of a search
    search_days: int = 3
    fqe_steps: int = 10_000  # updates of an estimate at most; it ends where it has come to rest
    fqe_hidden: int = 32
    fqe_fits: int = 5  # of which an estimate is the mean

    def __post_init__(self) -> None:
        for f in fields(self):
            if getattr(self, f.name) < 1:
                raise UserError(f"compare fuse: {f.name} = {getattr(self, f.name)}, expected 1 or more; change it")


def world_named(name: str) -> Scenario:
    """A scenario, or SCENARIO:VARIANT of what its log leaves open, such as  kuairand:long sessions ."""
    base, colon, variant = name.partition(":")
    scenario = Scenario.load(base)
    if scenario.feed is None:
        raise UserError(f"{base}: a world without a feed, and fusion ranks one; use feed or kuairand")
    if not colon:
        return scenario
    known = variants(scenario)
    if variant not in known:
        raise unknown("variant", variant, known, base)
    return known[variant]


@dataclass(frozen=True, slots=True)
class Table:
    """A comparison under way, in `out`."""

    scenario: Scenario
    dataset: str
    methods: tuple[str, ...]
    preset: str
    changes: dict[str, Any]  # of every method's config
    sizes: Sizes
    out: Path

    def seed(self, seed: int, tell: Tell, note: Tell) -> list[Record]:
        """Everything of one seed; the records of each method. `tell` passes by, `note` stays to be read."""
        base = self.base(seed, tell)
        tell(f"seed {seed}: a log of {COMMON} exploration")
        common, common_log, common_parts, config = self.log(COMMON, seed, base)
        on = valued_on(common, common_log, common_parts)
        worths: dict[str, Worth] = {}
        truths: dict[str, FeedValue] = {}
        for kind in dict.fromkeys([COMMON, *LOG_OF.values()]):
            names = [n for n in self.methods if LOG_OF.get(n, COMMON) == kind]
            if not names:
                continue
            ready, log, parts = common, common_log, common_parts
            if kind != COMMON:
                tell(f"seed {seed}: a log of {kind} exploration")
                until = float(np.asarray(common_log.time)[common_parts.rows("test")].min())
                ready, log, parts, _ = self.log(kind, seed, base, common.weights, until)
            of = self.held_out(common_log, common_parts, ready)
            on |= {"fqe": asdict(config), "learnt": log.fingerprint}
            own = self.own(kind, seed, of, config, on)
            acts: dict[str, Act] = {"bo": bo.static(ready.actions.scaled(base[None])[0])}
            for name in names:
                if name != "bo":
                    tell(f"seed {seed}: {name}")
                    acts[name] = self.method(name, seed, log, parts, ready, note)
                act = directed_act(acts[name], ready.actions)
                told = on | {"policy": self._digest(name, seed, base)}
                worths[name] = judged(self.worth(name, seed, act, of, config, told), own)
            tell(f"seed {seed}: the truth")
            met = {"reward": common.weights, "gamma": config.gamma, "users": self.sizes.users, "days": self.sizes.days}
            truths |= self.truths(seed, acts, ready, met | {n: self._digest(n, seed, base) for n in acts})
        tell(f"seed {seed}: the best static weights, and the reference that sees the latent state")
        return self.records(seed, truths, worths, self.references(seed, common.weights, config.gamma))

    def base(self, seed: int, tell: Tell) -> Floats:
        """(K,) the static weights that Bayesian optimisation finds by rollouts."""
        file = self.out / f"base-{seed}.json"
        if not file.is_file():
            tell(f"seed {seed}: Bayesian optimisation in the world")
            space = world_box(self.scenario)
            users = np.arange(SEARCH, SEARCH + self.sizes.search_users)
            objective = WorldObjective(self.scenario, users, self.sizes.search_days, seed, space)
            chosen, _, _ = bo.search(objective, space.size, self.config("bo", seed))
            durable.replace_text(file, json.dumps(space.weights(chosen).tolist()))
        return np.array(json.loads(file.read_text(encoding="utf-8")))

    def log(
        self,
        kind: Kind,
        seed: int,
        base: Floats,
        reward: dict[str, float] | None = None,
        until: float = np.inf,
    ) -> tuple[Prepared, Journeys, Split, FQEConfig]:
        """The log of an exploration around the base, its split and what methods share: `reward`, or the fitted one, and
        the training rows before the time `until`."""
        path, s = self.out / "logs" / f"{kind}-{seed}", self.sizes
        exploration = Exploration(kind, seed=seed)
        if not (path / "journeys.json").is_file():
            acting = Fixed(base, world_box(self.scenario), exploration)
            simulate_feed(self.scenario, s.log_users, s.log_days, acting, seed, path, lists="none")
        log = Journeys(path)
        parts = split(log, "time", seed, fractions=FRACTIONS)
        rows = parts.rows("train")
        rows = rows[np.asarray(log.time)[rows] < until]
        if kind == COMMON:
            rows = balanced(log, rows, exploration.is_random(log.users), seed)
        fqe = FQEConfig(
            hidden=(s.fqe_hidden,),
            ensemble=s.fqe_fits,
            weight_decay=DECAY,
            most_steps=s.fqe_steps,
            check_every=min(250, max(1, s.fqe_steps // 20)),
            gamma=self.config("bcq", seed).gamma,
            seed=seed,
            progress=False,
        )
        config = self.config("bcq", seed)
        config = replace(config, reward_weights=reward) if reward else config
        return prepare(log, rows, config, parts.rows("train")), log, parts, fqe

    def method(self, name: str, seed: int, log: Journeys, parts: Split, ready: Prepared, note: Tell) -> Act:
        """What a variant does, fitted, or loaded where its cell is whole."""
        folder = self.out / "cells" / f"{name}-{seed}"
        kind = VARIANTS[name][0]
        config = self.config(name, seed)
        own = _rewarded(log, ready, config)
        method = METHODS[kind](config)
        told = valued_on(own, log, parts)
        if (folder / "manifest.json").is_file():
            held = Run.open(folder)
            if held.manifest["provenance"] != told or held.config != _plain(method.settings()):
                note(f"{folder}: learnt from another log, for another reward or as told otherwise; fitted again")
                shutil.rmtree(folder)
            elif "files" in held.manifest:
                return load(held).policy().of_states
        run = Run.create(folder, method.settings(), resume=True, **told)
        objective = None
        if kind == "es":
            most = self.sizes.search_users * self.config("bo", seed).trials  # of rollouts, as many as BO is given
            users = np.arange(SEARCH, SEARCH + max(1, most // (config.generations * config.members)))
            objective = WorldObjective(self.scenario, users, self.sizes.search_days, seed, ready.actions, ready.state)
        method.fit(log, parts, run, progress=False, objective=objective, prepared=own)
        run.seal()
        return method.policy().of_states

    def worth(
        self,
        name: str,
        seed: int,
        act: Act,
        of: Transitions,
        config: FQEConfig,
        on: dict[str, Any],
    ) -> Worth:
        """A variant's values by the log before the gate, kept beside its cell with what they were taken `on`."""
        file = self.out / "cells" / f"{name}-{seed}.json"
        told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if told.get("on") == _plain(on):
            return Worth({k: Estimate(**e) for k, e in told["estimates"].items()}, told["far"])
        found = measured(act, of, config)
        file.parent.mkdir(exist_ok=True)
        durable.replace_text(file, json.dumps(asdict(found) | {"on": on}))
        return found

    def truths(self, seed: int, acts: dict[str, Act], ready: Prepared, on: dict[str, Any]) -> dict[str, FeedValue]:
        """What the policies bring to the same fresh users with the same luck, kept with what it was taken `on`."""
        file = self.out / "truths" / f"{'-'.join(acts)}-{seed}.json"
        told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if told.get("on") != _plain(on):
            users = np.arange(EVALUATION, EVALUATION + on["users"])
            found = together(
                self.scenario, list(acts.values()), users, on["days"], seed, ready.actions, ready.state, on["reward"],
                on["gamma"],
            )  # fmt: skip
            sums = [{name: total.tolist() for name, total in value.per_user.items()} for value in found]
            told = {"on": on, "totals": sums}
            file.parent.mkdir(exist_ok=True)
            durable.replace_text(file, json.dumps(told))
        return {
            name: FeedValue(name, on["days"], {k: np.array(v) for k, v in totals.items()}, seed)
            for name, totals in zip(acts, told["totals"], strict=True)
        }

    def _digest(self, name: str, seed: int, base: Floats) -> str:
        """Which policy a variant is: the weights of its fit, or the static ones."""
        if name == "bo":
            return hashlib.sha256(base.tobytes()).hexdigest()
        return str(Run.open(self.out / "cells" / f"{name}-{seed}").manifest["files"]["model.safetensors"])

    def config(self, name: str, seed: int) -> Any:
        """The config of a variant: the preset's, what the comparison changes, what the variant is."""
        kind, changes = VARIANTS[name]
        of = METHODS[kind]
        known = set(of.config_type.__dataclass_fields__)
        given = {k: v for k, v in self.changes.items() if k in known}
        return of.config_type(**{**of.presets[self.preset], **given, **changes, "seed": seed})

    def held_out(self, log: Journeys, parts: Split, ready: Prepared) -> Transitions:
        """The held-out sessions as estimators see them."""
        rows = parts.rows("test")
        made = transitions(log, rows, ready.state.of_rows(log, rows), ready.actions, ready.weights)
        return directed(made, ready.actions)

    def own(self, kind: str, seed: int, of: Transitions, config: FQEConfig, on: dict[str, Any]) -> dict[str, OnPolicy]:
        """Whether each estimator tells what the log's own policy brought, kept with what it was taken `on`."""
        file = self.out / "cells" / f"own-{kind}-{seed}.json"
        told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if told.get("on") == _plain(on):
            return {name: OnPolicy(**held) for name, held in told["own"].items()}
        found = own_values(of, config)
        file.parent.mkdir(exist_ok=True)
        durable.replace_text(file, json.dumps({"on": on, "own": {k: asdict(v) for k, v in found.items()}}))
        return found

    def references(self, seed: int, reward: dict[str, float], gamma: float) -> dict[str, FeedValue]:
        """What the searched policies are worth to the users that all meet; searched once, unless they come with the
        world."""
        found = {}
        for name, (search, bind) in REFERENCES.items():
            file = self.out / f"{name}.json"
            if not file.is_file():
                settings = feed_references.Search(self.sizes.search_users, SEARCH, self.sizes.search_days)
                try:
                    held = feed_references.load(self.scenario)
                    parameters = held.latent if name == LATENT else held.static
                except UserError:
                    parameters = search(self.scenario, settings).parameters
                durable.replace_text(file, json.dumps(parameters.tolist()))
            act = bind(np.array(json.loads(file.read_text(encoding="utf-8"))))
            users = np.arange(EVALUATION, EVALUATION + self.sizes.users)
            world = FeedWorld(self.scenario, users, seed, self.sizes.days)
            rewards = Rewards(world, reward, gamma)
            for step in rollout(world, act(world)):
                rewards.record(step.requests, step.outcomes)
            found[name] = FeedValue(name, self.sizes.days, world.totals | {"reward": rewards.total}, seed)
        return found

    def records(
        self, seed: int, truths: dict[str, FeedValue], worths: dict[str, Worth], references: dict[str, FeedValue]
    ) -> list[Record]:
        """Values, paired differences to Bayesian optimisation, absolute and as a share, and of the way from the best
        static weights to the reference that sees the latent state the share that is closed."""
        source = Source(self.dataset, "time", seed=seed)
        found = []
        for name, reference in references.items():
            for figure in FIGURES:
                found.append(_told(source, name, figure, reference[figure]))
                found.append(_told(source, name, f"{figure}_gain", reference.relative(truths["bo"], figure)))
        for name, truth in truths.items():
            if name not in self.methods and name != "bo":
                continue
            for figure in FIGURES:
                found.append(_told(source, name, figure, truth[figure]))
                if name != "bo":
                    found.append(_told(source, name, figure, truth.less(truths["bo"], figure), "bo"))
                    share = truth.relative(truths["bo"], figure)
                    found.append(_told(source, name, f"{figure}_gain", share))
            closed = truth.gap_closed(references[STATIC], references[LATENT], "dwell_time")
            found.append(_told(source, name, "dwell_time_gap_closed", closed))
        for name, worth in worths.items():
            for metric, e in worth.estimates.items():
                found.append(_told(source, name, metric, e))
                found.append(_told(source, name, f"{metric}_bias", _bias(e, truths[name]["reward_per_session"])))
                for diagnostic in ("fit_spread", "late_change"):
                    found.append(_diagnosed(source, name, metric, diagnostic, e))
            found.append(record(source, name, "far_from_log", Interval(worth.far, None, None), 1))
        return found


def valued_on(ready: Prepared, log: Journeys, parts: Split) -> dict[str, Any]:
    """Sessions and reward that values are taken on."""
    return {"data": log.fingerprint, "split": parts.fingerprint, "reward": ready.weights}


def _plain(told: dict[str, Any]) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(told))


def _rewarded(log: Journeys, ready: Prepared, config: Any) -> Prepared:
    """The same with the reward of a variant."""
    weights = config.reward_weights or ready.weights
    if config.emphasis != "none":
        weights = reward_weights(ready.affinities, config.emphasis, config.emphasis_factor)
    if weights == ready.weights:
        return ready
    train = transitions(log, ready.rows, ready.states, ready.actions, weights)
    return replace(ready, weights=weights, train=train)


def _told(source: Source, name: str, metric: str, e: Estimate, against: str | None = None) -> Record:
    return record(source, name, metric, Interval(e.value, e.low, e.high, e.refused), e.n, against)


def _bias(e: Estimate, truth: Estimate) -> Estimate:
    """An estimate less the true reward a session; the two come from different users, so their errors add."""
    if e.value is None or truth.value is None:
        return replace(e, value=None, low=None, high=None, refused=e.refused or truth.refused)
    low, high, least, most = (float(edge or 0.0) for edge in (e.low, e.high, truth.low, truth.high))
    away = e.value - truth.value
    below = np.hypot(e.value - low, most - truth.value)
    above = np.hypot(high - e.value, truth.value - least)
    return Estimate(away, float(away - below), float(away + above), e.n)


def _diagnosed(source: Source, name: str, metric: str, diagnostic: str, e: Estimate) -> Record:
    """What an estimate's diagnostics say of its fits, whether the estimate is admitted or not."""
    figure = float(e.diagnostics[diagnostic])
    known = Interval(figure, None, None) if np.isfinite(figure) else Interval(None, None, None, "not finite")
    return record(source, name, f"{metric}_{diagnostic}", known, e.diagnostics["fits"])


def compare(table: Table, seeds: int, tell: Tell, note: Tell) -> list[Record]:
    """The records of every seed, and their means over the seeds."""
    found: list[Record] = []
    for seed in range(seeds):
        started = time.monotonic()
        found += table.seed(seed, tell, note)
        spent = (time.monotonic() - started) / 60
        if spent > 1 and seed + 1 < seeds:
            note(f"seed {seed} took {spent:.0f} min; about {spent * (seeds - seed - 1):.0f} min for those that remain")
    return found + [r for r in aggregate(found) if seeds > 1]


def described(table: Table) -> dict[str, Any]:
    """What config.json says of a comparison; methods and seeds may be added later."""
    return {
        "command": "compare",
        "room": "fuse",
        "dataset": table.dataset,
        "preset": table.preset,
        "changes": table.changes,
        "sizes": asdict(table.sizes),
        "scenario_sha256": table.scenario.sha256,
    }
