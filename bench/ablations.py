"""What each part of MTORL is worth: one part changed at a time, everything else as in the default.

    python bench/ablations.py [--data FOLDER] [--samples criteo kuairand] [--seeds 0 1 2 3 4] [--part validation]
                              [--only NAME ...] [--set key=value ...] [--keep runs/ablations] [--redraw]

Each sample leaves docs/tables/ablations-SAMPLE.{json,md}: log loss of every variant, and its paired difference to the
default on the same steps (loss of each step averaged over seeds, users resampled); and these differences as a chart,
docs/pictures/ablations-SAMPLE.svg (`--redraw`: from the records that are there, without a fit). Choices are read from
the validation part; `--part test` is for a table that nothing is chosen from. What each fit predicts is kept, so a run
that was stopped goes on, and further seeds or variants are fitted alone, as long as the commit is the same.

A fit calibrates on validation users. So that no variant is measured on what it was calibrated by, each half of them is
here calibrated by the other half's steps; early stopping has seen them all, of every variant alike.

In the records `setting` holds what was changed; `against` is the default.

n labelled steps, S seeds.
"""

import argparse
import dataclasses
import itertools
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from made_by import made_by
from mtorl import SAMPLES, TABLES, compare

from headrace.channel.heads import Calibrator
from headrace.channel.mtorl import MTORL, PRESETS, MTORLConfig
from headrace.channel.predictions import Predictions
from headrace.channel.scoring import outcome, wanted
from headrace.cli.settings import configure
from headrace.evaluate.metrics import Predicted, losses
from headrace.evaluate.results import Record, Source, save
from headrace.evaluate.targets import Given, Target, steps_of
from headrace.journeys.prepare import prepare
from headrace.journeys.seams import Floats
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.learn.durable import replace_text
from headrace.learn.provenance import environment
from headrace.report.figures import differences
from headrace.report.figures import save as save_figure
from headrace.report.names import setting_words, target_words
from headrace.report.names import target as target_of
from headrace.report.numbers import show

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    # what is ours, switched off
    "numbers without bins": {"bins": 0},
    "context without bins": {"context_bins": 0},
    "context only added": {"cross": False},
    "no input dropout": {"input_dropout": 0.0},
    "no hidden ids": {"unknown": 0.0},
    "embeddings start at 1": {"embedding_start": 1.0},
    "hardly any weight decay": {"weight_decay": 1e-4},
    "no averaged weights": {"average": None},
    "no running rates": {"running": False},
    "no shortcut to the inputs": {"shortcut": False},
    "categories as embeddings alone": {"categories": "embedded"},
    "categories as embeddings and numbers": {"categories": "both"},
    "other gains and cost weigh as the reward": {"auxiliary_weight": 1.0},
    "not calibrated": {"calibrate": False},
    # the paper's own parts
    "without causal states": {"tcn_layers": 0},
    "without causal attention": {"attention": False},
    "without add & norm": {"attention_layers": 0},
    "with the preference loss": {"preference": "free"},
    "the same, pairs matched": {"preference": "free", "pairs": "matched"},
    "preference to a reference": {"preference": "reference"},
    "the same to a reference, pairs matched": {"preference": "reference", "pairs": "matched"},
    "reward from the attention output": {"reward_reads": "attention"},
    "reward from the predicted action": {"reward_reads": "action"},
    "TCN of 1 layer": {"tcn_layers": 1},
    "TCN of 4 layers": {"tcn_layers": 4},
    "kernel 2": {"kernel": 2},
    "kernel 5": {"kernel": 5},
    # how much of a journey is read at once
    "the last 20 steps": {"length": 20},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--samples", nargs="+", default=list(SAMPLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--part", choices=["validation", "test"], default="validation")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="beside the default")
    parser.add_argument("--set", nargs="+", default=[], help="changes of every variant, the default included")
    parser.add_argument("--out", type=Path, default=TABLES)
    parser.add_argument("--keep", type=Path, default=Path("runs/ablations"), help="the folder of what was predicted")
    parser.add_argument("--redraw", action="store_true", help="the charts alone, from the records in --out")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(["default", *given.only]))
    for sample in given.samples:
        if given.redraw:
            draw(sample, json.loads((given.out / f"ablations-{sample}.json").read_text(encoding="utf-8")), given.out)
        else:
            table(sample, names, given)


