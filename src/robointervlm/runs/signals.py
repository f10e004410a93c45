"""Stopping in order when the system or the user asks for it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from robointervlm.core.errors import ExitCode


class StopRequested(BaseException):
    """SIGINT or SIGTERM came. Not an `Exception`: what catches the failure of one sample must not catch this."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number = number

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.TERMINATED if self.number == signal.SIGTERM else ExitCode.INTERRUPTED


def _stop(number: int, _frame: FrameType | None) -> None:
    # A second signal while the first is dealt with changes nothing: the way out is short.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise StopRequested(number)


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise `StopRequested` within the block. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopFlag:
    """Whether a signal has asked to stop; looked at between two steps of work that must not be torn."""

    requested = False

    def set(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler; a second Ctrl-C stops at once. A system may send SIGTERM twice and mean it once."""
        if self.requested and number == signal.SIGINT:
            raise StopRequested(number)
        self.requested = True


@contextlib.contextmanager
def noting_signals() -> Iterator[StopFlag]:
    """SIGINT and SIGTERM only set the flag within the block, so that the step under way can be finished and saved."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.signal(number, flag.set) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
