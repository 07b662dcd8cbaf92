"""A fitted Q-function's word on a policy: the value, what speaks for it, and the alarms.

n rows, E episodes, N ensemble members, C checks during the fit, G groups, R resamples.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import t as student

from headrace.journeys.seams import Floats, Integers
from headrace.ope.intervals import Z95, Functional, Term, draw, estimate, ratios
from headrace.ope.transitions import Transitions, returns

BEYOND = 0.02  # of the reachable range: how far outside it a value may lie before it is an alarm
GAP = 2.0  # spreads of the logged returns that Q at the policy's actions may lie below Q at the logged ones
SLACK = 0.05  # of the logged return's size: a difference from it below this is none
MOST_MISS = 0.1  # of the same: a larger one is a miss, however wide its interval


@dataclass(frozen=True, slots=True)
class Reach:
    """What any policy's Q can be, given the rewards a step can bring and how long an episode can last."""

    low: float
    high: float


@dataclass(slots=True)
class Trace:
    """How a fit went, look by look."""

    steps: int = 0  # updates done
    converged: bool = False
    diverged: bool = False  # a gradient was not finite
    curve_steps: list[int] = field(default_factory=list)
    curve: list[Floats] = field(default_factory=list)  # (N,) each
    losses: list[float] = field(default_factory=list)

    def add(self, updates: int, members: Floats, loss: float) -> None:
        self.steps += updates
        self.curve_steps.append(self.steps)
        self.curve.append(members)
        self.losses.append(loss)

    def at_rest(self, window: int, close: float) -> bool:
        """Whether the mean value of the last `window` looks is within `close` of that of as many before."""
        values = np.mean(self.curve[-2 * window :], axis=1)
        return len(values) == 2 * window and bool(abs(values[window:].mean() - values[:window].mean()) < close)

    def out_of_reach(self, within: Reach, least: int) -> bool:
        """Whether the value has left what rewards can add up to by as much again: no need to go on."""
        beyond = within.high - within.low
        value = float(self.curve[-1].mean())
        return len(self.curve) >= least and not within.low - beyond <= value <= within.high + beyond


@dataclass(frozen=True, slots=True)
class FittedQ:
    """Q of the policy at every logged row, each from networks that never saw that row's user (if cross-fitted).

    The rows are those of the transitions, in their order; q and v are what stepwise DR takes.
    """

    q: Floats  # (n,) Q(s, a) of the logged action, the mean over the ensemble
    v: Floats  # (n,) E_{a ~ pi} Q(s, a)
    v_next: Floats  # (n,) E_{a ~ pi} Q(s', a); 0 where terminated, NaN where s' is unknown
    members: Floats  # (N,) each member's value of the policy
    fit_error: float | None  # standard error of the value for the users that Q was fitted on; None: one member, unknown
    starts: Integers  # (E,) the initial rows
    group: Integers  # (E,) codes of their users
    groups: int  # G
    td_error: float  # root mean square of r + gamma V(s') - Q(s, a), noise of the rewards included
    td_mean: float  # the mean of the same: near 0 where Q is consistent
    reach: Reach
    return_spread: float  # standard deviation of the logged returns
    steps: int  # updates done, 0 for a closed form
    converged: bool  # whether the value had come to rest before the updates ran out
    curve_steps: Integers  # (C,)
    curve: Floats  # (C, N) each member's value during the fit
    curve_loss: Floats  # (C,) mean loss since the check before
    left_out: int  # rows not fitted on, their next state being unknown
    alarm: str | None  # why the value is not to be used; it then belongs into diagnostics only

    @property
    def value(self) -> float:
        """The mean over initial states of E_{a ~ pi} Q: (9) of Zhang et al. 2022, pi counted once."""
        return float(self.v[self.starts].mean())

    @property
    def q_logged(self) -> float:
        """Mean Q over rows at the logged actions."""
        return float(self.q.mean())

    @property
    def q_policy(self) -> float:
        """Mean Q over rows at the policy's actions."""
        return float(self.v.mean())

    @property
    def spread(self) -> float:
        """The ensemble's: standard deviation of its members' values, 0 for one member."""
        return float(self.members.std(ddof=1)) if len(self.members) > 1 else 0.0

    @property
    def late_change(self) -> float:
        """How far the members' mean value moved over the last fifth of the updates; 0 for a closed form, NaN where the
        value was looked at less than twice."""
        if self.steps == 0:
            return 0.0
        if len(self.curve) < 2:
            return float("nan")
        values = self.curve.mean(axis=1)
        return float(values[-1] - np.interp(0.8 * self.steps, self.curve_steps, values))

    def functional(self) -> Functional:
        """The value as a function of how often each user was drawn as one that begins an episode.

        The networks stay as they are, so the resampled values alone vary far too little; the standard error has the
        fit's in it. Where that is not known it is infinite: no interval can be given.
        """
        starts = ratios([Term(self.v[self.starts], np.ones(len(self.starts)))], self.group, self.groups)
        of_fit = np.inf if self.fit_error is None else self.fit_error

        def error(counts: Floats) -> Floats:
            assert starts.error is not None
            return np.asarray(np.hypot(starts.error(counts), of_fit))

        return Functional(starts.value, error)


@dataclass(frozen=True, slots=True)
class OnPolicy:
    """Whether the estimate of the policy that logged agrees with what it brought; same episodes, paired."""

    estimated: float
    observed: float  # mean logged return; a truncated episode's goes on with the estimate at its end
    low: float  # 95 % interval of estimated - observed, over users
    high: float
    covers: bool  # the interval, widened by SLACK x the size of the returns, holds 0; and no miss of MOST_MISS x that
    n: int  # episodes


