"""Replaying a log through Memory gives the training view's tensors, bit for bit."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.journeys.memory import Memory
from headrace.journeys.schema import Cost, Feature, Gain, LogSchema
from headrace.journeys.statistics import Statistic, default_statistics
from headrace.journeys.store import Journeys, JourneysWriter
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import histories

CLOCKED = LogSchema(
    "clocked",
    user="u",
    time="t",
    time_unit="s",
    channel="c",
    channels=("a", "b", "c"),
    features=(
        Feature("age", "numeric", level="user"),
        Feature("hour", "categorical"),
        Feature("place", "categorical"),
        Feature("topic", "categorical", "after"),
    ),
    gains=(Gain("click"), Gain("play", "continuous"), Gain("buy", known="at:bought"), Gain("label", known="never")),
    cost=Cost("w", "EUR"),
)
CLOCKLESS = LogSchema(
    "clockless",
    user="u",
    channel="c",
    channels=("a", "b"),
    features=(Feature("topic", "categorical", "after"),),
    gains=(Gain("click"),),
)


def write(schema: LogSchema, lengths: list[int], seed: int, path: object) -> Journeys:
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    categories = {"feature/place": ["home", "work"], "feature/topic": ["x", "y", "z"]}
    columns: dict[str, np.ndarray] = {"channel": rng.integers(0, len(schema.channels), n).astype(np.int16)}
    for f in schema.features:
        if f.level == "user":
            columns[f"user/{f.name}"] = rng.normal(size=len(lengths))
        else:
            columns[f"feature/{f.name}"] = rng.integers(0, 2, n).astype(np.int32)
    for g in schema.gains:
        columns[f"gain/{g.name}"] = (
            rng.normal(size=n) if g.kind == "continuous" else rng.integers(0, 2, n).astype(np.int8)
        )
    if schema.time:
        time = np.concatenate([np.sort(rng.integers(0, 6, k)) for k in lengths]).astype(float)
        columns["time"] = time
        late = time + rng.integers(0, 4, n)
        columns["known_at/buy"] = np.where(rng.random(n) < 0.2, np.nan, late)
        columns["cost"] = rng.random(n)
    with JourneysWriter(path, schema, categories) as writer:  # type: ignore[arg-type]
        writer.append(np.arange(len(lengths)) * 7, np.array(lengths), columns)
        return writer.close()


def replay(journeys: Journeys, steps: int, statistics: tuple[Statistic, ...]) -> None:
    schema = journeys.schema
    categories = {k.split("/")[1]: v for k, v in journeys.categories.items()}
    user_features = {f.name: journeys.feature(f.name) for f in schema.features if f.level == "user"}
    memory = Memory(schema, journeys.n_users, steps, user_features, statistics, categories)
    transforms = Transforms.fit(journeys, np.arange(journeys.n_steps), statistics=statistics, min_count=1)
    time = np.zeros(journeys.n_steps) if journeys.time is None else np.asarray(journeys.time)
    order = np.lexsort((np.arange(journeys.n_steps), time))
    expected = histories(journeys, np.arange(journeys.n_steps), steps, statistics)
    for row in order:
        user = journeys.user_of_step[row : row + 1]
        step = {"time": time[row : row + 1], "channel": np.asarray(journeys.channel[row : row + 1])}
        for f in schema.features:
            if f.level == "step":
                step[f.name] = np.asarray(journeys.feature(f.name)[row : row + 1])
        got = memory.histories(user, step)
        length = got.mask.shape[1]
        for part in ("before", "previous", "so_far"):
            ours, theirs = getattr(got, part), getattr(expected, part)
            assert set(ours) == set(theirs)
            for name in ours:
                np.testing.assert_array_equal(
                    ours[name][0], theirs[name][row][:length], err_msg=f"{part}/{name} at {row}"
                )
                assert ours[name].dtype == theirs[name].dtype
        ours, theirs = transforms.encode(got), transforms.encode(expected)
        assert ours.ids.tobytes() == theirs.ids[row : row + 1, :length].tobytes()
        assert ours.numbers.tobytes() == theirs.numbers[row : row + 1, :length].tobytes()
        for g in schema.gains:
            step[g.name] = np.asarray(journeys.gain(g.name)[row : row + 1])
            if g.known.startswith("at:"):
                step[f"known_at/{g.name}"] = np.asarray(journeys.column(f"known_at/{g.name}")[row : row + 1])
        if schema.cost:
            step["cost"] = np.asarray(journeys.column("cost")[row : row + 1])
        memory.append(user, step)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 10**6), steps=st.integers(2, 6))
def test_replay_equals_the_training_view(tmp_path, lengths, seed, steps):
    for schema in (CLOCKED, CLOCKLESS):
        journeys = write(schema, lengths, seed, tmp_path / "j")
        statistics = default_statistics(schema)
        if schema.time:
            statistics += (
                Statistic("place_clicks", ("place",), "click"),
                Statistic("hour_channel", ("hour", "channel")),
            )
        replay(journeys, steps, statistics)


def test_a_late_outcome_counts_from_its_time_on():
    schema = LogSchema(
        "late", user="u", time="t", time_unit="s", channel="c", channels=("a", "b"), gains=(Gain("buy", known="at:b"),)
    )
    memory = Memory(schema, users=2, steps=4)
    one = np.array([1])

    def bought(now: float) -> list[float]:
        return memory.histories(one, {"time": np.array([now])}).so_far["buy"][0, -1].tolist()

    memory.append(one, {"time": np.array([1.0]), "channel": np.array([1]), "buy": np.array([np.nan])})
    assert bought(2.0) == [0.0, 0.0]
    memory.outcomes(one, "buy", np.array([1.0]), at=np.array([3.0]), time=np.array([1.0]), channel=np.array([1]))
    assert bought(3.0) == [0.0, 0.0]  # known at 3, so not yet at 3
    assert bought(3.5) == [1.0, 1.0]


def test_a_user_twice_in_one_append_is_refused():
    memory = Memory(CLOCKLESS, users=2)
    with pytest.raises(Exception, match="twice"):
        memory.append(np.array([1, 1]), {})
