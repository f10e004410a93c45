"""Writing files so that a kill or a full disk never leaves half of one under its final name."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from robointervlm.core.errors import ExhaustedError, RecipeError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST}


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turns what the system says while `path` is written into an error that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NOT_OURS:
            raise RecipeError(f"cannot write {path}: {reason}. Choose an output folder that can be written.") from error
        remedy = "free some space" if error.errno in _NO_SPACE else "check the disk"
        raise ExhaustedError(
            f"cannot write {path}: {reason}. What was there before is intact; {remedy} and rerun the same command."
        ) from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces the file by this content: written beside it, synced, then renamed, and the folder synced."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not sync folders; the file itself is synced.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def in_file_name(text: str, longest: int = 64) -> str:
    """A text as a part of a file's name: what that cannot hold becomes an underscore, and what is too long is cut."""
    return re.sub(r"[^\w.%@=+-]+", "_", text, flags=re.ASCII).lstrip(".")[:longest] or "_"
