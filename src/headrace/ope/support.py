"""The gate: can this log tell what that policy is worth? If it cannot, the estimate is refused, with the reason.

The thresholds stand here and nowhere else. They were set on one half of the world's scenarios and checked on the other
(docs/ope.md tells how often accepted intervals held the truth).

n rows, M channels, G groups.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headrace.journeys.seams import Floats
from headrace.ope.feedback import Feedback


@dataclass(frozen=True, slots=True)
class Gate:
    """What an estimate must pass."""

    least_ess: float = 100.0  # effective number of users (rows without users): below, a few of them decide
    near_log: float = 0.8  # share of the log's own effective users that the weights leave: more of it passes always
    least_gains: float = 5.0  # effective number of users whose gains, times weights, make the value
    largest_share: float = 0.2  # of all weight that one user may hold
    weight_distance: float = 3.0  # standard errors that the mean weight may lie from 1
    weight_slack: float = 0.05  # distance from 1 that is let pass even where it is significant
    never_logged: float = 0.05  # share of its decisions that the policy may give to channels that the log never chose


@dataclass(frozen=True, slots=True)
class Support:
    """What the weights say of the overlap between a policy and the log."""

    n: int
    groups: int
    ess: float  # effective sample size in rows: (sum w)^2 / sum w^2
    ess_groups: float  # the same of the groups' total weights
    ess_logged: float  # the same with all weights one: journeys differ in length
    ess_gains: float  # the same of the groups' total weighted gains
    largest_weight: float
    largest_share: float  # of all weight, held by one group
    mean_weight: float  # 1 where the log has support for all that the policy would do
    mean_weight_error: float  # its standard error, groups being independent
    never_logged: float  # share of the policy's decisions on channels that the log never chose
    refused: str | None = None
    needed: str | None = None  # what would make the estimate possible

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def support(of: Feedback, gate: Gate | None = None) -> Support:
    """Measure the overlap and judge it."""
    gate = Gate() if gate is None else gate
    w = of.select * of.weight
    total, selected = float(w.sum()), float(of.select.sum())
    by_group: Floats = np.bincount(of.codes, weights=w, minlength=of.groups).astype(np.float64)
    gains_by_group = np.bincount(of.codes, weights=w * of.reward, minlength=of.groups)
    chances_by_group = np.bincount(of.codes, weights=of.select, minlength=of.groups)
    mean = total / selected if selected else np.nan
    spread = by_group - mean * chances_by_group
    logged = np.isin(np.arange(of.policy.shape[1]), of.action)
    never = float((of.select[:, None] * of.policy)[:, ~logged].sum() / selected) if selected else np.nan
    found = Support(
        n=len(of),
        groups=of.groups,
        ess=_effective(w),
        ess_groups=_effective(by_group),
        ess_logged=_effective(chances_by_group.astype(np.float64)),
        ess_gains=_effective(np.abs(gains_by_group)),
        largest_weight=float(w.max(initial=0.0)),
        largest_share=float(by_group.max(initial=0.0) / total) if total > 0 else np.nan,
        mean_weight=mean,
        mean_weight_error=float(np.sqrt((spread**2).sum()) / selected) if selected else np.nan,
        never_logged=never,
    )
    reason = _reason(found, selected, gate)
    if reason is None:
        return found
    return Support(**asdict(found) | {"refused": reason, "needed": _needed(found, of, gate)})


def _effective(w: Floats) -> float:
    largest = w.max(initial=0.0)
    if largest == 0:
        return 0.0
    scaled = w / largest
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def _reason(of: Support, selected: float, gate: Gate) -> str | None:
    """The first of the conditions that fails, in plain words."""
    if selected == 0:
        return "the policy advertises at none of these rows"
    if of.never_logged > gate.never_logged:
        return (
            f"no support: {of.never_logged:.0%} of the policy's decisions are channels that the log never chose "
            f"(at most {gate.never_logged:.0%} pass)"
        )
    if of.ess_groups < min(gate.least_ess, gate.near_log * of.ess_logged):
        return (
            f"too little overlap: the weights leave an effective sample of {of.ess_groups:.1f} users or rows "
            f"out of {of.groups:,} (at least {gate.least_ess:g} pass); largest weight {of.largest_weight:,.4g}"
        )
    if of.largest_share > gate.largest_share:
        return (
            f"one user or row holds {of.largest_share:.0%} of all weight (at most {gate.largest_share:.0%} pass); "
            f"largest weight {of.largest_weight:,.4g}"
        )
    if of.ess_gains < gate.least_gains:
        return (
            f"too few gains: the value hangs on an effective {of.ess_gains:.1f} users or rows with a gain "
            f"(at least {gate.least_gains:g} pass)"
        )
    away = abs(of.mean_weight - 1)
    if away > gate.weight_slack and away > gate.weight_distance * of.mean_weight_error:
        why = (
            "the log lacks part of what the policy would do" if of.mean_weight < 1 else "the propensities are too small"
        )
        error = f"standard error {of.mean_weight_error:.3f}"
        return f"the mean weight is {of.mean_weight:.3f} ({error}), 1 was expected: {why}"
    return None


def _needed(of: Support, feedback: Feedback, gate: Gate) -> str:
    """How much exploration, and how many more rows at the exploration there is."""
    m = feedback.policy.shape[1]
    rows_a_group = of.n / max(of.groups, 1)
    share = min(1.0, m * gate.least_ess * max(rows_a_group, 1.0) / of.n)  # E_b[w^2] <= M / share
    text = f"a log of this size whose policy gives {share:.1%} of its decisions to all channels alike"
    lacking = max(gate.least_ess / max(of.ess_groups, 1e-9), gate.least_gains / max(of.ess_gains, 1e-9))
    if 1 < lacking < 1e6 and of.never_logged <= gate.never_logged:
        text += f"; or about {of.n * lacking:,.0f} rows like these"
    return text
