"""headrace compare channel: methods that choose channels beside one another, on the same data, trials and seeds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headrace.cli.parse import QUIET
from headrace.cli.places import LOG


@dataclass(frozen=True, slots=True)
class CompareChannel:
    """Fit channel methods under several seeds on one split, and say which differ; resumable, a cell a run folder."""

    data: Annotated[Path, LOG]
    """A journeys folder, or a raw log of a known layout (its journeys are then kept as OUT-journeys)."""
    out: Path
    """The new folder: cells/, results.json, report.html. One that is there goes on, with more methods or seeds too;
    what is done is not done again."""
    methods: Annotated[str | None, QUIET] = None
    """Comma between them; default: all."""
    seeds: int = 5
    """Initialisations and orders of batches; the split is one."""
    protocol: str = "honest"
    """honest | users | temporal | time | paper"""
    against: Annotated[str | None, QUIET] = None
    """The method that the others are compared with; default: mtorl, or the first where it is not among them."""
    tune: int = 0
    """Configurations of each method's own space that are tried on the validation part, the preset itself among them;
    the same number for every method."""
    jobs: int = 1
    """Trials at a time, each a process."""
    preset: str = "default"
    """default | tiny | paper; a method that has no such preset takes its default."""
    set: Annotated[tuple[str, ...], QUIET, tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Fields of the config of every method that has them, over the preset's."""
    floors: Annotated[str, QUIET] = "prior,past-frequencies,past-rate,trees"
    """Comma between them; none"""
    propensity: Annotated[str | None, QUIET] = None
    """logged | random (drawn by lot: the channel's share): what the policies' values rest on; default: logged where
    there are any, else no values."""
    share: float = 0.375
    """Of the steps, those that a method would advertise at."""
    seed: int = 0
    """Of the split and the search."""
    schema: Annotated[str | None, QUIET] = None
    """Of --data where that is a raw log: a layout's name or a TOML file."""

    def execute(self) -> None:
        from headrace.cli.comparing_channels import compare_channels

        compare_channels(self)
