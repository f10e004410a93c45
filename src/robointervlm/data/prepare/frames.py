"""Annotated frames as records in the published layout: a table of pictures with boxes and points, and a mapping of its
columns to tasks.

What the table leaves empty (an object out of view) is left out and counted. Places outside the picture are kept as they
are, neither clipped nor dropped: a gripper that reaches in from the edge is really there; they are counted, too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from robointervlm.core.answer import Answer, Box, Points, Trajectory, Unparsed
from robointervlm.core.coordinates import Point, Space, smart_resize
from robointervlm.core.errors import RecipeError, RoboInterError
from robointervlm.core.sample import IMAGE_MARKER, ImageRef
from robointervlm.data import images
from robointervlm.data.annotations import RecordFile, RecordProblem
from robointervlm.settings.explained import checked
from robointervlm.settings.yaml_files import read_yaml
from robointervlm.tasks import Task, task_named

DEFAULT_MAPPING = Path(__file__).parent / "mappings" / "frames.yaml"
# Pixels; what is further away is a slip, an infinity or no coordinate at all.
_LARGEST = 1e6

Row = Mapping[str, Any]


class ColumnTask(BaseModel):
    """How one task is asked of a row: the column with its answer, the shape of that, and the wording."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    shape: Literal["box", "points", "trajectory"]
    question: str
    start: str | None = None


class FrameMapping(BaseModel):
    """Which columns of a table of frames mean what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(pattern=r"^[A-Za-z0-9_]+$")
    split: Literal["train", "val"] = "train"
    image: str
    width: str | None = None
    height: str | None = None
    instruction: str | None = None
    episode: str | None = None
    frame: str | None = None
    tasks: dict[str, ColumnTask] = Field(min_length=1)


@dataclass
class Converted:
    """What a conversion made: per task how many records, empty cells, and records with places outside the picture."""

    root: Path
    catalog: Path
    rows: int = 0
    records: dict[str, int] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    problems: list[RecordProblem] = field(default_factory=list)


class _CellError(Exception):
    """A cell that holds something other than its column should."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


def read_mapping(file: Path) -> FrameMapping:
    """The mapping in a YAML file; a `RecipeError` says what is wrong with it."""
    mapping = checked(FrameMapping, read_yaml(file, "mapping"), source=f"mapping {file}")
    for name in mapping.tasks:
        if not task_named(name).file_stems:
            raise RecipeError(f"mapping {file}: the task '{name}' has no published file to write its records like.")
    return mapping


def convert_frames(table: Path, pictures: Path, out: Path, mapping: FrameMapping) -> Converted:
    """Writes the records, a copy of the pictures and a catalog of the new datasets under `out`.

    `pictures` is the folder that the table's picture paths are relative to. Rows that cannot be used are left out and
    listed in `problems`. The datasets are named `<source>_<task>_<split>`; give `--catalog OUT` to use them.
    """
    rows = RecordFile(table)
    converted = Converted(out, out / "catalog.yaml", rows=len(rows))
    tasks = {name: task_named(name) for name in mapping.tasks}
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in tasks}
    copied: set[str] = set()
    for index in range(len(rows)):
        try:
            row = _Row(rows[index], mapping, pictures)
        except _CellError as error:
            converted.problems.append(rows.problem(index, error.column, error.reason))
            continue
        except RoboInterError as error:
            converted.problems.append(rows.problem(index, mapping.image, str(error)))
            continue
        for name, task in tasks.items():
            try:
                _ask(row, name, task, records[name], converted)
            except _CellError as error:
                converted.problems.append(rows.problem(index, error.column, error.reason, row.name))
        if any(made and made[-1]["images"] == row.picture for made in records.values()) and row.picture not in copied:
            copied.add(row.picture)
            source = images.locate(row.reference)
            _replace(out / row.picture, partial(shutil.copyfile, source))
    _write_all(records, mapping, out)
    converted.records = {name: len(made) for name, made in records.items()}
    return converted


class _Row:
    """One row of the table with its picture looked at."""

    def __init__(self, row: object, mapping: FrameMapping, pictures: Path) -> None:
        if not isinstance(row, dict):
            raise _CellError("", "is no object of columns")
        self.row: Row = row
        self.mapping = mapping
        path = _cell(row, mapping.image)
        if not isinstance(path, str):
            raise _CellError(mapping.image, f"is {path!r}; the path of a picture is expected")
        self.reference = ImageRef(pictures, path)
        self.size = images.size(self.reference)
        for column, side in ((mapping.width, self.size.width), (mapping.height, self.size.height)):
            stated = _cell(row, column) if column else None
            if stated is not None and stated != side:
                raise _CellError(str(column), f"is {stated!r}, but the picture is {self.size.width}x{self.size.height}")
        inside = images.locate(self.reference).relative_to(pictures.resolve())
        self.picture = f"Generation/image/{mapping.split}/{mapping.source}/{inside.as_posix()}"
        episode, frame = (_cell(row, column) if column else None for column in (mapping.episode, mapping.frame))
        self.episode = "" if episode is None else f"{mapping.source}_{episode}"
        self.name = inside.with_suffix("").as_posix() if frame is None else f"{self.episode or mapping.source}_{frame}"
        self.instruction = str((_cell(row, mapping.instruction) if mapping.instruction else None) or "")


