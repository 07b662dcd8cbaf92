"""Floors: by hand where they can be, proper distributions of the same steps, blind to what they must not see."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_logs import random_columns, schema, split_of, write

from headrace.errors import UserError
from headrace.evaluate.floors import Floor, fit_floors, names_of, predict_floors
from headrace.evaluate.metrics import Predicted
from headrace.evaluate.results import Source, score
from headrace.evaluate.targets import Target, steps_of
from headrace.journeys.schema import LogSchema
from headrace.journeys.store import Journeys
from headrace.journeys.views import known_for_training

ACTION = Target("action")


def parts_of(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the first three fifths of the users, of the fourth, of the fifth."""
    ends = np.cumsum(lengths)
    a, b = ends[len(lengths) * 3 // 5 - 1], ends[len(lengths) * 4 // 5 - 1]
    return np.arange(a), np.arange(a, b), np.arange(b, ends[-1])


def random_log(path: Path, users: int = 60, seed: int = 0, **changes: Any) -> tuple[Journeys, Any]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, users)
    columns = random_columns(rng, lengths) | changes
    journeys = write(path, lengths, columns)
    return journeys, split_of(journeys, *parts_of(lengths))


def by_hand(path: Path, channel: list[int], lengths: list[int], **extra: Any) -> Journeys:
    """A log of channels and clicks alone, without a clock."""
    made = LogSchema(
        "hand",
        user="user",
        channel="channel",
        channels=("a", "b", "c")[: extra.pop("channels", 3)],
        gains=schema().gains[:1],
        propensity="p" if "propensity" in extra else None,
    )
    columns = {"channel": np.array(channel, dtype=np.int32), "gain/click": np.zeros(len(channel))} | extra
    return write(path, np.array(lengths), columns, made, {})


def floor(floors: dict[str, Floor | str], name: str) -> Floor:
    found = floors[name]
    assert isinstance(found, Floor), found
    return found


def test_markov_and_past_frequencies_by_hand(tmp_path: Path) -> None:
    # training: a a b, a a b; after a comes a or b equally, after b nothing was seen
    journeys = by_hand(tmp_path / "a", [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0], [3, 3, 3, 4])
    split = split_of(journeys, range(6), range(6, 9), range(9, 13))
    floors = fit_floors(journeys, split, [ACTION], ["prior", "markov", "past-frequencies", "repeat-last"])[ACTION]
    prior = (np.array([4, 2, 0]) + 1 / 3) / 7
    rows = np.arange(9, 13)
    np.testing.assert_allclose(floor(floors, "prior").predict(rows), np.repeat(prior[None], 4, axis=0))

    markov = floor(floors, "markov").predicted(rows)  # before them: nothing, a, b, b
    np.testing.assert_allclose(markov.values[[0, 2, 3]], np.repeat(prior[None], 3, axis=0))
    assert markov.choice is not None and markov.choice.tolist() == [0, 0, 0, 0]
    share = (markov.values[1] - prior) / (np.array([0.5, 0.5, 0]) - prior)  # a blend of the two
    np.testing.assert_allclose(share, share[0])

    past = floor(floors, "past-frequencies").predicted(rows)  # counts before: none, a, ab, abb
    assert past.choice is not None and past.choice.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(past.values[0], prior)

    last = floor(floors, "repeat-last").predicted(rows)
    assert last.choice is not None and last.choice.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(last.values.sum(1), 1)


def test_repeat_last_is_trusted_where_validation_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    loyal = np.repeat(rng.integers(0, 3, 30), 6)
    journeys = by_hand(tmp_path / "a", loyal.tolist(), [6] * 30)
    split = split_of(journeys, range(90), range(90, 120), range(120, 180))
    floors = fit_floors(journeys, split, [ACTION], ["repeat-last", "majority"])[ACTION]
    found = floor(floors, "repeat-last").predict(np.arange(120, 180)).reshape(10, 6, 3)
    assert found[:, 1:].max(axis=2).min() > 0.99
    np.testing.assert_allclose(found[:, 0], floor(floors, "majority").predict(np.arange(120, 130)), atol=0.05)