def table(sample: str, names: list[str], given: argparse.Namespace) -> None:
    """Fit every variant on every seed (the split is that of seed 0), and compare each with the default."""
    schema, file = SAMPLES[sample]
    base = dataclasses.asdict(configure("mtorl", MTORLConfig, PRESETS, "default", given.set))
    found: dict[str, dict[Target, list[Predicted]]] = {name: {} for name in names}
    seconds = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        journeys = prepare(given.data / file, schema, Path(scratch) / "journeys")
        for seed, name in itertools.product(given.seeds, names):
            config = MTORLConfig(**(base | VARIANTS[name] | {"seed": seed}))
            fit = kept(given.keep / sample / given.part / f"{name.replace(' ', '-')}-{seed}", journeys, config, given)
            seconds += fit.seconds
            for target, predicted in fit.predicted.items():
                found[name].setdefault(target, []).append(predicted)
            print(f"{sample} {name} seed {seed}: {fit.seconds:.0f} s", file=sys.stderr, flush=True)
        records, lines = compared(journeys, found, Source(journeys.schema.name, "honest", given.part))
    save(records, given.out / f"ablations-{sample}.json")
    draw(sample, records, given.out)
    seeds = " ".join(map(str, given.seeds))
    options = "" if given.only == list(VARIANTS) else " --only " + " ".join(f"'{name}'" for name in given.only)
    options += f" --set {' '.join(given.set)}" if given.set else ""
    told = made_by(f"python bench/ablations.py --samples {sample} --seeds {seeds}{options}")
    lines += [
        "",
        f"Log loss; under it the paired difference to the default, 95 % interval over users of the {given.part} part "
        f"of `honest`, split 0, each step's loss averaged over seeds {seeds}. "
        + ("Each half of these users is calibrated by the other half. " if given.part == "validation" else "")
        + f"{told} "
        f"{len(given.seeds) * len(names)} fits, {seconds:.0f} s.",
    ]
    (given.out / f"ablations-{sample}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(json.dumps({"table": f"ablations-{sample}", "seconds": round(seconds)}))


@dataclass(frozen=True, slots=True)
class Fit:
    predicted: dict[Target, Predicted]
    seconds: float


def kept(path: Path, journeys: Journeys, config: MTORLConfig, given: argparse.Namespace) -> Fit:
    """What a fit of the config predicts: read where this commit has left it, else fitted and left there."""
    told = {"commit": environment()["commit"], "config": dataclasses.asdict(config), "data": journeys.fingerprint}
    if not (path.with_suffix(".json").is_file() and json.loads(path.with_suffix(".json").read_text())["told"] == told):
        begun = time.perf_counter()
        split = journeys.split("honest", 0)
        with tempfile.TemporaryDirectory() as scratch:
            method = MTORL(config).fit(journeys, split, Path(scratch) / "run", progress=False)
        test = given.part == "test"
        answers = [method.predict(journeys, split.parts["test"])] if test else halves(method, journeys, split)
        arrays: dict[str, Any] = {}
        for target in (t for t in wanted(method, journeys) if t.kind(journeys) != "continuous"):
            known = [target.known(journeys, a.rows) for a in answers]
            rows = np.concatenate([a.rows[there] for a, there in zip(answers, known, strict=True)])
            values = [outcome(a, target, journeys, there) for a, there in zip(answers, known, strict=True)]
            order = np.argsort(rows)  # variants are compared step by step
            arrays[f"{target.name}/{target.given}/values"] = np.concatenate(values)[order]
            arrays[f"{target.name}/{target.given}/rows"] = rows[order]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_suffix(".npz"), **arrays)
        seconds = time.perf_counter() - begun
        replace_text(path.with_suffix(".json"), json.dumps({"told": told, "seconds": round(seconds, 1)}) + "\n")
    predicted = {}
    with np.load(path.with_suffix(".npz")) as held:
        for key in (key for key in held.files if key.endswith("/values")):
            name, conditioning, _ = key.split("/")
            target = Target(name, cast(Given, conditioning))
            predicted[target] = Predicted(held[key], rows=held[f"{name}/{conditioning}/rows"])
    return Fit(predicted, json.loads(path.with_suffix(".json").read_text())["seconds"])


