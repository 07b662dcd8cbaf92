"""Rankings of a log's own requests as a table: by a fusion policy, or by a predictor's scores where there is no policy.

n rows, C candidates, K scores, B requests at once.
"""

from typing import Any

import numpy as np
import polars as pl

from headrace.errors import UserError
from headrace.fuse.fusion import OFFSET, Fusion, LogSum, oriented
from headrace.fuse.method import FuseMethod
from headrace.fuse.ranker import Ranker
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.store import Array, Journeys, ragged_rows

AT_ONCE = 2_048


def rank_requests(method: FuseMethod, journeys: Journeys, k: int = 10) -> pl.DataFrame:
    """The best k candidates of each request that holds a list: user, row, rank (from 1), item, score."""
    method.reads(journeys)
    names = method.scores
    starts = journeys.column("item_offsets")
    lengths = np.diff(starts)
    policy = method.policy()
    assert method.fusion is not None  # it has a policy
    ranker = Ranker(policy, method.fusion, names, k, method.negative)
    parts = []
    rows = np.flatnonzero(lengths)
    for first in range(0, len(rows), AT_ONCE):
        at = rows[first : first + AT_ONCE]
        flat = ragged_rows(starts[:-1][at], lengths[at])
        flat_scores = [journeys.column(f"item/score/{n}")[flat] for n in names]
        for name, column, offset in zip(names, flat_scores, method.offsets, strict=True):
            _fit_to_fuse(method, journeys, name, column, offset)
        scores = np.stack([_wide(column, lengths[at]) for column in flat_scores], axis=-1)
        chosen, fused = ranker.rank(policy.state.of_rows(journeys, at), scores)
        parts.append(_table(journeys, at, chosen, fused, flat, lengths[at]))
    return pl.concat(parts)


def rank_sessions(
    journeys: Journeys, rows: Integers, session: Integers, scores: Floats, item: str, negative: Array, k: int = 10
) -> pl.DataFrame:
    """Each session's items by equal weights of log scores (n, K), oriented first: for a log without lists.

    `session` (n,) numbers the sessions of `rows`; `item` is the feature that names an item.
    """
    fusion: Fusion = LogSum((OFFSET,) * scores.shape[1])
    fused = fusion(oriented(scores, negative)[:, None], np.ones((len(rows), scores.shape[1])))[:, 0]
    order = np.lexsort((-fused, session))
    ordered = session[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    lengths = np.diff(np.append(first, len(ordered)))
    rank = np.arange(len(ordered)) - np.repeat(first, lengths) + 1
    kept = order[rank <= k]
    return pl.DataFrame(
        {
            "user": journeys.users[journeys.users_of(rows[kept])],
            "session": session[kept],
            "rank": rank[rank <= k],
            "item": _names(journeys, item, rows[kept]),
            "score": fused[kept],
        }
    )


def _fit_to_fuse(method: FuseMethod, journeys: Journeys, name: str, column: Array, offset: float) -> None:
    """Raise UserError for a score that is missing, or that has no logarithm where one is taken."""
    missing = int(np.isnan(column).sum())
    if missing:
        raise UserError(f"{journeys.path}: {missing} candidates without a score {name}; fill them in")
    if method.config.fusion in ("log-sum", "power") and (column + offset <= 0).any():
        raise UserError(
            f"{journeys.path}: score {name} holds {float(column.min()):g}, and {method.config.fusion} takes logarithms "
            f"of a score plus {offset:g}; give chances, or fit with  --set fusion=cells"
        )


def _table(
    journeys: Journeys, at: Integers, chosen: Integers, fused: Floats, flat: Integers, lengths: Integers
) -> pl.DataFrame:
    there = chosen >= 0
    taken = np.maximum(chosen, 0)
    columns: dict[str, Any] = {
        "user": np.repeat(journeys.users[journeys.users_of(at)], chosen.shape[1]),
        "request": np.repeat(at, chosen.shape[1]),
        "rank": np.tile(np.arange(1, chosen.shape[1] + 1), len(at)),
        "item": _items(journeys, flat[(np.cumsum(lengths) - lengths)[:, None] + taken].ravel()),
        "score": np.take_along_axis(fused, taken, axis=1).ravel(),
    }
    return pl.DataFrame(columns).filter(pl.Series(there.ravel()))


def _items(journeys: Journeys, places: Integers) -> Array:
    """The log's own ids of the items at these places of its flat lists."""
    values = np.asarray(journeys.column("item/id")[places])
    texts = journeys.categories.get("item/id")
    return values if texts is None else np.asarray(texts)[values]


def _names(journeys: Journeys, item: str, rows: Integers) -> Array:
    """The log's own names of these rows' items."""
    values = np.asarray(journeys.feature(item)[rows])
    texts = journeys.categories.get(f"feature/{item}")
    return values if texts is None else np.asarray(texts)[values]


def _wide(values: Array, lengths: Array) -> Floats:
    """Flat lists as rows (B, C) of the longest one's width, NaN behind the shorter ones."""
    width = int(lengths.max())
    found = np.full((len(lengths), width), np.nan)
    found[np.arange(width) < lengths[:, None]] = values
    return found
