"""Bayesian optimisation of one set of fusion weights for everybody: a Gaussian process and an upper confidence bound.

    alpha_next = argmax  mu(alpha) + kappa sigma(alpha)     over random points and steps from the best one so far

The first point is the middle of the box, where the evolution strategy (es.py) starts, too: neither search is told what
the log did. The weights that are used in the end have the highest posterior mean among those that were tried: the
luckiest measurement is not the best one.

K weights.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from headrace.fuse.learner import PRESETS as SHARED
from headrace.fuse.learner import FuseConfig
from headrace.fuse.method import FuseMethod, Objective, Prepared
from headrace.fuse.policy import Act
from headrace.fuse.search import LogObjective
from headrace.fuse.state import Floats32
from headrace.journeys.seams import Floats
from headrace.learn.run import Run


@dataclass(frozen=True, slots=True)
class BOConfig(FuseConfig):
    """The search's own choices."""

    first: int = 12  # the middle and random points, before the process is trusted
    trials: int = 36  # in all
    kappa: float = 2.0  # standard deviations above the mean
    proposals: int = 2_000  # points among which the bound is maximised


PRESETS: dict[str, dict[str, Any]] = SHARED | {"tiny": SHARED["tiny"] | {"first": 3, "trials": 5, "proposals": 50}}


def static(action: Floats) -> Act:
    """The policy that gives every state this scaled action (K,)."""
    fixed = np.asarray(action, dtype=np.float32)

    def of(state: Floats32) -> Floats32:
        return np.tile(fixed, (len(state), 1))

    return of


def search(objective: Objective, size: int, config: BOConfig) -> tuple[Floats, Floats, Floats]:
    """The chosen scaled action (K,), the points tried (n, K) and what they were worth (n,)."""
    rng = np.random.default_rng([config.seed, 2])
    points = rng.uniform(-1, 1, (min(config.first, config.trials), size))
    points[0] = 0.0
    values = objective([static(p) for p in points])
    while len(points) < config.trials:
        process = _process(points, values, config.seed)
        near = points[np.argmax(process.predict(points))] + rng.normal(0, 0.2, (config.proposals // 2, size))
        wide = rng.uniform(-1, 1, (config.proposals - len(near), size))
        proposed = np.concatenate([np.clip(near, -1, 1), wide])
        mean, sd = process.predict(proposed, return_std=True)
        points = np.concatenate([points, proposed[[np.argmax(mean + config.kappa * sd)]]])
        values = np.append(values, objective([static(points[-1])]))
    best = np.argmax(_process(points, values, config.seed).predict(points))
    return points[best], points, values


def _process(points: Floats, values: Floats, seed: int) -> GaussianProcessRegressor:
    kernel = ConstantKernel(1.0) * Matern(2.0, (0.3, 20.0), nu=2.5) + WhiteKernel(0.05, (1e-4, 1.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: that axis does not matter
        return process.fit(points, values)


class BO(FuseMethod):
    """Static weights; learns from an objective, or from the log's own Q where none is handed in."""

    name = "bo"
    presets = PRESETS
    config_type = BOConfig

    def learn(self, ready: Prepared, run: Run, progress: bool, objective: Objective | None) -> None:
        c = self.config
        if objective is None:
            objective = LogObjective(ready.train, run, c, progress)
        chosen, points, values = search(objective, ready.actions.size, c)
        run.write_json("search.json", {"points": points.tolist(), "values": values.tolist()})
        run.write_weights("model.safetensors", {"action": torch.from_numpy(chosen)})
        self.act = static(chosen)

    def restore(self, run: Run, states: int) -> Act:
        return static(run.read_weights("model.safetensors")["action"].numpy())
