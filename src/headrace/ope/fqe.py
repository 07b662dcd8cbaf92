"""Fitted Q evaluation, plain and conservative: what a policy's sessions are worth, from logged transitions.

Le et al. 2019; Zhang et al. 2022 (9)-(11), Algorithm 2, the Conservative-OPEstimator, corrected:

    theta = argmin  alpha (E_{s, a ~ pi} Q - E_D Q)  +  1/2 E_D [Q(s, a) - y]^2
    y = r + gamma (1 - d) E_{a' ~ pi(s')} Qbar(s', a')
    V = mean over initial states of E_{a ~ pi} Q(s0, a)

minimised (printed: argmax), the target at s' (printed in Algorithm 2: s), masked where the episode terminated (not
printed), Qbar a slowly following copy (printed: the network in training), pi counted once in V (printed: sampled and
weighted). Added: Q's targets kept within what rewards can add up to, an ensemble, cross-fitting over users, a rule for
when the value has come to rest. The penalty drives Q at actions that the log never shows down without end; that is an
alarm, never a value (fitted.py).

n rows, N networks = folds x ensemble, B rows of a batch, k actions a row.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.seams import Integers
from headrace.learn import updates
from headrace.learn.optimise import Optimiser, OptimiserConfig
from headrace.learn.progress import Bar
from headrace.ope.fitted import FittedQ, Reach, Trace, error_of_members, reach, summary
from headrace.ope.q_net import QNets
from headrace.ope.rows import Rows
from headrace.ope.transitions import Choices, Transitions, cross_fit, returns


@dataclass(frozen=True, slots=True)
class FQEConfig:
    """How Q is fitted. The unit of `alpha` is the rewards' standard deviation where `scaled`, else the reward's own."""

    penalty: Literal["none", "policy", "logsumexp"] = "none"  # policy: right for one given policy; none: plain FQE
    alpha: float = 5e-4  # weight of the penalty
    gamma: float = 0.95  # discount
    hidden: tuple[int, ...] = (64, 64)  # widths of the layers; empty: linear in state x action, a table if both one-hot
    ensemble: int = 5  # networks a fold, each with its own start and batches
    resampled: bool = True  # each member is fitted on users drawn again: their spread is the fit's standard error
    folds: int = 2  # parts of the users, each valued by networks fitted on the others; 1: no cross-fitting
    learning_rate: float = 1e-3
    weight_decay: float = (
        0.0  # of the layers' weights (AdamW); where rows are few, what keeps Q from learning them by heart
    )
    batch: int = 128  # rows of an update
    target_rate: float = 0.01  # share of the way that the target network follows in an update; 1: a copy of the last Q
    average: float | None = 0.999  # decay of the averaged weights that values are read from; None: the last ones
    most_steps: int = 20_000  # updates at most
    check_every: int = 250  # updates between two looks at the value
    window: int = 4  # looks that are averaged and compared with as many before them
    tolerance: float = 0.005  # change of that average, in sizes of the logged return, at which the fit ends; 0: never
    ridge: float = 1e-8  # of the features' mean square, in the closed form alone
    initial_states: int = 5_000  # at most as many are looked at during the fit; the value is over all of them
    bounded: bool = True  # keep targets within what rewards can add up to
    rewards: tuple[float, float] | None = None  # least and most a step can bring; None: as logged
    horizon: int | None = None  # the longest an episode can be; None: no end, or as logged where gamma is 1
    scaled: bool = True  # fit rewards divided by their standard deviation
    seed: int = 0
    progress: bool = True  # a bar on stderr where that is a terminal

    def __post_init__(self) -> None:
        for name in ("ensemble", "folds", "batch", "most_steps", "check_every", "window", "initial_states"):
            if getattr(self, name) < 1:
                raise UserError(f"fqe config: {name} = {getattr(self, name)}, expected 1 or more; change it")
        if not 0 <= self.gamma <= 1:
            raise UserError(f"fqe config: gamma = {self.gamma}, expected between 0 and 1; change it")
        if self.weight_decay < 0:
            raise UserError(f"fqe config: weight_decay = {self.weight_decay}, expected 0 or more; change it")
        if self.alpha < 0:
            raise UserError(
                f"fqe config: alpha = {self.alpha}, expected 0 or more: a negative one would reward; change it"
            )
        if not 0 < self.target_rate <= 1:
            raise UserError(f"fqe config: target_rate = {self.target_rate}, expected above 0, at most 1; change it")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {  # Zhang et al. 2022, appendix A; it stops at K = 5,000 updates whether converged or not
        "penalty": "policy",
        "alpha": 5e-4,
        "gamma": 0.95,
        "batch": 512,
        "learning_rate": 1e-4,
        "most_steps": 5_000,
        "tolerance": 0.0,
        "initial_states": 5_000,
        "ensemble": 1,  # so no standard error
        "folds": 1,
        "target_rate": 1.0,
        "average": None,
        "bounded": False,
        "scaled": False,
    },
    "tiny": {"hidden": (16,), "ensemble": 2, "most_steps": 400, "check_every": 100, "window": 2},
}


def fit(of: Transitions, choices: Choices, config: FQEConfig) -> FittedQ:
    """Fit Q of the policy whose choices are given, by stochastic gradients; the same seed gives the same bits.

    Raises ValueError for the penalty `logsumexp` over sampled actions, of which it would say nothing, and UserError
    where no row can be fitted on.
    """
    if config.penalty == "logsumexp" and not choices.complete:
        raise ValueError("the penalty logsumexp needs every action of the row, and these are a sample; use policy")
    fold, train = cross_fit(of, config.folds, config.seed)
    spread = float(of.reward.std())
    rows = Rows(of, choices, spread if config.scaled and spread > 0 else 1.0)
    within = reach(of, config.gamma, config.rewards, config.horizon)
    shape = (len(train) * config.ensemble, of.state.shape[1], of.action.shape[1], config.hidden, config.seed)
    q_nets, target = QNets(*shape), QNets(*shape)
    q_nets.standardise(rows.state)
    updates.soft_update(target, q_nets, 1.0)
    optimiser = Optimiser(
        q_nets,
        OptimiserConfig(
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, clip=None, average=config.average
        ),
        plain="biases",
    )
    rng = np.random.default_rng([config.seed, 1])
    parts = _parts(of, train, config, rng)
    some_starts = _some_starts(of, fold, config.initial_states, rng)
    close = config.tolerance * float(np.sqrt(np.mean(returns(of, config.gamma) ** 2)))
    trace = Trace()
    with Bar("fqe", 1, config.progress) as bar:
        while trace.steps < config.most_steps and not trace.converged:
            updated = min(config.check_every, config.most_steps - trace.steps)
            loss = 0.0
            try:
                for batch in _batches(parts, config.batch, updated, rng):
                    loss += _update(q_nets, target, optimiser, rows, batch, within, config) / updated
            except FloatingPointError:  # the weights are left as they were before
                trace.diverged = True
                break
            with optimiser.averaged():
                _, v, _ = rows.values(q_nets, some_starts, config.ensemble)
            trace.add(updated, v.mean(axis=(0, 2)), loss)
            bar.step(1, trace.steps, {"value": float(v.mean()), "loss": loss})
            if trace.out_of_reach(within, 2 * config.window):
                break
            trace.converged = trace.at_rest(config.window, close)
    with optimiser.averaged():
        q, v, v_next = rows.everywhere(q_nets, fold, config.ensemble)
    fit_error = error_of_members(v[:, of.starts].mean(axis=1)) if config.resampled else None
    return summary(of, q, v, v_next, within, config.gamma, trace, fit_error)


def _update(
    q_nets: QNets, target: QNets, optimiser: Optimiser, rows: Rows, batch: Integers, within: Reach, config: FQEConfig
) -> float:
    """One step down for N networks, each on its own B rows, (N, B); the mean loss before it."""
    next_state, actions, weights = rows.after(batch)
    with torch.no_grad():
        next_value = updates.expected_value(target(next_state, actions), weights)  # (N, B)
        if config.bounded:
            next_value = next_value.clamp(within.low / rows.scale, within.high / rows.scale)
    at = torch.from_numpy(batch)
    y = updates.td_target(rows.reward[at], next_value, rows.terminated[at], config.gamma)
    if config.penalty == "none":
        q = q_nets(*rows.logged(batch))[..., 0]
        penalty = torch.zeros(len(batch))
    else:
        state, actions, weights = rows.here(batch)
        every = q_nets(state, actions)
        q, others = every[..., 0], every[..., 1:]
        if config.penalty == "policy":
            penalty = updates.policy_penalty(others, weights, q)
        else:
            penalty = updates.logsumexp_penalty(others, q)
    loss = updates.conservative_loss(q, y, penalty, config.alpha)  # (N,)
    optimiser.minimise(loss.sum())
    updates.soft_update(target, q_nets, config.target_rate)
    return float(loss.detach().mean())


def _parts(of: Transitions, train: list[Integers], config: FQEConfig, rng: np.random.Generator) -> list[Integers]:
    """For each of the N networks the rows it is fitted on, those of a user as often as its member drew the user.

    A member draws once for all folds, so that its value varies as that of one fit to one sample of users would.
    """
    if not config.resampled or config.ensemble == 1:
        return [rows for rows in train for _ in range(config.ensemble)]
    counts = rng.multinomial(of.groups, np.full(of.groups, 1 / of.groups), size=config.ensemble)  # (E, G)
    drawn = [np.repeat(rows, member[of.group[rows]]) for rows in train for member in counts]
    return [part if len(part) else train[i // config.ensemble] for i, part in enumerate(drawn)]


def _batches(parts: list[Integers], batch: int, updated: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(updates, N, B) rows drawn with replacement, for each network from its own part."""
    return np.stack([rows[rng.integers(len(rows), size=(updated, batch))] for rows in parts], axis=1)


def _some_starts(of: Transitions, fold: Integers, most: int, rng: np.random.Generator) -> Integers:
    """(F, B) initial rows, as many of each fold."""
    parts = [of.starts[fold[of.starts] == f] for f in range(int(fold.max()) + 1)]
    each = max(1, min(most // len(parts), min(len(part) for part in parts)))
    return np.stack([rng.choice(part, size=each, replace=False) for part in parts])
