"""Intervals: equal to a plain loop, paired, seeded, and right about 95 % of the time."""

import numpy as np
import pytest

from headrace.evaluate import bootstrap
from headrace.evaluate.bootstrap import Metric, draws, group, interval, ratio, resample


def test_ratio_equals_a_plain_loop_over_the_drawn_users() -> None:
    rng = np.random.default_rng(0)
    users = np.array(["b", "a", "b", "c", "a", "c", "c", "d"])
    top, bottom = rng.normal(size=8), rng.uniform(1, 2, size=8)
    codes, groups = group(users, 8)
    drawn = draws({"x": ratio(top, bottom, codes, groups)}, groups, resamples=50, seed=3)["x"]

    expected = [top.sum() / bottom.sum()]
    names = np.unique(users)
    for counts in np.concatenate(list(resample(groups, 50, seed=3))):
        chosen = [name for name, count in zip(names, counts, strict=True) for _ in range(int(count))]
        rows = [row for name in chosen for row in np.flatnonzero(users == name)]
        expected.append(sum(top[r] for r in rows) / sum(bottom[r] for r in rows))
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)
    found = interval(drawn, groups)
    assert (found.low, found.high) == tuple(np.percentile(drawn[1:], (2.5, 97.5)))


def test_resamples_do_not_depend_on_how_they_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resample(11, 40, seed=5)))
    monkeypatch.setattr(bootstrap, "CELLS", 33)
    pieces = list(resample(11, 40, seed=5))
    assert len(pieces) > 10
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_a_users_rows_are_drawn_together() -> None:
    values = np.array([0.0, 0.0, 1.0, 1.0])
    codes, groups = group(np.array([7, 7, 9, 9]), 4)
    drawn = draws({"x": ratio(values, None, codes, groups)}, groups, seed=1)["x"]
    assert set(drawn[1:]) == {0.0, 0.5, 1.0}


def test_without_users_each_row_is_drawn_alone() -> None:
    codes, groups = group(None, 3)
    assert groups == 3
    assert codes.tolist() == [0, 1, 2]


def test_coverage_is_about_95_percent() -> None:
    rng = np.random.default_rng(1)
    sets, n_users, hit = 300, 60, 0
    for k in range(sets):
        lengths = rng.integers(1, 8, size=n_users)
        taste = rng.beta(2, 3, size=n_users)  # a user's clicks hang together; independent of length: the mean is .4
        users = np.repeat(np.arange(n_users), lengths)
        clicks = (rng.random(len(users)) < taste[users]).astype(float)
        codes, groups = group(users, len(users))
        found = interval(draws({"x": ratio(clicks, None, codes, groups)}, groups, 300, seed=k)["x"], groups)
        assert found.low is not None and found.high is not None
        hit += found.low <= 0.4 <= found.high
    assert 0.92 <= hit / sets <= 0.98


def test_a_paired_difference_is_narrower_than_its_parts() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(size=200)
    a, b = shared + 0.1, shared + rng.normal(scale=0.01, size=200)
    codes, groups = group(None, 200)
    drawn = draws({"a": ratio(a, None, codes, groups), "b": ratio(b, None, codes, groups)}, groups)
    difference, alone = interval(drawn["a"] - drawn["b"], groups), interval(drawn["a"], groups)
    assert difference.low is not None and difference.high is not None and difference.low > 0.09
    assert alone.low is not None and alone.high is not None
    assert difference.high - difference.low < 0.1 * (alone.high - alone.low)


def test_no_interval_from_one_user_and_none_from_an_undefined_figure() -> None:
    one = interval(np.array([1.0, 1.0]), groups=1)
    assert one.value is None and "one user" in str(one.refused)
    never = interval(np.array([np.nan, 1.0]), groups=5)
    assert never.value is None and "undefined" in str(never.refused)
    often = interval(np.r_[1.0, np.full(90, 1.0), np.full(10, np.nan)], groups=5)
    assert often.value is None and "10% of the resamples" in str(often.refused)
    rarely = interval(np.r_[1.0, np.full(98, 1.0), np.full(2, np.nan)], groups=5)
    assert (rarely.value, rarely.low, rarely.high) == (1.0, 1.0, 1.0)


def test_a_refused_metric_has_no_draws() -> None:
    assert draws({"x": Metric(None, "no reason")}, 4) == {}
