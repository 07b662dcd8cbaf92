import io
import json
import signal
import sys
import threading

import numpy as np
import pytest
import torch
from tiny_learner import BATCH, EPOCHS, STEPS, TinyLearner, contents, fit

from headrace.errors import UserError
from headrace.learn.checkpoint import read_weights
from headrace.learn.interrupt import Interrupted
from headrace.learn.loop import LoopConfig, StageResult, fit_stage, seeded
from headrace.learn.optimise import OptimiserConfig
from headrace.learn.run import Run


def one_stage(out, config, resume=False, **learner):
    run = Run.create(out, {}, resume=resume)
    tiny = TinyLearner(OptimiserConfig(0.05), **learner)
    return tiny, run, fit_stage(tiny, run, "fit", config)


def lines(run, part):
    return [line for line in run.read_metrics() if line["part"] == part]


def test_two_runs_of_the_same_seed_differ_in_the_manifest_alone(tmp_path):
    fit(tmp_path / "a", seed=3)
    torch.manual_seed(99)
    np.random.default_rng().random()
    fit(tmp_path / "b" / "deeper", seed=3)
    assert contents(tmp_path / "a") == contents(tmp_path / "b" / "deeper")
    assert {"config.json", "metrics.jsonl", "results.json"} < contents(tmp_path / "a").keys()


def test_another_seed_gives_other_weights(tmp_path):
    one, other = fit(tmp_path / "a", seed=3), fit(tmp_path / "b", seed=4)
    assert not torch.equal(one.net[0].weight, other.net[0].weight)


def test_checkpoints_more_or_less_often_change_no_weight(tmp_path):
    one, other = fit(tmp_path / "a", every=1), fit(tmp_path / "b", every=1000)
    assert all(map(torch.equal, one.net.state_dict().values(), other.net.state_dict().values()))


def test_batch_order_is_a_function_of_seed_and_epoch(tmp_path):
    config = LoopConfig(epochs=3, patience=None, seed=5)
    first, _, _ = one_stage(tmp_path / "a", config)
    again, _, _ = one_stage(tmp_path / "b", config)
    other, _, _ = one_stage(tmp_path / "c", LoopConfig(epochs=3, patience=None, seed=6))
    assert first.orders == again.orders
    assert len({tuple(order) for order in first.orders + other.orders}) == 6
    assert sorted(first.orders[0]) == list(range(BATCH * STEPS))


def test_dropout_of_a_step_does_not_hang_on_what_was_drawn_before(tmp_path):
    class Drawing(TinyLearner):
        def validate(self):
            torch.rand(self.extra)
            return super().validate()

        def batches(self, seed):
            torch.rand(self.extra)
            yield from super().batches(seed)

    weights = []
    for extra in (1, 17):
        learner = Drawing(OptimiserConfig(0.05))
        learner.extra = extra
        fit_stage(learner, Run.create(tmp_path / str(extra), {}), "fit", LoopConfig(epochs=2, patience=None))
        weights.append(learner.net[0].weight)
    assert torch.equal(*weights)


def test_no_seed_leaks_out_of_a_step():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(7):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(7):
        assert torch.equal(torch.rand(3), inside)


def test_early_stopping_keeps_the_best_state(tmp_path):
    told = [5.0, 3.0, 4.0, 3.5, 1.0]
    tiny, run, result = one_stage(tmp_path / "run", LoopConfig(epochs=5, patience=2), validation=told)
    assert result == StageResult(best_value=3.0, best_epoch=2, epochs=4, steps=4 * STEPS)
    best, _, _ = one_stage(tmp_path / "two", LoopConfig(epochs=2, patience=None), validation=told)
    assert torch.equal(tiny.net[0].weight, best.net[0].weight)
    assert torch.equal(read_weights(run, "fit")["net/0.weight"], best.net[0].weight)
    assert [line["value"] for line in lines(run, "validation")] == told[:4]


def test_early_stopping_off_ignores_the_validation_values(tmp_path):
    config = LoopConfig(epochs=4, patience=None)
    falling, run, result = one_stage(tmp_path / "a", config, validation=[4.0, 3.0, 2.0, 1.0])
    rising, _, _ = one_stage(tmp_path / "b", config, validation=[1.0, float("nan"), 3.0, float("inf")])
    assert torch.equal(falling.net[0].weight, rising.net[0].weight)
    assert result == StageResult(best_value=1.0, best_epoch=4, epochs=4, steps=4 * STEPS)
    assert torch.equal(read_weights(run, "fit")["net/0.weight"], falling.net[0].weight)
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert {name for name in a if name.endswith(".safetensors")} == {
        name for name in b if name.endswith(".safetensors")
    }


def test_a_finished_stage_is_loaded_and_not_fitted_again(tmp_path):
    first, _, result = one_stage(tmp_path / "run", LoopConfig(epochs=3, patience=2))
    before = contents(tmp_path / "run")
    again, _, same = one_stage(tmp_path / "run", LoopConfig(epochs=3, patience=2), resume=True)
    assert same == result
    assert again.orders == []
    assert torch.equal(first.net[0].weight, again.net[0].weight)
    assert contents(tmp_path / "run") == before


def test_lines_logged_between_stages_count_once_after_resume(tmp_path):
    for resume in (False, True):
        run = Run.create(tmp_path / "run", {}, resume=resume)
        for stage in ("warm", "fit"):
            fit_stage(TinyLearner(OptimiserConfig(0.05)), run, stage, LoopConfig(epochs=1, patience=None))
            run.log("check", 0, 0, "validation", {f"after_{stage}": 1.0})
    names = [line["metric"] for line in run.read_metrics() if line["stage"] == "check"]
    assert names == ["after_warm", "after_fit"]


