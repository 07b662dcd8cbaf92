"""Whether MTORL's pre-trained encoder helps a DIN click model (section 4.5): docs/tables/ctr.{json,md}.

    python bench/ctr.py [--data FOLDER] [--samples criteo kuairand] [--seeds 0 1 2 3 4]

Per sample and seed (a split and an initialisation of its own) MTORL is trained, then four click models on the same
steps: DIN alone; with the encoder frozen; with it co-trained; and, as a control of equal capacity, co-trained with the
same encoder untrained and at the full learning rate. AUC and log loss of the click given the channel, differences
paired over users.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from mtorl import SAMPLES, TABLES

from headrace.channel.din import DIN, DINConfig
from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.evaluate.floors import fit_floors, predict_floors
from headrace.evaluate.metrics import Predicted, auc, log_loss
from headrace.evaluate.results import Record, Source, aggregate, save, score
from headrace.evaluate.targets import Target, steps_of
from headrace.journeys.prepare import prepare
from headrace.journeys.store import Journeys
from headrace.learn.provenance import environment
from headrace.report.render import markdown
from headrace.report.table import results_tables

FLOORS = ("prior", "past-rate", "lightgbm")
VARIANTS: dict[str, dict[str, Any]] = {
    "din": {},
    "din-frozen": {"encoder": ""},
    "din-co-trained": {"encoder": "", "co_train": True},
    "din-random": {"encoder": "", "co_train": True, "encoder_weights": "random", "encoder_rate": 1.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--samples", nargs="+", default=list(SAMPLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    TABLES.mkdir(parents=True, exist_ok=True)
    made = environment()
    records: list[Record] = []
    seconds: dict[str, list[float]] = {}
    for sample in given.samples:
        schema, file = SAMPLES[sample]
        found: list[Record] = []
        with tempfile.TemporaryDirectory() as scratch:
            journeys = prepare(given.data / file, schema, Path(scratch) / "journeys")
            for seed in given.seeds:
                found += one(journeys, seed, Path(scratch) / str(seed), seconds)
        records += found + (aggregate(found) if len(given.seeds) > 1 else [])
    save(records, TABLES / "ctr.json")
    words = f"--samples {' '.join(given.samples)} --seeds {' '.join(map(str, given.seeds))}"
    kept = [r for r in records if r["against"] is None or (r["method"], r["against"]) in shown()]
    parts = [markdown(table) for table in results_tables(kept)]
    spent = ", ".join(f"{name} {np.mean(values):.0f} s" for name, values in seconds.items())
    parts.append(
        f"`python bench/ctr.py {words}`, commit {(made['commit'] or 'unknown')[:12]}, {made['machine']['cores']} cores "
        f"({made['machine']['processor']}), torch {made['machine']['torch']}; mean fit: {spent}."
    )
    (TABLES / "ctr.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(json.dumps({"table": "ctr", "fit_s": seconds}))


def shown() -> set[tuple[str, str]]:
    """The differences of the page: each variant against DIN alone and the control, DIN against its floors."""
    found = {(name, "din") for name in VARIANTS if name != "din"}
    found |= {(name, "din-random") for name in ("din-frozen", "din-co-trained")}
    return found | {(name, other) for name in ("din", "din-co-trained") for other in ("mtorl", "lightgbm", "past-rate")}


def one(journeys: Journeys, seed: int, scratch: Path, seconds: dict[str, list[float]]) -> list[Record]:
    """The records of one split: every variant, the encoder's own head, and the floors, on the same test steps."""
    split = journeys.split("honest", seed)
    fitted: dict[str, MTORL | DIN] = {}
    for name in ("mtorl", *VARIANTS):
        begun = time.perf_counter()
        if name == "mtorl":
            fitted[name] = MTORL(MTORLConfig(seed=seed)).fit(journeys, split, scratch / name, progress=False)
        else:
            config = DINConfig(seed=seed, **{**VARIANTS[name], **within(name, scratch)})
            fitted[name] = DIN(config).fit(journeys, split, scratch / name, progress=False)
        seconds.setdefault(name, []).append(time.perf_counter() - begun)
        stage = fitted[name].stage
        assert stage is not None
        print(
            f"{journeys.schema.name} seed {seed} {name}: {seconds[name][-1]:.0f} s, best epoch {stage.best_epoch} "
            f"of {stage.epochs}, {stage.best_value:.5f}",
            file=sys.stderr,
            flush=True,
        )
    gain = fitted["din"].reward_gains[0]
    target = Target(gain, "channel")
    rows = split.rows("test")
    table: dict[str, Predicted | str] = {}
    for name, method in fitted.items():
        predictions = method.predict(journeys, split.parts["test"])
        order = np.argsort(predictions.rows)
        assert np.array_equal(predictions.rows[order], rows)
        channel = np.asarray(journeys.channel)[rows].astype(np.int64)
        table[name] = Predicted(predictions.reward_by_channel[gain][order][np.arange(len(rows)), channel], rows=rows)
    steps = steps_of(journeys, rows, target)
    table |= predict_floors(fit_floors(journeys, split, [target], FLOORS, seed)[target], rows)
    source = Source(journeys.schema.name, "honest", "test", seed)
    metrics = {"auc": auc, "log_loss": log_loss}
    return score(source, target.prefix, steps, table, list(VARIANTS), metrics, seed=seed).records


def within(name: str, scratch: Path) -> dict[str, str]:
    return {"encoder": str(scratch / "mtorl")} if "encoder" in VARIANTS[name] else {}


if __name__ == "__main__":
    main()
