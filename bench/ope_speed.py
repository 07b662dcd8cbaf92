"""How long intervals of a million rows take, beside a plain bootstrap of the same estimators.

    python bench/ope_speed.py --out docs/tables/ope-speed.md

1,000,000 rows of 10 channels without users, seven estimators, 1,000 resamples. The plain way draws rows and computes
every estimator again; it is timed on a few resamples and its time for 1,000 is what those say.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from made_by import made_by

from headrace.evaluate.bootstrap import RESAMPLES
from headrace.journeys.seams import Floats
from headrace.ope.feedback import Feedback
from headrace.ope.intervals import draw, estimate, groups_of
from headrace.ope.single import ESTIMATORS, functional, terms

PLAIN = 5  # resamples of the plain way that are timed


def feedback_of(n: int, m: int, seed: int) -> tuple[Feedback, Floats]:
    """Rows whose logged and valued policies differ, and a gain model's predictions."""
    rng = np.random.default_rng(seed)
    logging, valued = rng.dirichlet(np.ones(m), n), rng.dirichlet(np.ones(m), n)
    action = np.minimum((rng.random((n, 1)) > logging.cumsum(axis=1)).sum(axis=1), m - 1)
    reward = (rng.random(n) < 0.05).astype(np.float64)
    codes, groups = groups_of(None, n)
    chance = np.log(logging[np.arange(n), action])
    of = Feedback(np.arange(n), action, reward, chance, valued, np.ones(n), codes, groups)
    return of, 0.1 * rng.random((n, m))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    of, q = feedback_of(given.rows, 10, 0)
    start = time.perf_counter()
    wanted = {name: functional(terms(name, of, q), of) for name in ESTIMATORS}
    drawn = draw(wanted, of.groups)
    found = {name: estimate(drawn[name], len(of)) for name in ESTIMATORS}
    ours = time.perf_counter() - start
    rng = np.random.default_rng(1)
    columns = {name: terms(name, of, q) for name in ESTIMATORS}
    start = time.perf_counter()
    for _ in range(PLAIN):
        rows = rng.integers(0, given.rows, given.rows)
        for parts in columns.values():
            sum(t.numerator[rows].sum() / t.denominator[rows].sum() for t in parts)
    plain = (time.perf_counter() - start) / PLAIN * RESAMPLES
    half = {name: e.diagnostics["standard_error"] for name, e in found.items()}
    lines = [
        f"| {given.rows:,} rows, {len(ESTIMATORS)} estimators, {RESAMPLES:,} resamples | seconds | ratio |",
        "|---|---|---|",
        f"| headrace | {ours:.1f} | 1 |",
        f"| rows drawn again, every estimator computed again | {plain:,.0f} | {plain / ours:,.0f} |",
    ]
    print("\n".join(lines), f"\nstandard error of dr: {half['dr']:.6f}")
    if given.out:
        given.out.write_text("\n".join([*lines, "", made_by("python bench/ope_speed.py")]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
