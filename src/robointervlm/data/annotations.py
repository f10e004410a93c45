"""Annotation files as sequences of raw records: JSON lists, JSON objects that hold one list, and JSONL.

Which of them a file is is decided by its content, never by its name.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.errors import DataError, RefusedError
from robointervlm.data import index
from robointervlm.data.spans import line_spans, list_spans, object_spans, refuse_constant

_BOM = b"\xef\xbb\xbf"
_INK = re.compile(rb"[^ \t\r\n]")
# The end of a longer first line is not looked for in what may be a list of gigabytes on one line.
_LONGEST_LINE = 1 << 20
# What a terminal obeys instead of showing it, and halves of surrogate pairs, which no file can hold.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# A smaller file is walked in a fifth of a second; a larger one once, and what was found is kept.
STORE_FROM_BYTES = 16_000_000
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
Layout = Literal["list", "object", "lines"]
# One for all records: `json.loads` with an option makes a new one each time.
_decoded = json.JSONDecoder(parse_constant=refuse_constant).decode


def printable(text: str) -> str:
    """The text on one line that any terminal shows and any file takes; what else is in it as Python escapes it."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_finite_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number that a float can hold."""
    # Compared instead of converted: an integer may have thousands of digits.
    return type(value) in (int, float) and -sys.float_info.max <= value <= sys.float_info.max  # type: ignore[operator]


