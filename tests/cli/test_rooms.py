"""The command line maps a method's name to its room: no two rooms may hold one name."""

from importlib import import_module

from headrace.cli.rooms import ROOMS, room_of


def test_no_two_rooms_hold_a_method_of_one_name():
    held = [name for room in ROOMS for name in import_module(f"headrace.{room}.methods").METHODS]
    assert len(held) == len(set(held))
    assert (room_of("iql"), room_of("discrete-iql")) == ("fuse", "channel")
