"""run_campaign: the advertising procedure, exploration and then exploitation under one budget (MTORL, Algorithm 1).

    while k <= K and W > 0:                                                 a round = one turn of the market
        rule = allocator.fix(forecast)                                      fixed before the round's users are seen
        scores of the users in turn                                         new ones and those touched since: predicted
        chances = rule, mixed with exploration; 0 for hold-out and capped users
        channel ~ chances                                                   exact propensities
        admitted = ledger.reserve(largest cost)                             exposure by exposure
        outcomes = market.expose(channel where admitted)
        ledger.settle(cost)

Printed Algorithm 1 is the preset `paper` as far as it can run: W is checked for each exposure and not between rounds; k
counts rounds and not users; exploration, on all users as they first come, is charged to the same budget, up to a stated
share; N, not printed, is what the money for a mean opportunity suffices for; users who are not here cannot be
advertised to, so a round ranks those who are. `default` explores by lot, decides by a price of money, and keeps a small
share of exploration for good. docs/campaigns.md tells each.

N users, A of them in turn, M channels. The budget in micros, predictions in its currency.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from headrace.campaign.allocator import Allocator
from headrace.campaign.config import CampaignConfig
from headrace.campaign.course import Course
from headrace.campaign.ledger import Ledger
from headrace.campaign.market import Market, Worth
from headrace.campaign.money import TOTAL, Audit
from headrace.campaign.rounds import Record, Rounds
from headrace.campaign.scores import Predictor
from headrace.errors import UserError
from headrace.journeys.seams import Floats, Integers
from headrace.learn import durable

LEDGER, SETTINGS = "ledger.sqlite", "campaign-settings.json"


class Refit(Protocol):
    """Trains a predictor on what the market remembers; `folder` is its own, and keeps the result.

    A resumed campaign calls it again with the same folder, and must get the same predictor.
    """

    def __call__(self, market: Market, predictor: Predictor, folder: Path) -> Predictor: ...


Progress = Callable[[Record, int, float], None]  # the round's record, micros spent, value so far


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """What a campaign came to."""

    config: CampaignConfig
    allocator: str
    weights: dict[str, float]  # how much each gain counts
    rounds: list[Record]
    worth: dict[str, Worth]  # by gain
    shown: Integers  # (N,) adverts of each user
    charged: Integers  # (N,) micros
    foreseen: Floats  # (N,) the first predicted reward; minus infinity for users who never came
    held_out: Any  # (N,) whether a user was
    audit: Audit

    @property
    def spent(self) -> int:
        """Micros."""
        return self.audit.balances[TOTAL].spent

    def tells(self, what: Literal["gross", "without"]) -> bool:
        """Whether the market tells this of all gains that count."""
        return all(getattr(self.worth[g], what) is not None for g in self.weights)

    def value(self, what: Literal["attributed", "gross", "without"] = "gross") -> Floats:
        """(N,) the campaign's gain of each user, by the reward's weights; only what the market `tells`."""
        found: Floats = np.sum([w * getattr(self.worth[g], what) for g, w in self.weights.items()], axis=0)
        return found


def run_campaign(
    market: Market,
    predictor: Predictor,
    allocator: Allocator,
    config: CampaignConfig,
    out: Path | None = None,
    refit: Refit | None = None,
    progress: Progress | None = None,
) -> CampaignResult:
    """Spend the budget on the market's users, never more than it.

    A pure function of its arguments. With `out` the ledger and every round are kept there, and a campaign that was
    killed goes on from them to the same result. Raises UserError where `out` holds a campaign with other settings.
    """
    missing = [g for g in predictor.weights if g not in market.gains]
    if not predictor.weights:
        raise UserError("campaign: the predictor names no gain to spend for; train with --reward GAIN")
    if missing:
        raise UserError(f"campaign: the market tells no gain {missing[0]}; it tells {', '.join(market.gains)}")
    if config.refit_every is not None and (refit is None or out is None):
        raise UserError("campaign: refit_every asks for something to refit with, and for a folder")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _keep_settings(out / SETTINGS, config, allocator, predictor)
    with Ledger.create(None if out is None else out / LEDGER, config.budget) as ledger:
        course = Course(market, predictor, allocator, config, ledger, Rounds(out))
        while not market.done and (config.rounds is None or len(course.records) < config.rounds):
            record = course.round()
            if progress is not None:
                progress(record, course.spent, course.value)
            if config.refit_every and len(course.records) % config.refit_every == 0 and not market.done:
                assert refit is not None and out is not None  # checked above
                course.predictor = refit(market, course.predictor, out / "refits" / f"{len(course.records):05d}")
                course.scores.stale[:] = True
        audit = ledger.audit()
        if out is not None:
            ledger.compact()
    return CampaignResult(
        config,
        allocator.name,
        dict(predictor.weights),
        course.records,
        market.close(),
        course.shown,
        course.charged,
        course.foreseen,
        course.held_out,
        audit,
    )


def _keep_settings(path: Path, config: CampaignConfig, allocator: Allocator, predictor: Predictor) -> None:
    """Write what the campaign is to do; UserError where another one stands."""
    settings = {"config": dataclasses.asdict(config), "allocator": repr(allocator), "gain": dict(predictor.weights)}
    text = json.dumps(settings, indent=1) + "\n"
    if not path.is_file():
        durable.replace_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path}: a campaign with other settings is there; resume with those, or choose another folder")
