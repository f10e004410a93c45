"""Annotation files as sequences of raw records: JSON lists, JSON objects that hold one list, and JSONL.

Which of them a file is is decided by its content, never by its name.
"""

from __future__ import annotations

import json
import mmap
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robointervlm.core.errors import DataError, RefusedError

_BOM = b"\xef\xbb\xbf"
_INK = re.compile(rb"[^ \t\r\n]")
# What only a record has: a JSON object with one of them is one record, not a file that holds a list of them.
_RECORD_KEYS = frozenset(
    ("conversations", "messages", "question", "sent", "text", "image", "image_path", "prompt")
    + ("id", "question_id", "sample_id", "doc_id", "pred", "prediction", "response", "gt", "gt_bbox", "doc")
)
Layout = Literal["list", "object", "lines"]


@dataclass(frozen=True)
class RecordProblem:
    """What is wrong with one record. `record` counts from 0; `line` from 1, where the file has one record a line.

    A `record` of -1 is the file as a whole.
    """

    file: Path
    record: int
    field: str
    reason: str
    id: str = ""
    line: int | None = None
    severity: Literal["error", "warning"] = "error"

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

    JSONL is memory-mapped and parsed record by record; only the byte offsets are held. A JSON list is parsed once and
    whole, on first use: it then takes several times its size in memory. An index for lists of gigabytes comes with the
    data tools; until then, JSONL is the format for them. Pickling (for data-loader workers) passes on the path and the
    offsets, not the content.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: list[Any] | None = None
        self._starts: array[int] | None = None
        self._numbers: array[int] = array("q")
        self._map: mmap.mmap | None = None
        self._layout, self._begin = self._inspect()

    def __len__(self) -> int:
        if self._layout == "lines":
            return len(self._offsets())
        return len(self._parsed())

    def __getitem__(self, index: int) -> Any:
        """The record as JSON gives it, which may be no object at all; a line that is no JSON is a `RecordError`."""
        if self._layout != "lines":
            return self._parsed()[index]
        start = self._offsets()[index]
        content = self._content()
        end = content.find(b"\n", start)
        line = content[start : end if end >= 0 else len(content)]
        try:
            return _parse(line)
        except _BAD_JSON as error:
            raise RecordError(self.problem(index, "", f"is not JSON: {_said(error)}")) from error

    def problem(self, index: int, field: str, reason: str, name: str = "") -> RecordProblem:
        """A problem of the record at this position, with its place in the file."""
        line = None
        if self._layout == "lines":
            self._offsets()
            line = self._numbers[index]
        return RecordProblem(self.path, index, field, reason, name, line)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None, "_records": None}

    def _inspect(self) -> tuple[Layout, int]:
        """Which kind of file this is, and where its content begins."""
        content = self._content()
        begin = len(_BOM) if content[: len(_BOM)] == _BOM else 0
        if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            raise DataError(f"annotation file {self.path} is UTF-16; save it as UTF-8.")
        ink = _INK.search(content, begin)
        begin = ink.start() if ink else len(content)
        first = content[begin : begin + 1]
        if first == b"[":
            return "list", begin
        if first == b"{":
            return _object_or_lines(content, begin), begin
        found = f"starts with {content[begin : begin + 20]!r}" if first else "is empty"
        raise DataError(f"annotation file {self.path} {found}; it is neither JSON nor JSONL.")

    def _content(self) -> mmap.mmap:
        if self._map is None:
            try:
                with self.path.open("rb") as file:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # ValueError: mmap's answer to a file without content
                why = "is empty" if isinstance(error, ValueError) else f"cannot be read: {error.strerror}"
                raise DataError(f"annotation file {self.path} {why}.") from error
        return self._map

    def _offsets(self) -> array[int]:
        if self._starts is None:
            content, starts, numbers = self._content(), array("q"), array("q")
            # Space in front of the first record may hold lines, too.
            begin, number = self._begin, content[: self._begin].count(b"\n") + 1
            while begin < len(content):
                end = content.find(b"\n", begin)
                end = len(content) if end < 0 else end
                if content[begin:end].strip():
                    starts.append(begin)
                    numbers.append(number)
                begin, number = end + 1, number + 1
            self._numbers = numbers
            self._starts = starts
        return self._starts

    def _parsed(self) -> list[Any]:
        if self._records is None:
            try:
                parsed = _parse(self._content()[self._begin :])
            except _BAD_JSON as error:
                raise DataError(f"annotation file {self.path} is not valid JSON: {_said(error)}.") from error
            self._records = parsed if isinstance(parsed, list) else self._list_inside(parsed)
        return self._records

    def _list_inside(self, content: dict[str, Any]) -> list[Any]:
        """The records of a JSON object: its one list of objects, or the object itself if it is a record."""
        if _RECORD_KEYS & set(content):
            return [content]
        lists = {key: value for key, value in content.items() if isinstance(value, list) and _of_objects(value)}
        if len(lists) != 1:
            found = f"has {len(lists)} of them ({', '.join(lists)})" if lists else f"has only {', '.join(content)}"
            raise DataError(
                f"annotation file {self.path} is one JSON object, in which one list of records is expected; it {found}."
            )
        return next(iter(lists.values()))


def _object_or_lines(content: mmap.mmap, begin: int) -> Layout:
    end = content.find(b"\n", begin)
    if end < 0 or _INK.search(content, end) is None:
        return "object"
    line = content[begin:end]
    try:
        json.loads(line)
    except _BAD_JSON:
        # A first line that opens and closes an object is a damaged record; one that only opens it is indented JSON.
        return "lines" if line.rstrip().endswith(b"}") else "object"
    return "lines"


def _of_objects(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


_BAD_JSON = (ValueError, RecursionError)  # ValueError: bad JSON, bad UTF-8, an integer of thousands of digits


def _parse(content: bytes) -> Any:
    return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _said(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
