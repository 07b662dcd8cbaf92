"""A linear regression with dropout, fitted in two stages; as a script, it fits in processes that get killed.

Reads jobs from stdin, one a line: {"out": folder, ...options of `fit`} and one of "signal": [stage, step, number],
sent in that step, "replace": n, kill -9 before the n-th file is swapped in, "after_s": t, kill -9 after that time.
Each job is a process of its own. Prints how it ended: the exit code, negative for a signal.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from headrace.learn.checkpoint import join, part
from headrace.learn.loop import LoopConfig, fit_stage
from headrace.learn.optimise import Optimiser, OptimiserConfig
from headrace.learn.run import Run

BATCH = 8
STEPS = 5  # an epoch
EPOCHS = 3


class TinyLearner:
    """y = x w + noise, 40 rows to train, 16 to validate."""

    def __init__(self, optimiser: OptimiserConfig, seed=0, validation=(), poison=None):
        rng = np.random.default_rng(7)
        self.x = torch.from_numpy(rng.normal(size=(56, 4)).astype(np.float32))
        noise = torch.from_numpy(rng.normal(size=56).astype(np.float32))
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5, 0.0]) + 0.1 * noise
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.optimiser = Optimiser(self.net, optimiser)
        self.seen = 0
        self.told = list(validation)  # validation values to give instead of the measured ones
        self.validated = 0
        self.poison = poison  # the step whose loss is NaN
        self.orders = []
        self.before_step = lambda step: None

    def batches(self, seed):
        order = np.random.default_rng(seed).permutation(BATCH * STEPS)
        self.orders.append(order.tolist())
        for start in range(0, len(order), BATCH):
            yield order[start : start + BATCH]

    def loss(self, rows):
        return nn.functional.mse_loss(self.net(self.x[rows]).squeeze(1), self.y[rows])

    def step(self, batch):
        self.seen += 1
        self.before_step(self.seen)
        self.net.train()
        loss = self.loss(batch)
        if self.seen == self.poison:
            return {"squared": float("nan")}
        self.optimiser.minimise(loss)
        return {"squared": float(loss.detach())}

    @torch.no_grad()
    def validate(self):
        self.validated += 1
        if self.told:
            return {"squared": self.told[self.validated - 1]}
        self.net.eval()
        with self.optimiser.averaged():
            return {"squared": float(self.loss(slice(40, None)))}

    def state(self):
        tensors, values = self.optimiser.state()
        return join({"net": self.net.state_dict(), "optimiser": tensors}), {"seen": self.seen, "optimiser": values}

    def load(self, state):
        tensors, values = state
        self.net.load_state_dict(part(tensors, "net"))
        self.optimiser.load((part(tensors, "optimiser"), values["optimiser"]))
        self.seen = values["seen"]


def fit(out, resume=False, seed=0, before_step=lambda stage, step: None, every=3):
    """Two stages into a run; the second starts from the first one's weights and stops by patience."""
    run = Run.create(out, {"seed": seed, "every": every}, resume=resume, data="d0", split="s0")
    warm = TinyLearner(OptimiserConfig(0.05), seed)
    warm.before_step = lambda step: before_step("warm", step)
    fit_stage(warm, run, "warm", LoopConfig(EPOCHS, None, every, 2, seed))
    whole = TinyLearner(OptimiserConfig(0.02, schedule="cosine", total_steps=STEPS * EPOCHS, average=0.9), seed)
    whole.net.load_state_dict(warm.net.state_dict())
    whole.before_step = lambda step: before_step("fit", step)
    result = fit_stage(whole, run, "fit", LoopConfig(EPOCHS, 2, every, 2, seed))
    run.write_json("results.json", [{"metric": "squared", "value": result.best_value, "epoch": result.best_epoch}])
    run.seal()
    return whole


def contents(folder):
    """Every file of a run but the manifest, hidden ones too."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _child(job):
    options = {key: value for key, value in job.items() if key not in ("signal", "replace", "after_s")}
    if "signal" in job:
        stage, step, number = job["signal"]
        options["before_step"] = lambda *at: os.kill(os.getpid(), number) if at == (stage, step) else None
    if "replace" in job:
        left = job["replace"]
        replace = Path.replace

        def replace_or_die(self, target):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(self, target)

        Path.replace = replace_or_die
    fit(**options)


def _end(job):
    child = os.fork()
    if child == 0:
        try:
            _child(job)
        except SystemExit as stop:
            os._exit(stop.code)
        os._exit(0)
    if "after_s" in job:
        time.sleep(job["after_s"])
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    TinyLearner(OptimiserConfig()).step(slice(8))  # torch loads the rest of itself once, not in each process
    for line in sys.stdin:
        print(_end(json.loads(line)), flush=True)
