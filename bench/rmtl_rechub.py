"""Our PLE beside torch-rechub's on the same rows, features, optimiser and batches: do they agree, and which is faster?

    python bench/rmtl_rechub.py [--data FOLDER] [--share .25] [--seeds 5] --out docs/tables/rmtl-rechub.md

Puts torch-rechub into a throwaway folder (without its dependencies: torch is here), hands it the ids, numbers, bins and
labels that ours sees, and trains both by one plain loop: AdamW, the same batches, the epoch that is best on
validation. Theirs normalises batches and keeps the width of its experts from level to level; ours does neither.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from made_by import made_by
from sklearn.metrics import roc_auc_score

from headrace.evaluate.significance import over_seeds
from headrace.journeys.prepare import prepare as prepare_log
from headrace.journeys.splits import uniform_of_users
from headrace.journeys.store import Journeys, subset
from headrace.predict.backbones import Network, Sizes, inputs
from headrace.predict.rmtl import RMTLConfig, prepare
from headrace.predict.tasks import parents

PACKAGES = (["--no-deps", "torch-rechub==0.9.0"], ["--no-deps", "pandas", "python-dateutil", "pytz", "tzdata", "six"])


def fit(
    model: torch.nn.Module,
    given: dict[str, tuple[torch.Tensor, torch.Tensor]],
    labels: dict[str, torch.Tensor],
    seed: int,
    setting: dict[str, Any],
) -> tuple[np.ndarray, float]:
    """The loop of both, handed on as text: the best epoch of test predictions, processor seconds an epoch."""
    best: tuple[float, np.ndarray] | None = None
    seconds: list[float] = []
    optimiser = torch.optim.AdamW(model.parameters(), lr=setting["rate"], weight_decay=setting["decay"])
    for epoch in range(setting["epochs"]):
        started = time.process_time()
        model.train()
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(len(labels["train"])))
        for at in torch.split(order, setting["batch"]):
            p = model(*[t[at] for t in given["train"]]).clamp(1e-7, 1 - 1e-7)
            losses = (F.binary_cross_entropy(p[:, k], labels["train"][at, k]) for k in range(p.shape[1]))
            loss = sum(losses, torch.zeros(()))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        seconds.append(time.process_time() - started)
        model.eval()
        with torch.no_grad():
            p = {part: model(*given[part]) for part in ("validation", "test")}
        found = float(F.binary_cross_entropy(p["validation"].clamp(1e-7, 1 - 1e-7), labels["validation"]))
        if best is None or found < best[0]:
            best = found, p["test"].numpy()
    assert best is not None
    return best[1], float(np.median(seconds))


THEIRS = (
    "import time\nfrom typing import Any\nimport numpy as np, torch, torch.nn.functional as F\n"
    + inspect.getsource(fit)
    + """
import json, sys
from torch_rechub.basic.features import DenseFeature, SparseFeature
from torch_rechub.models.multi_task import PLE
held = np.load(sys.argv[1])
setting = json.loads(str(held["setting"]))
parts = ("train", "validation", "test")
given = {p: (torch.from_numpy(held[f"ids/{p}"]), torch.from_numpy(held[f"dense/{p}"])) for p in parts}
labels = {p: torch.from_numpy(held[f"labels/{p}"]) for p in parts}
names = [f"c{i}" for i in range(len(setting["cardinalities"]))]

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        features = [SparseFeature(n, c, setting["embedding"]) for n, c in zip(names, setting["cardinalities"])]
        features.append(DenseFeature("dense", given["train"][1].shape[1]))
        d = setting["dropout"]
        self.net = PLE(features, ["classification"] * 2, n_level=2, n_expert_specific=setting["each"],
                       n_expert_shared=setting["each"], expert_params={"dims": [setting["width"]], "dropout": d},
                       tower_params_list=[{"dims": setting["tower"], "dropout": d}] * 2)
    def forward(self, ids, dense):
        return self.net({**{n: ids[:, i] for i, n in enumerate(names)}, "dense": dense})

for seed in range(setting["seeds"]):
    torch.manual_seed(seed)
    model = Model()
    p, seconds = fit(model, given, labels, seed, setting)
    np.save(f"{sys.argv[2]}/{seed}.npy", p)
    weights = sum(w.numel() for w in model.parameters())
    print(json.dumps({"seed": seed, "seconds": seconds, "weights": weights}), flush=True)
