"""headrace train: stopped at any moment it goes on to the same bits; a raw log keeps its journeys beside the run."""

import random
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest
from commands import ENVIRONMENT, Told, bytes_of, call, command, whole

LONG = ("--preset", "tiny", "--set", "epochs=15", "batch_size=2", "patience=none")


def stop(number: int, lines: int, *words: object) -> tuple[int, str]:
    """Send a signal to a training when its metrics have so many lines; its exit code and stderr."""
    metrics = Path(str(words[words.index("--out") + 1])) / "metrics.jsonl"
    process = subprocess.Popen(
        command(*words), env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while process.poll() is None and (not metrics.is_file() or metrics.read_bytes().count(b"\n") < lines):
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.fixture(scope="module")
def undisturbed(journeys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "run"
    whole("train", "mtorl", "--data", journeys, "--out", out, *LONG)
    return out


def test_a_training_that_is_killed_and_stopped_ends_in_the_same_bits(
    journeys: Path, undisturbed: Path, tmp_path: Path, told: Told
):
    words = ("train", "mtorl", "--data", journeys, "--out", tmp_path / "run", *LONG)
    rng = random.Random()
    first, second = rng.randint(1, 40), rng.randint(41, 90)

    assert stop(signal.SIGKILL, first, *words) == (-signal.SIGKILL, ""), first
    assert not (tmp_path / "run" / "model.safetensors").exists()
    code, err = told(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "--resume" in err

    code, err = stop(signal.SIGTERM, second, *words, "--resume")
    assert (code, err.count("\n")) == (143, 1), second
    assert "--resume" in err

    whole(*words, "--resume")
    assert bytes_of(tmp_path / "run") == bytes_of(undisturbed), (first, second)


@pytest.mark.parametrize(
    ("method", "changes"),
    [("mtorl", ("preference=reference",)), ("din", ("encoder={run}", "co_train=true")), ("star", ())],
)
def test_a_method_with_more_state_than_a_network_that_is_killed_ends_in_the_same_bits(
    method: str, changes: tuple[str, ...], journeys: Path, undisturbed: Path, tmp_path: Path
):
    """In the stage of the reference or behind it; an encoder's weights and STAR's statistics are state."""
    changes = tuple(change.format(run=undisturbed) for change in changes)
    words = ("train", method, "--data", journeys, *LONG, *changes)
    whole(*words, "--out", tmp_path / "whole")
    lines = (tmp_path / "whole" / "metrics.jsonl").read_bytes().count(b"\n")
    at = random.Random().randint(1, lines - 10)
    assert stop(signal.SIGKILL, at, *words, "--out", tmp_path / "killed") == (-signal.SIGKILL, ""), at
    whole(*words, "--out", tmp_path / "killed", "--resume")
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole"), at


def test_resuming_what_is_not_there_begins_a_run_and_says_so(journeys: Path, tmp_path: Path, told: Told):
    words = ("--data", journeys, "--out", tmp_path / "run", "--preset", "tiny", "--set", "epochs=1", "--resume")
    assert told("train", "bc", *words) == (0, f"{tmp_path / 'run'}: no run there to resume; beginning a new one\n")
    assert told("train", "bc", *words) == (0, "")


def test_a_log_that_nothing_can_be_learnt_from_leaves_no_folder_in_the_way(tmp_path: Path, told: Told):
    log, schema, run = tmp_path / "log.csv", tmp_path / "log.toml", tmp_path / "run"
    rows = [f"{i // 4},{'abc'[i % 3]},{1.5 if i == 0 else ''},{i % 3 % 2}\n" for i in range(160)]
    # one user's seconds alone are known: they stand in one part, so another tells nothing of them
    log.write_text("who,medium,seconds,sold\n" + "".join(rows))
    schema.write_text(
        'name = "letters"\nuser = "who"\n[[features]]\nname = "medium"\nkind = "categorical"\n'
        '[[gains]]\nname = "seconds"\nkind = "continuous"\n[[gains]]\nname = "sold"\n'
    )
    assert told("data", "prepare", log, "--schema", schema, "--out", tmp_path / "journeys") == (0, "")
    words = ("train", "rmtl", "--data", tmp_path / "journeys", "--protocol", "users", "--preset", "tiny", "--out", run)
    code, err = told(*words, "--set", "tasks=seen=seconds/1")
    assert (code, err.count("\n")) == (2, 1) and "part tells the task seen" in err
    assert not run.exists()
    assert told(*words, "--set", "tasks=buy=sold", "weights=none") == (0, "")
    code, err = told(*words, "--set", "tasks=seen=seconds/1", "weights=none", "--resume")  # another run's folder stays
    assert code == 2 and (run / "model.safetensors").is_file()


def test_resuming_with_another_setting_is_refused(undisturbed: Path, journeys: Path, told: Told):
    code, err = told("train", "mtorl", "--data", journeys, "--out", undisturbed, *LONG, "--seed", 1, "--resume")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot resume" in err


def test_a_raw_log_keeps_its_journeys_beside_the_run(tmp_path: Path, told: Told):
    log, schema, run = tmp_path / "log.csv", tmp_path / "log.toml", tmp_path / "run"
    rng = random.Random(0)
    rows = [f'"u,{i // 8}",{rng.choice("abc")},{rng.random()},{int(rng.random() < 0.4)}\n' for i in range(640)]
    log.write_text("who,medium,heat,opened\n" + "".join(rows))
    schema.write_text(
        'name = "letters"\nuser = "who"\nchannel = "medium"\n[[features]]\nname = "heat"\n[[gains]]\nname = "opened"\n'
    )
    tiny = ("--schema", schema, "--preset", "tiny", "--out", run)
    done = call("train", "mtorl", "--data", log, *tiny)
    assert done.returncode == 0
    assert done.stderr == f"{log} is a raw log; preparing it as {schema}, to {run}-journeys\n"
    assert told("evaluate", run, "--floors", "prior") == (0, "")
    results = (tmp_path / "run-some-floors" / "results.json").read_bytes()

    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("run", "run-journeys"):
        (tmp_path / name).rename(moved / name)
    assert told("evaluate", moved / "run", "--floors", "prior") == (0, "")
    assert (moved / "run-some-floors" / "results.json").read_bytes() == results

    code, err = told("recommend", moved / "run", "--data", log, "--out", tmp_path / "next.csv")
    assert (code, err) == (0, f"{log} is a raw log; preparing it as letters, for this command alone\n")
    code, err = told("recommend", moved / "run", "--data", log, "--budget", 1, "--out", tmp_path / "more.csv")
    assert (code, err.count("\n")) == (2, 2)
    assert "no cost column" in err
    table = pl.read_csv(tmp_path / "next.csv")
    assert set(table["user"]) == {f"u,{number}" for number in range(80)}
    assert table["expected_cost"].sum() == 0


def test_the_kinds_of_reward_are_changes_of_the_config():
    from headrace.cli.fitting import reward_changes
    from headrace.journeys.readers.samples import KUAIRAND

    both = "reward_weights=is_click:1,long_view:1"
    assert reward_changes("multi", KUAIRAND) == [both]
    assert reward_changes("onehot", KUAIRAND) == [both, "reward_target=onehot"]
    assert reward_changes("play_time_ms", KUAIRAND) == ["reward_weights=play_time_ms:1"]
    assert reward_changes("is_click:1,long_view:10", KUAIRAND) == ["reward_weights=is_click:1,long_view:10"]
