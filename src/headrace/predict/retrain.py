"""Stages A and C of RMTL: the multi-task model on weighted cross-entropies, (7) and (17). B rows, K tasks.

    L = sum_k mean_B omega_k BCE(pi_k(s), y_k)

Stage A weighs all alike. Stage C goes on from it (or starts anew) with weights of one kind (weights.py), detached and
taken in evaluation mode. Every kind takes the same batches, the same dropout and the same number of steps.
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.learn.checkpoint import State, join, part
from headrace.learn.optimise import Optimiser, OptimiserConfig
from headrace.learn.updates import soft_update
from headrace.predict.backbones import Network
from headrace.predict.balance import BY_GRADIENT, SMOOTH, base_loss, kept_pace, products, shared, without_conflict
from headrace.predict.critics import Critics, rewards
from headrace.predict.table import Table
from headrace.predict.weights import BY_CRITIC, Weights, dwa, focal, from_values


class Weighted(nn.Module):
    """A network and the K learnt log-variances of uncertainty weighting, which other kinds leave alone."""

    def __init__(self, network: Network, tasks: int, uncertainty: bool):
        super().__init__()
        self.network = network
        self.log_variance = nn.Parameter(torch.zeros(tasks), requires_grad=uncertainty)


class MultiTask:
    """What the loop drives in stages A and C."""

    def __init__(
        self,
        network: Network,
        train: Table,
        validation: Table,
        optimiser: OptimiserConfig,
        batch_size: int,
        kind: Weights = "constant",
        lambda_: float = 0.7,
        decay: float = 0.95,
        critics: Critics | None = None,
        joint: bool = False,
        brought: Tensor | None = None,
    ):
        """`critics` for the kinds that need them, learning on if `joint`; `brought` (n, K): returns of the rows."""
        K = train.labels.shape[1]
        self.network, self.train, self.validation = network, train, validation
        self.kind, self.lambda_, self.decay, self.batch_size = kind, lambda_, decay, batch_size
        self.critics, self.brought = critics, brought
        if kind in BY_CRITIC and critics is None:
            raise ValueError(f"weights {kind} need critics")
        self.joint = critics is not None and (joint or kind == "ddpg")
        if critics is not None:
            critics.critic.requires_grad_(self.joint)
        self.target = copy.deepcopy(network).requires_grad_(False).eval() if self.joint else None
        self.module = Weighted(network, K, kind == "uncertainty").to(train.labels.device)
        self.optimiser = Optimiser(self.module, optimiser)
        self.losses = torch.zeros(4, K, dtype=torch.float64)  # sums of this epoch, steps; means of the last two
        self.base = base_loss(train.labels, train.known)  # (K,)
        self.pace = torch.stack([torch.ones_like(self.base), self.base])  # GradNorm's weights, and the losses smoothed
        self.shared: list[nn.Parameter] | None = None  # what all tasks read; looked up at the first step that asks

    def batches(self, seed: int) -> Iterator[Tensor]:
        return self.train.batches(self.batch_size, seed)

    def step(self, batch: Tensor) -> dict[str, float]:
        at = batch.to(self.train.labels.device)
        ids, numbers, labels, known = (
            t[at] for t in (self.train.ids, self.train.numbers, self.train.labels, self.train.known)
        )
        self.network.eval()
        omega = self.weights(at, ids, numbers, labels)  # (B, K) or (K,), before the draws of the step
        self.network.train()
        logits = self.network(ids, numbers)
        error = self._learn_on(at) if self.joint else None  # draws last: every kind has the same dropout
        losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none") * known
        number = known.sum(dim=0).clamp(min=1)
        plain = losses.sum(dim=0) / number
        if self.kind == "ddpg":
            assert self.critics is not None
            self.critics.critic.eval()
            loss = -self.critics.critic(ids, numbers, logits.sigmoid()).mean(dim=0).sum()  # minus J, cf. (15)
        elif self.kind == "uncertainty":
            spread = self.module.log_variance
            loss = (torch.exp(-spread) * plain + 0.5 * spread).sum()
        else:
            if self.kind in BY_GRADIENT:
                omega = self.balanced(plain, logits, known.any(dim=0))
            loss = ((omega * losses).sum(dim=0) / number).sum()
        loss = loss + self.network.penalty(logits)
        self.optimiser.minimise(loss)
        if self.target is not None and self.critics is not None:
            soft_update(self.target, self.network, self.critics.rate)
        told = plain.detach()
        self.losses[0] += told.double().cpu()
        self.losses[1] += 1
        found = {"loss": float(loss.detach()), "bce": float(told.mean()), "omega": float(omega.mean())}
        return found if error is None else found | {"td_error": error}

    @torch.no_grad()
    def weights(self, at: Tensor, ids: Tensor, numbers: Tensor, labels: Tensor) -> Tensor:
        """omega, (B, K) or (K,), without a gradient; the network is in evaluation mode."""
        kind, one = self.kind, torch.ones_like(labels)
        if kind == "decay":
            return one * self.decay ** self.train.position[at][:, None]
        if kind == "return":
            assert self.brought is not None
            return 1 - self.lambda_ * self.brought[at]
        if kind == "dwa":
            return dwa(self.losses[2], self.losses[3]).to(labels)
        if kind == "focal":
            return focal(self.network(ids, numbers).sigmoid(), labels)
        if kind not in BY_CRITIC or kind == "ddpg":
            return one
        assert self.critics is not None
        self.critics.critic.eval()
        q = self.critics.critic(ids, numbers, self.network(ids, numbers).sigmoid())
        order = np.random.default_rng(self.optimiser.steps).permutation(len(at))  # none of torch's draws: same dropout
        return from_values(kind, q, labels, self.lambda_, torch.from_numpy(order).to(at.device))

    def balanced(self, plain: Tensor, logits: Tensor, told: Tensor) -> Tensor:
        """omega, (K,), from the gradients of the tasks' losses (K,), of which those that the batch tells of count."""
        if self.shared is None:
            self.shared = shared(logits, self.network)
        gram = products(plain, self.shared)
        if self.kind == "pcgrad":
            return without_conflict(gram)
        weights, smoothed = self.pace
        now = torch.where(told, plain.detach(), smoothed)
        smoothed = SMOOTH * smoothed + (1 - SMOOTH) * now
        self.pace = torch.stack([kept_pace(weights, gram, smoothed / self.base), smoothed])
        return self.pace[0]

    def _learn_on(self, at: Tensor) -> float:
        """One step of the critics on the same rows, by the actor of now and its slow target."""
        assert self.critics is not None and self.target is not None
        after = self.train.next_of(at)
        self.network.eval()
        with torch.no_grad():
            logits = self.network(self.train.ids[at], self.train.numbers[at])
            then = self.target(self.train.ids[after], self.train.numbers[after]).sigmoid()
        reward = rewards(logits, self.train.labels[at]) * self.train.known[at]
        return float(self.critics.update(self.train, at, logits.sigmoid(), then, reward))

    def validate(self) -> dict[str, float]:
        """The plain cross-entropy of the validation rows, a mean over tasks and by task: the same for every kind."""
        self.losses = torch.stack(
            [
                *torch.zeros(2, self.losses.shape[1]).double(),
                self.losses[3],
                self.losses[0] / self.losses[1].clamp(min=1),
            ]
        )
        with self.optimiser.averaged():
            logits = predict(self.network, self.validation)
        held = self.validation.known
        losses = F.binary_cross_entropy_with_logits(logits, self.validation.labels, reduction="none") * held
        by_task = losses.double().sum(dim=0) / held.sum(dim=0).clamp(min=1)
        return {"bce": float(by_task.mean())} | {f"bce_{k}": float(v) for k, v in enumerate(by_task)}

    def state(self) -> State:
        moments, values = self.optimiser.state()
        held: dict[str, dict[str, Tensor]] = {
            "module": self.module.state_dict(),
            "optimiser": moments,
            "epochs": {"losses": self.losses, "pace": self.pace},
        }
        more: dict[str, object] = {}
        if self.joint and self.critics is not None and self.target is not None:
            tensors, more = self.critics.state()
            held |= {"critics": tensors, "slow": self.target.state_dict()}
        return join(held), {"optimiser": values, "critics": more}

    def load(self, state: State) -> None:
        held, values = state
        self.module.load_state_dict(part(held, "module"))
        self.optimiser.load((part(held, "optimiser"), values["optimiser"]))
        self.losses = part(held, "epochs")["losses"].clone()
        if "pace" in part(held, "epochs"):
            self.pace = part(held, "epochs")["pace"].to(self.pace.device, copy=True)
        if self.joint and self.critics is not None and self.target is not None:
            self.critics.load((part(held, "critics"), values["critics"]))
            self.target.load_state_dict(part(held, "slow"))

    def settle(self) -> None:
        """Have the network carry the averaged weights, which are the ones that were validated."""
        with self.optimiser.averaged():
            kept = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(kept)


@torch.no_grad()
def predict(network: Network, table: Table, size: int = 8192) -> Tensor:
    """(n, K) log-odds of a whole table, in evaluation mode."""
    network.eval()
    return torch.cat([network(table.ids[at], table.numbers[at]) for at in table.batches(size)])
