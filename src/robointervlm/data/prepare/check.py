"""Everything that is wrong with a dataset, found before any training time is spent on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robointervlm.core.answer import Box, Points, Trajectory
from robointervlm.core.coordinates import ImageSize, Point, Space
from robointervlm.core.errors import DataError, RoboInterError
from robointervlm.core.reading import read_box
from robointervlm.core.sample import ImageRef, Place, Sample
from robointervlm.data import images
from robointervlm.data.annotations import FieldError, RecordProblem
from robointervlm.data.records import Annotations, RecordError, RefusedRecordError, pictures_of
from robointervlm.data.spec import DatasetSpec

# How far outside the picture a coordinate may round to without being called outside, in pixels.
_ROUNDING = 1.0


@dataclass(frozen=True)
class Checked:
    """What a check of one dataset found."""

    dataset: str
    file: Path
    records: int
    pictures: int
    problems: tuple[RecordProblem, ...]

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def warnings(self) -> int:
        return len(self.problems) - self.errors

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "dataset": self.dataset,
            "file": str(self.file),
            "records": self.records,
            "pictures": self.pictures,
            "errors": self.errors,
            "warnings": self.warnings,
            "problems": [{**problem.__dict__, "file": str(problem.file)} for problem in self.problems],
        }


def check_dataset(
    spec: DatasetSpec,
    root: Path | None = None,
    *,
    quick: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Checked:
    """Reads every record of a dataset and every picture once, and lists what is wrong.

    `quick` reads the headers of the pictures only, which finds missing but not truncated ones. `progress` is told how
    many of how many records are done. A file that is missing or unreadable is one problem, not an exception.
    """
    file = spec.candidates(root)[0]
    try:
        file = spec.annotation_file(root)
        annotations = Annotations(spec, root)
        count = len(annotations)
    except DataError as error:
        return Checked(spec.name, file, 0, 0, (RecordProblem(file, -1, "", str(error)),))
    checker = _Checker(annotations, quick=quick)
    problems: list[RecordProblem] = []
    for index in range(count):
        problems += checker.record(index)
        if progress is not None:
            progress(index + 1, count)
    if not count:
        problems.append(RecordProblem(file, -1, "", "holds no records"))
    return Checked(spec.name, file, count, len(checker.pictures), tuple(problems))


class _Checker:
    """Checks records one by one and remembers what must be known of the earlier ones."""

    def __init__(self, annotations: Annotations, *, quick: bool) -> None:
        self.annotations = annotations
        self.quick = quick
        self.pictures: dict[str, ImageSize | str] = {}
        self._names: dict[str, int] = {}

    def record(self, index: int) -> list[RecordProblem]:
        """The problems of the record at this position."""
        try:
            sample = self.annotations[index]
        except (RecordError, RefusedRecordError) as error:
            return [error.problem, *self._pictures_of_wrong(index, error.problem)]
        found = [*self._pictures(sample.images), *self._duplicate(sample, index), *_outside(sample)]
        found += _swapped(sample)
        return [self._placed(index, sample.id, *problem) for problem in found]

    def _placed(self, index: int, name: str, severity: str, field: str, reason: str) -> RecordProblem:
        problem = self.annotations.file.problem(index, field, reason, name)
        return problem if severity == "error" else replace(problem, severity="warning")

    def _pictures_of_wrong(self, index: int, problem: RecordProblem) -> list[RecordProblem]:
        """What is wrong with the pictures of a record that is wrong elsewhere, so that one check finds both."""
        if problem.field in {"", "image", "images", "image_path"}:
            return []
        try:
            references = pictures_of(self.annotations.file[index], self.annotations.spec, self.annotations.image_root)
        except FieldError:
            return []
        return [self._placed(index, problem.id, *found) for found in self._pictures(references)]

    def _pictures(self, references: tuple[ImageRef, ...]) -> Iterator[_Found]:
        for reference in references:
            found = self._picture(reference)
            if isinstance(found, str):
                yield "error", "images", found
            elif reference.size is not None and reference.size != found:
                stated, real = (f"{size.width}x{size.height}" for size in (reference.size, found))
                swapped = ": width and height are swapped" if reference.size == found[::-1] else ""
                yield "error", "w", f"the record says {stated}, but the picture {reference.path} is {real}{swapped}"

    def _picture(self, reference: ImageRef) -> ImageSize | str:
        """The picture's size, or what is wrong with it; each picture is opened once."""
        if reference.path not in self.pictures:
            try:
                if self.quick:
                    self.pictures[reference.path] = images.size(reference)
                else:
                    height, width, _ = images.load(reference).shape
                    self.pictures[reference.path] = ImageSize(width, height)
            except RoboInterError as error:
                self.pictures[reference.path] = str(error)
        return self.pictures[reference.path]

    def _duplicate(self, sample: Sample, index: int) -> Iterator[_Found]:
        first = self._names.setdefault(sample.id, index)
        if first != index:
            place = self.annotations.file.problem(first, "", "").place
            yield "error", "id", f"is also the id of {place}; records of results are kept by id"


_Found = tuple[str, str, str]
"""Severity, field and reason."""


def _outside(sample: Sample) -> Iterator[_Found]:
    """Places that lie outside the picture: legitimate for parts, suspicious for a whole box."""
    if sample.size is None:
        return
    for turn in sample.turns:
        if isinstance(turn.answer, Box):
            yield from _box_outside(turn.answer, sample.size)
        elif isinstance(turn.answer, Points | Trajectory):
            out = sum(not _inside(point, sample.size) for point in turn.answer.points)
            if out:
                yield "warning", "answer", f"{out} of {len(turn.answer.points)} points lie outside the picture"
        for part in turn.question:
            if isinstance(part, Place) and not all(_inside(point, sample.size) for point in part.points):
                yield "warning", "question", f"the place {_rounded(part.points)} lies outside the picture"


def _box_outside(box: Box, size: ImageSize) -> Iterator[_Found]:
    where = f"the box {_rounded(box.corners)} in a picture of {size.width}x{size.height}"
    if box.x2 <= 0 or box.y2 <= 0 or box.x1 >= size.width or box.y1 >= size.height:
        yield "error", "answer", f"{where} lies wholly outside"
    elif not all(_inside(corner, size) for corner in box.corners):
        yield "warning", "answer", f"{where} lies partly outside"
    if box.area == 0:
        yield "error", "answer", f"{where} has no area"


def _inside(point: Point, size: ImageSize) -> bool:
    x, y = point
    return -_ROUNDING <= x <= size.width + _ROUNDING and -_ROUNDING <= y <= size.height + _ROUNDING


def _rounded(points: tuple[Point, ...]) -> str:
    return json.dumps([[round(x), round(y)] for x, y in points])


def _swapped(sample: Sample) -> Iterator[_Found]:
    """A reference box whose first corner is not the upper left one; it is read, with the corners put in order."""
    if not isinstance(sample.answer, Box) or sample.size is None:
        return
    # Which corner comes first is the same in every coordinate format.
    if "corners swapped" in read_box(sample.raw_answer, Space.pixels(sample.size)).notes:
        yield "error", "answer", f"the corners in {sample.raw_answer[:80]!r} are swapped; x1 <= x2 and y1 <= y2 are due"
