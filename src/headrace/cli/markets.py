"""What `headrace campaign` is run on: a world, or a folder that a company's own job exchanges files with."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.campaign.market import Market
from headrace.channel.methods import Method, history_of
from headrace.cli.contest import after_the_log, last_time, refuse_own_users
from headrace.cli.measuring import open_run
from headrace.cli.rooms import load_channel
from headrace.cli.worlds import fitted, task_of
from headrace.errors import UserError

if TYPE_CHECKING:
    from headrace.cli.campaign import Campaign

USERS = 10_000  # of a world


@dataclass(frozen=True, slots=True)
class Place:
    """A run's method, and where it is to spend."""

    method: Method
    model: str  # sha256 of its weights
    name: str  # of the data set, in records
    part: str  # world or live
    channels: tuple[str, ...]
    currency: str
    fingerprint: str
    settings: dict[str, Any]
    market: Callable[[Callable[[str], None]], Market]  # anew; tells what it waits for


def place_of(flags: "Campaign") -> Place:
    """The one of the two that is asked for; UserError for none, both, and flags of the other."""
    if (flags.world is None) == (flags.market is None):
        raise UserError("campaign: give either --world WORLD, to simulate, or --market FOLDER, to advertise live")
    if flags.world is None:
        for name, given in (("users", flags.users), ("days", flags.days)):
            if given is not None:
                raise UserError(f"campaign: --{name} is of a world; {flags.market}/market.toml tells it of a market")
        if flags.wait is not None and not flags.wait >= 0:
            raise UserError(f"campaign: --wait {flags.wait:g}: expected a number of seconds of 0 or more")
        return _folder(flags)
    if flags.wait is not None:
        raise UserError("campaign: --wait is of a --market; a world answers at once")
    return _world(flags)


def _world(flags: "Campaign") -> Place:
    from headrace.campaign.world_market import WorldMarket
    from headrace.simulate.scenario import Scenario

    scenario = Scenario.load(str(flags.world))
    task_of(scenario, "ads")
    method, sealed = fitted(flags.run, scenario)
    refuse_own_users(flags.run, [flags.seed])
    if flags.refit is not None:
        scenario = after_the_log(flags.run, scenario)
    steps, statistics = history_of(method)
    users = USERS if flags.users is None else flags.users

    def market(tell: Callable[[str], None]) -> WorldMarket:
        return WorldMarket(scenario, users, flags.seed, flags.days, steps, statistics, flags.price)

    return Place(
        method,
        sealed["model.safetensors"],
        scenario.name,
        "world",
        scenario.channels,
        scenario.currency,
        scenario.sha256,
        {"users": users, "days": scenario.days_of(flags.days)},
        market,
    )


def _folder(flags: "Campaign") -> Place:
    from headrace.campaign.folder_market import FolderMarket
    from headrace.campaign.terms import FILE

    assert flags.market is not None
    folder = flags.market
    run = open_run(flags.run)
    method: Method = load_channel(run)
    transforms = method.transforms
    assert transforms is not None  # a loaded method is fitted
    if flags.refit is not None:
        last_time(flags.run)
    steps, _ = history_of(method)

    def market(tell: Callable[[str], None]) -> FolderMarket:
        keep = flags.out / "exchange"
        found = FolderMarket(folder, transforms, keep, flags.seed, steps, flags.price, flags.wait)
        found.exchange.tell = tell
        return found

    ours = market(lambda what: None)
    digest = hashlib.sha256((folder / FILE).read_bytes())
    if isinstance(ours.terms.users, Path):
        digest.update(ours.terms.users.read_bytes())
    assert ours.schema.cost is not None  # checked
    return Place(
        method,
        run.manifest["files"]["model.safetensors"],
        ours.schema.name,
        "live",
        ours.channels,
        ours.schema.cost.unit,
        digest.hexdigest(),
        {"users": ours.users, "days": ours.days, "turns": ours.terms.turns},
        market,
    )
