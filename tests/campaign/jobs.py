"""The company's side of a live campaign: jobs that leave files for headrace and read its decisions."""

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from headrace.campaign.world_market import WorldMarket
from headrace.journeys.prepare import prepare
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.store import Journeys
from headrace.simulate.ads import AdsWorld

DAY = 86_400
MEDIA = ("mail", "push", "sms")
SHOP = LogSchema(
    name="shop",
    user="customer",
    time="at",
    time_unit="s",
    channel="medium",
    features=(
        Feature("device", "categorical"),
        Feature("basket", "numeric"),
        Feature("segment", "categorical", "before", "user"),
    ),
    gains=(
        Gain("clicked"),
        Gain("ordered", "binary", "at:ordered_at"),
        Gain("value", "continuous", "at:ordered_at"),
    ),
    cost=Cost("paid", "EUR"),
    label_window_s=2 * DAY,
)
TERMS = """days = {days}
turns = 2
users = "customers.csv"
traffic = {traffic}
closing = {closing}

[largest_cost]
mail = 0.05
push = 0.05
sms = 0.2
"""


def lot(*words: object) -> float:
    """A number from 0 to 1 by words alone."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=6).digest(), "little") / 2**48


def row(customer: str, turn: int, start: int) -> dict[str, Any]:
    """What is known of a customer before the decision."""
    at = start + turn * DAY // 2 + int(lot("at", customer, turn) * DAY / 4)
    device = ("phone", "desktop", None)[int(3 * lot("device", customer, turn))]
    return {"customer": customer, "at": at, "device": device, "basket": round(100 * lot("basket", customer, turn), 2)}


def outcome(customer: str, turn: int, medium: str, at: int) -> dict[str, Any]:
    """What an advert will have brought in the end."""
    likes = MEDIA.index(medium) == int(customer[1:]) % 3
    clicked = int(lot("click", customer, turn, medium) < (0.6 if likes else 0.1))
    ordered = int(lot("order", customer, turn, medium) < 0.4 * clicked)
    later = at + 60 + int(1.5 * DAY * lot("later", customer, turn, medium)) if ordered else None
    paid = {"mail": 0.01, "push": 0.02, "sms": 0.1}[medium] + 0.02 * clicked
    told = {"clicked": clicked, "ordered": ordered, "ordered_at": later}
    return told | {"value": 20.0 * ordered if ordered else None, "paid": paid}


def customers(n: int) -> list[str]:
    return [f"c{k:03d}" for k in range(n)]


def segment(customer: str) -> str:
    return "gold" if lot("segment", customer) < 0.3 else "plain"


def shop_log(path: Path, users: int = 60, turns: int = 16) -> Journeys:
    """The journeys of a log that drew channels by lot, read from a csv file."""
    rows = []
    for customer in customers(users):
        for turn in range(turns):
            if lot("comes", customer, turn, "log") < 0.5:
                medium = MEDIA[int(3 * lot("medium", customer, turn))]
                known = row(customer, -turns + turn, 10**9)
                rows.append(known | {"medium": medium} | outcome(customer, turn - turns, medium, known["at"]))
    frame = pl.DataFrame(rows).with_columns(segment=pl.col("customer").map_elements(segment, pl.String))
    frame.write_csv(path / "shop.csv")
    return prepare(path / "shop.csv", SHOP, path / "shop-journeys")


def place(frame: pl.DataFrame, path: Path) -> None:
    """Beside, then renamed in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


class Job(threading.Thread, ABC):
    """Plays a company's part until it is told to stop; the campaign may die and come back meanwhile."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.folder, self.halted = folder, threading.Event()
        self.error: BaseException | None = None

    def __enter__(self) -> "Job":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.halted.set()
        self.join()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            for name, frame in self.files():
                place(frame, self.folder / f"{name}.parquet")
        except BaseException as error:  # noqa: BLE001 told by __exit__
            self.error = error if not self.halted.is_set() else None

    @abstractmethod
    def files(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """What the company leaves, in order: a name, and the file."""

    def decisions(self, turn: int) -> pl.DataFrame:
        path = self.folder / "turns" / f"{turn:05d}" / "decisions.parquet"
        while not path.is_file():
            if self.halted.wait(0.005):
                raise RuntimeError("halted")
        return pl.read_parquet(path)


class Shop(Job):
    """A company that has nothing to do with the world. Orders are told when they come, some adverts get lost."""

    def __init__(self, folder: Path, users: int = 60, days: int = 4, lose: float = 0.1, closing: str = "[]"):
        super().__init__(folder)
        self.customers, self.turns, self.lose, self.closing = customers(users), 2 * days, lose, closing
        folder.mkdir(parents=True)
        table = pl.DataFrame({"customer": self.customers, "segment": [segment(c) for c in self.customers]})
        table.write_csv(folder / "customers.csv")
        (folder / "market.toml").write_text(TERMS.format(days=days, traffic=users / 2, closing=closing))

    def reachable(self, turn: int) -> pl.DataFrame:
        here = [row(c, turn, 10**9) for c in self.customers if lot("comes", c, turn) < 0.5]
        return pl.DataFrame(here, schema_overrides={"device": pl.String})

    def outcomes(self, turn: int, shown: dict[str, str]) -> list[dict[str, Any]]:
        """All that the turn's adverts will have brought."""
        at = dict(self.reachable(turn).select("customer", "at").iter_rows())
        kept = {c: m for c, m in shown.items() if lot("lost", c, turn) >= self.lose}
        return [{"customer": c, "medium": m, "of_turn": turn} | outcome(c, turn, m, at[c]) for c, m in kept.items()]

    def files(self) -> Iterator[tuple[str, pl.DataFrame]]:
        coming: list[dict[str, Any]] = []
        shape = {"customer": pl.String, "medium": pl.String, "of_turn": pl.Int64, "clicked": pl.Int64}
        shape |= {"ordered": pl.Int64, "ordered_at": pl.Int64, "value": pl.Float64, "paid": pl.Float64}
        clicks = dict.fromkeys(self.customers, 0.0)
        for turn in range(self.turns):
            yield f"turns/{turn:05d}/reachable", self.reachable(turn)
            shown = {c: m for c, m, _ in self.decisions(turn).iter_rows() if m is not None}
            own = self.outcomes(turn, shown)
            for o in own:
                clicks[o["customer"]] += o["clicked"]
            coming += [o for o in own if o["ordered"]]
            blank = {"ordered": 0, "ordered_at": None, "value": None}
            now = 10**9 + (turn + 1) * DAY // 2
            known = [o for o in coming if o["ordered_at"] <= now and o["of_turn"] < turn]
            coming = [o for o in coming if o not in known]
            yield f"turns/{turn:05d}/outcomes", pl.DataFrame([o | blank for o in own] + known, schema=shape)
        if "outcomes" in self.closing:
            yield "closing/outcomes", pl.DataFrame(coming, schema=shape)
        if "totals" in self.closing:
            found = pl.DataFrame({"customer": list(clicks), "clicked": [v + 1 for v in clicks.values()]})
            yield "closing/totals", found.with_columns(ordered=pl.lit(0.0))


