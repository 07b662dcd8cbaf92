"""What a person at a terminal sees of a fit: one bar a stage, on stderr; nothing where stderr is no terminal."""

import sys
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """The bar of one stage: epoch, steps within it, losses, validation value and the best so far."""

    def __init__(self, stage: str, epochs: int, shown: bool):
        self._stage = stage
        self._epochs = epochs
        self._validation = ""
        self._progress: Progress | None = None
        if shown and sys.stderr.isatty():
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[losses]}{task.fields[validation]}"),
                console=Console(stderr=True),
                refresh_per_second=4,
            )
            self._task = self._progress.add_task(stage, total=None, losses="", validation="")

    def __enter__(self) -> "Bar":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        """`step` steps of an epoch are done; the last one's losses."""
        if self._progress is not None:
            words = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
            self._progress.update(
                self._task, completed=step, losses=words, description=f"{self._stage}  epoch {epoch}/{self._epochs}"
            )

    def epoch(self, steps: int, watched: float | None, best_value: float | None, best_epoch: int) -> None:
        """An epoch of `steps` steps is validated."""
        if self._progress is not None:
            words = "" if watched is None else f"  validation {watched:.4g}"
            words += "" if best_value is None else f"  best {best_value:.4g} (epoch {best_epoch})"
            self._progress.update(self._task, total=steps, completed=steps, validation=words)
