"""Users a block at a time: what is simulated at once must fit the memory, and leaves no trace in what happens."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError


def blocks(users: int, size: int) -> Iterator[NDArray[np.int64]]:
    """The numbers of `users` users, `size` at a time; raises UserError where there is nobody.

    >>> [block.tolist() for block in blocks(5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    if users < 1:
        raise UserError(f"users is {users}, expected 1 or more")
    for first in range(0, users, size):
        yield np.arange(first, min(first + size, users))
