"""AG: a family of value functions, one for each price of money, and the best single policy for the budget (after Cai
et al., Marketing Budget Allocation with Offline Constrained Deep RL, WSDM 2023).

    max_pi E[gain]  subject to  E[cost] <= W        is a game: the Lagrangian's multiplier against the policy
    Q_l : values of (gain - lambda_l * cost) / k_l  the policy's best answer to each multiplier of a grid
    y_l = (gain - lambda_l cost) / k_l + gamma (1 - d) Qbar_l(s', argmax_a Q_l(s', a))
    L   = mean_l alpha E_s [log sum_a exp Q_l(s, a) - Q_l(s, a_logged)] + 1/2 E (Q_l(s, a_logged) - y_l)^2
          + 1/2 E (w^(s, a_logged) - w)^2           w^: the cost to be expected of each channel
    spend_l = mean over validation steps of w^(s, argmax_a Q_l(s, a))

The paper plays the mixture of a constant number of best answers; MTORL's Table 2 compares with the best single one, and
so does this: of the policies whose spend a step keeps to the budget, the one of the smallest multiplier, which gives up
least gain; where none keeps to it, the one that spends least. Q_l are learnt offline, so they carry CQL's penalty (the
paper's own constraint is not restated in MTORL's). k_l is the spread of the reward at lambda_l as a multiple of that at
s, so that no multiplier drowns the others; s, which is 0 unless the penalised reward is asked for, is one of the grid.
Without a cost the grid is one value function of the gain.

B journeys, T steps, M channels, L multipliers, n steps learnt from.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headrace.channel import fitting
from headrace.channel.base import NetworkMethod
from headrace.channel.fitting import tensors
from headrace.channel.policies import ScorePolicy
from headrace.channel.state import SPACE as SHARED
from headrace.channel.state import (
    Heads,
    Spread,
    ValueConfig,
    ahead,
    break_even,
    check_reward,
    ends_of,
    negative_log_likelihood,
    penalised,
    settled,
    taken,
    transitions,
)
from headrace.errors import UserError
from headrace.journeys.seams import Floats
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch, View
from headrace.learn.loop import LoopConfig, fit_stage
from headrace.learn.run import Run
from headrace.learn.space import Range, Space
from headrace.learn.updates import conservative_loss, fitted_q_loss, logsumexp_penalty, td_target

GRID = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # multiples of the break-even price


@dataclass(frozen=True, slots=True)
class AGConfig(ValueConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    multipliers: tuple[float, ...] | None = None  # the grid, reward per unit of cost; None: GRID break-even prices
    budget: float | None = None  # cost per step that the policy may spend; None: what the log spent on validation steps
    alpha: float = 1.0  # of the conservative penalty

    def __post_init__(self) -> None:
        ValueConfig.__post_init__(self)
        self.at_least(0, "alpha", "budget")
        if self.multipliers is not None and (not self.multipliers or min(self.multipliers) < 0):
            raise UserError(f"ag config: multipliers = {self.multipliers}, expected some of 0 or more; change it")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"width": 8, "tcn_layers": 1, "epochs": 2},
}

SPACE: Space = {
    "alpha": Range(0.01, 10.0, log=True),
    **SHARED,
}


class Network(nn.Module):
    """L value functions on one state, and the cost of each channel on a state of its own."""

    def __init__(self, config: AGConfig, transforms: Transforms):
        super().__init__()
        M = len(transforms.channels)
        self.multipliers = grid(config, transforms)
        self.shape = (len(self.multipliers), M)
        self.spread = Spread(transforms)
        self.values = Heads(config, transforms, len(self.multipliers) * M)
        self.cost = Heads(config, transforms, M) if transforms.schema.cost is not None else None

    def q(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """Q_1 .. Q_L, in units of their spreads: (L, B, T, M)."""
        found: Tensor = self.values(ids, numbers, mask).unflatten(-1, self.shape).movedim(-2, 0)
        return found


def grid(config: AGConfig, transforms: Transforms) -> tuple[float, ...]:
    """The multipliers, ascending; without a cost s alone, which multiplies nothing."""
    if transforms.schema.cost is None:
        return (transforms.penalty,)
    unit = break_even(transforms) or 1.0
    return tuple(sorted(set(config.multipliers or (transforms.penalty, *(unit * share for share in GRID)))))


class Learner(fitting.Learner[AGConfig, Network]):
    """The conservative loss of every value function, their mean, and the loss of the cost."""

    def __init__(self, network: Network, transforms: Transforms, train: View, validation: View, config: AGConfig):
        network.spread.learn(train, transforms)
        super().__init__(network, transforms, train, validation, config, target_rate=config.target_rate)
        self.ends = ends_of(train.journeys)
        self.multipliers = torch.tensor(network.multipliers, device=self.optimiser.device)[:, None, None]  # (L, 1, 1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The objective, its parts, and `policy`: how well softmax(mean_l Q_l) tells the logged channel."""
        config, network, device = self.config, self.network, self.optimiser.device
        of = transitions(batch, self.ends, self.transforms, device)
        inputs = tensors(self.transforms.encode(batch.history), device)
        q = network.q(*inputs)  # (L, B, T, M)
        policy = negative_log_likelihood(q.mean(0), of)
        if not of.learnt.any():
            return {"loss": 0.0 * q.sum(), "policy": policy}
        reward = penalised(of.reward, of.cost, self.multipliers, self.transforms) / network.spread(self.multipliers)
        y = self.targets(inputs, reward, of.terminated)
        data = of.chosen(q)  # (L, n)
        penalty = logsumexp_penalty(q[:, of.learnt], data)  # (L,)
        loss = conservative_loss(data, of.of(y), penalty, config.alpha).mean()
        parts = {"policy": policy, "penalty": penalty.mean()}
        if network.cost is not None and of.cost is not None:
            scale = self.transforms.scales["cost"]
            cost = of.of((of.cost - scale.mean) / scale.std)
            parts["cost"] = fitted_q_loss(of.chosen(network.cost(*inputs)), cost)
            loss = loss + parts["cost"]
        return {"loss": loss, **parts}

    def targets(self, inputs: tuple[Tensor, ...], reward: Tensor, terminated: Tensor) -> Tensor:
        """(L, B, T) y_l: the frozen value of the channel that the value function in training prefers."""
        assert self.target is not None
        with settled(self.network):
            value = taken(self.target.q(*inputs), self.network.q(*inputs).argmax(-1))
        return td_target(reward, ahead(value), terminated.expand(value.shape), self.config.gamma)


