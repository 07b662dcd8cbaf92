"""What a policy's sessions would have brought, from the importance weights of the logged ones: PDIS and its kin.

An episode is a session or a journey, cut off where the log cuts it; its value is sum_t gamma^t r_t. A step's weight is
that of everything done up to it, rho_t = prod_{u <= t} pi(a_u | h_u) / b(a_u | h_u), cumulated as logarithms.

- `pdis`  mean of sum_t gamma^t rho_t r_t (Precup et al. 2000): unbiased, its variance grows with the episodes' length
- `weighted_pdis`  each step's weights divided by their sum over all episodes; an episode that is over keeps its last
  weight (nothing follows, reward 0). Dividing by those still running would lose that a policy makes sessions longer.
- `doubly_robust`  mean of sum_t gamma^t (rho_{t-1} V(s_t) + rho_t (r_t - Q(s_t, a_t))) (Jiang & Li 2016)

n steps, E episodes, T steps of the longest one, G groups, R resamples.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from headrace.errors import UserError
from headrace.journeys.seams import Floats, Integers
from headrace.ope.intervals import Functional, Term, ratios

HIGHEST = 300.0  # log weights are held below it, so that their squares stay finite; the gate refuses long before


@dataclass(frozen=True, slots=True)
class Episodes:
    """Logged episodes, their steps in order, and what the policy would have made of them."""

    offsets: Integers  # (E + 1,) episode i holds the steps offsets[i] .. offsets[i + 1] - 1, at least one
    log_weight: Floats  # (n,) log pi(a|h) - log b(a|h); minus infinity where the policy would not
    reward: Floats  # (n,)
    group: Integers  # (E,) codes of the users
    groups: int  # G
    gamma: float
    q: Floats | None = None  # (n,) Q(s_t, a_t) of the logged actions, for DR
    v: Floats | None = None  # (n,) E_{a ~ pi} Q(s_t, a), for DR

    def __post_init__(self) -> None:
        if (np.diff(self.offsets) < 1).any() or self.offsets[0] != 0 or self.offsets[-1] != len(self.reward):
            raise ValueError(f"offsets must rise from 0 to the {len(self.reward)} steps, no episode being empty")
        wrong = np.flatnonzero(~(self.log_weight < np.inf))  # NaN included
        if len(wrong):
            raise UserError(
                f"episodes: the weight's logarithm is {self.log_weight[wrong[0]]} at step {wrong[0]} "
                f"({len(wrong):,} such steps), expected a finite one: the log gives no chance to what was done; "
                "correct the propensities"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Integers:
        """(E,)"""
        return np.diff(self.offsets)

    @property
    def episode(self) -> Integers:
        """(n,) the episode of each step."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def step(self) -> Integers:
        """(n,) the place of each step in its episode, from 0."""
        return np.arange(len(self.reward)) - np.repeat(self.offsets[:-1], self.lengths)


@dataclass(frozen=True, slots=True)
class EpisodeWeights:
    """What the cumulated weights say of the overlap; by step of the episode, (T,), and for whole episodes."""

    running: Integers  # (T,) episodes that reach the step
    ess_by_step: Floats  # (T,) effective number of groups among them
    largest_share_by_step: Floats  # (T,) of the step's weight, held by one group
    mean_weight_by_step: Floats  # (T,) over all episodes, those over keeping their last weight; 1 under full support
    ess: float  # effective number of episodes by their whole weight
    ess_groups: float  # the same of groups
    largest_weight: float
    largest_share: float  # of all weight, held by one group
    mean_weight: float  # 1 under full support
    mean_weight_error: float  # its standard error, groups being independent

    def horizon(self, least_ess: float) -> int:
        """How many of the first steps keep an effective number of groups of at least `least_ess`."""
        short = np.flatnonzero(self.ess_by_step < least_ess)
        return int(short[0]) if len(short) else len(self.ess_by_step)


def cumulated(of: Episodes) -> Floats:
    """(n,) log rho_t: the log weights summed up along each episode."""
    out = np.array(of.log_weight, dtype=np.float64)
    longest_first = np.argsort(-of.lengths, kind="stable")
    lengths = of.lengths[longest_first]
    starts = of.offsets[:-1][longest_first]
    for t in range(1, int(lengths[0])):
        rows = starts[: np.searchsorted(-lengths, -t)] + t  # of the episodes longer than t
        out[rows] += out[rows - 1]
    return out


