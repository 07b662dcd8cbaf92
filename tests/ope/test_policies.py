"""Named policies: what they do at rows, how they rank them, and what they learn from."""

from pathlib import Path

import numpy as np
import pytest

from headrace.errors import UserError
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.splits import Split
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.ope.policies import LEARNERS, Rates, Worth, check_name, named, past_by_channel

CHANNELS = ("mail", "search", "video")
USERS, STEPS = 240, 20


def log(path: Path, click: np.ndarray, channel: np.ndarray, hour: np.ndarray, known: str = "after") -> Journeys:
    schema = LogSchema(
        "planted",
        user="user",
        channel="channel",
        channels=CHANNELS,
        features=(Feature("hour"),),
        gains=(Gain("click", known=known), Gain("sale")),
        cost=Cost("cost", context=True),
    )
    columns = {
        "channel": channel.astype(np.int32),
        "feature/hour": hour.astype(np.float64),
        "gain/click": click.astype(np.float64),
        "gain/sale": (click * (channel == 2)).astype(np.float64),
        "cost": np.where(channel == 2, 1.0, 0.25),
    }
    with JourneysWriter(path, schema) as writer:
        writer.append(np.arange(USERS), np.full(USERS, STEPS), columns)
        return writer.close()


@pytest.fixture
def planted(tmp_path: Path) -> Journeys:
    """Mornings want mail, evenings video; half of the users click four times as often."""
    rng = np.random.default_rng(0)
    n = USERS * STEPS
    channel, hour = rng.integers(0, 3, n), rng.integers(0, 24, n)
    keen = np.repeat(np.arange(USERS) % 2, STEPS)
    fits = np.where(hour < 12, channel == 0, channel == 2)
    click = rng.random(n) < (0.1 + 0.5 * fits) * (1 + 3 * keen) / 4
    return log(tmp_path / "log", click, channel, hour)


def thirds(journeys: Journeys) -> Split:
    third = journeys.user_of_step * 3 // USERS
    return Split("users", 0, None, {p: third == i for i, p in enumerate(("train", "validation", "test"))})


def test_uniform_and_constant_give_the_same_chances_everywhere_and_rank_nobody(planted: Journeys) -> None:
    rows = np.array([3, 50, 4000])
    acts = named("uniform", planted)(planted, rows)
    assert acts.score is None
    assert (acts.chances == 1 / 3).all()
    acts = named("constant:search", planted)(planted, rows)
    assert acts.score is None
    assert (acts.chances == np.array([0.0, 1.0, 0.0])).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [("unifrom", "did you mean 'uniform'"), ("past_rate", "did you mean 'past-rate'"), ("constant", "unknown policy")],
)
def test_an_unknown_policy_is_told_with_the_nearest_name(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_name(name)


def test_a_constant_policy_of_a_channel_that_is_none_is_told(planted: Journeys) -> None:
    with pytest.raises(UserError, match="unknown channel 'vidoe', did you mean 'video'"):
        named("constant:vidoe", planted)


def test_a_past_rate_is_drawn_to_the_channels_rate_plus_the_users_lift() -> None:
    rates = Rates(np.array([0.1, 0.3]), to_channel=2.0, to_user=4.0)
    number, total = np.array([[2.0, 0.0]]), np.array([[1.0, 0.0]])
    lift = (1.0 - 2 * 0.1) / (2 + 2)
    expected = [(1.0 + 4 * (0.1 + lift)) / (2 + 4), 0.3 + lift]
    assert rates.of(number, total)[0].tolist() == pytest.approx(expected)
    assert Rates(np.array([0.1, 0.3])).of(number, total)[0].tolist() == [0.1, 0.3]


def test_past_rate_ranks_the_users_who_click_more_above_the_others(planted: Journeys) -> None:
    split = thirds(planted)
    rows = split.rows("test")
    acts = named("past-rate", planted, split)(planted, rows)
    assert acts.score is not None
    late = rows % STEPS >= STEPS // 2
    keen = planted.user_of_step[rows] % 2 == 1
    assert acts.score[late & keen].mean() > 1.2 * acts.score[late & ~keen].mean()
    first = rows % STEPS == 0
    assert np.ptp(acts.score[first]) == 0, "without a past all users look alike"


def test_trees_find_the_channel_that_the_hour_asks_for(planted: Journeys) -> None:
    split = thirds(planted)
    rows = split.rows("test")
    acts = named("trees", planted, split)(planted, rows)
    wanted = np.where(planted.feature("hour")[rows] < 12, 0, 2)
    assert (acts.chances.argmax(axis=1) == wanted).mean() > 0.9
    assert (acts.chances.sum(axis=1) == 1).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_sees_nothing_of_the_rows_it_is_valued_on_or_of_what_comes_after(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = USERS * STEPS
    channel, hour, click = rng.integers(0, 3, n), rng.integers(0, 24, n), rng.random(n) < 0.3
    one = log(tmp_path / "one", click, channel, hour)
    split = thirds(one)
    now = split.parts["test"] & (np.arange(n) % STEPS >= 10)
    two = log(tmp_path / "two", click ^ now, channel, hour)
    rows = np.flatnonzero(split.parts["test"] & (np.arange(n) % STEPS <= 10))
    a, b = (named(name, journeys, split)(journeys, rows) for journeys in (one, two))
    assert np.array_equal(a.chances, b.chances)
    assert np.array_equal(np.asarray(a.score), np.asarray(b.score))


@pytest.mark.parametrize("name", LEARNERS)
def test_gains_count_by_their_weights_and_costs_against_them(name: str, planted: Journeys) -> None:
    split = thirds(planted)
    rows = split.rows("test")
    sales = named(name, planted, split, Worth({"click": 0.0, "sale": 1.0}))(planted, rows)
    assert (sales.chances[:, 2] == 1).mean() > 0.9, "video alone sells"
    dear = named(name, planted, split, Worth({"click": 0.0, "sale": 1.0}, penalty=5.0))(planted, rows)
    assert (dear.chances[:, 2] == 0).all(), "video costs four times as much"


def test_past_rate_of_a_gain_that_is_a_label_only_is_told(tmp_path: Path) -> None:
    n = USERS * STEPS
    journeys = log(tmp_path / "log", np.ones(n), np.arange(n) % 3, np.zeros(n), known="never")
    with pytest.raises(UserError, match="a label only"):
        named("past-rate", journeys, thirds(journeys))


def test_the_past_by_channel_is_counted_by_hand(planted: Journeys) -> None:
    row = 7 * STEPS + 5
    number, total = past_by_channel(planted, np.array([row]), "click")
    past = slice(7 * STEPS, row)
    channel, click = planted.channel[past], planted.gain("click")[past]
    assert number[0].tolist() == [(channel == c).sum() for c in range(3)]
    assert total[0].tolist() == [click[channel == c].sum() for c in range(3)]
