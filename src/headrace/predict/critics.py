"""The critics of RMTL: what the rest of a session will cost a task, Q(s_t, a_{k,t}) <= 0. Section 2.5.2, stage B.

The process: state = the row's features, action a_k = the prediction itself, reward (2) = minus the cross-entropy of the
prediction, next state = the next row of the session, whatever the action was. One bottom shared by the tasks reads the
features and the action, the latter through a layer of its own; each task has a tower; the output is -softplus.

Corrected (docs/rmtl.md): (13) and (14) print the mean of signed errors over tasks and rows, with a sign that moves Q
away from its target: here each task's squared error is taken row by row, the target without a gradient, terminal rows
masked; a negative ReLU as output can be born dead (Q = 0 for ever), so it is an option, not the default.

B rows, n rows of a part, K tasks.
"""

import copy
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.learn.checkpoint import State, join, part
from headrace.learn.optimise import Optimiser, OptimiserConfig
from headrace.learn.updates import soft_update, td_target
from headrace.nn.dropout import Dropout
from headrace.nn.experts import MLP
from headrace.predict.backbones import Sizes, Tower, inputs
from headrace.predict.features import Features
from headrace.predict.table import Table

Output = Literal["softplus", "relu"]


class Critic(nn.Module):
    """(B, C) ids, (B, F) numbers, (B, K) actions -> (B, K) values, none above 0."""

    def __init__(self, sizes: Sizes, features: Features, output: Output = "softplus"):
        super().__init__()
        first, second = sizes.bottom
        self.inputs = inputs(sizes, features)
        self.read_state = nn.Linear(self.inputs.width, first)
        self.embed_action = nn.Linear(1, first)  # the 1 x 128 layer of section 3.2
        self.read_action = nn.Linear(first, first, bias=False)  # beside the features: one layer on both, in two parts
        self.dropout = Dropout(sizes.dropout)
        self.bottom = MLP(first, [second], sizes.dropout)
        self.towers = nn.ModuleList(Tower(second, sizes) for _ in features.tasks)
        self.output = output

    def forward(self, ids: Tensor, numbers: Tensor, actions: Tensor) -> Tensor:
        state = self.read_state(self.inputs(ids, numbers))[:, None]  # (B, 1, D)
        action = self.read_action(F.relu(self.embed_action(actions[..., None])))  # (B, K, D)
        h = self.bottom(self.dropout(F.relu(state + action)))
        q = torch.stack([tower(h[:, k]) for k, tower in enumerate(self.towers)], dim=1)
        out: Tensor = -F.softplus(q) if self.output == "softplus" else -F.relu(q)
        return out


def rewards(logits: Tensor, labels: Tensor) -> Tensor:
    """(2): y log a + (1 - y) log(1 - a), (B, K) each, from log-odds of a."""
    return -F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def returns(reward: Tensor, position: Tensor, last: Tensor, gamma: float) -> Tensor:
    """(n, K) what a session still brings from each row on: G_t = r_t + gamma G_{t+1}, known once it is over.

    >>> r = torch.tensor([[1.0], [1.0], [1.0]])
    >>> returns(r, torch.tensor([0, 1, 0]), torch.tensor([False, True, True]), 0.5).ravel().tolist()
    [1.5, 1.0, 1.0]
    """
    found = reward.clone()
    order = torch.argsort(position, stable=True)
    for at in reversed(torch.split(order, torch.bincount(position).tolist())):
        going_on = at[~last[at]]
        found[going_on] += gamma * found[going_on + 1]
    return found


