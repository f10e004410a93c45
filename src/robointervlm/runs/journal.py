"""An append-only file of JSON lines that survives a kill at any byte and notices a flipped one.

Each line ends with a checksum of itself (`"check"`, CRC-32), so that a damaged line is told from a good one even where
it still is valid JSON. One `write` per line, synced before `append` returns.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from robointervlm.core.errors import DataError, ExhaustedError
from robointervlm.runs.files import sync_folder, write_atomically, writing_to

logger = logging.getLogger(__name__)

Entry = dict[str, object]

_CHECK = re.compile(rb',"check":"([0-9a-f]{8})"}$')


@dataclass(frozen=True)
class JournalContent:
    """What a journal holds: its good entries in order, its damaged lines, and the bytes of an unfinished last line."""

    entries: list[Entry] = field(default_factory=list)
    bad_lines: list[bytes] = field(default_factory=list)
    good_lines: list[bytes] = field(default_factory=list)
    torn_tail: bytes = b""


def encoded_line(entry: Mapping[str, object]) -> bytes:
    """The line of this entry, newline included. Raises `ValueError` for NaN and infinity, which JSON does not have."""
    try:
        data = _json(entry, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate, which a model may well produce, has no UTF-8.
        data = _json(entry, ensure_ascii=True).encode("ascii")
    return data[:-1] + b',"check":"%08x"}\n' % zlib.crc32(data)


def _json(entry: Mapping[str, object], *, ensure_ascii: bool) -> str:
    return json.dumps(entry, ensure_ascii=ensure_ascii, separators=(",", ":"), allow_nan=False)


def decoded_line(line: bytes) -> Entry | None:
    """The entry of a line without its newline; None if the line is damaged."""
    match = _CHECK.search(line)
    if match is None or zlib.crc32(line[: match.start()] + b"}") != int(match[1], 16):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    del entry["check"]
    return entry


def read_journal(path: Path) -> JournalContent:
    """Everything in a journal, without changing it; a file that is not there is empty."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return JournalContent()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    *lines, tail = data.split(b"\n")
    content = JournalContent(torn_tail=tail)
    for line in lines:
        entry = decoded_line(line)
        if entry is None:
            content.bad_lines.append(line)
        else:
            content.entries.append(entry)
            content.good_lines.append(line)
    return content


class Journal:
    """A journal opened for appending by its only writer (the run's lock sees to that).

    Opening cuts an unfinished last line and moves damaged lines to `<name>.bad.jsonl`; `entries` are the good ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_journal(path)
        self.entries = content.entries
        self.damaged = len(content.bad_lines)
        if content.torn_tail:
            logger.warning(
                "%s ended in an unfinished line (%d bytes), as after a kill; it is cut and its sample done again.",
                path,
                len(content.torn_tail),
            )
        if content.bad_lines:
            bad = path.with_suffix(f".bad{path.suffix}")
            logger.warning(
                "%s: %d damaged line(s) moved to %s; their samples are done again.", path, self.damaged, bad.name
            )
            with writing_to(bad), bad.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in content.bad_lines))
                file.flush()
                os.fsync(file.fileno())
        if content.torn_tail or content.bad_lines:
            write_atomically(path, b"".join(line + b"\n" for line in content.good_lines))
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            sync_folder(path.parent)

    def append(self, entry: Mapping[str, object]) -> None:
        """Adds one entry; it is on the disk when this returns."""
        line = encoded_line(entry)
        with writing_to(self.path):
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise ExhaustedError(
                    f"{self.path}: only {written} of {len(line)} bytes could be written. Free some space and rerun "
                    "the same command; the unfinished line is cut then."
                )
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
