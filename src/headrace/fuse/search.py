"""What searches optimise where no world can be asked: Q of the policy that logged, at another policy's first actions.

Q is fitted to the log alone (the mean expectile, tau = .5: no action outside the log is asked about), and a policy is
worth E_{s0} Q(s0, pi(s0)): one step by it, then on as logged.
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch

from headrace.fuse.iql import IQLConfig, IQLLearner
from headrace.fuse.learner import FuseConfig, epochs
from headrace.fuse.policy import Act
from headrace.fuse.replay import Replay
from headrace.journeys.seams import Floats
from headrace.learn.loop import LoopConfig, fit_stage
from headrace.learn.run import Run
from headrace.ope.transitions import Transitions

STARTS = 4_000  # initial states that a policy is judged by, at most


class LogObjective:
    """Policies -> (P,) E Q(s0, pi(s0)) in the reward's unit."""

    def __init__(self, of: Transitions, run: Run, config: FuseConfig, progress: bool):
        """`config`: of the search, whose discount, widths, rates and updates the critics take."""
        shared = {f.name: getattr(config, f.name) for f in fields(FuseConfig)}
        self.learner = IQLLearner(Replay(of, config.replay), IQLConfig(**shared, tau=0.5))
        loop = LoopConfig(epochs=epochs(config), patience=None, seed=config.seed, progress=progress)
        fit_stage(self.learner, run, "objective", loop)
        starts = of.starts[:: -(-len(of.starts) // STARTS)]
        self.state = of.state[starts]

    @torch.no_grad()
    def __call__(self, policies: Sequence[Act]) -> Floats:
        state = torch.from_numpy(self.state)
        asked = [self.learner.point(torch.from_numpy(act(self.state))) for act in policies]
        values = [self.learner.q(state, action[:, None]).min(0).values for action in asked]
        return self.learner.replay.scale * np.array([float(v.mean()) for v in values])
