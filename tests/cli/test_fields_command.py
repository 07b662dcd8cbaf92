"""headrace fields: every field of every method, with its default and what it is for."""

import dataclasses
from importlib import import_module

import pytest

from headrace.cli import run
from headrace.cli.console import out
from headrace.cli.fields import described
from headrace.cli.rooms import ROOMS
from headrace.cli.settings import configure
from headrace.errors import UserError

METHODS = {name: kind for room in ROOMS for name, kind in import_module(f"headrace.{room}.methods").METHODS.items()}


@pytest.mark.parametrize("name", METHODS)
def test_each_field_stands_with_a_default_that_set_reads_back(name: str):
    kind = METHODS[name].config_type
    rows = described(kind)
    assert [row[0] for row in rows] == [f.name for f in dataclasses.fields(kind)]
    for field, default, takes, _ in rows:
        assert takes
        again = configure(name, kind, {"default": {}}, "default", (f"{field}={default}",))
        assert getattr(again, field) == getattr(kind(), field), field


def test_the_list_tells_what_a_field_is_for_and_which_presets_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(out, "_width", 200)  # COLUMNS is read when the console is made
    assert run(["fields", "mtorl"]) == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("categories "))
    assert "numbers" in row and "embedded | numbers | both" in row and "where order says nothing" in row
    assert "presets: default, paper, tiny" in shown
    assert run(["fields", "mtrol"]) == 2
    assert "did you mean 'mtorl'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", METHODS)
def test_in_a_terminal_of_80_columns_the_comments_have_the_room_that_is_left(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(out, "_width", 80)
    assert run(["fields", name]) == 0
    *lines, presets = capsys.readouterr().out.splitlines()
    assert presets.startswith("presets: ")
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
    kept = max(len(field) + 2 + len(default) for field, default, *_ in described(METHODS[name].config_type))
    assert lines[0].index("what it is for") <= max(kept, 40)


def test_several_numbers_are_read_as_numbers():
    kind = METHODS["ag"]
    given = configure("ag", kind.config_type, kind.presets, "tiny", ("multipliers=0,0.5",))
    assert given.multipliers == (0.0, 0.5)
    with pytest.raises(UserError, match="multipliers=a,b: expected numbers, comma between them or none"):
        configure("ag", kind.config_type, kind.presets, "tiny", ("multipliers=a,b",))
