"""headrace simulate: write a log of a simulated world."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET

DEFAULT = {"ads": "logging", "feed": "shuffle"}


@dataclass(frozen=True, slots=True)
class Simulate:
    """Let a policy act in a world and write what a log would show of it, with exact propensities."""

    world: tyro.conf.Positional[str]
    """ads, feed, criteo, kuairand, or a scenario file"""
    out: Path
    """The new journeys folder."""
    users: int = 3_000
    """How many users there are."""
    days: Annotated[int | None, QUIET] = None
    """How long; default: the scenario's."""
    policy: Annotated[str | None, QUIET] = None
    """Advertising: uniform | logged (as in the log that the scenario was fitted to) | logging | constant:CHANNEL |
    greedy-click | greedy-profit (these two see the truth) | a run's folder; default logging. A feed: shuffle |
    score:BEHAVIOUR | static | random | uniform | explore | groups | greedy-click | greedy-watch | long-horizon |
    best-static | per-user (these five see the truth or were searched with it); default shuffle."""
    seed: int = 0
    """Everything random is a function of it."""
    task: Annotated[str | None, QUIET] = None
    """ads | feed; default: the one that the scenario holds."""

    def execute(self) -> None:
        from headrace.cli.console import out, progress
        from headrace.cli.settings import refuse_folder
        from headrace.cli.worlds import acting, task_of
        from headrace.simulate.feed_log import simulate_feed
        from headrace.simulate.log import simulate
        from headrace.simulate.scenario import Scenario

        refuse_folder(self.out)
        scenario = Scenario.load(self.world)
        task = task_of(scenario, self.task)
        policy = self.policy or DEFAULT[task]
        with progress("simulating") as tell:
            if task == "feed":
                journeys = simulate_feed(scenario, self.users, self.days, policy, self.seed, self.out, tell)
            else:
                choosing = acting(policy, scenario)
                journeys = simulate(scenario, self.users, self.days, choosing, self.seed, self.out, tell)
        steps = "requests" if task == "feed" else "exposures"
        out.print(f"{self.out}: {journeys.n_users:,} users with {journeys.n_steps:,} {steps}")
