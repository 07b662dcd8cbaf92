"""DIN's own promises: the local activation unit as printed, the encoder inside it, and no encoder of another split."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from channel_logs import by_users, small_log

from headrace.channel.columns import groups
from headrace.channel.din import DIN, PRESETS, DINConfig
from headrace.channel.mtorl import MTORL, MTORLConfig
from headrace.channel.mtorl import PRESETS as MTORL_PRESETS
from headrace.channel.recommend import recommend
from headrace.errors import UserError
from headrace.journeys.statistics import running
from headrace.journeys.store import Journeys
from headrace.journeys.transforms import Transforms
from headrace.journeys.upcoming import upcoming
from headrace.journeys.views import histories
from headrace.learn.run import Run

TINY = DINConfig(**PRESETS["tiny"], calibrate=False)


@pytest.fixture(scope="module")
def journeys(tmp_path_factory) -> Journeys:
    return small_log(tmp_path_factory.mktemp("log") / "j")


@pytest.fixture(scope="module")
def encoder(journeys, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("encoder") / "run"
    MTORL(MTORLConfig(**MTORL_PRESETS["tiny"])).fit(journeys, by_users(journeys), run, progress=False)
    return run


@pytest.fixture(scope="module")
def fitted(journeys, tmp_path_factory) -> DIN:
    return DIN(TINY).fit(journeys, by_users(journeys), tmp_path_factory.mktemp("din") / "run", progress=False)


def test_the_user_vector_is_equation_3(fitted, journeys):
    """A sum of past embeddings, each weighted by a small net of (e, v, e * v), not normalised: step by step by hand."""
    network = fitted.network.eval()
    encoded = fitted.encode(histories(journeys, np.array([4, 15]), 8))
    with torch.no_grad():
        read = network(*encoded)
        v = network.channel(network.candidates())[None, None] + read.before  # (B, T, C, D)
        weights = network.activate(read.past, v)
        for b, t, c, j in ((0, 4, 1, 2), (1, 7, 3, 7), (1, 3, 0, 1)):
            e, candidate = read.past[b, j], v[b, t, c]
            hidden = network.unit_past(e) + network.unit_candidate(candidate) + network.unit_product(e * candidate)
            expected = network.unit_weight(network.unit_bend(hidden))[0]
            torch.testing.assert_close(weights[b, t, c, j], expected)
        seen = {}
        network.read_candidate.register_forward_pre_hook(lambda _, given: seen.update(given=given[0]))
        network.score(read, network.candidates())
        user = seen["given"][..., : TINY.width]
        by_hand = sum(
            weights[1, 5, 2, j] * read.past[1, j] for j in range(1, 6)
        )  # the first step has no step before it
        torch.testing.assert_close(user[1, 5, 2], by_hand)
        assert not read.reach[:, :, 0].any() and not read.reach[0, :, 5:].any()
    network.read_candidate._forward_pre_hooks.clear()


def test_columns_are_those_that_change_with_what_they_tell(journeys):
    transforms = Transforms.fit(journeys, np.arange(journeys.n_steps))
    history = histories(journeys, np.array([6]), 8)
    whole = transforms.encode(history)
    g = groups(transforms)
    before, context = {"hour"}, {"topic", "size"}
    told = [(n, history.before, g.before) for n in before] + [(n, history.previous, g.context) for n in context]
    told += [(n, history.previous, g.outcome) for n in ("click", "play", "grade", "cost")]
    told += [("gap", history.so_far, g.before), ("channel", history.previous, None)]
    met: dict[str, set[int]] = {"ids": set(), "numbers": set()}
    for name, values, columns in told:
        kept = values[name].copy()
        values[name][:] = -1 if kept.dtype.kind == "i" else np.nan if name != "gap" else 9.0
        other = transforms.encode(history)
        values[name][:] = kept
        ids = set(np.flatnonzero((other.ids != whole.ids).any(axis=(0, 1))).tolist())
        numbers = set(np.flatnonzero((other.numbers != whole.numbers).any(axis=(0, 1))).tolist())
        assert ids or numbers, name
        met["ids"] |= ids
        met["numbers"] |= numbers
        if columns is None:
            assert ids == {g.channel} and not numbers
        else:
            assert ids <= set(columns.ids) and numbers <= set(columns.numbers), name
    every = (g.before, g.context, g.outcome)
    assert met["ids"] == {g.channel, *(i for c in every for i in c.ids)}
    assert met["numbers"] == {n for c in every for n in c.numbers}


def weights_of(run: Path, start: str) -> dict[str, torch.Tensor]:
    return {k: v for k, v in Run.open(run).read_weights("model.safetensors").items() if k.startswith(start)}


@pytest.mark.parametrize("co_train", [False, True])
def test_a_frozen_encoder_keeps_its_weights_and_a_co_trained_one_learns(journeys, encoder, tmp_path, co_train):
    config = dataclasses.replace(TINY, encoder=str(encoder), co_train=co_train)
    DIN(config).fit(journeys, by_users(journeys), tmp_path / "run", progress=False)
    before, after = weights_of(encoder, ""), weights_of(tmp_path / "run", "encoder.")
    assert {f"encoder.{name}" for name in before} == set(after)
    learnt = {name for name, weight in before.items() if not torch.equal(weight, after[f"encoder.{name}"])}
    parts = {name.split(".")[0] for name in learnt}
    assert parts == ({"inputs", "embed", "tcn", "to_state", "attention", "layers", "norms"} if co_train else set())


def test_the_encoder_is_read_and_its_run_is_needed_no_more(journeys, encoder, tmp_path):
    here = tmp_path / "encoder"
    encoder_copy = {p.relative_to(encoder): p.read_bytes() for p in encoder.rglob("*") if p.is_file()}
    for name, held in encoder_copy.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(held)
    config = dataclasses.replace(TINY, encoder=str(here))
    method = DIN(config).fit(journeys, by_users(journeys), tmp_path / "run", progress=False)
    here.rename(tmp_path / "gone")
    again = DIN.load(Run.open(tmp_path / "run"))
    everywhere = np.ones(journeys.n_steps, dtype=bool)
    one, two = (m.predict(journeys, everywhere).reward_by_channel["click"] for m in (method, again))
    assert one.tobytes() == two.tobytes()
    with torch.no_grad():
        again.network.encoder.norms[-1].weight.add_(1.0)
    assert again.predict(journeys, everywhere).reward_by_channel["click"].tobytes() != one.tobytes()


def test_the_control_has_the_same_net_untrained(journeys, encoder, tmp_path):
    split = by_users(journeys)
    config = dataclasses.replace(TINY, encoder=str(encoder), encoder_weights="random")
    DIN(config).fit(journeys, split, tmp_path / "control", progress=False)
    before, after = weights_of(encoder, ""), weights_of(tmp_path / "control", "encoder.")
    assert {k: v.shape for k, v in before.items()} == {k.removeprefix("encoder."): v.shape for k, v in after.items()}
    assert not torch.equal(before["to_state.weight"], after["encoder.to_state.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fingerprint": "another"}, "another split.*leak"),
        ({"length": 300}, None),
        ({"running": False}, "running statistics"),
        ({"encoder": "nowhere"}, "nowhere: not a run"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(journeys, encoder, tmp_path, change, says):
    split = by_users(journeys)
    if "fingerprint" in change:
        split = dataclasses.replace(split, **change)
        change = {}
    method = DIN(dataclasses.replace(TINY, **({"encoder": str(encoder)} | change)))
    if says is None:
        with pytest.raises(UserError, match="trained on None steps"):
            method.fit(journeys, split, tmp_path / "run", progress=False)
        return
    with pytest.raises(UserError, match=says):
        method.fit(journeys, split, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_an_encoder_is_a_run_of_mtorl(fitted, journeys, tmp_path):
    DIN(TINY).fit(journeys, by_users(journeys), tmp_path / "din", progress=False)
    with pytest.raises(UserError, match="a run of din, expected one of mtorl"):
        DIN(dataclasses.replace(TINY, encoder=str(tmp_path / "din"))).check(journeys, by_users(journeys))


def test_it_finds_the_channel_that_pays(tmp_path):
    journeys = small_log(tmp_path / "j", users=1000)
    split = by_users(journeys)
    method = DIN(DINConfig(epochs=8)).fit(journeys, split, tmp_path / "run", progress=False)
    found = method.predict(journeys, split.parts["test"])
    half = np.asarray(journeys.feature("half"))[journeys.user_of_step[found.rows]]
    click = found.reward_by_channel["click"]
    assert click[half == 1, 1].mean() > 0.65  # truth .8
    assert click[half == 0, 1].mean() < 0.35  # truth .2
    assert click[half == 1][:, [0, 2]].mean() < 0.35
    statistics = method.transforms.statistics
    users, history = next(upcoming(journeys, 50, statistics, running(journeys, statistics), size=1000))
    chosen = method.value_policy().act(history, np.random.default_rng(0)).action
    table = recommend(method, journeys).sort("user").head(len(users))
    assert [journeys.channels[c] for c in chosen] == table["channel"].to_list()


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"hidden": 1}, {"dropout": 1.0}, {"length": 1}, {"encoder_rate": 0.0}, {"co_train": True}]
)
def test_a_config_out_of_range_is_refused(wrong):
    with pytest.raises(UserError, match="din config"):
        DINConfig(**wrong)
