"""Logging, set up once by the command line: a terse console on rank 0, everything in the run's `log.txt`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.logging import RichHandler

from robointervlm.runs.files import writing_to

_ROOT = "robointervlm"
_console = Console(stderr=True)


def console() -> Console:
    """The console of messages and progress bars: standard error, so that standard output stays for results."""
    return _console


def is_main_process() -> bool:
    """Whether this is the first process of a distributed job, or the only one."""
    return os.environ.get("RANK", "0") in {"", "0"}


def configure_logging(*, verbose: bool = False) -> None:
    """Sends the package's log to the console; other ranks keep to warnings."""
    logger = logging.getLogger(_ROOT)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    for handler in [handler for handler in logger.handlers if isinstance(handler, RichHandler)]:
        logger.removeHandler(handler)
    handler = RichHandler(console=_console, show_path=False, show_time=False, rich_tracebacks=False, markup=False)
    quiet = logging.DEBUG if verbose else logging.INFO
    handler.setLevel(quiet if is_main_process() else logging.WARNING)
    logger.addHandler(handler)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Also writes the package's log to this file, with times, until the block ends."""
    if not is_main_process():
        yield
        return
    logger = logging.getLogger(_ROOT)
    with writing_to(path):
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    previous = logger.level
    if logger.level in (logging.NOTSET, logging.CRITICAL) or logger.level > logging.INFO:
        logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous)
        handler.close()


class MetricsLog:
    """Numbers over time as JSON lines, one `write` each, appended to what is there; does nothing on other ranks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        if is_main_process():
            with writing_to(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def write(self, **numbers: object) -> None:
        """One line with these numbers, such as `step=30, loss=0.41`."""
        if self._descriptor is not None:
            with writing_to(self._path):
                os.write(self._descriptor, (json.dumps(numbers, default=float) + "\n").encode())

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
