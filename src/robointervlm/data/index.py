"""What is found out about large files once and kept: numpy arrays in a cache folder, memory-mapped when they are used.

The folder is `ROBOINTER_CACHE`, else `robointervlm` in `XDG_CACHE_HOME` or in `~/.cache`; it may be deleted at any
time. An array belongs to one state of one file (`identity`), so that a stale one is never used. Where the folder cannot
be written, everything works as before, only that each process finds it out again and holds it in its own memory.

Plain `.npy` files rather than Arrow: read in place, a record's row costs a microsecond, and numpy is there anyway.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.errors import DataError

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "ROBOINTER_CACHE"
# What `identity` reads of a file: this many pieces of this many bytes, the first and the last among them.
_PIECES, _PIECE = 16, 16_384


def cache_folder() -> Path:
    """The folder for what can be computed again. Raises `OSError` if there is no home folder to put it in."""
    if named := os.environ.get(CACHE_VARIABLE, ""):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "robointervlm"
    except RuntimeError as error:
        raise OSError("there is no home folder") from error


def identity(file: Path) -> str:
    """What a file's content is known by, without reading all of it: size, time of change, and a hash of 16 pieces."""
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
            for piece in range(_PIECES):
                opened.seek(max(0, status.st_size - _PIECE) * piece // (_PIECES - 1))
                digest.update(opened.read(_PIECE))
    except OSError as error:
        raise DataError(f"file {file} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def place(kind: str, file: Path, key: str) -> Path:
    """Where in the cache an array about the present state of a file is kept, told from others of its kind by the key.

    Raises `OSError` if there is no cache folder, `DataError` if the file cannot be read.
    """
    return cache_folder() / kind / f"{_short(os.path.realpath(file))}-{_short(identity(file))}-{_short(key)}.npy"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:20]


def stored(kind: str, file: Path, key: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """What `make` returns, memory-mapped from the cache; made only if it is not there, by one process at a time."""
    try:
        path = place(kind, file, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            found = load(path)
            if found is None:
                made = make()
                _write(path, made)
                found = load(path)
                return made if found is None else found
            return found
    except OSError as error:
        logger.warning(
            "the index of %s is kept in memory only: %s; set %s to a folder that can be written",
            *(file, error, CACHE_VARIABLE),
        )
        return make()


def load(path: Path) -> NDArray[Any] | None:
    """The array of a cache file, memory-mapped; None if it is not there or not whole."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (FileNotFoundError, ValueError, EOFError):
        return None


def _write(path: Path, array: NDArray[Any]) -> None:
    """Write beside the place and rename; what was known of earlier states of the file goes."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            np.save(opened, array, allow_pickle=False)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    forget_others(path)


def forget_others(path: Path) -> None:
    """Remove what is kept of earlier states of the same file."""
    file, state, _ = path.name.split("-")
    for old in path.parent.glob(f"{file}-*"):
        if old.name.split("-")[1] != state:
            old.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; the others wait. Raises `OSError` where the folder cannot be written."""
    with path.with_suffix(".lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that makes %s", path)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # a file system without locks: the work may be done twice
            logger.debug("no lock on %s: %s", path, error)
        yield
