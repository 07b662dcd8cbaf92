"""The gate: can this log tell what that policy is worth? If it cannot, the estimate is refused, with the reason.

The thresholds stand here and nowhere else. They were set on one half of the world's scenarios and checked on the other
(docs/ope.md tells how often accepted intervals held the truth).

n rows, M channels, G groups.
"""

from dataclasses import asdict, dataclass, replace
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


OBSERVED = Gate(least_gains=1.0, largest_share=1.0)  # what the log's own mean must pass: one gain, for an interval


@dataclass(frozen=True, slots=True)
class Support:
    """What the weights say of the overlap between a policy and the log."""

    n: int
    groups: int
    selected: float  # rows that the policy is expected to advertise at
    ess: float  # effective sample size in rows: (sum w)^2 / sum w^2
    ess_groups: float  # the same of the groups' total weights
    ess_logged: float  # the same with all weights one: journeys differ in length
    ess_gains: float  # the same of the groups' total weighted gains
    largest_weight: float
    largest_share: float  # of all weight, held by one group
    mean_weight: float  # 1 where the log has support for all that the policy would do
    mean_weight_error: float  # its standard error, groups being independent
    never_logged: float  # share of the policy's decisions on channels that the log never chose
    channels: int  # M
    doubt: str | None = None  # what speaks against the propensities
    refused: str | None = None
    needed: str | None = None  # what would make the estimate possible

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of the gate: how it came out, and what is said and would be needed where it failed."""

    condition: str
    measured: str
    threshold: str
    passed: bool
    reason: str
    needed: str


def support(of: Feedback, gate: Gate | None = None, doubt: str | None = None) -> Support:
    """Measure the overlap and judge it; `doubt` is what speaks against the propensities."""
    gate = Gate() if gate is None else gate
    w = of.select * of.weight
    total, selected = float(w.sum()), float(of.select.sum())
    by_group = _by_group(of, w)
    chances_by_group = _by_group(of, of.select)
    mean = total / selected if selected else np.nan
    spread = by_group - mean * chances_by_group
    logged = np.isin(np.arange(of.policy.shape[1]), of.action)
    never = float((of.select[:, None] * of.policy)[:, ~logged].sum() / selected) if selected else np.nan
    found = Support(
        n=len(of),
        groups=of.groups,
        selected=selected,
        ess=_effective(w),
        ess_groups=_effective(by_group),
        ess_logged=_effective(chances_by_group),
        ess_gains=_effective(np.abs(_by_group(of, w * of.reward))),
        largest_weight=float(w.max(initial=0.0)),
        largest_share=float(by_group.max(initial=0.0) / total) if total > 0 else np.nan,
        mean_weight=mean,
        mean_weight_error=float(np.sqrt((spread**2).sum()) / selected) if selected else np.nan,
        never_logged=never,
        channels=of.policy.shape[1],
        doubt=doubt,
    )
    failed = next((c for c in conditions(found, gate) if not c.passed), None)
    return found if failed is None else replace(found, refused=failed.reason, needed=failed.needed)


def logged_refused(of: Feedback, gate: Gate | None = None) -> str | None:
    """Why the log's own mean over the rows selected cannot be told, or None: no weights, but gains may be few."""
    gate = Gate() if gate is None else gate
    if not of.select.any():
        return "none of these rows is selected"
    gains = _effective(np.abs(_by_group(of, of.select * of.reward)))
    if gains < gate.least_gains:
        return _few_gains(gains, gate)
    share = float(_by_group(of, of.select).max() / of.select.sum())
    return None if share <= gate.largest_share else _one_holds(share, "of these rows", gate)


