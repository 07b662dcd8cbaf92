"""headrace simulate: write a log of a simulated world."""

import importlib
from dataclasses import dataclass
from pathlib import Path

import tyro

from headrace.cli.console import out, progress
from headrace.cli.worlds import acting, task_of
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario

DEFAULT = {"ads": "logging", "feed": "shuffle"}


@dataclass(frozen=True, slots=True)
class Simulate:
    """Let a policy act in a world and write what a log would show of it, with exact propensities."""

    world: tyro.conf.Positional[str]
    """ads, feed, criteo, kuairand, or a scenario file."""
    out: Path
    """The new journeys folder."""
    users: int = 3_000
    """How many users there are."""
    days: int | None = None
    """How long; default: the scenario's."""
    policy: str | None = None
    """Advertising: uniform | logged (as in the log that the scenario was fitted to) | logging | constant:CHANNEL |
    greedy-click | greedy-profit (these two see the truth) | a run's folder. Default: logging; of a feed: shuffle."""
    seed: int = 0
    """Everything random is a function of it."""
    task: str | None = None
    """ads | feed; default: the one that the scenario holds."""

    def run(self) -> None:
        scenario = Scenario.load(self.world)
        task = task_of(scenario, self.task)
        policy = self.policy or DEFAULT[task]
        with progress("simulating") as tell:
            if task == "feed":
                feed = importlib.import_module("headrace.simulate.feed_log")
                journeys = feed.simulate_feed(scenario, self.users, self.days, policy, self.seed, self.out, tell)
            else:
                choosing = acting(policy, scenario)
                journeys = simulate(scenario, self.users, self.days, choosing, self.seed, self.out, tell)
        steps = "requests" if task == "feed" else "exposures"
        out.print(f"{self.out}: {journeys.n_users:,} users with {journeys.n_steps:,} {steps}")
