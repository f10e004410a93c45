"""Zip archives of pictures, read member by member: also of millions of members, also split into parts.

`zipfile` holds an object per member and one position for all readers. Here an archive is a table of 16 bytes per
member, and every read says where it reads: threads may share an archive and processes inherit it. Stored and deflated
members are read; sizes and checksums are those of the central directory, and a member that differs is damaged.

Format: PKWARE's APPNOTE 6.3, with ZIP64. Parts `x.zip.00`, `x.zip.01`, … are one file cut into pieces (as `split -d`
does), not the format's own spanning.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import weakref
import zlib
from array import array
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import numpy as np

from robointervlm.core.errors import DataError, RefusedError

PART = re.compile(r"(?P<whole>.+\.zip)\.(?P<number>\d{2,4})", re.IGNORECASE)

_END = struct.Struct("<4s4H2LH")
_END_64_PLACE = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_MEMBER = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_CHUNK = 1 << 20


class Member(NamedTuple):
    """One member of an archive, as the central directory says."""

    name: str
    flags: int
    method: int
    checksum: int
    packed_size: int
    size: int
    mode: int
    """The Unix file mode; 0 where the archive says none."""
    offset: int
    entry: int
    """Where in the archive this description stands."""

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    @property
    def is_encrypted(self) -> bool:
        return bool(self.flags & 0x1)

    @property
    def is_special(self) -> bool:
        """Whether it is a link, a device or a pipe."""
        kind = stat.S_IFMT(self.mode)
        return kind not in {0, stat.S_IFDIR if self.is_folder else stat.S_IFREG}


class Archive:
    """A zip archive by its path; for a split one, by that of its first part.

    Raises `DataError` where it is missing, truncated or damaged, when it is opened or when the damage is met.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: list[tuple[BinaryIO, int]] = []
        self.size = 0
        for part in parts_of(path):
            try:
                file = part.open("rb", buffering=0)
            except OSError as error:
                raise DataError(f"archive {part} cannot be opened: {error.strerror}.") from error
            weakref.finalize(self, file.close)
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RefusedError(f"archive {part} is not a regular file.")
            self._parts.append((file, self.size))
            self.size += status.st_size
        self._begin, self._directory, self._directory_size, self.count = self._end()
        self._table: tuple[np.ndarray, np.ndarray] | None = None

    def close(self) -> None:
        """Closes the files."""
        for file, _ in self._parts:
            file.close()

    def members(self, entry: int | None = None, count: int | None = None) -> Iterator[Member]:
        """Every member, in the order of the central directory, which is read piece by piece.

        With `entry` and `count`, so many members from the one that is described there.
        """
        place, end = self._directory if entry is None else entry, self._directory + self._directory_size
        buffer, start = b"", place
        for _ in range(self.count if count is None else count):
            # The longest description: three fields of 64 KB.
            if place + _MEMBER.size + 3 * 65535 > start + len(buffer) and start + len(buffer) < end:
                buffer, start = self._read(place, min(_CHUNK, end - place)), place
            member, length = self._member(buffer, place - start, place)
            yield member
            place += length

    def find(self, name: str) -> Member | None:
        """The member of this name. The first call goes through the whole directory."""
        if self._table is None:
            pairs = array("q")
            for member in self.members():
                pairs.extend((hash(member.name), member.entry))
            table = np.frombuffer(pairs, np.int64).reshape(-1, 2)
            order = np.argsort(table[:, 0], kind="stable")
            self._table = table[order, 0], table[order, 1]
        hashes, entries = self._table
        wanted = hash(name)
        index = int(np.searchsorted(hashes, wanted))
        while index < len(hashes) and hashes[index] == wanted:
            entry = int(entries[index])
            length = min(_MEMBER.size + 3 * 65535, self._directory + self._directory_size - entry)
            member, _ = self._member(self._read(entry, length), 0, entry)
            if member.name == name:
                return member
            index += 1
        return None

    def content(self, member: Member) -> Iterator[bytes]:
        """The member's bytes, piece by piece; a member that is not what the directory says raises at its end."""
        if member.is_encrypted:
            self._damaged(f"'{member.name[:200]}' is encrypted")
        if member.method not in {_STORED, _DEFLATED}:
            self._damaged(f"'{member.name[:200]}' is packed by method {member.method}; stored and deflated are read")
        checksum, size = 0, 0
        try:
            for piece in self._pieces(member):
                checksum, size = zlib.crc32(piece, checksum), size + len(piece)
                if size > member.size:
                    break
                yield piece
        except zlib.error as error:
            self._damaged(f"'{member.name[:200]}' cannot be unpacked: {error}")
        if (size, checksum) != (member.size, member.checksum):
            self._damaged(f"'{member.name[:200]}' has not the size or the checksum that it should have")

    def read(self, member: Member, max_bytes: int) -> bytes:
        """The member as a whole; a `RefusedError` if it is larger than allowed."""
        if member.size > max_bytes:
            raise RefusedError(
                f"'{member.name[:200]}' in {self.path} has {member.size / 1e6:.0f} MB; "
                f"the limit is {max_bytes // 10**6}."
            )
        return b"".join(self.content(member))

    def directory_digest(self) -> int:
        """A checksum of the central directory: of all names, sizes and checksums."""
        checksum, place, end = 0, self._directory, self._directory + self._directory_size
        while place < end:
            piece = self._read(place, min(_CHUNK, end - place))
            checksum, place = zlib.crc32(piece, checksum), place + len(piece)
        return checksum

    def _pieces(self, member: Member) -> Iterator[bytes]:
        """The member's bytes unpacked, never much more at once than is asked for."""
        begin = self._begin + member.offset
        signature, *_, name_size, extra_size = _LOCAL.unpack(self._read(begin, _LOCAL.size))
        if signature != b"PK\3\4":
            self._damaged(f"'{member.name[:200]}' is not where it should be")
        place, left = begin + _LOCAL.size + name_size + extra_size, member.packed_size
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == _DEFLATED else None
        while left:
            packed = self._read(place, min(_CHUNK, left))
            place, left = place + len(packed), left - len(packed)
            if unpacker is None:
                yield packed
                continue
            while packed:
                yield unpacker.decompress(packed, _CHUNK)
                packed = unpacker.unconsumed_tail

    def _end(self) -> tuple[int, int, int, int]:
        """What lies in front of the archive; place and size of the central directory; the number of members."""
        tail = self._read(max(0, self.size - _END.size - 65535), min(self.size, _END.size + 65535))
        found = tail.rfind(b"PK\5\6")
        if found < 0 or found + _END.size > len(tail):
            self._damaged("it has no end record; it is truncated, or no zip archive")
        place = self.size - len(tail) + found
        _, _, _, _, count, size, offset, _ = _END.unpack_from(tail, found)
        if 0xFFFF in {count} or 0xFFFFFFFF in {size, offset}:
            place, count, size, offset = self._end_64(place)
        begin = place - size - offset
        if begin < 0 or size < count * _MEMBER.size:
            self._damaged("its end record says what cannot be; it is truncated, or a part is missing")
        return begin, place - size, size, count

    def _end_64(self, end: int) -> tuple[int, int, int, int]:
        """Place of the long end record, and the number of members, size and place of the directory in it."""
        place = end - _END_64_PLACE.size
        signature, _, offset, _ = _END_64_PLACE.unpack(self._read(place, _END_64_PLACE.size))
        if signature != b"PK\6\7":
            # 65535 members, and no long record: the short one means what it says.
            _, _, _, _, count, size, offset, _ = _END.unpack(self._read(end, _END.size))
            return end, count, size, offset
        signature, *_, count, size, directory = _END_64.unpack(self._read(offset, _END_64.size))
        if signature != b"PK\6\6":
            self._damaged("its ZIP64 end record is not where it should be")
        return offset, count, size, directory

    def _member(self, buffer: bytes, start: int, entry: int) -> tuple[Member, int]:
        """The description that starts there, and its length."""
        if start + _MEMBER.size > len(buffer):
            self._damaged("its directory ends too early")
        fields = _MEMBER.unpack_from(buffer, start)
        signature, made_by, _, flags, method, _, _, checksum, packed, size = fields[:10]
        name_size, extra_size, comment_size, _, _, attributes, offset = fields[10:]
        begin = start + _MEMBER.size
        length = _MEMBER.size + name_size + extra_size + comment_size
        if signature != b"PK\1\2" or start + length > len(buffer):
            self._damaged("its directory is not one")
        if 0xFFFFFFFF in {packed, size, offset}:
            extra = buffer[begin + name_size : begin + name_size + extra_size]
            size, packed, offset = self._long_sizes(extra, (size, packed, offset))
        if offset + packed > self.size or size >= 2**62:
            self._damaged("a member lies outside of it; it is truncated, or a part is missing")
        written = buffer[begin : begin + name_size]
        try:
            name = written.decode("utf-8")
        except UnicodeDecodeError:  # without the flag for UTF-8 it mostly is that nevertheless, and cp437 if not
            name = written.decode("utf-8", "replace") if flags & 0x800 else written.decode("cp437")
        mode = attributes >> 16 if made_by >> 8 == 3 or attributes >> 28 else 0
        return Member(name, flags, method, checksum, packed, size, mode, offset, entry), length

    def _long_sizes(self, extra: bytes, short: tuple[int, int, int]) -> tuple[int, int, int]:
        """Size, packed size and offset; those that do not fit 32 bits stand in an extra field, in this order."""
        place = 0
        while place + 4 <= len(extra):
            kind, length = struct.unpack_from("<2H", extra, place)
            if kind == 1:
                long = iter(struct.unpack(f"<{length // 8}Q", extra[place + 4 : place + 4 + length // 8 * 8]))
                size, packed, offset = (next(long, -1) if value == 0xFFFFFFFF else value for value in short)
                if -1 not in {size, packed, offset}:
                    return size, packed, offset
            place += 4 + length
        return self._damaged("a member's ZIP64 sizes are missing")

    def _read(self, offset: int, size: int) -> bytes:
        """The bytes at a place of the whole archive, of whichever parts they are."""
        if offset < 0 or offset + size > self.size:
            self._damaged(f"it is truncated: {self.size} bytes, and something at {offset}")
        pieces = []
        for number, (file, start) in enumerate(self._parts):
            end = self._parts[number + 1][1] if number + 1 < len(self._parts) else self.size
            begin, stop = max(offset, start), min(offset + size, end)
            if begin < stop:
                pieces.append(os.pread(file.fileno(), stop - begin, begin - start))
        content = b"".join(pieces)
        if len(content) != size:
            self._damaged("it became shorter while it was read")
        return content

    def _damaged(self, why: str) -> NoReturn:
        raise DataError(f"archive {self.path} cannot be read: {why}.")


def parts_of(path: Path) -> list[Path]:
    """The files that together are the archive: itself, or of a split one all parts in order.

    Raises `DataError` if a part is missing between others; a missing last one shows as a truncated archive.
    """
    split = PART.fullmatch(path.name)
    if split is None:
        return [path]
    found = {
        int(other["number"]): file
        for file in path.parent.iterdir()
        if (other := PART.fullmatch(file.name)) is not None and other["whole"] == split["whole"]
    }
    first = int(split["number"])
    missing = [number for number in range(first, max(found, default=0) + 1) if number not in found]
    if missing or not found:
        raise DataError(f"archive {path}: part {missing[0] if missing else first:02d} is missing; download it again.")
    return [found[number] for number in sorted(found) if number >= first]


def split_at_archive(root: Path, path: str) -> tuple[str, str] | None:
    """Where a path below `root` enters an archive: the archive's path below `root`, and the member's name.

    The archive may be `root` itself; its path is then empty. None if the path enters no archive.
    """
    if ".zip" in root.name.lower() and is_archive(root) and root.is_file():
        return "", path
    if ".zip" not in path.lower():
        return None
    parts = path.split("/")
    for count in range(1, len(parts)):
        outer = "/".join(parts[:count])
        # `Path.is_file` raises for a name that is too long.
        if is_archive(Path(parts[count - 1])) and os.path.isfile(root / outer):  # noqa: PTH113
            return outer, "/".join(parts[count:])
    return None


def is_archive(path: Path) -> bool:
    """Whether a path is named as a zip archive, or as the first part of a split one."""
    split = PART.fullmatch(path.name)
    return path.suffix.lower() == ".zip" if split is None else int(split["number"]) in {0, 1}


def opened_archive(path: Path) -> Archive:
    """The archive, kept open by this process; opened anew when its files have changed."""
    try:
        status = path.stat()
        # Of a split archive, another part may have come or gone.
        parts_changed = path.parent.stat().st_mtime_ns if PART.fullmatch(path.name) else 0
    except OSError as error:
        raise DataError(f"archive {path} cannot be opened: {error.strerror}.") from error
    return _kept(path, status.st_ino, status.st_size, status.st_mtime_ns, parts_changed)


@lru_cache(maxsize=32)
def _kept(path: Path, *_: int) -> Archive:
    return Archive(path)
