"""The ledger's tables, and the purses in them: sets of accounts that exposures are charged to. B exposures."""

import json
import sqlite3
from collections.abc import Sequence

import numpy as np

from headrace.campaign.money import TOTAL
from headrace.journeys.seams import Integers

FORMAT = 1
Purses = dict[int, list[int]]  # id -> accounts

TABLES = """
CREATE TABLE account (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, budget INTEGER NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
    CHECK (spent >= 0 AND reserved >= 0 AND spent + reserved <= budget)
);
CREATE TABLE purse (id INTEGER PRIMARY KEY, accounts TEXT NOT NULL UNIQUE);
CREATE TABLE entry (
    key TEXT PRIMARY KEY, purse INTEGER NOT NULL, largest INTEGER NOT NULL, state INTEGER NOT NULL,
    charged INTEGER NOT NULL DEFAULT 0, excess INTEGER NOT NULL DEFAULT 0, expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX open_entry ON entry (expires) WHERE state = 0;
"""


def settled_mode(db: sqlite3.Connection) -> None:
    """Write-ahead logging, which the file remembers."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")


def make(db: sqlite3.Connection, budget: int) -> None:
    """The tables and the total account, unless they are there."""
    db.execute("BEGIN IMMEDIATE")
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        for statement in TABLES.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute("INSERT INTO account (name, budget) VALUES (?, ?)", (TOTAL, budget))
        db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


def purse_of(db: sqlite3.Connection, accounts: Sequence[Integers], n: int) -> tuple[Integers, Purses]:
    """(B,) place of each exposure's purse in the purses of the batch, and those."""
    total = db.execute("SELECT id FROM account WHERE name = ?", (TOTAL,)).fetchone()[0]
    columns = np.stack([np.full(n, total), *(np.asarray(a, dtype=np.int64) for a in accounts)], axis=1)
    at, place = np.zeros(1, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for column in columns.T:  # places are below n, so that no number here is above n * n
        of_column = np.unique(column, return_inverse=True)[1]
        _, at, place = np.unique(place * n + of_column, return_index=True, return_inverse=True)
    held: Purses = {}
    ids = []
    for row in columns[at].tolist():
        members = sorted({a for a in row if a >= 0})
        text = json.dumps(members)
        db.execute("INSERT OR IGNORE INTO purse (accounts) VALUES (?)", (text,))
        ids.append(db.execute("SELECT id FROM purse WHERE accounts = ?", (text,)).fetchone()[0])
        held[ids[-1]] = members
    order = {purse: k for k, purse in enumerate(held)}
    return np.array([order[purse] for purse in ids], dtype=np.int64)[place], held


def known_purses(db: sqlite3.Connection, ids: Integers) -> tuple[Integers, Purses]:
    """The same for purses that entries name by id."""
    wanted, place = np.unique(ids, return_inverse=True)
    find = "SELECT accounts FROM purse WHERE id = ?"
    return place, {i: json.loads(db.execute(find, (i,)).fetchone()[0]) for i in wanted.tolist()}
