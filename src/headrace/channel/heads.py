"""The reward heads that channel methods share: what is predicted, its loss, and its way back to the log's units.

B journeys, T steps, M channels, n labelled steps.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax
from torch import Tensor

from headrace.channel.predictions import Predictions
from headrace.evaluate.calibrate import Line, fit_line, fit_mean, fit_temperature
from headrace.journeys.seams import Floats
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import Batch

CONDITIONS = ("reward", "reward_by_channel", "reward_in_context")  # what each may see: nothing more, channel, context
ONEHOT = "onehot"  # the target whose classes are the combinations of the reward's gains
RewardTarget = Literal["gain", "penalised", "onehot"]


@dataclass(frozen=True, slots=True)
class Target:
    """One output of a reward decoder: a gain, the cost, the penalised reward, or the one-hot of the reward's gains."""

    name: str
    kind: Literal["binary", "continuous", "classes"]
    size: int = 1  # outputs: the number of classes, else 1


def targets(transforms: Transforms, reward: RewardTarget = "gain") -> list[Target]:
    """Each gain in its own unit, the cost, and the penalised reward (3) if asked for.

    `onehot`: the gains of the reward have one softmax together, (18) and (21), and no outputs of their own.
    """
    together = sorted(transforms.reward_weights) if reward == "onehot" else []
    gains = [g for g in transforms.schema.gains if g.name not in together]
    found = [Target(g.name, g.kind, transforms.classes.get(g.name, 1)) for g in gains]
    if transforms.schema.cost is not None:
        found.append(Target("cost", "continuous"))
    if reward == "penalised" and transforms.reward_weights:
        found.append(Target("penalised", "continuous"))
    if together:
        found.append(Target(ONEHOT, "classes", 2 ** len(together)))
    return found


def combination(gains: Mapping[str, NDArray[Any]], names: Iterable[str]) -> Floats:
    """The class of the one-hot reward (18): which of these binary gains came, NaN where one is not known.

    Gains may come together, so the classes are their combinations; bit k is the k-th name in alphabetical order.

    >>> combination({"like": np.array([0, 1, 0, 1]), "click": np.array([0, 0, 1, 1])}, ["like", "click"]).tolist()
    [0.0, 2.0, 1.0, 3.0]
    """
    return np.asarray(sum(2**k * np.asarray(gains[g], dtype=np.float64) for k, g in enumerate(sorted(names))))


def reward_loss(
    output: Tensor,
    heads: list[Target],
    batch: Batch,
    label: Tensor,
    transforms: Transforms,
    weights: dict[str, float],
) -> Tensor:
    """(14), (19), (21) by the kind of each target, their weighted sum; output (B, T, sizes), label (B, T).

    Each is a mean over the labelled steps whose outcome is known. The printed (14) and (20) have 1 - log r^ where the
    binary cross-entropy has log(1 - r^); the latter is meant. Continuous targets are standardised, and (19) is halved.
    """
    total = output.new_zeros(())
    for target, prediction in zip(heads, torch.split(output, [t.size for t in heads], dim=-1), strict=True):
        values = torch.from_numpy(_truth(target, batch, transforms)).to(output.device)
        there = label & ~torch.isnan(values)
        truth = torch.nan_to_num(values).to(output.dtype)
        if target.kind == "binary":
            loss = F.binary_cross_entropy_with_logits(prediction[..., 0], truth, reduction="none")
        elif target.kind == "classes":
            there = there & (truth < target.size)  # a class that training never showed cannot be scored
            flat = torch.where(there, truth, 0).long().flatten()
            loss = F.cross_entropy(prediction.flatten(0, -2), flat, reduction="none").view_as(truth)
        else:
            loss = 0.5 * (prediction[..., 0] - truth) ** 2
        total = total + weights[target.name] * (loss * there).sum() / there.sum().clamp(min=1)
    return total


def _truth(target: Target, batch: Batch, transforms: Transforms) -> Floats:
    if target.name == "penalised":
        return transforms.reward(batch.gains, batch.cost)
    if target.name == ONEHOT:
        return combination(batch.gains, transforms.reward_weights)
    raw = batch.cost if target.name == "cost" and batch.cost is not None else batch.gains[target.name]
    if target.kind != "continuous":
        return raw
    scale = transforms.scales[target.name]
    return (raw - scale.mean) / scale.std


