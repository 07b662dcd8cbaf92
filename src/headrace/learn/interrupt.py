"""SIGTERM and SIGINT during a fit: noted, answered after the step, with a checkpoint."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupted(SystemExit):
    """A fit was asked to stop and saved its stage. Exit code 143 after SIGTERM, 130 after SIGINT."""

    def __init__(self, message: str, number: int):
        super().__init__(128 + number)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Interruption:
    """Within it, a first SIGTERM or SIGINT is only noted in `received`; a second acts as it did outside.

    Other threads than the main one cannot set handlers and get none. A signal that was ignored stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                if before is not None and before != signal.SIG_IGN:
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