class WorldJob(Job):
    """The world as a company: the outside that a WorldMarket has inside. Conversions are told when they come."""

    def __init__(self, folder: Path, market: WorldMarket, at_once: bool):
        super().__init__(folder)
        self.scenario, self.at_once = market.scenario, at_once
        self.world = AdsWorld(market.scenario, market.users, market.seed, market.days)
        self.turns = len(market.traffic)
        folder.mkdir(parents=True)
        table = pl.DataFrame({"user": self.world.users} | self.world.traits.features)
        for column, listed in self._texts("user").items():
            table = table.with_columns(pl.Series(column, [listed[c] for c in table[column]]))
        table.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(folder / "users.parquet")
        largest = "\n".join(
            f"{c} = {v / 1e6!r}" for c, v in zip(market.channels, market.largest_cost.tolist(), strict=True)
        )
        (folder / "market.toml").write_text(
            f'days = {market.days}\nturns = {self.turns}\nusers = "users.parquet"\n'
            f"traffic = {market.traffic.tolist()}\n[largest_cost]\n{largest}\n"
        )

    def _texts(self, level: str) -> dict[str, list[str]]:
        from headrace.simulate.log import categories

        found = categories(self.scenario).items()
        return {name.split("/")[1]: listed for name, listed in found if name.startswith(f"{level}/")}

    def files(self) -> Iterator[tuple[str, pl.DataFrame]]:
        world, texts = self.world, self._texts("feature")
        coming: list[pl.DataFrame] = []
        for turn in range(world.days * self.turns):
            here = not world.done and turn == world.day * self.turns + world.slot
            context = world.observe() if here else {"user": np.zeros(0), "time": np.zeros(0)}
            seen = {name: context[name] if here else [] for name in ("user", "time", "hour", "days_since_last_visit")}
            placement = [texts["placement"][p] for p in context["placement"]] if here else []
            frame = pl.DataFrame(seen | {"placement": placement})
            yield f"turns/{turn:05d}/reachable", frame.sample(fraction=1.0, shuffle=True, seed=turn)
            decided = self.decisions(turn)
            outcomes = pl.DataFrame()
            if here:
                named = dict(decided.select("user", "channel").iter_rows())
                channel = [self.scenario.channels.index(c) if (c := named[u]) else -1 for u in context["user"].tolist()]
                found = world.step(np.array(channel))
                shown = np.flatnonzero(found.channel >= 0)
                outcomes = pl.DataFrame(
                    {
                        "user": context["user"][shown],
                        "of_turn": np.full(len(shown), turn),
                        "channel": pl.Series(
                            [self.scenario.channels[c] for c in found.channel[shown]], dtype=pl.String
                        ),
                        "topic": pl.Series([texts["topic"][t] for t in found.topic[shown]], dtype=pl.String),
                        "cost": found.cost[shown],
                        "click": found.click[shown],
                        "conversion": found.conversion[shown].astype(np.int8),
                        "conversion_time": found.conversion_time[shown],
                        "revenue": found.revenue[shown],
                    }
                )
            if not self.at_once and here:
                now = float(world.observe()["time"].max()) if not world.done else np.inf
                ripe = pl.col("conversion_time") <= now
                coming.append(outcomes.filter(~ripe))
                held = pl.concat(coming)
                own = outcomes.with_columns(  # as the log would hold it by now
                    conversion=pl.when(ripe).then("conversion").otherwise(pl.lit(0, pl.Int8)),
                    conversion_time=pl.when(ripe).then("conversion_time"),
                    revenue=pl.when(ripe).then("revenue"),
                )
                outcomes, coming = pl.concat([own, held.filter(ripe)]), [held.filter(~ripe)]
            if not here:
                columns = ("user", "channel", "topic", "cost", "click", "conversion", "conversion_time", "revenue")
                outcomes = pl.DataFrame({name: [] for name in columns})
            yield f"turns/{turn:05d}/outcomes", outcomes


def wait_for(path: Path, seconds: float = 60.0) -> None:
    """Return when the file is there."""
    end = time.monotonic() + seconds
    while not path.is_file():
        assert time.monotonic() < end, path
        time.sleep(0.002)
