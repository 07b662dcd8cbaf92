"""Evolution strategy: a small personalised net, moved along the natural gradient of a search distribution.

    theta ~ N(mu, sd^2 I);   mu += rate * sd * sum_i u_i e_i        u ranks' utilities (Wierstra et al. 2014)

mu starts at nought, the middle of the box for everybody, as Bayesian optimisation does (bo.py): at the mean of the
logged weights, which were explored around what that found, it would go on from where that ended. The net is linear in a
few fixed random views of the state and a constant, clipped to the box, so that a few dozen measurements a generation
can move it: P numbers, not thousands.

K weights, V views, P = (V + 1) K parameters, M members.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headrace.fuse.learner import PRESETS as SHARED
from headrace.fuse.learner import FuseConfig
from headrace.fuse.method import FuseMethod, Objective, Prepared
from headrace.fuse.policy import Act
from headrace.fuse.search import LogObjective
from headrace.fuse.state import Floats32
from headrace.journeys.seams import Floats
from headrace.learn.run import Run


@dataclass(frozen=True, slots=True)
class ESConfig(FuseConfig):
    """The search's own choices."""

    views: int = 6  # V
    generations: int = 12
    members: int = 24  # M, in mirrored pairs
    sd: float = 0.2  # of the search distribution
    rate: float = 1.0  # of the step, 1 being the natural gradient's own


PRESETS: dict[str, dict[str, Any]] = SHARED | {"tiny": SHARED["tiny"] | {"views": 2, "generations": 2, "members": 4}}


def utilities(values: Floats) -> Floats:
    """(M,) by rank alone, adding up to 0: no outlier decides.

    >>> utilities(np.array([3.0, 1.0, 2.0])).round(2).tolist()
    [0.47, -0.33, -0.14]
    """
    m = len(values)
    rank = np.argsort(np.argsort(-values, kind="stable"))
    raw = np.maximum(0.0, np.log(m / 2 + 1) - np.log(rank + 1))
    return np.asarray(raw / raw.sum() - 1 / m)


def net(parameters: Floats, views: Floats) -> Act:
    """The policy of parameters (P,) over states seen through `views` (S, V)."""
    v = views.shape[1]
    table = parameters.reshape(v + 1, -1)

    def of(state: Floats32) -> Floats32:
        seen = np.tanh(state @ views)
        return np.clip(seen @ table[:v] + table[v], -1.0, 1.0).astype(np.float32)

    return of


def search(objective: Objective, views: Floats, size: int, config: ESConfig) -> tuple[Floats, list[float]]:
    """The parameters (P,) where the distribution ends, and each generation's mean worth."""
    rng = np.random.default_rng([config.seed, 3])
    v = views.shape[1]
    mean = np.zeros((v + 1) * size)
    history = []
    for _ in range(config.generations):
        half = rng.standard_normal((config.members // 2, len(mean)))
        luck = np.concatenate([half, -half])
        values = objective([net(mean + config.sd * e, views) for e in luck])
        mean = mean + config.rate * config.sd * utilities(values) @ luck
        history.append(float(values.mean()))
    return mean, history


class ES(FuseMethod):
    """Personalised weights; learns from an objective, or from the log's own Q where none is handed in."""

    name = "es"
    presets = PRESETS
    config_type = ESConfig

    def learn(self, ready: Prepared, run: Run, progress: bool, objective: Objective | None) -> None:
        c = self.config
        if objective is None:
            objective = LogObjective(ready.train, run, c, progress)
        states = ready.states.shape[1]
        views = np.random.default_rng([c.seed, 4]).standard_normal((states, c.views)) / np.sqrt(states)
        found, history = search(objective, views, ready.actions.size, c)
        run.write_json("search.json", {"history": history})
        weights = {"parameters": torch.from_numpy(found), "views": torch.from_numpy(views)}
        run.write_weights("model.safetensors", weights)
        self.act = net(found, views)

    def restore(self, run: Run, states: int) -> Act:
        held = run.read_weights("model.safetensors")
        return net(held["parameters"].numpy(), held["views"].numpy())
