"""headrace compare campaign: the same budget spent by many methods on the same users and luck."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import RUN


@dataclass(frozen=True, slots=True)
class CompareCampaign:
    """Play every method's campaign under several seeds of a world; resumable, a cell a folder."""

    data: str
    """ads | criteo | a scenario file"""
    budget: Annotated[tuple[float, ...], tyro.conf.arg(metavar="AMOUNT ...")]
    """Of each campaign, in the world's currency; several: all of it for each of them, and value against budget."""
    out: Path
    """The new folder: cells/, results.json, compare.html; log and run where no --run is given. One that was
    stopped goes on; one that is done takes further methods, seeds and budgets."""
    run: Annotated[Path | None, RUN, QUIET] = None
    """A folder that train left, of a log of this world that is still there; default: a log is simulated and mtorl
    trained."""
    methods: Annotated[str, QUIET] = "all"
    """Comma between them: random, majority, explicit, last-touch, first-touch, linear, time-decay, markov, shapley,
    no-channel-level, no-user-level, paper, din-top-n, r-bcq, ag, fixed-threshold, trees-lp, trees-lp-corrected,
    uncorrected, ours, informed, full-information; lp-bound, clairvoyant-bound: what none can exceed, where that is
    known; all."""
    seeds: int = 3
    """Worlds, each with other users and other luck."""
    users: int = 1_000
    """Of each world."""
    days: Annotated[int | None, QUIET] = None
    """How long a campaign lasts; default: the scenario's own."""
    seed: int = 0
    """The first world's; none may be that of the log which --run learnt from."""
    reward: str = "click"
    """The gain to spend for, where no --run is given."""
    log_users: Annotated[int, QUIET] = 5_000
    """Users of the log that is simulated where no --run is given."""
    set: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Fields of mtorl's config, where no --run is given."""
    alpha: Annotated[float, QUIET] = 0.5
    """Weight of the implicit ratio in the initial policy (17)."""
    price: Annotated[float | None, QUIET] = None
    """What a unit of a scaled cost costs; needed where the world has no currency."""

    def execute(self) -> None:
        import numpy as np

        from headrace.campaign.bounds import BOUNDS, bound_of, bound_records, why_none
        from headrace.campaign.comparing import Contest, compare, play, write_p_values
        from headrace.campaign.contestants import CONTESTANTS, TRAINED
        from headrace.campaign.money import MICROS, money_words
        from headrace.campaign.world_market import check_price
        from headrace.cli.console import out, progress
        from headrace.cli.contest import budgets_of, learnt, material_of, refuse_own_users
        from headrace.cli.measuring import open_run
        from headrace.cli.settings import refuse_folder
        from headrace.cli.worlds import task_of
        from headrace.errors import UserError, unknown
        from headrace.evaluate.results import Record, Source, save
        from headrace.learn.run import Run
        from headrace.report.campaign_page import gain_words
        from headrace.report.compare_campaign import ACCOUNT, print_contest, write_contest
        from headrace.simulate.scenario import Scenario

        known = [*CONTESTANTS, *BOUNDS]
        named = known if self.methods == "all" else [name.strip() for name in self.methods.split(",")]
        for name in named:
            if name not in known:
                raise unknown("method", name, known, "compare campaign")
        methods, bounds = ([n for n in dict.fromkeys(named) if n in of] for of in (CONTESTANTS, BOUNDS))
        if not methods:
            raise UserError("compare campaign: only bounds are named; name a method to compare with them")
        if self.seeds < 1 or self.users < 2:
            raise UserError(f"--seeds {self.seeds} --users {self.users}: expected 1 seed and 2 users or more")
        if not 0 <= self.alpha <= 1:
            raise UserError(f"--alpha {self.alpha:g}: expected a number from 0 to 1")
        scenario = Scenario.load(self.data)
        task_of(scenario, "ads")
        check_price(scenario, self.price)
        budgets = budgets_of(self.budget)
        if self.run is not None:
            refuse_own_users(self.run, range(self.seed, self.seed + self.seeds))
        if not (self.out / "config.json").is_file():
            refuse_folder(self.out)
        # methods, seeds and budgets may be added later: what was played stays
        config: dict[str, Any] = {
            "command": "compare",
            "room": "campaign",
            "dataset": scenario.name,
            "currency": scenario.currency,
        }
        config |= {"users": self.users, "days": scenario.days_of(self.days), "first_seed": self.seed}
        config |= {"alpha": self.alpha, "price": self.price}
        if self.run is None:
            config |= {"reward": self.reward, "log_users": self.log_users, "set": list(self.set)}
        else:
            config |= {"run": self.run.resolve().name}
        trained = {} if self.run is None else {"trained": open_run(self.run).manifest["files"]["model.safetensors"]}
        folder = Run.create(self.out, config, resume=True, data_fingerprint=scenario.sha256, **trained)
        with folder.locked():
            with progress("learning") as tell:
                run = self.run or learnt(self, scenario, folder.path, tell)
                material = material_of(run, scenario, self.alpha, self.price, folder.path / "rivals")
                for name in methods:
                    if name in TRAINED:
                        tell(f"training {TRAINED[name]}")
                        material.trained(TRAINED[name])
            lacking = why_none(scenario, material.weights)
            if lacking and bounds:
                out.print(f"without bounds: {lacking}")
                bounds = []
            contests = {
                budget: Contest(scenario, self.users, budget, self.days, self.seed, self.price) for budget in budgets
            }
            seeds = range(self.seed, self.seed + self.seeds)
            cells = {budget: folder.path / "cells" / money_words(budget) for budget in budgets}
            left = [
                (c, m) for b, c in contests.items() for s in seeds for m in methods if not c.is_done(m, s, cells[b])
            ]
            if left:
                with progress("timing") as tell:
                    once = {name: contests[budgets[0]].expected_s(name, material) for name in {m for _, m in left}}
                minutes = sum(once[name] for _, name in left) / 60
                total = len(methods) * self.seeds * len(budgets)
                out.print(f"{len(left)} of {total} campaigns to play, about {minutes:.1f} min")
            records: list[Record] = []
            p_values: dict[str, dict[str, float]] = {}
            adverts: dict[str, dict[str, list[float]]] = {}
            for budget, contest in contests.items():
                words = money_words(budget)
                with progress(f"comparing at {words}") as tell:
                    played = play(contest, material, methods, list(seeds), cells[budget], tell)
                    found = {(m, s): cell for m, s, cell in played}
                source = Source(scenario.name, "campaign", "world", setting={"budget": budget / MICROS})
                of, p_values[words] = compare(source, found)
                records += of
                with progress(f"bounding at {words}") as tell:
                    for name in bounds:
                        totals = {}
                        for seed in seeds:
                            tell(f"{name}, seed {seed}")
                            totals[seed] = bound_of(name, contest, material.weights, seed, cells[budget])
                        records += bound_records(source, name, totals, {s: found[methods[0], s] for s in seeds})
                adverts[words] = {
                    m: np.sum([found[m, s].channels for s in seeds], axis=0).astype(float).tolist() for m in methods
                }
            save(records, folder.path / "results.json")
            write_p_values(folder.path / "p_values.json", p_values)
            told: dict[str, Any] = {"gain": gain_words(material.weights), "currency": scenario.currency}
            told |= {"budgets": {money_words(budget): budget / MICROS for budget in budgets}, "adverts": adverts}
            told |= {"users": self.users, "seeds": self.seeds, "channels": list(scenario.channels)}
            folder.write_json(ACCOUNT, told | {"correction": material.told()})
            write_contest(folder.path)
            folder.seal()
        print_contest(folder.path, out)
        out.print(f"{folder.path / 'compare.html'}: the same as a page")
