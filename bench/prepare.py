"""How fast and in how much memory a big log becomes journeys: one JSON line.

    python bench/prepare.py [--rows 16500000] [--folder FOLDER]

Generates an ad log of 22 columns (the layout of the Criteo attribution set) as parquet, prepares it in a process of
its own and measures wall seconds and peak resident memory. In the same run, polars alone does the least that any
preparation must do: read, sort by user and time, hand every column to numpy. `ratio` compares the two under the same
load. The target is under 20 s and 1.5 GiB on two cores that do nothing else.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from headrace.journeys.prepare import prepare
from headrace.journeys.readers import READERS

_CHUNK = 500_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=16_500_000)
    arguments.add_argument("--folder", help="where to put the generated log (default: a temporary folder)")
    arguments.add_argument("--run", choices=["prepare", "polars"], help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.run:
        measure(given.run, Path(given.folder))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        log = Path(folder) / "log.parquet"
        generate(log, given.rows)
        figures = {run: in_own_process(run, Path(folder)) for run in ("polars", "prepare")}
        size = log.stat().st_size
    ours, floor = figures["prepare"], figures["polars"]
    print(
        json.dumps(
            {
                "bench": "prepare",
                "rows": given.rows,
                "columns": 22,
                "file_mib": round(size / 2**20),
                "seconds": ours["seconds"],
                "cpu_seconds": ours["cpu_seconds"],
                "peak_gib": ours["peak_gib"],
                "polars_seconds": floor["seconds"],
                "polars_cpu_seconds": floor["cpu_seconds"],
                "polars_peak_gib": floor["peak_gib"],
                "ratio": round(ours["seconds"] / floor["seconds"], 2),
                "cpu_ratio": round(ours["cpu_seconds"] / floor["cpu_seconds"], 2),
                "cores": os.cpu_count(),
                "load": round(os.getloadavg()[0], 1),
            }
        )
    )


def generate(path: Path, rows: int) -> None:
    """Write the log chunk by chunk, in the order of its clock; about 2.9 rows a user."""

    def chunk(number: int) -> pl.DataFrame:
        rng = np.random.default_rng(number)
        size = min(_CHUNK, rows - number * _CHUNK)
        clock = (number * _CHUNK + np.arange(size)) // 7
        converted = rng.random(size) < 0.05
        return pl.DataFrame(
            {
                "timestamp": clock,
                "uid": rng.integers(0, max(rows * 4 // 11, 2), size) * 5,
                "campaign": rng.integers(0, 700, size),
                "conversion": converted.astype(np.int64),
                "conversion_timestamp": np.where(converted, clock + rng.integers(1, 10**6, size), -1),
                "conversion_id": np.where(converted, rng.integers(0, 10**7, size), -1),
                "attribution": (rng.random(size) < 0.02).astype(np.int64),
                "click": (rng.random(size) < 0.36).astype(np.int64),
                "click_pos": rng.integers(-1, 5, size),
                "click_nb": rng.integers(-1, 5, size),
                "cost": rng.random(size) * 1e-3,
                "cpo": rng.random(size),
                "time_since_last_click": rng.integers(-1, 10**6, size),
                **{f"cat{i}": rng.integers(0, 10 + i, size) * 1_000 for i in range(1, 10)},
            }
        )

    parts = [path.with_name(f"part-{i:03d}.parquet") for i in range(-(-rows // _CHUNK))]
    for number, part in enumerate(parts):
        chunk(number).write_parquet(part, compression="zstd")
    pl.scan_parquet(parts).sink_parquet(path, compression="zstd", row_group_size=_CHUNK)
    for part in parts:
        part.unlink()


def in_own_process(run: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", run, "--folder", str(folder)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(run: str, folder: Path) -> None:
    log = folder / "log.parquet"
    start, cpu = time.perf_counter(), time.process_time()
    if run == "prepare":
        prepare(log, READERS["criteo-attribution"].schema, folder / "journeys")
    else:
        table = pl.read_parquet(log).sort("uid", "timestamp")
        for column in table.columns:
            table[column].to_numpy()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_gib": round(peak, 2)}))


if __name__ == "__main__":
    main()
