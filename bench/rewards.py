"""What MTORL learns from each kind of reward, and what a price on cost changes.

    python bench/rewards.py [DATA] [--out docs/tables] [--seeds 0] [--parts kinds prices] [--quick]

Kinds of reward (18), protocol honest, a seed a split and a fit: a binary gain, a continuous one (play time, in units of
18 s), gains fused by weights, the same fused sum learnt as one number, and gains one-hot (the classes of one softmax).
Each run is scored on what it was taught, before the decision, beside the prior of the training steps.

    kuairand   random exposure; each run also advertises at the best 37.5 % of the steps by what it was taught, and is
               valued (dr, exact propensities) by every gain
    criteo     clicks 1, conversions 10; conversions are labels, never inputs; nothing is valued, as the exposure was
               chosen and no propensity was logged

Prices: the world's ads log, channel drawn by lot: one run, its channel the largest expected click less s times expected
cost, and runs taught the penalised reward (3) itself, over s from 0 to 1; valued by clicks and by cost a step.

Writes rewards.{md,json}, penalty.{md,json} and ../pictures/penalty.svg. In the records `setting` says what was taught
and which gain is scored or valued; "fused" is the weighted sum of the taught gains, "onehot" their combination.
--quick: few users, a tiny net: shows that it runs, no more; give it an --out of its own.

n steps, M channels, S seeds.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import altair as alt
import numpy as np
import polars as pl
from made_by import made_by
from mtorl import TABLES
from sweeps import FULL, QUICK, Size, sample_of

from headrace.channel.heads import ONEHOT, RewardTarget, combination
from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.channel.predictions import Predictions
from headrace.evaluate.bootstrap import Interval
from headrace.evaluate.metrics import METRICS, Kind, Predicted, Steps
from headrace.evaluate.results import Record, Source, aggregate, record, save, score
from headrace.journeys.seams import Estimate, Floats
from headrace.journeys.splits import Split
from headrace.journeys.statistics import gain_values
from headrace.journeys.store import Journeys
from headrace.journeys.views import view
from headrace.ope.selection import threshold
from headrace.ope.valuation import Candidate, reward_of, value
from headrace.report.numbers import show
from headrace.simulate.log import simulate
from headrace.simulate.scenario import Scenario

SHARE = 0.375
LOSSES: dict[Kind, tuple[str, ...]] = {
    "binary": ("log_loss", "auc"),
    "continuous": ("mse",),
    "classes": ("log_loss", "accuracy"),
}
PRICES = (0.0, 0.25, 0.5, 0.75, 1.0)
FUSED, LOT = "fused", "by lot, every step"


@dataclass(frozen=True, slots=True)
class Taught:
    """A reward: its gains with their weights, and in which form it is learnt."""

    weights: dict[str, float]
    target: RewardTarget = "gain"

    @property
    def own(self) -> str:
        """What the run is scored on: its gain, "fused" or "onehot"."""
        if self.target == "onehot":
            return ONEHOT
        return next(iter(self.weights)) if len(self.weights) == 1 else FUSED

    def config(self, size: Size, seed: int) -> MTORLConfig:
        changes: dict[str, Any] = {"reward_weights": self.weights, "reward_target": self.target, "seed": seed}
        if self.target == "penalised":
            changes["penalty"] = 0.0  # (3) without its cost: the fused sum itself
        return MTORLConfig(**(size.config | changes))

    def expected(self, of: dict[str, Floats], method: MTORL) -> Floats:
        """The weighted sum of the gains to be expected, from what a method says of each."""
        if self.target == "penalised":
            assert method.transforms is not None
            low, high = method.transforms.reward_range
            return low + of["penalised"] * (high - low)
        return np.asarray(sum(w * of[name] for name, w in self.weights.items()))


KINDS: dict[str, dict[str, Taught]] = {
    "kuairand": {
        "click (binary)": Taught({"is_click": 1.0}),
        "long view (binary)": Taught({"long_view": 1.0}),
        "play time (continuous)": Taught({"play_time_ms": 1.0}),
        "click 1, long view 10 (fused)": Taught({"is_click": 1.0, "long_view": 10.0}),
        "the same, learnt as one number": Taught({"is_click": 1.0, "long_view": 10.0}, "penalised"),
        "click, long view, play time, 1 each (fused)": Taught({"is_click": 1.0, "long_view": 1.0, "play_time_ms": 1.0}),
        "click, long view (one-hot), chosen by 1 and 10": Taught({"is_click": 1.0, "long_view": 10.0}, "onehot"),
    },
    "criteo": {
        "click (binary)": Taught({"click": 1.0}),
        "conversion (binary, a label only)": Taught({"conversion": 1.0}),
        "click 1, conversion 10 (fused)": Taught({"click": 1.0, "conversion": 10.0}),
        "the same, learnt as one number": Taught({"click": 1.0, "conversion": 10.0}, "penalised"),
        "click, conversion (one-hot)": Taught({"click": 1.0, "conversion": 10.0}, "onehot"),
    },
}
VALUED = "kuairand"


def kinds(sample: str, seed: int, data: Path, folder: Path, size: Size) -> list[Record]:
    """Every kind of reward: scored on what it was taught, and valued by every gain where the exposure was random."""
    log = sample_of(sample, data, folder, size)
    split = log.split("honest", seed)
    rows = split.rows("test")
    records: list[Record] = []
    candidates = {LOT: Candidate(np.full((len(rows), len(log.channels)), 1 / len(log.channels)))}
    source = Source(log.schema.name, "honest", seed=seed)
    for name, taught in KINDS[sample].items():
        run = folder / f"{sample}-{seed}-{len(candidates)}-{len(records)}"
        method = MTORL(taught.config(size, seed)).fit(log, split, run, progress=False)
        found = {
            part: method.predict(log, view(log, split, part, method.length, cut="exact"))
            for part in ("validation", "test")
        }
        records += foretold(dataclasses.replace(source, setting={"taught": name}), taught, method, log, split, found)
        if sample == VALUED:
            assert np.array_equal(found["test"].rows, rows)
            best = {part: taught.expected(of.reward_by_channel, method) for part, of in found.items()}
            fixed = threshold(best["validation"].max(axis=1), SHARE)
            test = best["test"]
            chosen = np.eye(test.shape[1])[test.argmax(axis=1)]
            candidates[name] = Candidate(chosen, fixed.chances(test.max(axis=1)))
        print(f"{sample}, {name}, seed {seed}: fitted", file=sys.stderr, flush=True)
    for gain in (g.name for g in log.schema.gains if sample == VALUED):
        reward = reward_of(log, rows, {gain: 1.0})
        worth = value(candidates, log, rows, reward, "random", ("ips", "snips", "dr"), paired=False)
        for name in candidates:
            mine = dataclasses.replace(source, setting={"taught": name, "gain": gain})
            records.append(valued(mine, "uniform" if name == LOT else "mtorl", "value_dr", worth[name].estimates["dr"]))
    return records


def valued(source: Source, method: str, metric: str, e: Estimate) -> Record:
    return record(source, method, metric, Interval(e.value, e.low, e.high, e.refused), e.n)


def foretold(
    source: Source, taught: Taught, method: MTORL, log: Journeys, split: Split, found: dict[str, Predictions]
) -> list[Record]:
    """The losses before the decision of each gain and of what was taught, beside those of the training steps' prior."""
    test, train = found["test"], split.rows("train")
    records: list[Record] = []
    for name in dict.fromkeys([taught.own, *(g.name for g in log.schema.gains)]):
        kind, labels = outcomes(log, taught, name, test.rows)
        _, seen = outcomes(log, taught, name, train)
        there = ~np.isnan(labels)
        said = test.reward[name] if name != FUSED else taught.expected(test.reward, method)
        prior: Floats = np.asarray(seen[~np.isnan(seen)].mean())
        classes = said.shape[1] if kind == "classes" else 0
        if classes:
            prior = np.bincount(seen[~np.isnan(seen)].astype(np.int64), minlength=classes) / (~np.isnan(seen)).sum()
        steps = Steps(
            labels[there].astype(np.int64) if classes else labels[there],
            kind,
            classes,
            users=log.user_of_step[test.rows[there]],
            rows=test.rows[there],
        )
        told = {
            "mtorl": Predicted(said[there]),
            "prior": Predicted(np.broadcast_to(prior, said[there].shape)),
        }
        mine = dataclasses.replace(source, setting=source.setting | {"gain": name})
        metrics = {metric: METRICS[kind][metric] for metric in LOSSES[kind]}
        records += score(mine, "reward", steps, told, ["mtorl"], metrics).records
    return records


