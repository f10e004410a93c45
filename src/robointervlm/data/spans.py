"""Where each record of an annotation file begins and ends, in bytes; found with constant memory.

JSON is read by Python's own parser, a window of the file at a time, so that strings with braces, escapes and nesting
are what they are for `json.loads`, and the structure of a list is known to be right once it has been walked. What only
one value has wrong is passed over here, and found when that record is read: NaN, a number of thousands of digits,
nesting without end, bytes that are not UTF-8. The window is decoded as Latin-1, in which a character is a byte and the
structure of UTF-8 JSON is the same.
"""

from __future__ import annotations

import json
import re
from array import array
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.errors import DataError

CHUNK = 1 << 22
# What only a record has: a JSON object with one of them is one record, not a file that holds a list of them.
_RECORD_KEYS = frozenset(
    ("conversations", "messages", "question", "sent", "text", "image", "image_path", "prompt")
    + ("id", "question_id", "sample_id", "doc_id", "pred", "prediction", "response", "gt", "gt_bbox", "doc")
)
_WHITE = re.compile(r"[ \t\r\n]*")
# A bracket, a text, in which brackets mean nothing, or the beginning of a text that is cut off.
_BRACKET = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*"|"', re.DOTALL)
# A value cut off by the end of the window fails within the last characters of it: the longest, \uXXXX\uXXXX, has 12.
_NEAR_END = 16

Spans = NDArray[np.int64]
"""Begin and end of every record, shape (records, 2)."""


def refuse_constant(name: str) -> NoReturn:
    """For the parser: NaN and the infinities are not JSON."""
    raise ValueError(f"{name} is not a JSON number")


class NotJsonError(Exception):
    """What is wrong with a file, at which byte."""

    def __init__(self, reason: str, byte: int) -> None:
        super().__init__(reason)
        self.byte = byte


def line_spans(file: BinaryIO, begin: int) -> NDArray[np.int64]:
    """Begin, end and line number (from 1) of every line with something on it, shape (lines, 3)."""
    found = array("q")
    number = file.read(begin).count(b"\n") + 1
    for line in file:
        if line.strip():
            found.extend((begin, begin + len(line), number))
        begin, number = begin + len(line), number + 1
    return _rows(found, 3)


def list_spans(path: Path, file: BinaryIO, begin: int) -> Spans:
    """The records of a file that is one list. Raises `DataError` if it is not valid JSON to its end."""
    found = array("q")
    try:
        window = _Window(file, begin)
        _walk_list(window, found)
        window.end()
    except NotJsonError as error:
        where = f"byte {error.byte}, in record {len(found) // 2}"
        raise DataError(f"annotation file {path} is not valid JSON: {error} ({where}).") from error
    return _rows(found, 2)


def object_spans(path: Path, file: BinaryIO, begin: int) -> Spans:
    """The records of a file that is one object: its one list of objects, or the object itself if it is a record."""
    try:
        window = _Window(file, begin)
        keys, lists = _walk_object(window)
        end = window.byte
        window.end()
    except NotJsonError as error:
        raise DataError(f"annotation file {path} is not valid JSON: {error} (byte {error.byte}).") from error
    if _RECORD_KEYS & set(keys):
        return np.array([[begin, end]], dtype=np.int64)
    if len(lists) != 1:
        found = f"has {len(lists)} of them ({', '.join(lists)})" if lists else f"has only {', '.join(keys)}"
        raise DataError(
            f"annotation file {path} is one JSON object, in which one list of records is expected; it {found}."
        )
    return _rows(next(iter(lists.values())), 2)


def _rows(found: array[int], columns: int) -> NDArray[np.int64]:
    return np.array(found, dtype=np.int64).reshape(-1, columns)


