"""Methods beside one another over several seeds, on the same rows: means over seeds and paired differences.

An interval resamples users and seeds: users as in every table, the seeds with replacement, the same of both sides of a
difference. So it holds for other people and for another start alike; five seeds tell of the latter roughly.

S seeds, R resamples.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from headrace.evaluate.bootstrap import RESAMPLES, Interval, Metric, draws, interval
from headrace.evaluate.metrics import MetricOf, Predicted, Steps, metrics_of
from headrace.evaluate.results import Record, Source, record
from headrace.evaluate.significance import holm, p_value
from headrace.journeys.seams import Floats

Pair = tuple[str, str, str]  # metric, method, against
Scored = Mapping[str, tuple[Steps, Mapping[str, Sequence[Predicted | str]]]]  # by prefix: rows, S predictions each


def compare(
    source: Source,
    scored: Scored,
    against: Callable[[str, Sequence[str]], Sequence[str]],
    only: Sequence[str] = ("auc", "log_loss", "session_log_loss", "ece", "mse"),
    seed: int = 0,
    family: Callable[[str, str, str], Hashable] = lambda metric, method, _: (metric, method),
    functions: Mapping[str, MetricOf] | None = None,
) -> tuple[list[Record], dict[Pair, float]]:
    """Records of each method (each seed, their mean, paired differences), and the differences' p-values after Holm.

    `scored` is by the prefix of the metrics' names ("" for none). A prediction given as a string is the reason why
    there is none. `against` says what a method is compared with among the names there; `family` which comparisons
    Holm's correction takes together, by default all of one method in one metric. `functions` are the metrics, by
    default those of the steps' kind that `only` names.
    """
    records: list[Record] = []
    p_values: dict[Pair, float] = {}
    together = dataclasses.replace(source, seed=None)
    for prefix, (steps, methods) in scored.items():
        metrics = functions or {n: f for n, f in metrics_of(steps).items() if n in only}
        figures = {
            (m, s, name): Metric(None, p) if isinstance(p, str) else function(steps, p)
            for m, ps in methods.items()
            for s, p in enumerate(ps)
            for name, function in metrics.items()
        }
        _, groups = steps.groups
        drawn = draws(figures, groups, RESAMPLES, seed)
        seeds = max(len(ps) for ps in methods.values())
        chosen = np.random.default_rng(seed).integers(0, seeds, (RESAMPLES, seeds))
        for name in metrics:
            metric = f"{prefix}/{name}" if prefix else name
            whole: dict[str, Floats] = {}
            for m, ps in methods.items():
                held = [drawn.get((m, s, name)) for s in range(len(ps))]
                reflect = figures[m, 0, name].reflect
                if any(h is None for h in held):
                    told = (figures[m, s, name].refused for s in range(len(ps)))
                    refused = next((reason for reason in told if reason is not None), "undefined")
                    records.append(record(together, m, metric, Interval(None, None, None, refused), len(steps)))
                    continue
                table = np.stack([h for h in held if h is not None])  # (S, 1 + R)
                table = np.broadcast_to(table, (seeds, table.shape[1])) if len(table) == 1 else table
                for s, row in enumerate(table if len(ps) > 1 else []):
                    one = dataclasses.replace(source, seed=s)
                    records.append(record(one, m, metric, interval(row, groups, reflect), len(steps)))
                again = (
                    np.take_along_axis(table[:, 1:], chosen.T, axis=0).mean(axis=0)
                    if len(table) == seeds
                    else table[:, 1:].mean(axis=0)
                )
                whole[m] = np.append(table[:, 0].mean(), again)
                records.append(record(together, m, metric, interval(whole[m], groups, reflect), len(steps)))
            for m in whole:
                for other in against(m, list(whole)):
                    difference = whole[m] - whole[other]
                    found = interval(difference, groups)
                    records.append(record(together, m, metric, found, len(steps), other))
                    if found.refused is None:
                        p_values[metric, m, other] = p_value(difference)
    families: dict[Hashable, dict[Pair, float]] = {}
    for key, p in p_values.items():
        families.setdefault(family(*key), {})[key] = p
    return records, {key: p for held in families.values() for key, p in holm(held).items()}
