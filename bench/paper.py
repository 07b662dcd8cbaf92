"""The released MTORL sampling, to show what it does: docs/tables/paper.md.

    python bench/paper.py [--data FOLDER] [--samples kuairand criteo] [--inputs numbers embedded binned]
                          [--set key=value ...] [--name paper] [--out DIR]

Windows are drawn with replacement and then cut into parts, so most test steps are training steps. The table holds the
F1 that this gives, on test and on train, beside a plain look-up of training rows, and what the audit says of the split.
Inputs: `numbers`, ids read as scaled numbers as the paper's code does; `embedded`, which are remembered more easily;
`binned`, embedded, and the other numbers in 16 bins. mu is the paper's, .08 on KuaiRand and .04 on Criteo.
`--set width=128 --name paper-printed` leaves all but the width as printed.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

from made_by import made_by
from mtorl import SAMPLES, TABLES

from headrace.channel.mtorl import MTORL, PRESETS, MTORLConfig
from headrace.channel.scoring import evaluate
from headrace.cli.settings import configure
from headrace.evaluate.results import Record, save
from headrace.journeys.audit import audit
from headrace.journeys.prepare import prepare

PUBLISHED = {"kuairand": 0.6793, "criteo": 0.5002}  # Table 2, F1
QUICK = ["width=128", "batch_size=64", "epochs=150", "dropout=0.0", "preference=none", "gaussian=false"]
EMBEDDED = ("categories=embedded",)
INPUTS = {"numbers": (), "embedded": EMBEDDED, "binned": (*EMBEDDED, "bins=16")}
WEIGHT = {"kuairand": 0.08, "criteo": 0.04}  # mu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--samples", nargs="+", default=["kuairand", "criteo"])
    parser.add_argument("--inputs", nargs="+", default=list(INPUTS), choices=list(INPUTS))
    parser.add_argument("--set", nargs="+", default=QUICK, help="changes of the preset paper")
    parser.add_argument("--name", default="paper", help="of the table")
    parser.add_argument("--out", type=Path, default=TABLES)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    head = "sample | inputs | test F1 | train F1 | look-up F1, test | published F1 | test steps in train | epochs | fit"
    lines = [f"| {head} |", "|---" * 9 + "|"]
    for sample, inputs in itertools.product(given.samples, given.inputs):
        schema, file = SAMPLES[sample]
        with tempfile.TemporaryDirectory() as scratch:
            journeys = prepare(given.data / file, schema, Path(scratch) / "journeys")
            split = journeys.split("paper", 0)
            leak = next(f for f in audit(journeys, split) if f.check == "duplicate rows")
            changes = (f"reward_weight={WEIGHT[sample]}", *given.set, *INPUTS[inputs])
            config = configure("mtorl", MTORLConfig, PRESETS, "paper", changes)
            begun = time.perf_counter()
            method = MTORL(config).fit(journeys, split, Path(scratch) / "run", progress=sys.stderr.isatty())
            seconds = time.perf_counter() - begun
            test = evaluate(method, journeys, split, leaky=True, floors=("prior", "look-up")).records
            train = evaluate(method, journeys, split, "train", leaky=True, floors=()).records
        records += [r | {"setting": r["setting"] | {"inputs": inputs}} for r in test + train]

        def f1(found: list[Record], name: str) -> float:
            value: float = next(
                r["value"]
                for r in found
                if r["method"] == name and r["metric"] == "action/f1_macro" and r["against"] is None
            )
            return value

        figures = " | ".join(f"{f1(*of):.3f}" for of in ((test, "mtorl"), (train, "mtorl"), (test, "look-up")))
        lines.append(
            f"| {sample} (LEAKY) | {inputs} | {figures} | {PUBLISHED[sample]:.3f} | {leak.share:.0%} "
            f"| {config.epochs} | {seconds:.0f} s |"
        )
        print(lines[-1], flush=True)
    save(records, given.out / f"{given.name}.json")
    command = f"python bench/paper.py --samples {' '.join(given.samples)} --inputs {' '.join(given.inputs)}"
    told = made_by(f"{command} --set {' '.join(given.set)} --name {given.name}")
    lines += ["", f"Preset paper, mu .08 (KuaiRand) and .04 (Criteo), with {', '.join(given.set)}: {told} Seed 0."]
    (given.out / f"{given.name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(json.dumps({"table": given.name}))


if __name__ == "__main__":
    main()
