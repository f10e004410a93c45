"""A diagnostic: what a prediction file scores if its numbers are taken to be in each of the coordinate formats.

It is for finding out what to ask its author. It never chooses: which format a file is in is declared, and a score under
the format that scores best is no result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.coordinates import CoordinateFormat, Point
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.evaluate.aggregate import report_of
from robointervlm.evaluate.interop.answer_files import Declared, Imported, imported_from
from robointervlm.evaluate.records import space_of
from robointervlm.evaluate.score import score_all
from robointervlm.evaluate.scored import Scored


class Range(NamedTuple):
    """The numbers of places as they are written, over `places` answers: smallest, median and largest per axis."""

    places: int
    x: tuple[float, float, float]
    y: tuple[float, float, float]


@dataclass(frozen=True)
class Hypothesis:
    """One format of the predictions and one of the references, and what they make of the file.

    `groups` are the tasks of the report, with n, unparsed and metrics. `inside` is the share of the readable answers
    that lie within the picture; None where no answer is readable. `problem` says why the format could not be tried.
    """

    coordinates: CoordinateFormat
    references: CoordinateFormat
    groups: Sequence[dict[str, object]] = ()
    scored: Sequence[Scored] = ()
    inside: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """A file under every hypothesis, and the range of its numbers; None where no place was read."""

    predictions: Range | None
    references: Range | None
    hypotheses: tuple[Hypothesis, ...]


def diagnose(file: Path, declared: Declared) -> Diagnosis:
    """Scores the file under each format of its predictions.

    The references are in `declared.reference_coordinates`; if that is None, in each format in turn, too, since an IoU
    is the same in all of them where both sides are in the same. Raises `RecipeError` for a kind that is not about
    places, and `DataError` if the file cannot be read under any format.
    """
    fixed = declared.reference_coordinates
    hypotheses = tuple(
        _tried(file, declared, coordinates, references)
        for coordinates in CoordinateFormat
        for references in ((fixed,) if fixed is not None else CoordinateFormat)
    )
    if all(each.problem for each in hypotheses):
        raise DataError(hypotheses[0].problem)
    records = next(each.scored for each in hypotheses if each.scored)
    if all(each.record["format"] is None for each in records):
        raise RecipeError(f"--kind {declared.kind} is not about places, so there are no coordinates to look at.")
    spaces = [(each, space_of(each.record)) for each in records]
    return Diagnosis(
        _range(() if space is None else space.from_pixels(points_of(each.predicted)) for each, space in spaces),
        _range(_references(file, declared)),
        hypotheses,
    )


def _tried(file: Path, declared: Declared, coordinates: CoordinateFormat, references: CoordinateFormat) -> Hypothesis:
    try:
        imported = imported_from(file, replace(declared, coordinates=coordinates, reference_coordinates=references))
    except DataError as error:
        return Hypothesis(coordinates, references, problem=str(error))
    scored = _scored(imported)
    groups = report_of(imported.requested, scored)["tasks"]
    assert isinstance(groups, list)
    inside = [
        all(0 <= x <= size.width and 0 <= y <= size.height for x, y in points_of(each.predicted))
        for each in scored
        if each.predicted and (size := each.image_size)
    ]
    return Hypothesis(coordinates, references, groups, scored, sum(inside) / len(inside) if inside else None)


def _scored(imported: Imported) -> list[Scored]:
    return score_all(imported.requested.questions, {str(record["key"]): record for record in imported.records})


def points_of(answer: Answer | Unparsed | None) -> tuple[Point, ...]:
    """The places of an answer; none if it has none."""
    return answer.places if isinstance(answer, Answer) else ()


def _references(file: Path, declared: Declared) -> Iterator[tuple[Point, ...]]:
    """The places of the references as they are written: read as pixels, pixels are what was written."""
    pixels = CoordinateFormat.PIXEL
    try:
        imported = imported_from(file, replace(declared, coordinates=pixels, reference_coordinates=pixels))
    except DataError:
        return
    from_json = (each.requested for each in _scored(imported))
    for requested in from_json:
        answer = requested.answer or {}
        numbers = answer.get("box") or answer.get("points") or answer.get("trajectory") or []
        assert isinstance(numbers, list)
        flat = np.asarray(numbers, dtype=np.float64).reshape(-1, 2)
        yield tuple((x, y) for x, y in flat.tolist())


def _range(answers: Iterable[tuple[Point, ...]]) -> Range | None:
    found = [points for points in answers if points]
    if not found:
        return None
    places = np.array([point for points in found for point in points])
    low, middle, high = places.min(axis=0), np.median(places, axis=0), places.max(axis=0)
    x, y = ((float(low[axis]), float(middle[axis]), float(high[axis])) for axis in (0, 1))
    return Range(len(found), x, y)
