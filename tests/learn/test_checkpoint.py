import pytest
import torch
from tiny_learner import TinyLearner, fit

from headrace.errors import UserError
from headrace.learn import checkpoint
from headrace.learn.checkpoint import read_weights
from headrace.learn.loop import LoopConfig, fit_stage
from headrace.learn.optimise import OptimiserConfig
from headrace.learn.run import Run

PLACE = {"steps": 3}


def state(value=1.0):
    shared = torch.arange(6, dtype=torch.float64)
    tensors = {
        "whole": shared,
        "view": shared[2:4],
        "turned": shared.view(2, 3).T,
        "tied": shared,
        "none": torch.zeros(0, 4),
        "none_too": torch.zeros(0),
        "scalar": torch.tensor(value),
        "codes": torch.tensor([1, 2], dtype=torch.int64),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
    }
    return tensors, {"third": 1 / 3, "big": 2**63, "list": [1, None, "ü"]}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    checkpoint.save(tmp_path, "last", state(), PLACE)
    (tensors, values), place = checkpoint.load(tmp_path, "last")
    expected, expected_values = state()
    assert (values, place) == (expected_values, PLACE)
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_the_last_and_the_best_stand_side_by_side_and_nothing_older(tmp_path):
    checkpoint.save(tmp_path, "best", state(0.0), PLACE)
    for value in (1.0, 2.0, 3.0):
        (tmp_path / ".last.safetensors.new").write_text("left by a kill")
        checkpoint.save(tmp_path, "last", state(value), PLACE)
    names = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert names == ["best", "best.json", "last", "last.json"]
    assert checkpoint.load(tmp_path, "last")[0][0]["scalar"] == 3.0
    assert checkpoint.load(tmp_path, "best")[0][0]["scalar"] == 0.0


@pytest.mark.parametrize("kind", ["safetensors", "json"])
def test_a_flipped_bit_anywhere_is_found_and_the_file_named(tmp_path, kind):
    checkpoint.save(tmp_path, "last", state(), PLACE)
    (path,) = tmp_path.glob(f"*.{kind}")
    good = path.read_bytes()
    (expected, expected_values), _ = checkpoint.load(tmp_path, "last")
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        try:
            (tensors, values), place = checkpoint.load(tmp_path, "last")
        except UserError as error:
            assert str(error).startswith(f"{path}: damaged checkpoint") or "missing" in str(error)
            assert "\n" not in str(error)
        else:  # white space between JSON's words
            assert kind == "json"
            assert (values, place) == (expected_values, PLACE)
            assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("kind", ["safetensors", "json"])
@pytest.mark.parametrize("left", [0, 0.5, 0.99])
def test_a_truncated_file_is_found_and_named(tmp_path, kind, left):
    checkpoint.save(tmp_path, "last", state(), PLACE)
    (path,) = tmp_path.glob(f"*.{kind}")
    data = path.read_bytes()
    path.write_bytes(data[: int(left * len(data))])
    with pytest.raises(UserError, match=f"{path.name}: damaged checkpoint"):
        checkpoint.load(tmp_path, "last")


def test_a_missing_half_is_named(tmp_path):
    checkpoint.save(tmp_path, "last", state(), PLACE)
    (path,) = tmp_path.glob("*.safetensors")
    path.unlink()
    with pytest.raises(UserError, match=f"{path.name}: the tensors of this checkpoint are missing"):
        checkpoint.load(tmp_path, "last")
    with pytest.raises(UserError, match=r"best\.json: no such checkpoint"):
        checkpoint.load(tmp_path, "best")


def test_values_that_json_cannot_hold_are_refused_and_the_older_checkpoint_stays(tmp_path):
    checkpoint.save(tmp_path, "last", state(), PLACE)
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoint.save(tmp_path, "last", ({}, {"best": float("inf")}), PLACE)
    assert checkpoint.load(tmp_path, "last")[0][1] == state()[1]


def test_resume_from_a_damaged_checkpoint_stops(tmp_path):
    fit(tmp_path / "run")
    (path,) = (tmp_path / "run/checkpoints/warm").glob("last-*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{path}: damaged checkpoint"):
        fit(tmp_path / "run", resume=True)


def test_metrics_shorter_than_their_checkpoint_are_refused(tmp_path):
    fit(tmp_path / "run")
    (tmp_path / "run/metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=r"metrics\.jsonl: 0 bytes, expected the \d+ that the checkpoints know of"):
        fit(tmp_path / "run", resume=True)


def test_weights_are_read_from_finished_stages_only(tmp_path):
    learner = TinyLearner(OptimiserConfig(), poison=7)
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(UserError):
        fit_stage(learner, run, "fit", LoopConfig(epochs=3, patience=None))
    with pytest.raises(UserError, match=r"stage 'fit' is not finished \(epoch 1\); go on with --resume"):
        read_weights(run, "fit")
    with pytest.raises(UserError, match="no stage 'fitt' was fitted here; stages: fit"):
        read_weights(run, "fitt")
