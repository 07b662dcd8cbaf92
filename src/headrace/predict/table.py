"""The encoded rows of a part, session by session, and batches of them.

n rows, C category columns, F number columns, K tasks, S sessions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headrace.journeys.seams import Bools, Floats, Integers
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys
from headrace.journeys.views import known_for_training
from headrace.predict.features import Features, Key
from headrace.predict.sessions import Rule, sessions


@dataclass(frozen=True, slots=True)
class Table:
    """Row i + 1 follows row i in its session, unless `last[i]`."""

    rows: Integers  # (n,) rows of the journeys
    ids: Tensor  # (n, C) int32
    numbers: Tensor  # (n, F)
    labels: Tensor  # (n, K) in [0, 1], 0 where not known
    known: Tensor  # (n, K) 1 where the label is known
    session: Integers  # (n,) 0 .. S-1, ascending
    position: Tensor  # (n,) t, place within the session, from 0
    last: Tensor  # (n,) bool: the session ends here

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int, seed: int | None = None) -> Iterator[Tensor]:
        """Places of the rows, `size` at a time: in order without a seed, else shuffled."""
        order = torch.arange(len(self))
        if seed is not None:
            order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))
        yield from torch.split(order, size)

    def session_batches(self, size: int, seed: int, among: Bools | None = None) -> Iterator[Tensor]:
        """Places of whole sessions in a shuffled order, about `size` rows at a time: the replay of Algorithm 1.

        `among` (S,): the sessions to draw from; None: all.
        """
        starts = np.flatnonzero(self.position.cpu().numpy() == 0)
        ends = np.append(starts[1:], len(self))
        order = np.random.default_rng(seed).permutation(len(starts))
        if among is not None:
            order = order[among[order]]
        held = (ends - starts)[order].cumsum()
        groups = np.searchsorted(held, np.arange(size, held[-1] + size, size), side="left")
        first = 0
        for end in dict.fromkeys(np.minimum(groups + 1, len(order)).tolist()):
            chosen = order[first:end]
            first = end
            if len(chosen):
                yield torch.from_numpy(np.concatenate([np.arange(starts[s], ends[s]) for s in chosen]))

    def next_of(self, at: Tensor) -> Tensor:
        """The place of the row that follows each; of a last row itself, which a terminal mask hides."""
        return torch.where(self.last[at], at, at + 1)

    def to(self, device: torch.device) -> "Table":
        held = (self.ids, self.numbers, self.labels, self.known)
        ids, numbers, labels, known = (t.to(device) for t in held)
        return Table(
            self.rows, ids, numbers, labels, known, self.session, self.position.to(device), self.last.to(device)
        )


def table(
    journeys: Journeys,
    rows: Integers,
    features: Features,
    so_far: Mapping[Key, Floats],
    rule: Rule,
    gap_minutes: float,
    split: Split | None = None,
) -> Table:
    """The table of a part's rows. With `split` they are training rows: labels that were not known in time are none."""
    rows = np.asarray(rows, dtype=np.int64)
    session = sessions(journeys, rows, rule, gap_minutes)
    order = np.argsort(session, kind="stable")
    rows, session = rows[order], session[order]
    ids, numbers = features.encode(features.raw(journeys, rows, so_far))
    labels = np.stack([t.labels(journeys, rows) for t in features.tasks], axis=1)  # (n, K)
    if split is not None:
        for k, task in enumerate(features.tasks):
            for gain in task.gains:
                labels[~known_for_training(journeys, split, gain)[rows], k] = np.nan
    starts = np.ones(len(rows), dtype=np.bool_)
    starts[1:] = session[1:] != session[:-1]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))
    last = np.ones(len(rows), dtype=np.bool_)
    last[:-1] = starts[1:]
    return Table(
        rows,
        torch.from_numpy(ids),
        torch.from_numpy(numbers),
        torch.from_numpy(np.nan_to_num(labels).astype(np.float32)),
        torch.from_numpy((~np.isnan(labels)).astype(np.float32)),
        session,
        torch.from_numpy(np.arange(len(rows)) - first),
        torch.from_numpy(last),
    )
