"""DIN: what a step will bring given its candidate channel (Zhou et al., Deep Interest Network, KDD 2018).

    e_j  = embedding of a past step: its channel, context, gains and cost, and what was known of it before
    v_A  = embedding of the candidate: its channel, and what is known of the step
    v_U(A) = sum_j a(e_j, v_A) e_j      the local activation unit, its weights not softmaxed   (3)
    out  = MLP(concat(v_U(A), v_A, the user's profile and statistics [, the state of a pre-trained encoder]))

One MLP gives each candidate a score and the gains and cost it should bring. Softmax over the scores of all channels is
the policy, trained on the logged channel: DIN as a baseline of MTORL's Table 2. With a run of MTORL as `encoder` its
state at the step is read too, frozen or co-trained: MTORL's section 4.5.

Where this departs from the paper: steps hold channels, not goods; a(.) reads e, v and their elementwise product, where
Figure 2 draws the outer one; PReLU stands for Dice; weight decay for mini-batch aware regularisation, which is for
tables of many millions of ids. A candidate without a channel is the unknown one: the prediction before the decision.

B journeys, T steps, J past steps, C candidates, M channels, D width, H hidden width of the unit, R reward outputs,
n labelled steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.channel import fitting
from headrace.channel.base import NetworkMethod
from headrace.channel.columns import groups
from headrace.channel.encoder import described, description, open_encoder
from headrace.channel.fitting import FitConfig, reward_shares, tensors
from headrace.channel.heads import CONDITIONS, reward_loss, targets
from headrace.channel.mtorl import MTORL
from headrace.channel.mtorl import Network as EncoderNetwork
from headrace.errors import UserError
from headrace.journeys.scales import FIRST, UNKNOWN
from headrace.journeys.seams import History
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Categories, Transforms
from headrace.journeys.views import Batch, View
from headrace.learn.loop import LoopConfig, fit_stage
from headrace.learn.run import Run
from headrace.learn.space import Range, Space
from headrace.nn.dropout import Dropout
from headrace.nn.embed import Inputs


@dataclass(frozen=True, slots=True)
class DINConfig(FitConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    width: int = 16  # D, of candidates and past steps
    unit: int = 16  # H, hidden width of the local activation unit
    hidden: int = 64  # of the MLP's first layer; the second has half
    context_bins: int = 48
    action_weight: float = 1.0  # of the policy's cross-entropy beside the mean loss of the reward's conditionings
    encoder: str | None = None  # a run of mtorl on the same split, whose state the MLP reads too; None: none
    encoder_weights: Literal["pretrained", "random"] = "pretrained"  # random: the same net untrained, as a control
    co_train: bool = False  # whether the encoder learns too
    encoder_rate: float = 0.1  # its learning rate, as a share of the model's
    length: int | None = 50  # whole journeys cost their length squared
    categories: Categories = "embedded"
    learning_rate: float = 6e-3
    weight_decay: float = 1e-4
    batch_size: int = 32

    def __post_init__(self) -> None:
        FitConfig.__post_init__(self)
        self.at_least(1, "width", "unit")
        self.at_least(2, "hidden")
        self.at_least(0, "action_weight")
        if not self.encoder_rate > 0:
            raise UserError(f"din config: encoder_rate = {self.encoder_rate}, expected more than 0; change it")
        if self.co_train and self.encoder is None:
            raise UserError("din config: co_train = True and no encoder; name a run of mtorl with  encoder=RUN")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"width": 4, "unit": 4, "hidden": 8, "epochs": 2},
}

SPACE: Space = {
    "width": (8, 16, 32, 64),
    "unit": (16, 32, 64),
    "hidden": (32, 64, 128, 256),
    "dropout": (0.0, 0.1, 0.2, 0.5),
    "unknown": (0.1, 0.3, 0.5),
    "length": (10, 20, 50),
    "batch_size": (16, 32, 64, 128),
    "learning_rate": Range(5e-4, 1e-2, log=True),
    "weight_decay": (0.0, 1e-4, 1e-2),
}


class Read(NamedTuple):
    """What a batch's steps hold before any candidate is looked at."""

    step: Tensor  # (B, T, hidden) the MLP's first layer of all that is no candidate
    past: Tensor  # (B, T, D) e_j of the step before each
    reach: Tensor  # (B, T, T) which of them a step may read
    before: Tensor | None  # (B, T, 1, D) the candidate's part that every channel shares

    def at(self, steps: Tensor) -> "Read":
        """One step of each journey, (B,): the same with T = 1, but for the past."""
        rows = torch.arange(len(steps), device=steps.device)
        before = None if self.before is None else self.before[rows, steps][:, None]
        return Read(self.step[rows, steps][:, None], self.past, self.reach[rows, steps][:, None], before)


