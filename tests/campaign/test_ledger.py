"""The ledger keeps its promise: spent + reserved + free = budget, never overspent, each key counted once."""

import logging
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace.campaign.ledger import Ledger
from headrace.campaign.money import MOST, to_micros
from headrace.errors import UserError


def whole(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_a_batch_is_charged_exposure_by_exposure() -> None:
    with Ledger.create(None, 10) as ledger:
        assert ledger.reserve(["a", "b", "c"], whole(6, 5, 4)).tolist() == [True, False, True]
        assert (ledger.balance.reserved, ledger.balance.free) == (10, 0)
        settled = ledger.settle(["a", "c"], whole(2, 4))
        assert settled.charged.tolist() == [2, 4] and not settled.alarm
        assert (ledger.balance.spent, ledger.balance.reserved, ledger.balance.free) == (6, 0, 4)
        assert ledger.audit().sound


def test_every_account_of_an_exposure_must_have_room() -> None:
    with Ledger.create(None, 100) as ledger:
        search, day = ledger.open_account("search", 10), ledger.open_account("day", 12)
        channel, days = whole(search, search, -1), np.full(3, day)
        assert ledger.reserve(["a", "b", "c"], whole(8, 3, 4), [channel, days]).tolist() == [True, False, True]
        free = {name: b.free for name, b in ledger.balances().items()}
        assert free == {"total": 88, "search": 2, "day": 0}


def test_every_exposure_is_charged_to_its_own_accounts_however_many_there_are() -> None:
    with Ledger.create(None, 100) as ledger:
        rows = [(f"user/{i}", 10) for i in range(65_600)]
        ledger._db.executemany("INSERT INTO account (name, budget) VALUES (?, ?)", rows)
        many = [whole(65_534, 65_534)] * 4  # numbers that a product of so many columns has no room for
        assert ledger.reserve(["a", "b"], whole(4, 6), [*many, whole(5, 6)]).tolist() == [True, True]
        held = ledger.balances()
        assert [held[f"user/{i}"].reserved for i in (3, 4, 65_532)] == [4, 6, 10]


def test_a_retry_counts_once_whatever_its_answer_was() -> None:
    with Ledger.create(None, 10) as ledger:
        assert ledger.reserve(["a", "a", "b"], whole(6, 6, 6)).tolist() == [True, True, False]
        assert ledger.balance.reserved == 6
        ledger.settle(["a"], whole(1))
        assert ledger.reserve(["a", "b", "c"], whole(6, 6, 6)).tolist() == [True, False, True]
        assert ledger.settle(["a"], whole(5)).charged.tolist() == [1]
        assert (ledger.balance.spent, ledger.balance.reserved) == (1, 6)


def test_a_cost_above_the_reservation_is_charged_up_to_it_and_alarmed(caplog: pytest.LogCaptureFixture) -> None:
    with Ledger.create(None, 10) as ledger:
        ledger.reserve(["a", "b"], whole(4, 4))
        with caplog.at_level(logging.WARNING, "headrace"):
            settled = ledger.settle(["a", "b"], whole(9, 3))
        assert settled.charged.tolist() == [4, 3] and settled.excess.tolist() == [5, 0] and settled.alarm
        assert "a: 5" in caplog.text
        audit = ledger.audit()
        assert audit.sound and audit.excess == 5 and audit.balances["total"].spent == 7


def test_reservations_expire_and_a_cost_told_late_is_charged_only_if_it_fits() -> None:
    with Ledger.create(None, 10) as ledger:
        ledger.reserve(["a", "b"], whole(5, 5), expires=3)
        assert ledger.expire(2) == 0 and ledger.expire(3) == 2 and ledger.expire(3) == 0
        assert ledger.balance.free == 10
        ledger.reserve(["c"], whole(6))
        assert ledger.settle(["a", "b"], whole(4, 4)).excess.tolist() == [0, 4]
        assert (ledger.balance.spent, ledger.balance.reserved) == (4, 6)
        assert ledger.audit().sound
        assert ledger.reserve(["b"], whole(0)).tolist() == [True]  # settled: its answer stands


def test_released_keys_are_not_admitted_again() -> None:
    with Ledger.create(None, 10) as ledger:
        ledger.reserve(["a", "b"], whole(5, 5))
        assert ledger.release(["a", "unknown"]) == 1
        assert ledger.reserve(["a", "c"], whole(5, 5)).tolist() == [False, True]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "l", 10) as ledger:
        ledger.reserve(["a", "b"], whole(9, 9))
        for keys, costs in ((["z"], whole(1)), (["b"], whole(1)), (["a", "a"], whole(1, 1)), (["a"], whole(-1))):
            with pytest.raises(ValueError):
                ledger.settle(keys, costs)
        for largest in (np.array([0.5]), whole(-1), whole(1, 2), whole(MOST + 1)):
            with pytest.raises(ValueError):
                ledger.reserve(["c"], largest)
        with pytest.raises(ValueError, match="no account"):
            ledger.reserve(["c"], whole(1), [whole(99)])
        assert ledger.audit().sound and ledger.audit().entries["reserved"] == 1
        assert ledger.open_account("x", 5) == ledger.open_account("x", 5)
        with pytest.raises(UserError, match="open with 5 micros"):
            ledger.open_account("x", 6)
    with pytest.raises(UserError, match="asked for 11"):
        Ledger.create(tmp_path / "l", 11)
    with pytest.raises(UserError, match="no ledger"):
        Ledger(tmp_path / "none")
    (tmp_path / "text").write_text("not a database, but long enough to be looked at as one " * 40)
    with pytest.raises(UserError, match="not a ledger"):
        Ledger(tmp_path / "text")
    with pytest.raises(UserError, match="budget"):
        to_micros(-1.0)


