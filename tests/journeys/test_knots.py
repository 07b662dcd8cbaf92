"""Knots are quantiles of the labelled training steps alone; a number of two values has none; saving keeps them."""

import numpy as np
from journey_logs import CLOCKED, columns_of, random_log, write

from headrace.journeys.audit import audit
from headrace.journeys.knots import with_knots
from headrace.journeys.splits import Split
from headrace.journeys.transforms import Transforms
from headrace.journeys.views import View

LENGTHS = [6] * 12


def test_knots_are_quantiles_of_the_training_steps(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, LENGTHS)
    train = np.arange(len(journeys)) < 36
    transforms = Transforms.fit(journeys, np.flatnonzero(train), min_count=1)
    found = with_knots(transforms, journeys, train, 4, 2)
    assert len(found.knots) == transforms.width and len(found.context_knots) == transforms.context_width
    assert all(len(k) == 0 or 3 <= len(k) <= 5 for k in found.knots)
    assert all(list(k) == sorted(set(k)) for k in (*found.knots, *found.context_knots))
    batch = View(journeys, train).batch(np.arange(6))
    length = transforms.encode_context(batch).numbers[batch.label][:, 0]  # the first number of the context
    assert found.context_knots[0] == tuple(np.quantile(length, [0, 0.5, 1], method="nearest").tolist())
    assert found.context_knots[1] == ()  # the flag beside it


def test_knots_do_not_know_of_held_out_steps(tmp_path):
    columns = columns_of(CLOCKED, LENGTHS, 0)
    later = np.arange(sum(LENGTHS)) >= 36
    changed = columns | {n: np.where(later, columns[n] + 3, columns[n]) for n in ("gain/play", "feature/length")}
    train = ~later
    found = []
    for name, values in (("a", columns), ("b", changed)):
        journeys = write(tmp_path / name, CLOCKED, LENGTHS, values)
        transforms = Transforms.fit(journeys, np.flatnonzero(train), min_count=1)
        found.append(with_knots(transforms, journeys, train, 4, 4))
    assert found[0].knots == found[1].knots and found[0].context_knots == found[1].context_knots


def test_saved_transforms_keep_their_knots(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, LENGTHS)
    everything = np.ones(len(journeys), dtype=bool)
    found = with_knots(Transforms.fit(journeys, np.arange(len(journeys))), journeys, everything, 8, 8)
    found.save(tmp_path / "t.json")
    again = Transforms.load(tmp_path / "t.json")
    assert again.knots == found.knots and again.context_knots == found.context_knots


def test_without_bins_there_are_no_knots(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, LENGTHS)
    everything = np.ones(len(journeys), dtype=bool)
    found = with_knots(Transforms.fit(journeys, np.arange(len(journeys))), journeys, everything, 0, 0)
    assert found.knots == () and found.context_knots == ()


def test_the_audit_knows_knots_of_held_out_steps(tmp_path):
    journeys = random_log(tmp_path / "j", CLOCKED, LENGTHS)
    steps = np.arange(len(journeys))
    parts = {"train": steps < 36, "validation": (steps >= 36) & (steps < 54), "test": steps >= 54}
    split = Split("users", 0, None, parts, ("time",))
    transforms = Transforms.fit(journeys, split.rows("train"))
    ours = with_knots(transforms, journeys, parts["train"], 4, 4)
    leaky = with_knots(transforms, journeys, np.ones(len(journeys), dtype=bool), 4, 4)
    assert audit(journeys, split, ours)[-1].verdict == "clean"
    found = audit(journeys, split, leaky)[-1]
    assert found.verdict == "leak" and "knots" in found.columns
