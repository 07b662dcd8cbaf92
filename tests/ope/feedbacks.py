"""Small feedback whose true value is known."""

import numpy as np

from headrace.journeys.seams import Floats
from headrace.ope.feedback import Feedback
from headrace.ope.intervals import groups_of


def drawn(
    n: int = 400, m: int = 3, seed: int = 0, users: int | None = None, sharpness: float = 1.0
) -> tuple[Feedback, Floats]:
    """Feedback of n rows over m channels, and the expected gain of each channel at each row, (n, m)."""
    rng = np.random.default_rng(seed)
    logging = rng.dirichlet(np.full(m, 2.0), n)
    valued = rng.dirichlet(np.full(m, 2.0 / sharpness), n)
    expected = rng.random((n, m)) * 0.6
    action = np.minimum((rng.random((n, 1)) > logging.cumsum(axis=1)).sum(axis=1), m - 1)
    at = np.arange(n)
    reward = (rng.random(n) < expected[at, action]).astype(np.float64)
    codes, groups = groups_of(None if users is None else at % users, n)
    of = Feedback(at, action, reward, np.log(logging[at, action]), valued, np.ones(n), codes, groups)
    return of, expected
