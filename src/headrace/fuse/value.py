"""What a fusion policy is worth by a log: fitted Q evaluation, plain and conservative, behind a gate.

    value_fqe    plain
    value_cfqe   conservative: Zhang et al. 2022 (9) to (11), corrected (ope/fqe.py)

Estimators see the direction of an action's fusion weights alone: every fusion here ranks by a sum that is linear in the
weights, so that lists are the same at any multiple of them, and a policy of small weights does what logged large ones
did.

Five things refuse a value and leave its raw number in the diagnostics alone: the alarms of the fit; a fit that had not
come to rest; a behaviour policy whose own estimate misses its own return; actions that the log never took, told by
their distance; and an interval too wide to say anything, as where fits on other draws of the users differ. A value is
the mean of several fits, each with its own start, batches and draw of the users; how far they lie apart, and how far
their mean still moved, stand in the diagnostics.

n rows, K weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from headrace.errors import UserError
from headrace.fuse.actions import Actions
from headrace.fuse.policy import Act
from headrace.fuse.state import Floats32
from headrace.journeys.seams import Estimate
from headrace.ope import fqe
from headrace.ope.fitted import FittedQ, OnPolicy, on_policy
from headrace.ope.fqe import FQEConfig
from headrace.ope.intervals import draw, estimate, refuse
from headrace.ope.transitions import Choices, Transitions, choices, returns

ESTIMATORS = ("value_fqe", "value_cfqe")
DRAWS = 4  # actions of the policy that logged, where the conservative estimator values it
SAMPLE = 2_000  # actions between which distances are taken
FAR = 0.99  # quantile of the logged actions' own distances beyond which an action is one that the log never took
MOST_FAR = 0.2  # share of a policy's decisions that may be
DECAY = 1.0  # of the networks' weights: with hundreds of state features Q learns a log of few sessions by heart
MOST_WIDE = 0.25  # of the size of the logged returns, that a value's interval may reach to either side
MOST_CHANGE = 0.01  # of the size of the logged returns that a value may move over the last fifth of its updates


@dataclass(frozen=True, slots=True)
class Worth:
    """A policy's values by estimator, per session, in the reward's unit; and its distance from the log."""

    estimates: dict[str, Estimate]
    far: float  # share of its decisions that the log never took


def directions(scaled: Floats32, space: Actions) -> Floats32:
    """(..., K) scaled actions of the space -> their weights divided by their norm, times sqrt(K): about 1 a coordinate.

    >>> directions(np.float32([[0.1, 0.1], [1.0, 1.0]]), Actions((-2.0, -2.0), (2.0, 2.0))).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    unit = replace(space, form="unit").scaled(space.weights(scaled))
    return np.asarray(space.size**0.5 * unit, dtype=np.float32)


def directed(of: Transitions, space: Actions) -> Transitions:
    """The transitions as estimators see them."""
    return replace(of, action=directions(of.action, space))


def directed_act(act: Act, space: Actions) -> Act:
    """The policy as estimators see it."""
    return lambda state: directions(act(state), space)


