"""Estimators as functions of how often each group was drawn, and their 95 % intervals.

A group is a user, or a row where the log has no user. Every estimator of a table sees the same resamples, so that a
difference of two is paired. Three intervals: the studentised bootstrap, which follows the skew of large weights (the
one that is reported, nowhere narrower than the normal one), the percentile bootstrap and the normal one.

n rows, G groups, R resamples, J terms.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from headrace.evaluate.bootstrap import RESAMPLES, UNDEFINED_SHARE, resample
from headrace.journeys.seams import Estimate, Floats, Integers

Z95 = 1.959963984540054
ROUNDING = 1e-7  # of a value: a standard error below it is that of its floats
MOST_GROUPS = 20_000  # more are merged at random into as many: the spread of a sum is the same, the work is bounded


@dataclass(frozen=True, slots=True)
class Functional:
    """An estimator: `value` at counts of ones is the estimate, `error` its standard error (None: no closed form)."""

    value: Callable[[Floats], Floats]  # counts (R, G) -> (R,)
    error: Callable[[Floats], Floats] | None = None  # counts (R, G) -> (R,)


@dataclass(frozen=True, slots=True)
class Term:
    """One ratio of sums over rows: sign * sum(numerator) / sum(denominator), both (n,)."""

    numerator: Floats
    denominator: Floats
    sign: float = 1.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """An estimator's value and its resampled ones, with the standard error of each where there is one."""

    values: Floats  # (1 + R,)
    errors: Floats | None  # (1 + R,)


def groups_of(users: Integers | None, n: int, seed: int = 0) -> tuple[Integers, int]:
    """Codes 0 .. G-1 of n rows and G: users, or rows where there are none; at most MOST_GROUPS, merged at random."""
    if users is None:
        codes, groups = np.arange(n), n
    else:
        ids, codes = np.unique(users, return_inverse=True)
        groups = len(ids)
    if groups > MOST_GROUPS:
        codes = np.random.default_rng(seed).permutation(groups)[codes] % MOST_GROUPS
        groups = MOST_GROUPS
    return codes.astype(np.int64), groups


def ratios(terms: Sequence[Term], codes: Integers, groups: int) -> Functional:
    """The sum of J ratios of sums; its standard error by linearisation, groups being independent.

    An estimate's distance from its mean is, to first order, the sum over groups of
    psi_g = sum_j sign_j (numerator_gj - ratio_j denominator_gj) / denominator_j, so its variance is that of the psi_g.
    """
    columns = [c for term in terms for c in (term.numerator, term.denominator)]
    x = np.stack([np.bincount(codes, weights=c, minlength=groups) for c in columns], axis=1)  # (G, 2 J)
    first, second = np.triu_indices(x.shape[1])
    products = x[:, first] * x[:, second]  # (G, J (2 J + 1))
    signs = np.array([term.sign for term in terms])

    def value(counts: Floats) -> Floats:
        sums = counts @ x  # (R, 2 J)
        with np.errstate(invalid="ignore", divide="ignore"):
            out: Floats = (signs * sums[:, ::2] / sums[:, 1::2]).sum(axis=1)
        return out

    def error(counts: Floats) -> Floats:
        sums, squares = counts @ x, counts @ products
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = signs / sums[:, 1::2]  # (R, J), of the numerators
            a = np.empty_like(sums)
            a[:, ::2], a[:, 1::2] = slope, -slope * sums[:, ::2] / sums[:, 1::2]
            twice = np.where(first == second, 1.0, 2.0)
            variance = (a[:, first] * a[:, second] * squares * twice).sum(axis=1)
        out: Floats = np.sqrt(np.maximum(variance, 0.0) * groups / max(groups - 1, 1))
        return out

    return Functional(value, error)


def draw(
    functionals: Mapping[str, Functional], groups: int, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Drawn]:
    """Every functional on the groups as they are, then on the same R resamples of them."""
    parts: dict[str, list[tuple[Floats, Floats | None]]] = {name: [] for name in functionals}
    once = np.ones((1, groups))
    for counts in chain([once], resample(groups, resamples, seed) if groups > 1 else []):
        for name, f in functionals.items():
            parts[name].append((f.value(counts), None if f.error is None else f.error(counts)))
    found = {}
    for name, pieces in parts.items():
        errors = [e for _, e in pieces if e is not None]
        values = np.concatenate([v for v, _ in pieces])
        found[name] = Drawn(values, np.concatenate(errors) if errors else None)
    return found


def estimate(drawn: Drawn, n: int) -> Estimate:
    """The value with its interval: studentised where there are standard errors, else percentile; n rows.

    `diagnostics` holds the standard error and the other intervals. Refused where the value or too many resamples are
    undefined.
    """
    value = float(drawn.values[0])
    if not np.isfinite(value):
        return Estimate(None, None, None, n, refused="undefined on these rows")
    again = drawn.values[1:]
    finite = again[np.isfinite(again)]
    if len(finite) < max(1, (1 - UNDEFINED_SHARE) * len(again)):
        return Estimate(None, None, None, n, {"raw_value": value}, "undefined in too many resamples: too few of a kind")
    low, high = (float(v) for v in np.percentile(finite, (2.5, 97.5)))
    found = {"percentile_low": low, "percentile_high": high}
    if drawn.errors is None:
        found["standard_error"] = float(finite.std(ddof=1))
    else:
        error = float(drawn.errors[0])
        if not np.isfinite(error):
            why = "a single fit does not tell how far it may be off: no interval can be given"
            return Estimate(None, None, None, n, {"raw_value": value} | found, why)
        if error <= ROUNDING * abs(value) and value != 0:
            why = "all users or rows are alike: nothing tells how far the value may be off"
            return Estimate(None, None, None, n, {"raw_value": value} | found, why)
        found["standard_error"] = error
        low, high = _studentised(value, error, drawn)
        if not np.isfinite(low + high):
            return Estimate(
                None, None, None, n, {"raw_value": value} | found, "too few rows with weight and gain for an interval"
            )
    half = Z95 * found["standard_error"]
    return Estimate(value, low, high, n, found | {"normal_low": value - half, "normal_high": value + half})


def refuse(found: Estimate, reason: str | None) -> Estimate:
    """The estimate, or its refusal: the raw numbers then stand in the diagnostics alone."""
    if reason is None or found.refused is not None:
        return found
    raw = {"raw_value": found.value, "raw_low": found.low, "raw_high": found.high}
    return Estimate(None, None, None, found.n, found.diagnostics | raw, reason)


def _studentised(value: float, error: float, drawn: Drawn) -> tuple[float, float]:
    """value - t error, t the percentiles of (value* - value) / error*; infinite where error* is often 0."""
    assert drawn.errors is not None
    distance = drawn.values[1:] - value
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(distance == 0, 0.0, distance / drawn.errors[1:])
    t = t[~np.isnan(t)]
    if error == 0:
        return value, value
    if not len(t):
        return -np.inf, np.inf
    below, above = np.percentile(t, (2.5, 97.5), method="closest_observation")
    return float(value - max(above, Z95) * error), float(value - min(below, -Z95) * error)
