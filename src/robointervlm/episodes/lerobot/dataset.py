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
    """An episode as the metadata lists it; ``row`` is all that it says."""

    index: int
    length: int | None
    tasks: tuple[str, ...]
    row: Row = field(repr=False)


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
    def episodes(self) -> tuple[Listed, ...]:
        """Every episode the metadata lists, in order of its index."""
        found: dict[int, Listed] = {}
        for row in self._grouped_rows() if self.grouped else self._rows_of_lines():
            index, length = _count(row.get("episode_index")), _count(row.get("length"))
            if index is None:
                said = row.get("episode_index")
                raise DataError(f"{self.root / 'meta'}: an episode has the index {said!r}; a number is expected.")
            if index in found:
                raise DataError(f"{self.root / 'meta'}: episode {index} is listed twice.")
            tasks = row.get("tasks")
            tasks = [tasks] if isinstance(tasks, str) else tasks
            texts = tuple(task for task in tasks if isinstance(task, str)) if isinstance(tasks, list) else ()
            found[index] = Listed(index, length, texts, row)
        if not found:
            raise DataError(f"{self.root / 'meta'} lists no episode.")
        return tuple(found[index] for index in sorted(found))

    @cached_property
    def numbered(self) -> dict[int, Listed]:
        """Every episode by its index."""
        return {listed.index: listed for listed in self.episodes}

    def _rows_of_lines(self) -> Iterator[Row]:
        lines = RecordFile(self.root / "meta" / "episodes.jsonl")
        for number in range(len(lines)):
            row = lines[number]
            if not isinstance(row, dict):
                raise DataError(str(lines.problem(number, "", "is no object")))
            yield row

    def _grouped_rows(self) -> Iterator[Row]:
        files = sorted((self.root / "meta" / "episodes").rglob("*.parquet"))
        if not files:
            raise DataError(f"{self.root / 'meta' / 'episodes'} has no parquet file that lists the episodes.")
        for file in files:
            # Statistics of every episode are stored beside; they are large and of no use here.
            names = [name for name in _columns_of(file) if not name.startswith("stats/")]
            yield from read_parquet(file, names)

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


def read_parquet(file: Path, columns: Sequence[str], filters: Any = None) -> list[dict[str, Any]]:
    """Rows of a parquet file as plain values; a `DataError` if it is damaged."""
    pq, errors = _parquet()
    try:
        with file.open("rb") as content:  # an open file is never taken for a folder of partitions
            rows: list[dict[str, Any]] = pq.read_table(content, columns=list(columns), filters=filters).to_pylist()
    except errors as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}.") from error
    return rows


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