def test_micros_of_a_budget_are_never_rounded_up() -> None:
    amounts = (0.1, 0.013, 2.0000009, 5000.0000009, 1e9)
    assert [to_micros(x) for x in amounts] == [100_000, 13_000, 2_000_000, 5_000_000_000, 10**15]


def test_an_audit_sees_a_balance_that_its_entries_do_not_give() -> None:
    with Ledger.create(None, 10) as ledger:
        ledger.reserve(["a"], whole(3))
        ledger._db.execute("UPDATE account SET reserved = 2")
        found = ledger.audit()
        assert not found.sound and "reserved 2, its entries add up to 3" in found.problems[0]


class Spending(RuleBasedStateMachine):
    """The ledger against plain dictionaries, over every order of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger.create(None, 100)
        self.budgets = {"total": 100, "x": 60, "y": 30}
        self.ids = {name: self.ledger.open_account(name, b) for name, b in self.budgets.items() if name != "total"}
        self.spent, self.reserved = dict.fromkeys(self.budgets, 0), dict.fromkeys(self.budgets, 0)
        self.entries: dict[str, list] = {}  # key: [accounts, largest, state, charged, expires]

    def teardown(self) -> None:
        self.ledger.close()

    def fits(self, accounts: list[str], amount: int) -> bool:
        return all(self.spent[a] + self.reserved[a] + amount <= self.budgets[a] for a in accounts)

    keys = st.integers(0, 30).map(str)

    @rule(
        batch=st.lists(st.tuples(keys, st.integers(0, 40), st.sampled_from(["x", "y", None])), max_size=8),
        expires=st.integers(0, 9),
    )
    def reserve(self, batch: list, expires: int) -> None:
        expected = []
        for key, largest, account in batch:
            if key not in self.entries:
                accounts = ["total"] + ([account] if account else [])
                ok = self.fits(accounts, largest)
                self.entries[key] = [accounts, largest, "reserved" if ok else "refused", 0, expires]
                for a in accounts if ok else ():
                    self.reserved[a] += largest
            expected.append(self.entries[key][2] in ("reserved", "settled"))
        ids = whole(*(self.ids.get(account, -1) for _, _, account in batch))
        amounts = whole(*(largest for _, largest, _ in batch))
        assert self.ledger.reserve([k for k, _, _ in batch], amounts, [ids], expires).tolist() == expected

    @rule(costs=st.dictionaries(keys, st.integers(0, 60), max_size=8))
    def settle(self, costs: dict[str, int]) -> None:
        costs = {k: c for k, c in costs.items() if k in self.entries and self.entries[k][2] != "refused"}
        expected = {}
        order = sorted(costs, key=lambda k: self.entries[k][2] == "released")  # reserved money is charged first
        for key in order:
            accounts, largest, state, charged, _ = self.entries[key]
            due = min(costs[key], largest)
            if state == "reserved":
                for a in accounts:
                    self.reserved[a] -= largest
            if state != "settled":
                charged = due if state == "reserved" or self.fits(accounts, due) else 0
                for a in accounts:
                    self.spent[a] += charged
                self.entries[key][2:4] = ["settled", charged]
            expected[key] = charged
        found = self.ledger.settle(list(costs), whole(*costs.values()))
        assert found.charged.tolist() == [expected[k] for k in costs]

    def free_all(self, wanted: list[str]) -> int:
        for key in wanted:
            for a in self.entries[key][0]:
                self.reserved[a] -= self.entries[key][1]
            self.entries[key][2] = "released"
        return len(wanted)

    @rule(keys=st.sets(keys, max_size=5))
    def release(self, keys: set[str]) -> None:
        held = [k for k in keys if k in self.entries and self.entries[k][2] == "reserved"]
        assert self.ledger.release(list(keys)) == self.free_all(held)

    @rule(now=st.integers(0, 9))
    def expire(self, now: int) -> None:
        due = [k for k, e in self.entries.items() if e[2] == "reserved" and e[4] <= now]
        assert self.ledger.expire(now) == self.free_all(due)

    @invariant()
    def balances_are_the_models_and_add_up(self) -> None:
        audit = self.ledger.audit()
        assert audit.sound, audit.problems
        for name, b in audit.balances.items():
            assert (b.spent, b.reserved, b.budget) == (self.spent[name], self.reserved[name], self.budgets[name])
            assert b.spent + b.reserved + b.free == b.budget and min(b.spent, b.reserved, b.free) >= 0


Spending.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSpending = Spending.TestCase


def test_a_call_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.create(tmp_path / "l", 10) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr("headrace.campaign.ledger.admit", lambda *a: np.ones(2, dtype=np.bool_))
            with pytest.raises(sqlite3.IntegrityError):  # were admission wrong, the table would refuse
                ledger.reserve(["a", "b"], whole(8, 8))
        assert ledger.balance.free == 10 and sum(ledger.audit().entries.values()) == 0
        assert ledger.reserve(["a", "b"], whole(8, 8)).tolist() == [True, False]


def test_equal_entries_give_equal_bytes_whatever_their_course(tmp_path: Path) -> None:
    for name, order in (("one", ["a", "b", "c"]), ("other", ["c", "a", "b"])):
        with Ledger.create(tmp_path / name, 100) as ledger:
            ledger.open_account("x", 50)
            for key in order:
                ledger.reserve([key], whole(5))
                ledger.reserve([key], whole(5))
            ledger.settle(["b"], whole(4))
            ledger.compact()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    with Ledger.create(tmp_path / "one", 100) as ledger:  # it can be gone on with
        assert ledger.settle(["a"], whole(5)).charged.tolist() == [5] and ledger.audit().sound


def test_nobody_spends_from_the_file_that_was_written_anew(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "l", 10) as ours, Ledger(tmp_path / "l") as theirs:
        assert theirs.reserve(["a"], whole(4)).tolist() == [True]
        ours.compact()
        with pytest.raises(UserError, match="open it again"):
            theirs.reserve(["b"], whole(6))
        with Ledger(tmp_path / "l") as again:
            assert again.reserve(["a", "c"], whole(4, 6)).tolist() == [True, True] and again.balance.free == 0
        theirs.close()
    with Ledger(tmp_path / "l") as last:
        assert last.audit().sound and last.balance.reserved == 10