def outcomes(log: Journeys, taught: Taught, name: str, rows: Any) -> tuple[Kind, Floats]:
    """What came at the rows, (n,): a gain, or the fused sum or the combination of the taught ones; NaN: not known."""

    def gain(g: str) -> Floats:
        return gain_values(log.schema.gain(g), np.asarray(log.gain(g))[rows])

    if name == ONEHOT:
        return "classes", combination({g: gain(g) for g in taught.weights}, taught.weights)
    if name == FUSED:
        return "continuous", np.asarray(sum(w * gain(g) for g, w in taught.weights.items()))
    return log.schema.gain(name).kind, gain(name)


def prices(seed: int, folder: Path, size: Size) -> list[Record]:
    """What a price on cost changes: clicks and cost a step, by s."""
    users = 4_000 if size.users is None else size.users
    log = simulate(Scenario.load("ads"), users, 7, "uniform", seed, folder / f"ads-{seed}")
    split = log.split("honest", seed=seed)
    rows = split.rows("test")
    click = {"click": 1.0}
    records = []
    steps = view(log, split, "test", None, cut="exact")
    plain = MTORL(Taught(click).config(size, seed)).fit(log, split, folder / f"plain-{seed}", progress=False)
    gains = plain.predict(log, steps).reward_by_channel
    for s in PRICES if size.most is None else PRICES[:: len(PRICES) - 1]:
        config = dataclasses.replace(Taught(click).config(size, seed), reward_target="penalised", penalty=s)
        taught = MTORL(config).fit(log, split, folder / f"penalised-{seed}-{s}", progress=False)
        scores = {
            "click less s times cost": gains["click"] - s * np.maximum(gains["cost"], 0.0),
            "taught the penalised reward": taught.predict(log, steps).reward_by_channel["penalised"],
        }
        for how, best in scores.items():
            of = {how: Candidate(np.eye(best.shape[1])[best.argmax(axis=1)])}
            for what in ("click", "cost"):
                column = np.asarray(log.gain("click") if what == "click" else log.column("cost"))[rows]
                worth = value(of, log, rows, column.astype(np.float64), None, ("ips", "snips", "dr"))[how]
                source = Source(log.schema.name, "honest", seed=seed, setting={"s": s, "by": how, "gain": what})
                records.append(valued(source, "mtorl", "value_dr", worth.estimates["dr"]))
        print(f"prices, s = {s}, seed {seed}: fitted", file=sys.stderr, flush=True)
    return records


