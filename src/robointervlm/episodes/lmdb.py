"""RoboInter's own layout as a source of episodes: pictures in one LMDB per episode, labels in one LMDB for all.

`<folder>/<episode>/meta_info.pkl` and `lmdb/data.mdb` are as in `data.episode_frames`. The labels are a table with the
episode's name as the key and a pickle of {frame: {column: value}} as the value, as `Annotation_pure` of RoboInter-Data
is described; or one pickle of {episode: {frame: {column: value}}}. Nothing in a pickle is run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.sample import ImageRef
from robointervlm.data import images
from robointervlm.data.episode_frames import DEFAULT_CAMERA, EpisodeFrame, frame_count
from robointervlm.data.lmdb_files import LmdbFile
from robointervlm.data.pickles import MAX_BYTES, read_pickle
from robointervlm.episodes.lerobot.cells import Row
from robointervlm.episodes.lerobot.dataset import Listed
from robointervlm.episodes.lerobot.read import Recording, labelled
from robointervlm.episodes.lerobot.video import Picture
from robointervlm.episodes.recorded import RecordedConfig

# What an episode may be called in the names of files and records.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,150}")


class LmdbConfig(RecordedConfig):
    """Of recordings in LMDB: ``folder`` has a folder for each episode, ``annotations`` the labels of all."""

    columns = Path(__file__).parent / "lerobot" / "mappings" / "robointer_lmdb.yaml"

    def open(self) -> LmdbSource:
        if self.annotations is None:
            raise RecipeError("--source lmdb needs --annotations, the LMDB or the pickle with the labels.")
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is no folder of episodes.")
        return LmdbSource(self, self.annotations)


class LmdbSource:
    """The episodes that have labels, numbered in the order of their names."""

    def __init__(self, config: LmdbConfig, annotations: Path) -> None:
        self.config = config
        self.camera = config.camera or config.mapping.camera or DEFAULT_CAMERA
        self._labels = _labels(annotations)

    @property
    def numbers(self) -> Sequence[int]:
        return range(len(self._names))

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"\0".join(self._names)).hexdigest()[:16]

    @cached_property
    def _names(self) -> list[bytes]:
        names = sorted(self._labels.keys())
        if not names:
            raise DataError(f"{self.config.annotations} has labels of no episode.")
        return names

    def read(self, number: int) -> Recording:
        name = self._name(number)
        meta = images.locate(ImageRef(self.config.folder, f"{name}/meta_info.pkl"))
        count = frame_count(meta, self.camera)
        if not count:
            raise DataError(f"{meta} names no frame of the camera '{self.camera}'.")
        listed = Listed(number, None, (), {}, name)
        columns = self.config.mapping.columns
        rows = _rows(self._labels.of(self._names[number]), columns, count, what=f"the labels of '{name}'")
        episode = labelled(
            rows, listed, self.config.mapping,
            frames=self.config.frames, film=lambda steps: self.pictures(number, steps),
        )  # fmt: skip
        return Recording(episode, ())

    def pictures(self, number: int, steps: Sequence[int]) -> list[Picture]:
        name = self._name(number)
        swapped = self.config.mapping.channels == "bgr"
        frames = (EpisodeFrame(name, self.camera, step, swapped=swapped) for step in steps)
        return [images.load(ImageRef(self.config.folder, str(frame))) for frame in frames]

    def _name(self, number: int) -> str:
        name = self._names[number].decode("utf-8", "backslashreplace")
        if not _NAME.fullmatch(name):
            raise DataError(f"an episode is called {name[:80]!r}; letters, digits, '_', '-' and '.' are expected.")
        return name


class _Table:
    """Labels in an LMDB; one episode is read at a time."""

    def __init__(self, path: Path) -> None:
        self._file = LmdbFile(path)

    def keys(self) -> list[bytes]:
        return list(self._file.keys())

    def of(self, name: bytes) -> Any:
        content = self._file.get(name, max_bytes=MAX_BYTES)
        return read_pickle(content or b"", f"{self._file.path}, key {name[:80]!r},")


class _Pickle:
    """Labels in one pickle, which is held as a whole and therefore must be small."""

    def __init__(self, path: Path) -> None:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                f"{path} has {path.stat().st_size / 1e6:.0f} MB; a pickle of up to {MAX_BYTES // 10**6} is read. "
                "Larger ones have to be an LMDB with one episode under each key."
            )
        found = read_pickle(path.read_bytes(), str(path))
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            raise DataError(f"{path} holds no dictionary of episodes by their names.")
        self._found = {name.encode(): labels for name, labels in found.items()}

    def keys(self) -> list[bytes]:
        return list(self._found)

    def of(self, name: bytes) -> Any:
        return self._found[name]


def _labels(path: Path) -> _Table | _Pickle:
    if not path.exists():
        raise DataError(f"{path} is missing; the labels are expected there.")
    return _Pickle(path) if path.is_file() and path.suffix in {".pkl", ".pickle"} else _Table(path)


def _rows(found: Any, columns: Sequence[str], count: int, *, what: str) -> list[Row]:
    """A row with these columns for each of ``count`` frames; empty cells where a frame has no labels."""
    if not isinstance(found, dict) or not all(isinstance(labels, dict) for labels in found.values()):
        raise DataError(f"{what} are no dictionary of frames.")
    if wrong := [frame for frame in found if not isinstance(frame, int) or not 0 <= frame < count]:
        raise DataError(f"{what} are of frame {wrong[0]!r}; it has {count} frames.")
    told = set().union(*found.values()) if found else set()
    if missing := [column for column in columns if column not in told]:
        raise DataError(f"{what} have no column '{missing[0]}'; they have {', '.join(sorted(map(str, told)))[:400]}.")
    return [{column: _plain(found.get(frame, {}).get(column)) for column in columns} for frame in range(count)]


def _plain(value: Any) -> Any:
    """Arrays, their numbers and tuples as lists and plain numbers."""
    match value:
        case np.ndarray() if value.dtype.names is None:
            return value.tolist()
        case np.generic():
            return value.item()
        case list() | tuple():
            return [_plain(item) for item in value]
    return value
