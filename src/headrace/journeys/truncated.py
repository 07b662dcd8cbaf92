"""Normals cut to a box, in each dimension for itself, and their exact densities.

A, n rows; 12, K dimensions.
"""

import math

import numpy as np
from scipy.special import ndtr, ndtri

from headrace.errors import UserError
from headrace.journeys.seams import Floats


def truncated_normal(luck: Floats, mean: Floats, spread: Floats, low: Floats, high: Floats) -> Floats:
    """Normals cut to [low, high], from uniforms of the same shape; where the spread is inf, uniforms."""
    flat = np.isinf(spread)
    sd, side, near, far = _tail(mean, spread, low, high)
    share = np.where(side > 0, luck, 1 - luck)
    drawn = mean + side * sd * ndtri(near + share * (far - near))
    return np.asarray(np.clip(np.where(flat, low + luck * (high - low), drawn), low, high))


def log_density(weights: Floats, mean: Floats, spread: Floats, low: Floats, high: Floats) -> Floats:
    """(A,) the log density of weights (A, 12) that `truncated_normal` drew; -inf outside the box.

    Raises UserError where a mean lies so far from its box that nothing of the normal falls into it.

    >>> one = np.array([[0.5]])
    >>> log_density(one, one, np.array([np.inf]), 0 * one, 4 * one).round(4).tolist()
    [-0.6931]
    """
    flat = np.isinf(spread)
    sd, _, near, far = _tail(mean, spread, low, high)
    mass = np.where(flat, 1.0, far - near)
    if not (mass > 0).all():  # NaN too
        raise UserError(
            f"policy: {int((~(mass > 0)).any(axis=1).sum())} requests have a mean that is not a number or more than 30 "
            "standard deviations off its box, where the density can't be told; clip the means to the box"
        )
    bell = -0.5 * ((weights - mean) / sd) ** 2 - np.log(sd) - 0.5 * math.log(2 * math.pi) - np.log(mass)
    each = np.where(flat, -np.log(high - low), bell)
    within = (weights >= low) & (weights <= high)
    return np.asarray(np.where(within, each, -np.inf).sum(axis=1))


def _tail(mean: Floats, spread: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Standard deviation; 1, or -1 where the normal is mirrored; its distribution function at the box's two edges.

    A mean below the box is mirrored, because there the distribution function is 1 to every digit at both edges.
    """
    sd = np.where(np.isinf(spread), 1.0, spread)
    side = np.where(mean < low, -1.0, 1.0)
    first, last = np.where(side > 0, low, high), np.where(side > 0, high, low)
    return sd, side, ndtr(side * (first - mean) / sd), ndtr(side * (last - mean) / sd)
