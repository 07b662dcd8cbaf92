"""What each part of MTORL is worth: one part changed at a time, everything else as in the default.

    python bench/ablations.py [--data FOLDER] [--samples criteo kuairand] [--seeds 0 1 2 3 4] [--part validation]
                              [--only NAME ...] [--set key=value ...]

Each sample leaves docs/tables/ablations-SAMPLE.{json,md}: log loss of every variant, and its paired difference to the
default on the same steps (loss of each step averaged over seeds, users resampled). Choices are read from the
validation part; `--part test` is for a table that nothing is chosen from.

In the records `setting` holds what was changed; `against` is the default.

n labelled steps, S seeds.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from made_by import made_by
from mtorl import SAMPLES, TABLES, compare

from headrace.channel.mtorl import MTORL, PRESETS, MTORLConfig
from headrace.channel.scoring import outcome, wanted
from headrace.cli.settings import configure
from headrace.evaluate.metrics import Predicted, losses
from headrace.evaluate.results import Record, Source, save
from headrace.evaluate.targets import Target, steps_of
from headrace.journeys.prepare import prepare
from headrace.journeys.seams import Floats
from headrace.journeys.store import Journeys
from headrace.journeys.views import view
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
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(["default", *given.only]))
    for sample in given.samples:
        table(sample, names, given)


def table(sample: str, names: list[str], given: argparse.Namespace) -> None:
    """Fit every variant on every seed (the split is that of seed 0), and compare each with the default."""
    schema, file = SAMPLES[sample]
    base = dataclasses.asdict(configure("mtorl", MTORLConfig, PRESETS, "default", given.set))
    found: dict[str, dict[Target, list[Predicted]]] = {}
    started, fits = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as scratch:
        journeys = prepare(given.data / file, schema, Path(scratch) / "journeys")
        split = journeys.split("honest", 0)
        for name in names:
            for seed in given.seeds:
                config = MTORLConfig(**(base | VARIANTS[name] | {"seed": seed}))
                method = MTORL(config).fit(journeys, split, Path(scratch) / "run", progress=False)
                shutil.rmtree(Path(scratch) / "run")
                predictions = method.predict(journeys, view(journeys, split, given.part, method.length, cut="exact"))
                for target in wanted(method, journeys):
                    if target.kind(journeys) == "continuous":
                        continue
                    kept = target.known(journeys, predictions.rows)
                    values = outcome(predictions, target, journeys, kept)
                    found.setdefault(name, {}).setdefault(target, []).append(
                        Predicted(values, rows=predictions.rows[kept])
                    )
                fits += 1
                print(
                    f"{sample} {name} seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True
                )
        records, lines = compared(journeys, found, Source(journeys.schema.name, "honest", given.part))
    save(records, given.out / f"ablations-{sample}.json")
    seeds = " ".join(map(str, given.seeds))
    options = "" if given.only == list(VARIANTS) else " --only " + " ".join(f"'{name}'" for name in given.only)
    options += f" --set {' '.join(given.set)}" if given.set else ""
    told = made_by(f"python bench/ablations.py --samples {sample} --seeds {seeds}{options}")
    lines += [
        "",
        f"Log loss; under it the paired difference to the default, 95 % interval over users of the {given.part} part "
        f"of `honest`, split 0, each step's loss averaged over seeds {seeds}. {told} "
        f"{fits} fits, {time.perf_counter() - started:.0f} s.",
    ]
    (given.out / f"ablations-{sample}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(json.dumps({"table": f"ablations-{sample}", "fits": fits, "seconds": time.perf_counter() - started}))


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


if __name__ == "__main__":
    main()
