"""Prediction files of other tools as run folders of ours, so that `score` scores them as everything else.

The coordinates of predictions and references are declared by the caller, never guessed. Every record of the file is a
requested question: one without a prediction, without a readable reference or without a size it needs is counted, with
its reason.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from robointervlm.core.answer import Answer, Choice, Unparsed, YesNo
from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, CoordinateFormat, ImageSize, Space, smart_resize
from robointervlm.core.errors import DataError, RecipeError, RefusedError
from robointervlm.core.reading import read_choice, read_yes_no
from robointervlm.core.sample import ImageRef
from robointervlm.core.writing import answer_to_json
from robointervlm.data import images, third_party
from robointervlm.data.annotations import FieldError, RecordError, RecordFile
from robointervlm.evaluate.interop.answer_records import FieldNames, ForeignRecord, foreign_record
from robointervlm.evaluate.records import (
    RECORDS,
    REQUESTED,
    SCHEMA,
    Requested,
    RequestedList,
    digest,
    read_requested,
    unsized,
    write_requested,
)
from robointervlm.inference.judging import Status
from robointervlm.runs.files import write_atomically
from robointervlm.runs.journal import Entry, encoded_line
from robointervlm.tasks import Task, task_named

logger = logging.getLogger(__name__)

STYLE = "imported"

# Short names of kinds that are no task's name.
_KINDS = {"box": "any_box", "point": "any_points", "points": "any_points", "text": "any_text"}
# Kinds whose task each record's reference decides: a letter makes it a choice, yes or no a decision.
_WORDED = ("choice", "decide")
KINDS = ("box", "traj", "point", "choice", "decide", "text", "planning")

# The task whose reference is a mask rather than a text.
_MASKED = "where2place"

# What the published scorer takes pictures to be, by the record's id (trap 11). Only on explicit request.
_PUBLISHED_SIZES = {True: ImageSize(640, 480), False: ImageSize(320, 180)}


@dataclass(frozen=True)
class Declared:
    """What the caller says of a prediction file.

    Attributes:
        kind: one of `KINDS` or the name of a task.
        coordinates: what the predictions are in; None if they are no places.
        reference_coordinates: what the references are in; None is the same.
        image_size: the size of every picture whose record does not say it; "published" is the published guess by the
            id: 640x480 if it holds RH20T, else 320x180.
        image_dir: the folder that picture paths are relative to.
        resize_limits: min_pixels and max_pixels of the processor, for `resized` records without new_w and new_h.
    """

    kind: str
    coordinates: CoordinateFormat | None = None
    reference_coordinates: CoordinateFormat | None = None
    image_size: ImageSize | Literal["published"] | None = None
    image_dir: Path | None = None
    resize_limits: tuple[int, int] = (MIN_PIXELS, MAX_PIXELS)
    names: FieldNames = FieldNames()

    @property
    def reference_format(self) -> str | None:
        """What the references are in, by name; None if they are no places."""
        found = self.reference_coordinates or self.coordinates
        return None if found is None else found.value


@dataclass(frozen=True)
class Imported:
    """A prediction file as a run: its list of questions, and a record for each."""

    requested: RequestedList
    records: tuple[Entry, ...]

    @property
    def counts(self) -> Counter[str]:
        """How many records have which status, and how many an id that an earlier one has, as `same id`."""
        ids = Counter(question.id for question in self.requested.questions)
        counts = Counter(str(record["status"]) for record in self.records)
        counts["same id"] = sum(count - 1 for count in ids.values())
        return counts


def import_predictions(file: Path, folder: Path, declared: Declared) -> Imported:
    """Writes the run folder of a prediction file, over an earlier import of the same file but over no other run."""
    _refuse_other_run(folder)
    imported = imported_from(file, declared)
    _refuse_other_file(folder, imported.requested)
    lines = b"".join(encoded_line(record) for record in imported.records)
    write_atomically(folder / RECORDS, lines)
    write_requested(folder, imported.requested)
    names = {"ok": "answered", "model_error": "without a prediction", "input_error": "that cannot be scored"}
    counts = ", ".join(f"{count} {names.get(name, name)}" for name, count in imported.counts.items() if count)
    logger.info("%s: %d records (%s), into %s", file, len(imported.records), counts, folder)
    return imported


def _refuse_other_run(folder: Path) -> None:
    path = folder / REQUESTED
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.readline()  # all but the questions, see `write_requested`
    if f'"style": "{STYLE}"' not in head:
        raise RecipeError(f"{folder} is the folder of a prediction run; give --out another one.")


def _refuse_other_file(folder: Path, requested: RequestedList) -> None:
    """Raise `RecipeError` where the predictions of another file lie in the folder; one that was only moved is none."""
    try:
        before = read_requested(folder).model
    except DataError:
        return
    alike = {name for name in ("file", "fingerprint") if before.get(name) == requested.model[name]}
    if not alike and before.get("file"):
        raise RecipeError(
            f"{folder} holds the scores of {before['file']}, and this is {requested.model['file']}. "
            "Nothing was changed; give --out another folder."
        )


def imported_from(file: Path, declared: Declared) -> Imported:
    """The run that a prediction file is. Raises `DataError` where not one record can be scored, and says why."""
    records = RecordFile(file)
    reader = _Reader(file, declared)
    rows = [reader.row(records, position) for position in range(len(records))]
    if not rows:
        raise DataError(f"{file} holds no records.")
    first = rows[0].record
    if all(row.record["status"] == "input_error" for row in rows):
        raise DataError(f"none of the {len(rows)} records of {file} can be scored. The first: {first['reason']}")
    model = {
        "name": file.stem,
        "file": str(file.resolve()),
        "fingerprint": f"file sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}",
        "coordinates": declared.coordinates.value if declared.coordinates else "none",
        "declared": {
            "kind": declared.kind,
            "coordinates": declared.coordinates.value if declared.coordinates else None,
            "gt_coordinates": declared.reference_format,
            "image_size": declared.image_size,
            "resize_limits": list(declared.resize_limits),
            "fields": asdict(declared.names),
        },
    }
    # Records that share an id are each scored, and are one cluster of the intervals, as they are not independent.
    times = Counter(row.requested.id for row in rows)
    questions = tuple(
        replace(one, episode=f"id {one.id}") if times[one.id] > 1 and not one.episode else one
        for one in (row.requested for row in rows)
    )
    requested = RequestedList(model, {"temperature": "unknown"}, STYLE, questions)
    return Imported(requested, tuple(row.record for row in rows))


class _Row(NamedTuple):
    requested: Requested
    record: Entry


class _Reader:
    """Turns the records of one file into questions with their answers, one at a time."""

    def __init__(self, file: Path, declared: Declared) -> None:
        self.file = file
        self.declared = declared
        self.task = _task_of_kind(declared.kind)
        self._sizes: dict[str, ImageSize] = {}

    def row(self, records: RecordFile, position: int) -> _Row:
        """The record at this position; what is wrong with it is its status and reason."""
        try:
            content = records[position]
        except RecordError as error:
            return self._unreadable(position, str(error))
        if not isinstance(content, dict):
            return self._unreadable(position, f"record {position} is no JSON object")
        found = foreign_record(content, position, self.declared.names)
        try:
            task, space, answer = self._understood(found)
        except (FieldError, DataError, RefusedError) as error:
            return self._row(found, self.task, problem=("input_error", f"record {position} (id {found.id}): {error}"))
        if found.prediction is None:
            problem: tuple[Status, str] = ("model_error", "the file holds no prediction for it")
            return self._row(found, task, space=space, answer=answer, problem=problem)
        return self._row(found, task, space=space, answer=answer, problem=("ok", ""))

    def _understood(self, found: ForeignRecord) -> tuple[Task, Space | None, Answer]:
        """The task of a record, the space its prediction is in, and its reference in pixels."""
        if found.reference is None:
            raise FieldError("gt", "is missing: the record has no reference answer")
        task = self._task_of(found)
        declared = self.declared
        if not _is_spatial(task):
            return task, None, _readable(task, found, None)
        if declared.coordinates is None:
            raise RecipeError(
                f"--kind {declared.kind} is about places, so the coordinates of the predictions must be declared: "
                "--coordinates pixel, unit, per_mille or resized."
            )
        reference_in = declared.reference_coordinates or declared.coordinates
        size = self._size(found)
        if size is None:
            # Overlaps are the same in a picture of any size, distances are not.
            sizeless = task.name != _MASKED and all(metric.worst is not None for metric in task.metrics)
            if declared.coordinates is not reference_in or not sizeless:
                raise FieldError("image_size", f"is missing. {_SIZE_REMEDY}")
            space = unsized(declared.coordinates)
            return task, space, _readable(task, found, space)
        space = self._space(declared.coordinates, size, found)
        reference_space = self._space(reference_in, size, found)
        if task.name == _MASKED:
            folder = declared.image_dir or self.file.parent
            return task, space, third_party.region_of({third_party.MASK: found.raw["gt"]}, folder, size)
        return task, space, _readable(task, found, reference_space)

    def _task_of(self, found: ForeignRecord) -> Task:
        if self.declared.kind not in _WORDED:
            apart = self.task.task_of_record and self.task.task_of_record({"id": found.id, "task": found.raw["task"]})
            return task_named(apart) if apart else self.task
        assert found.reference is not None  # looked for before
        if isinstance(read_choice(found.reference).answer, Choice):
            return task_named("any_choice")
        decided = isinstance(read_yes_no(found.reference).answer, YesNo)
        return task_named("any_decide" if decided else "any_text")

    def _size(self, found: ForeignRecord) -> ImageSize | None:
        """The picture's size: what the record says, else what was declared, else the picture's own."""
        declared = self.declared
        if found.size is not None:
            return found.size
        if declared.image_size == "published":
            return _PUBLISHED_SIZES["RH20T" in found.id]
        if declared.image_size is not None:
            return declared.image_size
        if declared.image_dir is None or not found.image:
            return None
        if found.image not in self._sizes:
            self._sizes[found.image] = images.size(ImageRef(declared.image_dir, found.image))
        return self._sizes[found.image]

    def _space(self, coordinates: CoordinateFormat, size: ImageSize, found: ForeignRecord) -> Space:
        if coordinates is not CoordinateFormat.RESIZED:
            return Space(coordinates, size)
        least, most = self.declared.resize_limits
        return Space(coordinates, size, found.processed or smart_resize(size, min_pixels=least, max_pixels=most))

    def _row(
        self,
        found: ForeignRecord,
        task: Task,
        *,
        problem: tuple[Status, str],
        space: Space | None = None,
        answer: Answer | None = None,
    ) -> _Row:
        size = None if space is None or space == unsized(space.format) else space.image
        folder = self.declared.image_dir  # without it, the report knows of no picture
        requested = Requested(
            key=digest([SCHEMA, STYLE, task.name, found.id, found.position]),
            id=found.id,
            dataset=self.file.stem,
            task=task.name,
            episode=found.episode,
            images=((str(folder), found.image),) if folder is not None and found.image else (),
            image_size=size,
            answer=None if answer is None else answer_to_json(answer),
            raw_answer=found.reference or "",
        )
        record: Entry = {
            "schema": SCHEMA,
            **vars(requested),  # not asdict, which copies every point of every answer
            "processed_size": None if space is None or size is None else space.processed,
            "format": None if space is None else space.format.value,
            "reference_format": self.declared.reference_format,
            "prompt": found.question,
            "history": [],
            "reply": found.prediction,
            "status": problem[0],
            "reason": problem[1],
            "finish_reason": None,
            "foreign": dict(found.raw),
        }
        return _Row(requested, record)

    def _unreadable(self, position: int, reason: str) -> _Row:
        found = foreign_record({}, position, self.declared.names)
        return self._row(found, self.task, problem=("input_error", reason))


_SIZE_REMEDY = (
    "Records give it as image_size [w, h], w and h, or width and height; otherwise say --image-size WxH for all of "
    "them, or --image-dir with the pictures, or --image-size published for the published guess by the id."
)


def _task_of_kind(kind: str) -> Task:
    """The task whose name or short name this is; of the kinds that each record decides, the one of their name."""
    if kind in _WORDED:
        return task_named(f"any_{kind}")
    try:
        return task_named(_KINDS.get(kind, kind))
    except RecipeError as error:
        raise RecipeError(f"--kind {kind}: {error} Short names are {', '.join(KINDS)}.") from None


@cache
def _is_spatial(task: Task) -> bool:
    """Whether answers of the task are places: only those cannot be read without an image."""
    try:
        task.reading("", None)
    except DataError:
        return True
    return False


def _readable(task: Task, found: ForeignRecord, space: Space | None) -> Answer:
    assert found.reference is not None  # looked for before
    read = task.reading_of(found.reference, space, found.question).answer
    if isinstance(read, Unparsed):
        raise FieldError("gt", f"{found.reference[:80]!r} is not read as {task.name}: {read.reason}")
    return read
