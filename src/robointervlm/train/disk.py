"""A full or failing disk, whichever library met it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from robointervlm.runs.files import writing_to


@contextlib.contextmanager
def writing_weights(path: Path) -> Iterator[None]:
    """As `writing_to`, also for the errors that torch and safetensors make of what the system told them."""
    with writing_to(path):
        try:
            yield
        except (RuntimeError, SafetensorError) as error:
            number = _system_error(error, path)
            if number is None:
                raise
            raise OSError(number, os.strerror(number)) from error


def _system_error(error: BaseException, path: Path) -> int | None:
    """The system's number of what went wrong, if that was writing."""
    if isinstance(error.__context__, OSError):
        return error.__context__.errno
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return int(found[1])
    if "inline_container.cc" in str(error):  # torch's archive; it says where it noticed, not why
        there = next(each for each in path.parents if each.is_dir())
        return errno.ENOSPC if shutil.disk_usage(there).free < 1 << 20 else errno.EIO
    return None