def _ask(row: _Row, name: str, task: Task, made: list[dict[str, Any]], converted: Converted) -> None:
    """Adds the task's record of this row, or counts its cell as empty."""
    wanted = row.mapping.tasks[name]
    answer = _answer(row.row, wanted)
    start = _points(row.row, wanted.start) if wanted.start else None
    if answer is None or (wanted.start and start is None):
        converted.empty[name] = converted.empty.get(name, 0) + 1
        return
    space = Space.pixels(row.size)
    text = task.write(answer, space)
    read = task.read(text, space)
    if type(read) is not type(answer):
        reason = read.reason if isinstance(read, Unparsed) else f"it is read as {type(read).__name__}"
        raise _CellError(wanted.column, f"is no answer to '{name}': {reason}")
    written = wanted.question.replace("{instruction}", row.instruction.rstrip(". "))
    if start is not None:
        written = written.replace("{start}", "[" + ", ".join(space.number(value) for value in start[0]) + "]")
    places = (*answer.places, *(start or ()))
    if not all(0 <= x <= row.size.width and 0 <= y <= row.size.height for x, y in places):
        converted.outside[name] = converted.outside.get(name, 0) + 1
    resized = smart_resize(row.size)
    made.append(
        {
            "id": f"{row.name}_{name}",
            "task": name,
            "episode": row.episode,
            "conversations": [
                {"from": "human", "value": f"{IMAGE_MARKER}\n{written}"},
                {"from": "gpt", "value": text},
            ],
            "images": row.picture,
            "gt": text,
            "h": row.size.height,
            "w": row.size.width,
            "new_h": resized.height,
            "new_w": resized.width,
        }
    )


def _answer(row: Row, wanted: ColumnTask) -> Answer | None:
    if wanted.shape == "box":
        corners = _cell(row, wanted.column)
        if corners is None:
            return None
        flat = _numbers(corners)
        if flat is None or len(flat) != 4:
            raise _CellError(wanted.column, f"is {corners!r:.80}; a box [x1, y1, x2, y2] is expected")
        return Box.spanning((flat[0], flat[1]), (flat[2], flat[3]))
    points = _points(row, wanted.column)
    if points is None:
        return None
    return Trajectory(points) if wanted.shape == "trajectory" else Points(points)


def _points(row: Row, column: str) -> tuple[Point, ...] | None:
    """The points of a cell, [x, y] or a list of those; None if it is empty."""
    value = _cell(row, column)
    if value is None or value == []:
        return None
    listed = value if isinstance(value, list) and isinstance(value[0], list) else [value]
    points = [_numbers(point) for point in listed]
    if any(point is None or len(point) != 2 for point in points):
        raise _CellError(column, f"is {value!r:.80}; points [x, y] are expected")
    return tuple((point[0], point[1]) for point in points if point is not None)


def _numbers(value: object) -> list[float] | None:
    """A list of coordinates, flat or of two corners, as floats; None if it is something else."""
    if not isinstance(value, list):
        return None
    flat = [number for item in value for number in (item if isinstance(item, list) else [item])]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in flat):
        return None
    if not all(abs(number) <= _LARGEST for number in flat):
        return None
    return [float(number) for number in flat]


def _cell(row: Row, column: str) -> Any:
    """The value at a dotted column name; None if it or something on the way is missing."""
    value: Any = row
    for part in column.split("."):
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _CellError(column, f"is not there: '{part}' is looked for in {value!r:.80}")
        value = value.get(part)
    return value


def _write_all(records: Mapping[str, list[dict[str, Any]]], mapping: FrameMapping, out: Path) -> None:
    catalog = out / "catalog.yaml"
    entries: dict[str, Any] = {"root": "."}
    if catalog.is_file():  # of an earlier conversion into the same folder
        entries |= read_yaml(catalog, "catalog")
    for name, made in records.items():
        if not made:
            continue
        folder = f"Generation/meta/{mapping.split}/{mapping.source}/origin_format"
        file = f"{folder}/{task_named(name).file_stems[0]}.json"
        lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in made)
        _write(out / file, f"[\n{lines}\n]\n")
        entries[f"{mapping.source}_{name}_{mapping.split}"] = {
            "task": name,
            "annotations": file,
            "coordinates": "origin_format",
            "split": mapping.split,
            "source": mapping.source,
            "notes": "made by `robointer data convert`; the wordings are RoboInterVLM's own",
        }
    _write(catalog, yaml.safe_dump(entries, sort_keys=False, allow_unicode=True))


def _write(target: Path, text: str) -> None:
    _replace(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under a temporary name and renames it, so that it is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
