"""A batch is admitted exactly as if its exposures came one after the other."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.campaign import admission
from headrace.campaign.admission import admit


def one_by_one(amounts: np.ndarray, purse: np.ndarray, holds: np.ndarray, free: np.ndarray) -> list[bool]:
    left, found = free.astype(object).copy(), []
    for amount, p in zip(amounts.tolist(), purse.tolist(), strict=True):
        fits = all(amount <= left[j] for j in np.flatnonzero(holds[p]))
        found.append(fits)
        if fits:
            for j in np.flatnonzero(holds[p]):
                left[j] -= amount
    return found


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_batch_is_admitted_as_if_one_by_one(data: st.DataObject) -> None:
    n, p, j = (data.draw(st.integers(1, most)) for most in (40, 4, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    amounts = rng.integers(0, data.draw(st.sampled_from([2, 5, 1_000])), n)
    holds = rng.random((p, j)) < 0.6
    holds[:, 0] = True
    free = rng.integers(0, max(int(amounts.sum()), 1) + 1, j)
    purse = rng.integers(0, p, n)
    assert admit(amounts, purse, holds, free).tolist() == one_by_one(amounts, purse, holds, free)


def test_blocks_leave_no_trace(monkeypatch) -> None:
    rng = np.random.default_rng(3)
    amounts, purse = rng.integers(0, 50, 500), rng.integers(0, 2, 500)
    holds, free = np.array([[True, False], [True, True]]), np.array([6_000, 900])
    whole = admit(amounts, purse, holds, free)
    monkeypatch.setattr(admission, "BLOCK", 7)
    assert np.array_equal(admit(amounts, purse, holds, free), whole)
    assert whole.any() and not whole.all()


def test_sums_of_micros_do_not_overflow() -> None:
    amounts = np.full(20_000, 10**15)
    admitted = admit(amounts, np.zeros(20_000, dtype=np.int64), np.ones((1, 1), dtype=np.bool_), np.array([10**15]))
    assert admitted.sum() == 1 and admitted[0]
