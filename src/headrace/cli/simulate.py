"""headrace simulate: write a log of a simulated world."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET


@dataclass(frozen=True, slots=True)
class Simulate:
    """Let a policy advertise in a world and write what a log would show of it, with exact propensities."""

    world: tyro.conf.Positional[str]
    """ads, or a scenario file"""
    out: Path
    """The new journeys folder."""
    users: int = 3_000
    """How many users there are."""
    days: Annotated[int | None, QUIET] = None
    """How long; default: the scenario's."""
    policy: str = "logging"
    """uniform | logging | constant:CHANNEL | greedy-click | greedy-profit (these two see the truth)"""
    seed: int = 0
    """Everything random is a function of it."""

    def execute(self) -> None:
        from headrace.cli.console import out, progress
        from headrace.cli.settings import refuse_folder
        from headrace.simulate.log import simulate
        from headrace.simulate.scenario import Scenario

        refuse_folder(self.out)
        scenario = Scenario.load(self.world)
        with progress("simulating") as tell:
            journeys = simulate(scenario, self.users, self.days, self.policy, self.seed, self.out, tell)
        out.print(f"{self.out}: {journeys.n_users:,} users with {journeys.n_steps:,} exposures")
