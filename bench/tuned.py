"""MTORL against boosted trees with an equal tuning budget: 30 trials each, chosen on the same validation users.

    python bench/tuned.py [--data FOLDER] [--samples kuairand criteo] [--by reward action] [--trials 30] [--seed 0]
                          [--jobs 1] [--out DIR]

Protocol honest, one split. MTORL is searched around its default by the log loss of the reward before the decision, or
of the next channel; LightGBM by the loss of each target itself, so that of a reward's three conditionings MTORL is
tuned for one and LightGBM for each. The test part is read once, at the end. Writes docs/tables/tuned-SAMPLE-BY.md: log
loss of each, and the paired differences on the same test steps (95 % interval over users).

n labelled steps.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from made_by import made_by
from mtorl import SAMPLES, TABLES, compare

from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.channel.scoring import predict_all, source_of
from headrace.channel.tuning import FitAndMeasure, watched
from headrace.evaluate.metrics import Predicted, Steps, losses
from headrace.evaluate.results import Record, Source, save
from headrace.evaluate.targets import Target
from headrace.journeys.prepare import prepare
from headrace.journeys.seams import Floats
from headrace.learn.run import Run
from headrace.learn.space import Range, Space
from headrace.learn.tune import TuneConfig, best_of, read_trials, tune
from headrace.learn.tune_lightgbm import tune_lightgbm
from headrace.report.numbers import show

SPACE: Space = {
    "width": (32, 64, 96),
    "tcn_layers": (1, 2, 3),
    "batch_size": (32, 64, 128),
    "learning_rate": Range(5e-4, 5e-3, log=True),
    "dropout": Range(0.05, 0.4),
    "input_dropout": Range(0.0, 0.4),
    "unknown": Range(0.0, 0.6),
    "weight_decay": Range(1e-2, 1.0, log=True),
    "bins": (8, 16, 32),
    "reward_weight": Range(0.3, 5.0, log=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--samples", nargs="+", default=["kuairand", "criteo"])
    parser.add_argument("--by", nargs="+", default=["reward", "action"], choices=["reward", "action"])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=TABLES)
    given = parser.parse_args()
    for sample in given.samples:
        for by in given.by:
            lines, records, told = table(sample, by, given)
            made = made_by(f"python bench/tuned.py --samples {sample} --by {by} --trials {given.trials}")
            text = "\n".join([*lines, "", told, "", f"{made} Seed {given.seed}."]) + "\n"
            save(records, given.out / f"tuned-{sample}-{by}.json")
            (given.out / f"tuned-{sample}-{by}.md").write_text(text, encoding="utf-8")
            print(text, flush=True)


def table(sample: str, by: str, given: argparse.Namespace) -> tuple[list[str], list[Record], str]:
    """The table, a line a target, its records, and what the tuning cost and chose."""
    metric = f"{by}/log_loss"
    schema, file = SAMPLES[sample]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        journeys = prepare(given.data / file, schema, folder / "journeys")
        split = journeys.split("honest", given.seed)
        plain = MTORL(MTORLConfig(seed=given.seed))
        begun = time.perf_counter()
        objective = FitAndMeasure(
            journeys.path.resolve(), "mtorl", plain.settings()["config"], "honest", given.seed, metric
        )
        study = Run.create(folder / "study", {"space": sorted(SPACE)})
        for trial in tune(objective, SPACE, study, TuneConfig(watched(metric), given.trials, given.jobs, given.seed)):
            value = "" if trial.value is None else f" {trial.value:.4f}"
            print(f"{sample} trial {trial.number} {trial.ended}{value}", file=sys.stderr, flush=True)
        best = best_of(read_trials(study.path))
        ours = time.perf_counter() - begun
        methods = {
            "MTORL": plain,
            "tuned MTORL": MTORL(MTORLConfig(**{**plain.settings()["config"], **best.changes})),
        }
        for number, method in enumerate(methods.values()):
            method.fit(journeys, split, folder / f"run-{number}", progress=False)
        begun = time.perf_counter()
        scored: dict[Target, tuple[Steps, dict[str, Predicted | str]]] = {}
        for name, method in methods.items():
            for target, (steps, of) in predict_all(method, journeys, split, floors=("lightgbm",)).items():
                if target.name != ("action" if by == "action" else method.reward_gains[0]):
                    continue
                held = scored.setdefault(target, (steps, {}))[1]
                held |= {name: of[method.name], "LightGBM": of["lightgbm"]}
        for target, (steps, held) in scored.items():
            if steps.rows is not None:
                floor = tune_lightgbm(journeys, split, target, given.trials, given.seed)
                held["tuned LightGBM"] = floor.predicted(steps.rows)
        theirs = time.perf_counter() - begun
        source = Source(journeys.schema.name, "honest", seed=given.seed)
        heads = " | ".join(f"{m} | {m}, {given.trials} trials" for m in ("MTORL", "LightGBM"))
        lines = [f"| target | {heads} | tuned MTORL minus tuned LightGBM | tuned MTORL minus MTORL |", "|---" * 7 + "|"]
        records: list[Record] = []
        for target, (steps, held) in scored.items():
            means: dict[str, Floats] = {m: losses(steps, p) for m, p in held.items() if isinstance(p, Predicted)}
            mine = source_of(source, target, plain)
            cells = []
            for name in ("MTORL", "tuned MTORL", "LightGBM", "tuned LightGBM"):
                alone, _, _ = compare(mine, target.prefix, steps, means, name, name)
                records.append(alone)
                cells.append(show(alone["value"], 4))
            for other in ("tuned LightGBM", "MTORL"):
                _, difference, _ = compare(mine, target.prefix, steps, means, "tuned MTORL", other)
                assert difference is not None
                records.append(difference)
                low, high = (show(difference[end], 4, True) for end in ("low", "high"))
                cells.append(f"{show(difference['value'], 4, True)} [{low}, {high}]")
            lines.append(f"| {target.prefix} ({target.name}) | " + " | ".join(cells) + " |")
    chosen = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in best.changes.items())
    told = f"{sample}, MTORL tuned by {metric}: its trials took {ours:.0f} s, the trees' "
    told += f"{theirs:.0f} s. Chosen: {chosen or 'the default'}."
    return lines, records, told


if __name__ == "__main__":
    main()
