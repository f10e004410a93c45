"""A file of many records that is written bit by bit: there when it is whole, and gone on with after a stop."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from robointervlm.core.errors import RecipeError, RoboInterError

# How many additions are made before the state is saved; after a stop so many are made again at most.
_SAVE_EVERY = 16


class Unfinished:
    """A JSON list, or JSON lines if the name ends in `.jsonl`, in the making beside its place.

    `key` says what the content depends on: what was begun with another one is begun anew. `records` is how many are
    done already, `written` how many of them are in the file. An error of ours leaves nothing behind; any other end
    leaves what is needed to go on. Raises `RecipeError` if another process is writing the same file.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.records = 0
        self.written = 0
        self._key = key
        self._lines = path.suffix == ".jsonl"
        self._temporary = path.with_name(f".tmp-{path.name}")
        self._state = path.with_name(f".tmp-{path.name}.state")
        self._unsaved = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("ab")
        self._refuse_company()
        self.records, self.written, size = self._found()
        self._file.truncate(size)
        if not size and not self._lines:
            self._file.write(b"[")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, RoboInterError):
            self._temporary.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)
        self._file.close()

    def add(self, texts: Sequence[str], records: int) -> None:
        """Write these records, after which `records` are done."""
        for text in texts:
            before = "" if self._lines else ",\n" if self.written else "\n"
            self._file.write(f"{before}{text}{chr(10) * self._lines}".encode())
            self.written += 1
        self.records = records
        self._unsaved += 1
        if self._unsaved == _SAVE_EVERY:
            self._save()

    def finish(self) -> None:
        """Put the file in its place."""
        self._file.write(b"" if self._lines else b"\n]\n")
        self._synced()
        self._temporary.replace(self.path)
        self._state.unlink(missing_ok=True)

    def _refuse_company(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have finished the file between its opening and the lock.
            alone = os.path.samestat(os.fstat(self._file.fileno()), self._temporary.stat())
        except (BlockingIOError, FileNotFoundError):
            alone = False
        if not alone:
            self._file.close()
            raise RecipeError(f"{self.path} is being written by another process; wait for it, or choose another name.")

    def _found(self) -> tuple[int, int, int]:
        """How many records were done and written, in how many bytes, by an earlier call."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            records, written, size = (int(state[name]) for name in ("records", "written", "bytes"))
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0, 0
        whole = state.get("key") == self._key and self._temporary.stat().st_size >= size > 0
        return (records, written, size) if whole else (0, 0, 0)

    def _save(self) -> None:
        self._synced()
        state = {"key": self._key, "records": self.records, "written": self.written, "bytes": self._file.tell()}
        new = self._state.with_name(f"{self._state.name}.new")
        new.write_text(json.dumps(state), encoding="utf-8")
        new.replace(self._state)
        self._unsaved = 0

    def _synced(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
