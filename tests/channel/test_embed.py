"""User embeddings hold what is known of a user at its next step: its whole own past, nothing of others."""

from pathlib import Path

import numpy as np
import pytest
import torch
from channel_logs import by_users, columns_of, small_log

import headrace
from headrace.channel.mtorl import MTORL, PRESETS, MTORLConfig, tensors
from headrace.errors import UserError
from headrace.journeys.store import Journeys
from headrace.journeys.views import histories
from headrace.learn.run import Run

TINY = MTORLConfig(**PRESETS["tiny"])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[MTORL, Journeys, Path]:
    folder = tmp_path_factory.mktemp("fitted")
    journeys = small_log(folder / "j")
    return MTORL(TINY).fit(journeys, by_users(journeys), folder / "run", progress=False), journeys, folder / "run"


def test_one_row_a_user_of_the_encoders_width(fitted):
    method, journeys, _ = fitted
    table = headrace.embed(method, journeys)
    assert table.columns == ["user", *(f"embedding_{d}" for d in range(TINY.width))]
    assert table["user"].to_list() == journeys.users.tolist()
    values = table.drop("user").to_numpy()
    assert np.isfinite(values).all() and (values.std(axis=0) > 0).all()


def test_it_is_what_the_action_decoder_reads_at_that_step(fitted, tmp_path):
    """The embedding after t steps is the encoder's output at the log's own step t + 1, but for the gap."""
    method, journeys, _ = fitted
    steps, t = 8, 5
    values = columns_of(journeys)
    early = np.arange(journeys.n_steps) % steps < t
    kept = {k: v if len(v) == journeys.n_users else v[early] for k, v in values.items()}
    kept["feature/hour"] = kept["feature/hour"].reshape(-1, t)
    kept["feature/hour"][:, -1] = values["feature/hour"].reshape(-1, steps)[
        :, t
    ]  # the next step's context is the last's
    shorter = small_log(tmp_path / "j", steps=t, change=kept | {"feature/hour": kept["feature/hour"].ravel()})
    values["feature/hour"].reshape(-1, steps)[:, t - 1] = kept["feature/hour"][:, -1]
    values["time"].reshape(-1, steps)[:, t:] -= 1 - 1e-9  # just after the log's last step
    longer = small_log(tmp_path / "l", change=values)
    history = histories(longer, np.arange(journeys.n_users) * steps + t, steps)
    method.network.eval()
    with torch.no_grad():
        inputs = tensors(method.transforms.encode(history), torch.device("cpu"))
        expected = method.network.represent(*inputs)[:, t].numpy()
        x = method.network.inputs(*inputs[:2])
        plain = x[..., : method.network.inputs.plain]  # the action decoder reads no bins
        logits = method.network.action(torch.cat([method.network.represent(*inputs), plain], dim=-1))
        torch.testing.assert_close(logits, method.network(*inputs)[0])
    np.testing.assert_allclose(method.embeddings(shorter), expected, atol=1e-4)


def test_other_users_change_nothing_and_an_own_step_does(fitted, tmp_path):
    method, journeys, _ = fitted
    before = method.embeddings(journeys)
    one = 7
    values = columns_of(journeys)
    others = journeys.user_of_step != one
    for name, flipped in (("channel", (values["channel"] + 1) % 3), ("gain/click", 1 - values["gain/click"])):
        values[name] = np.where(others, flipped, values[name]).astype(values[name].dtype)
    for name in ("gain/play", "cost", "feature/hour", "feature/size"):
        values[name] = np.where(others, values[name] + 1, values[name])
    after = method.embeddings(small_log(tmp_path / "others", change=values))
    assert after[one].tobytes() == before[one].tobytes()
    assert (np.abs(after - before).max(axis=1)[np.arange(40) != one] > 0).all()

    values = columns_of(journeys)
    last = np.flatnonzero(journeys.user_of_step == one)[-1]
    values["gain/click"][last] = 1 - values["gain/click"][last]
    after = method.embeddings(small_log(tmp_path / "own", change=values))
    changed = np.flatnonzero(np.abs(after - before).max(axis=1) > 0)
    assert changed.tolist() == [one]


def test_a_label_that_is_never_known_changes_nothing(fitted, tmp_path):
    method, journeys, _ = fitted
    flipped = columns_of(journeys) | {"gain/label": 1 - np.array(journeys.gain("label"))}
    again = method.embeddings(small_log(tmp_path / "j", change=flipped))
    assert again.tobytes() == method.embeddings(journeys).tobytes()


def test_a_reloaded_run_gives_the_same_bits(fitted):
    method, journeys, run = fitted
    again = MTORL.load(Run.open(run))
    assert again.embeddings(journeys).tobytes() == method.embeddings(journeys).tobytes()


def test_a_method_without_an_encoder_is_refused(fitted):
    class Plain:
        name = "plain"

    with pytest.raises(UserError, match="plain has no encoder"):
        headrace.embed(Plain(), fitted[1])
