"""Learning a stream day by day: fit anew, go on from yesterday's run, or leave the first run as it is.

    python bench/incremental.py [--logs kuairand world] [--data ../shared/data]

KuaiRand-Pure's standard log cut by day, and the world's ads log. A first run learns the first days; then, for seven
days, each way learns what is known at midnight and foretells the day that follows: a net from scratch on all days so
far, fine-tuning from the run of the day before (as `headrace train mtorl --from`, by its default; `free`: the same
without rehearsal, pull and bound), and the first run. Train and validation users are the same throughout, and all that
is measured is of users held out from all: action and click log loss of the next day, and of the first days again (what
is forgotten). Differences are paired, intervals by bootstrap over users. Users are sub-sampled (--share, --users), so
that it takes minutes. Writes docs/tables/incremental-LOG.md and .json, docs/pictures/incremental-LOG.svg.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from made_by import made_by

from headrace.channel.incremental import Incremental, IncrementalConfig, Parent
from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.evaluate.bootstrap import Interval, draws, interval, ratio
from headrace.evaluate.results import Record, Source, record, save
from headrace.journeys.onward import onward
from headrace.journeys.prepare import prepare
from headrace.journeys.seams import Bools, Floats
from headrace.journeys.store import Journeys, JourneysWriter, subset
from headrace.learn.run import Run
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario

DAY = 86_400_000.0
TABLES = Path(__file__).resolve().parents[1] / "docs" / "tables"
WAYS: dict[str, dict[str, Any]] = {"fine-tune": {}, "free": {"rehearse": 0.0, "pull": 0.0, "forget": 1e9}}
TARGETS = ("action/log_loss", "reward/log_loss")
Losses = dict[str, Floats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--logs", nargs="+", default=["kuairand", "world"], choices=["kuairand", "world"])
    parser.add_argument("--share", type=float, default=0.1, help="of KuaiRand's users")
    parser.add_argument("--users", type=int, default=500, help="of the world")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in given.logs:
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as scratch:
            if name == "kuairand":
                log, first = kuairand(given.data, given.share, Path(scratch), given.seed), 6
            else:
                log, first = world(given.users, 9 + given.days, Path(scratch), given.seed), 8
            records, spent = streamed(log, first, given.days, given.seed, Path(scratch))
        save(records, TABLES / f"incremental-{name}.json")
        picture(records).save(TABLES.parent / "pictures" / f"incremental-{name}.svg")
        size = f"--share {given.share}" if name == "kuairand" else f"--users {given.users}"
        command = f"python bench/incremental.py --logs {name} {size} --days {given.days} --seed {given.seed}"
        text = table(records, spent, first, log)
        text += f"\n\n{made_by(command)} {time.process_time() - begun:.0f} s of CPU in all.\n"
        (TABLES / f"incremental-{name}.md").write_text(text, encoding="utf-8")
        print(text, flush=True)


def kuairand(data: Path, share: float, scratch: Path, seed: int) -> Journeys:
    """A share of the users of KuaiRand-Pure's standard log."""
    whole = prepare(data / "kuairand_pure", "kuairand-pure", scratch / "whole")
    chosen = np.flatnonzero(np.random.default_rng(seed).random(whole.n_users) < share)
    return subset(whole, chosen, scratch / "log")


def world(users: int, days: int, scratch: Path, seed: int) -> Journeys:
    return simulate(Scenario.load("ads"), users, days, "logging", seed, scratch / "log")


def before(log: Journeys, moment: float, path: Path) -> Journeys:
    """The log as it stood at a moment."""
    kept = np.asarray(log.time) < moment
    lengths = np.bincount(log.user_of_step[kept], minlength=log.n_users)
    seen = np.flatnonzero(lengths)
    names = [n for n in log.column_names if n not in ("offsets", "users")]
    values = {n: log.column(n)[seen] if n.startswith("user/") else log.column(n)[kept] for n in names}
    with JourneysWriter(path, log.schema, log.categories) as writer:
        writer.append(log.column("users")[seen], lengths[seen], values)
        return writer.close()


