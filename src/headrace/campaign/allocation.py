"""Allocation by rates and rankings, as in the paper: which share each channel gets, and which users (section 3.7.2).

    explicit    p_j = CTR_j / sum CTR                            of the log
    implicit    the same with CTR_j = share of the channel's exposures whose predicted reward is above tau
    merged      (1 - alpha) explicit + alpha implicit            (17), the initial policy
    users       under each channel's share of the budget those of the largest predicted reward

Deviations: tau is chosen on validation data (F1 of "predicted above tau" against the gain that came), as rare rewards
leave nothing above .5; a channel with nothing above tau keeps its explicit share, the others divide the rest.

n exposures, N users, M channels.
"""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Refused, UserError, unknown
from headrace.journeys.seams import Floats, Integers

NO_AD = ("no_ad", "no-ad", "none", "organic")  # names by which a channel is taken to be no advert


def explicit_ratio(gained: Floats, channel: Integers, channels: int) -> Floats:
    """(M,) each channel's CTR over the sum of all; a channel never shown counts with the CTR of all exposures.

    >>> explicit_ratio(np.array([1.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 1]), 2).round(3).tolist()
    [0.333, 0.667]
    """
    shown = np.bincount(channel, minlength=channels)
    total = np.bincount(channel, gained, minlength=channels)
    mean = float(gained.mean()) if len(gained) else 0.0
    rate = np.where(shown > 0, total / np.maximum(shown, 1), mean)
    return _shares(rate)


def choose_threshold(predicted: Floats, gained: Floats) -> float:
    """tau: the predicted reward whose excess best tells the validation exposures that gained, by F1.

    >>> choose_threshold(np.array([0.01, 0.02, 0.03, 0.04]), np.array([0.0, 0.0, 1.0, 1.0]))
    0.02
    """
    if not (gained > 0).any():
        raise UserError("no validation exposure gained anything, so no threshold can be chosen; take another gain")
    order = np.argsort(-predicted, kind="stable")
    values, hits = predicted[order], np.cumsum(gained[order] > 0)
    f1 = 2 * hits / (np.arange(1, len(values) + 1) + hits[-1])
    ends = np.append(values[1:] < values[:-1], True)  # all exposures of a value go together
    best = int(np.flatnonzero(ends)[f1[ends].argmax()])
    return float(values[best + 1]) if best + 1 < len(values) else float(np.nextafter(values[-1], -np.inf))


def implicit_ratio(predicted: Floats, channel: Integers, explicit: Floats, tau: float) -> Floats:
    """(M,) shares by the rate of reliable exposures; a channel without any keeps its explicit share.

    >>> implicit_ratio(np.array([0.9, 0.1, 0.9]), np.array([0, 0, 1]), np.array([0.3, 0.5, 0.2]), 0.5).round(3).tolist()
    [0.267, 0.533, 0.2]
    """
    channels = len(explicit)
    shown = np.bincount(channel, minlength=channels)
    rate = np.bincount(channel, predicted > tau, minlength=channels) / np.maximum(shown, 1)
    empty = rate == 0
    if empty.all():
        return explicit
    return np.where(empty, explicit, (1 - explicit[empty].sum()) * rate / rate.sum())


def merged_ratio(explicit: Floats, implicit: Floats, alpha: float) -> Floats:
    """(M,) the initial policy (17)."""
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha = {alpha}, expected a number from 0 to 1")
    return (1 - alpha) * explicit + alpha * implicit


def top_users(scores: Floats, prices: Floats, ratios: Floats, budget: float) -> tuple[Integers, Integers]:
    """(user, channel) pairs: under each channel's share of the budget, the users of the largest predicted reward.

    `scores` and `prices` (N, M). Each user asks for the channel of its best score, a channel takes them from the top
    while its share pays; whom it turns away asks for the best of those still open. At most M rounds.

    >>> users, channels = top_users(np.array([[0.9, 0.1], [0.8, 0.7]]), np.ones((2, 2)), np.array([0.5, 0.5]), 2.0)
    >>> users.tolist(), channels.tolist()
    ([0, 1], [0, 1])
    """
    n = len(scores)
    left = ratios * budget
    closed: NDArray[np.bool_] = ratios <= 0
    chosen = np.full(n, -1)
    while not closed.all() and (chosen < 0).any():
        free = np.flatnonzero(chosen < 0)
        open_scores = np.where(closed, -np.inf, scores[free])
        wish = open_scores.argmax(axis=1)
        turned_away = False
        for channel in np.flatnonzero(~closed):
            asking = free[(wish == channel) & np.isfinite(open_scores.max(axis=1))]
            asking = asking[np.argsort(-scores[asking, channel], kind="stable")]
            paid = np.cumsum(prices[asking, channel])
            taken = asking[paid <= left[channel]]
            chosen[taken] = channel
            left[channel] -= prices[taken, channel].sum()
            if len(taken) < len(asking):
                closed[channel] = turned_away = True
        if not turned_away:
            break
    users = np.flatnonzero(chosen >= 0)
    return users, chosen[users]


def no_ad_channel(channels: tuple[str, ...], named: str | None = None) -> int:
    """The index of the channel that stands for showing no advert; Refused where the log holds no such steps."""
    if named is not None:
        if named not in channels:
            raise unknown("channel", named, channels, "--no-ad")
        return channels.index(named)
    found = [i for i, name in enumerate(channels) if name.lower() in NO_AD]
    if not found:
        raise Refused(
            "the increment over no advert cannot be estimated: this log holds no steps without an advert; plan by "
            "--score gain, or log such steps as a channel and name it with --no-ad CHANNEL"
        )
    return found[0]


def increment(gains: Floats, no_ad: int) -> Floats:
    """(N, M) expected gain above that of no advert; the channel of no advert itself is closed (-inf)."""
    found = gains - gains[:, [no_ad]]
    found[:, no_ad] = -np.inf
    return found


def _shares(rate: Floats) -> Floats:
    total = rate.sum()
    return rate / total if total > 0 else np.full(len(rate), 1 / len(rate))
