"""Reward weights find what foretells later time, and do not name what does not."""

from pathlib import Path

import numpy as np
import pytest
from feed_logs import feed_log

from headrace.errors import UserError
from headrace.fuse.affinity import INTERACTION, Affinity, affinity, later_time, reward_weights
from headrace.fuse.replay import Replay, actions_of, scores_of, transitions
from headrace.journeys.export import export
from headrace.journeys.prepare import prepare
from headrace.journeys.schema import Gain, LogSchema
from headrace.journeys.splits import split
from headrace.journeys.store import Journeys, JourneysWriter

HOUR = 3_600_000.0


def log(path: Path, users: int = 400, steps: int = 6) -> Journeys:
    """Requests an hour apart; a like is followed by 50 seconds in the next request, a share by nothing."""
    rng = np.random.default_rng(0)
    like, share = rng.random((users, steps)) < 0.3, rng.random((users, steps)) < 0.3
    dwell = 20 + rng.normal(size=(users, steps))
    dwell[:, 1:] += 50 * like[:, :-1]
    gains = (Gain("dwell_s", "continuous"), Gain("like"), Gain("share"))
    schema = LogSchema("small", user="user", time="time", gains=gains)
    time = np.broadcast_to(np.arange(steps) * HOUR, (users, steps))
    with JourneysWriter(path, schema) as writer:
        writer.append(
            np.arange(users),
            np.full(users, steps),
            {
                "time": time.ravel().astype(float),
                "gain/dwell_s": dwell.ravel(),
                "gain/like": like.ravel().astype(np.int8),
                "gain/share": share.ravel().astype(np.int8),
            },
        )
        return writer.close()


def test_later_time_is_summed_to_the_horizon_and_no_further(tmp_path: Path):
    journeys = log(tmp_path / "j", users=3)
    found, whole = later_time(journeys, np.arange(6), "dwell_s", 2 * HOUR, np.arange(journeys.n_steps))
    dwell = journeys.gain("dwell_s")[:6]
    assert np.allclose(found, [dwell[i : i + 3].sum() for i in range(6)])
    assert whole.tolist() == [True] * 4 + [False] * 2  # the log ends before the last two horizons do


@pytest.mark.parametrize("protocol", ["time", "temporal"])
def test_nothing_of_a_later_part_enters_the_time_that_training_rows_are_fitted_to(tmp_path: Path, protocol: str):
    journeys = feed_log(tmp_path / "j", users=40)
    parts = split(journeys, protocol, 0, fractions=(0.7, 0.0, 0.3))
    rows = parts.rows("train")
    _, whole = later_time(journeys, rows, "dwell_s", 24 * HOUR, rows)
    time, user = np.asarray(journeys.time), journeys.user_of_step
    held_out = parts.rows("test")
    for row in rows[whole]:
        theirs = held_out[user[held_out] == user[row]]
        assert not ((time[theirs] >= time[row]) & (time[theirs] <= time[row] + 24 * HOUR)).any()
    assert 50 < whole.sum() < len(rows)


def test_a_session_that_was_cut_has_not_ended_where_only_the_cut_is_told(tmp_path: Path):
    journeys = feed_log(tmp_path / "j", users=20)
    rows = np.arange(journeys.n_steps)
    state = np.zeros((len(rows), 1), np.float32)
    whole = transitions(journeys, rows, state, actions_of(journeys), {"dwell_s": 1.0})
    last = whole.terminated | whole.truncated
    cut = last & (np.arange(len(rows)) % 2 == 0)

    class Less(Journeys):
        def has(self, name: str) -> bool:
            return name != "terminated" and super().has(name)

        def column(self, name: str) -> np.ndarray:
            return cut if name == "truncated" else super().column(name)

    less = transitions(Less(journeys.path), rows, state, actions_of(journeys), {"dwell_s": 1.0})
    assert cut.any() and np.array_equal(less.truncated, cut) and np.array_equal(less.terminated, last & ~cut)


