"""Jobs of the pool's tests; a file of its own, so that processes find them and start fast."""

import os
import signal
import time
from pathlib import Path

from robointervlm.core.errors import DataError


def touch(file: Path) -> None:
    file.touch()


def end_at_first(file: Path) -> None:
    """Kills its process unless it has done so before; the first trace of a job is a file with `.died`."""
    died = file.with_suffix(".died")
    if not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    file.touch()


def exit_at_odd(number: int) -> None:
    if number % 2:
        os._exit(9)


def fail_at_two(number: int) -> None:
    if number == 2:
        raise DataError("number 2 is odd")


def divide_by(number: int) -> None:
    1 / number


def say_variable(file: Path) -> None:
    file.write_text(os.environ["OF_THIS_PROCESS"])


def say_pid_and_wait(file: Path) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(60)