class Critics:
    """Critic, its slow target, and the optimiser; `update` is one step of semi-gradient temporal differences."""

    def __init__(self, critic: Critic, optimiser: OptimiserConfig, gamma: float, rate: float):
        """`rate` is beta of (18): the share of the way that the target goes at each step."""
        self.critic, self.target = critic, copy.deepcopy(critic)
        self.target.requires_grad_(False).eval()
        self.optimiser = Optimiser(critic, optimiser)
        self.gamma, self.rate = gamma, rate

    def update(self, table: Table, at: Tensor, actions: Tensor, next_actions: Tensor, reward: Tensor) -> Tensor:
        """(11), (12) and (18) at the rows `at`; the mean squared error. Actions and reward (B, K), no gradients."""
        after = table.next_of(at)
        with torch.no_grad():
            next_value = self.target(table.ids[after], table.numbers[after], next_actions)  # evaluation mode
        target = td_target(reward, next_value, table.last[at][:, None], self.gamma)
        self.critic.train()
        q = self.critic(table.ids[at], table.numbers[at], actions)
        known = table.known[at]
        error = (((q - target) * known).square().sum(dim=0) / known.sum(dim=0).clamp(min=1)).sum()
        self.optimiser.minimise(0.5 * error)
        soft_update(self.target, self.critic, self.rate)
        mean: Tensor = error.detach() / q.shape[1]
        return mean

    def state(self) -> State:
        moments, values = self.optimiser.state()
        held = {"critic": self.critic.state_dict(), "target": self.target.state_dict(), "optimiser": moments}
        return join(held), {"optimiser": values}

    def load(self, state: State) -> None:
        held, values = state
        self.critic.load_state_dict(part(held, "critic"))
        self.target.load_state_dict(part(held, "target"))
        self.optimiser.load((part(held, "optimiser"), values["optimiser"]))


class CriticLearner:
    """Stage B: the critics of a frozen actor, over whole sessions drawn from the replay.

    One session in ten of the training part is not learnt from and tells when to stop. The validation part's would not
    do: cut by the split, its sessions are shorter, and critics that say too little of the longer ones look best there.
    """

    def __init__(self, critics: Critics, train: Table, logits: Tensor, size: int):
        """`logits` (n, K): what the frozen actor says of the training rows, in evaluation mode."""
        self.critics, self.train, self.size = critics, train, size
        self.actions = logits.sigmoid()
        self.rewards = rewards(logits, train.labels) * train.known
        sessions = int(train.session[-1]) + 1
        held = np.zeros(sessions, dtype=np.bool_)
        held[np.random.default_rng(0).permutation(sessions)[: sessions // 10]] = True
        self.learnt = ~held
        watched = held if held.any() else self.learnt  # too few to hold any out
        self.watched = torch.from_numpy(np.flatnonzero(watched[train.session])).to(self.actions.device)
        self.brought = returns(self.rewards, train.position, train.last, critics.gamma)[self.watched]

    def batches(self, seed: int) -> Iterator[Tensor]:
        return self.train.session_batches(self.size, seed, self.learnt)

    def step(self, batch: Tensor) -> dict[str, float]:
        at = batch.to(self.actions.device)
        after = self.train.next_of(at)
        error = self.critics.update(self.train, at, self.actions[at], self.actions[after], self.rewards[at])
        return {"td_error": float(error)}

    def validate(self) -> dict[str, float]:
        """The mean squared distance of Q from what the sessions held out then brought, and the means of both."""
        q = values(self.critics.critic, self.train, self.actions)[self.watched]
        error = (q - self.brought).square().mean(dim=0)
        spread = self.brought.var(dim=0, unbiased=False).clamp(min=1e-12)
        told = {"return_mse": float(error.mean()), "return_r2": float((1 - error / spread).mean())}
        return told | {"q": float(q.mean()), "return": float(self.brought.mean())}

    def state(self) -> State:
        return self.critics.state()

    def load(self, state: State) -> None:
        self.critics.load(state)


@torch.no_grad()
def values(critic: Critic, table: Table, actions: Tensor, size: int = 8192) -> Tensor:
    """(n, K) the critic's values of a whole table, in evaluation mode."""
    critic.eval()
    parts = [critic(table.ids[at], table.numbers[at], actions[at]) for at in table.batches(size)]
    return torch.cat(parts)