def streamed(log: Journeys, first: int, days: int, seed: int, scratch: Path) -> tuple[list[Record], dict[str, float]]:
    """Records of every day and of all together, and CPU seconds of each way's fits."""
    assert log.time is not None
    begin = float(np.floor(np.min(log.time) / DAY) * DAY)
    if log.schema.name == "kuairand-pure":
        begin = float(np.min(log.time))  # its days as the log begins
    day = ((np.asarray(log.time) - begin) // DAY).astype(int)
    test = onward(log, "honest", seed, None, -np.inf).parts["test"]
    early = test & (day < first)
    methods: dict[str, MTORL] = {}
    spent = dict.fromkeys(("refit", *WAYS), 0.0)
    stood = before(log, begin + first * DAY, scratch / f"until-{first}")
    methods["frozen"], run = anew(stood, seed, scratch / "first")
    parents = dict.fromkeys(WAYS, run)
    next_days: dict[str, list[Losses]] = {}
    first_days: dict[str, list[Losses]] = {}
    for now in range(first + 1, first + 1 + days):
        stood = before(log, begin + now * DAY, scratch / f"until-{now}")
        clock = time.process_time()
        methods["refit"], _ = anew(stood, seed, scratch / f"refit-{now}")
        spent["refit"] += time.process_time() - clock
        for way, settings in WAYS.items():
            clock = time.process_time()
            methods[way], parents[way] = gone_on(parents[way], stood, settings, seed, scratch / f"{way}-{now}")
            spent[way] += time.process_time() - clock
        for name, method in methods.items():
            next_days.setdefault(name, []).append(losses(method, log, test & (day == now)))
            same = name == "frozen" and name in first_days
            first_days.setdefault(name, []).append(first_days[name][0] if same else losses(method, log, early))
        print(f"day {now}: { ({k: round(v) for k, v in spent.items()}) } s", flush=True)
    records: list[Record] = []
    for what, found in (("next day", next_days), ("first days", first_days)):
        for k in range(days):
            source = Source(log.schema.name, "honest", what, seed, {"day": first + 1 + k})
            records += compared(source, {name: of[k] for name, of in found.items()}, log, seed)
    pooled = {name: {key: np.concatenate([o[key] for o in of]) for key in of[0]} for name, of in next_days.items()}
    records += compared(Source(log.schema.name, "honest", "next day", seed), pooled, log, seed)
    last = {name: of[-1] for name, of in first_days.items()}
    records += compared(Source(log.schema.name, "honest", "first days", seed), last, log, seed)
    return records, spent


def anew(log: Journeys, seed: int, path: Path) -> tuple[MTORL, Run]:
    """A net from scratch on all that a log holds of its training users."""
    method = MTORL(MTORLConfig(seed=seed))
    run = Run.create(path, {**method.settings(), "protocol": "honest", "split_seed": seed, "fold": None})
    return method.fit(log, onward(log, "honest", seed, None, -np.inf), run, progress=False), run


def gone_on(parent: Run, log: Journeys, settings: dict[str, Any], seed: int, path: Path) -> tuple[MTORL, Run]:
    """The run of the day before, gone on from."""
    origin = Parent.of(parent)
    fitting = Incremental(origin, dataclasses.replace(IncrementalConfig(seed=seed), **settings))
    run = Run.create(path, {**fitting.settings(), "protocol": "honest", "split_seed": seed, "fold": None})
    return fitting.fit(log, origin.split(log), run, progress=False), run


def losses(method: MTORL, log: Journeys, labels: Bools) -> Losses:
    """(n,) each of the two losses, and the users."""
    found = method.predict(log, labels)
    order = np.argsort(found.rows)
    rows = found.rows[order]
    channel = np.asarray(log.channel)[rows].astype(int)
    gain = method.reward_gains[0]
    clicked = np.asarray(log.gain(gain))[rows] == 1
    p = np.clip(found.reward[gain][order], 1e-7, 1 - 1e-7)
    action = -np.log(np.maximum(found.action[order][np.arange(len(rows)), channel], 1e-12))
    return {"users": log.user_of_step[rows], TARGETS[0]: action, TARGETS[1]: -np.log(np.where(clicked, p, 1 - p))}


def compared(source: Source, found: dict[str, Losses], log: Journeys, seed: int) -> list[Record]:
    """Each way's losses, and the paired differences to the first run and to the refit."""
    users, codes = np.unique(found["frozen"]["users"], return_inverse=True)
    figures = {(m, t): ratio(found[m][t], None, codes, len(users)) for m in found for t in TARGETS}
    drawn = draws(figures, len(users), seed=seed)
    made = []
    for method, target in figures:
        n = len(codes)
        made.append(record(source, method, target, interval(drawn[method, target], len(users)), n))
        for against in ("frozen", "refit"):
            if method not in ("frozen", against):
                difference = drawn[method, target] - drawn[against, target]
                made.append(record(source, method, target, interval(difference, len(users)), n, against))
    return made


def table(records: list[Record], spent: dict[str, float], first: int, log: Journeys) -> str:
    """Markdown: the pooled figures and what they cost."""
    pooled = [r for r in records if not r["setting"]]

    def cell(method: str, part: str, target: str, against: str | None) -> str:
        key = {"method": method, "part": part, "metric": target, "against": against}
        r = next((r for r in pooled if all(r[k] == v for k, v in key.items())), None)
        if r is None:
            return ""
        e = Interval(r["value"], r["low"], r["high"], r["refused"])
        if e.value is None:
            return f"refused: {e.refused}"
        form = ".4f" if against is None else "+.4f"
        return f"{e.value:{form}} [{e.low:{form}}, {e.high:{form}}]"

    heads = ["next day, action", "next day, click", "first days, action", "first days, click", "CPU of the fits"]
    lines = ["| log loss | " + " | ".join(heads) + " |", "|---" * 6 + "|"]
    places = [(part, target) for part in ("next day", "first days") for target in TARGETS]
    lines.append("| first run, frozen | " + " | ".join(cell("frozen", *p, None) for p in places) + " | |")
    titles = {"refit": "fit anew", "fine-tune": "go on (the default)", "free": "go on, unprotected"}
    for method, title in titles.items():
        cost = f"{spent[method]:.0f} s, {spent[method] / spent['refit']:.2f}"
        lines.append(
            f"| {title}, minus frozen | " + " | ".join(cell(method, *p, "frozen") for p in places) + f" | {cost} |"
        )
    for method in WAYS:
        lines.append(
            f"| {titles[method]}, minus fit anew | " + " | ".join(cell(method, *p, "refit") for p in places) + " | |"
        )
    n = {p: next(r["n"] for r in pooled if r["part"] == p) for p in ("next day", "first days")}
    days = len({r["setting"]["day"] for r in records if r["setting"]})
    return "\n".join(lines) + (
        f"\n\n{log.n_users:,} users, {log.n_steps:,} steps; {days} days after the first {first}. Held-out users: "
        f"n = {n['next day']:,} steps of the days foretold, {n['first days']:,} of the first {first} days, measured "
        "after the last. Paired 95 % intervals by bootstrap over users; less is better."
    )


def picture(records: list[Record]) -> Any:
    """Differences to the first run, day by day, with intervals."""
    names = {"refit": "fit anew", "fine-tune": "go on", "free": "go on, unprotected"}
    rows = [
        {
            "day": r["setting"]["day"],
            "what": f"{'channel' if r['metric'] == TARGETS[0] else 'click'}, {r['part']}",
            "way": names[r["method"]],
            **{k: r[k] for k in ("value", "low", "high")},
        }
        for r in records
        if r["setting"] and r["against"] == "frozen" and r["value"] is not None
    ]
    ways = alt.Color("way:N", title=None, sort=list(names.values()))
    base = alt.Chart().encode(alt.X("day:O", title="day", axis=alt.Axis(labelAngle=0)), ways)
    offset = alt.XOffset("way:N", sort=list(names.values()))
    bars = base.mark_rule().encode(alt.Y("low:Q", title="log loss minus the first run's"), alt.Y2("high:Q"), offset)
    points = base.mark_point(filled=True, size=40).encode(alt.Y("value:Q"), offset)
    zero = alt.Chart().mark_rule(strokeDash=[4, 3], color="#888").encode(y=alt.datum(0))
    chart = alt.layer(zero, bars, points, data=pl.DataFrame(rows)).properties(width=320, height=170)
    return chart.facet(facet=alt.Facet("what:N", title=None), columns=2).resolve_scale(y="independent")


if __name__ == "__main__":
    main()
