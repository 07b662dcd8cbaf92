"""From a log to journeys: `prepare` reads, checks, sorts and writes, in bounded memory.

A log of up to a bucket's size is read at once. A larger one is first dealt out, streaming, into buckets of users
(ranges of the user's id, cut so that each holds about as many rows); then bucket by bucket is sorted by user, time
and the log's own row order and appended as flat arrays. Users stand in ascending order of id whatever the number of
buckets, so equal input gives equal bytes.

Rows equal in every column of the log file (before joins) are duplicates: the first stays. In a log without a clock
nothing is dropped, since two equal rows may be two equal events.

What happened is told in the manifest's notes: rows_read, duplicates_dropped, rows_unsorted (rows that stand, by time,
behind a row that the log has later), users, ties (rows that share user and time with another), costs_missing (rows
whose cost is not told: it is unknown, not 0).

N rows, U users.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headrace.errors import UserError
from headrace.journeys.columns import KEY, Plan, codes, measure, plan
from headrace.journeys.readers import open_log
from headrace.journeys.readers.files import ROW, Files, Source, broken_files
from headrace.journeys.schema import LogSchema
from headrace.journeys.store import Array, Journeys, JourneysWriter

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many
BUCKET_CELLS = 24_000_000  # rows times columns of one bucket: about 200 MB
_MOST_BUCKETS = 64  # each bucket is an open file with buffers of its own
_SMALL_BYTES = 48 * 2**20  # packed size up to which a log is read at once
_MORSEL = 20_000  # rows that travel together when streaming: small, as every bucket buffers some
_CUT_SAMPLE = 1_000_000


@dataclass
class Arranged:
    """One bucket's journeys, ready to be appended, and what was counted on the way."""

    users: Array  # (u,)
    lengths: Array  # (u,)
    steps: dict[str, Array] = field(default_factory=dict)
    items: dict[str, Array] | None = None
    item_lengths: Array | None = None
    duplicates: int = 0
    rows_unsorted: int = 0
    ties: int = 0
    costs_missing: int = 0
    varying: dict[str, tuple[int, Any]] = field(default_factory=dict)  # feature -> (users it varies in, the first)


def prepare(
    source: str | Path,
    schema: LogSchema | str,
    out: str | Path,
    keep_duplicates: bool = False,
    progress: Progress | None = None,
) -> Journeys:
    """The journeys of a log, written to the folder `out`, which appears whole or not at all.

    `source` is a file or a folder in the published layout; `schema` the name of a layout, a TOML file or a LogSchema.
    Raises UserError, in one line, for a log that breaks its schema; rows in it count from 1, the header not counted.
    """
    source, out = Path(source), Path(out)
    tell = progress or (lambda what, done, total: None)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; give the path of a log")
    with (
        JourneysWriter(out, LogSchema("unread")) as writer,
        tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch,
    ):
        tell("reading", 0, 1)
        made, found, log = _load(source, schema, Path(scratch), keep_duplicates)
        dedupe = not keep_duplicates and made.schema.time is not None
        tell("checking", 0, 1)
        with pl.Config(streaming_chunk_size=_MORSEL):
            with broken_files(found.where):
                measure(made, log)
            drop = _equal_rows(log, found.raw) if dedupe and made.schema.user is None else None
            writer.schema, writer.categories = made.schema, made.categories
            notes = _write(writer, made, _deal(made, log, Path(scratch)), found, dedupe, drop, tell)
        writer.notes |= notes
        return writer.close()


def _write(
    writer: JourneysWriter,
    made: Plan,
    buckets: Iterator[tuple[int, pl.DataFrame]],
    found: Source,
    dedupe: bool,
    drop: pl.Series | None,
    tell: Progress,
) -> dict[str, Any]:
    """Arrange bucket after bucket, one ahead of the one being written; returns the manifest's notes."""
    counts = dict.fromkeys(("duplicates_dropped", "rows_unsorted", "users", "ties", "costs_missing"), 0)
    varying: dict[str, tuple[int, Any]] = {}
    raw = [name for name in found.raw if name != made.schema.user] if dedupe and made.schema.user else []

    def next_arranged() -> tuple[int, Arranged] | None:
        for total, bucket in buckets:
            kept = bucket if drop is None else bucket.filter(~pl.col(ROW).is_in(drop))
            done = _arrange(made, kept, raw)
            done.duplicates += len(bucket) - len(kept)
            return total, done
        return None

    with ThreadPoolExecutor(max_workers=1) as ahead:
        number, pending = 0, ahead.submit(next_arranged)
        while (ready := pending.result()) is not None:
            total, done = ready
            pending = ahead.submit(next_arranged)
            tell("writing", number, total)
            writer.append(done.users, done.lengths, done.steps, done.items, done.item_lengths)
            counts["duplicates_dropped"] += done.duplicates
            counts["rows_unsorted"] += done.rows_unsorted
            counts["users"] += len(done.users)
            counts["ties"] += done.ties
            counts["costs_missing"] += done.costs_missing
            for name, (users, first) in done.varying.items():
                seen, earliest = varying.get(name, (0, first))
                varying[name] = (seen + users, earliest)
            number += 1
            tell("writing", number, total)
    for column, (users, first) in varying.items():
        ids = made.categories.get("users")
        raise UserError(
            f"{found.where}: column {column!r} is declared level = 'user' but varies within {users:,} users "
            f"(first {ids[first] if ids else first}); declare it level = 'step' in the schema"
        )
    notes: dict[str, Any] = {"source": [path.name for path in found.files], "rows_read": made.rows, **counts}
    return notes | ({"absent": list(found.absent)} if found.absent else {})


