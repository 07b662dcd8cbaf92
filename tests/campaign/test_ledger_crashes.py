"""Thirty-two processes spend at once and are killed at random instants: no overspend, nothing lost, nothing twice."""

import sqlite3
from pathlib import Path

import pytest
from spenders import Work, run

from headrace.campaign.ledger import Ledger


def holds(work: Work, kills: int) -> None:
    total = work.attempts * 6_000
    Ledger.create(work.path, total).close()
    deaths = run(work, kills)
    assert deaths >= kills / 2
    with Ledger(work.path) as ledger:
        audit = ledger.audit()
    assert audit.sound, audit.problems
    entries = audit.entries
    assert entries["reserved"] == entries["released"] == 0
    assert entries["settled"] + entries["refused"] == work.attempts  # nothing lost
    assert min(entries["settled"], entries["refused"]) > work.attempts / 20  # the money did run out
    for balance in audit.balances.values():
        assert 0 <= balance.spent <= balance.budget and balance.reserved == 0
        assert balance.spent + balance.free == balance.budget
    charged = dict(sqlite3.connect(work.path).execute("SELECT key, charged FROM entry WHERE state = 1"))
    expected = 0
    for worker in range(work.workers):
        for number in range(work.batches):
            keys, _, cost, _ = work.batch(worker, number)
            for key, paid in zip(keys, cost.tolist(), strict=True):
                if key in charged:
                    assert charged[key] == paid
                    expected += paid
    assert audit.balances["total"].spent == expected  # each counted once
    print(f"{work.attempts:,} attempts, {deaths} deaths, {entries['settled']:,} settled, 0 overspent")


def test_budget_is_never_exceeded_by_processes_that_are_killed(tmp_path: Path) -> None:
    holds(Work(tmp_path / "ledger", workers=32, batches=8, size=20), kills=20)


@pytest.mark.slow
def test_a_million_attempts_overspend_nothing_and_lose_nothing(tmp_path: Path) -> None:
    holds(Work(tmp_path / "ledger", workers=32, batches=125, size=250), kills=200)