def one(
    records: Iterable[Record], setting: dict[str, Any], metric: str, method: str = "mtorl", against: str | None = None
) -> Record | None:
    """The record of these, if there is one."""
    keys = {"setting": setting, "metric": metric, "method": method, "against": against}
    return next((r for r in records if all(r[key] == wanted for key, wanted in keys.items())), None)


def cell(r: Record | None, digits: int = 3, interval: bool = True, signed: bool = False) -> str:
    if r is None:
        return ""
    if r["value"] is None:
        return "refused"
    text = show(r["value"], digits, signed)
    if interval and r["low"] is not None:
        text += f" [{show(r['low'], digits, signed)}, {show(r['high'], digits, signed)}]"
    return text


def row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def valued_table(records: Sequence[Record]) -> list[str]:
    gains = list(dict.fromkeys(r["setting"]["gain"] for r in records if r["metric"] == "value_dr"))
    lines = [row(["taught", *(f"{g} a chosen step" for g in gains)]), "|---" * (1 + len(gains)) + "|"]
    for name in (LOT, *KINDS[VALUED]):
        method = "uniform" if name == LOT else "mtorl"
        found = (one(records, {"taught": name, "gain": g}, "value_dr", method) for g in gains)
        lines.append(row([name, *map(cell, found)]))
    return lines


def foretold_table(sample: str, records: Sequence[Record]) -> list[str]:
    """A row a reward and loss of what it was taught, then the AUC of each binary gain."""
    of = [r for r in records if r["metric"] == "reward/auc" and r["setting"]["taught"] in KINDS[sample]]
    gains = list(dict.fromkeys(r["setting"]["gain"] for r in of))
    heads = ["taught", "scored on", "MTORL", "prior", "difference", *(f"AUC, {g}" for g in gains)]
    lines = [row(heads), "|---" * len(heads) + "|"]
    for name, taught in KINDS[sample].items():
        own = {"taught": name, "gain": taught.own}
        losses = [m for kind in LOSSES.values() for m in kind if m != "auc" and one(records, own, f"reward/{m}")]
        for k, loss in enumerate(dict.fromkeys(losses)):
            metric = f"reward/{loss}"
            words = f"{'its sum' if taught.own == FUSED else taught.own}, {loss.replace('_', ' ')}"
            told = [cell(one(records, own, metric, m), 4, interval=False) for m in ("mtorl", "prior")]
            told.append(cell(one(records, own, metric, "mtorl", "prior"), 4, signed=True))
            aucs = [cell(one(records, {"taught": name, "gain": g}, "reward/auc"), interval=False) for g in gains]
            lines.append(row([name if not k else "", words, *told, *(aucs if not k else [""] * len(gains))]))
    return lines


