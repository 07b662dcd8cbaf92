"""Our BCQ, CQL+SAC, IQL and TD3+BC beside d3rlpy's, on a small continuous problem with a known optimum.

    python bench/fuse_d3rlpy.py --out docs/tables/fuse-d3rlpy.md

One-step episodes over two-dimensional states and actions; the reward is -(a - f(s))^2, f(s) = (s_1, -s_1) / 2; the log
acts by f(s) plus normal noise of sd .3. The regret of a policy is its mean squared distance from f. Makes a throwaway
environment with d3rlpy (it pins an old gymnasium), trains both on the same transitions with equal updates, and asks
that the regrets of ours and theirs agree to .05 and that both beat the log's own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
import torch
from made_by import made_by

from headrace.fuse.methods import METHODS
from headrace.fuse.replay import Replay
from headrace.ope.transitions import Transitions

NAMES = {"bcq": "BCQConfig", "cql-sac": "CQLConfig", "iql": "IQLConfig", "td3-bc": "TD3PlusBCConfig"}
ROWS, UPDATES, CLOSE = 5_000, 3_000, 0.05

THEIRS = """
import json, sys
import numpy as np, d3rlpy
held = np.load(sys.argv[1])
n = len(held["reward"])
data = d3rlpy.dataset.MDPDataset(held["state"], held["action"], held["reward"], np.ones(n))
found = {}
for name, kind in json.loads(sys.argv[2]).items():
    d3rlpy.seed(0)
    config = getattr(d3rlpy.algos, kind)(batch_size=256)
    made = config.create(device=False)
    steps = int(sys.argv[3])
    made.fit(data, n_steps=steps, n_steps_per_epoch=steps, show_progress=False,
             logger_adapter=d3rlpy.logging.NoopAdapterFactory())
    found[name] = made.predict(held["fresh"]).tolist()
print(json.dumps(found))
"""


def wanted(state: np.ndarray) -> np.ndarray:
    return np.stack([state[:, 0], -state[:, 0]], axis=1) / 2


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--python", type=Path, help="of an environment that holds d3rlpy; default: a new one")
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    rng = np.random.default_rng(0)
    state, fresh = (rng.uniform(-1, 1, (n, 2)).astype(np.float32) for n in (ROWS, 1_000))
    action = np.clip(wanted(state) + 0.3 * rng.standard_normal((ROWS, 2)), -1, 1).astype(np.float32)
    reward = -((action - wanted(state)) ** 2).sum(axis=1)
    one = np.ones(ROWS, dtype=np.bool_)
    of = Transitions(state, action, reward.astype(np.float64), 0 * state, one, ~one, one, np.arange(ROWS), ROWS)
    ours = {}
    for name in NAMES:
        kind = METHODS[name]
        learner = kind.learner_type(Replay(of), kind.config_type(hidden=(256, 256), target_every=1, target_rate=0.005))
        torch.manual_seed(0)
        for batch in learner.replay.batches(256, UPDATES, 0):
            learner.step(batch)
        ours[name] = learner.act(torch.from_numpy(fresh)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        python = given.python or environment(Path(folder) / "d3rlpy")
        held = Path(folder) / "log.npz"
        np.savez(held, state=state, action=action, reward=reward, fresh=fresh)
        words = [python, "-c", THEIRS, held, json.dumps(NAMES), str(UPDATES)]
        told = subprocess.run(words, check=True, capture_output=True, text=True)
    theirs = {name: np.array(a) for name, a in json.loads(told.stdout.splitlines()[-1]).items()}
    log = float(-reward.mean())
    lines = [
        f"The log's own regret: {log:.3f}.",
        "",
        "| method | headrace | d3rlpy | difference |",
        "|---|---|---|---|",
    ]
    worst = 0.0
    for name in NAMES:
        a, b = (float(((x[name] - wanted(fresh)) ** 2).sum(axis=1).mean()) for x in (ours, theirs))
        worst = max(worst, abs(a - b), a - log, b - log)
        lines.append(f"| {name} | {a:.4f} | {b:.4f} | {a - b:+.4f} |")
    print("\n".join(lines))
    if given.out:
        text = "\n".join(lines)
        given.out.write_text(f"{text}\n\n{made_by('python bench/fuse_d3rlpy.py')}\n", encoding="utf-8")
    if worst > CLOSE:
        sys.exit(f"regrets differ by {worst:.3f}, more than {CLOSE:g}, or are above the log's")


def environment(folder: Path) -> Path:
    """The interpreter of a new environment that holds d3rlpy."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "d3rlpy==2.8.1"], check=True)
    return python


if __name__ == "__main__":
    main()
