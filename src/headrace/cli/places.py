"""What must stand at a path that a flag names: told before anything is imported that takes seconds.

data: Annotated[Path, LOG]      # parse() checks it
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import UserError, no_run


@dataclass(frozen=True, slots=True)
class Place:
    """A mark of a command's field: the check raises UserError where its path does not hold what is expected."""

    check: Callable[[Path], None]


def check_log(path: Path) -> None:
    """UserError where nothing stands that could be read as a log."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected journeys or a raw log")


def check_run(path: Path) -> None:
    """UserError where no run stands."""
    if not (path / "config.json").is_file():
        raise no_run(path)


LOG = Place(check_log)
RUN = Place(check_run)
