"""Our fusion learners and d3rlpy's on a small continuous problem whose optimal value is known: do both reach it?

    python bench/fuse_d3rlpy.py [--seeds 3] --out docs/tables/fuse-d3rlpy.md

A point on a line is pushed towards its middle, x' = clip(x + .4 a), and pays x'^2 + .1 a^2 a step; every step is the
last one by a coin of .1. The log pushes at random. V* by value iteration on a grid; what a learnt policy is worth by
following it from a grid of starts, the coin in expectation. Both libraries learn from the very same transitions.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from d3rlpy_folder import install
from made_by import made_by

from headrace.fuse.bcq import BCQConfig, BCQLearner
from headrace.fuse.cql_sac import CQLConfig, CQLLearner
from headrace.fuse.iql import IQLConfig, IQLLearner
from headrace.fuse.learner import Learner
from headrace.fuse.replay import Replay
from headrace.fuse.td3_bc import TD3BCConfig, TD3BCLearner
from headrace.journeys.seams import Floats
from headrace.ope.transitions import Transitions

GAMMA, END, PUSH = 0.9, 0.1, 0.4
EPISODES, UPDATES = 1_000, 5_000
GRID = np.linspace(-1, 1, 401)
SHARED: dict[str, Any] = {"gamma": GAMMA, "batch": 128, "hidden": (64, 64), "target_every": 1, "target_rate": 0.005}
SHARED |= {"actor_rate": 1e-3, "critic_rate": 1e-3}
OURS: dict[str, tuple[type[Learner], Any]] = {
    "bcq": (BCQLearner, BCQConfig(**SHARED, rho=0.5)),
    "cql-sac": (CQLLearner, CQLConfig(**SHARED, alpha=0.01, entropy=0.01)),
    "iql": (IQLLearner, IQLConfig(**SHARED, tau=0.9, beta=10.0)),
    "td3-bc": (TD3BCLearner, TD3BCConfig(**SHARED)),
}
PAIRS = {"bcq": "BCQ", "cql-sac": "CQL", "iql": "IQL", "td3-bc": "TD3PlusBC"}
THEIRS = """
import json, sys
import numpy as np, torch
import d3rlpy
from d3rlpy.algos import BCQConfig, CQLConfig, IQLConfig, TD3PlusBCConfig
torch.set_num_threads(1)
held = np.load(sys.argv[1])
updates, seeds, gamma = (json.loads(str(held["setting"]))[k] for k in ("updates", "seeds", "gamma"))
data = d3rlpy.dataset.MDPDataset(held["state"], held["action"], held["reward"][:, None].astype(np.float32),
                                 held["terminated"].astype(np.float32),
                                 action_space=d3rlpy.ActionSpace.CONTINUOUS, action_size=1)
net = d3rlpy.models.VectorEncoderFactory([64, 64])
shared = dict(gamma=gamma, batch_size=128, actor_learning_rate=1e-3, critic_learning_rate=1e-3,
              actor_encoder_factory=net, critic_encoder_factory=net)
made = {"BCQ": lambda: BCQConfig(imitator_learning_rate=1e-3, imitator_encoder_factory=net, rl_start_step=0,
                                 action_flexibility=0.5, n_action_samples=10, **shared),
        "CQL": lambda: CQLConfig(conservative_weight=0.01, alpha_learning_rate=0.0, initial_alpha=1.0,
                                 temp_learning_rate=0.0, initial_temperature=0.01, n_action_samples=4, **shared),
        "IQL": lambda: IQLConfig(expectile=0.9, weight_temp=10.0, value_encoder_factory=net, **shared),
        "TD3PlusBC": lambda: TD3PlusBCConfig(observation_scaler=None, **shared)}
