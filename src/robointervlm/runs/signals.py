"""Stopping in order when the system or the user asks for it, and how a process ends once all is done."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

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


def ending(run: Callable[[], int]) -> NoReturn:
    """Exit with the code that `run` returns; where torch was loaded, without taking the interpreter apart.

    gloo's threads let go of the last exchange's tensors whenever they get to it, and need the interpreter for that.
    While it is taken apart CPython ends a thread that asks for it, in C++ that cannot be unwound, and the process
    aborts: 3 of 28 complete runs under ZeRO-3 ended with the code 134. Threads are joined, exit functions
    run and output is flushed as always.
    """
    codes: list[int] = []
    # Exit functions are called last to first: those that `run` registers come before this one.
    atexit.register(_leave, codes)
    codes.append(run())
    sys.exit(codes[0])


def _leave(codes: list[int]) -> None:
    if not codes or "torch" not in sys.modules:
        return
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a stream whose reader went away
            stream.flush()
    os._exit(codes[0])