class AG(NetworkMethod[AGConfig, Network]):
    """fit on a split's training steps; then predict, or give the policy for the config's budget or another."""

    name = "ag"
    presets = PRESETS
    space = SPACE
    config_type = AGConfig
    learner = Learner
    predicts_gains = False
    epochs_tell = False  # of Q without the temperature that makes it a policy

    def __init__(self, config: AGConfig | None = None):
        super().__init__(config)
        self.spend: list[float] = []  # a validation step, by multiplier; none without a cost
        self.chosen = 0  # which multiplier

    def new_network(self) -> Network:
        assert self.transforms is not None
        return Network(self.config, self.transforms)

    def check(self, journeys: Journeys, split: Split | None = None) -> None:
        super().check(journeys, split)
        check_reward(self.name, journeys, self.config.reward_weights)

    def fit_stages(self, run: Run, train: View, validation: View, loop: LoopConfig) -> Learner:
        transforms, network = self._fitted()
        learner = Learner(network, transforms, train, validation, self.config)
        self.stage = fit_stage(learner, run, "train", loop)
        budget = self.config.budget
        if network.cost is not None:
            with learner.optimiser.averaged(), settled(network):
                spend, logged = self.spends(validation)
            budget = logged if budget is None else budget
            self.spend, self.chosen = spend.tolist(), best(spend.tolist(), budget)
        told = {"multipliers": network.multipliers, "spend": self.spend, "budget": budget, "chosen": self.chosen}
        run.write_json("multipliers.json", told)
        return learner

    def spends(self, steps: View) -> tuple[Floats, float]:
        """(L,) the expected cost a labelled step of each policy, and the mean cost that was logged."""
        transforms, network = self._fitted()
        assert network.cost is not None
        scale = transforms.scales["cost"]
        total, logged, n, told = np.zeros(len(network.multipliers)), 0.0, 0, 0
        for batch in steps.batches(self.learner.reading * self.config.batch_size):
            inputs = self.encode(batch.history)
            label = torch.from_numpy(batch.label).to(self.device)
            cost = network.cost(*inputs).expand(len(total), *label.shape, -1)
            expected = taken(cost, network.q(*inputs).argmax(-1))[:, label]  # (L, n)
            total += (expected.double().sum(-1) * scale.std).cpu().numpy() + scale.mean * expected.shape[-1]
            assert batch.cost is not None
            known = batch.cost[batch.label]
            logged, told = logged + float(np.nansum(known)), told + int((~np.isnan(known)).sum())
            n += expected.shape[-1]
        return total / max(n, 1), logged / max(told, 1)

    def policy_for(self, budget: float, stochastic: bool = False) -> ScorePolicy:
        """The best single policy for another budget, in cost per step; UserError where the log has no cost."""
        if not self.spend:
            raise UserError(f"ag: the run knows no cost, so a budget of {budget:g} a step means nothing; use policy()")
        other = copy.copy(self)
        other.chosen = best(self.spend, budget)
        return other.policy(stochastic)

    def nearest(self, multiplier: float) -> "AG":
        """The same fit with the value function of the nearest multiplier of its grid."""
        other = copy.copy(self)
        other.chosen = int(np.abs(np.array(self._fitted()[1].multipliers) - multiplier).argmin())
        return other

    def restore(self, run: Run) -> None:
        super().restore(run)
        told = run.read_json("multipliers.json")
        self.spend, self.chosen = told["spend"], told["chosen"]

    def heads(
        self, encoded: tuple[Tensor, ...], at: tuple[Tensor, Tensor], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        network = self._fitted()[1]
        unit = network.spread(torch.tensor(network.multipliers[self.chosen], device=self.device))
        q = unit * network.q(*encoded)[self.chosen][at]
        return {"action": q, "values": q}


def best(spend: list[float], budget: float) -> int:
    """Of ascending multipliers the first whose policy keeps to the budget; where none does, the one that spends least.

    >>> best([3.0, 2.0, 1.0], 2.5), best([3.0, 2.0, 1.0], 0.5)
    (1, 2)
    """
    within = [i for i, each in enumerate(spend) if each <= budget]
    return within[0] if within else int(np.argmin(spend))
