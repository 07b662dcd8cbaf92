"""MTORL beside every floor on the authors' samples: the tables of docs/mtorl-tables.md.

    python bench/mtorl.py [--data FOLDER] [--samples criteo kuairand] [--protocols users honest] [--seeds 0 1 2 3 4]
                          [--folds 5] [--floors NAME ...] [--set key=value ...] [--keep FOLDER]

Each (sample, protocol) leaves docs/tables/mtorl-SAMPLE-PROTOCOL.{json,md}: the records, and the table with the command,
commit, seeds and machine that made it. With `--folds 5` each step is tested once a seed, by the method whose training
did not hold its user, and the folds are one table. What a fit and its floors predicted is kept, so a bench that was
stopped goes on, and seeds can be added.

n labelled steps, S seeds.
"""

import argparse
import dataclasses
import pickle
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit, softmax

from headrace.channel.mtorl import MTORL, PRESETS, MTORLConfig
from headrace.channel.scoring import predict_all, source_of
from headrace.cli.settings import configure
from headrace.evaluate.bootstrap import draws, interval, ratio
from headrace.evaluate.floor_names import CLASS_FLOORS, GAIN_FLOORS
from headrace.evaluate.folds import pooled
from headrace.evaluate.metrics import CLIP, Predicted, Steps, losses
from headrace.evaluate.results import Record, Source, aggregate, record, save, score
from headrace.evaluate.significance import holm, p_value
from headrace.evaluate.targets import Target
from headrace.journeys.prepare import prepare
from headrace.journeys.seams import Floats
from headrace.journeys.store import Journeys
from headrace.learn.durable import replace
from headrace.learn.provenance import environment
from headrace.report.brief import SHOWN
from headrace.report.numbers import show
from headrace.report.render import markdown
from headrace.report.table import results_tables

SAMPLES = {
    "criteo": ("criteo-attribution-sample", "criteo_attribution/criteo_sequence.parquet"),
    "kuairand": ("kuairand-random-sample", "kuairand_random/kuairand_sequence.parquet"),
}
FLOORS = tuple(dict.fromkeys((*CLASS_FLOORS, *GAIN_FLOORS)))  # all, LightGBM with them
TABLES = Path(__file__).resolve().parents[1] / "docs" / "tables"


RIVALS = ("trees", "lightgbm", "past-rate", "past-frequencies", "logistic", "prior")
Scored = tuple[Steps, dict[str, Predicted | str]]


