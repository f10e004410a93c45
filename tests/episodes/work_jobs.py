"""Jobs that fail, have a bug, end their process, or leave a file; a file of its own, so that processes start fast."""

import os
from pathlib import Path

from robointervlm.core.errors import DataError


def fail_at_two(split: str, number: int) -> None:
    if number == 2:
        raise DataError(f"episode {number} of {split} is odd")


def divide_by(split: str, number: int) -> None:
    """Number 0 is a bug."""
    1 / number


def touch(folder: str, number: int) -> None:
    (Path(folder) / str(number)).touch()


def touch_or_end(folder: str, number: int) -> None:
    """Numbers 2 and 17 end their process."""
    if number in {2, 17}:
        os._exit(9)
    touch(folder, number)
