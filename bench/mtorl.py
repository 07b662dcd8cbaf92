"""MTORL beside every floor on the authors' samples: the tables of docs/mtorl.md.

    python bench/mtorl.py [--data FOLDER] [--protocols users honest] [--seeds 0 1 2 3 4]

Each (sample, protocol) leaves docs/tables/mtorl-SAMPLE-PROTOCOL.{json,md}: the records, and the table with the command,
commit, seeds and machine that made it.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.channel.scoring import evaluate
from headrace.evaluate.floors import CLASS_FLOORS, GAIN_FLOORS
from headrace.evaluate.results import Record, aggregate, save
from headrace.journeys.prepare import prepare
from headrace.learn.provenance import environment
from headrace.report.brief import SHOWN
from headrace.report.render import markdown
from headrace.report.table import results_tables

SAMPLES = {
    "criteo": ("criteo-attribution-sample", "criteo_attribution/criteo_sequence.parquet"),
    "kuairand": ("kuairand-random-sample", "kuairand_random/kuairand_sequence.parquet"),
}
FLOORS = tuple(dict.fromkeys((*CLASS_FLOORS, *GAIN_FLOORS)))  # all, LightGBM with them
TABLES = Path(__file__).resolve().parents[1] / "docs" / "tables"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--samples", nargs="+", default=list(SAMPLES))
    parser.add_argument("--protocols", nargs="+", default=["users", "honest"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    TABLES.mkdir(parents=True, exist_ok=True)
    for sample in given.samples:
        for protocol in given.protocols:
            table(sample, protocol, given.seeds, given.data)


def table(sample: str, protocol: str, seeds: list[int], data: Path) -> None:
    """One table: train and evaluate on each seed (a split and an initialisation of its own)."""
    schema, file = SAMPLES[sample]
    records: list[Record] = []
    started, fits = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as scratch:
        journeys = prepare(data / file, schema, Path(scratch) / "journeys")
        for seed in seeds:
            split = journeys.split(protocol, seed)
            begun = time.perf_counter()
            method = MTORL(MTORLConfig(seed=seed)).fit(journeys, split, Path(scratch) / f"run{seed}", progress=False)
            fits.append(time.perf_counter() - begun)
            records += evaluate(method, journeys, split, seed=seed, floors=FLOORS).records
            shutil.rmtree(Path(scratch) / f"run{seed}")
            print(f"{sample} {protocol} seed {seed}: fitted in {fits[-1]:.0f} s", file=sys.stderr, flush=True)
    if len(seeds) > 1:
        records += aggregate(records)
    name = f"mtorl-{sample}-{protocol}"
    save(records, TABLES / f"{name}.json")
    made = environment()
    shown = [r for r in records if r["metric"].rpartition("/")[2] in (*SHOWN, "f1_macro")]
    parts = [markdown(t) for t in results_tables(shown) if t.kind == "results"]
    compared = [
        r
        for r in records
        if r["against"] in (None, "trees", "lightgbm", "past-rate", "past-frequencies", "logistic", "prior")
    ]
    compared = [r for r in compared if r["metric"].rpartition("/")[2] in ("log_loss", "auc")]
    parts += [markdown(t) for t in results_tables(compared) if t.kind == "differences"]
    parts.append(
        f"`python bench/mtorl.py --samples {sample} --protocols {protocol} --seeds {' '.join(map(str, seeds))}`, "
        + f"commit {(made['commit'] or 'unknown')[:12]}, {made['machine']['cores']} cores "
        + f"({made['machine']['processor']}), torch {made['machine']['torch']}; fit {np.mean(fits):.0f} s, "
        + f"all {time.perf_counter() - started:.0f} s."
    )
    (TABLES / f"{name}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(json.dumps({"table": name, "fit_s": fits}))


if __name__ == "__main__":
    main()
