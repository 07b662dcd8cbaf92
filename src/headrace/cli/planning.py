"""What `headrace plan` is made from, and what it leaves in the folder.

N users, M channels.
"""

import atexit
import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.campaign.allocation import increment, no_ad_channel
from headrace.campaign.attribution import attribute
from headrace.campaign.constraints import Constraints, load, with_flags
from headrace.campaign.draft import MORE, Draft, Offer
from headrace.campaign.money import MICROS
from headrace.channel.methods import Method
from headrace.channel.recommend import predict_users, save, values_of
from headrace.cli.measuring import kept, own_schema
from headrace.cli.ratios import INITIAL, ratios
from headrace.cli.rooms import load_channel
from headrace.cli.settings import open_journeys
from headrace.cli.valued_policies import Tell
from headrace.cli.worlds import acting, task_of
from headrace.errors import Refused, UserError, unknown
from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.results import Record, Source, record
from headrace.evaluate.results import save as save_records
from headrace.journeys.schema import LogSchema
from headrace.journeys.seams import Floats
from headrace.journeys.store import Journeys
from headrace.learn import durable
from headrace.learn.run import Run
from headrace.report.campaign_page import gain_words
from headrace.report.plan_page import ACCOUNT, write_plan_page
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario

if TYPE_CHECKING:
    from headrace.cli.plan import MakePlan

SCORES = ("gain", "increment")
LEAST = 0.2  # of a channel's mean cost: what exposures foreseen below it did cost on Criteo's validation part (0.19)


@dataclasses.dataclass(frozen=True, slots=True)
class Notes:
    """What is told beside the plan."""

    gain: str  # what is gained, in words
    shares: dict[str, Floats]  # (M,) by rule
    shares_words: str
    increment_words: str
    raised: int  # expected costs that were below LEAST of their channel's logged mean


def check_flags(flags: "MakePlan", schema: LogSchema) -> None:
    """UserError for flags that do not fit the log's cost."""
    if flags.score not in SCORES:
        raise unknown("score", flags.score, SCORES)
    cost = schema.cost
    unitless = cost is None or cost.unit == "scaled"
    if unitless and flags.price is None:
        lacks = "has no cost column" if cost is None else f"holds the cost {cost.name} scaled, without a unit"
        each = "one exposure" if cost is None else "one unit of it"
        raise UserError(f"plan: schema {schema.name} {lacks}; say what {each} is in money with  --price AMOUNT")
    if not unitless and flags.price is not None:
        assert cost is not None
        raise UserError(f"plan: the cost of schema {schema.name} is in {cost.unit} already; leave --price out")
    if flags.price is not None and not 0 < flags.price < np.inf:
        raise UserError(f"--price {flags.price:g}: expected more than 0")


def open_data(flags: "MakePlan", run: Run, tell: Tell) -> Journeys:
    """The journeys of --data; of a world's name or scenario file, a log of its logging policy."""
    path = Path(flags.data)
    if path.exists() and path.suffix != ".toml":
        return open_journeys(path, own_schema(run))
    if not path.exists() and (path.suffix != "" or path.name != flags.data):
        raise UserError(f"{path}: no such file or folder; expected journeys, a raw log, or a world's name")
    scenario = Scenario.load(flags.data)
    if task_of(scenario) != "ads":
        raise UserError(f"--data {flags.data}: a feed has no channels with a cost; plan in a world of advertising")
    acting(str(run.path), scenario)  # refuses a run of another world's logs
    folder = tempfile.TemporaryDirectory(prefix="headrace-")
    atexit.register(folder.cleanup)
    tell("simulating")
    return simulate(scenario, flags.users, None, "logging", flags.seed, Path(folder.name) / "journeys")


def wanted_of(flags: "MakePlan", journeys: Journeys) -> Constraints:
    """The file's demands with those of the flags in their place."""
    values: dict[str, Any] = {} if flags.constraints is None else load(flags.constraints)
    given = {
        name: getattr(flags, name) for name in ("budget", "per_user", "days", "daily_budget", "pacing", "exploration")
    }
    values |= {name: value for name, value in given.items() if value is not None}
    if "budget" not in values:
        raise UserError("plan: no budget; give --budget AMOUNT, or  budget = AMOUNT  in the constraints file")
    channels = values.get("channels", {})
    frozen = tuple(text if "=" in text else f"{text}={_logged_share(journeys, text)}" for text in flags.freeze)
    for key, of, flag in (
        ("budget", flags.channel_budget, "--channel-budget"),
        ("cap", flags.cap, "--cap"),
        ("floor", flags.floor, "--floor"),
        ("frozen", frozen, "--freeze"),
    ):
        channels = with_flags(channels, key, of, flag)
    return Constraints(**(values | {"channels": channels}))