def reach(of: Transitions, gamma: float, rewards: tuple[float, float] | None, horizon: int | None) -> Reach:
    """From the range of the rewards (None: of those logged) and the longest episode in steps.

    `horizon` None: no end, 1 / (1 - gamma) steps' worth; where gamma is 1, the longest logged episode.
    """
    least, most = (float(of.reward.min()), float(of.reward.max())) if rewards is None else rewards
    if gamma == 1:
        worth = float(horizon or np.diff(of.offsets).max())
    else:
        worth = (1 - (0.0 if horizon is None else gamma**horizon)) / (1 - gamma)
    return Reach(least * (worth if least < 0 else 1.0), most * (worth if most > 0 else 1.0))


def summary(
    of: Transitions,
    q: Floats,
    v: Floats,
    v_next: Floats,
    within: Reach,
    gamma: float,
    trace: Trace,
    fit_error: float | None,
) -> FittedQ:
    """What a fit found, from q, v and v_next of its N members at all rows, (N, n) each."""
    members = v[:, of.starts].mean(axis=1)
    q, v, v_next = q.mean(axis=0), v.mean(axis=0), np.where(of.terminated, 0.0, v_next.mean(axis=0))
    known = of.known_next()
    with np.errstate(invalid="ignore", over="ignore"):  # of a fit that diverged
        away = (of.reward + gamma * v_next - q)[known]
    spread = float(returns(of, gamma).std())
    return FittedQ(
        q=q,
        v=v,
        v_next=v_next,
        members=members,
        fit_error=fit_error,
        starts=of.starts,
        group=of.group[of.starts],
        groups=of.groups,
        td_error=float(np.sqrt(np.mean(away**2))),
        td_mean=float(away.mean()),
        reach=within,
        return_spread=spread,
        steps=trace.steps,
        converged=trace.converged,
        curve_steps=np.array(trace.curve_steps, dtype=np.int64),
        curve=np.array(trace.curve).reshape(-1, len(members)),
        curve_loss=np.array(trace.losses),
        left_out=int((~known).sum()),
        alarm="the fit diverged" if trace.diverged else alarm(q, v, float(v[of.starts].mean()), within, spread),
    )


def error_of_members(values: Floats) -> float | None:
    """The standard error of a fit from (N,) values of members that each saw other users, drawn again.

    Few members tell it badly, so it is widened by Student's t for N - 1 degrees of freedom over the normal quantile.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    return float(values.std(ddof=1) * student.ppf(0.975, len(values) - 1) / Z95)


def alarm(q: Floats, v: Floats, value: float, within: Reach, return_spread: float) -> str | None:
    """Why a fitted value cannot be one, without telling the value; None where nothing speaks against it."""
    if not np.isfinite(value) or not np.isfinite(q).all() or not np.isfinite(v).all():
        return "the fit diverged"
    margin = BEYOND * (within.high - within.low)
    for name, figure in (("the policy's value", value), ("Q at the policy's actions", float(v.mean()))):
        if figure < within.low - margin:
            return (
                f"{name} lies below {within.low:.4g}, the least that rewards can add up to: "
                "the policy does what the log hardly ever did"
            )
        if figure > within.high + margin:
            return (
                f"{name} lies above {within.high:.4g}, the most that rewards can add up to: "
                "the fit extrapolates to what the log hardly ever did"
            )
    gap = float(q.mean() - v.mean())
    if return_spread > 0 and gap > GAP * return_spread:
        return (
            f"Q at the policy's actions lies below Q at the logged ones by {gap / return_spread:.1f} times the spread "
            f"of the logged returns (at most {GAP:g} pass): the policy does what the log hardly ever did"
        )
    return None


def on_policy(fitted: FittedQ, of: Transitions, gamma: float, resamples: int = 1_000, seed: int = 0) -> OnPolicy:
    """Compare the estimate of the behaviour policy, `fitted` with its own choices, with its logged return."""
    lengths = np.diff(of.offsets)
    last = of.offsets[1:] - 1
    goes_on = np.where(of.truncated[last], fitted.v_next[last], 0.0)
    unseen = np.isnan(goes_on)  # the next state is unknown: the last step's own Q stands for what it began
    whole = returns(of, gamma) + gamma**lengths * np.where(unseen, 0.0, goes_on)
    observed = whole + np.where(unseen, gamma ** (lengths - 1) * (fitted.q[last] - of.reward[last]), 0.0)
    known = np.isfinite(observed)
    estimated = fitted.v[fitted.starts]
    if not known.any():
        return OnPolicy(float(estimated.mean()), float("nan"), float("nan"), float("nan"), False, 0)
    away = Term(np.where(known, estimated - np.where(known, observed, 0.0), 0.0), known.astype(np.float64))
    drawn = draw({"away": ratios([away], fitted.group, fitted.groups)}, fitted.groups, resamples, seed)["away"]
    found = estimate(drawn, int(known.sum()))
    low, high = (float(found.value or 0.0) if edge is None else edge for edge in (found.low, found.high))
    size = float(np.sqrt(np.mean(observed[known] ** 2)))
    missed = abs(float(found.value or 0.0)) > MOST_MISS * size
    return OnPolicy(
        estimated=float(estimated[known].mean()),
        observed=float(observed[known].mean()),
        low=low,
        high=high,
        covers=low - SLACK * size <= 0 <= high + SLACK * size and not missed,
        n=int(known.sum()),
    )