grid = held["grid"].astype(np.float32)[:, None]
for name, make in made.items():
    for seed in range(seeds):
        d3rlpy.seed(seed)
        algo = make().create()
        algo.fit(data, n_steps=updates, n_steps_per_epoch=updates, show_progress=False, save_interval=10,
                 logger_adapter=d3rlpy.logging.NoopAdapterFactory())
        print(json.dumps({"name": name, "act": algo.predict(grid)[:, 0].tolist()}), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    of = log()
    with tempfile.TemporaryDirectory() as folder:
        found = theirs(of, Path(folder), given.seeds)
    for name in OURS:
        found[name] = [ours(of, name, seed) for seed in range(given.seeds)]
        print(f"{name}: done", file=sys.stderr, flush=True)
    text = table(found, len(of))
    print(text)
    if given.out:
        given.out.write_text(f"{text}\n\n{made_by(f'python bench/fuse_d3rlpy.py --seeds {given.seeds}')}\n", "utf-8")


Number = TypeVar("Number", float, Floats)


def pushed(x: Number, a: Number) -> tuple[Number, Number]:
    """Where a push leads, and its reward."""
    then = np.clip(x + PUSH * a, -1, 1)
    return then, -np.square(then) - 0.1 * np.square(a)


def log() -> Transitions:
    """Episodes of random pushes."""
    rng = np.random.default_rng(0)
    state, action, reward, after = (list[float]() for _ in range(4))
    end, first = list[bool](), list[int]()
    for _ in range(EPISODES):
        x, over = rng.uniform(-1, 1), False
        first.append(len(state))
        while not over:
            a = rng.uniform(-1, 1)
            then, r = pushed(x, a)
            over = bool(rng.random() < END)
            for column, value in zip((state, action, reward, after), (x, a, r, then), strict=True):
                column.append(value)
            end.append(over)
            x = then
    terminated = np.array(end)
    initial = np.isin(np.arange(len(state)), first)
    codes = np.cumsum(initial) - 1
    wide = [np.array(column, dtype=np.float32)[:, None] for column in (state, action, after)]
    return Transitions(
        wide[0], wide[1], np.array(reward), wide[2], terminated, ~np.ones_like(terminated), initial, codes, EPISODES
    )


def optimal() -> Floats:
    """(401,) V* on the grid."""
    then, reward = pushed(GRID[:, None], GRID[None, :])
    value = np.zeros(len(GRID))
    for _ in range(300):
        value = (reward + GAMMA * (1 - END) * np.interp(then, GRID, value)).max(axis=1)
    return value


def worth(act: Floats) -> Floats:
    """(401,) the value of a policy that pushes by these actions on the grid."""
    x, total, weight = GRID.copy(), np.zeros(len(GRID)), 1.0
    for _ in range(300):
        x, reward = pushed(x, np.clip(np.interp(x, GRID, act), -1, 1))
        total, weight = total + weight * reward, weight * GAMMA * (1 - END)
    return total


def ours(of: Transitions, name: str, seed: int) -> Floats:
    """(401,) the actions of a learnt policy on the grid."""
    kind, config = OURS[name]
    learner = kind(Replay(of), config, seed)
    torch.manual_seed(seed)
    for batch in learner.replay.batches(config.batch, UPDATES, seed):
        learner.step(batch)
    return learner.act(torch.from_numpy(GRID.astype(np.float32))[:, None])[:, 0].numpy().astype(np.float64)


def theirs(of: Transitions, scratch: Path, seeds: int) -> dict[str, list[Floats]]:
    library = install(scratch / "library")
    setting = np.array(json.dumps({"updates": UPDATES, "seeds": seeds, "gamma": GAMMA}))
    columns = {name: getattr(of, name) for name in ("state", "action", "reward", "terminated")}
    np.savez(scratch / "held.npz", grid=GRID, setting=setting, **columns)
    command = [sys.executable, "-c", THEIRS, str(scratch / "held.npz")]
    environment = os.environ | {"PYTHONPATH": str(library)}
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=scratch).stdout
    found: dict[str, list[Floats]] = {}
    for line in (json.loads(line) for line in told.splitlines() if line.startswith('{"name"')):
        found.setdefault(line["name"], []).append(np.array(line["act"]))
    return found


def table(found: dict[str, list[Floats]], steps: int) -> str:
    """What each policy loses against the best one, ours beside d3rlpy's."""
    best = optimal()
    lost = {name: [float((best - worth(act)).mean()) for act in runs] for name, runs in found.items()}
    lines = [
        "| method | lost by ours, seed by seed | lost by d3rlpy's | mean difference of the actions |",
        "|---|---|---|---|",
    ]
    for name, other in PAIRS.items():
        apart = np.abs(np.mean(found[name], axis=0) - np.mean(found[other], axis=0)).mean()
        cells = [" ".join(f"{v:.4f}" for v in lost[key]) for key in (name, other)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {apart:.3f} |")
    nothing = float((best - worth(np.zeros(len(GRID)))).mean())
    lines += [
        "",
        f"Mean of V* less the value of the learnt policy over {len(GRID)} starts; V* is {best.mean():.4f} in the mean, "
        f"never pushing loses {nothing:.4f}. {steps:,} transitions, {UPDATES:,} updates.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
