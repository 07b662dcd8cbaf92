"""One optimiser for every learner: AdamW with clipping, a schedule, bf16 autocast and averaged weights on request.

    with optimiser.autocast():
        loss = ...
    optimiser.minimise(loss)

AdamW: Loshchilov & Hutter 2019 (weight decay on matrices, none on biases and normalisations). Averaged weights: an
exponential moving average over steps, its memory kept short in the first steps.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from headrace.errors import UserError
from headrace.learn.checkpoint import State, join, part
from headrace.learn.provenance import cpu_info


@dataclass(frozen=True, slots=True)
class OptimiserConfig:
    """How a loss is made small."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    clip: float | None = 1.0  # the gradient's largest norm; None: as it is
    schedule: Literal["constant", "cosine"] = "constant"  # cosine: half a wave down to a tenth, at total_steps
    warmup_steps: int = 0  # the rate rises in a line over these
    total_steps: int | None = None  # where the cosine ends, warm-up included
    precision: Literal["float32", "bf16", "auto"] = "float32"  # auto: bf16 where the device is fast at it
    average: float | None = None  # decay of the weights' moving average, such as .999; None: none is kept

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise UserError(f"optimiser config: learning_rate = {self.learning_rate}, expected more than 0; change it")
        if self.clip is not None and not self.clip > 0:
            raise UserError(
                f"optimiser config: clip = {self.clip}, expected more than 0, or None for no clipping; change it"
            )
        if self.average is not None and not 0 < self.average < 1:
            raise UserError(f"optimiser config: average = {self.average}, expected between 0 and 1, or None; change it")
        if self.schedule == "cosine" and (self.total_steps is None or self.total_steps <= self.warmup_steps):
            raise UserError(
                f"optimiser config: schedule cosine with total_steps = {self.total_steps}, "
                f"expected more than warmup_steps = {self.warmup_steps}; set it to epochs x steps an epoch"
            )


def rate(config: OptimiserConfig, step: int) -> float:
    """The learning rate of a step, counted from 0.

    >>> [rate(OptimiserConfig(1.0, warmup_steps=2, schedule="cosine", total_steps=4), step) for step in range(5)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant" or config.total_steps is None:
        return config.learning_rate
    done = min(1.0, (step - config.warmup_steps) / (config.total_steps - config.warmup_steps))
    return config.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the accelerator if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: torch finds no accelerator here, expected one; use device auto or cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r}: no such device, expected auto, cpu or cuda; change it") from None


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is fast there: an accelerator, or a processor with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_info("flags").split())


class Optimiser:
    """AdamW over the parameters of a module that ask for gradients. The module stands on its device already."""

    def __init__(
        self,
        module: nn.Module,
        config: OptimiserConfig,
        shares: Mapping[str, float] | None = None,
        plain: str | None = None,
    ):
        """`shares`: by the beginning of their names, weights that learn at this share of the rate; `plain`: likewise,
        weights of two or more dimensions that do not decay, as vectors never do."""
        self.config = config
        self.steps = 0
        self._weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        weights = list(self._weights.values())
        self.device = weights[0].device
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and has_bf16(self.device))
        groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for name, weight in self._weights.items():
            share = next((share for start, share in (shares or {}).items() if name.startswith(start)), 1.0)
            free = weight.dim() < 2 or (plain is not None and name.startswith(plain))
            groups.setdefault((free, share), []).append(weight)
        described = [
            {"params": members, "weight_decay": 0.0 if free else config.weight_decay, "share": share}
            for (free, share), members in groups.items()
        ]
        self._adamw = torch.optim.AdamW(described, lr=config.learning_rate)
        copies = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._average = copies if config.average is not None else {}

    def autocast(self) -> torch.autocast:
        """For the forward pass: bf16 where the config asks for it."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def minimise(self, loss: torch.Tensor) -> float:
        """One step down; the gradient's norm before clipping.

        Raises FloatingPointError, and leaves the weights alone, if that norm is not finite.
        """
        self._adamw.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        limit = math.inf if self.config.clip is None else self.config.clip
        norm = float(nn.utils.clip_grad_norm_(self._weights.values(), limit))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient's norm is {norm} at a loss of {float(loss.detach())}")
        for group in self._adamw.param_groups:
            group["lr"] = group["share"] * rate(self.config, self.steps)
        self._adamw.step()
        self.steps += 1
        if self.config.average is not None:
            kept = min(self.config.average, self.steps / (self.steps + 9))
            with torch.no_grad():
                for name, average in self._average.items():
                    average.lerp_(self._weights[name], 1 - kept)
        return norm

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the module carries the averaged weights, for evaluation; its own where no average is kept."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, average in self._average.items():
            weight = self._weights[name]
            own = weight.clone()
            weight.copy_(average)
            average.copy_(own)

    def state(self) -> State:
        """Moments, averaged weights and the count of steps; the weights themselves are the module's."""
        tensors = {"average": self._average}
        for name, weight in self._weights.items():
            tensors[f"moments/{name}"] = self._adamw.state.get(weight, {})  # none before a weight's first gradient
        return join(tensors), {"steps": self.steps}

    @torch.no_grad()
    def load(self, state: State) -> None:
        """Take up a state of the same module and config, bit for bit."""
        tensors, values = state
        self.steps = values["steps"]
        for name, average in self._average.items():
            average.copy_(tensors[f"average/{name}"])
        self._adamw.state.clear()
        for name, weight in self._weights.items():
            moments = part(tensors, f"moments/{name}")
            if moments:  # AdamW counts its own steps on the CPU
                place = {key: "cpu" if key == "step" else weight.device for key in moments}
                self._adamw.state[weight] = {key: value.to(place[key], copy=True) for key, value in moments.items()}