"""
)


class Ours(torch.nn.Module):
    """Our network as one of probabilities."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, ids: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(ids, numbers)
        return logits.sigmoid()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error(f"--seeds {given.seeds}: expected 2 or more, the intervals are over seeds")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        journeys = prepare_log(given.data / "kuairand_pure", "kuairand-pure", scratch / "all")
        chosen = np.flatnonzero(uniform_of_users(journeys, 0, "bench") < given.share)
        journeys = subset(journeys, chosen, scratch / "share")
        text = measure(journeys, scratch, given.seeds, given.epochs)
    print(text)
    if given.out:
        told = made_by(
            f"python bench/rmtl_rechub.py --share {given.share} --seeds {given.seeds} --epochs {given.epochs}"
        )
        given.out.write_text(f"{text}\n\n{told}\n", encoding="utf-8")


def measure(journeys: Journeys, scratch: Path, seeds: int, epochs: int) -> str:
    config = RMTLConfig()
    prepared = prepare(journeys, journeys.split("time", 0), config, ("test",))
    features = prepared.features
    sizes = Sizes(config.width, config.experts, config.embedding, config.dropout)
    bins = inputs(sizes, features).bins
    setting: dict[str, Any] = {
        "rate": config.learning_rate,
        "decay": 1e-3,
        "epochs": epochs,
        "batch": config.batch_size,
        "seeds": seeds,
    }
    setting |= {"cardinalities": features.cardinalities, "embedding": config.embedding, "dropout": config.dropout}
    setting |= {"each": config.experts // 2, "width": config.width, "tower": list(sizes.tower)}
    arrays = {"setting": np.array(json.dumps(setting))}
    for part, held in prepared.parts.items():
        dense = torch.cat([held.numbers, bins(held.numbers)], dim=1)
        arrays |= {
            f"ids/{part}": held.ids.numpy(),
            f"dense/{part}": dense.numpy(),
            f"labels/{part}": held.labels.numpy(),
        }
    np.savez(scratch / "held.npz", **arrays)  # type: ignore[arg-type]
    library = scratch / "library"
    for packages in PACKAGES:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(library), *packages]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    (scratch / "theirs").mkdir()
    environment = os.environ | {"PYTHONPATH": str(library)}
    command = [sys.executable, "-c", THEIRS, str(scratch / "held.npz"), str(scratch / "theirs")]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    theirs = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    parts = prepared.parts
    found: dict[str, list[np.ndarray]] = {"ours": [], "theirs": []}
    seconds: list[float] = []
    weights = 0
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = Ours(Network("ple", sizes, features, parents(features.tasks)))
        weights = sum(w.numel() for w in model.parameters())
        rows = {p: (h.ids, h.numbers) for p, h in parts.items()}
        p, spent = fit(model, rows, {p: h.labels for p, h in parts.items()}, seed, setting)
        found["ours"].append(p)
        found["theirs"].append(np.load(scratch / "theirs" / f"{seed}.npy"))
        seconds.append(spent)
    labels = parts["test"].labels.numpy()
    lines = ["| test AUC, mean over seeds [95 %] | ours | torch-rechub | ours minus theirs |", "|---|---|---|---|"]
    for k, task in enumerate(features.tasks):
        aucs = {who: [roc_auc_score(labels[:, k], p[:, k]) for p in ps] for who, ps in found.items()}
        mean = {who: over_seeds(values) for who, values in aucs.items()}
        gap = over_seeds([a - b for a, b in zip(aucs["ours"], aucs["theirs"], strict=True)])
        cells = [f"{f.value:.4f} [{f.low:.4f}, {f.high:.4f}]" for f in (mean["ours"], mean["theirs"])]
        lines.append(f"| {task.name} | {cells[0]} | {cells[1]} | {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] |")
    n = len(parts["train"])
    ours, other = n / np.median(seconds), n / np.median([t["seconds"] for t in theirs])
    lines += ["", "| | weights | training rows a second of processor time |", "|---|---|---|"]
    lines += [f"| ours | {weights:,} | {ours:,.0f} |", f"| torch-rechub | {theirs[0]['weights']:,} | {other:,.0f} |"]
    return "\n".join(lines) + f"\n\n{n:,} training rows, {len(labels):,} test rows, {seeds} seeds, {epochs} epochs."


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
