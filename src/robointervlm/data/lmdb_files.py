"""LMDB files, looked up by key: a reader of our own for the one thing that is needed, which trusts nothing in the file.

The `lmdb` library maps the file into memory and follows what it says, so that a truncated or crafted file ends the
process. Here every page is read with its bounds checked, and damage is a `DataError`. There are no locks and no state
beyond the open file, so readers may be shared by threads and inherited by processes.

Format: data version 1 of 64-bit little-endian machines, as in `mdb.c` of OpenLDAP's LMDB 0.9: two meta pages, of which
the one with the higher transaction counts, and a B+ tree of pages.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from robointervlm.core.errors import DataError

_MAGIC = 0xBEEFC0DE
_VERSION = 1
_EMPTY = 2**64 - 1
_MAX_DEPTH = 32
_HEADER = struct.Struct("<QHHHH")  # page number, padding, flags, lower and upper end of the free space
_META = struct.Struct("<IIQQ48s48sQQ")  # magic, version, address, map size, two trees, last page, transaction
_TREE = struct.Struct("<IHHQQQQQ")  # page size (of the first tree), flags, depth, pages of three kinds, entries, root
_NODE = struct.Struct("<HHHH")  # two halves of the size of the value, flags, size of the key
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_BIG, _NESTED, _DUPLICATES = 1, 2, 4


class _Node(NamedTuple):
    low: int
    high: int
    flags: int
    key: bytes
    start: int
    """Where the node's value begins in its page."""


class _Meta(NamedTuple):
    transaction: int
    page_size: int
    root: int
    last_page: int


class LmdbFile:
    """The main table of an LMDB environment: a folder with `data.mdb`, or such a file itself.

    Raises `DataError` where the file is missing, truncated or damaged, when it is opened or when the damage is met.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / "data.mdb" if path.is_dir() else path
        try:
            self._file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise DataError(f"LMDB file {self.path} cannot be opened: {error.strerror}.") from error
        weakref.finalize(self, self._file.close)
        self._size = os.fstat(self._file.fileno()).st_size
        first = self._meta(0)
        meta = max(first, self._meta(first.page_size))
        self._page_size, self._root, self._last_page = meta.page_size, meta.root, meta.last_page

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def get(self, key: bytes, *, max_bytes: int = 2**31) -> bytes | None:
        """The value of a key; None if the key is not there. One of more than `max_bytes` is a `DataError`."""
        number = self._root
        for _ in range(_MAX_DEPTH):
            if number == _EMPTY:
                return None
            page, flags, nodes = self._page(number)
            if flags & _LEAF:
                index = _last_at_most(page, nodes, key, 0)
                node = _node(page, nodes[index]) if index >= 0 else None
                return None if node is None or node.key != key else self._value(page, node, max_bytes)
            # The first key of a branch is not written, and counts as lower than any other.
            number = _child(_node(page, nodes[_last_at_most(page, nodes, key, 1)]))
        return self._damaged("its tree has no end")

    def keys(self) -> Iterator[bytes]:
        """Every key, in order."""
        waiting, seen = [(self._root, 0)], 0
        while waiting:
            number, depth = waiting.pop()
            if number == _EMPTY:
                continue
            seen += 1
            if depth > _MAX_DEPTH or seen > self._last_page + 1:
                self._damaged("its tree has no end")
            page, flags, nodes = self._page(number)
            if flags & _LEAF:
                yield from (_node(page, start).key for start in nodes)
            else:
                waiting += [(_child(_node(page, start)), depth + 1) for start in reversed(nodes)]

    def _meta(self, offset: int) -> _Meta:
        content = self._read(offset + _HEADER.size, _META.size)
        magic, version, _, _, free, main, last_page, transaction = _META.unpack(content)
        page_size = _TREE.unpack(free)[0]
        *_, root = _TREE.unpack(main)
        if magic != _MAGIC or version != _VERSION:
            self._damaged("it is no LMDB file of data version 1 on a 64-bit machine")
        if not 512 <= page_size <= 65536 or page_size & (page_size - 1):
            self._damaged(f"its pages have {page_size} bytes")
        return _Meta(transaction, page_size, root, last_page)

    def _page(self, number: int) -> tuple[bytes, int, list[int]]:
        """A page of the tree: its bytes, what it is, and where its nodes begin; at least one."""
        page = self._read(self._offset(number), self._page_size)
        own_number, _, flags, lower, _ = _HEADER.unpack_from(page)
        count = (lower - _HEADER.size) // 2
        if own_number != number or flags & 0x7FFF not in {_BRANCH, _LEAF} or count < 1 or lower > self._page_size:
            self._damaged(f"page {number} is not a page of its tree")
        return page, flags, list(struct.unpack_from(f"<{count}H", page, _HEADER.size))

    def _value(self, page: bytes, node: _Node, max_bytes: int) -> bytes:
        size = node.low | node.high << 16
        if node.flags & (_NESTED | _DUPLICATES):
            raise DataError(f"LMDB file {self.path}: key {node.key[:80]!r} holds a table, not one value.")
        if size > max_bytes:
            raise DataError(f"LMDB file {self.path}: key {node.key[:80]!r} has {size} bytes; the limit is {max_bytes}.")
        if not node.flags & _BIG:
            value = page[node.start : node.start + size]
        else:
            (number,) = struct.unpack_from("<Q", page[node.start : node.start + 8].ljust(8, b"\xff"))
            value = self._read(self._offset(number) + _HEADER.size, size)
        if len(value) != size:
            self._damaged(f"the value of {node.key[:80]!r} leads out of its page")
        return value

    def _offset(self, number: int) -> int:
        if number > self._last_page:
            self._damaged(f"it refers to page {number}, and the last one is {self._last_page}")
        return number * self._page_size

    def _read(self, offset: int, size: int) -> bytes:
        content = os.pread(self._file.fileno(), size, offset) if offset + size <= self._size else b""
        if len(content) != size:
            self._damaged(f"it is truncated: {self._size} bytes, read at {offset}")
        return content

    def _damaged(self, why: str) -> NoReturn:
        raise DataError(f"LMDB file {self.path} is damaged: {why}.")


def _node(page: bytes, start: int) -> _Node:
    if start + _NODE.size > len(page):
        return _Node(0, 0, 0, b"", len(page))
    low, high, flags, key_size = _NODE.unpack_from(page, start)
    begin = start + _NODE.size
    return _Node(low, high, flags, page[begin : begin + key_size], begin + key_size)


def _child(node: _Node) -> int:
    return node.low | node.high << 16 | node.flags << 32


def _last_at_most(page: bytes, nodes: list[int], key: bytes, first: int) -> int:
    """The position of the last node, from `first` on, whose key is not above the one looked for; `first` - 1 if none.

    Keys are ordered by their bytes, a shorter one before its continuations.
    """
    low, high = first, len(nodes)
    while low < high:
        middle = (low + high) // 2
        if _node(page, nodes[middle]).key <= key:
            low = middle + 1
        else:
            high = middle
    return low - 1
