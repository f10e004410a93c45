"""Pictures that are frames of recordings in LMDB, in the layout that RoboInter is published in.

`<episode>/meta_info.pkl` names, for each camera, the keys of its frames; `<episode>/lmdb/data.mdb` holds under each key
a pickle of an encoded picture. Both are read as data: nothing in them is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from robointervlm.core.errors import DataError
from robointervlm.data.lmdb_files import LmdbFile
from robointervlm.data.pickles import MAX_BYTES, read_pickle

DEFAULT_CAMERA = "primary"
_FORM = re.compile(r"lmdb(?P<swapped>-bgr)?:(?P<camera>[^:]+):(?P<episode>.+)#(?P<index>\d{1,9})", re.DOTALL)
_KEY = re.compile(r"[^#]+#\d{1,9}", re.DOTALL)


class EpisodeFrame(NamedTuple):
    """One frame: of which episode folder (a relative path), which camera, and the how-manieth, from 0.

    `swapped` is for recordings whose pictures were encoded with red and blue exchanged.
    """

    episode: str
    camera: str
    number: int
    swapped: bool = False

    @classmethod
    def read(cls, path: str) -> Self | None:
        """The frame that `str()` wrote as a path; None for any other path."""
        found = _FORM.fullmatch(path) if path.startswith("lmdb") else None
        return found and cls(found["episode"], found["camera"], int(found["index"]), found["swapped"] is not None)

    def __str__(self) -> str:
        return f"lmdb{'-bgr' * self.swapped}:{self.camera}:{self.episode}#{self.number}"

    def content(self, meta: Path, data: Path, max_bytes: int) -> bytes:
        """The encoded picture, given the episode's two files. A `DataError` if it is not there or damaged."""
        keys = _keys(meta, *_version(meta)).get(self.camera)
        if keys is None:
            known = ", ".join(sorted(_keys(meta, *_version(meta)))) or "none"
            raise DataError(f"{meta} has no camera '{self.camera}'; it has {known[:200]} (`camera:` of the dataset).")
        if self.number >= len(keys):
            raise DataError(f"{meta} has {len(keys)} frames of '{self.camera}', and {self.number} is asked for.")
        value = _table(data, *_version(data)).get(keys[self.number], max_bytes=max_bytes)
        if value is None:
            raise DataError(f"{data} has no key {keys[self.number][:80]!r}, which {meta} names.")
        encoded = read_pickle(value, f"{data}, key {keys[self.number][:80]!r},")
        # The bytes of the picture's file: as they are, or as the array of bytes that OpenCV encodes to.
        if isinstance(encoded, np.ndarray) and encoded.dtype == np.uint8:
            return encoded.tobytes()
        if isinstance(encoded, bytes):
            return encoded
        raise DataError(f"{data} holds {type(encoded).__name__} where an encoded picture is expected.")


def frame_count(meta: Path, camera: str) -> int:
    """How many frames of a camera an episode's `meta_info.pkl` names; 0 if it has no such camera."""
    return len(_keys(meta, *_version(meta)).get(camera, ()))


def is_frame_key(path: str) -> bool:
    """Whether the last part of a picture's path reads as `episode#index`."""
    return "#" in path and _KEY.fullmatch(path.rpartition("/")[2]) is not None


def frame_of_key(path: str, folder: str, camera: str, *, swapped: bool) -> EpisodeFrame:
    """The frame that a record's `…/episode#index` names, of an episode below `folder`."""
    episode, _, index = path.rpartition("/")[2].rpartition("#")
    return EpisodeFrame(f"{folder}/{episode}", camera, int(index), swapped)


def _version(file: Path) -> tuple[int, int, int]:
    """What changes when the file does."""
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"episode file {file} cannot be opened: {error.strerror}.") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=256)
def _table(data: Path, *_: int) -> LmdbFile:
    return LmdbFile(data)


@lru_cache(maxsize=256)
def _keys(meta: Path, *version: int) -> Mapping[str, list[bytes]]:
    """The keys of each camera's frames."""
    if version[1] > MAX_BYTES:
        raise DataError(f"{meta} has {version[1] / 1e6:.0f} MB; {MAX_BYTES // 10**6} are read.")
    try:
        content = read_pickle(meta.read_bytes(), str(meta))
    except OSError as error:
        raise DataError(f"episode file {meta} cannot be read: {error.strerror}.") from error
    cameras = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(cameras, dict):
        raise DataError(f"{meta} has no dictionary 'keys' of cameras.")
    return {
        str(camera): [key.encode() if isinstance(key, str) else key for key in keys]
        for camera, keys in cameras.items()
        if isinstance(keys, list | tuple) and all(isinstance(key, str | bytes) for key in keys)
    }