def price_table(records: Sequence[Record]) -> list[str]:
    lines = ["| s | by | clicks a step | cost a step |", "|---|---|---|---|"]
    for s, how in dict.fromkeys((r["setting"]["s"], r["setting"]["by"]) for r in records):
        found = (one(records, {"s": s, "by": how, "gain": g}, "value_dr") for g in ("click", "cost"))
        lines.append(row([f"{s:g}", how, *map(cell, found)]))
    return lines


def picture(records: Sequence[Record]) -> Any:
    """Clicks and cost a step against s, with intervals."""
    kept = [r["setting"] | {key: r[key] for key in ("value", "low", "high")} for r in records if r["value"] is not None]
    base = alt.Chart(pl.DataFrame(kept)).encode(alt.X("s:Q", title="s, clicks a unit of cost"), color="by:N")
    band = base.mark_area(opacity=0.15).encode(alt.Y("low:Q", title="a step"), alt.Y2("high:Q"))
    lines = (band + base.mark_line(point=True).encode(alt.Y("value:Q"))).properties(width=280, height=200)
    return lines.facet(column=alt.Column("gain:N", title=None)).resolve_scale(y="independent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=TABLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--parts", nargs="+", choices=["kinds", "prices"], default=["kinds", "prices"])
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    if given.quick and given.out == TABLES:
        parser.error("--quick measures nothing; give it an --out of its own")
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for part in given.parts:
            (write_kinds if part == "kinds" else write_prices)(given, size, Path(scratch))


def write_kinds(given: argparse.Namespace, size: Size, folder: Path) -> None:
    records: list[Record] = []
    parts: list[str] = []
    for sample in KINDS:
        found = [r for seed in given.seeds for r in kinds(sample, seed, given.data, fresh(folder, seed), size)]
        found = over(found, given.seeds)
        records += found
        mean = shown(found, given.seeds)
        if sample == VALUED:
            parts.append("\n".join(valued_table(mean)))
        parts.append(f"{sample.capitalize()}, before the decision:\n\n" + "\n".join(foretold_table(sample, mean)))
    save(records, given.out / "rewards.json")
    parts.append(
        "play_time_ms is in units of 18 s, its squared error in the square of that; a sum is of gains times weights. "
        + told(given, "kinds")
    )
    write(given.out / "rewards.md", parts)


def write_prices(given: argparse.Namespace, size: Size, folder: Path) -> None:
    records = over([r for seed in given.seeds for r in prices(seed, folder, size)], given.seeds)
    save(records, given.out / "penalty.json")
    mean = shown(records, given.seeds)
    write(given.out / "penalty.md", ["\n".join(price_table(mean)), told(given, "prices")])
    pictures = given.out.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    picture(mean).save(pictures / "penalty.svg")


def fresh(folder: Path, seed: int) -> Path:
    """A folder of a seed's own, for the log and its runs."""
    return Path(tempfile.mkdtemp(prefix=f"{seed}-", dir=folder))


def over(records: list[Record], seeds: Sequence[int]) -> list[Record]:
    """The records, and with several seeds their means with intervals over seeds."""
    return records + aggregate(records) if len(seeds) > 1 else records


def shown(records: list[Record], seeds: Sequence[int]) -> list[Record]:
    return [r for r in records if (r["seed"] is None) == (len(seeds) > 1)]


def told(given: argparse.Namespace, part: Literal["kinds", "prices"]) -> str:
    seeds = " ".join(map(str, given.seeds))
    line = made_by(f"python bench/rewards.py --parts {part} --seeds {seeds}" + (" --quick" if given.quick else ""))
    over_what = "users" if len(given.seeds) == 1 else "seeds, each a split and a fit"
    return f"95 % intervals over {over_what}. {line}"


def write(path: Path, parts: Sequence[str]) -> None:
    text = "\n\n".join(parts)
    print(text, "\n", flush=True)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
