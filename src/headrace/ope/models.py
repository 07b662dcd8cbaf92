"""What is learnt from the log to value a policy: each channel's gain, and, where they were not logged, propensities.

Both are boosted trees over the same table as the floors (evaluate/floor_features.py): all that is known before the
decision. They are cross-fitted over groups: a row is predicted by trees that saw nothing of its user, so that an error
of the model is independent of the row that corrects it.

n rows, M channels, F folds.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from headrace.errors import UserError
from headrace.evaluate.floor_features import Table, given, known_before
from headrace.evaluate.floor_models import fit_trees
from headrace.evaluate.metrics import Kind
from headrace.journeys.seams import Bools, Floats, Integers
from headrace.journeys.store import Journeys

FOLDS = 3
HELD_BACK = 0.15  # of the groups fitted on, to stop the trees
MOST_ROWS = 200_000  # that one fit takes
LEAST = 1e-3  # the smallest propensity that is believed of a model

Progress = Callable[[str], None]


def reward_model(
    journeys: Journeys,
    rows: Integers,
    reward: Floats,
    codes: Integers,
    seed: int = 0,
    folds: int = FOLDS,
    progress: Progress | None = None,
) -> Floats:
    """(n, M) the gain to be expected of each channel at each row; `reward` (n,), `codes` (n,) groups."""
    table = known_before(journeys, rows)
    m = len(journeys.channels)
    q = np.zeros((len(rows), m))
    for fold, (learn, stop, held) in enumerate(_folds(codes, folds, seed)):
        _tell(progress, f"gain model: fold {fold + 1} of {folds}")
        predict = fit_gain(_at(table, learn), reward[learn], _at(table, stop), reward[stop], m, seed)
        q[held] = predict(_at(table, held))
    return q


def fit_gain(
    train: Table, reward: Floats, stop: Table, stop_reward: Floats, channels: int, seed: int = 0
) -> Callable[[Table], Floats]:
    """Trees of the reward given the channel, as a function from a table to the gain of each channel, (n, M)."""
    both = np.concatenate([reward, stop_reward])
    kind: Kind = "binary" if np.isin(both, (0.0, 1.0)).all() else "continuous"
    predict = fit_trees(given(train, "channel"), reward, given(stop, "channel"), stop_reward, kind, 0, seed)

    def gains(table: Table) -> Floats:
        seen = given(table, "channel")
        n = len(seen["step/channel"].values)
        by_channel = [
            predict(seen | {"step/channel": replace(seen["step/channel"], values=np.full(n, float(channel)))})
            for channel in range(channels)
        ]
        return np.stack(by_channel, axis=1)

    return gains


def propensity_model(
    journeys: Journeys,
    rows: Integers,
    codes: Integers,
    seed: int = 0,
    folds: int = FOLDS,
    progress: Progress | None = None,
) -> Floats:
    """(n, M) how probably the log chose each channel, for a log that did not write it down."""
    table = given(known_before(journeys, rows), "before")
    action = np.asarray(journeys.channel)[rows].astype(np.int64)
    m = len(journeys.channels)
    chances = np.zeros((len(rows), m))
    for fold, (fit, stop, held) in enumerate(_folds(codes, folds, seed)):
        _tell(progress, f"propensities: fold {fold + 1} of {folds}")
        predict = fit_trees(_at(table, fit), action[fit], _at(table, stop), action[stop], "classes", m, seed)
        chances[held] = predict(_at(table, held))
    chances = np.maximum(chances, LEAST)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def _folds(codes: Integers, folds: int, seed: int) -> Iterator[tuple[Integers, Integers, Integers]]:
    """For each fold the rows to fit on, those to stop on, and those held out; no group stands in two of them."""
    rng = np.random.default_rng(seed)
    groups = int(codes.max()) + 1
    if groups < 2:
        raise UserError("ope: the rows are of 1 user, and models are fitted on other users; give rows of 2 or more")
    folds = min(folds, groups)
    fold_of = rng.permutation(groups) % folds
    for fold in range(folds):
        held: Bools = fold_of[codes] == fold
        stop: Bools = ~held & (rng.random(groups) < HELD_BACK)[codes]
        if not stop.any():
            stop = ~held
        fit = ~held & ~stop if (~held & ~stop).any() else ~held
        yield _some(np.flatnonzero(fit), rng), _some(np.flatnonzero(stop), rng), np.flatnonzero(held)


def _some(rows: Integers, rng: np.random.Generator) -> Integers:
    return rows if len(rows) <= MOST_ROWS else np.sort(rng.choice(rows, MOST_ROWS, replace=False))


def _at(table: Table, rows: Integers) -> Table:
    return {name: replace(column, values=column.values[rows]) for name, column in table.items()}


def _tell(progress: Progress | None, text: str) -> None:
    if progress is not None:
        progress(text)