class _Window:
    """The file as text, from a place that only moves forward."""

    def __init__(self, file: BinaryIO, begin: int) -> None:
        self._file = file
        self._start = begin
        self._text = ""
        self._at = 0
        self._ended = False
        self._decoder = json.JSONDecoder(parse_constant=str, parse_int=float)  # no number is refused
        file.seek(begin)

    @property
    def byte(self) -> int:
        """The place in the file."""
        return self._start + self._at

    def peek(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            white = _WHITE.match(self._text, self._at)
            self._at = white.end() if white else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def took(self, mark: str) -> bool:
        """Whether the next character is this one, which is then passed."""
        found = self.peek() == mark
        self._at += found
        return found

    def value(self) -> tuple[Any, int, int]:
        """The next JSON value, its text taken for Latin-1, and where it begins and ends."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut_off = error.pos >= len(self._text) - _NEAR_END or error.msg.startswith("Unterminated string")
                if self._ended or not cut_off:
                    self.fail(error.msg, error.pos)
            except RecursionError:
                behind = _end_of_nested(self._text, self._at)
                if behind is not None:
                    start, opening, self._at = self.byte, self._text[self._at], behind
                    return ({} if opening == "{" else []), start, self.byte
                if self._ended:
                    self.fail("it is nested too deeply", self._at)
            else:
                # A number at the end of the window may go on behind it.
                if self._ended or end < len(self._text) - _NEAR_END:
                    start, self._at = self.byte, end
                    return value, start, self.byte
            self._more()

    def end(self) -> None:
        """Raise unless nothing but space is left."""
        if self.peek():
            self.fail("Extra data", self._at)

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """Raise `NotJsonError` at a place of the window."""
        raise NotJsonError(reason, self._start + (self._at if at is None else at))

    def _more(self) -> None:
        """Read on. What lies behind is dropped; a value too long for the window doubles it."""
        rest = self._text[self._at :]
        chunk = self._file.read(max(CHUNK, len(rest)))
        self._start, self._text, self._at = self.byte, rest + chunk.decode("latin-1"), 0
        self._ended = not chunk


def _end_of_nested(text: str, begin: int) -> int | None:
    """Where the list or object ends that begins here, by its brackets alone; None if the text ends before it."""
    depth = 0
    for found in _BRACKET.finditer(text, begin):
        if found[0] == '"':
            return None
        depth += 1 if found[0] in "[{" else -1 if found[0] in "]}" else 0
        if depth == 0:
            return found.end()
    return None


def _walk_list(window: _Window, found: array[int]) -> int:
    """Note the place of every value of the list that begins here; how many of them are no objects."""
    others = 0
    window.took("[")
    if window.took("]"):
        return others
    while True:
        value, start, end = window.value()
        found.extend((start, end))
        others += not isinstance(value, dict)
        if window.took("]"):
            return others
        if not window.took(","):
            window.fail("Expecting ',' delimiter")


def _walk_object(window: _Window) -> tuple[list[str], dict[str, array[int]]]:
    """The keys of the object that begins here, and its lists of objects, by key.

    Where none holds objects only, what is no object in a list of most of them is a wrong record.
    """
    keys: dict[str, None] = {}
    lists: dict[str, array[int]] = {}
    mixed: dict[str, array[int]] = {}
    window.took("{")
    if window.took("}"):
        return [], {}
    while True:
        if window.peek() != '"':
            window.fail("Expecting property name enclosed in double quotes")
        key = _as_utf8(window.value()[0])
        if not window.took(":"):
            window.fail("Expecting ':' delimiter")
        keys[key] = None
        lists.pop(key, None)
        mixed.pop(key, None)
        if window.peek() == "[":
            places = array("q")
            others = _walk_list(window, places)
            if not others:
                lists[key] = places
            elif others < len(places) / 4:  # of two numbers for each value: half of them
                mixed[key] = places
        else:
            window.value()
        if window.took("}"):
            return list(keys), lists or mixed
        if not window.took(","):
            window.fail("Expecting ',' delimiter")


def _as_utf8(text: str) -> str:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:  # it was written with \u escapes
        return text
