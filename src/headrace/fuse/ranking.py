"""Rankings of a log's own requests as a table: by a fusion policy, or by a predictor's scores where there is no policy.

n rows, C candidates, K scores, B requests at once.
"""

from typing import Any

import numpy as np
import polars as pl

from headrace.fuse.fusion import Fusion, LogSum, oriented, top
from headrace.fuse.method import FuseMethod
from headrace.fuse.ranker import Ranker
from headrace.fuse.replay import scores_of
from headrace.journeys.seams import Floats, Integers
from headrace.journeys.store import Array, Journeys, ragged_rows

AT_ONCE = 2_048


def rank_requests(method: FuseMethod, journeys: Journeys, k: int = 10) -> pl.DataFrame:
    """The best k candidates of each request that holds a list: user, row, rank (from 1), item, score."""
    names = scores_of(journeys)
    starts = journeys.column("item_offsets")
    lengths = np.diff(starts)
    policy = method.policy()
    assert method.fusion is not None  # it has a policy
    ranker = Ranker(policy, method.fusion, names, k=k)
    parts = []
    rows = np.flatnonzero(lengths)
    for first in range(0, len(rows), AT_ONCE):
        at = rows[first : first + AT_ONCE]
        flat = ragged_rows(starts[:-1][at], lengths[at])
        weights = policy.weights_of(policy.state.of_rows(journeys, at))
        scores = np.stack([_wide(journeys.column(f"item/score/{n}")[flat], lengths[at]) for n in names], axis=-1)
        fused = ranker.fuse(scores, weights)
        items = _wide(journeys.column("item/id")[flat].astype(np.float64), lengths[at])
        parts.append(_table(journeys, at, fused, items, k))
    return pl.concat(parts)


def rank_sessions(
    journeys: Journeys, rows: Integers, session: Integers, scores: Floats, item: str, negative: Array, k: int = 10
) -> pl.DataFrame:
    """Each session's items by equal weights of log scores (n, K), oriented first: for a log without lists.

    `session` (n,) numbers the sessions of `rows`; `item` is the feature that names an item.
    """
    fusion: Fusion = LogSum((1e-3,) * scores.shape[1])
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


def _table(journeys: Journeys, at: Integers, fused: Floats, items: Floats, k: int) -> pl.DataFrame:
    chosen = top(fused, k)  # (B, k)
    there = chosen >= 0
    taken = np.maximum(chosen, 0)
    columns: dict[str, Any] = {
        "user": np.repeat(journeys.users[journeys.users_of(at)], chosen.shape[1]),
        "request": np.repeat(at, chosen.shape[1]),
        "rank": np.tile(np.arange(1, chosen.shape[1] + 1), len(at)),
        "item": np.take_along_axis(items, taken, axis=1).ravel(),
        "score": np.take_along_axis(fused, taken, axis=1).ravel(),
    }
    table = pl.DataFrame(columns).filter(pl.Series(there.ravel()))
    return table.with_columns(pl.col("item").cast(pl.Int64))


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
