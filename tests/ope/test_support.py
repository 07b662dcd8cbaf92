from dataclasses import replace

import numpy as np
import pytest
from feedbacks import drawn

from headrace.ope.support import Gate, logged_refused, support


def test_the_logging_policys_own_weights_pass_and_are_one() -> None:
    of, _ = drawn(500)
    policy = np.zeros_like(of.policy)
    policy[np.arange(500), of.action] = 1.0
    found = support(replace(of, policy=policy, log_propensity=np.zeros(500)))
    assert found.refused is None
    assert (found.ess, found.mean_weight, found.largest_share) == (500, 1.0, pytest.approx(1 / 500))


def test_effective_sample_size_by_hand() -> None:
    of, _ = drawn(3)
    policy = np.full((3, 3), 0.25)
    policy[np.arange(3), of.action] = 0.5
    of = replace(of, policy=policy, log_propensity=np.log([0.5, 0.5, 0.125]))
    assert support(of).ess == pytest.approx((1 + 1 + 4) ** 2 / (1 + 1 + 16))


def test_a_channel_that_the_log_never_chose_is_refused() -> None:
    of, _ = drawn(2_000)
    rare = replace(of, action=np.where(of.action == 2, 0, of.action))
    found = support(rare)
    assert found.refused is not None and "never chose" in found.refused and found.needed is not None
    assert found.never_logged == pytest.approx(of.policy[:, 2].mean())


def test_few_rows_with_all_the_weight_are_refused_and_told_how_many_more_would_do() -> None:
    of, _ = drawn(4_000)
    one = of.log_propensity.copy()
    one[0] = np.log(1e-5)
    found = support(replace(of, log_propensity=one))
    assert found.ess < 10 and found.refused is not None and "overlap" in found.refused
    assert found.needed is not None and "rows like these" in found.needed


def test_a_user_who_holds_much_of_the_weight_is_refused() -> None:
    of, _ = drawn(4_000, users=500)
    heavy = np.where(of.codes == 7, of.log_propensity - 5.0, of.log_propensity)
    found = support(replace(of, log_propensity=heavy), Gate(least_ess=1))
    assert found.refused is not None and "of all weight" in found.refused


@pytest.mark.parametrize(("factor", "words"), [(1.6, "lacks part"), (0.6, "too small")])
def test_a_mean_weight_far_from_one_is_refused(factor: float, words: str) -> None:
    of, _ = drawn(4_000)
    found = support(replace(of, log_propensity=of.log_propensity + np.log(factor)))
    assert found.refused is not None and words in found.refused


def test_a_selector_that_selects_nobody_is_refused() -> None:
    of, _ = drawn(100)
    found = support(of.within(np.zeros(100, dtype=np.bool_)))
    assert found.refused is not None and "none of these rows" in found.refused


def test_a_value_that_hangs_on_few_gains_is_refused() -> None:
    of, _ = drawn(2_000)
    few = np.zeros(2_000)
    few[[3, 500, 900]] = 1.0
    found = support(replace(of, reward=few))
    assert found.ess_gains <= 3 and found.refused is not None and "too few gains" in found.refused


def test_what_is_needed_follows_from_the_condition_that_failed() -> None:
    of, _ = drawn(4_000)
    wrong = support(replace(of, log_propensity=of.log_propensity - np.log(1.6)))
    assert wrong.needed == "propensities that fit the log"
    none = support(replace(of, reward=np.zeros(4_000)))
    assert none.needed is not None and "the gain comes about" in none.needed
    small, _ = drawn(40)
    few = support(replace(small, policy=np.eye(3)[np.zeros(40, dtype=int)]))
    assert few.needed is not None and "a log of 300 users" in few.needed


def test_doubt_about_the_propensities_refuses_whatever_the_weights_say() -> None:
    of, _ = drawn(4_000)
    assert support(of).refused is None
    assert support(of, doubt="they do not fit").refused == "they do not fit"


def test_weights_of_zero_at_every_selected_row_are_refused() -> None:
    of, _ = drawn(4_000)
    away = np.eye(3)[(of.action + 1) % 3]
    found = support(replace(of, policy=away))
    assert (found.ess, found.mean_weight) == (0.0, 0.0)
    assert found.refused is not None and "overlap" in found.refused


def test_the_logs_own_mean_is_refused_where_few_gains_or_one_user_make_it() -> None:
    of, _ = drawn(400, users=40)
    assert logged_refused(of) is None
    assert "too few gains" in str(logged_refused(replace(of, reward=np.zeros(400))))
    assert "none of these rows" in str(logged_refused(of.within(np.zeros(400, dtype=np.bool_))))
    mostly = replace(of, reward=np.ones(400)).within((of.codes == 3) | (np.arange(400) < 20))
    assert "of these rows" in str(logged_refused(mostly))


def test_users_count_and_not_their_rows() -> None:
    of, _ = drawn(4_000, users=40)
    found = support(replace(of, policy=np.exp(of.log_propensity)[:, None] * np.ones((1, 3))))  # weights of one
    assert (found.ess, found.ess_groups) == (pytest.approx(4_000), pytest.approx(40))
    half = np.where(of.codes < 20, of.log_propensity, 50.0)  # all weight lies with 20 users of 100 rows each
    found = support(replace(of, policy=np.exp(of.log_propensity)[:, None] * np.ones((1, 3)), log_propensity=half))
    assert found.ess == pytest.approx(2_000) and found.ess_groups == pytest.approx(20)
    assert found.refused is not None and "effective sample of 20.0 users" in found.refused


def test_the_error_of_the_mean_weight_is_that_of_users_by_hand() -> None:
    of, _ = drawn(4, users=2)
    weight = np.array([1.0, 2.0, 3.0, 4.0])  # of the users 0, 1, 0, 1: sums 4 and 6, mean 2.5
    policy = np.full((4, 3), 0.25)
    found = support(replace(of, policy=policy, log_propensity=np.log(0.25 / weight)))
    assert found.mean_weight == pytest.approx(2.5)
    assert found.mean_weight_error == pytest.approx(np.sqrt((4 - 5) ** 2 + (6 - 5) ** 2) / 4)


def test_a_channel_chosen_elsewhere_in_the_log_is_no_channel_never_chosen() -> None:
    of, _ = drawn(4_000)
    assert support(of.within(of.action != 2)).never_logged == 0
