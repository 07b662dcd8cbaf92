"""MIREC: the channel of the largest predicted gain less its price of exposure (Xu et al., KDD 2023).

    max_x  mean_t sum_c v_tc x_tc     over x_tc >= 0,  sum_c x_tc = 1,  mean_t x_tc = rho_c          exposures as wanted
    D(l) = sum_c rho_c l_c + mean_t max_c (v_tc - l_c)        its dual, least at the prices of exposure
    c_t  = argmax_c (v_tc - l_c)                              the allocation, step by step, the prices held

v_tc is the gain that channel c is predicted to bring at step t, or the penalised reward (3) where that is taught: an
MLP on what is known before the decision, as behaviour cloning has it, and the reward head. rho is the share of
exposures that each channel is to have: as logged in training, or as the config says. The prices are solved on the
validation steps and then held, their mean over exposures zero: only their differences matter.

    D_tau(l) = sum_c rho_c l_c + tau mean_t log sum_c exp((v_tc - l_c) / tau)       smooth; D <= D_tau <= D + tau log M

is minimised for tau falling to 1e-4 of the gains' spread, so the prices found are within tau log M of the least D.

`action` is softmax((v - l) / unit), its temperature calibrated: how surely the log follows this rule, which imitates
nothing. Where this departs from the paper: it serves a stream, adjusting prices at each request, and lays out pages of
items; here a log is at hand and a step shows one channel.

B journeys, T steps, M channels, n labelled steps, H width of the MLP, D width of the reward head, R reward outputs.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor

from headrace.channel import fitting
from headrace.channel.supervised import SPACE as SHARED
from headrace.channel.supervised import (
    Learner,
    RewardHead,
    StateNetwork,
    Supervised,
    SupervisedConfig,
    inputs_of,
    targets_of,
)
from headrace.errors import UserError, unknown
from headrace.journeys.seams import Floats
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import View
from headrace.learn.loop import LoopConfig
from headrace.learn.run import Run
from headrace.learn.space import Space
from headrace.nn.dropout import Dropout
from headrace.nn.experts import MLP

SHARPEST = 1e-4  # tau of the last search, in spreads of the gains
SEARCHES = 9  # tau falls to it in as many


@dataclass(frozen=True, slots=True)
class MIRECConfig(SupervisedConfig):
    """Every choice of the method; `PRESETS` holds the ones we stand behind."""

    exposures: dict[str, float] | None = None  # rho by channel, those not named share the rest as logged; None: all do
    hidden: int = 64  # H
    layers: int = 2  # of the MLP
    reward_width: int = 64  # D
    reward_layers: int = 2
    action_weight: float = 0.0  # the policy follows from gains and prices: nothing else is fitted to it
    weight_decay: float = 0.3

    def __post_init__(self) -> None:
        SupervisedConfig.__post_init__(self)
        self.at_least(1, "hidden", "layers", "reward_width")
        self.at_least(0, "reward_layers")
        if self.action_weight:
            raise UserError(
                f"mirec config: action_weight = {self.action_weight}, expected 0: its policy follows from predicted "
                "gains, which an imitation would bend; for an imitation train  bc"
            )
        if self.reward_target == "onehot":
            raise UserError(
                "mirec config: reward_target = onehot, expected gain or penalised: its policy weighs each gain's own "
                "output; change it"
            )
        shares = self.exposures or {}
        if any(not 0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
            told = ", ".join(f"{name}:{share}" for name, share in shares.items())
            raise UserError(
                f"mirec config: exposures = {told}, expected shares of 0 or more, 1 in all or less; change them"
            )


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "tiny": {"hidden": 8, "layers": 1, "reward_width": 8, "reward_layers": 1, "epochs": 2},
}

SPACE: Space = {
    **SHARED,
    "hidden": (32, 64, 128, 256),
    "layers": (1, 2, 3),
    "reward_width": (32, 64, 128),
}


def prices_of(gains: NDArray[Any], shares: NDArray[Any]) -> Floats:
    """The prices at which each channel is chosen as often as it should be: gains (n, M), shares (M,) -> (M,).

    >>> prices_of(np.array([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]]), np.array([0.5, 0.5])).round(3)
    array([ 1., -1.])
    """
    v, rho = np.asarray(gains, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    prices = np.zeros(v.shape[1])
    spread = float((v - v.mean(axis=1, keepdims=True)).std()) if len(v) else 0.0
    if spread == 0:
        return prices
    v = v / spread

    def dual(at: Floats, tau: float) -> tuple[float, Floats]:
        z = (v - at) / tau
        top = logsumexp(z, axis=1, keepdims=True)
        return float(rho @ at + tau * top.mean()), rho - np.exp(z - top).mean(axis=0)

    for tau in np.geomspace(1.0, SHARPEST, SEARCHES):
        options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
        prices = minimize(dual, prices, (tau,), jac=True, method="L-BFGS-B", options=options).x
    found: Floats = spread * (prices - rho @ prices)
    return found


def shares_of(given: dict[str, float] | None, channels: tuple[str, ...], logged: Floats) -> Floats:
    """rho, (M,): as given, and what is left by how often the log shows the others.

    >>> shares_of({"a": 0.5}, ("a", "b", "c"), np.array([0.2, 0.2, 0.6]))
    array([0.5  , 0.125, 0.375])
    """
    if given is None:
        return np.asarray(logged / logged.sum())
    named = np.array([name in given for name in channels])
    shares = np.array([given.get(name, 0.0) for name in channels])
    rest = np.where(named, 0.0, logged)
    if named.all() or rest.sum() == 0:
        return np.asarray(shares / shares.sum())
    return np.asarray(shares + (1 - shares.sum()) * rest / rest.sum())


class Network(StateNetwork):
    """Gains of each channel, and the prices that are taken off them."""

    prices: Tensor
    unit: Tensor

    def __init__(self, config: MIRECConfig, transforms: Transforms):
        super().__init__()
        self.targets = targets_of(transforms, config)
        self.transforms = transforms
        self.inputs = inputs_of(transforms, config)
        self.dropped = Dropout(config.input_dropout)
        self.trunk = MLP(self.inputs.width, [config.hidden] * config.layers, config.dropout)
        width = config.hidden + self.inputs.width
        self.bring = RewardHead(transforms, config, width, config.reward_width, config.reward_layers)
        self.register_buffer("prices", torch.zeros(len(transforms.channels)))  # l
        self.register_buffer("unit", torch.ones(()))  # spread of gains less prices, so that one temperature suits all

    def forward(self, ids: Tensor, numbers: Tensor, mask: Tensor) -> Tensor:
        """(B, T, H + inputs): the trunk's last layer and what it read."""
        x = self.dropped(self.inputs(ids, numbers))
        return torch.cat([self.trunk(x), x], dim=-1)

    def action(self, state: Tensor) -> Tensor:
        return (self.gains(state) - self.prices) / self.unit

    def gains(self, state: Tensor) -> Tensor:
        """(..., M): the gains of the reward by their weights, or the penalised reward (3)."""
        outputs = dict(
            zip(
                (t.name for t in self.targets),
                torch.split(self.rewards(state), [t.size for t in self.targets], dim=-1),
                strict=True,
            )
        )
        if "penalised" in outputs:
            return outputs["penalised"][..., 0]
        kinds = {t.name: t.kind for t in self.targets}

        def expected(name: str) -> Tensor:
            raw = outputs[name][..., 0]
            if kinds[name] == "binary":
                return raw.sigmoid()
            scale = self.transforms.scales[name]
            return raw * scale.std + scale.mean

        return torch.stack([weight * expected(name) for name, weight in self.transforms.reward_weights.items()]).sum(0)