def conditions(of: Support, gate: Gate) -> list[Condition]:
    """The gate, condition by condition; the first that fails is the reason of a refusal."""
    least = min(gate.least_ess, gate.near_log * of.ess_logged)
    away = abs(of.mean_weight - 1)
    low = of.mean_weight < 1
    more = _more(of, gate)
    return [
        Condition(
            "steps that the policy advertises at",
            f"{of.selected:,.0f} of {of.n:,}",
            "more than 0",
            of.selected > 0,
            "the policy advertises at none of these rows",
            "rows that the policy would advertise at",
        ),
        Condition(
            "decisions on channels that the log never chose",
            f"{of.never_logged:.1%}",
            f"at most {gate.never_logged:.0%}",
            of.never_logged <= gate.never_logged,
            f"no support: {of.never_logged:.0%} of the policy's decisions are channels that the log never chose "
            f"(at most {gate.never_logged:.0%} pass)",
            _explored(of, gate),
        ),
        Condition(
            "effective sample of users (rows without users)",
            f"{of.ess_groups:,.1f} of {of.groups:,}",
            f"at least {gate.least_ess:g}, or {gate.near_log:.0%} of the log's own {of.ess_logged:,.0f}",
            of.ess_groups >= least,
            f"too little overlap: the weights leave an effective sample of {of.ess_groups:.1f} users or rows "
            f"out of {of.groups:,} (at least {least:.3g} pass); largest weight {of.largest_weight:,.4g}",
            more,
        ),
        Condition(
            "share of all weight that one user (or row) holds",
            f"{of.largest_share:.1%}",
            f"at most {gate.largest_share:.0%}",
            of.largest_share <= gate.largest_share,
            f"{_one_holds(of.largest_share, 'of all weight', gate)}; largest weight {of.largest_weight:,.4g}",
            more,
        ),
        Condition(
            "effective sample of users (or rows) with a gain",
            f"{of.ess_gains:,.1f}",
            f"at least {gate.least_gains:g}",
            of.ess_gains >= gate.least_gains,
            _few_gains(of.ess_gains, gate),
            more
            if of.ess_gains
            else "a log in which the gain comes about where the policy would choose as the log did",
        ),
        Condition(
            "mean weight, 1 where the log covers the policy",
            f"{of.mean_weight:.3f}, standard error {of.mean_weight_error:.3f}",
            f"within {gate.weight_slack:g} or {gate.weight_distance:g} standard errors of 1",
            away <= gate.weight_slack or away <= gate.weight_distance * of.mean_weight_error,
            f"the mean weight is {of.mean_weight:.3f} (standard error {of.mean_weight_error:.3f}), 1 was expected: "
            + ("the log lacks part of what the policy would do" if low else "the propensities are too small"),
            "propensities that fit the log"
            + ("; or a log that gives each channel a chance wherever the policy would choose it" if low else ""),
        ),
        Condition(
            "propensities fit the log",
            of.doubt or "nothing speaks against them",
            "no doubt",
            of.doubt is None,
            of.doubt or "",
            "propensities that fit the log",
        ),
    ]


def _few_gains(gains: float, gate: Gate) -> str:
    return (
        f"too few gains: the value hangs on an effective {gains:.1f} users or rows with a gain "
        f"(at least {gate.least_gains:g} pass)"
    )


def _one_holds(share: float, of_what: str, gate: Gate) -> str:
    return f"one user or row holds {share:.0%} {of_what} (at most {gate.largest_share:.0%} pass)"


def _by_group(of: Feedback, values: Floats) -> Floats:
    """(G,) the sums of (n,) values."""
    return np.bincount(of.codes, weights=values, minlength=of.groups).astype(np.float64)


def _effective(w: Floats) -> float:
    largest = w.max(initial=0.0)
    if largest == 0:
        return 0.0
    scaled = w / largest
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def _explored(of: Support, gate: Gate) -> str:
    """The exploration that would do, as E_b[w^2] <= M / share; all of it where the log is too small for less."""
    users = of.channels * gate.least_ess
    if users >= of.groups:
        return f"a log of {users:,.0f} users (rows without users) whose channels are drawn by lot"
    return f"a log of this size whose policy gives {users / of.groups:.1%} of its decisions to all channels alike"


def _more(of: Support, gate: Gate) -> str:
    """How much exploration, or how many more rows at the exploration there is."""
    lacking = max(
        min(gate.least_ess, gate.near_log * of.ess_logged) / max(of.ess_groups, 1e-9),
        gate.least_gains / max(of.ess_gains, 1e-9),
    )
    if not 1 < lacking < 1e6:
        return _explored(of, gate)
    return f"{_explored(of, gate)}; or about {of.n * lacking:,.0f} rows like these"
