"""Our value-based channel methods and d3rlpy's on a chain of ten states whose optimal value is known: do both reach it?

    python bench/channel_d3rlpy.py [--seeds 5] --out docs/tables/channel-d3rlpy.md

Puts d3rlpy into a throwaway folder (without its dependencies: it pins an older gymnasium) and hands it the very
journeys that ours learn from, the state one-hot. Both learn with a discount of 0.9; the chain is that of the tests.
A second log shows a channel in one step of twenty: there CQL's penalty and BCQ's constraint have something to do, which
on the first log have nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from d3rlpy_folder import install
from made_by import made_by

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "channel"))
from chain import EXACT, GAMMA, LEFT, OFF, RIGHT, STATES, by_state, chain_log, optimal, whole

from headrace.channel.methods import METHODS
from headrace.journeys.store import Journeys

USERS, UPDATES = 300, 3_000
OURS: dict[str, dict[str, Any]] = {  # beside each the tests' way to fit a chain exactly
    "discrete-cql": {"alpha": 0.01},
    "discrete-iql": {"tau": 0.95, "beta": 30.0},
    "r-bcq": {"threshold": 0.02},
    "ag": {"alpha": 0.01},
}
EXACTLY = [("DiscreteCQL", {"alpha": 0.01}), ("DiscreteBCQ", {"action_flexibility": 0.02})]
SELDOM = 0.05  # share of the steps on the second log's third channel, which leads where `right` does
CAREFUL: dict[str, tuple[dict[str, Any], tuple[str, dict[str, Any]]]] = {  # ours, and d3rlpy's of the same kind
    "discrete-cql": ({"alpha": 1.0}, ("DiscreteCQL", {"alpha": 1.0})),
    "r-bcq": ({"threshold": 0.3}, ("DiscreteBCQ", {"action_flexibility": 0.3})),
}
THEIRS = """
import json, sys
import numpy as np, torch
import d3rlpy
from d3rlpy.algos import DiscreteBCQConfig, DiscreteCQLConfig
torch.set_num_threads(1)
held = np.load(sys.argv[1])
setting = json.loads(str(held["setting"]))
updates, seeds, gamma, channels = (setting[k] for k in ("updates", "seeds", "gamma", "channels"))
states = len(np.eye(10))
data = d3rlpy.dataset.MDPDataset(np.eye(states, dtype=np.float32)[held["state"]], held["action"][:, None],
                                 held["reward"][:, None].astype(np.float32), held["end"].astype(np.float32),
                                 action_space=d3rlpy.ActionSpace.DISCRETE, action_size=channels)
shared = dict(gamma=gamma, learning_rate=1e-3, batch_size=128, target_update_interval=50,
              encoder_factory=d3rlpy.models.VectorEncoderFactory([32, 32]))
kinds = {"DiscreteCQL": DiscreteCQLConfig, "DiscreteBCQ": DiscreteBCQConfig}
grid = np.eye(states, dtype=np.float32)
for name, own in setting["algos"]:
    for seed in range(seeds):
        d3rlpy.seed(seed)
        algo = kinds[name](n_critics=2, **own, **shared).create()
        algo.fit(data, n_steps=updates, n_steps_per_epoch=updates, show_progress=False, save_interval=10,
                 logger_adapter=d3rlpy.logging.NoopAdapterFactory())
        q = [algo.predict_value(grid, np.full(states, a)).tolist() for a in range(channels)]
        print(json.dumps({"name": name, "q": np.array(q).T.tolist(), "best": algo.predict(grid).tolist()}), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        journeys = chain_log(scratch / "journeys", USERS)
        found = theirs(journeys, scratch, given.seeds, EXACTLY)
        for name, changes in OURS.items():
            found[name] = [ours(journeys, name, changes, seed, scratch) for seed in range(given.seeds)]
            print(f"{name}: done", file=sys.stderr, flush=True)
        seldom = chain_log(scratch / "seldom", USERS, off=SELDOM)
        careful: dict[str, tuple[list[Found], list[Found]]] = {}
        for name, (changes, algo) in CAREFUL.items():
            held = [ours(seldom, name, changes, seed, scratch / "careful") for seed in range(given.seeds)]
            careful[name] = held, theirs(seldom, scratch, given.seeds, [algo])[f"d3rlpy {algo[0]}"]
            print(f"{name}, with care: done", file=sys.stderr, flush=True)
    text = table(found, journeys) + "\n\n" + with_care(careful, seldom)
    print(text)
    if given.out:
        given.out.write_text(f"{text}\n\n{made_by(f'python bench/channel_d3rlpy.py --seeds {given.seeds}')}\n", "utf-8")


Found = tuple[np.ndarray, np.ndarray]  # Q (10, 2), and the channel chosen in each state (10,)


def ours(journeys: Journeys, name: str, changes: dict[str, Any], seed: int, scratch: Path) -> Found:
    kind = METHODS[name]
    method = kind(kind.config_type(**(EXACT | changes | {"seed": seed})))
    method.fit(journeys, whole(journeys), scratch / f"{name}-{seed}", progress=False)
    said = method.predict(journeys, np.ones(journeys.n_steps, dtype=bool))
    assert said.values is not None
    q, policy = (by_state(journeys, said.rows, values) for values in (said.values, said.action))
    return q, policy.argmax(axis=1)


def theirs(
    journeys: Journeys, scratch: Path, seeds: int, algos: list[tuple[str, dict[str, Any]]]
) -> dict[str, list[Found]]:
    library = scratch / "library"
    if not library.exists():
        install(library)
    end = np.zeros(journeys.n_steps, dtype=bool)
    end[np.asarray(journeys.offsets)[1:] - 1] = True
    columns = {"state": journeys.column("feature/state"), "action": journeys.channel, "reward": journeys.gain("gain")}
    setting = json.dumps(
        {"updates": UPDATES, "seeds": seeds, "gamma": GAMMA, "algos": algos, "channels": len(journeys.channels)}
    )
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    np.savez(scratch / "held.npz", end=end, setting=np.array(setting), **arrays)  # type: ignore[arg-type]
    command = [sys.executable, "-c", THEIRS, str(scratch / "held.npz")]
    environment = os.environ | {"PYTHONPATH": str(library)}
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=scratch).stdout
    found: dict[str, list[Found]] = {}
    for line in (json.loads(line) for line in told.splitlines() if line.startswith('{"name"')):
        found.setdefault(f"d3rlpy {line['name']}", []).append((np.array(line["q"]), np.array(line["best"])))
    return found