def pdis(of: Episodes) -> Functional:
    """Per-decision importance sampling."""
    return _mean(of, of.gamma**of.step * _weights(of) * of.reward)


def doubly_robust(of: Episodes) -> Functional:
    """Stepwise DR; q and v must come from a model that was fitted on other users."""
    if of.q is None or of.v is None:
        raise ValueError("doubly robust needs q and v of every step")
    weight = _weights(of)
    before = np.ones_like(weight)
    later = of.step > 0
    before[later] = weight[np.flatnonzero(later) - 1]
    return _mean(of, of.gamma**of.step * (before * of.v + weight * (of.reward - of.q)))


def weighted_pdis(of: Episodes) -> Functional:
    """Per-decision importance sampling, self-normalised at every step; its standard error by linearisation."""
    weight, step, lengths = _weights(of), of.step, of.lengths
    group = of.group[of.episode]
    longest = int(lengths.max())
    shape = (longest, of.groups)
    gains = csr_array((of.gamma**step * weight * of.reward, (step, group)), shape)
    running = csr_array((weight, (step, group)), shape)
    ended = lengths < longest
    over = csr_array((weight[of.offsets[1:] - 1][ended], (lengths[ended], of.group[ended])), shape)

    def ratio(counts: Floats) -> tuple[Floats, Floats]:
        """Means and inverse sums of weights of each step, (T, R); NaN where no weight is left: nothing can be said."""
        drawn = np.ascontiguousarray(counts.T)  # (G, R)
        total = running @ drawn + np.cumsum(over @ drawn, axis=0)
        inverse = np.divide(1.0, total, out=np.full_like(total, np.nan), where=total > 0)
        return (gains @ drawn) * inverse, inverse

    def value(counts: Floats) -> Floats:
        out: Floats = ratio(counts)[0].sum(axis=0)
        return out

    def error(counts: Floats) -> Floats:
        mean, inverse = ratio(counts)
        slope = mean * inverse  # (T, R)
        after = np.cumsum(slope[::-1], axis=0)[::-1]  # an episode that is over weighs in every later step
        influence = gains.T @ inverse - running.T @ slope - over.T @ after  # (G, R)
        variance = (counts.T * influence**2).sum(axis=0)
        out: Floats = np.sqrt(variance * of.groups / max(of.groups - 1, 1))
        return out

    return Functional(value, error)


def weights(of: Episodes) -> EpisodeWeights:
    """Measure how much of the log is left for the policy, step by step."""
    weight, step, lengths = _weights(of), of.step, of.lengths
    longest = int(lengths.max())
    last = weight[of.offsets[1:] - 1]  # (E,)
    shape = (longest, of.groups)
    by_group = csr_array((weight, (step, of.group[of.episode])), shape)
    total = np.asarray(by_group.sum(axis=1)).ravel()  # (T,)
    square = np.asarray((by_group * by_group).sum(axis=1)).ravel()
    largest = np.asarray(by_group.max(axis=1).todense()).ravel()
    ended = np.bincount(lengths, weights=last, minlength=longest + 1)[:longest]
    whole = np.bincount(of.group, weights=last, minlength=of.groups)
    per_group = np.bincount(of.group, minlength=of.groups)
    mean = float(last.mean())
    return EpisodeWeights(
        running=np.bincount(step, minlength=longest),
        ess_by_step=_share(total**2, square),
        largest_share_by_step=_share(largest, total),
        mean_weight_by_step=(total + np.cumsum(ended)) / len(of),
        ess=float(_share(last.sum() ** 2, (last**2).sum())),
        ess_groups=float(_share(whole.sum() ** 2, (whole**2).sum())),
        largest_weight=float(last.max()),
        largest_share=float(_share(whole.max(), whole.sum())),
        mean_weight=mean,
        mean_weight_error=float(np.sqrt(((whole - mean * per_group) ** 2).sum()) / len(of)),
    )


def _weights(of: Episodes) -> Floats:
    return np.exp(np.minimum(cumulated(of), HIGHEST))


def _mean(of: Episodes, by_step: Floats) -> Functional:
    """The mean over episodes of the sums of their steps."""
    sums = np.add.reduceat(by_step, of.offsets[:-1])
    return ratios([Term(sums, np.ones(len(of)))], of.group, of.groups)


def _share(top: Floats | float, bottom: Floats | float) -> Floats:
    """top / bottom, 0 where there is nothing."""
    top, bottom = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