def offer_of(flags: "MakePlan", run: Run, journeys: Journeys) -> tuple[Offer, Notes]:
    """Expected gains and costs of every user's next exposure, and what other rules say."""
    method: Method = load_channel(run)
    found = predict_users(method, journeys, "plan")
    gains, costs, _ = values_of(found, method.reward_weights, 0.0)
    costs, raised = priced(costs, journeys)
    gains, words = _scored(flags, journeys, gains.astype(np.float64))
    shares, shares_words = ratios(run, method, journeys, flags.alpha)
    gain = method.reward_gains[0]
    if (np.nan_to_num(np.asarray(journeys.gain(gain), dtype=np.float64)) > 0).any():
        shares |= {name.replace("-", " "): s for name, s in attribute(journeys, gain).items()}
    if flags.score == "increment":  # exploration too shows adverts
        shares = {name: np.where(np.isneginf(gains).all(axis=0), 0.0, s) for name, s in shares.items()}
        shares = {name: s / s.sum() if s.sum() > 0 else s for name, s in shares.items()}
    named = gain_words(method.reward_weights)
    offer = Offer(
        journeys.users,
        journeys.channels,
        gains,
        costs,
        flags.price or 1.0,
        shares[INITIAL],
    )
    return offer, Notes(
        named + (" increment" if flags.score == "increment" else ""), shares, shares_words, words, raised
    )


def priced(costs: Floats, journeys: Journeys) -> tuple[Floats, int]:
    """(N, M) expected costs, none below LEAST of what an exposure on its channel costs in the log; how many were.

    A least-squares prediction of a skewed cost reaches 0 and less for cheap exposures, and a plan seeks just these out.
    """
    if journeys.schema.cost is None:
        return np.ones(costs.shape), 0
    logged = np.asarray(journeys.column("cost"), np.float64)
    channel, known = np.asarray(journeys.channel), ~np.isnan(logged)
    m = len(journeys.channels)
    total = np.bincount(channel[known], logged[known], m)
    least = LEAST * total / np.maximum(np.bincount(channel[known], minlength=m), 1)
    return np.maximum(costs, least).astype(np.float64), int((costs < least).sum())


def account(
    flags: "MakePlan", run: Run, journeys: Journeys, wanted: Constraints, offer: Offer, notes: Notes, made: Draft
) -> dict[str, Any]:
    """plan.json: what the page and the terminal tell, in money and in the gain's unit."""
    cost = journeys.schema.cost
    unit = "money" if cost is None or cost.unit == "scaled" else cost.unit
    rows = made.by_channel(offer.channels)
    spend = sum(r["spend"] for r in rows)
    for r in rows:
        r["share"] = r["spend"] / spend if spend else 0.0
    curve = made.curve
    response = [
        {
            "factor": factor,
            "budget": float(curve.budget[k]) / MICROS,
            "gain": float(curve.gain[k]),
            "low": float(curve.low[k]),
            "high": float(curve.high[k]),
            "marginal": float(curve.marginal[k]) * MICROS,
        }
        for k, factor in enumerate(made.factors)
    ]
    base, more = made.factors.index(1.0), made.factors.index(MORE)
    value, low, high = curve.more(base, more)
    extra = response[more]["budget"] - response[base]["budget"]
    gain = float(made.table["expected_gain"].sum())
    bound = made.plan.bound + made.explored[0]
    return {
        "method": run.config["method"],
        "dataset": journeys.schema.name,
        "unit": unit,
        "gain": notes.gain,
        "score_words": "planned by the increment over no advert"
        if flags.score == "increment"
        else "planned by the gain",
        "budget": wanted.total_micros / MICROS,
        "spend": spend,
        "slack": made.plan.dual.budget == 0.0,
        "users": journeys.n_users,
        "users_reached": made.table["user"].n_unique(),
        "exposures": made.table.height,
        "expected_gain": gain,
        "bound": bound,
        "gap": max(0.0, 1 - gain / bound) if bound > 0 else 0.0,
        "marginal": made.plan.dual.budget * MICROS,
        "channels": rows,
        "response": response,
        "more": {"factor": MORE, "budget": response[more]["budget"], "gain": value, "low": low, "high": high}
        | {"per_unit": value / extra if extra > 0 else 0.0},
        "exploration": {
            "share": wanted.exploration,
            "gain": made.explored[0],
            "spend": made.explored[1] / MICROS,
        },
        "days": [
            {"day": d, "spend": int(made.table.filter(made.table["day"] == d)["price_micros"].sum()) / MICROS}
            for d in range(wanted.days)
        ],
        "left_out": made.left_out,
        "free": int((made.table["price_micros"] == 0).sum()),
        "short": [
            [name, float(short) / MICROS] for name, short in zip(offer.channels, made.short, strict=True) if short > 0
        ],
        "shares": {"this plan": [r["share"] for r in rows]}
        | {k: [float(s) for s in v] for k, v in notes.shares.items()},
        "shares_words": notes.shares_words,
        "increment_words": notes.increment_words,
        "raised": notes.raised,
    }


