"""Which exposures of a batch the money suffices for: a running sum against what is free, exposure by exposure.

In the batch's order each exposure is admitted if what it may cost still fits every account it is charged to, and
refused if not; one that is refused leaves the money to those behind it. The loop below does exactly this, yet passes
over the batch only as often as refusals change what fits: all exposures up to the first that does not fit are admitted
by one cumulative sum, and with it fall all later ones that are too dear for what is then left.

B exposures, P purses (a purse is a set of accounts that an exposure is charged to), J accounts. Money in micros.
"""

import numpy as np

from headrace.journeys.seams import Bools, Integers

BLOCK = 8_192  # exposures looked at together: their sum of micros must stay within 64 bits


def admit(amounts: Integers, purse: Integers, holds: Bools, free: Integers) -> Bools:
    """(B,) whether each exposure is admitted.

    amounts (B,) at least 0; purse (B,) rows of `holds` (P, J), which accounts a purse holds; free (J,).

    >>> holds = np.array([[True, True], [True, False]])
    >>> admit(np.array([6, 5, 4, 3]), np.array([0, 0, 1, 1]), holds, np.array([14, 10])).tolist()
    [True, False, True, True]
    """
    free, admitted = free.copy(), np.zeros(len(amounts), dtype=np.bool_)
    for start in range(0, len(amounts), BLOCK):
        part = slice(start, start + BLOCK)
        admitted[part] = _admit(amounts[part], purse[part], holds, free)
    return admitted


def _admit(amounts: Integers, purse: Integers, holds: Bools, free: Integers) -> Bools:
    """`admit` for one block; takes what is admitted off `free`."""
    admitted = np.zeros(len(amounts), dtype=np.bool_)
    left = np.flatnonzero(~_too_dear(amounts, purse, holds, free))
    while len(left):
        charged = np.where(holds[purse[left]], amounts[left, None], 0)  # (B, J)
        sums = charged.cumsum(axis=0)
        over = (sums > free).any(axis=1)
        first = int(over.argmax()) if over.any() else len(left)
        admitted[left[:first]] = True
        if first:
            free -= sums[first - 1]
        left = left[first:]
        left = left[~_too_dear(amounts[left], purse[left], holds, free)]
    return admitted


def _too_dear(amounts: Integers, purse: Integers, holds: Bools, free: Integers) -> Bools:
    """(B,) whether an exposure would not fit what is free even if it were the only one."""
    most = np.where(holds, free, np.iinfo(np.int64).max).min(axis=1)  # (P,)
    return np.asarray(amounts > most[purse])