class MIREC(Supervised[MIRECConfig, Network]):
    """fit on a split's training steps, then the prices on its validation steps; then predict, or give a policy."""

    name = "mirec"
    presets = PRESETS
    space = SPACE
    config_type = MIRECConfig
    network_type = Network
    chooses_by: Literal["value", "policy"] = "policy"  # prices included
    epochs_tell = False  # prices come behind the last of them

    def check(self, journeys: Journeys, split: Split | None = None) -> object:
        super().check(journeys, split)
        schema = journeys.schema
        for name in self.config.exposures or {}:
            if name not in journeys.channels:
                raise unknown("channel", name, journeys.channels, "mirec config, exposures")
        reward = self.config.reward_weights or [g.name for g in schema.gains if g.known != "never"][:1]
        if not reward:
            raise UserError(f"mirec: schema {schema.name} has no gain known in time; name one with --reward GAIN")
        classes = [name for name in reward if schema.gain(name).kind == "classes"]
        if classes:
            raise UserError(
                f"mirec: {', '.join(classes)} has classes and no order, so a channel's gain has no size; name another "
                "gain with --reward"
            )
        return None

    def fit_stages(
        self, run: Run, train: View, validation: View, loop: LoopConfig
    ) -> fitting.Learner[MIRECConfig, Network]:
        learner = super().fit_stages(run, train, validation, loop)
        transforms, network = self._fitted()
        logged = np.bincount(np.asarray(train.journeys.channel)[train.labels], minlength=len(transforms.channels))
        shares = shares_of(self.config.exposures, transforms.channels, logged.astype(np.float64))
        with learner.optimiser.averaged():
            gains = self._gains(validation)
        prices = prices_of(gains, shares)
        worth = gains - prices
        spread = float((worth - worth.mean(axis=1, keepdims=True)).std()) if len(worth) else 0.0
        network.prices.copy_(torch.from_numpy(prices))
        network.unit.fill_(spread if spread > 0 else 1.0)
        run.write_json("prices.json", {"shares": shares.tolist(), "prices": prices.tolist(), "steps": len(gains)})
        return learner

    def _gains(self, steps: View) -> Floats:
        """(n, M) of the labelled steps."""
        network = self._fitted()[1]
        found = []
        network.eval()
        with torch.no_grad():
            for batch in steps.batches(Learner.reading * self.config.batch_size):
                label = torch.from_numpy(batch.label).to(self.device)
                found.append(network.gains(network(*self.encode(batch.history))[label]).cpu().numpy())
        return np.concatenate(found or [np.zeros((0, len(network.prices)))]).astype(np.float64)