@dataclasses.dataclass(frozen=True)
class Cut:
    """What MTORL and its floors predict of one split's test steps."""

    reward_gains: tuple[str, ...]
    scored: dict[Target, Scored]
    fit_s: float
    floors_s: float
    fingerprint: str  # of the split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--samples", nargs="+", default=list(SAMPLES))
    parser.add_argument("--protocols", nargs="+", default=["users", "honest"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folds", type=int, default=0, help="0: the protocol's own cut; k: its first k folds, pooled")
    parser.add_argument("--floors", nargs="+", default=list(FLOORS))
    parser.add_argument("--set", nargs="+", default=[], help="changes of the default preset")
    parser.add_argument("--keep", type=Path, default=Path("runs/mtorl"), help="the folder of what was predicted")
    parser.add_argument("--out", type=Path, default=TABLES)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for sample in given.samples:
        for protocol in given.protocols:
            table(sample, protocol, given)


def table(sample: str, protocol: str, given: argparse.Namespace) -> None:
    """One table: train and evaluate on each seed (a split and an initialisation of its own) and fold."""
    schema, file = SAMPLES[sample]
    records: list[Record] = []
    cuts: list[Cut] = []
    found: dict[Target, list[Scored]] = {}  # a seed an entry
    with tempfile.TemporaryDirectory() as scratch:
        journeys = prepare(given.data / file, schema, Path(scratch) / "journeys")
        for seed in given.seeds:
            source = Source(journeys.schema.name, protocol, seed=seed)
            own = [kept(sample, protocol, seed, fold, journeys, given) for fold in range(given.folds) or [None]]
            cuts += own
            method = own[0]
            for target in own[0].scored:
                steps, methods = pooled([cut.scored[target] for cut in own])
                mine = source_of(source, target, method)
                records += score(mine, target.prefix, steps, methods, [MTORL.name], seed=seed).records
                found.setdefault(target, []).append((steps, methods))
    several = len(given.seeds) > 1
    pairs: list[str] = []
    if several:
        records += [r for r in aggregate(records) if r["against"] is None]
        sources = {t: source_of(Source(journeys.schema.name, protocol), t, cuts[0]) for t in found}
        paired, pairs = over_seeds(found, sources, MTORL.name)
        together, more = averaged(found, sources, MTORL.name)
        records += paired + together
        pairs += more
    name = f"mtorl-{sample}-{protocol}"
    save(records, given.out / f"{name}.json")
    made = environment()
    mean = [r for r in records if not several or r["seed"] is None]
    shown = [r for r in mean if r["metric"].rpartition("/")[2] in (*SHOWN, "f1_macro")]
    parts = [markdown(t) for t in results_tables(shown) if t.kind == "results"]
    compared = [r for r in mean if r["against"] in (None, *RIVALS)]
    compared = [r for r in compared if r["metric"].rpartition("/")[2] in ("log_loss", "auc")]
    parts += [markdown(t) for t in results_tables(compared) if t.kind == "differences"]
    if pairs:
        parts.append("\n".join(pairs))
    options = f" --folds {given.folds}" if given.folds else ""
    options += f" --floors {' '.join(given.floors)}" if given.floors != list(FLOORS) else ""
    options += f" --set {' '.join(given.set)}" if given.set else ""
    if several:
        parts.append(
            "Brackets: of a single method over the seeds, each with splits of its own; of a difference over users, "
            "each step's loss a mean over the seeds that tested it."
        )
    splits = ", ".join(cut.fingerprint[:8] for cut in cuts)
    fit_s, floors_s = (np.median([getattr(cut, of) for cut in cuts]) for of in ("fit_s", "floors_s"))
    parts.append(
        f"`python bench/mtorl.py --samples {sample} --protocols {protocol} --seeds {' '.join(map(str, given.seeds))}"
        + f"{options}`, commit {(made['commit'] or 'unknown')[:12]}, {made['machine']['cores']} cores "
        + f"({made['machine']['processor']}), torch {made['machine']['torch']}; a fit "
        + f"{fit_s:.0f} s, all its floors {floors_s:.0f} s (medians); splits {splits}."
    )
    (given.out / f"{name}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def kept(sample: str, protocol: str, seed: int, fold: int | None, journeys: Journeys, given: argparse.Namespace) -> Cut:
    """What was predicted of a split: read where this commit has left it, else fitted and left."""
    config = configure("mtorl", MTORLConfig, PRESETS, "default", (f"seed={seed}", *given.set))
    told = (environment()["commit"], dataclasses.asdict(config), given.floors)
    path = given.keep / sample / protocol / f"{seed}{'' if fold is None else f'-{fold}'}.pickle"
    if path.is_file():
        held: tuple[Any, Cut] = pickle.loads(path.read_bytes())  # noqa: S301, a file of our own
        if held[0] == told:
            return held[1]
    split = journeys.split(protocol, seed, fold)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as run:
        method = MTORL(config).fit(journeys, split, run, progress=False)
    fitted = time.perf_counter()
    scored = predict_all(method, journeys, split, floors=given.floors)
    done = time.perf_counter()
    cut = Cut(method.reward_gains, scored, fitted - begun, done - fitted, split.fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, lambda file: file.write_bytes(pickle.dumps((told, cut))))
    print(f"{path}: fitted in {cut.fit_s:.0f} s, floors in {cut.floors_s:.0f} s", file=sys.stderr, flush=True)
    return cut


def over_seeds(
    found: Mapping[Target, list[Scored]], sources: Mapping[Target, Source], model: str
) -> tuple[list[Record], list[str]]:
    """The paired differences in log loss with each step's loss averaged over the seeds that tested it, and the lines
    of a table of them with p-values adjusted for all of its comparisons (Holm)."""
    records: list[Record] = []
    p_values: dict[tuple[Target, str], float] = {}
    for target, seeds in found.items():
        if seeds[0][0].kind == "continuous":
            continue
        steps, means = mean_losses(seeds)
        for other in (m for m in means if m != model):
            _, difference, p = compare(sources[target], target.prefix, steps, means, model, other)
            if difference is not None:
                records.append(difference)
                p_values[target, other] = p
    adjusted = holm(p_values)
    lines = ["| log loss, MTORL minus floor | difference [95 %] | p, Holm |", "|---|---|---|"]
    for r, key in zip(records, p_values, strict=True):
        if key[1] in RIVALS:
            low, high = show(r["low"], 4, True), show(r["high"], 4, True)
            name = f"{key[0].prefix} ({key[0].name}), {key[1]}"
            lines.append(f"| {name} | {show(r['value'], 4, True)} [{low}, {high}] | {adjusted[key]:.3f} |")
    return records, lines


def averaged(
    found: Mapping[Target, list[Scored]], sources: Mapping[Target, Source], model: str
) -> tuple[list[Record], list[str]]:
    """The seeds' predictions averaged in log-odds, none of a net that saw the step's user: so are the trees'.

    In the records `setting` holds how many were averaged.
    """
    records: list[Record] = []
    lines = ["", f"| log loss, {len(next(iter(found.values())))} averaged | MTORL | LightGBM | difference [95 %] |"]
    lines.append("|---" * 4 + "|")
    for target, seeds in found.items():
        steps = seeds[0][0]
        if steps.kind == "continuous" or "lightgbm" not in seeds[0][1]:
            continue
        places = [np.argsort(np.asarray(of.rows)) for of, _ in seeds]  # folds of another seed, other order
        first, order = np.asarray(steps.rows)[places[0]], places[0]
        if not all(np.array_equal(np.asarray(of.rows)[at], first) for (of, _), at in zip(seeds, places, strict=True)):
            continue
        users = None if steps.users is None else np.asarray(steps.users)[order]
        steps = Steps(np.asarray(steps.labels)[order], steps.kind, steps.classes, users, rows=first)
        means: dict[str, Floats] = {}
        for name in (model, "lightgbm"):
            values = [
                np.clip(p.values[at], CLIP, 1 - CLIP)
                for (_, of), at in zip(seeds, places, strict=True)
                if isinstance(p := of[name], Predicted)
            ]
            if steps.kind == "classes":
                mean = softmax(np.mean(np.log(values), axis=0), axis=1)
            else:
                mean = expit(np.mean([logit(v) for v in values], axis=0))
            means[name] = losses(steps, Predicted(mean))
        source = sources[target]
        source = dataclasses.replace(source, seed=None, setting=source.setting | {"averaged": len(seeds)})
        alone, difference, _ = compare(source, target.prefix, steps, means, model, "lightgbm")
        theirs, _, _ = compare(source, target.prefix, steps, means, "lightgbm", "lightgbm")
        assert difference is not None
        records += [alone, theirs, difference]
        low, high = (show(difference[end], 4, True) for end in ("low", "high"))
        lines.append(
            f"| {target.prefix} ({target.name}) | {show(alone['value'], 4)} | {show(theirs['value'], 4)} "
            f"| {show(difference['value'], 4, True)} [{low}, {high}] |"
        )
    return records, lines if records else []


def mean_losses(seeds: list[Scored]) -> tuple[Steps, dict[str, Floats]]:
    """The steps that any seed tested, and the log loss of each method on them, a mean over the seeds that did: (n,)."""
    rows = np.unique(np.concatenate([steps.rows for steps, _ in seeds if steps.rows is not None]))
    steps, users = seeds[0][0], np.zeros(len(rows), dtype=np.int64)
    labels = np.zeros(len(rows), dtype=np.asarray(steps.labels).dtype)
    names = [m for m in seeds[0][1] if all(isinstance(methods[m], Predicted) for _, methods in seeds)]
    totals, counts = {m: np.zeros(len(rows)) for m in names}, np.zeros(len(rows))
    for of_seed, methods in seeds:
        assert of_seed.rows is not None and of_seed.users is not None
        at = np.searchsorted(rows, of_seed.rows)
        labels[at], counts[at] = of_seed.labels, counts[at] + 1
        users[at] = of_seed.users
        for m in names:
            predicted = methods[m]
            assert isinstance(predicted, Predicted)
            totals[m][at] += losses(of_seed, predicted)
    means = {m: total / counts for m, total in totals.items()}
    return Steps(labels, steps.kind, steps.classes, users, rows=rows), means


def compare(
    source: Source, prefix: str, steps: Steps, means: Mapping[str, Floats], method: str, other: str
) -> tuple[Record, Record | None, float]:
    """The log loss of a method, its paired difference to another (None: itself) and that one's p-value."""
    codes, groups = steps.groups
    metric, n = f"{prefix}/log_loss", len(steps)
    figures = {"alone": ratio(means[method], None, codes, groups)}
    if other != method:
        figures["difference"] = ratio(means[method] - means[other], None, codes, groups)
    drawn = draws(figures, groups)
    alone = record(source, method, metric, interval(drawn["alone"], groups), n)
    if other == method:
        return alone, None, 1.0
    difference = record(source, method, metric, interval(drawn["difference"], groups), n, other)
    return alone, difference, p_value(drawn["difference"])


if __name__ == "__main__":
    main()