def _load(
    source: Path, schema: LogSchema | str, scratch: Path, keep_duplicates: bool
) -> tuple[Plan, Source, pl.LazyFrame]:
    """The plan of a log, and its rows where they can be read more than once: in memory, or as parquet."""
    for thorough in (False, True):
        resolved, found = open_log(source, schema, Files(scratch, thorough))
        try:
            with broken_files(found.where):
                types = found.frame.collect_schema()
                made = plan(resolved, types, found.where)
                raw = () if keep_duplicates or resolved.time is None else found.raw
                columns = list(dict.fromkeys((ROW, *resolved.columns, *raw)))
                return made, found, _readable(found, found.frame.select(columns), len(columns), scratch)
        except pl.exceptions.ComputeError as error:  # text where the first rows of a csv file held numbers: look at all
            if thorough:
                told = " ".join(str(error).split())[:200]
                raise UserError(f"{found.where}: can't be read ({told}); check the file") from error
    raise AssertionError("unreachable")


def _readable(found: Source, frame: pl.LazyFrame, width: int, scratch: Path) -> pl.LazyFrame:
    parquet = all(path.suffix == ".parquet" for path in found.files)
    if parquet and set(found.frame.collect_schema().names()) == {ROW, *found.raw}:
        rows = frame.select(pl.len()).collect(engine="streaming").item()
        small = rows * width <= BUCKET_CELLS
        if not small:
            return frame
    else:
        packed = any(path.suffix in (".parquet", ".gz", ".zst", ".zip") for path in found.files)
        small = sum(path.stat().st_size for path in found.files) <= _SMALL_BYTES // (4 if packed else 1)
    if small:
        return frame.collect(engine="streaming").lazy()
    with pl.Config(streaming_chunk_size=_MORSEL):
        frame.sink_parquet(scratch / "log.parquet", compression="lz4", statistics=False, engine="streaming")
    return pl.scan_parquet(scratch / "log.parquet")


def _deal(made: Plan, log: pl.LazyFrame, scratch: Path) -> Iterator[tuple[int, pl.DataFrame]]:
    """The rows in buckets of whole users, in ascending order of user; each with how many buckets there are."""
    width = len(log.collect_schema())
    count = min(math.ceil(made.rows * width / BUCKET_CELLS), _MOST_BUCKETS)
    keyed = log.with_columns(made.key.alias(KEY))
    if count == 1:
        yield 1, keyed.collect()
        return
    every = max(1, made.rows // _CUT_SAMPLE)
    sample = keyed.select(pl.col(KEY).gather_every(every)).collect(engine="streaming")[KEY].sort()
    cuts = sorted({sample[len(sample) * i // count] for i in range(1, count)})
    if made.schema.user not in {feature.name for feature in made.schema.features}:
        keyed = keyed.drop(made.schema.user or [])  # the key says it
    bucket = pl.sum_horizontal([(pl.col(KEY) >= cut).cast(pl.UInt8) for cut in cuts]).cast(pl.UInt8)
    folder = scratch / "buckets"
    with pl.Config(streaming_chunk_size=_MORSEL):
        keyed.with_columns(bucket.alias("__bucket")).sink_parquet(
            pl.PartitionBy(folder, key="__bucket", include_key=False),
            compression="lz4",
            statistics=False,
            row_group_size=2**16,
            maintain_order=False,  # ROW has it
            mkdir=True,
            engine="streaming",
        )
    for i in range(len(cuts) + 1):
        parts = sorted((folder / f"__bucket={i}").glob("*.parquet"))
        if parts:
            yield len(cuts) + 1, pl.read_parquet(parts)
            for part in parts:
                part.unlink()


def _arrange(made: Plan, bucket: pl.DataFrame, raw: Sequence[str]) -> Arranged:
    """One bucket in the order of its journeys; `raw` columns, if any, tell duplicates apart."""
    stored = made.stored
    columns = bucket.select(KEY, ROW, *(value.alias(name) for name, value in stored.items()))
    keys = [columns[name].to_numpy() for name in (ROW, "time", KEY) if name in columns.columns]
    order = np.lexsort(keys)
    together = _together(keys, order)
    duplicates = 0
    if raw and together.any():
        first = _first_of_its_kind(bucket, order, together, raw)
        duplicates = int((~first).sum())
        order = order[first]
        together = _together(keys, order)
    key, row = keys[-1][order], keys[0][order]
    same_user = key[1:] == key[:-1]
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(key), 1), dtype=np.bool_), ~same_user]))
    done = Arranged(key[starts], np.diff(np.append(starts, len(key))), duplicates=duplicates)
    done.rows_unsorted = int((same_user & (row[1:] < row[:-1])).sum())
    done.ties = int(together.sum())
    for name in stored:
        values = columns[name].to_numpy()[order]
        if name.startswith("user/"):
            varying = np.unique(key[1:][_changes(values) & same_user])
            if len(varying):
                done.varying[name.removeprefix("user/")] = (len(varying), varying[0])
            values = values[starts]
        if name == "cost":
            done.costs_missing = int(np.isnan(values).sum())
        done.steps[name] = values
    done.items, done.item_lengths = _items(made, bucket, order)
    return done


