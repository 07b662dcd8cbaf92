"""What the learners of fusion policies share: twin critics, target copies, batches, the state that resumes a fit.

A method adds its networks and its `step`, which reads from the target to the update, and says what its policy does.

B rows, S state features, K action coordinates.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headrace.errors import UserError
from headrace.fuse.actions import Form, point
from headrace.fuse.fusion import Kind
from headrace.fuse.replay import Batch, Replay
from headrace.learn import updates
from headrace.learn.checkpoint import State, join, part
from headrace.learn.optimise import Optimiser, OptimiserConfig
from headrace.ope.q_net import QNets

Emphasis = Literal["none", "time", "integrity", "interaction"]
Bound = tuple[str, Callable[[float], bool]]
COUNT: Bound = ("1 or more", lambda v: v >= 1)
TWO: Bound = ("2 or more", lambda v: v >= 2)
ABOVE: Bound = ("more than 0", lambda v: v > 0)
FROM_ZERO: Bound = ("0 or more", lambda v: v >= 0)
SHARE: Bound = ("0 or more and less than 1", lambda v: 0 <= v < 1)
BOUNDS: dict[str, Bound] = {  # of the fields of every method's config, by name
    **dict.fromkeys(("videos", "updates", "batch", "replay", "target_every", "samples", "latent", "delay"), COUNT),
    **dict.fromkeys(("first", "trials", "views", "generations"), COUNT),
    **dict.fromkeys(("passes", "proposals"), TWO),
    "members": ("an even number, 2 or more", lambda v: v >= 2 and v % 2 == 0),
    **dict.fromkeys(("critic_rate", "actor_rate", "vae_rate", "emphasis_factor", "sd", "rate", "most"), ABOVE),
    **dict.fromkeys(("rho", "kl_weight", "noise", "clip", "alpha", "beta", "entropy", "kappa", "eta"), FROM_ZERO),
    "saturation": FROM_ZERO,
    **dict.fromkeys(("gamma", "dropout"), SHARE),
    "target_rate": ("more than 0 and at most 1", lambda v: 0 < v <= 1),
    "lower": ("between 0 and 1", lambda v: 0 <= v <= 1),
    "tau": ("between 0 and 1, neither of them", lambda v: 0 < v < 1),
}


@dataclass(frozen=True, slots=True)
class FuseConfig:
    """What every method of this room is told."""

    reward_weights: dict[str, float] | None = None  # of the gains; None: fitted on the training part (affinity)
    emphasis: Emphasis = "none"  # a group of behaviours whose weights count `emphasis_factor` times
    emphasis_factor: float = 3.0
    form: Form = "box"  # of the actions
    fusion: Kind = "log-sum"
    videos: int = 500  # the past that the state counts over
    gamma: float = 0.95  # discount
    hidden: tuple[int, ...] = (64, 64)  # widths of all networks
    updates: int = 30_000  # in whole epochs of 500, if there are more
    batch: int = 256
    replay: int = 100_000  # transitions kept, the last ones
    critic_rate: float = 1e-3  # learning rates
    actor_rate: float = 3e-4
    target_rate: float = 0.05  # share of the way that target networks follow
    target_every: int = 10  # updates between two such moves
    seed: int = 0

    def __post_init__(self) -> None:
        for f in fields(self):
            value, bound = getattr(self, f.name), BOUNDS.get(f.name)
            if bound is not None and value is not None and not bound[1](value):
                raise UserError(f"fuse config: {f.name} = {value}, expected {bound[0]}; change it")
        if any(width < 1 for width in self.hidden):
            raise UserError(f"fuse config: hidden = {self.hidden}, expected widths of 1 or more; change it")
        if self.reward_weights is not None and not any(self.reward_weights.values()):
            raise UserError(
                f"fuse config: reward_weights = {self.reward_weights}, expected one that is not 0; change it"
            )
        if self.reward_weights is not None and self.emphasis != "none":
            raise UserError(
                f"fuse config: emphasis = {self.emphasis} multiplies reward weights that are fitted, and these are "
                "given; leave one of the two out"
            )


EPOCH = 500  # updates between two looks at Q


def epochs(config: FuseConfig) -> int:
    """How many epochs of the loop a fit takes."""
    return -(-config.updates // EPOCH)


PAPER = {  # Zhang et al. 2022, 4.2; widths are not printed
    "updates": 300_000,
    "critic_rate": 2e-4,
    "actor_rate": 1e-4,
    "hidden": (256, 256),
}
QUICK = {"updates": 3_000, "batch": 128, "target_every": 2}  # for benches on a busy machine
TINY = {"updates": 40, "hidden": (16,), "batch": 32, "videos": 20}
PRESETS: dict[str, dict[str, Any]] = {"default": {}, "paper": PAPER, "quick": QUICK, "tiny": TINY}


class Learner(ABC):
    """Twin critics with their slow copy, and what a method adds with `add`."""

    def __init__(self, replay: Replay, config: Any, seed: int | None = None):
        self.replay, self.config = replay, config
        self.states, self.size = replay.state.shape[1], replay.action.shape[1]  # S, K
        self.nets: dict[str, nn.Module] = {}
        self.optimisers: dict[str, Optimiser] = {}
        self.updated = 0
        chosen = config.seed if seed is None else seed
        self.critic = self.new_critic(chosen)
        self.critic_target = self.new_critic(chosen)
        with torch.random.fork_rng([]):
            torch.manual_seed(chosen)
            self.build()
        self.add("critic", self.critic, config.critic_rate)
        self.nets["critic_target"] = self.critic_target

    def new_critic(self, seed: int) -> QNets:
        return QNets(2, self.states, self.size, self.config.hidden, seed)

    @abstractmethod
    def build(self) -> None:
        """Make the method's own networks; torch's generator stands at the config's seed."""

    @abstractmethod
    def step(self, batch: Batch) -> dict[str, float]:
        """One update of all networks; the losses by name."""

    @abstractmethod
    def act(self, state: Tensor) -> Tensor:
        """(B, S) -> (B, K) what the policy does, without noise."""

    def add(self, name: str, net: nn.Module, rate: float) -> Any:
        """Have a network optimised at this rate."""
        self.nets[name] = net
        self.optimisers[name] = Optimiser(net, OptimiserConfig(learning_rate=rate, weight_decay=0.0, clip=10.0))
        return net

    def point(self, action: Tensor) -> Tensor:
        """(..., K) the points of the action space that numbers stand for: all that is perturbed or drawn goes here."""
        return point(action, self.config.form)

    def q(self, state: Tensor, action: Tensor, target: bool = False) -> Tensor:
        """Both critics: (B, S), (B, k, K) points of the action space -> (2, B, k)."""
        critic = self.critic_target if target else self.critic
        out: Tensor = critic(state.expand(2, *state.shape), action.expand(2, *action.shape))
        return out

    def fit_critics(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """One step of both critics towards `target` (B,); their loss and mean Q before it."""
        q = self.q(batch.state, batch.action[:, None])[..., 0]  # (2, B)
        loss = updates.fitted_q_loss(q, target)
        self.optimisers["critic"].minimise(loss.sum())
        return loss.detach().mean(), q.detach().mean()

    def follow(self, *pairs: tuple[nn.Module, nn.Module]) -> None:
        """Every `target_every` updates, move the target copies towards their networks."""
        self.updated += 1
        if self.updated % self.config.target_every == 0:
            for slow, net in ((self.critic_target, self.critic), *pairs):
                updates.soft_update(slow, net, self.config.target_rate)

    def batches(self, seed: int) -> Iterator[Batch]:
        return self.replay.batches(self.config.batch, min(EPOCH, self.config.updates), seed)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Q at the policy's actions and its spread over twins and states (figure 5), in the reward's unit."""
        at = torch.arange(0, len(self.replay), max(1, len(self.replay) // 2_000))
        state = self.replay.state[at]
        action = self.act(state)
        q = self.replay.scale * self.q(state, action[:, None])[..., 0]
        logged = self.replay.scale * self.q(state, self.replay.action[at][:, None])[..., 0]
        return {
            "q": float(q.mean()),
            "q_spread": float(q.std()),
            "q_logged": float(logged.mean()),
            "action_size": float(action.abs().mean()),
        } | self.diagnose(state)

    def diagnose(self, state: Tensor) -> dict[str, float]:
        """What else is told of the policy at these states (B, S)."""
        return {}

    def state(self) -> State:
        tensors = {name: net.state_dict() for name, net in self.nets.items()}
        values: dict[str, Any] = {"updated": self.updated}
        for name, optimiser in self.optimisers.items():
            moments, counts = optimiser.state()
            tensors[f"of-{name}"] = moments
            values[name] = counts
        return join(tensors), values

    def load(self, state: State) -> None:
        held, values = state
        self.updated = values["updated"]
        for name, net in self.nets.items():
            net.load_state_dict(part(held, name))
        for name, optimiser in self.optimisers.items():
            optimiser.load((part(held, f"of-{name}"), values[name]))


def dead(before: Tensor) -> float:
    """The share of outputs that are beyond learning: what stands before tanh leaves less than 1 % of its gradient."""
    return float((torch.tanh(before).square() > 0.99).float().mean())


def copy_of(net: nn.Module) -> nn.Module:
    """A target network: the same weights, no gradients."""
    twin = copy.deepcopy(net)
    for weight in twin.parameters():
        weight.requires_grad_(False)
    return twin


def best_of(q: Tensor, actions: Tensor) -> Tensor:
    """(B, k), (B, k, K) -> (B, K) the action of the largest Q."""
    at = q.argmax(dim=1)
    return actions[torch.arange(len(at)), at]
