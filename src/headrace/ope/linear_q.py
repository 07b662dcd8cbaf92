"""Fitted Q evaluation in closed form where Q is linear in state x action: the fixed point, no gradients.

Minimising the corrected (10) of Zhang et al. 2022 with Q = theta' phi and the target of the fixed point itself gives

    E_D [phi (phi - gamma (1 - d) phi'_pi)'] theta  =  E_D [r phi] - alpha (E_{s, a ~ pi} phi - E_D phi)

phi = state x action (a table where both are one-hot), phi'_pi its expectation over pi(.|s'). Without the penalty this
is LSTD-Q (Lagoudakis & Parr 2003). Targets are not bounded. The standard error of the fit is by linearisation, users
being independent.

n rows, P = S x A features, k actions a row.
"""

import numpy as np

from headrace.journeys.seams import Floats, Integers
from headrace.ope.fitted import FittedQ, Trace, reach, summary
from headrace.ope.fqe import FQEConfig
from headrace.ope.transitions import Actions, Choices, Floats32, Transitions, cross_fit

AT_ONCE = 16_384  # rows whose features are held at once


def solve(of: Transitions, choices: Choices, config: FQEConfig) -> FittedQ:
    """Q of the policy by least squares; of the config only what has a meaning in closed form is read."""
    if config.penalty == "logsumexp":
        raise ValueError("the penalty logsumexp has no closed form; use fqe.fit with hidden=()")
    fold, train = cross_fit(of, config.folds, config.seed)
    spread = float(of.reward.std())
    alpha = 0.0 if config.penalty == "none" else config.alpha * (spread if config.scaled and spread > 0 else 1.0)
    fits = [_fixed_point(of, choices, rows, alpha, config.gamma, config.ridge) for rows in train]
    theta = np.stack([of_fold for _, of_fold in fits])  # (F, P)
    moved = np.zeros(of.groups)
    for f, (left, of_fold) in enumerate(fits):
        starts = of.starts[fold[of.starts] == f]
        value_of = sum((_features(of, choices, rows)[1].sum(axis=0) for rows in _chunks(starts)), np.zeros(len(left)))
        slope = np.linalg.solve(left.T, value_of / len(of.starts))  # the fold's part of the value is value_of' theta
        moved += _moved_by_users(of, choices, train[f], alpha, config.gamma, of_fold, slope)
    fit_error = float(np.sqrt((moved**2).sum() * of.groups / max(of.groups - 1, 1)))
    found = np.empty((3, 1, len(of)))
    for rows in _chunks(np.arange(len(of))):
        features = _features(of, choices, rows)
        found[:, 0, rows] = [np.einsum("bp,bp->b", x, theta[fold[rows]]) for x in features]
    q, v, v_next = found
    within = reach(of, config.gamma, config.rewards, config.horizon)
    return summary(of, q, v, v_next, within, config.gamma, Trace(converged=True), fit_error)


def _fixed_point(
    of: Transitions, choices: Choices, train: Integers, alpha: float, gamma: float, ridge: float
) -> tuple[Floats, Floats]:
    """The system's left side, (P, P), and its solution, (P,)."""
    size = of.state.shape[1] * of.action.shape[1]
    left, right, square = np.zeros((size, size)), np.zeros(size), 0.0
    for rows in _chunks(train):
        logged, policy, after = _features(of, choices, rows)
        left += logged.T @ (logged - gamma * after)
        right += logged.T @ of.reward[rows] - alpha * (policy - logged).sum(axis=0)
        square += float((logged**2).sum())
    left += ridge * square / size * np.eye(size)
    return left, np.asarray(np.linalg.solve(left, right))


def _moved_by_users(
    of: Transitions, choices: Choices, train: Integers, alpha: float, gamma: float, theta: Floats, slope: Floats
) -> Floats:
    """(G,) how far each user's steps move the value through theta, to first order: the sandwich of least squares."""
    moved = np.zeros(of.groups)
    for rows in _chunks(train):
        logged, policy, after = _features(of, choices, rows)
        away = of.reward[rows] + gamma * (after @ theta) - logged @ theta
        by_row = (logged @ slope) * away - alpha * ((policy - logged) @ slope)
        moved += np.bincount(of.group[rows], weights=by_row, minlength=of.groups)
    return moved


def _features(of: Transitions, choices: Choices, rows: Integers) -> tuple[Floats, Floats, Floats]:
    """(b, P) of the logged action, of the policy's here, and of the policy's at the next state, 0 where terminated."""
    next_state = np.where(of.terminated[rows][:, None], 0.0, of.next_state[rows])
    return (
        _product(of.state[rows], of.action[rows].astype(np.float64)),
        _product(of.state[rows], _expected(choices.here(rows))),
        _product(next_state, _expected(choices.after(rows))),
    )


def _expected(actions: Actions) -> Floats:
    """(b, k, A), (b, k) -> (b, A): Q is linear in the action, so its expectation is Q of the expected action."""
    found: Floats = np.einsum("bka,bk->ba", *actions, dtype=np.float64)
    return found


def _product(state: Floats32 | Floats, action: Floats) -> Floats:
    return (state.astype(np.float64)[:, :, None] * action[:, None, :]).reshape(len(state), -1)


def _chunks(rows: Integers) -> list[Integers]:
    return np.split(rows, range(AT_ONCE, len(rows), AT_ONCE))