def test_a_full_replay_keeps_what_is_latest_of_all_users(tmp_path: Path):
    journeys = feed_log(tmp_path / "j", users=30)
    rows = np.arange(journeys.n_steps)
    made = transitions(journeys, rows, np.zeros((len(rows), 1), np.float32), actions_of(journeys), {"dwell_s": 1.0})
    time = np.asarray(journeys.time)
    kept = Replay(made, 40, time).rows
    known = np.flatnonzero(made.known_next())
    assert len(kept) == 40 and time[kept].min() >= np.sort(time[known])[-40]
    assert len(np.unique(journeys.users_of(kept))) > 5


def test_a_like_is_worth_the_seconds_that_follow_it_and_a_share_nothing(tmp_path: Path):
    journeys = log(tmp_path / "j", users=2_000)
    rows = np.arange(journeys.n_steps)
    found = {a.name: a for a in affinity(journeys, rows, np.zeros((len(rows), 1), np.float32), horizon_s=2 * 3600)}
    like = found["like"]
    assert abs(like.weight - 50) < 2.5 and like.low < like.weight < like.high < like.low + 6
    assert found["share"].low < 0 < found["share"].high
    assert set(reward_weights(list(found.values()))) == {"dwell_s", "like"}


def test_an_emphasis_multiplies_its_group_and_takes_no_weight_below_zero():
    found = [Affinity("dwell_s", 1.0, 0.9, 1.1, 10), Affinity("like", 4.0, -1, 9, 10), Affinity("share", -3, -9, 3, 10)]
    assert reward_weights(found) == {"dwell_s": 1.0}
    assert reward_weights(found, "interaction", 3.0) == {"dwell_s": 1.0, "like": 12.0}
    assert reward_weights(found, "time", 3.0) == {"dwell_s": 3.0}
    assert "like" in INTERACTION


def test_a_log_without_weights_or_lists_is_told_what_it_lacks(tmp_path: Path):
    journeys = log(tmp_path / "j", users=3)
    with pytest.raises(UserError, match="candidate lists, predicted scores, fusion weights, sessions, propensities"):
        scores_of(journeys)


def test_episodes_end_where_sessions_do(tmp_path: Path):
    journeys = feed_log(tmp_path / "j", users=20, days=2)
    rows = np.arange(journeys.n_steps)
    state = np.arange(len(rows), dtype=np.float32)[:, None]
    of = transitions(journeys, rows, state, actions_of(journeys), {"dwell_s": 1.0})
    assert np.array_equal(of.terminated, np.asarray(journeys.column("terminated")) > 0)
    assert np.array_equal(of.truncated, (np.asarray(journeys.column("truncated")) > 0) & ~of.terminated)
    inside = ~(of.terminated | of.truncated)
    assert np.array_equal(of.next_state[inside, 0], state[inside, 0] + 1)
    assert np.isnan(of.next_state[of.truncated]).all()
    assert np.allclose(of.reward, journeys.gain("dwell_s"))


def test_without_a_column_that_tells_a_session_ends_before_the_users_next_one_and_not_where_a_part_does(tmp_path: Path):
    export(feed_log(tmp_path / "j", users=30, lists="shown"), tmp_path / "log")
    schema = tmp_path / "log" / "schema.toml"
    kept = [line for line in schema.read_text().splitlines() if not line.startswith(("terminated", "truncated"))]
    schema.write_text("\n".join(kept))
    journeys = prepare(tmp_path / "log" / "log.parquet", LogSchema.load(schema), tmp_path / "k")
    assert not journeys.has("terminated")
    user, session = journeys.user_of_step, np.asarray(journeys.column("session"))
    same_user = np.append(user[1:] == user[:-1], False)
    over = same_user & (np.append(session[1:], -1) != session)
    inside = np.flatnonzero(same_user & ~over)
    rows = np.delete(np.arange(journeys.n_steps), inside[::3] + 1)  # sessions are cut, as by a split of single rows
    state = np.zeros((len(rows), 1), dtype=np.float32)
    of = transitions(journeys, rows, state, actions_of(journeys), {"dwell_s": 1.0})
    assert np.array_equal(of.terminated, over[rows])
    assert over.any() and (of.truncated & same_user[rows]).any()
