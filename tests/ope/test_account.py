"""What ope.json tells: the conditions agree with the gate, the weights add up, and no number is beyond JSON."""

import json
from dataclasses import replace

import numpy as np
from feedbacks import drawn
from hypothesis import given
from hypothesis import strategies as st

from headrace.ope.account import plain, weights
from headrace.ope.support import Gate, conditions, support


@given(
    st.integers(0, 2**31),
    st.integers(20, 400),
    st.sampled_from((1.0, 0.2, 0.01)),
    st.sampled_from((1.0, 3.0, 30.0)),
    st.booleans(),
)
def test_every_condition_passes_exactly_where_the_gate_does(
    seed: int, n: int, gains: float, sharpness: float, missing: bool
) -> None:
    of, _ = drawn(n, seed=seed)
    rng = np.random.default_rng(seed)
    sharp = of.policy**sharpness
    of = replace(of, policy=sharp / sharp.sum(axis=1, keepdims=True), reward=of.reward * (rng.random(n) < gains))
    if missing:
        of = replace(of, action=np.where(of.action == 0, 1, of.action))
    found = support(of, Gate(least_ess=60))
    told = conditions(found, Gate(least_ess=60))
    assert all(c.passed for c in told) == (found.refused is None), (found, told)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_the_bins_hold_every_step_and_all_the_weight(values: list[float]) -> None:
    w = np.array(values)
    w[w < 1e-9] = 0.0
    found = weights(w)
    assert found["zero"] + sum(b["rows"] for b in found["bins"]) == len(w)
    for b in found["bins"]:
        held = w[(w > 0) & (w >= 10 ** b["low"] * (1 - 1e-6)) & (w <= 10 ** b["high"] * (1 + 1e-6))]
        assert b["rows"] <= len(held)
    if w.any():
        assert np.isclose(sum(b["share_of_weight"] for b in found["bins"]), 1)


def test_what_is_not_finite_becomes_null() -> None:
    value = {"a": np.float64("nan"), "b": [np.int64(1), np.bool_(True), float("inf")], 3: "x"}
    assert json.dumps(plain(value), allow_nan=False) == '{"a": null, "b": [1, true, null], "3": "x"}'
