"""What the allocations of compared methods bring by the log: the channels, and the steps they would advertise at.

    gain_of_chosen          mean gain of the steps chosen, channels as they were logged: user-level allocation alone
    value_snips             value of the channels chosen, at every step: channel-level allocation alone
    value_snips of a share  value of the channels chosen, at the steps chosen: both

A gain is gross; where the penalised reward is asked for it is less s times the cost (2). All are valued by the same,
and learn of it but for AG, which learns of a grid of prices and plays the one that the log's own spend asks for. A
method chooses the channel of the largest expected gain, or of the largest Q; one whose choice is its policy the most
probable: MIREC, which has prices to count, and IQL, whose Q of a channel the log never shows is no reason to choose it.
Steps are ranked by what the chosen channel is worth, which of a Q is with what follows; a method that knows neither
gains nor values ranks none. The threshold of a share is fixed on the validation part. Values are self-normalised by
exact propensities (Swaminathan and Joachims 2015), and go through the gate of ope/.

n rows, M channels.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from headrace.channel.compared import Compared, Found, add, rows_of
from headrace.channel.comparing import Kept, Setting
from headrace.channel.methods import method_of
from headrace.channel.predictions import Predictions
from headrace.channel.valuing import expected
from headrace.evaluate.bootstrap import Metric, ratio
from headrace.evaluate.metrics import Predicted, Steps
from headrace.evaluate.results import Source
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.store import Journeys
from headrace.ope.feedback import feedback
from headrace.ope.intervals import groups_of
from headrace.ope.policies import Worth
from headrace.ope.propensities import Propensities, propensities
from headrace.ope.selection import threshold
from headrace.ope.support import support

LOGGED = "logged"  # the log itself, which stands beside every method
UNRANKED = "it predicts neither gains nor values, so it ranks no steps"
Weights = Mapping[str, Sequence[Floats | str]]


def allocations(
    setting: Setting, found: Found, share: float, way: str | None, reference: str, source: Source, made: Compared
) -> None:
    """Add the records of what is allocated; `way` says where propensities come from, None: there are none."""
    journeys, rows = setting.journeys, rows_of(found)
    first = next(iter(found.values()))
    worth = Worth(first.reward_weights, first.penalty)
    reward = worth.of(journeys, rows)
    there = ~np.isnan(reward)
    users = None if journeys.schema.user is None else journeys.user_of_step[rows[there]]
    repeated = setting.split.windows is not None
    steps = Steps(reward[there], "continuous", users=users, rows=rows[there], repeated=repeated)
    chosen = {key: chooses(cell, worth, share) for key, cell in found.items()}
    names = list(dict.fromkeys(name for name, _ in found))
    of_share = dataclasses.replace(source, setting=source.setting | {"share": share})

    def tell(of: Source, metric: str, weights: Weights) -> None:
        """`weights` by method: of each seed what a row counts, (n,), or why nothing can be told."""
        held = {
            name: [w if isinstance(w, str) else Predicted(w, rows=steps.rows) for w in ws]
            for name, ws in weights.items()
        }
        held[LOGGED] = [Predicted(np.ones(len(steps)), rows=steps.rows)]
        add(made, of, {"": (steps, held)}, reference, setting.split.seed, {metric: weighted_mean})

    selects = {
        name: [UNRANKED if s is None else s[there] for (m, _), (_, s) in chosen.items() if m == name] for name in names
    }
    tell(of_share, "gain_of_chosen", selects)
    if way is None or repeated:
        return
    codes, _ = groups_of(users, int(there.sum()), setting.split.seed)
    logged_with = propensities(journeys, rows[there], codes, way, setting.split.seed)
    alone: dict[str, list[Floats | str]] = {}
    both: dict[str, list[Floats | str]] = {}
    for name in names:
        acts = [acts for (m, _), acts in chosen.items() if m == name]
        alone[name] = [weight(setting, rows, chances, None, reward, logged_with) for chances, _ in acts]
        both[name] = [
            UNRANKED if s is None else weight(setting, rows, chances, s, reward, logged_with) for chances, s in acts
        ]
    tell(source, "value_snips", alone)
    tell(of_share, "value_snips", both)


def cannot_be_valued(weights: Mapping[str, float], journeys: Journeys) -> str | None:
    """Why nothing can be told of what is allocated, or None where it can."""
    classes = [name for name in weights if journeys.schema.gain(name).kind == "classes"]
    if classes:
        return f"what is allocated is not valued: the gain {classes[0]} has classes and no size"
    return None if weights else "what is allocated is not valued: the log has no gain known in time"


def chooses(cell: Kept, worth: Worth, share: float) -> tuple[Floats, Floats | None]:
    """(n, M) the channel that a fitted method chooses at each test row, and (n,) whether it would advertise there."""
    chances, score = chosen_of(cell, cell.part("test"), worth)
    if score is None:
        return chances, None
    _, before = chosen_of(cell, cell.part("validation"), worth)
    assert before is not None
    return chances, threshold(before, share).chances(score)


def chosen_of(cell: Kept, found: Predictions, worth: Worth) -> tuple[Floats, Floats | None]:
    """(n, M) the channel chosen at each predicted row, and (n,) what it is worth there; None: nobody knows."""
    gains = expected(cell, found, worth)
    by_policy = gains is None or method_of(cell.name).chooses_by == "policy"
    choice = (found.action if by_policy or gains is None else gains).argmax(axis=1)
    score = None if gains is None else gains[np.arange(len(choice)), choice]
    return np.eye(found.action.shape[1])[choice], score


def weight(
    setting: Setting, rows: Integers, chances: Floats, select: Floats | None, reward: Floats, logged_with: Propensities
) -> Floats | str:
    """(known rows,) importance weights times selection, or why the log cannot tell the value."""
    propensity = np.ones(len(rows))
    propensity[~np.isnan(reward)] = logged_with.values
    of = feedback(setting.journeys, rows, chances, reward, propensity, select, seed=setting.split.seed)
    refused = support(of, doubt=logged_with.doubt).refused
    return of.select * of.weight if refused is None else refused


def weighted_mean(steps: Steps, predicted: Predicted) -> Metric:
    """Mean worth over rows that count as much as `predicted` says."""
    return ratio(predicted.values * steps.labels, predicted.values, *steps.groups)