@dataclass(frozen=True)
class RecordProblem:
    """What is wrong with one record. `record` counts from 0; `line` from 1, where the file has one record a line.

    A `record` of -1 is the file as a whole. What it quotes of the record is made `printable`.
    """

    file: Path
    record: int
    field: str
    reason: str
    id: str = ""
    line: int | None = None
    severity: Literal["error", "warning"] = "error"

    def __post_init__(self) -> None:
        for name in ("field", "reason", "id"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def place(self) -> str:
        """Where in the file: a line, or the position in the list."""
        if self.record < 0:
            return "the file"
        return f"line {self.line}" if self.line is not None else f"record {self.record}"

    def __str__(self) -> str:
        name = f" (id {self.id})" if self.id else ""
        field = f"field '{self.field}': " if self.field else ""
        return f"{self.file}, {self.place}{name}: {field}{self.reason}"


class FieldError(Exception):
    """A field of one record that is wrong; becomes a `RecordProblem` once the place in the file is known."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"field '{field}': {reason}")
        self.field = field
        self.reason = reason


class RecordError(DataError):
    """A record that does not say what it has to say; `problem` says which, where and why."""

    def __init__(self, problem: RecordProblem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return str(self.problem)


class RefusedRecordError(RefusedError):
    """A record that asks for something it is not trusted with, such as a file outside its folder."""

    def __init__(self, problem: RecordProblem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return str(self.problem)


class RecordFile:
    """The raw records of one annotation file, by position.

    Only where each record lies is held, memory-mapped from the cache for a large file (see `data.index`); a record is
    read and parsed when it is asked for. Pickling (for data-loader workers) passes on no content.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._spans: NDArray[np.int64] | None = None
        self._state: tuple[int, int] | None = None
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                self._layout, self._begin = _layout(path, content)
        except (OSError, ValueError) as error:  # ValueError: mmap's answer to a file without content
            why = "is empty" if isinstance(error, ValueError) else f"cannot be read: {error.strerror}"
            raise DataError(f"annotation file {path} {why}.") from error

    def __len__(self) -> int:
        return len(self._places())

    def __getitem__(self, position: int) -> Any:
        """The record as JSON gives it, which may be no object at all; a line that is no JSON is a `RecordError`."""
        content = self._content(position)
        try:
            return _decoded(content.decode("utf-8"))
        except _BAD_JSON as error:
            said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise RecordError(self.problem(position, "", f"is not JSON: {said}")) from error

    def escapes_surrogates(self, position: int) -> bool:
        r"""Whether the record has `\ud800` to `\udfff` in it: halves of characters, two of which are a whole one."""
        return _SURROGATE.search(self._content(position)) is not None

    def _content(self, position: int) -> bytes:
        places = self._places()
        start, end = int(places[position, 0]), int(places[position, 1])
        # At a place instead of from the last one: processes that were forked share the file.
        return os.pread(self._opened().fileno(), end - start, start)

    @property
    def is_large(self) -> bool:
        """Whether what is found out about it is worth keeping."""
        return os.fstat(self._opened().fileno()).st_size >= STORE_FROM_BYTES

    def problem(self, position: int, field: str, reason: str, name: str = "") -> RecordProblem:
        """A problem of the record at this position, with its place in the file."""
        line = int(self._places()[position, 2]) if self._layout == "lines" else None
        return RecordProblem(self.path, position, field, reason, name, line)

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def __getstate__(self) -> dict[str, Any]:
        kept = isinstance(self._spans, np.memmap)
        return {**self.__dict__, "_file": None, **({"_spans": None} if kept else {})}

    def _opened(self) -> BinaryIO:
        """The file, in the state in which its records were found."""
        if self._file is None:
            try:
                self._file = self.path.open("rb")
            except OSError as error:
                raise DataError(f"annotation file {self.path} cannot be read: {error.strerror}.") from error
            status = os.fstat(self._file.fileno())
            state = (status.st_size, status.st_mtime_ns)
            if self._state is not None and self._state != state:
                raise DataError(f"annotation file {self.path} was changed while it was in use; start again.")
            self._state = state
        return self._file

    def _places(self) -> NDArray[np.int64]:
        """Begin and end of every record in bytes, and the line where each has its own; shape (records, 2 or 3)."""
        if self._spans is None:
            if self.is_large:
                self._spans = index.stored("records", self.path, self._layout, self._walked)
            else:
                self._spans = self._walked()
        return self._spans

    def _walked(self) -> NDArray[np.int64]:
        with self.path.open("rb") as file:
            if self._layout == "lines":
                return line_spans(file, self._begin)
            walk = list_spans if self._layout == "list" else object_spans
            return walk(self.path, file, self._begin)


def _layout(path: Path, content: mmap.mmap) -> tuple[Layout, int]:
    """Which kind of file this is, and where its content begins."""
    begin = len(_BOM) if content[: len(_BOM)] == _BOM else 0
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise DataError(f"annotation file {path} is UTF-16; save it as UTF-8.")
    ink = _INK.search(content, begin)
    begin = ink.start() if ink else len(content)
    first = content[begin : begin + 1]
    if _one_a_line(content, begin):
        return "lines", begin
    if first in {b"[", b"{"}:
        return "list" if first == b"[" else "object", begin
    found = f"starts with {content[begin : begin + 20]!r}" if first else "is empty"
    raise DataError(f"annotation file {path} {found}; it is neither JSON nor JSONL.")


def _one_a_line(content: mmap.mmap, begin: int) -> bool:
    """Whether the file has one record a line; its first line may be damaged."""
    end = content.find(b"\n", begin, begin + _LONGEST_LINE if content[begin : begin + 1] == b"[" else len(content))
    following = _INK.search(content, end) if end >= 0 else None
    if following is None:
        return False
    first = content[begin:end].rstrip()
    if isinstance(_json(first), dict | list):
        return True
    # A first line that opens and closes an object is a damaged record; one that only opens it is indented JSON, unless
    # other lines are records.
    if first.startswith(b"{") and first.endswith(b"}"):
        return True
    second = content[following.start() : following.start() + _LONGEST_LINE].partition(b"\n")[0]
    last = content[max(begin, len(content) - _LONGEST_LINE) :].rstrip().rpartition(b"\n")[2]
    return isinstance(_json(second), dict) and isinstance(_json(last), dict)


def _json(line: bytes) -> object:
    """The value of a line; None if it is no JSON."""
    try:
        return json.loads(line)
    except _BAD_JSON:
        return None


_BAD_JSON = (ValueError, RecursionError)  # ValueError: bad JSON, bad UTF-8, an integer of thousands of digits
