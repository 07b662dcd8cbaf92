"""Ledger: a budget that no number of processes can overspend, in integer micros, in one SQLite file.

    with Ledger.create("ledger.sqlite", budget=to_micros(1_000.0)) as ledger:
        search = ledger.open_account("channel/search", to_micros(400.0))
        admitted = ledger.reserve(keys, largest, [np.full(len(keys), search)], expires=7)
        ...                                                     # show the admitted adverts
        ledger.settle(keys_shown, costs)

Two phases: `reserve` sets aside the largest cost that an exposure can have, `settle` charges what it did cost and frees
the rest, `release` and `expire` free what will not be settled. A batch is one transaction, admitted exposure by
exposure (admission.py). After every step, in every account, spent + reserved + free = budget and none is negative.

Each exposure has a key; what was answered to a key stands, so that a retry counts once: an admitted one is not reserved
twice, a refused one stays refused, a settled one keeps its charge. A settlement above the reservation is charged only
up to it; the excess is noted in the entry, returned and logged as a warning. A cost told after its reservation was
released is charged if it still fits, and is excess if not.

Every transaction takes the write lock first and is on the disk before its call returns (write-ahead log, full sync).
The file must lie on a local disk: SQLite's locks don't hold over most network file systems.

B exposures. States: reserved, settled, released, refused.
"""

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from headrace.campaign.admission import admit
from headrace.campaign.money import (
    MOST,
    REFUSED,
    RELEASED,
    RESERVED,
    SETTLED,
    TOTAL,
    Audit,
    Balance,
    Settlement,
    audited,
)
from headrace.campaign.tables import FORMAT, Purses, known_purses, make, purse_of, settled_mode
from headrace.errors import UserError
from headrace.journeys.seams import Bools, Integers
from headrace.learn import durable

WAIT_S = 600.0  # for other processes' transactions
NEVER = 2**62
_log = logging.getLogger(__name__)