def test_what_blends_a_floor_with_the_prior_is_best_on_validation(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    channel = [
        int(c) for c in np.where(rng.random(240) < 0.7, np.repeat(rng.integers(0, 3, 40), 6), rng.choice(3, 240))
    ]
    journeys = by_hand(tmp_path / "a", channel, [6] * 40)
    validation = np.arange(120, 180)
    split = split_of(journeys, range(120), validation, range(180, 240))
    floors = fit_floors(journeys, split, [ACTION], ["prior", "repeat-last", "past-frequencies"])[ACTION]
    prior = floor(floors, "prior").predict(validation)
    labels = np.array(channel)[validation]

    def loss(p: np.ndarray) -> float:
        return float(-np.log(p[np.arange(60), labels]).mean())

    last = np.eye(3)[np.array(channel)[validation - 1]]
    first = validation % 6 == 0
    last[first] = prior[first]
    best = min(loss(w * last + (1 - w) * prior) for w in np.linspace(0, 0.99, 100))
    assert loss(floor(floors, "repeat-last").predict(validation)) == pytest.approx(best)
    counts = np.array([np.bincount(channel[r - r % 6 : r], minlength=3) for r in validation])
    best = min(loss((counts + a * prior) / (counts.sum(1, keepdims=True) + a)) for a in np.logspace(-3, 4, 400))
    assert loss(floor(floors, "past-frequencies").predict(validation)) == pytest.approx(best, abs=1e-3)


def test_look_up_finds_a_step_that_stands_in_train_and_no_other(tmp_path: Path) -> None:
    journeys, _ = random_log(tmp_path / "a", users=40)
    late = np.flatnonzero(np.arange(journeys.n_steps) - journeys.offsets[journeys.user_of_step] >= 4)
    leaky = split_of(journeys, late[::2], late[::4], late)
    floors = fit_floors(journeys, leaky, [ACTION], ["look-up", "prior"])[ACTION]
    predicted = floor(floors, "look-up").predicted(late)
    labels = np.asarray(journeys.channel[late])
    assert predicted.choice is not None
    assert (predicted.choice[::2] == labels[::2]).mean() > 0.95  # ties: steps of one past
    assert predicted.values[np.arange(len(late)), labels][::2].mean() > 0.9
    unseen = np.isclose(predicted.values, floor(floors, "prior").predict(late)).all(axis=1)
    assert unseen[1::2].mean() > 0.9


def test_logged_policy_is_given_only_where_it_follows_from_the_log(tmp_path: Path) -> None:
    channel = [0, 1, 1, 0, 1, 0, 1, 0]
    share = np.where(np.array(channel) == 0, 0.3, 0.7)
    parts = (range(4), range(4, 6), range(6, 8))
    constant = by_hand(tmp_path / "a", channel, [2] * 4, propensity=share, channels=2)
    found = fit_floors(constant, split_of(constant, *parts), [ACTION], ["logged"])[ACTION]
    np.testing.assert_allclose(floor(found, "logged").predict(np.arange(6, 8)), [[0.3, 0.7]] * 2)

    three = by_hand(tmp_path / "b", [0, 1, 2, 0, 1, 2, 0, 1], [2] * 4, propensity=np.linspace(0.1, 0.8, 8))
    reason = fit_floors(three, split_of(three, *parts), [ACTION], ["logged"])[ACTION]["logged"]
    assert isinstance(reason, str) and "do not follow" in reason
    none = by_hand(tmp_path / "c", channel, [2] * 4)
    assert fit_floors(none, split_of(none, *parts), [ACTION], ["logged"])[ACTION]["logged"] == (
        "the log holds no propensities"
    )


def test_a_propensity_that_is_missing_is_told_and_never_predicted(tmp_path: Path) -> None:
    parts = (range(4), range(4, 6), range(6, 8))
    for missing, place in (("train", 1), ("test", 7)):
        share = np.full(8, 0.5)
        share[place] = np.nan
        log = by_hand(tmp_path / missing, [0, 1] * 4, [2] * 4, propensity=share, channels=2)
        reason = fit_floors(log, split_of(log, *parts), [ACTION], ["logged"])[ACTION]["logged"]
        assert reason == "the log holds no propensity at 1 of its 8 steps", missing
    whole = by_hand(tmp_path / "whole", [0, 1] * 4, [2] * 4, propensity=np.full(8, 0.5), channels=2)
    found = fit_floors(whole, split_of(whole, *parts), [ACTION], ["logged"])[ACTION]
    assert np.isfinite(floor(found, "logged").predict(np.arange(8), log)).all()


def test_every_floor_runs_on_a_log_of_one_channel(tmp_path: Path) -> None:
    log = by_hand(tmp_path / "a", [0] * 10, [2] * 5, propensity=np.ones(10), channels=1)
    split = split_of(log, range(6), range(6, 8), range(8, 10))
    steps = steps_of(log, split.rows("test"), ACTION)
    floors = fit_floors(log, split, [ACTION])[ACTION]
    assert tuple(floors) == names_of(ACTION, log)
    for name in floors:
        np.testing.assert_array_equal(floor(floors, name).predict(steps.rows), [[1], [1]], err_msg=name)
    score(Source("s", "users"), "action", steps, predict_floors(floors, steps.rows), resamples=5)


def test_outcomes_that_came_after_training_are_not_trained_on(tmp_path: Path) -> None:
    lengths = np.full(4, 3)
    columns = random_columns(np.random.default_rng(0), lengths)
    columns["time"] = np.array([0.0, 1, 2] * 2 + [5.0, 6, 7] * 2)
    columns["gain/order"] = np.array([1.0, 0, 0, 1, 1, 0] + [0.0, 1] * 3)
    columns["known_at/order"] = np.array([4.9, 1, 2, 5, np.nan, 9] + [8.0] * 6)
    log = write(tmp_path / "a", lengths, columns)
    by_users = split_of(log, range(6), range(6, 9), range(9, 12))
    honest, order = replace(by_users, protocol="honest"), Target("order")
    known = known_for_training(log, honest, "order")
    assert known[:6].tolist() == [True, True, True, False, False, False]
    assert known_for_training(log, by_users, "order").all()
    assert known_for_training(log, replace(honest, declared=("time",)), "order").all()
    assert known_for_training(log, honest, "click").all() and known_for_training(log, honest, "sale").all()
    mean = {s.protocol: fit_floors(log, s, [order], ["prior"])[order] for s in (honest, by_users)}
    assert floor(mean["honest"], "prior").predict(np.array([9]))[0] == pytest.approx(1 / 3)
    assert floor(mean["users"], "prior").predict(np.array([9]))[0] == pytest.approx(3 / 6)


def test_every_floor_scores_the_same_steps_with_proper_predictions(tmp_path: Path) -> None:
    journeys, split = random_log(tmp_path / "a")
    targets = [ACTION, Target("click"), Target("click", "channel"), Target("click", "context")]
    targets += [Target("play"), Target("rating"), Target("order"), Target("sale", "context")]
    told: list[str] = []
    floors = fit_floors(journeys, split, targets, progress=told.append)
    assert len(told) == sum(len(names_of(t, journeys)) for t in targets)
    for target in targets:
        steps = steps_of(journeys, split.rows("test"), target)
        predicted = predict_floors(floors[target], steps.rows)
        assert tuple(predicted) == names_of(target, journeys)
        records = score(Source("small", "users"), target.prefix, steps, predicted, ["trees"], resamples=20).records
        assert {r["n"] for r in records} == {len(steps)}
        for p in predicted.values():
            if isinstance(p, Predicted):
                p.check(steps, "floor")
    assert len(steps_of(journeys, split.rows("test"), Target("play"))) < len(split.rows("test"))  # unknown outcomes


def test_a_gain_that_is_a_label_only_has_no_past_rate(tmp_path: Path) -> None:
    journeys, split = random_log(tmp_path / "a")
    found = fit_floors(journeys, split, [Target("sale")], ["past-rate", "prior"])[Target("sale")]
    assert isinstance(found["past-rate"], str) and "label only" in found["past-rate"]
    assert isinstance(found["prior"], Floor)


def test_test_users_do_not_move_any_floor(tmp_path: Path) -> None:
    journeys, split = random_log(tmp_path / "a")
    test = split.rows("test")
    changed = {}
    for name in ("channel", "gain/click", "gain/rating", "feature/hour", "feature/length"):
        values = np.array(journeys.column(name))
        values[test] = values[test][::-1]
        changed[name] = values
    other, _ = random_log(tmp_path / "b", **changed)
    targets = [ACTION, Target("click", "context")]
    rows = np.r_[split.rows("train"), split.rows("validation")]
    ours, theirs = (fit_floors(j, split, targets) for j in (journeys, other))
    for target in targets:
        for name in ours[target]:
            if not isinstance(ours[target][name], str):
                a, b = (floor(f[target], name).predict(rows) for f in (ours, theirs))
                np.testing.assert_array_equal(a, b, err_msg=f"{target} {name}")


def test_a_floor_predicts_another_log_of_the_same_schema(tmp_path: Path) -> None:
    journeys, split = random_log(tmp_path / "a")
    same, _ = random_log(tmp_path / "b")
    floors = fit_floors(journeys, split, [ACTION])[ACTION]
    rows = split.rows("test")
    for name, found in floors.items():
        if isinstance(found, Floor):
            np.testing.assert_array_equal(found.predict(rows), found.predict(rows, same), err_msg=name)


def test_equal_seeds_give_equal_floors(tmp_path: Path) -> None:
    journeys, split = random_log(tmp_path / "a")
    rows = split.rows("test")
    a, b = (fit_floors(journeys, split, [ACTION], ["logistic", "trees"], seed=3)[ACTION] for _ in range(2))
    for name in a:
        np.testing.assert_array_equal(floor(a, name).predict(rows), floor(b, name).predict(rows))


def test_trees_find_what_the_last_step_says_and_context_adds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = np.full(300, 8)
    columns = random_columns(rng, lengths)
    n = int(lengths.sum())
    columns["time"] = np.tile(np.arange(8.0), 300)
    columns["known_at/order"] = columns["time"]
    length = columns["feature/length"]
    columns["gain/click"] = (rng.random(n) < np.where(length > 4, 0.9, 0.1)).astype(float)
    journeys = write(tmp_path / "a", lengths, columns)
    split = split_of(journeys, *parts_of(lengths))
    loss = {}
    for target in (Target("click"), Target("click", "context")):
        floors = fit_floors(journeys, split, [target], ["prior", "logistic", "trees"])[target]
        steps = steps_of(journeys, split.rows("test"), target)
        for r in score(Source("s", "users"), "x", steps, predict_floors(floors, steps.rows), resamples=5).records:
            if r["metric"] == "x/log_loss":
                loss[target.given, r["method"]] = r["value"]
    assert loss["before", "trees"] > 0.67
    assert loss["context", "trees"] < 0.4
    assert loss["context", "logistic"] < 0.55
    assert loss["before", "prior"] == pytest.approx(loss["context", "prior"])


def test_one_class_in_train_is_predicted_without_a_model(tmp_path: Path) -> None:
    journeys = by_hand(tmp_path / "a", [1] * 6 + [0, 2, 1, 1], [2] * 5)
    split = split_of(journeys, range(6), range(6, 8), range(8, 10))
    floors = fit_floors(journeys, split, [ACTION], ["logistic", "trees"])[ACTION]
    for name in floors:
        np.testing.assert_array_equal(floor(floors, name).predict(np.array([8, 9])), [[0, 1, 0]] * 2)


def test_a_log_without_users_has_floors_without_a_past(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = LogSchema("rows", channel="channel", channels=("a", "b", "c"), features=schema().features[:1])
    columns = {"channel": rng.integers(0, 3, 90).astype(np.int32), "feature/hour": rng.random(90)}
    journeys = write(tmp_path / "a", np.ones(90, dtype=int), columns, made, {})
    split = split_of(journeys, range(60), range(60, 75), range(75, 90))
    steps = steps_of(journeys, split.rows("test"), ACTION)
    assert steps.users is None
    floors = fit_floors(journeys, split, [ACTION])[ACTION]
    prior = floor(floors, "prior").predict(steps.rows)
    for name in ("past-frequencies", "markov", "repeat-last"):
        np.testing.assert_allclose(floor(floors, name).predict(steps.rows), prior)
    assert np.isfinite(floor(floors, "trees").predict(steps.rows)).all()


def test_names_and_parts_that_are_none_are_told_in_one_line(tmp_path: Path) -> None:
    journeys, split = random_log(tmp_path / "a")
    with pytest.raises(UserError, match="did you mean 'markov'"):
        fit_floors(journeys, split, [ACTION], ["markof"])
    with pytest.raises(UserError, match="no validation step with a known action"):
        fit_floors(journeys, split_of(journeys, range(9), [], range(9, 12)), [ACTION])
    both = fit_floors(journeys, split, [ACTION, Target("click")], ["past-rate", "markov", "prior"])
    assert list(both[ACTION]) == ["markov", "prior"]
    assert list(both[Target("click")]) == ["past-rate", "prior"]


def test_large_training_parts_are_thinned_by_whole_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.evaluate import floors as module

    journeys, split = random_log(tmp_path / "a")
    train = split.rows("train")
    kept = module._some_users(journeys, train, 60, seed=0)
    assert 0 < len(kept) <= 60
    users = np.unique(journeys.user_of_step[kept])
    np.testing.assert_array_equal(kept, train[np.isin(journeys.user_of_step[train], users)])
    monkeypatch.setattr(module, "PREDICT_STEPS", 7)
    found = floor(fit_floors(journeys, split, [ACTION], ["look-up"])[ACTION], "look-up")
    in_pieces = found.predict(split.rows("test"))
    monkeypatch.undo()
    np.testing.assert_array_equal(in_pieces, found.predict(split.rows("test")))
