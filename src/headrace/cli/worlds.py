"""Worlds and policies by the names that the command line takes."""

from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import UserError, unknown
from headrace.simulate.policies import Acting
from headrace.simulate.scenario import Scenario

if TYPE_CHECKING:
    from headrace.channel.methods import Method

TASKS = ("ads", "feed")


def task_of(scenario: Scenario, wanted: str | None = None) -> str:
    """The task to simulate: the one that is wanted, or the one that the scenario holds (ads where it holds both)."""
    held = [name for name, there in (("ads", bool(scenario.channels)), ("feed", scenario.feed is not None)) if there]
    if wanted is None:
        return held[0]
    if wanted not in TASKS:
        raise unknown("task", wanted, TASKS)
    if wanted not in held:
        raise UserError(f"scenario {scenario.name}: it has no [{wanted}]; choose --task {held[0]}")
    return wanted


def acting(policy: str, scenario: Scenario) -> Acting:
    """A policy's name as it is; a folder that `headrace train` left as its policy, with a memory."""
    folder = Path(policy)
    if not (folder / "config.json").is_file():
        if folder.is_dir():
            raise UserError(f"{policy}: a folder, but not a run (no config.json); give a run or a policy's name")
        return policy
    # torch is loaded only for a trained policy
    from headrace.channel.methods import history_of
    from headrace.simulate.acting import MemoryPolicy

    method, _ = fitted(folder, scenario)
    steps, statistics = history_of(method)
    return MemoryPolicy(method.policy(), steps, statistics, name=folder.name)


def fitted(folder: Path, scenario: Scenario) -> tuple["Method", dict[str, str]]:
    """The method of a run that was trained on logs such as the world writes, and the sha256 of the run's files."""
    from headrace.cli.rooms import load_channel
    from headrace.learn.run import Run
    from headrace.simulate.log import schema

    run = Run.open(folder)
    method: Method = load_channel(run)
    assert method.transforms is not None  # a loaded method is fitted
    theirs, ours = method.transforms.schema, schema(scenario)
    if (theirs.channels, theirs.features, theirs.gains) != (ours.channels, ours.features, ours.gains):
        raise UserError(
            f"{folder}: trained on logs of schema {theirs.name}, the world {scenario.name} writes {ours.name} with "
            f"other channels, features or gains; train on a log of  headrace simulate {scenario.name}"
        )
    return method, run.manifest.get("files", {})
