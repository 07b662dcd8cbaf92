import numpy as np
import pytest
from feedbacks import drawn

from headrace.ope.intervals import MOST_GROUPS, Z95, Drawn, Functional, Term, draw, estimate, groups_of, ratios
from headrace.ope.single import functional, terms
from headrace.ope.support import support


def test_the_standard_error_is_that_of_a_mean_where_the_estimator_is_one() -> None:
    values = np.random.default_rng(0).normal(size=500)
    f = ratios([Term(values, np.ones(500))], np.arange(500), 500)
    found = estimate(draw({"mean": f}, 500)["mean"], 500)
    assert found.value == pytest.approx(values.mean())
    assert found.diagnostics["standard_error"] == pytest.approx(values.std(ddof=1) / np.sqrt(500))
    assert found.diagnostics["normal_high"] - found.value == pytest.approx(
        1.96 * values.std(ddof=1) / 500**0.5, rel=1e-3
    )


def test_the_standard_error_of_a_self_normalised_estimate_is_that_of_its_resamples() -> None:
    of, q = drawn(2_000, seed=1, users=400)
    for name in ("snips", "dr", "sndr"):
        found = estimate(draw({"it": functional(terms(name, of, q), of)}, of.groups)["it"], len(of))
        resampled = draw({"it": functional(terms(name, of, q), of)}, of.groups, 4_000, seed=9)["it"].values[1:].std()
        assert found.diagnostics["standard_error"] == pytest.approx(resampled, rel=0.05)


COVERED = ("ips", "snips", "dr", "sndr")
TRUTH = 0.3  # of feedbacks.drawn: chances and expected gains are independent, so the value is the mean gain


def held(logs: int, n: int, resamples: int) -> dict[str, float]:
    """The share of accepted logs whose 95 % interval holds the truth."""
    inside = {name: [] for name in COVERED}
    for seed in range(logs):
        of, expected = drawn(n, seed=seed)
        if support(of).refused is not None:
            continue
        q = expected + np.random.default_rng(seed).normal(0, 0.1)
        drawn_ = draw({name: functional(terms(name, of, q), of) for name in COVERED}, n, resamples, seed)
        for name, of_one in drawn_.items():
            found = estimate(of_one, n)
            assert found.low is not None and found.high is not None
            inside[name].append(found.low <= TRUTH <= found.high)
    assert min(len(i) for i in inside.values()) > 0.9 * logs
    return {name: float(np.mean(i)) for name, i in inside.items()}


def test_ninety_five_per_cent_intervals_hold_the_truth_about_that_often() -> None:
    for name, share in held(400, 300, 400).items():
        assert 0.92 <= share <= 0.98, name


@pytest.mark.slow
def test_ninety_five_per_cent_intervals_hold_the_truth_in_93_to_97_per_cent_of_2000_logs() -> None:
    for name, share in held(2_000, 300, 1_000).items():
        assert 0.93 <= share <= 0.97, name


def test_many_rows_merged_into_groups_have_the_same_spread() -> None:
    n = 3 * MOST_GROUPS
    values = np.random.default_rng(0).exponential(size=n)
    codes, groups = groups_of(None, n)
    assert groups == MOST_GROUPS and np.bincount(codes).min() == 3
    found = estimate(draw({"mean": ratios([Term(values, np.ones(n))], codes, groups)}, groups, 50)["mean"], n)
    assert found.diagnostics["standard_error"] == pytest.approx(values.std() / np.sqrt(n), rel=0.03)


def test_rows_of_one_user_stay_together() -> None:
    codes, groups = groups_of(np.array([5, 9, 5, 7]), 4)
    assert groups == 3 and codes[0] == codes[2] != codes[1]


def test_an_estimate_that_hangs_on_too_few_rows_is_refused_with_the_raw_number_in_the_diagnostics() -> None:
    values = np.zeros(300)
    values[:2] = 1.0
    found = estimate(draw({"mean": ratios([Term(values, np.ones(300))], np.arange(300), 300)}, 300)["mean"], 300)
    assert found.value is None and found.refused is not None and "too few" in found.refused
    assert found.diagnostics["raw_value"] == pytest.approx(2 / 300)


def test_an_estimator_without_a_standard_error_gets_the_percentile_interval() -> None:
    values = np.random.default_rng(0).normal(size=200)
    drawn_ = draw({"sum": Functional(lambda counts: counts @ values / 200)}, 200)["sum"]
    found = estimate(drawn_, 200)
    assert (found.low, found.high) == (found.diagnostics["percentile_low"], found.diagnostics["percentile_high"])


def test_the_studentised_interval_by_hand_follows_the_skew_and_is_nowhere_narrower_than_the_normal_one() -> None:
    t = np.linspace(-1, 5, 1_201)  # (value* - value) / error*, the errors* being 2
    above = float(np.percentile(t, 97.5, method="closest_observation"))
    errors = np.append(0.1, np.full(len(t), 2.0))
    found = estimate(Drawn(np.append(1.0, 1 + 2 * t), errors), 9)
    assert (found.low, found.high) == (pytest.approx(1 - above * 0.1), pytest.approx(1 + Z95 * 0.1))
    above = -float(np.percentile(-t, 2.5, method="closest_observation"))
    found = estimate(Drawn(np.append(1.0, 1 - 2 * t), errors), 9)
    assert (found.low, found.high) == (pytest.approx(1 - Z95 * 0.1), pytest.approx(1 + above * 0.1))


def test_a_value_that_is_alike_everywhere_has_no_interval_and_a_difference_of_nothing_has_one() -> None:
    every = np.ones(6)
    term = Term(every, np.ones(6))
    found = estimate(draw({"mean": ratios([term], np.arange(6), 6)}, 6)["mean"], 6)
    assert found.value is None and "alike" in str(found.refused) and found.diagnostics["raw_value"] == 1
    none = ratios([term, Term(every, np.ones(6), -1.0)], np.arange(6), 6)
    found = estimate(draw({"none": none}, 6)["none"], 6)
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-6)