def leave(
    flags: "MakePlan", run: Run, journeys: Journeys, wanted: Constraints, told: dict[str, Any], made: Draft
) -> None:
    """Write the plan, its results and its page beside the folder, seal them, and swap them in whole."""
    out = flags.out.resolve()
    beside = out.with_name(f".{out.name}.new")
    shutil.rmtree(beside, ignore_errors=True)  # what a kill left
    config = {
        "command": "plan",
        "run": run.path.resolve().name,
        "method": run.config["method"],
        "constraints": dataclasses.asdict(wanted),
        "price": flags.price,
        "score": flags.score,
        "no_ad": flags.no_ad,
        "alpha": flags.alpha,
        "seed": flags.seed,
    }
    target = Run.create(
        beside, config, data=str(journeys.path.resolve()), data_fingerprint=journeys.fingerprint, **kept(run)
    )
    save(made.table, target.path / "plan.parquet")
    save_records(_records(told, run, flags.seed), target.path / "results.json")
    target.write_json(ACCOUNT, told)
    write_plan_page(target.path)
    target.seal()
    beside.replace(out)
    durable.sync(out.parent)


def _records(told: dict[str, Any], run: Run, seed: int) -> list[Record]:
    protocol, method, n = str(run.config["protocol"]), str(told["method"]), told["users"]

    def one(metric: str, value: float, low: float | None = None, high: float | None = None, **setting: Any) -> Record:
        source = Source(told["dataset"], protocol, "next", seed, setting)
        return record(source, method, metric, Interval(value, low, high), n)

    base = next(r for r in told["response"] if r["factor"] == 1.0)
    gain = told["expected_gain"]
    found = [
        one("expected_gain", gain, min(base["low"], gain), max(base["high"], gain)),
        one("expected_gain_bound", told["bound"]),
        one("spend", told["spend"]),
        one("exposures", told["exposures"]),
        one("marginal_gain", told["marginal"]),
    ]
    for row in told["channels"]:
        at = {"channel": row["channel"]}
        found += [one("expected_gain", row["gain"], **at), one("spend", row["spend"], **at)]
        found += [one("exposures", row["users"], **at), one("marginal_gain", row["marginal"], **at)]
    for row in told["response"]:
        at = {"budget": row["budget"]}
        found += [one("expected_gain", row["gain"], row["low"], row["high"], **at)]
        found += [one("marginal_gain", row["marginal"], **at)]
    more = told["more"]
    found.append(one("added_gain", more["gain"], more["low"], more["high"], budget=more["budget"]))
    return found


def _scored(flags: "MakePlan", journeys: Journeys, gains: Floats) -> tuple[Floats, str]:
    """The gains to plan by, and what is to be said of the increment."""
    if flags.score == "increment":
        at = no_ad_channel(journeys.channels, flags.no_ad)
        words = f"Gains are those above {journeys.channels[at]}, the channel of no advert, as the method predicts both."
        return increment(gains, at), words
    try:
        at = no_ad_channel(journeys.channels, flags.no_ad)
    except Refused:
        return gains, (
            "Gains are gross. What would have been gained without an advert cannot be estimated from this log: it "
            "holds no steps without one."
        )
    gains[:, at] = -np.inf  # no advert is bought nowhere
    return gains, f"Gains are gross; with --score increment the plan is made by those above {journeys.channels[at]}."


def _logged_share(journeys: Journeys, name: str) -> str:
    """A channel's share of the log's cost, in per cent; of its exposures where there is no cost."""
    if name not in journeys.channels:
        raise unknown("channel", name, journeys.channels, "--freeze")
    cost = np.asarray(journeys.column("cost"), np.float64) if journeys.has("cost") else np.ones(journeys.n_steps)
    spent = np.bincount(np.asarray(journeys.channel), np.nan_to_num(cost), len(journeys.channels))
    return f"{100 * spent[journeys.channels.index(name)] / max(spent.sum(), 1e-300):.9f}%"
