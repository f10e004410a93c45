"""A LeRobot dataset on disk: which episodes it lists, their rows, and where in which video their frames are.

v2.1 has a parquet file and a video per episode, listed in `meta/episodes.jsonl`; v3.0 has many episodes in a file, and
`meta/episodes/**/*.parquet` says where each begins. Metadata is not trusted: paths stay inside the folder, and what
does not fit is a `DataError` of that episode, so that the others can be used.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError, RecipeError, RefusedError
from robointervlm.data.annotations import RecordFile

V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
# Names and widths, nothing that format() would look up inside a value.
_PLACEHOLDER = re.compile(r"\{([a-z_]+)(?::0?([0-9]{1,2})d)?\}")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class VideoPlace:
    """A file and the seconds in it at which an episode begins. ``alone`` tells that it holds this episode only."""

    file: Path
    begin_seconds: float
    alone: bool


@dataclass(frozen=True)
class Listed:
    """An episode as the metadata lists it; ``row`` is all that it says, ``name`` what it goes by if not its number."""

    index: int
    length: int | None
    tasks: tuple[str, ...]
    row: Row = field(repr=False)
    name: str = ""


class LeRobotDataset:
    """The metadata of a dataset folder. Raises `DataError` if there is none, or no version that is read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = _json_object(root / "meta" / "info.json")
        version = str(self.info.get("codebase_version", ""))
        if version not in {"v2.0", "v2.1", "v3.0"}:
            raise DataError(f"{root}: LeRobot {version or 'of no version'} is not read; v2.1 and v3.0 are.")
        self.grouped = version == "v3.0"
        fps = self.info.get("fps")
        if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 10_000:
            raise DataError(f"{root / 'meta' / 'info.json'}: fps is {fps!r}; frames per second are expected.")
        self.fps = float(fps)
        features = self.info.get("features")
        self.features: Row = features if isinstance(features, dict) else {}

    @property
    def digest(self) -> str:
        """What tells this dataset from others of the same columns, wherever it lies."""
        return hashlib.sha256(json.dumps(self.info, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """The names of all videos."""
        return tuple(
            name for name, what in self.features.items() if isinstance(what, dict) and what.get("dtype") == "video"
        )

    @cached_property
    def numbers(self) -> list[int]:
        """The index of every episode the metadata lists, in order."""
        found: list[int] = self._order[0].tolist()
        return found

    def listed(self, number: int) -> Listed:
        """What the metadata says of the episode of this index, which is one of ``numbers``."""
        numbers, positions = self._order
        row = self._rows[int(positions[np.searchsorted(numbers, number)])]
        tasks = row.get("tasks")
        tasks = [tasks] if isinstance(tasks, str) else tasks
        texts = tuple(task for task in tasks if isinstance(task, str)) if isinstance(tasks, list) else ()
        return Listed(number, _count(row.get("length")), texts, row)

    @cached_property
    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The indices of all episodes, in order, and where each is in the metadata: all that is held of them."""
        numbers = np.fromiter(map(self._index, self._rows), np.int64, len(self._rows))
        if not len(numbers):
            raise DataError(f"{self.root / 'meta'} lists no episode.")
        positions = np.argsort(numbers, kind="stable")
        numbers = numbers[positions]
        if (twice := numbers[1:][np.diff(numbers) == 0]).size:
            raise DataError(f"{self.root / 'meta'}: episode {twice[0]} is listed twice.")
        return numbers, positions

    def _index(self, row: Row) -> int:
        index = _count(row.get("episode_index"))
        if index is None or index >= 2**63:
            said = row.get("episode_index")
            raise DataError(f"{self.root / 'meta'}: an episode has the index {said!r}; a number is expected.")
        return index

    @cached_property
    def _rows(self) -> _Lines | _Grouped:
        """What the metadata says of each episode, read when it is asked for."""
        if not self.grouped:
            return _Lines(self.root / "meta" / "episodes.jsonl")
        return _Grouped(self.root / "meta" / "episodes")

    def data_file(self, episode: Listed) -> Path:
        """Where the rows of an episode are."""
        if self.grouped:
            places = {name: self._number(episode, f"data/{name}") for name in ("chunk_index", "file_index")}
            return self._inside(self._template("data_path", V3_DATA), places)
        return self._inside(self._template("data_path", V2_DATA), self._place_of_one(episode))

    def rows(self, episode: Listed, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of an episode in order of time, with these columns; a `DataError` names a column that is missing."""
        file = self.data_file(episode)
        there = _columns_of(file)
        missing = [name for name in columns if name not in there]
        if missing:
            raise DataError(f"{file} has no column '{missing[0]}'; it has {', '.join(sorted(there))[:400]}.")
        wanted = list(dict.fromkeys([*columns, *({"episode_index", "frame_index"} & there)]))
        if "episode_index" not in wanted and self.grouped:
            raise DataError(f"{file} has no column 'episode_index', which tells its episodes apart.")
        filters = [("episode_index", "==", episode.index)] if "episode_index" in wanted else None
        rows = read_parquet(file, wanted, filters)
        if not rows:
            raise DataError(f"{file} has no rows of episode {episode.index}.")
        order = [row.get("frame_index", number) for number, row in enumerate(rows)]
        if order != list(range(len(rows))):
            raise DataError(f"{file}: the frames of episode {episode.index} are not numbered 0 to {len(rows) - 1}.")
        if episode.length is not None and len(rows) != episode.length:
            raise DataError(
                f"{file} has {len(rows)} rows of episode {episode.index}; its metadata says {episode.length}."
            )
        return rows

    def video(self, episode: Listed, camera: str) -> VideoPlace:
        """Where the frames of an episode are; a `DataError` tells that the file is not there."""
        if self.grouped:
            key = f"videos/{camera}"
            numbers = {name: self._number(episode, f"{key}/{name}") for name in ("chunk_index", "file_index")}
            file = self._inside(self._template("video_path", V3_VIDEO), {**numbers, "video_key": camera})
            begin = episode.row.get(f"{key}/from_timestamp")
            if not isinstance(begin, int | float) or not 0 <= begin < 1e9:
                raise DataError(f"episode {episode.index}: {key}/from_timestamp is {begin!r}; seconds are expected.")
        else:
            places = {**self._place_of_one(episode), "video_key": camera}
            file, begin = self._inside(self._template("video_path", V2_VIDEO), places), 0.0
        if not file.is_file():
            raise DataError(f"{file} is missing.")
        return VideoPlace(file, float(begin), alone=not self.grouped)

    def stated_size(self, camera: str) -> ImageSize | None:
        """The size of a camera's pictures as the metadata gives it."""
        what = self.features.get(camera)
        shape, names = (what.get("shape"), what.get("names")) if isinstance(what, dict) else (None, None)
        if not isinstance(shape, list) or len(shape) != 3:
            return None
        sides = dict(zip(names, shape, strict=False)) if isinstance(names, list) else {}
        height, width = _count(sides.get("height", shape[0])), _count(sides.get("width", shape[1]))
        return None if height is None or width is None else ImageSize(width, height)

    def stated_codec(self, camera: str) -> str | None:
        """The codec of a camera's videos as the metadata gives it."""
        what = self.features.get(camera)
        about = (what.get("info") or what.get("video_info")) if isinstance(what, dict) else None
        codec = about.get("video.codec") if isinstance(about, dict) else None
        return codec if isinstance(codec, str) else None

    def camera(self, wanted: str | None) -> str:
        """The camera of this name, or the only one there is; a `RecipeError` lists them otherwise."""
        if wanted is None and len(self.cameras) == 1:
            return self.cameras[0]
        if wanted not in self.cameras:
            said = (
                f"camera '{wanted}' is not in" if wanted else "no camera is chosen in the mapping or with --camera of"
            )
            raise RecipeError(f"{said} {self.root}; it has {', '.join(self.cameras) or 'no video'}.")
        return wanted

    def _place_of_one(self, episode: Listed) -> dict[str, Any]:
        size = _count(self.info.get("chunks_size", 1000))
        if not size:
            raise DataError(f"{self.root / 'meta' / 'info.json'}: chunks_size is not a number from 1.")
        return {"episode_chunk": episode.index // size, "episode_index": episode.index}

    def _number(self, episode: Listed, name: str) -> int:
        value = _count(episode.row.get(name))
        if value is None:
            said = episode.row.get(name)
            raise DataError(f"episode {episode.index}: {name} is {said!r} in meta/episodes; a number is expected.")
        return value

    def _template(self, name: str, default: str) -> str:
        template = self.info.get(name, default)
        if not isinstance(template, str):
            raise DataError(f"{self.root / 'meta' / 'info.json'}: {name} is {template!r}; a path is expected.")
        return template

    def _inside(self, template: str, places: Mapping[str, Any]) -> Path:
        def put(match: re.Match[str]) -> str:
            name, width = match.groups()
            if name not in places:
                raise DataError(f"{self.root / 'meta' / 'info.json'}: the path {template!r} asks for '{name}'.")
            return f"{places[name]:0{int(width)}d}" if width else str(places[name])

        path = self.root / _PLACEHOLDER.sub(put, template)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise RefusedError(f"{path} leads out of {self.root}.")
        return path


class _Lines(Sequence[Row]):
    """The episodes of v2.1: lines of a file."""

    def __init__(self, file: Path) -> None:
        self._file = RecordFile(file)

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, position: Any) -> Any:
        row = self._file[position]
        if not isinstance(row, dict):
            raise DataError(str(self._file.problem(position, "", "is no object")))
        return row

    def __iter__(self) -> Iterator[Row]:
        return (self[position] for position in range(len(self)))


class _Grouped(Sequence[Row]):
    """The episodes of v3.0: rows of parquet files, which stay in their packed form."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.rglob("*.parquet"))
        if not files:
            raise DataError(f"{folder} has no parquet file that lists the episodes.")
        # Statistics of every episode are stored beside; they are large and of no use here.
        self._tables = [
            _table(file, [name for name in _columns_of(file) if not name.startswith("stats/")]) for file in files
        ]
        self._ends = np.cumsum([table.num_rows for table in self._tables])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, position: Any) -> Any:
        place = int(np.searchsorted(self._ends, position, side="right"))
        table = self._tables[place]
        return table.slice(position - int(self._ends[place]) + table.num_rows, 1).to_pylist()[0]

    def __iter__(self) -> Iterator[Row]:
        return (row for table in self._tables for batch in table.to_batches(1000) for row in batch.to_pylist())


def read_parquet(file: Path, columns: Sequence[str], filters: Any = None) -> list[dict[str, Any]]:
    """Rows of a parquet file as plain values; a `DataError` if it is damaged."""
    rows: list[dict[str, Any]] = _table(file, columns, filters).to_pylist()
    return rows


def _table(file: Path, columns: Sequence[str], filters: Any = None) -> Any:
    pq, errors = _parquet()
    try:
        with file.open("rb") as content:  # an open file is never taken for a folder of partitions
            return pq.read_table(content, columns=list(columns), filters=filters)
    except errors as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}.") from error


def _columns_of(file: Path) -> set[str]:
    pq, errors = _parquet()
    try:
        return set(pq.read_schema(file).names)
    except FileNotFoundError:
        raise DataError(f"{file} is missing.") from None
    except errors as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}.") from error


def _parquet() -> tuple[Any, tuple[type[Exception], ...]]:
    """The parquet module of pyarrow, and what it raises for a file that is damaged."""
    try:
        pq = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise RecipeError("parquet files need pyarrow; install it with: pip install 'robointervlm[lerobot]'.") from None
    return pq, (importlib.import_module("pyarrow").ArrowException, OSError, ValueError)


def _json_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file} is missing, so its folder is no LeRobot dataset.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} holds no object.")
    return content


def _count(value: object) -> int | None:
    """A whole number from 0; None if it is something else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