def halves(method: MTORL, journeys: Journeys, split: Split) -> list[Predictions]:
    """The steps of every other validation user and of the rest, each half calibrated by the other, or not at all."""
    labels = split.parts["validation"]
    even = np.unique(journeys.user_of_step[labels], return_inverse=True)[1] % 2 == 0
    parts = [np.zeros_like(labels), np.zeros_like(labels)]
    for part, mine in zip(parts, (even, ~even), strict=True):
        part[labels] = mine
    answers = []
    for own, other in (parts, parts[::-1]):
        method.calibrator = Calibrator()
        if method.config.calibrate:
            method.calibrator = method.fit_calibrator(method.predict(journeys, other), journeys)
        answers.append(method.predict(journeys, own))
    return answers


def compared(
    journeys: Journeys, found: dict[str, dict[Target, list[Predicted]]], source: Source
) -> tuple[list[Record], list[str]]:
    """The records, and the table's lines: a row a variant, a column a target."""
    records: list[Record] = []
    targets = list(found["default"])
    heads = [t.prefix if t.name in ("action", targets[1].name) else f"{t.prefix} ({t.name})" for t in targets]
    lines = ["| variant | " + " | ".join(heads) + " |", "|---" * (1 + len(targets)) + "|"]
    cells: dict[str, list[str]] = {name: [] for name in found}
    for target, head in zip(targets, heads, strict=True):
        rows = found["default"][target][0].rows
        assert rows is not None
        steps = steps_of(journeys, rows, target)
        means: dict[str, Floats] = {
            name: np.mean([losses(steps, p) for p in of[target]], axis=0) for name, of in found.items()
        }
        setting = {"gain": target.name} if "(" in head else {}
        mine = dataclasses.replace(source, setting=setting)
        for name in found:
            alone, difference, _ = compare(mine, target.prefix, steps, means, name, "default")
            for r in [alone] if difference is None else [alone, difference]:
                r |= {"method": "mtorl", "setting": r["setting"] | VARIANTS[name]}
                r["against"] = None if r is alone else "mtorl"
            records.append(alone)
            text = show(alone["value"], 4)
            if difference is not None:
                records.append(difference)
                low, high = (show(difference[end], 4, True) for end in ("low", "high"))
                text += f"<br>{show(difference['value'], 4, True)} [{low}, {high}]"
            cells[name].append(text)
    return records, lines + [f"| {name} | " + " | ".join(cells[name]) + " |" for name in found]


def draw(sample: str, records: list[Record], out: Path) -> None:
    """The differences of the records as a chart beside the tables: pictures/ablations-SAMPLE.svg."""
    values = []
    for r in (r for r in records if r["against"] is not None and r["value"] is not None):
        changed = {key: value for key, value in r["setting"].items() if key != "gain"}
        name = next((name for name, of in VARIANTS.items() if of == changed), setting_words(changed))
        title = target_words(target_of(r["metric"]))[0]
        panel = title + (f" ({r['setting']['gain'].replace('_', ' ')})" if "gain" in r["setting"] else "")
        values.append({"name": name, "panel": panel, "value": r["value"], "low": r["low"], "high": r["high"]})
    made = differences(
        values,
        f"{sample.capitalize()}: log loss minus the default's",
        ["paired difference with 95 % interval over users; less is better,", "grey where the interval reaches 0"],
    )
    pictures = out.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    save_figure(made, pictures / f"ablations-{sample}.svg")


if __name__ == "__main__":
    main()
