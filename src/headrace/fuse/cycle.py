"""The daily cycle in a world: serve, log, keep the last days, retrain, roll over (Zhang et al. 2022, 3.4).

Explorers, users apart from all that is measured, are served by exploration around the policy of the day; each night a
new policy is fitted to their sessions of the last `keep` days. Three arms serve the same other users with the same
luck, in a world each, so their differences are paired: `cycle` by the newest policy, `frozen` by the first one, `bo` by
the static weights that stood before. Dwell time and positive-interaction rate are told by day.

N users, D days.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import UserError
from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Record, Source, record
from headrace.fuse import bo
from headrace.fuse.acting import FeedMemory, WorldObjective, explored, world_box
from headrace.fuse.exploration import Exploration, balanced
from headrace.fuse.method import FuseMethod, prepare
from headrace.fuse.methods import COMMON, LOG_OF, METHODS
from headrace.fuse.policy import FusionPolicy
from headrace.journeys.seams import Estimate, Floats
from headrace.journeys.splits import Split, session_starts
from headrace.journeys.store import Journeys
from headrace.learn import durable
from headrace.learn.run import Run
from headrace.simulate.feed import DAY_MS, FeedWorld
from headrace.simulate.feed_log import FeedLog
from headrace.simulate.feed_policies import Action, rollout
from headrace.simulate.feed_requests import FeedOutcomes, Requests
from headrace.simulate.feed_value import FeedValue
from headrace.simulate.scenario import Scenario

EXPLORERS, SERVED, SEARCH = 0, 500_000, 1_000_000  # first numbers of the users
ARMS = ("cycle", "frozen", "bo")
FIGURES = ("dwell_time", "positive_interaction_rate")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CycleConfig:
    """How the cycle runs."""

    days: int = 14
    keep: int = 3  # days of logs that a policy is fitted to
    explorers: int = 1_500
    users: int = 2_000  # of each arm
    search_users: int = 300  # of each measurement of the first, static weights
    search_days: int = 3
    trials: int = 36  # measurements of that search
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("keep", "explorers", "users", "search_users", "search_days", "trials"):
            if getattr(self, name) < 1:
                raise UserError(f"cycle: {name} = {getattr(self, name)}, expected 1 or more; change it")
        if self.days <= self.keep:
            raise UserError(f"--days {self.days}: the first policy needs {self.keep} days of logs; give more days")


class Arm:
    """One world and the policy that serves it; exchanged at midnight, its memory kept."""

    def __init__(
        self, scenario: Scenario, first: int, users: int, config: CycleConfig, base: Floats, shown: int, videos: int
    ):
        self.world = FeedWorld(scenario, np.arange(first, first + users), config.seed, config.days)
        self.base, self.space = base, world_box(scenario)
        self.exploration: Exploration | None = None
        self.policy: FusionPolicy | None = None  # None: the static weights
        self.memory = FeedMemory(self.world, -(-videos // shown) + 1)
        self._running = rollout(self.world, self)

    def __call__(self, requests: Requests) -> Action:
        held = self.memory.look(requests)
        weights = np.broadcast_to(self.base, (len(requests), len(self.base)))
        if self.policy is not None:
            state = self.policy.state.of_histories(held, self.memory.past, requests.context["row"])
            weights = self.policy.weights_of(state)
        return explored(requests, weights, self)

    def record(self, requests: Requests, outcomes: FeedOutcomes) -> None:
        self.memory.record(requests, outcomes)

    def day(self, log: FeedLog | None = None) -> FeedValue:
        """Serve one day; what it brought each user."""
        before = {name: total.copy() for name, total in self.world.totals.items()}
        day = self.world.day
        while not self.world.done and self.world.day == day:
            step = next(self._running)
            if log is not None:
                log.add(step)
        brought = {name: total - before[name] for name, total in self.world.totals.items()}
        return FeedValue("day", 1, brought, self.world.seed)


def cycle(
    name: str, scenario: Scenario, dataset: str, method_config: Any, config: CycleConfig, out: Path, tell: Tell
) -> list[Record]:
    """Run the cycle of a method; the records of each day and arm, and of all days since the first policy."""
    kind = METHODS[name]
    base = _base(scenario, config, out, tell)
    past = scenario.feed_task.shown, method_config.videos
    explorers = Arm(scenario, EXPLORERS, config.explorers, config, base, *past)
    explorers.exploration = Exploration(LOG_OF.get(name, COMMON), seed=config.seed)
    arms = {arm: Arm(scenario, SERVED, config.users, config, base, *past) for arm in ARMS}
    log = FeedLog(explorers.world)
    by_day: dict[str, list[FeedValue]] = {arm: [] for arm in ARMS}
    for day in range(config.days):
        tell(f"day {day + 1} of {config.days}")
        explorers.day(log)
        for arm in ARMS:
            by_day[arm].append(arms[arm].day())
        if day + 1 < config.keep or day + 1 == config.days:
            continue
        fresh = kind(replace(method_config, seed=config.seed + day))
        policy = _fit(fresh, log.write(out / "log"), config, day, out / f"night-{day + 1:02d}")
        explorers.policy = arms["cycle"].policy = policy
        if arms["frozen"].policy is None:
            arms["frozen"].policy = policy
    return _records(Source(dataset, "cycle", "served", config.seed), by_day, config, name)


def _fit(method: FuseMethod, journeys: Journeys, config: CycleConfig, day: int, folder: Path) -> FusionPolicy:
    """The night's policy, from the sessions that began in the last days; loaded where the night is done."""
    assert journeys.time is not None
    since = float(journeys.time.min()) // DAY_MS * DAY_MS + (day + 1 - config.keep) * DAY_MS
    parts = {p: np.zeros(journeys.n_steps, dtype=np.bool_) for p in ("train", "validation", "test")}
    parts["train"] = session_starts(journeys) >= since
    split = Split("time", config.seed, None, parts, fingerprint=f"{journeys.fingerprint[:32]}-{config.keep}")
    run = Run.create(folder, method.settings(), resume=True, data=journeys.fingerprint, split=split.fingerprint)
    if "files" in run.manifest:
        return method.load(run).policy()
    rows = split.rows("train")
    exploration = Exploration(LOG_OF.get(method.name, COMMON), seed=config.seed)
    if exploration.kind == "mixed":
        rows = balanced(journeys, rows, exploration.is_random(journeys.users), config.seed)
    method.fit(
        journeys, split, run, progress=False, prepared=prepare(journeys, rows, method.config, split.rows("train"))
    )
    run.seal()
    return method.policy()


