"""The command line maps a method's name to its room: no two rooms may hold one name."""

from importlib import import_module
from pathlib import Path

import pytest
from commands import Told, call, whole

from headrace.cli.rooms import ROOMS, room_of


def test_the_names_that_are_known_without_an_import_are_those_of_the_rooms():
    assert {room: sorted(import_module(f"headrace.{room}.methods").METHODS) for room in ROOMS} == ROOMS


def test_no_two_rooms_hold_a_method_of_one_name():
    held = [name for room in ROOMS for name in import_module(f"headrace.{room}.methods").METHODS]
    assert len(held) == len(set(held))
    assert (room_of("iql"), room_of("discrete-iql")) == ("fuse", "channel")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of RMTL; its log stands beside it, in feed."""
    folder = tmp_path_factory.mktemp("predictor")
    whole("simulate", "feed", "--users", 30, "--out", folder / "feed")
    assert call("train", "rmtl", "--data", folder / "feed", "--preset", "tiny", "--out", folder / "run").returncode == 0
    return folder / "run"


@pytest.mark.parametrize(
    "words",
    [
        ("recommend", "RUN", "--data", "LOG", "--out", "next.csv"),
        ("embed", "RUN", "--data", "LOG", "--out", "users.csv"),
        ("plan", "RUN", "--data", "LOG", "--price", "1", "--budget", "1", "--out", "plan"),
        ("ope", "RUN", "--data", "LOG", "--propensity", "random"),
        ("simulate", "ads", "--users", "5", "--policy", "RUN", "--out", "log"),
    ],
)
def test_a_run_of_another_room_is_told_what_it_is_and_which_command_fits(
    words: tuple[str, ...], predictor: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    named = {"RUN": predictor, "LOG": predictor.with_name("feed")}
    code, err = told(*(named.get(word, word) for word in words))
    assert code == 2 and err.count("\n") == 1
    assert f"{predictor}: a run of rmtl, which predicts what items bring; expected one that chooses channels" in err
    assert f"headrace rank {predictor}" in err
    assert not list(tmp_path.iterdir())
