"""PLE against boosted trees with equal tuning budgets on KuaiRand-Pure: 30 trials each, the same validation rows.

    python bench/rmtl_tuned.py [--data FOLDER] [--share 1] [--trials 30] [--seeds 3] [--keep FOLDER] [--out DIR]

All get the same features. PLE is searched around its default by the mean of both tasks' log losses, LightGBM for each
task by its own; the first trial is the default. PLE's best is then fitted under several seeds. The test rows are read
once, at the end. Writes docs/tables/rmtl-tuned.{json,md}: log loss and AUC of each, and paired differences.

n rows, K tasks.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from made_by import made_by
from rmtl import TABLES, figure, log_of, sure

from headrace.evaluate.floor_features import Table
from headrace.evaluate.floor_models import LIGHTGBM_SPACE, Predict, fit_lightgbm
from headrace.evaluate.metrics import CLIP, Predicted, Steps
from headrace.evaluate.results import Source, save
from headrace.learn.durable import replace_text
from headrace.learn.loop import derive_seed
from headrace.learn.provenance import environment
from headrace.learn.space import Changes, Range, Space, propose
from headrace.predict.comparing import compare
from headrace.predict.rmtl import RMTL, Prepared, RMTLConfig, prepare
from headrace.predict.scoring import Tables, floor_rows

SPACE: Space = {
    "embedding": (4, 8, 16),
    "width": (16, 32, 64, 128),
    "experts": (2, 4, 8),
    "dropout": Range(0.0, 0.5),
    "input_dropout": Range(0.0, 0.4),
    "unknown": Range(0.0, 0.6),
    "bins": (4, 8, 16, 32),
    "learning_rate": Range(5e-4, 5e-3, log=True),
    "weight_decay": Range(1e-3, 1.0, log=True),
    "batch_size": (256, 512, 1024),
    "user_ids": (False, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, default=Path("runs/rmtl-tuned"), help="trials that are there are not run")
    parser.add_argument("--out", type=Path, default=TABLES)
    given = parser.parse_args()
    given.part = "kuairand"
    given.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        measure(given, Path(scratch))


def measure(given: argparse.Namespace, scratch: Path) -> None:
    """Search both, fit the best, write the table."""
    journeys = log_of(given, scratch)
    split = journeys.split("time", 0)
    plain = RMTLConfig(weights="none")
    begun = time.perf_counter()

    def fitted(changes: Changes, seed: int = 0) -> tuple[RMTL, Prepared]:
        config = RMTLConfig(weights="none", seed=seed, **changes)
        prepared = prepare(journeys, split, config, ("test",))
        with tempfile.TemporaryDirectory() as run:
            return RMTL(config).fit(journeys, split, Path(run) / "run", False, prepared), prepared

    def ours(changes: Changes) -> float:
        method, prepared = fitted(changes)
        held = prepared.parts["validation"]
        return float(log_losses(method.predict_table(held, held.rows), held.labels.numpy()).mean())

    best = search("ple", SPACE, ours, given)
    ours_s = time.perf_counter() - begun
    prepared = prepare(journeys, split, plain, ("test",))
    test = prepared.parts["test"]
    tables = Tables(journeys, journeys, prepared.features, plain.session, plain.session_gap_minutes)
    columns = {part: tables.columns(held) for part, held in prepared.parts.items()}
    found = {}
    for name, changes in (("ple", {}), ("ple-tuned", best)):
        for seed in range(given.seeds):
            method, parts = fitted(changes, seed)
            found[name, seed] = method.predict_table(parts.parts["test"], test.rows)
    begun = time.perf_counter()
    chosen: dict[str, Changes] = {"PLE": best}
    trees: dict[str, list[np.ndarray]] = {"lightgbm": [], "lightgbm-tuned": []}
    for k, task in enumerate(prepared.features.tasks):
        labels = {part: held.labels[:, k].numpy().astype(np.float64) for part, held in prepared.parts.items()}
        rows = {part: floor_rows(table, np.arange(len(labels[part]))) for part, table in columns.items()}
        held, truth = rows["validation"], labels["validation"]
        fit = partial(fit_lightgbm, rows["train"], labels["train"], held, truth, "binary", 0, 0)
        theirs = partial(of_trees, fit, held, truth)
        chosen[f"LightGBM of {task.name}"] = search(task.name, dict(LIGHTGBM_SPACE), theirs, given)
        trees["lightgbm"].append(fit()(rows["test"]))
        answer = fit(parameters=chosen[f"LightGBM of {task.name}"])
        trees["lightgbm-tuned"].append(answer(rows["test"]))
    theirs_s = time.perf_counter() - begun
    found |= {(name, 0): np.stack(of_tasks, axis=1) for name, of_tasks in trees.items()}
    users = journeys.users_of(test.rows)
    scored = {
        task.name: (
            Steps(test.labels[:, k].numpy(), "binary", users=users, rows=test.rows, sessions=test.session),
            {
                name: [Predicted(p[:, k], rows=test.rows) for (of, _), p in found.items() if of == name]
                for name in WORDS
            },
        )
        for k, task in enumerate(prepared.features.tasks)
    }
    records, _ = compare(Source(journeys.schema.name, "time"), scored, lambda method, names: rivals(method))
    save(records, given.out / "rmtl-tuned.json")
    lines = ["| | " + " | ".join(f"{t} {m}" for t in scored for m in ("AUC", "log loss")) + " |"]
    lines.append("|---" * (1 + 2 * len(scored)) + "|")
    mean = [r for r in records if r["seed"] is None]
    for name, other in [(m, None) for m in ("ple", "ple-tuned", *trees)] + [
        (m, o) for m in ("ple", "ple-tuned") for o in rivals(m)
    ]:
        of = {r["metric"]: r for r in mean if r["method"] == name and r["against"] == other}
        cells = []
        for metric in (f"{t}/{m}" for t in scored for m in ("auc", "log_loss")):
            text = figure(of[metric], 4, other is not None)
            cells.append(f"**{text}**" if other and sure(of[metric]) else text)
        lines.append(f"| {WORDS[name]}{f' minus {WORDS[other]}' if other else ''} | " + " | ".join(cells) + " |")
    choices = "; ".join(
        f"{who}: "
        + (", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in c.items()) or "default")
        for who, c in chosen.items()
    )
    command = f"python bench/rmtl_tuned.py --share {given.share:g} --trials {given.trials} --seeds {given.seeds}"
    lines += [
        "",
        f"{given.trials} trials each, {given.seeds} seeds of PLE, one of the trees; {len(split.rows('train')):,} "
        f"training rows, {len(test.rows):,} test rows, split {split.fingerprint[:12]}; brackets: 95 % interval over "
        f"users and seeds; bold: it excludes zero. PLE's search took {ours_s:.0f} s, the trees' {theirs_s:.0f} s. "
        + f"Chosen, {choices}. "
        + made_by(command),
    ]
    (given.out / "rmtl-tuned.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


WORDS = {
    "ple": "PLE",
    "ple-tuned": "PLE, tuned",
    "lightgbm": "LightGBM",
    "lightgbm-tuned": "LightGBM, tuned",
}


def rivals(method: str) -> list[str]:
    """What a method is compared with."""
    return {"ple": ["lightgbm"], "ple-tuned": ["ple", "lightgbm-tuned"]}.get(method, [])


def log_losses(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The log loss of each row and task."""
    p = np.clip(p, CLIP, 1 - CLIP)
    return -np.log(np.where(labels == 1, p, 1 - p))


def of_trees(fit: Callable[..., Predict], held: Table, labels: np.ndarray, changes: Changes) -> float:
    """The mean log loss on held-out rows of trees with these changes."""
    return float(log_losses(fit(parameters=changes)(held), labels).mean())


def search(name: str, space: Space, objective: Callable[[Changes], float], given: argparse.Namespace) -> Changes:
    """The changes of the smallest validation loss; a trial that this commit has run is read."""
    path = given.keep / f"{name}-{given.share:g}.json"
    commit = environment()["commit"]
    held = json.loads(path.read_text()) if path.is_file() else {}
    seen: list[tuple[Changes, float]] = []
    if held.get("commit") == commit:
        seen = [(changes, value) for changes, value in held.get("seen", [])]
    for trial in range(len(seen), given.trials):
        changes = propose(space, seen, derive_seed(0, "trial", trial)) if trial else {}
        seen.append((changes, objective(changes)))
        replace_text(path, json.dumps({"commit": commit, "seen": seen}) + "\n")
        print(f"{name} trial {trial}: {seen[-1][1]:.5f} {changes}", file=sys.stderr, flush=True)
    return min(seen, key=lambda s: s[1])[0]


if __name__ == "__main__":
    main()