def _together(keys: list[Array], order: Array) -> NDArray[np.bool_]:
    """(N,) true where a row shares user and time with the one before or behind it; `keys` are row, time, user."""
    if len(keys) < 3 or len(order) == 0:
        return np.zeros(len(order), dtype=np.bool_)
    time, key = keys[1][order], keys[2][order]
    equal: NDArray[np.bool_] = (key[1:] == key[:-1]) & (time[1:] == time[:-1])
    together = np.append(equal, False)
    together[1:] |= equal
    return together


def _first_of_its_kind(
    bucket: pl.DataFrame, order: Array, together: NDArray[np.bool_], raw: Sequence[str]
) -> NDArray[np.bool_]:
    """(N,) false for a row whose every column equals an earlier row's of the same user."""
    rows = bucket.select(KEY, *raw)[order[together]]
    first = np.ones(len(order), dtype=np.bool_)
    first[together] = rows.select(pl.struct(_hashable(rows)).is_first_distinct()).to_series().to_numpy()
    return first


def _changes(values: Array) -> NDArray[np.bool_]:
    """(N - 1,) true where a value differs from the one before; NaN is equal to NaN."""
    changed: NDArray[np.bool_] = values[1:] != values[:-1]
    changed &= (values[1:] == values[1:]) | (values[:-1] == values[:-1])
    return changed


def _equal_rows(log: pl.LazyFrame, raw: tuple[str, ...]) -> pl.Series | None:
    """Rows (their ROW) that repeat an earlier one, in a log without users; None if there are none."""
    marks = log.select(ROW, pl.struct(raw).hash().alias("mark")).collect(engine="streaming")
    suspects = marks.filter(pl.col("mark").is_duplicated())[ROW].implode()
    rows = log.filter(pl.col(ROW).is_in(suspects)).select(ROW, *raw).collect(engine="streaming").sort(ROW)
    twice = rows.filter(~pl.struct(_hashable(rows.select(raw))).is_first_distinct())[ROW]
    return twice.implode() if len(twice) else None


def _hashable(rows: pl.DataFrame) -> list[pl.Expr]:
    lists = [name for name, kind in rows.schema.items() if isinstance(kind, pl.List)]
    return [
        pl.col(name).cast(pl.List(pl.String)).list.join("\x1f") if name in lists else pl.col(name)
        for name in rows.columns
    ]


def _items(made: Plan, bucket: pl.DataFrame, order: Array) -> tuple[dict[str, Array] | None, NDArray[np.int64] | None]:
    """The lists of a bucket's steps, flat: "item/..." columns and one length a step."""
    if not made.items:
        return None, None
    rows = bucket.select(made.items.values())[order]
    lengths = rows[made.items["item/id"]].list.len().fill_null(0).to_numpy().astype(np.int64)
    full = rows.filter(pl.Series(lengths > 0))
    items: dict[str, Array] = {}
    for name, column in made.items.items():
        values = full[column].explode()
        if name in made.categories:
            items[name] = pl.select(codes(pl.lit(values.cast(pl.String)), made.categories[name])).to_series().to_numpy()
        elif name == "item/id":
            items[name] = values.cast(pl.Int64).fill_null(-1).to_numpy()
        elif name == "item/position":
            items[name] = values.cast(pl.Int32).fill_null(-1).to_numpy()
        else:
            items[name] = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return items, lengths