def test_train_lines_are_means_since_the_line_before(tmp_path):
    class Counting(TinyLearner):
        def step(self, batch):
            super().step(batch)
            return {"count": float(self.seen)}

    run = Run.create(tmp_path / "run", {})
    fit_stage(Counting(OptimiserConfig()), run, "fit", LoopConfig(epochs=2, patience=None, log_every_steps=3))
    assert [(line["epoch"], line["step"], line["value"]) for line in lines(run, "train")] == [
        (1, 3, 2.0),
        (1, 5, 4.5),
        (2, 6, 6.0),
        (2, 9, 8.0),
        (2, 10, 10.0),
    ]
    assert list(run.read_metrics()[0]) == ["stage", "epoch", "step", "part", "metric", "value"]


def test_nan_loss_stops_with_its_place_and_keeps_the_good_checkpoint(tmp_path):
    with pytest.raises(UserError) as caught:
        one_stage(tmp_path / "run", LoopConfig(epochs=3, patience=None, checkpoint_every_steps=2), poison=8)
    message = str(caught.value)
    assert "stage 'fit', epoch 2, step 8: loss 'squared' is nan" in message
    assert "checkpoint of step 6 is kept" in message
    assert "\n" not in message
    place = json.loads((tmp_path / "run/checkpoints/fit/last.json").read_text())["place"]
    assert (place["steps"], place["finished"]) == (6, False)
    tiny, _, _ = one_stage(tmp_path / "run", LoopConfig(epochs=3, patience=None, checkpoint_every_steps=2), resume=True)
    assert torch.isfinite(tiny.net[0].weight).all()


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path):
    class Steep(TinyLearner):
        def loss(self, rows):
            return super().loss(rows) + torch.sqrt(self.net[0].weight[0, 0] * 0)  # finite, its slope is not

    learner = Steep(OptimiserConfig())
    with pytest.raises(UserError, match=r"epoch 1, step 1: the gradient's norm is nan"):
        fit_stage(learner, Run.create(tmp_path / "run", {}), "fit", LoopConfig(epochs=1))
    assert torch.isfinite(learner.net[0].weight).all()


def test_validation_that_is_missing_or_nan_cannot_be_stopped_by(tmp_path):
    with pytest.raises(UserError, match=r"validation 'squared' is nan"):
        one_stage(tmp_path / "a", LoopConfig(epochs=2), validation=[float("nan")])
    learner = TinyLearner(OptimiserConfig())
    learner.validate = dict
    with pytest.raises(UserError, match="no validation figure to stop by"):
        fit_stage(learner, Run.create(tmp_path / "b", {}), "fit", LoopConfig(epochs=2))
    result = fit_stage(learner, Run.create(tmp_path / "c", {}), "fit", LoopConfig(epochs=2, patience=None))
    assert result == StageResult(best_value=None, best_epoch=2, epochs=2, steps=2 * STEPS)


def test_no_batches_is_an_empty_train_part(tmp_path):
    learner = TinyLearner(OptimiserConfig())
    learner.batches = lambda seed: iter(())
    with pytest.raises(UserError, match="has no batches, the train part is empty"):
        fit_stage(learner, Run.create(tmp_path / "run", {}), "fit", LoopConfig())


def test_a_stage_cannot_go_on_under_another_config(tmp_path):
    one_stage(tmp_path / "run", LoopConfig(epochs=1, patience=None))
    with pytest.raises(UserError, match=r"expected the same and not .*'epochs': 2"):
        one_stage(tmp_path / "run", LoopConfig(epochs=2, patience=None), resume=True)
    one_stage(tmp_path / "run", LoopConfig(epochs=1, patience=None, checkpoint_every_steps=1), resume=True)


@pytest.mark.parametrize("name", ["epochs", "patience", "checkpoint_every_steps", "log_every_steps"])
def test_a_loop_config_counts_from_one(name):
    with pytest.raises(UserError, match=f"{name} = 0, expected 1 or more"):
        LoopConfig(**{name: 0})


def test_a_signal_in_the_last_validation_is_not_lost_and_handlers_are_put_back(tmp_path, capsys):
    class Stopped(TinyLearner):
        def validate(self):
            signal.raise_signal(signal.SIGTERM)
            return super().validate()

    before = signal.getsignal(signal.SIGTERM)
    learner = Stopped(OptimiserConfig())
    with pytest.raises(Interrupted, match="stage 'fit' is finished; go on with --resume") as caught:
        fit_stage(learner, Run.create(tmp_path / "run", {}), "fit", LoopConfig(epochs=1))
    assert caught.value.code == 143
    assert capsys.readouterr().err == f"{caught.value}\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_that_is_not_the_main_one_may_fit(tmp_path):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(one_stage(tmp_path / "run", LoopConfig(epochs=1, patience=None)))
    )
    thread.start()
    thread.join()
    assert results[0][2].epochs == 1


def test_progress_shows_at_a_terminal_and_is_silent_elsewhere(tmp_path, monkeypatch):
    class Screen(io.StringIO):
        terminal = True

        def isatty(self):
            return self.terminal

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", Screen())
    one_stage(tmp_path / "a", LoopConfig(epochs=EPOCHS, patience=EPOCHS), validation=[2.0, 1.0, 3.0])
    shown = sys.stderr.getvalue()
    for words in ("fit", "epoch 3/3", "squared", "validation 3", "best 1 (epoch 2)"):
        assert words in shown
    monkeypatch.setattr(sys, "stderr", Screen())
    one_stage(tmp_path / "b", LoopConfig(epochs=1, patience=None, progress=False))
    sys.stderr.terminal = False
    one_stage(tmp_path / "c", LoopConfig(epochs=1, patience=None))
    assert sys.stderr.getvalue() == ""