def table(found: dict[str, list[Found]], journeys: Journeys) -> str:
    """Each method's distance from the optimum, and ours from d3rlpy's of the same kind."""
    best = optimal()
    clear = np.abs(best[:, LEFT] - best[:, RIGHT]) > 0.05
    mean = {name: np.mean([q for q, _ in runs], axis=0) for name, runs in found.items()}
    pairs = {"discrete-cql": "d3rlpy DiscreteCQL", "r-bcq": "d3rlpy DiscreteBCQ"}
    lines = [
        "| method | largest error of Q, seed by seed | of the seeds' mean | optimal channel | mean Q less d3rlpy's |"
    ]
    lines.append("|---|---|---|---|---|")
    for name, runs in found.items():
        errors = " ".join(f"{np.abs(q - best).max():.3f}" for q, _ in runs)
        right = [int((chosen == best.argmax(axis=1))[clear].sum()) for _, chosen in runs]
        gap = "" if name not in pairs else f"at most {np.abs(mean[name] - mean[pairs[name]]).max():.3f}"
        chosen = f"{min(right)} of {clear.sum()} states in every seed"
        lines.append(f"| {name} | {errors} | {np.abs(mean[name] - best).max():.3f} | {chosen} | {gap} |")
    bias = np.abs(optimal(tau=OURS["discrete-iql"]["tau"]) - best).max()
    seeds = len(next(iter(found.values())))
    lines += [
        "",
        f"{seeds} seeds, {journeys.n_steps:,} steps of {journeys.n_users} journeys by a random policy, {STATES} "
        f"states, discount {GAMMA}; Q* runs from {best.min():.2f} to {best.max():.2f}. The state whose two channels "
        "are worth within 0.05 of each other is not asked for its channel. discrete-iql is to find the expectile of "
        f".95, which is {bias:.3f} from Q* at most.",
    ]
    return "\n".join(lines)


def with_care(careful: dict[str, tuple[list[Found], list[Found]]], journeys: Journeys) -> str:
    """What each does about the channel that is seldom shown, beside d3rlpy's: how far below its equal it is valued, and
    where it is chosen."""
    lines = ["| method | Q of the seldom channel less that of its equal | d3rlpy's | it is chosen in | d3rlpy's |"]
    lines.append("|---|---|---|---|---|")
    for name, (mine, his) in careful.items():
        gaps = [[float(np.mean(q[:, OFF] - q[:, RIGHT])) for q, _ in runs] for runs in (mine, his)]
        below = [" ".join(f"{gap:+.3f}" if np.isfinite(gap) else "-" for gap in of) for of in gaps]
        chosen = [" ".join(str(int((best == OFF).sum())) for _, best in runs) for runs in (mine, his)]
        changes = ", ".join(f"{k} {v:g}" for k, v in CAREFUL[name][0].items())
        lines.append(f"| {name}, {changes} | {below[0]} | {below[1]} | {chosen[0]} | {chosen[1]} |")
    share = float((np.asarray(journeys.channel) == OFF).mean())
    lines += [
        "",
        f"A third channel leads where `right` does, in {share:.1%} of the steps; means over the {STATES} states, seed "
        f"by seed, -: ruled out; and the number of states, of {STATES}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
