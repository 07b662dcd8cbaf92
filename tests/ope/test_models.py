"""What is learnt from the log predicts no user that it saw."""

import numpy as np
import pytest
from logs import drawn_log

from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.ope.intervals import groups_of
from headrace.ope.models import _folds, propensity_model, reward_model

BY_HOUR = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Journeys:
    return drawn_log(tmp_path_factory.mktemp("models"), BY_HOUR)


@pytest.mark.parametrize(("users", "folds"), [(2, 3), (3, 3), (50, 3), (50, 5)])
def test_every_row_is_held_out_once_and_no_user_stands_in_two_parts_of_a_fold(users: int, folds: int) -> None:
    codes = np.random.default_rng(0).permutation(np.arange(40 * users) % users)
    held_once = np.zeros(len(codes), dtype=np.int64)
    for fit, stop, held in _folds(codes, folds, 0):
        assert len(fit) and len(stop) and len(held)
        held_once[held] += 1
        assert not set(codes[held]) & (set(codes[fit]) | set(codes[stop]))
        if users > 3:
            assert not set(codes[fit]) & set(codes[stop])
    assert (held_once == 1).all()


def test_one_user_is_too_few() -> None:
    with pytest.raises(UserError, match="1 user"):
        list(_folds(np.zeros(9, dtype=np.int64), 3, 0))


def test_a_users_own_gains_do_not_move_what_is_expected_of_that_user(log: Journeys) -> None:
    rows = np.arange(log.n_steps)
    codes, _ = groups_of(log.user_of_step, len(rows))
    late = np.asarray(log.feature("hour")) >= 12
    reward = (np.asarray(log.channel) == np.where(late, 2, 0)).astype(np.float64)
    before = reward_model(log, rows, reward, codes)
    for user in range(5):  # of several folds: what one wrote, no later one may write over
        mine = codes == user
        after = reward_model(log, rows, np.where(mine, 1 - reward, reward), codes)
        assert np.array_equal(before[mine], after[mine]) and not np.array_equal(before, after)
    assert (before.argmax(axis=1) == np.where(late, 2, 0)).mean() > 0.95, "it did learn"


def test_propensities_are_a_distribution_that_follows_the_hour(log: Journeys) -> None:
    rows = np.arange(log.n_steps)
    chances = propensity_model(log, rows, groups_of(log.user_of_step, len(rows))[0])
    assert np.allclose(chances.sum(axis=1), 1) and chances.min() >= 1e-3 / 1.01
    late = np.asarray(log.feature("hour")) >= 12
    assert chances[late, 2].mean() > 0.5 > 0.3 > chances[~late, 2].mean()
