"""headrace plan: the best users and channels for a budget."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import RUN

Amounts = Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="CHANNEL=AMOUNT ...")]


@dataclass(frozen=True, slots=True)
class MakePlan:
    """Choose whom to advertise to next, and where, within a budget and what else is demanded; exit code 3 where the
    demands clash."""

    run: tyro.conf.Positional[Annotated[Path, RUN]]
    """A folder that train left."""
    data: str
    """Journeys, or a raw log of the run's schema, of the users to advertise to; or a world (ads, criteo, a scenario
    file), of which a log is simulated."""
    out: Path
    """A new folder for plan.parquet, results.json and the page."""
    budget: Annotated[float | None, QUIET] = None
    """In the cost's unit (with --price in money); default: the constraints file's."""
    constraints: Annotated[Path | None, QUIET] = None
    """A TOML file of demands (docs/planning.md); flags go before it."""
    channel_budget: Amounts = ()
    """A channel's own pot: at most this, in money or in % of the budget."""
    cap: Amounts = ()
    """At most this."""
    floor: Amounts = ()
    """At least this."""
    freeze: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="CHANNEL[=AMOUNT] ...")] = ()
    """This much, to within one exposure; 0 closes the channel; without an amount, its share of the log's cost."""
    per_user: Annotated[int | None, QUIET] = None
    """Frequency cap: exposures of one user, each on another channel; default 1."""
    days: Annotated[int | None, QUIET] = None
    """How many days the plan lasts; default 1."""
    daily_budget: Annotated[float | None, QUIET] = None
    """The most that any day may spend."""
    pacing: Annotated[str | None, QUIET] = None
    """even: as much on each day (default) | soon: the best exposures on the first days"""
    exploration: Annotated[float | None, QUIET] = None
    """At least this share of the budget on users and channels drawn by lot; default 0."""
    price: Annotated[float | None, QUIET] = None
    """Money for one unit of a scaled cost; for one exposure where the log has no cost."""
    score: str = "gain"
    """gain: the expected gain | increment: that above no advert, where the log holds steps without one"""
    no_ad: Annotated[str | None, QUIET, tyro.conf.arg(metavar="CHANNEL")] = None
    """The channel that stands for showing no advert; default: one called none, no_ad, no-ad or organic."""
    alpha: float = 0.5
    """The implicit ratio's weight in the initial policy (17), which exploration draws channels by."""
    users: int = 3_000
    """Users of a world."""
    seed: int = 0
    """Of exploration, pacing, the resamples and a world."""

    def execute(self) -> None:
        from headrace.cli.console import out, progress
        from headrace.cli.measuring import open_run, own_schema, warn_of_floors
        from headrace.cli.planning import account, check_flags, leave, offer_of, open_data, wanted_of
        from headrace.cli.settings import refuse_folder
        from headrace.report.plan_page import PAGE, print_plan

        refuse_folder(self.out)
        run = open_run(self.run)
        check_flags(self, own_schema(run))
        with progress("planning") as tell:
            journeys = open_data(self, run, tell)
            wanted = wanted_of(self, journeys)
            tell("predicting")
            offer, notes = offer_of(self, run, journeys)
            from headrace.campaign.draft import draft

            made = draft(offer, wanted, self.seed, tell)
        told = account(self, run, journeys, wanted, offer, notes, made)
        leave(self, run, journeys, wanted, told, made)
        warn_of_floors(run)
        print_plan(told, out)
        out.print(
            f"{self.out / 'plan.parquet'}: {made.table.height:,} exposures; {self.out / PAGE}: the same as a page"
        )