def _base(scenario: Scenario, config: CycleConfig, out: Path, tell: Tell) -> Floats:
    """(K,) the static weights that Bayesian optimisation finds by rollouts to users of its own."""
    file = out / "base.json"
    if not file.is_file():
        tell("Bayesian optimisation of the static weights")
        space = world_box(scenario)
        users = np.arange(SEARCH, SEARCH + config.search_users)
        objective = WorldObjective(scenario, users, config.search_days, config.seed, space)
        chosen, _, _ = bo.search(objective, space.size, bo.BOConfig(seed=config.seed, trials=config.trials))
        durable.replace_text(file, json.dumps(space.weights(chosen).tolist()))
    return np.array(json.loads(file.read_text(encoding="utf-8")))


def _records(source: Source, by_day: dict[str, list[FeedValue]], config: CycleConfig, name: str) -> list[Record]:
    names = {"cycle": f"{name}-cycle", "frozen": f"{name}-frozen", "bo": "bo"}
    found = []
    spans = {day: [day] for day in range(config.days)}
    spans |= {-1: list(range(config.keep, config.days))}  # all days that the newest policy could serve
    for day, days in spans.items():
        told = replace(source, setting={"day": day + 1} if day >= 0 else {})
        values = {arm: _summed([held[d] for d in days]) for arm, held in by_day.items()}
        for figure in FIGURES:
            for arm in ARMS:
                found.append(_told(told, names[arm], figure, values[arm][figure]))
            for ours, theirs in (("cycle", "bo"), ("cycle", "frozen"), ("frozen", "bo")):
                found.append(_told(told, names[ours], figure, values[ours].less(values[theirs], figure), names[theirs]))
    return found


def _summed(days: list[FeedValue]) -> FeedValue:
    totals = {name: np.sum([v.per_user[name] for v in days], axis=0) for name in days[0].per_user}
    return FeedValue("days", len(days), totals, days[0].seed)


def _told(source: Source, name: str, metric: str, e: Estimate, against: str | None = None) -> Record:
    return record(source, name, metric, Interval(e.value, e.low, e.high, e.refused), e.n, against)