class Ledger:
    """An opened ledger; each process and thread opens its own."""

    def __init__(self, path: str | Path | None):
        """Open the ledger in a file; UserError where none is. `Ledger.create` makes one."""
        if path is not None and not Path(path).is_file():
            raise UserError(f"{path}: no ledger there; make one with Ledger.create")
        self.path = None if path is None else Path(path)
        self._db = sqlite3.connect(
            ":memory:" if path is None else path, timeout=WAIT_S, isolation_level=None, cached_statements=64
        )
        self._line: int | None = None
        try:
            # a file that was written anew has no write-ahead log: without one EXTRA syncs what FULL leaves to chance
            self._db.execute("PRAGMA synchronous = EXTRA")
            held = self._db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise UserError(f"{path}: not a ledger ({error}); restore it from a copy") from None
        if path is not None and held != FORMAT:
            self._db.close()
            raise UserError(f"{path}: ledger format {held}, expected {FORMAT}; restore it, or start a new one")
        if path is not None:
            self._inode = Path(path).stat().st_ino
            self._line = os.open(Path(path).with_name(f".{Path(path).name}.line"), os.O_RDWR | os.O_CREAT, 0o644)

    @classmethod
    def create(cls, path: str | Path | None, budget: int) -> "Ledger":
        """A ledger with `budget` micros in all, in a new file (None: in memory); the one that stands there if it has
        the same budget. Raises UserError for another budget."""
        if not 0 <= budget <= MOST:
            raise UserError(f"budget {budget} micros: expected 0 to {MOST:,}")
        if path is not None:
            try:
                with contextlib.closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as db:
                    settled_mode(db)
                    make(db, budget)
            except sqlite3.OperationalError:
                raise  # locked, or no space: not the file's fault
            except sqlite3.DatabaseError as error:
                raise UserError(f"{path}: not a ledger, or damaged ({error}); restore it from a copy") from None
            ledger = cls(path)
        else:
            ledger = cls(None)
            make(ledger._db, budget)
        held = ledger.balances()[TOTAL].budget
        if held != budget:
            ledger.close()
            raise UserError(f"{path}: a ledger over {held} micros is there, asked for {budget}; choose another file")
        return ledger

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()
        if self._line is not None:
            os.close(self._line)
            self._line = None

    def open_account(self, name: str, budget: int) -> int:
        """The id of an account within the total, for `reserve`; a second call with the same budget gives the same id.

        Raises UserError where it is open with another budget.
        """
        if not 0 <= budget <= MOST:
            raise UserError(f"account {name}: budget {budget} micros: expected 0 to {MOST:,}")
        wanted = "SELECT id, budget FROM account WHERE name = ?"
        row = self._db.execute(wanted, (name,)).fetchone()
        if row is None:
            with self._transaction() as db:
                db.execute("INSERT OR IGNORE INTO account (name, budget) VALUES (?, ?)", (name, budget))
                row = db.execute(wanted, (name,)).fetchone()
        found, held = row
        if held != budget:
            raise UserError(f"account {name}: it is open with {held} micros, asked for {budget}")
        return int(found)

    def reserve(
        self, keys: Sequence[str], largest: Integers, accounts: Sequence[Integers] = (), expires: int = NEVER
    ) -> Bools:
        """(B,) whether each exposure may be shown. Set aside `largest` (B,) micros for each that may.

        `accounts` are arrays (B,) of account ids (-1: none) that each exposure is charged to beside the total.
        `expires` is the time from which `expire` frees the reservations, on the caller's clock.
        """
        asked = _micros(largest, len(keys))
        if not len(keys):
            return np.zeros(0, dtype=np.bool_)
        with self._transaction() as db:
            purse, purses = purse_of(db, accounts, len(keys))
            held = self._held(db, keys)
            first = {key: place for place, key in reversed(list(enumerate(keys)))}
            fresh = np.array([first[k] == i and k not in held for i, k in enumerate(keys)], dtype=np.bool_)
            at = np.flatnonzero(fresh)
            admitted = self._admitted(db, asked[at], purse[at], purses)
            self._move(db, purse[at][admitted], purses, reserved=asked[at][admitted])
            ids = np.array(list(purses))[purse[at]].tolist() if len(at) else []
            states = np.where(admitted, RESERVED, REFUSED).tolist()
            db.executemany(
                "INSERT INTO entry (key, purse, largest, state, expires) VALUES (?, ?, ?, ?, ?)",
                zip([keys[i] for i in at.tolist()], ids, asked[at].tolist(), states, [expires] * len(at), strict=True),
            )
        answers = {k: row[2] in (RESERVED, SETTLED) for k, row in held.items()}
        answers |= {keys[i]: ok for i, ok in zip(at.tolist(), admitted.tolist(), strict=True)}
        return np.array([answers[k] for k in keys], dtype=np.bool_)

    def settle(self, keys: Sequence[str], costs: Integers) -> Settlement:
        """Charge what exposures did cost, (B,) micros; each key stands once.

        Raises ValueError for keys that were never reserved, or were refused.
        """
        cost = _micros(costs, len(keys))
        if not len(keys):
            return Settlement(cost, cost)
        if len(set(keys)) != len(keys):
            raise ValueError("settle: a key stands twice; an exposure has one cost")
        with self._transaction() as db:
            rows = self._rows(db, keys)
            known, largest, state, charged, excess = (np.array(c, dtype=np.int64) for c in zip(*rows, strict=True))
            purse, purses = known_purses(db, known)
            due = np.minimum(cost, largest)
            now, late = state == RESERVED, np.flatnonzero(state == RELEASED)
            self._move(db, purse[now], purses, spent=due[now], reserved=-largest[now])
            fits = self._admitted(db, due[late], purse[late], purses)
            self._move(db, purse[late[fits]], purses, spent=due[late[fits]])
            charged[now], charged[late] = due[now], np.where(fits, due[late], 0)
            changed = np.flatnonzero(state != SETTLED)
            excess[changed] = cost[changed] - charged[changed]
            db.executemany(
                "UPDATE entry SET state = ?, charged = ?, excess = ? WHERE key = ?",
                [(SETTLED, int(charged[i]), int(excess[i]), keys[i]) for i in changed.tolist()],
            )
        settled = Settlement(charged, excess)
        if settled.alarm:
            worst = int(excess.argmax())
            told = (int((excess > 0).sum()), int(excess.sum()), keys[worst], int(excess[worst]))
            _log.warning("%d exposures cost %d micros more than was reserved, first of all %s: %d", *told)
        return settled

    def release(self, keys: Sequence[str]) -> int:
        """Free the reservations of exposures that were not shown; how many there were."""
        with self._transaction() as db:
            held = self._held(db, keys)
            return self._free(db, [(k, purse, largest) for k, (purse, largest, s) in held.items() if s == RESERVED])

    def expire(self, now: int) -> int:
        """Free all reservations whose time has come; how many there were."""
        with self._transaction() as db:
            wanted = "SELECT key, purse, largest FROM entry WHERE state = 0 AND expires <= ?"
            return self._free(db, db.execute(wanted, (now,)).fetchall())

    def balances(self) -> dict[str, Balance]:
        """The accounts by name, "total" first, at one moment."""
        rows = self._db.execute("SELECT name, budget, spent, reserved FROM account ORDER BY id").fetchall()
        return {name: Balance(*numbers) for name, *numbers in rows}

    @property
    def balance(self) -> Balance:
        """The whole budget's."""
        return Balance(
            *self._db.execute("SELECT budget, spent, reserved FROM account WHERE name = ?", (TOTAL,)).fetchone()
        )

    def compact(self) -> None:
        """Write the file anew, without what its course left in it: equal entries give equal bytes. Ends the ledger.

        Whoever else has it open can't write to the old file any more: their next transaction is a UserError. So is this
        where somebody reads from it all the while.
        """
        if self.path is None:
            return
        beside = self.path.with_name(f".{self.path.name}.new")
        with self._turn():
            if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise UserError(f"{self.path}: another process reads it; wait for its end, then do this again")
            beside.unlink(missing_ok=True)
            self._db.execute("VACUUM INTO ?", (str(beside),))
            self._db.close()
            for end in ("-wal", "-shm"):  # empty, and the old file's
                self.path.with_name(self.path.name + end).unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(beside, isolation_level=None)) as db:
                db.execute("PRAGMA schema_version = 1")  # it counts how often the file was written anew
            durable.sync(beside)
            beside.replace(self.path)
            durable.sync(self.path.parent)
        self.close()

    def audit(self) -> Audit:
        """The balances, and whether all entries add up to them."""
        return audited(self._db)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, alone: the write lock is taken before anything is read."""
        with self._turn():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Stand in line with the other writers: waiting for a file's lock wakes at once, SQLite's own waiting polls.

        That no budget is overspent rests on SQLite's lock alone; this one spares time, and keeps writers out while the
        file is written anew.
        """
        if self._line is None or self.path is None:
            yield
            return
        fcntl.flock(self._line, fcntl.LOCK_EX)
        try:
            if not self.path.is_file() or self.path.stat().st_ino != self._inode:
                raise UserError(f"{self.path}: another process wrote it anew; open it again")
            yield
        finally:
            fcntl.flock(self._line, fcntl.LOCK_UN)

    def _admitted(self, db: sqlite3.Connection, amounts: Integers, purse: Integers, purses: Purses) -> Bools:
        used = sorted({a for held in purses.values() for a in held})
        free = dict(db.execute("SELECT id, budget - spent - reserved FROM account").fetchall())
        unknown = [a for a in used if a not in free]
        if unknown:
            raise ValueError(f"reserve: no account has the id {unknown[0]}; open_account gives ids")
        holds = np.array([[a in held for a in used] for held in purses.values()], dtype=np.bool_)
        return admit(amounts, purse, holds.reshape(len(purses), len(used)), np.array([free[a] for a in used]))

    def _move(
        self,
        db: sqlite3.Connection,
        purse: Integers,
        purses: Purses,
        spent: Integers | int = 0,
        reserved: Integers | int = 0,
    ) -> None:
        """Add a batch's amounts to the balances of its accounts; the table refuses what would overspend."""
        changes: Purses = {}
        for column, amounts in enumerate((spent, reserved)):
            sums = np.zeros(len(purses), dtype=np.int64)
            np.add.at(sums, purse, amounts)
            for held, amount in zip(purses.values(), sums.tolist(), strict=True):
                for account in held:
                    changes.setdefault(account, [0, 0])[column] += amount
        update = "UPDATE account SET spent = spent + ?, reserved = reserved + ? WHERE id = ?"
        db.executemany(update, [(*amounts, account) for account, amounts in changes.items() if any(amounts)])

    def _held(self, db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, tuple[int, int, int]]:
        """key -> (purse, largest, state) of the keys that have an entry."""
        wanted = "SELECT e.key, purse, largest, state FROM json_each(?) j CROSS JOIN entry e ON e.key = j.value"
        return {key: tuple(row) for key, *row in db.execute(wanted, (json.dumps(list(keys)),))}

    def _rows(self, db: sqlite3.Connection, keys: Sequence[str]) -> list[tuple[int, ...]]:
        """(purse, largest, state, charged, excess) of each key, in order."""
        wanted = (
            "SELECT e.key, purse, largest, state, charged, excess FROM json_each(?) j "
            "CROSS JOIN entry e ON e.key = j.value"
        )
        held = {key: tuple(row) for key, *row in db.execute(wanted, (json.dumps(list(keys)),))}
        for key in keys:
            if key not in held:
                raise ValueError(f"settle: {key} was never reserved")
            if held[key][2] == REFUSED:
                raise ValueError(f"settle: {key} was refused, so it may not have been shown")
        return [held[key] for key in keys]

    def _free(self, db: sqlite3.Connection, rows: list[tuple[str, int, int]]) -> int:
        purse, purses = known_purses(db, np.array([r[1] for r in rows], dtype=np.int64))
        self._move(db, purse, purses, reserved=-np.array([r[2] for r in rows], dtype=np.int64))
        db.executemany("UPDATE entry SET state = ? WHERE key = ?", [(RELEASED, r[0]) for r in rows])
        return len(rows)


def _micros(values: Integers, n: int) -> Integers:
    """Amounts as they are; ValueError for what is no whole amount of micros a key."""
    amounts = np.asarray(values)
    if amounts.shape != (n,) or (n and amounts.dtype.kind not in "iu"):
        raise ValueError(f"amounts: shape {amounts.shape} of {amounts.dtype}, expected ({n},) whole micros")
    if n and int(amounts.min()) < 0:
        raise ValueError(f"amounts: {int(amounts.min())} is below 0")
    if n and int(amounts.max()) > MOST:
        raise ValueError(f"amounts: {int(amounts.max())} is above {MOST}")
    return amounts.astype(np.int64)
