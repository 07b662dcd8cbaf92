"""Help answers at once: nothing that takes long to import is imported for it."""

import subprocess
import sys

import pytest
from commands import ENVIRONMENT, call

from headrace.cli import COMMANDS

SLOW = {"torch", "polars", "numpy", "scipy", "sklearn", "altair", "vl_convert", "jinja2", "safetensors"}
ASK = """
import contextlib, io, sys
from headrace.cli import run
for words in {words!r}:
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        run(words)
    assert "usage: headrace" in shown.getvalue(), words
print(*sorted(set(sys.modules) & {slow!r}))
"""


def test_help_of_any_command_imports_none_of_the_slow_packages():
    words = [
        ["--help"],
        ["data"],
        ["compare"],
        ["compare", "--help"],
        *([*name.split(), "--help"] for name in COMMANDS),
    ]
    code = ASK.format(words=words, slow=SLOW)
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


MISTAKEN = """
import sys
from headrace.cli import run
for words in {words!r}:
    assert run(words) == 2, words
print(*sorted(set(sys.modules) & {slow!r}))
"""


def test_a_place_where_nothing_stands_and_a_method_that_is_none_are_told_before_anything_slow_is_imported():
    none, out = ["nowhere", "--data", "."], ["--out", "out"]
    words = [
        *([name, *none, *out] for name in ("recommend", "embed", "rank")),
        ["evaluate", "nowhere"],
        ["evaluate", "nowhere", "--data", "."],
        ["plan", *none, *out, "--budget", "1"],
        ["campaign", "nowhere", "--world", "ads", *out, "--budget", "1"],
        ["compare", "campaign", "--data", "ads", "--budget", "1", "--run", "nowhere", *out],
        *(
            [*name, "--data", "nowhere", *out]
            for name in (["train", "mtorl"], ["tune", "mtorl"], ["compare", "channel"], ["compare", "predict"])
        ),
        ["train", "mtorl", "--data", ".", "--from", "nowhere", *out],
        ["data", "audit", "nowhere"],
        ["calibrate", "nowhere", *out],
        ["ope", "uniform", "--data", "nowhere"],
        *([name, "mtrl", "--data", ".", *out] for name in ("train", "tune")),
        ["fields", "mtrl"],
    ]
    code = MISTAKEN.format(words=words, slow=SLOW)
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(words)
    assert done.stdout.split() == []


def test_importing_the_package_imports_none_of_the_slow_packages():
    code = f"import sys, headrace; print(*sorted(set(sys.modules) & {SLOW!r}))"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), ("2", 2)])
def test_a_command_works_on_one_thread_unless_more_are_asked_for(asked: str | None, threads: int):
    told = {k: v for k, v in ENVIRONMENT.items() if k != "OMP_NUM_THREADS"} | (
        {"OMP_NUM_THREADS": asked} if asked else {}
    )
    command = [sys.executable, "-m", "headrace.cli", "doctor"]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if "torch threads" in line)
    assert line.strip(" │|").split()[-1] == str(threads)


def test_every_name_of_the_package_is_there_after_all_rooms_are_imported():
    code = """
import headrace
import headrace.channel.scoring, headrace.simulate.log, headrace.report.page, headrace.journeys.prepare
kinds = {name: type(getattr(headrace, name)).__name__ for name in headrace.__all__}
print({name for name, kind in kinds.items() if kind == "module"} or "")
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_flag_with_what_it_is_for(name: str, capsys: pytest.CaptureFixture[str]):
    from headrace.cli import run

    with pytest.raises(SystemExit) as end:
        run([*name.split(), "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: headrace {name}" in shown
    assert "{None}" not in shown
    assert "default: None" not in shown


def test_the_program_says_its_version():
    from headrace import __version__

    assert call("--version").stdout.strip() == __version__
