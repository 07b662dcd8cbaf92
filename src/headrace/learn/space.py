"""A search space, and what to try next in it: Parzen estimators (Bergstra et al., NIPS 2011) as optuna has them.

Nothing is kept between two questions: a proposal is a function of the space, the trials it learns from and a seed. So a
study that is killed goes on with the very proposals that it would have made.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import UserError
from headrace.learn.loop import derive_seed

Value = bool | int | float | str | None
Changes = dict[str, Any]  # a configuration's fields with the values tried
AGAIN = 20  # draws of a proposal that was tried already


@dataclass(frozen=True, slots=True)
class Range:
    """All numbers from low to high, whole ones where both ends are."""

    low: float
    high: float
    log: bool = False  # drawn evenly over its logarithm

    def __post_init__(self) -> None:
        if not (self.low < self.high and (self.low > 0 or not self.log)):
            wanted = "0 < low < high" if self.log else "low < high"
            raise UserError(f"range low = {self.low}, high = {self.high}: expected {wanted}")


Space = Mapping[str, tuple[Value, ...] | Range]  # by field


def propose(space: Space, seen: Sequence[tuple[Changes, float]], seed: int) -> Changes:
    """What to try next, having seen these values of these trials, smaller is better; nothing twice if it can be helped.

    >>> found = propose({"width": (8, 16), "rate": Range(1e-4, 1e-2, log=True)}, [], seed=0)
    >>> found["width"] in (8, 16), 1e-4 <= found["rate"] <= 1e-2
    (True, True)
    """
    for attempt in range(AGAIN):
        study = _study(space, seen, derive_seed(seed, attempt) % 2**32)
        found: Changes = study.ask(fixed_distributions=_distributions(space)).params
        if all(found != changes for changes, _ in seen):
            break
    return {name: found[name] for name in space}


def importances(space: Space, seen: Sequence[tuple[Changes, float]]) -> dict[str, float]:
    """The share of each parameter in how the values vary (functional ANOVA), largest first; {} if it cannot be told.

    It takes four trials whose values differ.
    """
    optuna = _optuna()
    if len(seen) < 4 or len({value for _, value in seen}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what optuna calls experimental
        found = optuna.importance.get_param_importances(
            _study(space, seen, 0), evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    return {name: float(share) for name, share in found.items()}


def _study(space: Space, seen: Sequence[tuple[Changes, float]], seed: int) -> Any:
    """An optuna study in memory that holds what was seen within the space."""
    optuna = _optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what optuna calls experimental
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        distributions = _distributions(space)
        for changes, value in seen:
            if changes.keys() == space.keys():
                study.add_trial(optuna.trial.create_trial(params=changes, distributions=distributions, value=value))
    return study


def _distributions(space: Space) -> dict[str, Any]:
    made: dict[str, Any] = {}
    kinds = _optuna().distributions
    for name, values in space.items():
        if not isinstance(values, Range):
            made[name] = kinds.CategoricalDistribution(values)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            made[name] = kinds.IntDistribution(values.low, values.high, log=values.log)
        else:
            made[name] = kinds.FloatDistribution(values.low, values.high, log=values.log)
    return made


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError("tuning: the package optuna is not installed; pip install 'headrace[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
