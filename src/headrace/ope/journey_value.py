"""What a policy is worth over journeys, when its choices change what comes after: importance weights and fitted Q.

An episode is a user's journey (or the part of it that the rows hold). It is cut off where the log ends, so its last
step is truncated, never terminated. The state is what the floors see before a decision (evaluate/floor_features.py):
lags, counts, running rates, the step's and the user's features. Values are per step, comparable with the log's mean
gain: the discounted sum of gains, divided by the discounted number of steps.

    pdis, wpdis    by the weights of whole journeys, plain and self-normalised (sequential.py)
    lstdq          Q linear in state x channel, in closed form (linear_q.py)
    fqe, cfqe      Q by networks, plain and conservative (fqe.py)
    sdr            stepwise doubly robust: lstdq corrected by weights

n rows, S state features, M channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from headrace.errors import UserError, unknown
from headrace.evaluate.bootstrap import RESAMPLES
from headrace.evaluate.floor_features import given, known_before
from headrace.evaluate.floor_models import linear_inputs
from headrace.journeys.seams import Estimate, Floats
from headrace.journeys.store import Journeys
from headrace.ope import fqe, linear_q
from headrace.ope.feedback import Feedback
from headrace.ope.fitted import FittedQ, OnPolicy, on_policy
from headrace.ope.fqe import FQEConfig
from headrace.ope.intervals import Functional, Term, draw, estimate, ratios, refuse
from headrace.ope.sequential import Episodes, EpisodeWeights, doubly_robust, pdis, weighted_pdis, weights
from headrace.ope.support import OBSERVED, Gate, logged_refused, support
from headrace.ope.transitions import Transitions, channel_choices

ESTIMATORS = ("pdis", "wpdis", "lstdq", "fqe", "cfqe", "sdr")
RIDGE = 1e-2  # of the states' mean square, for lstdq
DEFAULT = ("pdis", "wpdis", "lstdq", "sdr")  # those without gradients


@dataclass(frozen=True, slots=True)
class JourneyValue:
    """What a policy is worth over journeys, by estimator; refused ones have value None."""

    estimates: dict[str, Estimate]
    logged: Estimate  # the log's own journeys, by the same discount
    gamma: float
    overlap: EpisodeWeights
    fitted: dict[str, FittedQ]
    own: dict[str, OnPolicy]  # whether each fitted Q tells the return of the policy that logged


def transitions(journeys: Journeys, of: Feedback) -> Transitions:
    """The feedback's rows as transitions; each user's rows are an episode, in order.

    UserError where the log has no users, or a journey has gaps: what follows a step would not be what the rows hold
    next, and its weight would be missing from theirs.
    """
    if journeys.schema.user is None:
        raise UserError(
            f"{journeys.path}: schema {journeys.schema.name} names no user, so there are no journeys to value; "
            "leave  --journeys  out"
        )
    users = journeys.user_of_step[of.rows]
    initial = np.append(True, users[1:] != users[:-1])
    gaps = np.flatnonzero(~initial & (np.diff(of.rows, prepend=of.rows[0]) != 1))
    if len(gaps):
        raise UserError(
            f"{journeys.path}: {len(gaps):,} steps inside of journeys are left out, the first before row "
            f"{of.rows[gaps[0]]} (gain unknown, or not to be valued), expected journeys without gaps; "
            "choose another gain, or leave  --journeys  out"
        )
    last = np.append(initial[1:], True)
    table = given(known_before(journeys, of.rows), "before")
    state = linear_inputs(table)(table)  # (n, S)
    state = np.concatenate([state, np.ones((len(state), 1), np.float32)], axis=1)
    following = np.full_like(state, np.nan)
    following[~last] = state[1:][~last[:-1]]
    m = len(journeys.channels)
    return Transitions(
        state,
        np.eye(m, dtype=np.float32)[of.action],
        of.reward,
        following,
        np.zeros(len(of), dtype=np.bool_),
        last,
        initial,
        of.codes,
        of.groups,
    )


def journey_value(
    journeys: Journeys,
    of: Feedback,
    estimators: Sequence[str] = DEFAULT,
    config: FQEConfig | None = None,
    gate: Gate | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    states: Transitions | None = None,
    own: dict[str, OnPolicy] | None = None,
    doubt: str | None = None,
) -> JourneyValue:
    """The value of the feedback's policy over journeys.

    `states` and `own` may hand in what policies on the same rows share: `transitions`, and an earlier value's `own`;
    `doubt` is what speaks against the propensities.

    The discount looks as far ahead as journeys are long, 1 - 1 / their mean length, unless `config` says otherwise.
    All estimates are refused where the policy takes channels that the log never chose, or the log's own gains are few.
    Those by weights are refused where whole journeys leave too few effective users or the propensities do not fit,
    fitted ones on their alarms, or where Q fitted for the policy that logged does not tell its own return. UserError
    for an unknown estimator.
    """
    for name in estimators:
        if name not in ESTIMATORS:
            raise unknown("estimator", name, ESTIMATORS)
    gate = Gate() if gate is None else gate
    steps = transitions(journeys, of) if states is None else states
    if config is None:
        config = FQEConfig(gamma=discount(steps), ridge=RIDGE, seed=seed, progress=False)
    episodes = Episodes(
        steps.offsets, of.log_weight, of.reward, steps.group[steps.starts], steps.groups, gamma=config.gamma
    )
    overlap = weights(episodes)
    few = logged_refused(of, gate)
    seen = support(of, gate, doubt)
    unseen = seen.refused if seen.never_logged > gate.never_logged else few
    thin = unseen or doubt or thin_overlap(overlap, gate)
    discounted = float((config.gamma**episodes.step).sum() / len(episodes))
    functionals: dict[str, tuple[Functional, float, str | None]] = {}
    fitted: dict[str, FittedQ] = {}
    own = {} if own is None else dict(own)
    for name in estimators:
        if name in ("pdis", "wpdis"):
            functionals[name] = (pdis if name == "pdis" else weighted_pdis)(episodes), 1 / discounted, thin
            continue
        of_kind = "lstdq" if name == "sdr" else name
        if of_kind not in fitted:
            fitted[of_kind] = _fit(of_kind, steps, of.policy, config)
        if of_kind not in own:
            own[of_kind] = on_policy(_fit(of_kind, steps, _as_logged(steps), config), steps, config.gamma, seed=seed)
        found = fitted[of_kind]
        if name == "sdr":
            functionals[name] = doubly_robust(replace(episodes, q=found.q, v=found.v)), 1 / discounted, thin
            continue
        alarm = unseen or found.alarm
        if alarm is None and not own[of_kind].covers:
            o = own[of_kind]
            alarm = (
                f"Q fitted for the policy that logged gives {o.estimated:.4g} a journey where the log holds "
                f"{o.observed:.4g}, the interval of the difference being {o.low:.3g} to {o.high:.3g}"
            )
        functionals[name] = found.functional(), 1 - config.gamma, alarm
    discounts: Floats = np.power(config.gamma, episodes.step.astype(np.float64))
    own_value = ratios([Term(discounts * of.reward, discounts)], of.codes, of.groups)
    none = logged_refused(of, OBSERVED)
    logged = refuse(estimate(draw({"logged": own_value}, of.groups, resamples, seed)["logged"], len(of)), none)
    drawn = draw({name: f for name, (f, _, _) in functionals.items()}, steps.groups, resamples, seed)
    estimates = {
        name: _in_steps(estimate(drawn[name], len(of)), scale, why) for name, (_, scale, why) in functionals.items()
    }
    return JourneyValue(estimates, logged, config.gamma, overlap, fitted, own)


def discount(steps: Transitions) -> float:
    """1 - 1 / the mean length of the episodes: the value looks as far ahead as they are long."""
    return 1 - len(steps.starts) / max(len(steps), len(steps.starts) + 1)


def thin_overlap(overlap: EpisodeWeights, gate: Gate) -> str | None:
    """Why weights of whole journeys say nothing, or None."""
    if overlap.ess_groups < gate.least_ess:
        return (
            f"too little overlap over whole journeys: the weights leave an effective sample of "
            f"{overlap.ess_groups:.1f} users (at least {gate.least_ess:g} pass); the first "
            f"{overlap.horizon(gate.least_ess)} steps of a journey would pass"
        )
    if overlap.largest_share > gate.largest_share:
        return f"one user holds {overlap.largest_share:.0%} of all weight (at most {gate.largest_share:.0%} pass)"
    away = abs(overlap.mean_weight - 1)
    if away > gate.weight_slack and away > gate.weight_distance * overlap.mean_weight_error:
        return f"the mean weight of whole journeys is {overlap.mean_weight:.3f}, 1 was expected"
    return None


def _fit(kind: str, steps: Transitions, policy: Floats, config: FQEConfig) -> FittedQ:
    after = np.concatenate([policy[1:], policy[-1:]])  # of the next row; an episode's last one is never read
    choices = channel_choices(policy, after)
    if kind == "lstdq":
        return linear_q.solve(steps, choices, replace(config, penalty="none"))
    return fqe.fit(steps, choices, replace(config, penalty="policy" if kind == "cfqe" else "none"))


def _as_logged(steps: Transitions) -> Floats:
    """(n, M) the choices that were made: what the log's own policy did, seen once."""
    return steps.action.astype(np.float64)


def _in_steps(found: Estimate, scale: float, why: str | None) -> Estimate:
    """The estimate per step, its raw numbers in the diagnostics where it is refused."""
    scaled = {k: v * scale for k, v in found.diagnostics.items()}
    if found.value is None or found.low is None or found.high is None:
        return replace(found, diagnostics=scaled, refused=why or found.refused)
    return refuse(Estimate(found.value * scale, found.low * scale, found.high * scale, found.n, scaled), why)