class Network(nn.Module):
    """Embeddings, local activation unit and MLP on the tensors of `Transforms.encode`."""

    def __init__(self, config: DINConfig, transforms: Transforms, encoder: EncoderNetwork | None = None):
        super().__init__()
        D, H, M = config.width, config.unit, len(transforms.channels)  # width, unit, channels
        self.groups, self.channels = groups(transforms), M
        self.targets = targets(transforms, config.reward_target)
        self.encoder, self.co_train = encoder, config.co_train
        if encoder is not None:
            encoder.requires_grad_(config.co_train)
        self.inputs = Inputs(transforms.cardinalities, transforms.width, config.unknown, transforms.knots)
        self.channel = nn.Embedding(FIRST + M, D)  # of past steps and candidates alike
        self.context = Inputs(
            transforms.context_cardinalities, transforms.context_width, knots=transforms.context_knots
        )
        self.read_context = nn.Linear(self.context.width, D) if self.context.width else None
        outcome, before = self.groups.outcome, self.groups.before
        self.outcome = Inputs(outcome.cardinalities(transforms), len(outcome.numbers))
        self.read_outcome = nn.Linear(self.outcome.width, D) if self.outcome.width else None
        self.before = Inputs(before.cardinalities(transforms), len(before.numbers))
        self.read_before = nn.Linear(self.before.width, D) if self.before.width else None
        self.unit_past = nn.Linear(D, H)
        self.unit_candidate = nn.Linear(D, H, bias=False)
        self.unit_product = nn.Linear(D, H, bias=False)
        self.unit_bend = nn.PReLU()
        self.unit_weight = nn.Linear(H, 1)
        state = 0 if encoder is None else encoder.embed.out_features
        self.read_step = nn.Linear(self.inputs.width + state, config.hidden)
        self.read_candidate = nn.Linear(2 * D, config.hidden, bias=False)
        self.layer = nn.Linear(config.hidden, config.hidden // 2)
        self.bends = nn.ModuleList(nn.PReLU() for _ in range(2))
        self.dropout = Dropout(config.dropout)
        self.out = nn.Linear(config.hidden // 2, 1 + sum(t.size for t in self.targets))

    def train(self, mode: bool = True) -> "Network":
        """A frozen encoder stays as it is served, without dropout."""
        super().train(mode)
        if self.encoder is not None and not self.co_train:
            self.encoder.eval()
        return self

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor, *encoded: Tensor) -> Read:
        """`encoded`: ids, numbers and mask once more, by the encoder's own transforms."""
        x = self.inputs(ids, numbers)
        if self.encoder is not None:
            x = torch.cat([x, self.encoder.represent(*encoded)], dim=-1)
        g = self.groups
        past = self.channel(ids[..., g.channel])
        if self.read_context is not None:
            past = past + self.read_context(self.context(*g.context.of(ids, numbers)))
        if self.read_outcome is not None:
            past = past + self.read_outcome(self.outcome(*g.outcome.of(ids, numbers)))
        before = None
        if self.read_before is not None:
            before = self.read_before(self.before(*g.before.of(ids, numbers)))
            past = past + F.pad(before, (0, 0, 1, -1))  # what was known of the step before when it was decided
            before = before[:, :, None]
        now = torch.arange(mask.shape[1], device=mask.device)
        there = mask & (ids[..., g.channel] >= FIRST)  # whether there was a step before
        reach = there[:, None] & (now <= now[:, None])  # step t reads what the step before it and earlier ones brought
        return Read(self.read_step(x), past, reach, before)

    def score(self, read: Read, candidate: Tensor, context: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, C, 1 + R): a score and the reward's outputs for candidate channels, ids (C,) or (B, T, C)."""
        B, T, D = len(read.step), read.step.shape[1], read.past.shape[-1]
        v = self.channel(candidate)  # (C, D) or (B, T, C, D)
        v = v.expand(B, 1, *v.shape) if v.dim() == 2 else v
        if read.before is not None:
            v = v + read.before
        if context is not None and self.read_context is not None:
            v = v + self.read_context(self.context(*context))[:, :, None]
        weights = self.activate(read.past, v) * read.reach[:, :, None]  # (B, T, C, J)
        user = (weights.flatten(1, 2) @ read.past).view(B, T, -1, D)  # equation (3)
        h = read.step[:, :, None] + self.read_candidate(torch.cat([user, v.expand_as(user)], dim=-1))
        h = self.dropout(self.bends[0](h))
        h = self.dropout(self.bends[1](self.layer(h)))
        out: Tensor = self.out(h)
        return out

    def activate(self, past: Tensor, v: Tensor) -> Tensor:
        """a(e_j, v_A), the local activation unit: past (B, J, D), v (B, S, C, D) -> (B, S, C, J), S being T or 1."""
        B, S, C, D = v.shape
        weight = self.unit_product.weight  # (H, D)
        product = (v[..., None, :] * weight).view(B, -1, D) @ past.transpose(1, 2)  # (B, S * C * H, J)
        h = product.view(B, S, C, len(weight), -1) + self.unit_candidate(v)[..., None]
        h = self.unit_bend(h + self.unit_past(past).transpose(1, 2)[:, None, None])  # (B, S, C, H, J)
        out: Tensor = torch.einsum("bschj,h->bscj", h, self.unit_weight.weight[0]) + self.unit_weight.bias
        return out

    def candidates(self) -> Tensor:
        """(M + 1,) ids of every channel, and of the unknown one behind them."""
        ids = [*range(FIRST, FIRST + self.channels), UNKNOWN]
        return torch.tensor(ids, device=self.channel.weight.device)


Encode = Callable[[History], tuple[Tensor, ...]]


class Learner(fitting.Learner[DINConfig, Network]):
    """The losses of both heads. `encode` is what the network reads of a history."""

    reading = 1  # the unit's memory grows with the length squared

    def __init__(
        self, network: Network, transforms: Transforms, encode: Encode, train: View, validation: View, config: DINConfig
    ):
        super().__init__(network, transforms, train, validation, config, {"encoder.": config.encoder_rate})
        self.encode = encode
        self.weights = reward_shares(network.targets, transforms, config)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The policy's cross-entropy and the reward's loss in three conditionings, means over labelled steps."""
        device = self.optimiser.device
        label, channel = torch.from_numpy(batch.label).to(device), torch.from_numpy(batch.channel).to(device)
        outputs = heads(self.network, self.transforms, self.encode(batch.history), batch)
        chosen = F.log_softmax(outputs["action"], dim=-1).gather(-1, channel[..., None])[..., 0]  # (B, T)
        policy = -(chosen * label).sum() / label.sum().clamp(min=1)
        parts = {"policy": policy}
        loss = self.config.action_weight * policy
        if self.network.targets:
            by_channel = outputs["reward_by_channel"]  # (B, T, M, R)
            place = channel[..., None, None].expand(*channel.shape, 1, by_channel.shape[-1])
            outputs["reward_by_channel"] = by_channel.gather(2, place)[:, :, 0]
            parts["reward"] = torch.stack(
                [
                    reward_loss(outputs[name], self.network.targets, batch, label, self.transforms, self.weights)
                    for name in CONDITIONS
                ]
            ).mean()
            loss = loss + parts["reward"]
        return {"loss": loss, **parts}


def heads(network: Network, transforms: Transforms, encoded: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
    """Every head at every step of a batch: action (B, T, M), by channel (B, T, M, R), the other rewards (B, T, R)."""
    read = network(*encoded)
    device = read.past.device
    channel = torch.from_numpy(batch.channel).to(device)[..., None] + FIRST
    context = tensors(transforms.encode_context(batch), device)[:2]
    every = network.score(read, network.candidates())
    return split_heads(every) | {"reward_in_context": network.score(read, channel, context)[:, :, 0, 1:]}


def split_heads(every: Tensor) -> dict[str, Tensor]:
    """The heads that need no context, of all candidates' outputs (..., M + 1, 1 + R)."""
    return {
        "action": every[..., :-1, 0],
        "reward": every[..., -1, 1:],
        "reward_by_channel": every[..., :-1, 1:],
    }


class DIN(NetworkMethod[DINConfig, Network]):
    """fit on a split's training steps; then predict, or give a policy."""

    name = "din"
    presets = PRESETS
    space = SPACE
    config_type = DINConfig
    learner = Learner

    def __init__(self, config: DINConfig | None = None):
        super().__init__(config)
        self.encoder: dict[str, Any] | None = None  # what describes it, as a run keeps it
        self.pretrained: dict[str, Tensor] | None = None  # the weights that it starts from
        self.encoder_transforms: Transforms | None = None

    def fit(self, journeys: Journeys, split: Split, run: Run | str | Path, progress: bool = True) -> Self:
        """As every method; with an encoder the run holds that too, and no longer needs its run."""
        encoder = self.check(journeys, split)
        if encoder is not None:
            assert encoder.network is not None
            self.encoder = description(encoder)
            self.pretrained = encoder.network.state_dict() if self.config.encoder_weights == "pretrained" else None
        return super().fit(journeys, split, run, progress)

    def new_network(self) -> Network:
        assert self.transforms is not None
        within = None
        if self.encoder is not None:
            self.encoder_transforms, within = described(self.encoder)
            if self.pretrained is not None:
                within.load_state_dict(self.pretrained)
        return Network(self.config, self.transforms, within)

    def fit_stages(self, run: Run, train: View, validation: View, loop: LoopConfig) -> Learner:
        transforms, network = self._fitted()
        if self.encoder is not None:
            run.write_json("encoder.json", self.encoder)
        learner = Learner(network, transforms, self.encode, train, validation, self.config)
        self.stage = fit_stage(learner, run, "train", loop)
        return learner

    def check(self, journeys: Journeys, split: Split | None = None) -> MTORL | None:
        """Raise UserError where the method cannot learn from a log, or its encoder not on a split; that encoder."""
        super().check(journeys, split)
        config = self.config
        if config.encoder is None or split is None:
            return None
        encoder = open_encoder(config.encoder, split, config.length, config.running)
        assert encoder.transforms is not None
        encoder.transforms.fits(journeys)
        return encoder

    def restore(self, run: Run) -> None:
        if self.config.encoder is not None:
            self.encoder = run.read_json("encoder.json")
        super().restore(run)

    def encode(self, history: History) -> tuple[Tensor, ...]:
        """What the network reads of a history: by its own transforms, then by the encoder's."""
        own = super().encode(history)
        if self.encoder_transforms is None:
            return own
        return (*own, *tensors(self.encoder_transforms.encode(history), self.device))

    def heads(
        self, encoded: tuple[Tensor, ...], at: tuple[Tensor, Tensor], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        transforms, network = self._fitted()
        if batch is not None:
            return {name: output[at] for name, output in heads(network, transforms, encoded, batch).items()}
        every = network.score(network(*encoded).at(at[1]), network.candidates())[:, 0]
        return split_heads(every)