def support(policy: Floats32, logged: Floats32, seed: int = 0) -> float:
    """The share of the policy's actions (n, K) farther from every logged one than 99 % of the logged are themselves.

    Distances are Euclidean, between samples of equal size.
    """
    if len(logged) < 2:
        raise UserError("value: the part holds too little, expected at least 2 logged decisions; give a longer log")
    rng = np.random.default_rng([seed, 6])
    half = min(SAMPLE, len(logged) // 2)
    order = rng.permutation(len(logged))
    base, others = logged[order[:half]], logged[order[half : 2 * half]]
    limit = float(np.quantile(cdist(others, base).min(axis=1), FAR))
    asked = policy[rng.permutation(len(policy))[:half]]
    return float((cdist(asked, base).min(axis=1) > limit + 1e-9).mean())


def choices_of(act: Act, of: Transitions) -> Choices:
    """What a certain policy does at every state and next state."""
    here = act(of.state)
    after = act(np.nan_to_num(of.next_state))
    one = np.ones((len(of), 1), dtype=np.float32)
    return choices((here[:, None], one), (after[:, None], one))


def as_logged(of: Transitions) -> Choices:
    """What the log's own policy did, seen once."""
    return _in_turn(of.action[:, None])


def as_drawn(of: Transitions, seed: int = 0) -> Choices:
    """What the log's own policy might as well have done: actions of the same user's other rows, drawn at random.

    They are draws from that policy where a user's weights do not hang on the state, as those explored around one set of
    weights. At the logged actions themselves the penalty is 0 whatever Q says, and the conservative fit the plain one.
    """
    rng = np.random.default_rng([seed, 7])
    order = np.argsort(of.group, kind="stable")
    count = np.bincount(of.group, minlength=of.groups)[of.group]  # (n,) rows of the row's user
    first = np.searchsorted(of.group[order], of.group)
    other = order[first[:, None] + rng.integers(count[:, None], size=(len(of), DRAWS))]
    return _in_turn(of.action[other])


def _in_turn(here: Floats32) -> Choices:
    """Choices of actions (n, k, K) at each row's state, and at its next state those of the next row."""
    after = np.concatenate([here[1:], here[-1:]])  # an episode's last one is never read
    share = np.full(here.shape[:2], 1 / here.shape[1], dtype=np.float32)
    return choices((here, share), (after, share))


def own_values(of: Transitions, config: FQEConfig, estimators: Sequence[str] = ESTIMATORS) -> dict[str, OnPolicy]:
    """Whether each estimator, its penalty included, tells the return of the policy that logged."""
    found = {}
    for name in estimators:
        logged = as_drawn(of, config.seed) if name == "value_cfqe" else as_logged(of)
        found[name] = on_policy(fqe.fit(of, logged, _config(name, config)), of, config.gamma, seed=config.seed)
    return found


def value(
    act: Act,
    of: Transitions,
    config: FQEConfig,
    own: dict[str, OnPolicy],
    estimators: Sequence[str] = ESTIMATORS,
) -> Worth:
    """The value of a certain policy by transitions that it was not fitted on; both of `directed` actions."""
    asked = choices_of(act, of)
    far = support(act(of.state), of.action, config.seed)
    size = float(np.sqrt(np.mean(returns(of, config.gamma) ** 2))) or 1.0
    found: dict[str, Estimate] = {}
    for name in estimators:
        fitted = fqe.fit(of, asked, _config(name, config))
        if np.isfinite(fitted.value):
            drawn = draw({"v": fitted.functional()}, of.groups, 1_000, config.seed)["v"]
            made = estimate(drawn, len(of.starts))
        else:
            made = Estimate(None, None, None, len(of.starts), refused="the fit diverged")
        change = abs(fitted.late_change) / size
        raw: dict[str, Any] = {
            "far": far,
            "q_logged": fitted.q_logged,
            "q_policy": fitted.q_policy,
            "fits": len(fitted.members),
            "fit_spread": fitted.spread,
            "late_change": change,  # a share of the size of the logged returns
            "updates": fitted.steps,
            "converged": fitted.converged,  # it ended at rest, not because updates ran out
        }
        why = _refusal(fitted, made, far, own[name], change, size)
        found[name] = refuse(replace(made, diagnostics=made.diagnostics | raw), why)
    return Worth(found, far)


def _refusal(fitted: FittedQ, made: Estimate, far: float, own: OnPolicy, change: float, size: float) -> str | None:
    """Why a value is not to be used; None where nothing speaks against it. `size`: of the logged returns."""
    if fitted.alarm is not None:
        return fitted.alarm
    if far > MOST_FAR:
        return f"{far:.0%} of its decisions lie where the log has none (at most {MOST_FAR:.0%} pass)"
    if not change <= MOST_CHANGE:
        return (
            f"the fit had not come to rest: over the last fifth of {fitted.steps} updates the value moved by "
            f"{change:.1%} of the size of the logged returns (at most {MOST_CHANGE:.0%} pass); allow more updates"
        )
    if not own.covers:
        return (
            f"Q fitted for the policy that logged gives {own.estimated:.4g} a session where the log holds "
            f"{own.observed:.4g}, the interval of the difference being {own.low:.3g} to {own.high:.3g}"
        )
    wide = 0.0 if made.low is None or made.high is None else (made.high - made.low) / 2 / size
    if wide > MOST_WIDE:
        return (
            f"the log cannot tell: the value's interval reaches {wide:.0%} of the size of the logged returns to either "
            f"side (at most {MOST_WIDE:.0%} pass), as fits on other draws of the users differ; give a longer log, or a "
            "policy nearer to it"
        )
    return None


def _config(name: str, config: FQEConfig) -> FQEConfig:
    return replace(config, penalty="policy" if name == "value_cfqe" else "none")
