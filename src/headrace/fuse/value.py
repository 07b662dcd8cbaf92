"""What a fusion policy is worth by a log: fitted Q evaluation, plain and conservative, behind a gate.

    value_fqe    plain
    value_cfqe   conservative: Zhang et al. 2022 (9) to (11), corrected (ope/fqe.py)

Estimators see the direction of an action's fusion weights alone: every fusion here ranks by a sum that is linear in the
weights, so that lists are the same at any multiple of them, and a policy of small weights does what logged large ones
did.

Four things refuse a value and leave its raw number in the diagnostics alone: the alarms of the fit; decisions that the
log hardly ever took; a fit that had not come to rest; and a behaviour policy whose own estimate misses its own return.
A value is the mean of several fits, each with its own start, batches and draw of the users; how far they lie apart, and
how far their mean still moved, stand in the diagnostics.

n rows, K weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headrace.errors import UserError
from headrace.fuse.actions import Actions
from headrace.fuse.policy import Act
from headrace.fuse.state import Floats32
from headrace.journeys.seams import Estimate
from headrace.ope import fqe
from headrace.ope.fitted import OnPolicy, on_policy
from headrace.ope.fqe import FQEConfig
from headrace.ope.intervals import draw, estimate, refuse
from headrace.ope.transitions import Choices, Transitions, choices, returns

ESTIMATORS = ("value_fqe", "value_cfqe")
DRAWS = 4  # actions of the policy that logged, where the conservative estimator values it
SAMPLE = 2_000  # decisions of a policy, and of the log, that are held against one another
ALIKE = 0.9  # cosine of two decisions' weights from which their lists count as alike: Kendall's tau is about .7
LEAST = 0.01  # share of the logged decisions that must be like one of a policy's, or the log hardly ever took it
MOST_FAR = 0.2  # share of a policy's decisions that the log may hardly ever have taken
DECAY = 1.0  # of the networks' weights: with hundreds of state features Q learns a log of few sessions by heart
MOST_CHANGE = 0.01  # of the size of the logged returns that a value may move over the last fifth of its updates


@dataclass(frozen=True, slots=True)
class Worth:
    """A policy's values by estimator, per session, in the reward's unit; and its distance from the log."""

    estimates: dict[str, Estimate]
    far: float  # share of its decisions that the log hardly ever took


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
    """The share of the policy's directions (n, K) like which the log's (m, K) are fewer than 1 % of its decisions.

    A near logged decision is not enough: random exploration comes once near any direction, which is no ground to value
    one that is taken always.
    """
    if len(logged) < 2:
        raise UserError("value: the part holds too little, expected at least 2 logged decisions; give a longer log")
    rng = np.random.default_rng([seed, 6])
    asked, held = (_unit(of[rng.permutation(len(of))[:SAMPLE]]) for of in (policy, logged))
    alike = (asked @ held.T >= ALIKE).mean(axis=1)
    return float((alike < LEAST).mean())


def _unit(of: Floats32) -> Floats32:
    return np.asarray(of / np.maximum(np.linalg.norm(of, axis=1, keepdims=True), 1e-12))


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
    """What the log's own policy might as well have done: actions of the same user's rows, drawn at random.

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
    return judged(measured(act, of, config, estimators), own)


def measured(act: Act, of: Transitions, config: FQEConfig, estimators: Sequence[str] = ESTIMATORS) -> Worth:
    """The same before the gate, which `judged` applies: what takes long, to be kept."""
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
        raw: dict[str, Any] = {
            "far": far,
            "q_logged": fitted.q_logged,
            "q_policy": fitted.q_policy,
            "fits": len(fitted.members),
            "fit_spread": fitted.spread,
            "late_change": abs(fitted.late_change) / size,  # a share of the size of the logged returns
            "updates": fitted.steps,
            "converged": fitted.converged,  # it ended at rest, not because updates ran out
            "alarm": fitted.alarm,
        }
        found[name] = replace(made, diagnostics=made.diagnostics | raw)
    return Worth(found, far)


def judged(raw: Worth, own: dict[str, OnPolicy]) -> Worth:
    """What the gate lets through; `own` says how each estimator told the policy that logged."""
    found = {name: refuse(e, _refusal(e.diagnostics, own[name])) for name, e in raw.estimates.items()}
    return Worth(found, raw.far)


def _refusal(told: dict[str, Any], own: OnPolicy) -> str | None:
    """Why a value is not to be used; None where nothing speaks against it."""
    if told["far"] > MOST_FAR:
        return (
            f"like {told['far']:.0%} of its decisions the log holds hardly any, fewer than {LEAST:.0%} of its own (at "
            f"most {MOST_FAR:.0%} pass); a log that explores about this policy would do, or one that moves less (rho)"
        )
    if told["alarm"] is not None:
        return str(told["alarm"])
    if not told["late_change"] <= MOST_CHANGE:
        return (
            f"the fit had not come to rest: over the last fifth of {told['updates']} updates the value moved by "
            f"{told['late_change']:.1%} of the size of the logged returns (at most {MOST_CHANGE:.0%} pass); allow more "
            "updates"
        )
    if not own.covers:
        return (
            f"Q fitted for the policy that logged gives {own.estimated:.4g} a session where the log holds "
            f"{own.observed:.4g}, the interval of the difference being {own.low:.3g} to {own.high:.3g}"
        )
    return None


def _config(name: str, config: FQEConfig) -> FQEConfig:
    return replace(config, penalty="policy" if name == "value_cfqe" else "none")
