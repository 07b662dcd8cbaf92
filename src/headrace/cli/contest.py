"""What a comparison of campaigns is made of: a log and a run, simulated and trained where none is given."""

import dataclasses
import datetime
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.campaign.allocation import no_ad_channel
from headrace.campaign.constraints import amount_of, with_flags
from headrace.campaign.contestants import Material
from headrace.campaign.money import money_words, to_micros
from headrace.campaign.scores import Foreseeing, OverNoAd, Predictor
from headrace.channel.methods import Method, method_of
from headrace.cli.fitting import audited, provenance, reward_changes, settings
from headrace.cli.measuring import open_run, own_journeys, own_split
from headrace.cli.ratios import INITIAL, ratios
from headrace.cli.settings import configure
from headrace.cli.worlds import fitted
from headrace.errors import UserError, unknown
from headrace.journeys.store import Journeys
from headrace.learn.run import Run
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario

if TYPE_CHECKING:
    from headrace.cli.campaign import Campaign
    from headrace.cli.compare_campaign import CompareCampaign

LOG_SEED = 1_000_000  # far from the seeds of the worlds that are compared on


def learnt(flags: "CompareCampaign", scenario: Scenario, folder: Path, tell: Callable[..., None]) -> Path:
    """A run of mtorl on a log of the world's logging policy, both kept in the folder and found there again."""
    log, path = folder / "log", folder / "run"
    tell("simulating a log")
    there = (log / "journeys.json").is_file()
    journeys = Journeys(log) if there else simulate(scenario, flags.log_users, None, "logging", LOG_SEED, log)
    kind = method_of("mtorl")
    changes = (*reward_changes(flags.reward, journeys.schema), *flags.set)
    method: Any = kind(configure("mtorl", kind.config_type, kind.presets, "default", changes))
    if (path / "manifest.json").is_file() and "files" in Run.open(path).manifest:
        return path
    split = journeys.split("honest", 0)
    audited(journeys, split)
    told = settings(method.settings(), journeys, split)
    run = Run.create(path, told, resume=True, **provenance(journeys, split))
    tell("training mtorl")
    method.fit(journeys, split, run, progress=False)
    run.write_json("audit.json", [f.to_dict() for f in audited(journeys, split, method.transforms)])
    run.write_json("summary.json", {})
    run.seal()
    return path


def spender(
    flags: "Campaign", method: Method, channels: tuple[str, ...]
) -> tuple[Predictor, tuple[float, ...] | None, str | None]:
    """A campaign's predictor, P_initial where its preset explores by it, and what a person should be told.

    Refused where the increment is asked for and the log holds no steps without an advert.
    """
    plain: Predictor = Foreseeing(method, 1.0 if flags.price is None else flags.price)
    if flags.score == "increment":
        return OverNoAd(plain, no_ad_channel(channels)), None, None
    ours = flags.preset == "default"
    if ours and not flags.correct:
        return plain, None, None
    if own_journeys(open_run(flags.run)) is None:
        lacks = "the predictions are not corrected" if ours else "exploration draws all channels alike"
        return plain, None, f"{flags.run}: the log that it was trained on is gone, so {lacks}"
    material = own_material(flags.run, method, flags.alpha, flags.price)
    return (material.corrected, None, None) if ours else (plain, material.initial, None)


def budgets_of(amounts: Sequence[float]) -> tuple[int, ...]:
    """Budgets to compare at, in micros, the smallest first; UserError for none, and for one that is given twice."""
    found = tuple(sorted(to_micros(amount) for amount in amounts))
    if not found:
        raise UserError("--budget: no amount is given, expected one or more")
    for one, next_one in itertools.pairwise(found):
        if one == next_one:
            raise UserError(f"--budget: {money_words(one)} is given twice; leave one of them out")
    return found


def pots_of(given: tuple[str, ...], channels: tuple[str, ...], budget: int) -> tuple[int | None, ...] | None:
    """Micros that each channel may cost at most, from CHANNEL=AMOUNT words; None where none is limited."""
    limits = with_flags({}, "budget", given, "--channel-budget")
    for name in limits:
        if name not in channels:
            raise unknown("channel", name, channels, "--channel-budget")
    pots = {
        name: amount_of(of.budget, budget, f"--channel-budget {name}", up=False)
        for name, of in limits.items()
        if of.budget is not None
    }
    if all(pots.get(name) == 0 for name in channels):
        raise UserError("--channel-budget: every channel is closed, so nothing could be spent; leave one open")
    return tuple(pots.get(name) for name in channels) if pots else None


def refuse_own_users(path: Path, seeds: Iterable[int]) -> None:
    """UserError where the users of a world are those of the log that a run learnt from: their luck would be the same,
    and the run has seen it."""
    journeys = own_journeys(open_run(path))
    own = -1 if journeys is None else journeys.manifest["notes"].get("seed", -1)
    if own in seeds:
        raise UserError(
            f"--seed {own}: the log that {path} learnt from is of the same users and luck, so the figures would "
            "flatter it; choose another --seed"
        )


def after_the_log(path: Path, scenario: Scenario) -> Scenario:
    """The scenario from the day after the last of the log that a run learnt from; UserError where the run cannot be
    trained on in it."""
    last = datetime.datetime.fromtimestamp(last_time(path) / 1000, datetime.UTC).date()
    return dataclasses.replace(scenario, start=(last + datetime.timedelta(days=1)).isoformat())


def last_time(path: Path) -> float:
    """When the log that a run learnt from ends, on its clock; UserError where the run cannot be trained on."""
    run = open_run(path)
    if run.config["method"] != "mtorl":
        raise UserError(f"{path}: a run of {run.config['method']}; --refit trains on a run of mtorl")
    journeys = own_journeys(run)
    if journeys is None or journeys.time is None:
        raise UserError(f"{path}: its log is gone, and --refit rehearses it; train again, or leave --refit out")
    return float(np.max(journeys.time))


def material_of(
    path: Path, scenario: Scenario, alpha: float = 0.5, price: float | None = None, rivals: Path | None = None
) -> Material:
    """What contestants are made of; UserError where the run's log is gone. `rivals`: a folder for runs of theirs."""
    return own_material(path, fitted(path, scenario)[0], alpha, price, rivals)


def own_material(
    path: Path, method: Method, alpha: float = 0.5, price: float | None = None, rivals: Path | None = None
) -> Material:
    """The same of a run whose method is at hand."""
    run = open_run(path)
    journeys = own_journeys(run)
    if journeys is None:
        raise UserError(f"{path}: its log is gone ({run.manifest['provenance']['data']}), and the rivals learn from it")
    initial = ratios(run, method, journeys, alpha)[0][INITIAL]
    return Material(
        journeys,
        own_split(run, journeys),
        method,
        tuple(initial.tolist()),
        1.0 if price is None else price,
        rivals,
    )
