"""What ope.json tells beside the figures: overlap, the gate condition by condition, weights, propensities, raw numbers.

n rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from headrace.journeys.seams import Floats
from headrace.ope.journey_value import JourneyValue
from headrace.ope.propensities import DISTANCE, SLACK
from headrace.ope.single import recommended
from headrace.ope.support import Gate, conditions
from headrace.ope.valuation import Valuation, Value

BINS_PER_DECADE = 4
FITTED = ("td_error", "spread", "q_policy", "q_logged", "curve_steps", "curve")  # what a fit says beside its value


def account(
    found: Valuation, estimators: Sequence[str], select: Mapping[str, Floats | None], gate: Gate | None = None
) -> dict[str, Any]:
    """Plain values for ope.json; `select` (n,) is each policy's probability of advertising at the rows valued."""
    gate = Gate() if gate is None else gate
    p = found.propensities
    policies: dict[str, Any] = {}
    told = {
        "estimator": recommended(estimators),
        "estimators": list(estimators),
        "policies": policies,
        "propensities": {
            "way": p.way,
            "balance": p.balance,
            "calibration_error": p.calibration_error,
            "doubt": p.doubt,
            "standard_errors_let_pass": DISTANCE,
            "distance_let_pass": SLACK,
        },
    }
    for group, values in found.values.items():
        for name, value in values.items():
            of = policies.setdefault(name, {"weights": weights(found.weights[name], select[name]), "groups": {}})
            of["groups"][group] = _overlap(value, gate)
    return dict(plain(told))


def journey_account(found: Mapping[str, JourneyValue]) -> dict[str, Any]:
    """What ope.json tells of values over journeys: the discount, the overlap by step, and what speaks for fitted Q."""
    first = next(iter(found.values()))
    policies = {
        name: {
            "ess_by_step": of.overlap.ess_by_step,
            "ess": of.overlap.ess_groups,
            "mean_weight": of.overlap.mean_weight,
            "fitted": {e: {"steps": q.steps, "converged": q.converged, "alarm": q.alarm} for e, q in of.fitted.items()},
            "diagnostics": {
                "value": {e: estimate.diagnostics for e, estimate in of.estimates.items()},
                "fitted": {e: {name: getattr(q, name) for name in FITTED} for e, q in of.fitted.items()},
                "own": {e: asdict(o) for e, o in of.own.items()},
            },
        }
        for name, of in found.items()
    }
    return dict(plain({"gamma": first.gamma, "estimators": list(first.estimates), "policies": policies}))


def _overlap(value: Value, gate: Gate) -> dict[str, Any]:
    return {
        "support": value.support.to_dict(),
        "conditions": [
            {k: getattr(c, k) for k in ("condition", "measured", "threshold", "passed")}
            for c in conditions(value.support, gate)
        ],
        "diagnostics": {
            "value": {e: found.diagnostics for e, found in value.estimates.items()},
            "over_logged": {e: found.diagnostics for e, found in value.over_logged.items()},
        },
    }


def weights(weight: Floats, select: Floats | None = None) -> dict[str, Any]:
    """How the importance weights, (n,), lie: rows of weight 0, and in bins of log10 the rows and their share of weight.

    Rows count as often as they are selected.

    >>> found = weights(np.array([0.0, 1.0, 1.0, 10.0]))
    >>> found["zero"], [(b["low"], b["rows"]) for b in found["bins"] if b["rows"]]
    (1.0, [(0.0, 2.0), (1.0, 1.0)])
    """
    chance = np.ones(len(weight)) if select is None else select
    there = weight > 0
    zero = float(chance[~there].sum())
    if not there.any():
        return {"zero": zero, "bins": []}
    place = np.floor(np.log10(weight[there]) * BINS_PER_DECADE + 1e-9).astype(np.int64)
    first = int(place.min())
    counts = np.bincount(place - first, weights=chance[there])
    held = np.bincount(place - first, weights=chance[there] * weight[there])
    total = float(held.sum()) or 1.0
    bins = [
        {"low": (first + i) / BINS_PER_DECADE, "high": (first + i + 1) / BINS_PER_DECADE}
        | {"rows": float(counts[i]), "share_of_weight": float(held[i]) / total}
        for i in range(len(counts))
    ]
    return {"zero": zero, "bins": bins}


def plain(value: Any) -> Any:
    """The value with every number a Python one, null where it is not finite."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
