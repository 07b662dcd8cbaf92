"""The paper's channel ratios of a log and a run: explicit, implicit, merged as the initial policy (17). M channels."""

import numpy as np

from headrace.campaign.allocation import choose_threshold, explicit_ratio, implicit_ratio, merged_ratio
from headrace.channel.methods import Method
from headrace.cli.measuring import own_journeys, own_split
from headrace.journeys.seams import Floats
from headrace.journeys.store import Journeys
from headrace.learn.run import Run

INITIAL = "initial policy (17)"


def ratios(run: Run, method: Method, journeys: Journeys, alpha: float) -> tuple[dict[str, Floats], str]:
    """The paper's ratios of a log, (M,) each, and how tau came about."""
    gain = method.reward_gains[0]
    m = len(journeys.channels)
    value = np.asarray(journeys.gain(gain), dtype=np.float64)
    known = ~np.isnan(value)
    channel = np.asarray(journeys.channel)
    explicit = explicit_ratio(value[known], channel[known], m)
    own = own_journeys(run)
    words = f"By {gain}."
    implicit = explicit
    if own is None:
        words += " The run's own journeys are gone, so tau cannot be chosen: the implicit ratio is the explicit one."
    else:
        steps = own_split(run, own).parts["validation"]
        found = method.predict(own, steps)
        shown = np.asarray(own.channel)[found.rows]
        came = np.asarray(own.gain(gain), dtype=np.float64)[found.rows]
        predicted = found.reward_by_channel[gain][np.arange(len(shown)), shown]
        there = ~np.isnan(came)
        if (came[there] > 0).any():
            tau = choose_threshold(predicted[there], came[there])
            implicit = implicit_ratio(predicted, shown, explicit, tau)
            words += f" tau is {tau:.4g}, chosen on the validation part."
    shares = {
        "explicit ratio": explicit,
        "implicit ratio": implicit,
        INITIAL: merged_ratio(explicit, implicit, alpha),
    }
    return shares, words
