"""How far RMTL's weights are from a constant, and what they know: a table for docs/rmtl.md.

    python bench/rmtl_omega.py [--data FOLDER] [--share .25] [--seeds 2] [--cells FOLDER]

On the training rows of kuairand_pure: omega = 1 - lambda Q of RMTL-PLE by task, and how well -Q goes with the
discounted loss that the rest of the session then brought, with the expected loss of the row itself and with the place
in the session. `--cells` takes trainings that bench/rmtl.py kept.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch
from made_by import made_by
from rmtl import TABLES, log_of

from headrace.learn.run import Run
from headrace.predict import comparing
from headrace.predict.backbones import Sizes
from headrace.predict.critics import Critic, returns, rewards
from headrace.predict.features import Features
from headrace.predict.retrain import predict
from headrace.predict.rmtl import RMTLConfig, prepare
from headrace.predict.table import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cells", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=TABLES)
    given = parser.parse_args()
    given.part = "kuairand"
    with tempfile.TemporaryDirectory() as scratch:
        text = measure(given, given.cells or Path(scratch), Path(scratch))
    told = made_by(f"python bench/rmtl_omega.py --share {given.share} --seeds {given.seeds}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "rmtl-omega.md").write_text(f"{text}\n\n{told}\n", encoding="utf-8")


def measure(given: argparse.Namespace, folder: Path, scratch: Path) -> str:
    journeys = log_of(given, scratch)
    split, config = journeys.split("time", 0), RMTLConfig()
    prepared = prepare(journeys, split, config, ("test",))
    train, tasks = prepared.train, prepared.features.tasks
    plan = comparing.cells(("ple", "rmtl-ple"), given.seeds, dataclasses.asdict(config), folder / "cells")
    fitted = {(c.method, c.seed): (c, m) for c, m in comparing.fit_cells(plan, journeys, split, prepared, dict, {})}
    lines = [
        "| task, seed | omega, mean | standard deviation | 5 % | 95 % | -Q and what came | and loss now | and place |"
    ]
    lines.append("|---" * 8 + "|")
    for seed in range(given.seeds):
        actor = fitted["ple", seed][1].network
        assert actor is not None
        logits = predict(actor, train)  # stage A, by which stage C starts
        q = values(fitted["rmtl-ple", seed][0], prepared.features, train, logits.sigmoid())
        came = -returns(rewards(logits, train.labels) * train.known, train.position, train.last, config.gamma)
        now = torch.distributions.Bernoulli(logits=logits).entropy()  # type: ignore[no-untyped-call]
        for k, task in enumerate(tasks):
            omega = 1 - config.lambda_ * q[:, k]
            beside = [np.corrcoef(-q[:, k], x)[0, 1] for x in (came[:, k], now[:, k], train.position)]
            figures = [omega.mean(), omega.std(), *np.quantile(omega, [0.05, 0.95]), *beside]
            lines.append(f"| {task.name}, {seed} | " + " | ".join(f"{f:.2f}" for f in figures) + " |")
    return "\n".join(lines) + f"\n\nRMTL-PLE, {len(train):,} training rows; the last three are correlations."


def values(cell: comparing.Cell, features: Features, train: Table, actions: torch.Tensor) -> np.ndarray:
    """(n, K) Q of a cell's critics."""
    c = cell.config
    sizes = Sizes(c.width, c.experts, c.embedding, c.dropout, c.unknown, c.input_dropout, c.embedding_start)
    critic = Critic(sizes, features, c.critic_output)
    critic.load_state_dict(Run.open(cell.folder).read_weights("critics.safetensors"))
    critic.eval()
    with torch.no_grad():
        parts = [critic(train.ids[at], train.numbers[at], actions[at]) for at in train.batches(8192)]
    return torch.cat(parts).double().numpy()


if __name__ == "__main__":
    main()
