"""Feedback: n logged decisions as a policy's estimator sees them.

What is estimated is the mean gain of a step if the policy had chosen its channel, all that came before being as it was
logged; with a selector, of a step that the policy advertises at. What the changed choices would do to later steps is
the subject of sequential.py.

n rows, M channels, G groups.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from headrace.errors import UserError
from headrace.journeys.seams import Bools, ChannelPolicy, Floats, Integers
from headrace.journeys.store import Journeys
from headrace.journeys.views import WHOLE, histories
from headrace.ope.intervals import groups_of

AT_ONCE = 4_096  # histories that a policy is asked for together
Chances = Floats | ChannelPolicy  # (n, M) probabilities of the rows, or the policy that gives them


@dataclass(frozen=True, slots=True)
class Feedback:
    """What was chosen with which chance, what came of it, and what the policy would have chosen."""

    rows: Integers  # (n,) rows of the journeys
    action: Integers  # (n,) the logged channel
    reward: Floats  # (n,)
    log_propensity: Floats  # (n,) of the logged channel under the policy that logged
    policy: Floats  # (n, M) probabilities of the policy to be valued
    select: Floats  # (n,) probability that the policy advertises at all; ones without a selector
    codes: Integers  # (n,) groups
    groups: int  # G

    def __len__(self) -> int:
        return len(self.action)

    @property
    def log_weight(self) -> Floats:
        """(n,) log pi(a|h) - log b(a|h); minus infinity where the policy would not."""
        with np.errstate(divide="ignore"):
            chosen = np.log(self.policy[np.arange(len(self)), self.action])
        return np.asarray(chosen - self.log_propensity)

    @property
    def weight(self) -> Floats:
        """(n,) importance weights."""
        return np.exp(self.log_weight)

    def within(self, rows: Bools) -> "Feedback":
        """The value of a subgroup: the same feedback, the policy advertising only at these rows, (n,)."""
        return replace(self, select=self.select * rows)


def feedback(
    journeys: Journeys,
    rows: Integers,
    policy: Chances,
    reward: Floats,
    propensity: Floats,
    select: Floats | None = None,
    steps: int = WHOLE,
    seed: int = 0,
) -> Feedback:
    """Put together the feedback of these rows; `reward`, `propensity` and `select` are (n,), one value a row.

    Rows without a known reward are left out. `steps` is how many steps of the past a policy is shown. UserError where
    propensities are missing or no probabilities, or the policy's are no distribution.
    """
    rows = np.asarray(rows, dtype=np.int64)
    known = known_rewards(journeys, rows, reward)
    wrong = known & ~((propensity > 0) & (propensity <= 1 + 1e-9))
    if wrong.any():
        raise UserError(
            f"{journeys.path}: propensity is {propensity[wrong][0]} at row {rows[wrong][0]} "
            f"({wrong.sum():,} such rows), expected more than 0 and at most 1; correct the log, or use  "
            "--propensity estimated"
        )
    rows, reward, propensity = rows[known], reward[known], propensity[known]
    if isinstance(policy, np.ndarray):
        chances = _shaped(policy, (len(known), len(journeys.channels)))[known].astype(np.float64)
    else:
        chances = probabilities(policy, journeys, rows, steps)
    odd = ~((chances >= 0).all(axis=1) & (np.abs(chances.sum(axis=1) - 1) < 1e-6))
    if odd.any():
        raise UserError(
            f"policy: probabilities of {odd.sum():,} rows are no distribution, first row {rows[odd][0]}: "
            f"{chances[odd][0].tolist()}"
        )
    users = None if journeys.schema.user is None else journeys.user_of_step[rows]
    codes, groups = groups_of(users, len(rows), seed)
    return Feedback(
        rows,
        np.asarray(journeys.channel)[rows].astype(np.int64),
        reward.astype(np.float64),
        np.log(np.minimum(propensity, 1.0)),
        chances,
        np.ones(len(rows)) if select is None else np.asarray(select, dtype=np.float64)[known],
        codes,
        groups,
    )


def known_rewards(journeys: Journeys, rows: Integers, reward: Floats) -> Bools:
    """(n,) whether the reward of each row is known; UserError where none is."""
    known: Bools = ~np.isnan(reward)
    if not known.any():
        raise UserError(f"{journeys.path}: no reward is known at any of the {len(rows):,} rows; choose another gain")
    return known


def per_row(name: str, values: Floats | Bools, n: int) -> Floats:
    """What was given for each of the n rows, as floats; UserError where it is of another shape."""
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (n,):
        raise UserError(f"{name}: has the shape {found.shape}, expected {(n,)}: one value for each row valued")
    return found


def _shaped(chances: Floats, wanted: tuple[int, int]) -> Floats:
    if chances.shape != wanted:
        raise UserError(f"policy: probabilities have the shape {chances.shape}, expected {wanted}: rows x channels")
    return chances


def probabilities(
    policy: ChannelPolicy,
    journeys: Journeys,
    rows: Integers,
    steps: int = WHOLE,
    progress: Callable[[str], None] | None = None,
) -> Floats:
    """(n, M) what a policy would do at each row, asked with the history that it would have had there."""
    if not hasattr(policy, "probabilities"):
        raise UserError(
            f"policy: a {type(policy).__name__}, expected an array of (rows, channels) probabilities or a policy with "
            "probabilities(history); of a named policy give  headrace.ope.named(NAME, log)(log, rows).chances"
        )
    parts = []
    for first in range(0, len(rows), AT_ONCE):
        if progress is not None:
            progress(f"policy: row {first:,} of {len(rows):,}")
        some = rows[first : first + AT_ONCE]
        found = np.asarray(policy.probabilities(histories(journeys, some, steps)))
        parts.append(_shaped(found, (len(some), len(journeys.channels))))
    return np.concatenate(parts).astype(np.float64)
