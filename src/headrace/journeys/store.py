"""Journeys: an immutable, columnar, ragged store of user journeys, memory-mapped from one folder.

    journeys.json        schema, column table, category lists, counts, fingerprint, what preparation noted
    data/NNN.bin         one flat little-endian array per column

Steps stand user by user, time-ordered within a user; `offsets[u] : offsets[u + 1]` are the rows of user u. Columns are
named by what they are: "time", "channel", "cost", "propensity", "session", "feature/NAME", "gain/NAME",
"known_at/NAME" (the clock time at which a delayed gain became known), "user/NAME" (one value a user) and, where steps
hold lists, "item/NAME" below `item_offsets`. The store holds the log's raw typed values and knows no split: strings are
kept as codes into `categories[column]`, everything else as in the log.

U users, N steps, M channels.
"""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import UserError, unknown
from headrace.journeys.schema import LogSchema

if TYPE_CHECKING:
    from headrace.journeys.seams import History
    from headrace.journeys.splits import Split

FORMAT = 1
Array = NDArray[Any]


class Journeys:
    """An opened store. Columns are read-only memory maps; pickling carries the path alone."""

    def __init__(self, path: str | Path):
        """Open the folder that `prepare`, `simulate` or the service wrote; raises UserError if it is none."""
        self.path = Path(path)
        manifest = self.path / "journeys.json"
        if not manifest.is_file():
            raise UserError(
                f"{self.path}: not a journeys folder (no journeys.json); make one with  "
                f"headrace data prepare SOURCE --schema NAME --out {self.path}"
            )
        try:
            self.manifest: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
            held = {name: self.path / entry["file"] for name, entry in self.manifest["columns"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{manifest}: damaged, not the manifest of journeys; prepare the log again") from None
        if self.manifest.get("format") != FORMAT:
            raise UserError(
                f"{self.path}: journeys format {self.manifest.get('format')}, this version reads {FORMAT}; "
                "prepare the log again"
            )
        for name, file in held.items():
            entry = self.manifest["columns"][name]
            expected = entry["length"] * np.dtype(entry["dtype"]).itemsize
            if not file.is_file() or file.stat().st_size != expected:
                found = file.stat().st_size if file.is_file() else "no"
                raise UserError(
                    f"{file}: column {name} holds {found} bytes, expected {expected}; prepare the log again"
                )
        self.schema = LogSchema.from_dict(self.manifest["schema"], str(manifest))
        self.categories: dict[str, list[str]] = self.manifest["categories"]
        self.fingerprint: str = self.manifest["fingerprint"]
        self._maps: dict[str, Array] = {}
        self.offsets: NDArray[np.int64] = self.column("offsets")
        self.n_users = len(self.offsets) - 1
        self.n_steps = int(self.offsets[-1])
        self.channels: tuple[str, ...] = self.schema.channels
        self._user_of_step: NDArray[np.int64] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Journeys, (self.path,))

    def __len__(self) -> int:
        return self.n_steps

    def __repr__(self) -> str:
        counts = f"{self.n_users:,} users, {self.n_steps:,} steps, {len(self.channels)} channels"
        return f"Journeys({str(self.path)!r}: {counts})"

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(self.manifest["columns"])

    def has(self, name: str) -> bool:
        return name in self.manifest["columns"]

    def column(self, name: str) -> Array:
        """The flat, read-only memory map of one column, or an error that proposes the nearest name."""
        if name not in self._maps:
            entry = self.manifest["columns"].get(name)
            if entry is None:
                raise unknown("column", name, self.manifest["columns"], str(self.path))
            length, file = entry["length"], self.path / entry["file"]
            mapped = np.memmap(file, entry["dtype"], "r", shape=(length,)) if length else np.zeros(0, entry["dtype"])
            self._maps[name] = np.asarray(mapped)  # an ndarray that reads the map: cheaper to index than a memmap
        return self._maps[name]

    @property
    def users(self) -> Array:
        """The log's own user ids, (U,)."""
        ids = self.column("users")
        return np.asarray(self.categories["users"])[ids] if "users" in self.categories else ids

    @property
    def channel(self) -> Array:
        """(N,) index into `channels`."""
        if not self.has("channel"):
            raise UserError(
                f"{self.path}: the schema {self.schema.name!r} names no channel; "
                "add  channel = COLUMN  and prepare again"
            )
        return self.column("channel")

    @property
    def time(self) -> Array | None:
        """(N,) float64 in the schema's time unit (datetimes as ms since 1970), None without a clock."""
        return self.column("time") if self.has("time") else None

    @property
    def user_of_step(self) -> NDArray[np.int64]:
        """(N,) the user index of each step."""
        if self._user_of_step is None:
            self._user_of_step = np.repeat(np.arange(self.n_users), np.diff(self.offsets))
        return self._user_of_step

    def users_of(self, rows: Array) -> NDArray[np.int64]:
        """The user index of each of these rows, of any shape; nothing of the log's size is held."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    def feature(self, name: str) -> Array:
        """A feature's values: (N,) for a step's, (U,) for a user's."""
        level = self.schema.feature(name).level
        return self.column(f"user/{name}" if level == "user" else f"feature/{name}")

    def gain(self, name: str) -> Array:
        self.schema.gain(name)
        return self.column(f"gain/{name}")

    def split(self, protocol: str = "honest", seed: int = 0, fold: int | None = None) -> "Split":
        """The train, validation and test steps under a protocol (evidence: docs/journeys.md)."""
        from headrace.journeys.splits import split

        return split(self, protocol, seed, fold)

    def histories(self, rows: Array, steps: int = 256) -> "History":
        """The History before each of `rows`: the last `steps` steps, that row the last of them."""
        from headrace.journeys.views import histories

        return histories(self, np.asarray(rows), steps)


class JourneysWriter:
    """Streams users into a new journeys folder, which appears whole on `close` or not at all.

    with JourneysWriter(path, schema) as writer:
        writer.append(user_ids, lengths, {"time": ..., "channel": ..., "gain/click": ...})
    """

    def __init__(self, path: str | Path, schema: LogSchema, categories: dict[str, list[str]] | None = None):
        self.path = Path(path)
        if self.path.exists() and not (self.path / "journeys.json").is_file():
            raise UserError(f"{self.path}: exists and is not a journeys folder; choose another --out")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.schema = schema
        self.categories = dict(categories or {})
        self.notes: dict[str, Any] = {}
        self._folder = self.path.parent / f".{self.path.name}-{secrets.token_hex(4)}"
        (self._folder / "data").mkdir(parents=True)
        self._columns: dict[str, dict[str, Any]] = {}
        self._files: dict[str, Any] = {}
        self._hashes: dict[str, Any] = {}
        self._rows = 0
        self._items = 0
        self._write("offsets", np.zeros(1, dtype=np.int64))
        self._closed = False

    def __enter__(self) -> "JourneysWriter":
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def append(
        self,
        users: Array,
        lengths: Array,
        steps: dict[str, Array],
        items: dict[str, Array] | None = None,
        item_lengths: Array | None = None,
    ) -> None:
        """Add users: ids (u,), journey lengths (u,), step columns (sum of lengths,), "user/..." columns (u,).

        `items` holds "item/..." columns of sum(item_lengths) values; `item_lengths` one length a step. A column has the
        type of its first values; later ones that do not fit it raise TypeError.
        """
        lengths = np.asarray(lengths, dtype=np.int64)
        total = int(lengths.sum())
        if len(users) != len(lengths) or np.any(lengths < 0):
            raise ValueError(f"{len(users)} users with {len(lengths)} lengths; each user has one, of 0 or more")
        for name, values in steps.items():
            expected = len(lengths) if name.startswith("user/") else total
            if len(values) != expected:
                raise ValueError(f"column {name}: {len(values)} values for {expected}")
        self._write("users", np.asarray(users))
        self._write("offsets", self._rows + np.cumsum(lengths))
        self._rows += total
        for name, values in steps.items():
            self._write(name, np.asarray(values))
        if items is not None and item_lengths is not None:
            if "item_offsets" not in self._columns:
                self._write("item_offsets", np.zeros(1, dtype=np.int64))
            self._write("item_offsets", self._items + np.cumsum(np.asarray(item_lengths, dtype=np.int64)))
            self._items += int(np.sum(item_lengths))
            for name, values in items.items():
                self._write(name, np.asarray(values))

    def _write(self, name: str, values: Array) -> None:
        entry = self._columns.get(name)
        if entry is None:
            file = f"data/{len(self._columns):03d}.bin"
            entry = self._columns[name] = {"file": file, "dtype": values.dtype.str, "length": 0}
            self._files[name] = (self._folder / file).open("wb")
            self._hashes[name] = hashlib.blake2b(digest_size=16)
        if not np.can_cast(values.dtype, entry["dtype"]):
            raise TypeError(f"column {name}: {values.dtype} values after {np.dtype(entry['dtype'])} ones")
        data = np.ascontiguousarray(values, dtype=entry["dtype"])
        view = data.view(np.uint8).data if data.size else b""
        self._files[name].write(view)
        self._hashes[name].update(view)
        entry["length"] += len(values)

    def close(self, notes: dict[str, Any] | None = None) -> Journeys:
        """Write the manifest, sync, swap the folder in, and open it."""
        if not self._closed:
            try:
                self._finish(notes or {})
            except BaseException:
                self.abandon()
                raise
        return Journeys(self.path)

    def _finish(self, notes: dict[str, Any]) -> None:
        self._check_lengths()
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        schema = self.schema.to_dict()
        digest = hashlib.sha256(json.dumps([schema, self.categories], sort_keys=True).encode())
        for name in sorted(self._hashes):
            digest.update(f"{name}:{self._columns[name]['dtype']}:{self._hashes[name].hexdigest()}".encode())
        manifest = {
            "format": FORMAT,
            "schema": schema,
            "users": int(self._columns["offsets"]["length"]) - 1,
            "steps": self._rows,
            "columns": self._columns,
            "categories": self.categories,
            "notes": self.notes | notes,
            "fingerprint": digest.hexdigest(),
        }
        (self._folder / "journeys.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        swap_in(self._folder, self.path)
        self._closed = True

    def _check_lengths(self) -> None:
        users = int(self._columns["offsets"]["length"]) - 1
        expected = {"users": users, "offsets": users + 1, "item_offsets": self._rows + 1}
        levels = {"user": users, "item": self._items}
        for name, entry in self._columns.items():
            length = expected.get(name, levels.get(name.split("/")[0], self._rows))
            if entry["length"] != length:
                raise ValueError(f"column {name}: {entry['length']} values for {length}; append it with every user")

    def abandon(self) -> None:
        """Remove everything written so far; the target stays as it was."""
        self._closed = True
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def swap_in(folder: Path, target: Path) -> None:
    """Put a finished folder in the place of `target`, so that a reader sees the old one or the new one."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        target.rename(old / "was")
        folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        folder.rename(target)


def subset(journeys: Journeys, users: Iterable[int] | Array, path: str | Path) -> Journeys:
    """A new store of some users (indices) of another, in the given order."""
    chosen = np.asarray(list(users) if not isinstance(users, np.ndarray) else users, dtype=np.int64)
    lengths = np.diff(journeys.offsets)[chosen]
    rows = ragged_rows(journeys.offsets[:-1][chosen], lengths)
    with JourneysWriter(path, journeys.schema, journeys.categories) as writer:
        steps: dict[str, Array] = {}
        items: dict[str, Array] = {}
        item_lengths = None
        item_rows = rows
        if journeys.has("item_offsets"):
            starts = journeys.column("item_offsets")
            item_lengths = np.diff(starts)[rows]
            item_rows = ragged_rows(starts[:-1][rows], item_lengths)
        for name in journeys.column_names:
            if name in ("offsets", "users", "item_offsets"):
                continue
            values = journeys.column(name)
            if name.startswith("user/"):
                steps[name] = values[chosen]
            elif name.startswith("item/"):
                items[name] = values[item_rows]
            else:
                steps[name] = values[rows]
        writer.append(journeys.column("users")[chosen], lengths, steps, items or None, item_lengths)
        return writer.close()


def ragged_rows(starts: Array, lengths: Array) -> NDArray[np.int64]:
    """Flat rows of the segments [start, start + length), one after the other.

    >>> ragged_rows(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    ends = np.cumsum(lengths)
    first = np.repeat(np.asarray(starts, dtype=np.int64) - (ends - lengths), lengths)
    return first + np.arange(int(ends[-1]) if len(ends) else 0)
