"""A campaign by exchanged files: what the world's market would decide, on any log, never otherwise after a kill."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from jobs import DAY, SHOP, Shop, WorldJob, place, shop_log, wait_for
from scipy.special import expit

from headrace.campaign.account import held_out_estimate, records_of
from headrace.campaign.allocator import Price
from headrace.campaign.config import CampaignConfig
from headrace.campaign.folder_market import FolderMarket
from headrace.campaign.ledger import Ledger
from headrace.campaign.market import Market
from headrace.campaign.procedure import CampaignResult, run_campaign
from headrace.campaign.rounds import Rounds
from headrace.campaign.scores import Scores
from headrace.campaign.terms import Terms
from headrace.campaign.world_market import WorldMarket
from headrace.errors import UserError
from headrace.evaluate.results import Source
from headrace.journeys.seams import Integers
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario

ADS = Scenario.load("ads")
EUR = 1_000_000
CONFIG: dict[str, Any] = {"exploration_share": 0.1, "explore": 0.05, "rescore": "reachable"}


@dataclass(frozen=True)
class Reading:
    """A predictor that depends on everything that a network would read of a history."""

    transforms: Transforms
    weights: Mapping[str, float]
    scale: float = 0.3

    def predict(self, market: Market, users: Integers) -> Scores:
        read = self.transforms.encode(market.histories(users))
        at = np.arange(len(users)), read.mask.sum(axis=1) - 1
        x = np.concatenate([read.numbers[at].astype(np.float64), np.sin(read.ids[at])], axis=1)
        m = len(market.channels)
        draw = np.random.default_rng(0).normal(size=(x.shape[1], m)) / 3
        gain = self.scale * expit(x @ draw)
        return Scores(gain, np.broadcast_to(market.largest_cost / EUR / 4, gain.shape), gain.max(1), gain / m)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Transforms:
    journeys = shop_log(tmp_path_factory.mktemp("shop"))
    return Transforms.fit(journeys, np.arange(journeys.n_steps))


@pytest.fixture(scope="module")
def ads(tmp_path_factory: pytest.TempPathFactory) -> Transforms:
    log = simulate(ADS, 60, 15, "logging", 9, tmp_path_factory.mktemp("ads") / "log")
    return Transforms.fit(log, np.arange(log.n_steps))


def spend(market: Market, predictor: Any, out: Path, **config: Any) -> CampaignResult:
    return run_campaign(market, predictor, Price(), CampaignConfig(**({"budget": 6 * EUR} | CONFIG | config)), out)


def sell(folder: Path, shop: Transforms, out: Path, job: Shop | None = None, **config: Any) -> CampaignResult:
    """A campaign of the shop, whole."""
    with job or Shop(folder):
        live = FolderMarket(folder, shop, out / "exchange", wait_s=60)
        return spend(live, Reading(shop, {"clicked": 1.0, "ordered": 3.0}), out, **config)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("correct", [{"hold_out": 0.1}, {"cap_per_day": 2, "daily": 3 * EUR}])
def test_it_decides_what_the_worlds_own_market_decides(
    at_once: bool, correct: dict[str, Any], ads: Transforms, tmp_path: Path
) -> None:
    weights = {"click": 1.0, "conversion": 10.0, "revenue": 0.1}
    world = WorldMarket(ADS, 40, 3, 7, statistics=ads.statistics)
    there = spend(world, Reading(ads, weights), tmp_path / "world", **correct)
    with WorldJob(tmp_path / "folder", world, at_once):
        live = FolderMarket(tmp_path / "folder", ads, tmp_path / "live" / "exchange", 3, 20, wait_s=60)
        here = spend(live, Reading(ads, weights), tmp_path / "live", **correct)
    assert here.spent == there.spent > 0 and here.audit.sound
    assert np.array_equal(here.charged, there.charged) and np.array_equal(here.shown, there.shown)
    assert np.array_equal(here.held_out, there.held_out)
    for mine, theirs in zip([r for r in here.rounds if r["reachable"]], there.rounds, strict=True):
        same = ("day", "turn", "stage", "reachable", "shown", "refused", "spent", "channels", "told")
        assert {k: mine[k] for k in same} == {k: theirs[k] for k in same}
    for gain in weights:
        assert np.allclose(here.worth[gain].attributed, there.worth[gain].attributed)
    ours, theirs = live.journeys(tmp_path / "a"), world.journeys(tmp_path / "b")
    assert ours is not None and theirs is not None and np.array_equal(ours.users, theirs.users)
    for name in theirs.column_names:
        a, b = ours.column(name), theirs.column(name)
        if name in theirs.categories:
            a, b = (np.array([*j.categories[name], ""])[c] for j, c in ((ours, a), (theirs, b)))
        assert np.array_equal(a, b), name


def test_a_log_of_its_own_runs_a_campaign_and_becomes_a_log(shop: Transforms, tmp_path: Path) -> None:
    job = Shop(tmp_path / "f", closing='["outcomes", "totals"]')
    done = sell(tmp_path / "f", shop, tmp_path / "c", job, hold_out=0.2, pots=(None, 0, 2 * EUR))
    assert done.audit.sound and 0 < done.spent <= 6 * EUR
    assert np.sum([r["channels"] for r in done.rounds], axis=0)[1] == 0
    assert sum(r["lost"] for r in done.rounds) > 0
    assert done.shown.sum() == sum(r["shown"] for r in done.rounds)
    assert done.shown[done.held_out].sum() == 0 and 0 < done.held_out.sum() < 60
    market = FolderMarket(tmp_path / "f", shop, tmp_path / "c" / "exchange", wait_s=0)
    again = spend(market, Reading(shop, {"clicked": 1.0, "ordered": 3.0}), tmp_path / "c", hold_out=0.2,
                  pots=(None, 0, 2 * EUR))  # fmt: skip
    assert again.rounds == done.rounds
    log = market.journeys(tmp_path / "log")
    assert log is not None and log.n_steps == done.shown.sum()
    shop.fits(log)
    assert log.channels == ("mail", "push", "sms") and set(np.unique(log.channel)) == {0, 2}
    propensity = log.column("propensity")
    assert (propensity > 0).all() and (propensity <= 1).all()
    # what the log holds is what the job said in the end, whenever it was said
    shown = [dict(job.decisions(k).drop_nulls("channel").select("customer", "channel").iter_rows()) for k in range(8)]
    told = {(o["customer"], o["of_turn"]): o for k in range(8) for o in job.outcomes(k, shown[k])}
    times = dict(zip(log.users, np.split(np.asarray(log.time), log.offsets[1:-1]), strict=True))
    want = [told[c, int((t - 10**9) // (DAY / 2))] for c, ts in times.items() for t in ts]
    assert np.array_equal(log.gain("ordered"), [o["ordered"] for o in want]) and sum(o["ordered"] for o in want) > 3
    late = np.array([np.nan if o["value"] is None else o["value"] for o in want])
    assert np.array_equal(log.gain("value"), late, equal_nan=True)
    assert again.value("attributed").sum() == sum(o["clicked"] + 3 * o["ordered"] for o in want)
    assert np.array_equal(again.worth["clicked"].gross, 1 + again.worth["clicked"].attributed)
    assert again.worth["value"].gross is None and again.worth["clicked"].without is None


def test_memory_knows_late_gains_as_the_written_log_does(shop: Transforms, tmp_path: Path) -> None:
    out = tmp_path / "c"
    sell(tmp_path / "f", shop, out)
    market = FolderMarket(tmp_path / "f", shop, out / "exchange", wait_s=0)
    seen: dict[tuple[str, float], np.ndarray] = {}
    for k in range(8):
        rows = market.reachable()
        read = shop.encode(market.histories(rows))
        last = read.mask.sum(axis=1) - 1
        for i, user in enumerate(market.roster.ids.gather(rows)):
            at = np.arange(len(rows))[i], last[i]
            seen[user, float(market._now["time"][i])] = np.concatenate([read.ids[at], read.numbers[at]])
        done = Rounds(out).read(k)
        assert done is not None
        market.expose(done.channel, done.propensity)
    log = market.journeys(tmp_path / "log")
    assert log is not None
    read = shop.encode(log.histories(np.arange(log.n_steps)))
    users = log.users[log.user_of_step]
    for step in range(log.n_steps):
        at = step, read.mask[step].sum() - 1
        wanted = np.concatenate([read.ids[at], read.numbers[at]])
        assert np.array_equal(seen[users[step], log.time[step]], wanted)


def test_without_totals_only_what_adverts_brought_is_told(shop: Transforms, tmp_path: Path) -> None:
    done = sell(tmp_path / "f", shop, tmp_path / "c", hold_out=0.2)
    told = {(r["metric"], str(r["setting"])): r for r in records_of(done, Source("shop", "campaign"), "reading")}
    assert told["attributed_value", "{}"]["value"] == done.value("attributed").sum() > 0
    assert "nobody" in told["true_value", "{}"]["refused"] and "nobody" in told["incremental_value", "{}"]["refused"]
    assert "closing/totals.parquet" in str(held_out_estimate(done).refused)
    job = Shop(tmp_path / "g", closing='["totals"]')
    whole = sell(tmp_path / "g", shop, tmp_path / "d", job, hold_out=0.2)
    assert held_out_estimate(whole).value is not None


class Killed(Exception):
    pass


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("where", "name"),
    [(FolderMarket, "choose"), (Ledger, "reserve"), (FolderMarket, "expose"), (Ledger, "settle"), (Rounds, "write")],
)
def test_a_killed_campaign_decides_nothing_otherwise(
    where: Any, name: str, number: int, after: bool, shop: Transforms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sell(tmp_path / "f", shop, tmp_path / "whole", budget=2 * EUR)
    real, calls = getattr(where, name), [0]

    def call(self: Any, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == number and not after:
            raise Killed
        found = real(self, *arguments)
        if calls[0] == number:
            raise Killed
        return found

    reading = Reading(shop, {"clicked": 1.0, "ordered": 3.0})
    out = tmp_path / "killed"
    with Shop(tmp_path / "g") as job:
        with monkeypatch.context() as patched:
            patched.setattr(where, name, call)
            with pytest.raises(Killed):
                spend(FolderMarket(job.folder, shop, out / "exchange", wait_s=60), reading, out, budget=2 * EUR)
        # another machine might foresee otherwise: what was drawn and decided in the open turn stands
        done = spend(FolderMarket(job.folder, shop, out / "exchange", wait_s=60), reading, out, budget=2 * EUR)
    assert done.rounds == whole.rounds and done.audit == whole.audit and done.audit.sound
    for k in range(8):
        name = f"turns/{k:05d}/decisions.parquet"
        assert (tmp_path / "f" / name).read_bytes() == (tmp_path / "g" / name).read_bytes()


def test_what_was_drawn_stands_even_where_predictions_changed(shop: Transforms, tmp_path: Path) -> None:
    out, folder = tmp_path / "c", tmp_path / "f"
    with Shop(folder) as job:
        job.halted.set()  # it leaves the first file and no outcomes
        reading = Reading(shop, {"clicked": 1.0})
        with pytest.raises(UserError, match=r"outcomes.parquet: not there after 0 s; .* go on with --resume"):
            spend(FolderMarket(folder, shop, out / "exchange", wait_s=0), reading, out)
    first = (folder / "turns" / "00000" / "decisions.parquet").read_bytes()
    (folder / "turns" / "00000" / "decisions.parquet").unlink()
    with pytest.raises(UserError, match="not there after"):
        other = Reading(shop, {"clicked": 1.0}, scale=0.001)
        spend(FolderMarket(folder, shop, out / "exchange", wait_s=0), other, out)
    assert (folder / "turns" / "00000" / "decisions.parquet").read_bytes() == first


def test_files_that_were_taken_up_stand(shop: Transforms, tmp_path: Path) -> None:
    done = sell(tmp_path / "f", shop, tmp_path / "c")
    for path in (tmp_path / "f" / "turns").rglob("*.parquet"):
        path.write_bytes(b"not any more")
    again = spend(
        FolderMarket(tmp_path / "f", shop, tmp_path / "c" / "exchange", wait_s=0),
        Reading(shop, {"clicked": 1.0, "ordered": 3.0}),
        tmp_path / "c",
    )
    assert again.rounds == done.rounds


def test_a_second_campaign_in_the_same_folder_is_refused(shop: Transforms, tmp_path: Path) -> None:
    sell(tmp_path / "f", shop, tmp_path / "c")
    with pytest.raises(UserError, match="another campaign decided this turn"):
        spend(FolderMarket(tmp_path / "f", shop, tmp_path / "d"), Reading(shop, {"clicked": 1.0}), tmp_path / "d")


def test_traffic_that_nobody_told_is_learnt(shop: Transforms, tmp_path: Path) -> None:
    job = Shop(tmp_path / "f")
    toml = tmp_path / "f" / "market.toml"
    toml.write_text("\n".join(line for line in toml.read_text().splitlines() if not line.startswith("traffic")))
    with job:
        market = FolderMarket(tmp_path / "f", shop, tmp_path / "c", wait_s=60)
        assert market.traffic.tolist() == [60.0, 60.0]
        came = []
        for _ in range(3):
            came.append(len(market.reachable()))
            channel, propensity = market.choose(np.zeros((came[-1], 3)))
            market.expose(channel, propensity)
        assert market.traffic.tolist() == [(came[0] + came[2]) / 2, came[1]]


Change = Callable[[pl.DataFrame], pl.DataFrame]


def set_first(column: str, value: Any) -> Change:
    return lambda f: f.with_columns(pl.Series(column, [value, *f[column].to_list()[1:]], strict=False))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop("device"), "unknown column 'device'"),
        (lambda f: pl.concat([f, f[:1]]), "user c0.* stands twice; expected one row"),
        (set_first("customer", "nobody"), "row 1, user nobody: nobody of this market; expected one of its 60 users"),
        (set_first("at", None), "column 'at': nulls in 1 of"),
        (lambda f: f.with_columns(pl.lit(3).alias("device")), "column 'device' holds Int32; expected text"),
        (lambda f: f.with_columns(pl.lit("x").alias("basket")), "column 'basket': values that are text"),
    ],
)
def test_a_wrong_reachable_file_is_told_in_one_line(
    change: Change, words: str, shop: Transforms, tmp_path: Path
) -> None:
    job = Shop(tmp_path / "f")
    place(change(job.reachable(0)), tmp_path / "f" / "turns" / "00000" / "reachable.parquet")
    market = FolderMarket(tmp_path / "f", shop, tmp_path / "c", wait_s=0)
    with pytest.raises(UserError, match=rf"turns/00000/reachable.parquet: .*{words}") as told:
        market.reachable()
    assert "\n" not in str(told.value)
    place(job.reachable(0), tmp_path / "f" / "turns" / "00000" / "reachable.parquet")
    assert len(market.reachable()) == len(job.reachable(0))  # nothing of the wrong file was kept


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop("clicked"), "unknown column 'clicked'"),
        (lambda f: pl.concat([f, f[:1]]), "stands twice; expected one row"),
        (set_first("customer", "nobody"), "row 1, user nobody: nobody of this market"),
        (set_first("customer", "c-other"), "to be shown nothing; expected users with a channel in decisions"),
        (set_first("medium", "sms"), "another channel; expected that of decisions.parquet"),
        (set_first("medium", "tv"), "column 'medium': values outside the declared channels in 1 of"),
        (set_first("paid", -0.01), "column 'paid': negative or infinite values in 1 of"),
        (set_first("paid", None), "row 1, user c.*: no cost; expected what the exposure cost"),
        (set_first("paid", 1.7e12), "row 1, user c.*: a cost above any budget"),
        (set_first("clicked", 2), "column 'clicked': values other than 0 and 1"),
        (set_first("value", 1e30), "value is beyond"),
        (lambda f: f.with_columns(ordered=1, ordered_at=None), "row 1, user c.*: ordered without a time"),
        (set_first("of_turn", 7), "of_turn is no turn so far"),
        (set_first("of_turn", 0), "shown nothing in turn 0"),
        (lambda f: f.with_columns(of_turn=pl.lit("three")), "row 1, user c.*: of_turn is no number"),
    ],
)
def test_wrong_outcomes_are_told_in_one_line(change: Change, words: str, shop: Transforms, tmp_path: Path) -> None:
    job = Shop(tmp_path / "f", lose=0.0)
    market = FolderMarket(tmp_path / "f", shop, tmp_path / "c", wait_s=0)
    for k, share in enumerate((0.0, 0.5)):
        place(job.reachable(k), tmp_path / "f" / "turns" / f"{k:05d}" / "reachable.parquet")
        rows = market.reachable()
        channel, propensity = market.choose(np.tile([share, 0.0, 0.0], (len(rows), 1)))
        ids = market.roster.ids.gather(rows).to_list()
        shown = {user: "mail" for user, c in zip(ids, channel, strict=True) if c == 0}
        right = pl.DataFrame(job.outcomes(k, shown or {ids[0]: "mail"}))
        path = tmp_path / "f" / "turns" / f"{k:05d}" / "outcomes.parquet"
        if k == 0:
            place(right.clear(), path)
            market.expose(channel, propensity)
    other = next(user for user in ids if user not in shown)
    place(change(right).with_columns(pl.col("customer").replace("c-other", other)), path)
    with pytest.raises(UserError, match=rf"turns/00001/outcomes.parquet: .*{words}") as told:
        market.expose(channel, propensity)
    assert "\n" not in str(told.value)
    place(right, path)
    assert market.expose(channel, propensity).gains["clicked"].sum() == right["clicked"].sum()


def test_a_late_gain_counts_once(shop: Transforms, tmp_path: Path) -> None:
    job = Shop(tmp_path / "f", lose=0.0)
    market = FolderMarket(tmp_path / "f", shop, tmp_path / "c", wait_s=0)
    told, first, at = [], None, 0
    for k in range(3):
        place(job.reachable(k), tmp_path / "f" / "turns" / f"{k:05d}" / "reachable.parquet")
        rows = market.reachable()
        channel, propensity = market.choose(np.tile([0.5, 0.0, 0.0], (len(rows), 1)))
        shown = {u: "mail" for u, c in zip(market.roster.ids.gather(rows), channel, strict=True) if c == 0}
        own = [o | {"ordered": 0, "ordered_at": None, "value": None} for o in job.outcomes(k, shown)]
        if first is None:
            first, at = own[0], int(10**9 + DAY / 3)
        else:  # the same news in two files
            own.append(first | {"ordered": 1, "ordered_at": at, "value": 5.0})
        place(pl.DataFrame(own, infer_schema_length=None), tmp_path / "f" / "turns" / f"{k:05d}" / "outcomes.parquet")
        told.append(market.expose(channel, propensity).late)
    assert told[0] is None and told[1].after["ordered"].tolist() == [1.0] and told[1].before["ordered"].tolist() == [0]
    assert told[1].channel.tolist() == [0] and told[1].day.tolist() == [0]
    assert np.array_equal(told[2].before["value"], told[2].after["value"])
    assert market.close()["value"].attributed.sum() == 5.0
    wrong = first | {"ordered": 1, "ordered_at": at, "value": 6.0}
    place(job.reachable(3), tmp_path / "f" / "turns" / "00003" / "reachable.parquet")
    channel, propensity = market.choose(np.zeros((len(market.reachable()), 3)))
    place(pl.DataFrame([wrong]), tmp_path / "f" / "turns" / "00003" / "outcomes.parquet")
    with pytest.raises(UserError, match="value was known already; expected what was known, or no row"):
        market.expose(channel, propensity)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("days = 0", "days is 0, expected a whole number from 1"),
        ("turns = 1.5", "turns is 1.5"),
        ("users = 0", "users is 0, expected a file's name in quotes, or how many"),
        ("traffic = [1]", r"traffic is \[1\], expected 0 or more users a turn: one number, or 2"),
        ("closing = ['all']", "closing is .* expected a list of outcomes and totals"),
        ("day = 3", "unknown key 'day', did you mean 'days'"),
        ("[largest_cost]\nmail = 1", "largest_cost lacks push, sms"),
        ("[largest_cost]\nmial = 1", "unknown channel 'mial', did you mean 'mail'"),
        ("[largest_cost]\nmail = -1", "largest_cost of mail is -1, expected an amount"),
        ("[largest_cost]\nmail = 0", "largest_cost of mail is 0, expected an amount above 0"),
        ("largest_cost = 3", "largest_cost is 3, expected a table"),
        ("days = ", "not valid TOML"),
    ],
)
def test_wrong_terms_are_told_in_one_line(line: str, words: str, tmp_path: Path) -> None:
    right = {"days": "days = 2", "turns": "turns = 2", "users": "users = 9"}
    key = line.split(" ")[0]
    costs = line if "largest_cost" in line else "[largest_cost]\nmail = 1\npush = 1\nsms = 1"
    top = [v for k, v in right.items() if k != key] + ([] if "largest_cost" in line else [line])
    (tmp_path / "market.toml").write_text("\n".join([*top, costs]))
    with pytest.raises(UserError, match=words) as told:
        Terms.load(tmp_path, ("mail", "push", "sms"))
    assert "\n" not in str(told.value) and "market.toml" in str(told.value)


def test_users_and_runs_that_make_no_market_are_refused(shop: Transforms, ads: Transforms, tmp_path: Path) -> None:
    Shop(tmp_path / "f")
    toml, table = tmp_path / "f" / "market.toml", tmp_path / "f" / "customers.csv"
    for text, words in (
        ("customer,segment\nc1,gold\nc1,gold\n", "row 1, user c1: stands twice"),
        ("customer\nc1\n", "column 'segment'"),
        ("customer,segment\nc1,3\n", "expected text, as in the run's log"),
        ("client,segment\nc1,gold\n", "unknown column 'customer'"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=words):
            FolderMarket(tmp_path / "f", shop, tmp_path / "c")
    toml.write_text(toml.read_text().replace('"customers.csv"', "60"))
    with pytest.raises(UserError, match="tells segment of each user: name a table"):
        FolderMarket(tmp_path / "f", shop, tmp_path / "c")
    with pytest.raises(UserError, match="in EUR already; leave --price out"):
        FolderMarket(tmp_path / "f", shop, tmp_path / "c", price=2.0)
    with pytest.raises(UserError, match="no such file; it tells days, turns"):
        FolderMarket(tmp_path / "g", ads, tmp_path / "c")


def test_the_schema_tells_windows(shop: Transforms, tmp_path: Path) -> None:
    Shop(tmp_path / "f")
    market = FolderMarket(tmp_path / "f", shop, tmp_path / "c")
    assert [market.window_days(g) for g in market.gains] == [0.0, 2.0, 2.0]
    assert market.schema.channels == ("mail", "push", "sms") and SHOP.channels == ()


def test_users_may_be_numbers_with_nothing_known_of_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {"user": rng.integers(0, 9, 80), "spot": rng.integers(0, 2, 80), "hit": rng.integers(0, 2, 80)}
    pl.DataFrame(rows | {"cost": np.ones(80)}).write_csv(tmp_path / "log.csv")
    from headrace.journeys.prepare import prepare
    from headrace.journeys.schema import Cost, Gain, LogSchema

    plain = LogSchema("plain", user="user", channel="spot", gains=(Gain("hit"),), cost=Cost("cost"))
    log = prepare(tmp_path / "log.csv", plain, tmp_path / "log")
    fitted = Transforms.fit(log, np.arange(log.n_steps))
    (tmp_path / "market.toml").write_text("days = 2\nturns = 1\nusers = 9\n[largest_cost]\n0 = 2.5\n1 = 2.5\n")
    with pytest.raises(UserError, match="say with --price"):
        FolderMarket(tmp_path, fitted, tmp_path / "c")
    market = FolderMarket(tmp_path, fitted, tmp_path / "c", price=2.0, wait_s=0)
    for k in range(2):
        place(pl.DataFrame({"user": [5, 3, 8][k:]}), tmp_path / "turns" / f"{k:05d}" / "reachable.parquet")
        assert market.reachable().tolist() == [3, 5, 8][: 3 - k] or market.reachable().tolist() == [3, 8]
        shop_of = market.histories(market.reachable())
        assert shop_of.mask.sum(axis=1).tolist() == [1, 1, 1] if k == 0 else [2, 2]
        channel, propensity = market.choose(np.tile([0.0, 1.0], (3 - k, 1)))
        outcomes = {"user": market.reachable(), "spot": channel, "hit": channel, "cost": np.ones(3 - k)}
        place(pl.DataFrame(outcomes), tmp_path / "turns" / f"{k:05d}" / "outcomes.parquet")
        assert market.expose(channel, propensity).cost.tolist() == [2 * EUR] * (3 - k)
    assert market.done
    log = market.journeys(tmp_path / "own")
    assert isinstance(log, Journeys) and log.users.tolist() == [3, 5, 8] and log.n_steps == 5


def test_it_waits_for_a_file_and_says_so(shop: Transforms, tmp_path: Path) -> None:
    heard: list[str] = []
    with Shop(tmp_path / "f") as job:
        market = FolderMarket(tmp_path / "f", shop, tmp_path / "c", wait_s=60)
        market.exchange.tell = heard.append
        market.choose(np.zeros((len(market.reachable()), 3)))
        wait_for(job.folder / "turns" / "00000" / "reachable.parquet")
        job.halted.set()
        market.exchange.wait_s = 0.05
        with pytest.raises(UserError, match=r"outcomes.parquet: not there after 0 s"):
            market.expose(np.full(len(market.reachable()), -1), np.ones(len(market.reachable())))
    assert heard[-1] == "waiting for turns/00000/outcomes.parquet"