@dataclass(frozen=True, slots=True)
class Calibrator:
    """What was fitted on validation steps: a temperature of the channel's logits, a line for each gain and the cost.

    The line of a binary gain is in log-odds, that of a number in standard deviations; that of the one-hot reward has
    its temperature as slope.
    """

    temperature: float = 1.0
    lines: dict[str, Line] = field(default_factory=dict)  # "CONDITION/TARGET"

    @classmethod
    def fit(cls, raw: Predictions, heads: list[Target], journeys: Journeys, transforms: Transforms) -> "Calibrator":
        """From uncalibrated predictions of validation steps."""
        channel = np.asarray(journeys.channel)[raw.rows].astype(np.int64)
        temperature = fit_temperature(np.log(np.maximum(raw.action, 1e-12)), channel)
        lines = {}
        if any(t.name == ONEHOT for t in heads):
            gains = {g: np.asarray(journeys.gain(g))[raw.rows] for g in transforms.reward_weights}
            class_ = combination(gains, gains)
            there = ~np.isnan(class_)
            for condition in CONDITIONS:
                p = getattr(raw, condition)[ONEHOT]
                p = p[np.arange(len(p)), channel] if condition == "reward_by_channel" else p
                logits = np.log(np.maximum(p[there], 1e-12))
                lines[f"{condition}/{ONEHOT}"] = Line(fit_temperature(logits, class_[there].astype(np.int64)))
        for target in (t for t in heads if t.kind != "classes" and t.name != "penalised"):
            name = "cost" if target.name == "cost" else f"gain/{target.name}"
            labels = np.asarray(journeys.column(name))[raw.rows].astype(np.float64)
            there = ~np.isnan(labels)
            for condition in CONDITIONS:
                p = getattr(raw, condition)[target.name]
                p = p[np.arange(len(p)), channel] if condition == "reward_by_channel" else p
                if target.kind == "binary":
                    line = fit_line(logit(np.clip(p[there], 1e-7, 1 - 1e-7)), labels[there])
                else:
                    scale = transforms.scales[target.name]
                    line = fit_mean((p[there] - scale.mean) / scale.std, (labels[there] - scale.mean) / scale.std)
                lines[f"{condition}/{target.name}"] = line
        return cls(temperature, lines)

    def channels(self, logits: NDArray[Any]) -> Floats:
        """(n, M) probabilities of the next channel."""
        return np.asarray(softmax(logits.astype(np.float64) * self.temperature, axis=-1))

    def units(
        self, condition: str, output: NDArray[Any], heads: list[Target], transforms: Transforms
    ) -> dict[str, Floats]:
        """Decoder outputs (..., sizes) as probabilities, class shares, or values in the log's own unit, by target.

        Of the one-hot reward also each gain's probability: the shares of the combinations that it is part of.
        """
        found: dict[str, Floats] = {}
        parts = np.split(output.astype(np.float64), np.cumsum([t.size for t in heads])[:-1], axis=-1)
        for target, raw in zip(heads, parts, strict=True):
            line = self.lines.get(f"{condition}/{target.name}", Line())
            if target.kind == "binary":
                found[target.name] = expit(line(raw[..., 0]))
            elif target.kind == "classes":
                found[target.name] = shares = softmax(line(raw), axis=-1)
                for k, name in enumerate(sorted(transforms.reward_weights) if target.name == ONEHOT else ()):
                    found[name] = shares[..., np.arange(target.size) >> k & 1 == 1].sum(axis=-1)
            elif target.name == "penalised":
                found[target.name] = raw[..., 0]
            else:
                scale = transforms.scales[target.name]
                found[target.name] = line(raw[..., 0]) * scale.std + scale.mean
        return found

    def to_dict(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "lines": {k: asdict(v) for k, v in self.lines.items()}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Calibrator":
        return cls(values["temperature"], {k: Line(**v) for k, v in values["lines"].items()})
