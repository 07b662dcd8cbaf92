"""What a campaign came to: its records for results.json, and the account that its page is drawn from. Money in the
budget's currency; values are sums over N users."""

import math
from typing import Any

import numpy as np

from headrace.campaign.money import MICROS
from headrace.campaign.procedure import CampaignResult
from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Record, Source, record
from headrace.journeys.seams import Floats
from headrace.simulate.value import Z95

POINTS = 50  # of the gains curve


def total(per_user: Floats) -> Interval:
    """The sum over users, (N,), with its 95 % interval over users; one who lost nothing in it has none."""
    n = len(per_user)
    value = float(per_user.sum())
    if n < 2:
        return Interval(value, None, None)
    half = Z95 * math.sqrt(n) * float(per_user.std(ddof=1))
    return Interval(value, value - half, value + half)


def of_gains(figure: Interval, *per_user: Floats) -> Interval:
    """The figure of sums that cannot be negative, as counts cannot: its interval is cut at 0, which takes nothing from
    its coverage. Where no user gained anything there is none, for nothing tells how far it might be from 0. Gains of
    negative weight are left as they are.
    """
    if figure.low is None or any((values < 0).any() for values in per_user):
        return figure
    if figure.value == 0:
        return Interval(0.0, None, None)
    return Interval(figure.value, max(figure.low, 0.0), figure.high)


def gained_in_all(per_user: Floats) -> Interval:
    """The total of users' gains, (N,): gross, or what adverts brought them."""
    return of_gains(total(per_user), per_user)


def exactly(value: float) -> Interval:
    """A figure that is counted, not estimated."""
    return Interval(value, value, value)


def held_out_estimate(result: CampaignResult) -> Interval:
    """The increment as one would estimate it without a simulator: users who may see adverts less those held out."""
    if not result.tells("gross"):
        return Interval(
            None, None, None, "only what adverts brought is known; have closing/totals.parquet tell the rest"
        )
    gross, held = result.value("gross"), result.held_out
    seen, kept = gross[~held], gross[held]
    if len(kept) < 2 or len(seen) < 2:
        return Interval(None, None, None, "no user was held out; ask for some with --hold-out SHARE")
    value = float(seen.mean() - kept.mean()) * len(seen)
    half = Z95 * len(seen) * math.sqrt(seen.var(ddof=1) / len(seen) + kept.var(ddof=1) / len(kept))
    return Interval(value, value - half, value + half)


def records_of(
    result: CampaignResult, source: Source, method: str, reference: CampaignResult | None = None
) -> list[Record]:
    """The entries of results.json: spend, true value, increment, regret to a reference; and each round's."""
    n = len(result.shown)

    def entry(metric: str, figure: Interval, against: str | None = None, **setting: Any) -> Record:
        varied = Source(source.dataset, source.protocol, source.part, source.seed, source.setting | setting)
        return record(varied, method, metric, figure, n, against)

    found = [entry("spend", exactly(result.spent / MICROS))]
    if result.tells("gross"):
        found.append(entry("true_value", gained_in_all(result.value("gross"))))
    else:
        told = Interval(None, None, None, "nobody told what these users gained without an advert in front of them")
        found.append(entry("true_value", told))
    if result.tells("without"):
        found.append(entry("incremental_value", total(result.value("gross") - result.value("without"))))
    else:
        told = Interval(None, None, None, "nobody knows what these users would have done without adverts")
        found.append(entry("incremental_value", told))
        found.append(entry("attributed_value", gained_in_all(result.value("attributed"))))
    found.append(entry("incremental_value", held_out_estimate(result), by="hold-out"))
    if reference is not None:
        found.append(entry("regret", total(reference.value("gross") - result.value("gross")), "reference"))
    for gain, worth in result.worth.items():
        if worth.gross is not None:
            found.append(entry("true_value", gained_in_all(worth.gross), gain=gain))
        if worth.without is None:
            found.append(entry("attributed_value", gained_in_all(worth.attributed), gain=gain))
        elif worth.gross is not None:
            found.append(entry("incremental_value", total(worth.gross - worth.without), gain=gain))
    for r in result.rounds:
        found.append(entry("spend", exactly(r["spent"] / MICROS), round=r["round"]))
        found.append(entry("attributed_value", exactly(gained(result, r)), round=r["round"]))
    return found


def gained(result: CampaignResult, r: dict[str, Any]) -> float:
    """What a round's adverts brought by the reward's weights."""
    return float(sum(weight * r["gains"][gain] for gain, weight in result.weights.items()))


def account_of(
    result: CampaignResult, channels: tuple[str, ...], currency: str, reference: CampaignResult | None = None
) -> dict[str, Any]:
    """Everything that the page shows beside the records."""
    return {
        "currency": currency,
        "budget": result.config.budget / MICROS,
        "channels": list(channels),
        "gain": result.weights,
        "allocator": result.allocator,
        "users": len(result.shown),
        "reached": int((result.shown > 0).sum()),
        "held_out": int(np.sum(result.held_out)),
        "rounds": result.rounds,
        "value": [gained(result, r) for r in result.rounds],
        "reference": None if reference is None else _course(reference),
        "curve": curve(result),
        "audit": result.audit.to_dict(),
    }


def _course(result: CampaignResult) -> list[dict[str, float]]:
    """Spend and value of each round."""
    return [
        {"day": r["day"], "turn": r["turn"], "spent": r["spent"] / MICROS, "value": gained(result, r)}
        for r in result.rounds
    ]


def curve(result: CampaignResult) -> list[dict[str, float]]:
    """Users by what was foreseen of them at first, best first: the share of adverts, spend and gain that the first
    ones got."""
    order = np.argsort(-result.foreseen, kind="stable")
    columns = {"adverts": result.shown, "spend": result.charged, "gain": result.value("attributed")}
    cuts = np.unique(np.round(np.linspace(0, len(order), POINTS + 1)).astype(np.int64))
    points = [{"users": float(cut) / max(len(order), 1)} for cut in cuts]
    for name, values in columns.items():
        sums = np.concatenate([[0.0], np.cumsum(values[order], dtype=np.float64)])
        for point, cut in zip(points, cuts, strict=True):
            point[name] = float(sums[cut] / sums[-1]) if sums[-1] > 0 else 0.0
    return points
