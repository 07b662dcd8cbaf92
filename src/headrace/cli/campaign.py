"""headrace campaign: spend a budget on a world's users, or on real ones, by a trained run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import RUN


@dataclass(frozen=True, slots=True)
class Campaign:
    """Explore, then exploit, under one budget that is never exceeded; leave results.json, a log and campaign.html."""

    run: tyro.conf.Positional[Annotated[Path, RUN]]
    """A folder that train left."""
    budget: float
    """In the world's or the market's currency."""
    out: Path
    """A new folder."""
    world: Annotated[str | None, QUIET] = None
    """ads | criteo | a scenario file: simulated users. Either this, or --market."""
    market: Annotated[Path | None, QUIET, tyro.conf.arg(metavar="FOLDER")] = None
    """Real users: a folder with a market.toml, where files are exchanged with a job of yours turn by turn
    (docs/campaigns.md)."""
    wait: Annotated[float | None, QUIET, tyro.conf.arg(metavar="SECONDS")] = None
    """Wait so long for a file of a --market, then stop; default: as long as it takes."""
    users: Annotated[int | None, QUIET] = None
    """How many users the world has; default: 10,000."""
    days: Annotated[int | None, QUIET] = None
    """How long the world lasts; default: the scenario's own."""
    rounds: Annotated[int | None, QUIET] = None
    """At most so many rounds, each one pass over the users who are there; default: all until the days are over."""
    preset: str = "default"
    """default | paper: ours, or printed Algorithm 1 as far as it can run"""
    hold_out: float = 0.0
    """Share of the users who never see an advert, so that the increment can be estimated as one would live."""
    daily: Annotated[float | None, QUIET] = None
    """Spend at most this a day."""
    cap: Annotated[int | None, QUIET] = None
    """Show a user at most so many adverts a day."""
    cap_total: Annotated[int | None, QUIET] = None
    """Show a user at most so many adverts in all."""
    explore: Annotated[float | None, QUIET] = None
    """Share of the choices that are drawn by lot for good, so that the log can value other policies; default: the
    preset's (1 %; paper: none)."""
    channel_budget: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="CHANNEL=AMOUNT ...")] = ()
    """A channel's own pot: at most this, in money or in % of the budget; 0 closes it."""
    rescore: Annotated[str | None, QUIET] = None
    """touched | reachable: predict anew for users who were shown an advert since, or for all who are there (better,
    slower); default: reachable, of preset paper touched"""
    correct: Annotated[bool, QUIET] = True
    """Correct the predictions by the propensities of the run's log (preset default); --no-correct: take them as they
    are."""
    refit: Annotated[int | None, QUIET] = None
    """Train the run on by what the campaign has seen, every so many rounds; the world then begins the day after the
    run's log ends. A run of mtorl."""
    score: str = "gain"
    """gain | increment: select by the predicted gain, or by that above no advert, where the log holds such steps"""
    alpha: Annotated[float, QUIET] = 0.5
    """Weight of the implicit ratio in P_initial (17), which preset paper explores by."""
    price: Annotated[float | None, QUIET] = None
    """What a unit of a scaled cost costs; needed where the world has no currency."""
    seed: int = 1
    """Of the world: everything random is a function of it. Another than that of the log which the run learnt from."""
    resume: bool = False
    """Go on with a campaign that was stopped, to the same result."""

    def execute(self) -> None:
        import dataclasses

        from headrace.campaign.account import account_of, records_of
        from headrace.campaign.config import PRESET_ALLOCATORS, PRESETS, CampaignConfig
        from headrace.campaign.contestants import PLAIN
        from headrace.campaign.money import MICROS, to_micros
        from headrace.campaign.procedure import run_campaign
        from headrace.campaign.refit import GoingOn
        from headrace.campaign.rounds import Record
        from headrace.campaign.world_market import TrueRates
        from headrace.cli.console import err, out, progress
        from headrace.cli.contest import pots_of, spender
        from headrace.cli.markets import place_of
        from headrace.cli.settings import begin_or_resume
        from headrace.errors import unknown
        from headrace.evaluate.results import Source, save
        from headrace.learn.run import Run
        from headrace.report.campaign_page import ACCOUNT, gain_words, summary, write_campaign

        if self.preset not in PRESETS:
            raise unknown("preset", self.preset, PRESETS, "campaign")
        if self.rescore not in (None, "touched", "reachable"):
            raise unknown("rescore", str(self.rescore), ("touched", "reachable"), "campaign")
        if self.score not in ("gain", "increment"):
            raise unknown("score", self.score, ("gain", "increment"), "campaign")
        begin_or_resume(self.out, self.resume, "campaign")
        place = place_of(self)
        daily = None if self.daily is None else to_micros(self.daily, "daily")
        limits: dict[str, Any] = {
            "hold_out": self.hold_out,
            "daily": daily,
            "cap_per_day": self.cap,
            "cap": self.cap_total,
            "rounds": self.rounds,
            "refit_every": self.refit,
        }
        limits |= {} if self.rescore is None else {"rescore": self.rescore}
        limits |= {} if self.explore is None else {"explore": self.explore}
        predictor, initial, told = spender(self, place.method, place.channels)
        limits |= {} if initial is None else {"initial": initial}
        if told:
            err.print(told)
        budget = to_micros(self.budget)
        limits |= {"pots": pots_of(self.channel_budget, place.channels, budget)}
        config = CampaignConfig(budget, **(PRESETS[self.preset] | limits))
        settings: dict[str, Any] = {
            "command": "campaign",
            "run": self.run.name,
            "method": place.method.name,
            "dataset": place.name,
        }
        settings |= {"preset": self.preset, **place.settings, "seed": self.seed}
        settings |= {"correct": self.correct, "score": self.score, "alpha": self.alpha}
        settings |= {"price": self.price, "campaign": dataclasses.asdict(config)}
        gain = gain_words(predictor.weights)
        currency = place.currency if self.price is None else "(priced)"
        with progress("campaign") as tell:
            ours = place.market(tell)
            folder = Run.create(
                self.out, settings, self.resume, data_fingerprint=place.fingerprint, trained=place.model
            )
            with folder.locked():

                def show(record: Record, spent: int, value: float) -> None:
                    at = f"round {record['round']}, day {record['day']}"
                    tell(f"{at}: {spent / MICROS:,.2f} {currency}, {value:,.4g} {gain}", spent, config.budget)

                refit = None if self.refit is None else GoingOn(Run.open(self.run))
                allocator = PRESET_ALLOCATORS[self.preset]
                result = run_campaign(ours, predictor, allocator, config, folder.path, refit, show)
                reference = None
                if place.part == "world":
                    tell("full information")
                    alike = {name: getattr(config, name) for name in ("rounds", "daily", "cap", "cap_per_day", "pots")}
                    known = CampaignConfig(config.budget, **alike, **PLAIN, rescore="reachable")
                    best = PRESET_ALLOCATORS["default"]
                    reference = run_campaign(place.market(tell), TrueRates(predictor.weights), best, known)
                tell("writing")
                source = Source(place.name, "campaign", place.part, self.seed)
                records = records_of(result, source, place.method.name, reference)
                account = account_of(result, place.channels, currency, reference)
                if not (folder.path / "journeys").exists():
                    ours.journeys(folder.path / "journeys")
                save(records, folder.path / "results.json")
                folder.write_json(ACCOUNT, account)
                write_campaign(folder.path)
                folder.seal()
        for name, value in summary(records, account):
            out.print(f"{name}: {value}")
        if not result.audit.sound:
            raise AssertionError(f"the ledger does not add up: {'; '.join(result.audit.problems)}")
        log = f"; {self.out / 'journeys'}: its log, for  headrace ope" if (self.out / "journeys").exists() else ""
        out.print(f"{self.out / 'campaign.html'}: the same as a page{log}")
