"""Answers out of record files: the exact inverse of `writing.answer_to_json`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from robointervlm.core.answer import Answer, Box, Choice, Points, Region, Text, Trajectory, YesNo
from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.core.errors import DataError


def answer_from_json(record: Mapping[str, object]) -> Answer:  # noqa: PLR0911 - one per kind
    """The answer that `answer_to_json` wrote, to the last digit. Anything else is a `DataError`."""
    match dict(record):
        case {"box": [x1, y1, x2, y2], **rest} if not rest:
            return Box(_number(x1), _number(y1), _number(x2), _number(y2))
        case {"points": [*points], **rest} if not rest:
            return Points(_points(points))
        case {"trajectory": [*points], **rest} if not rest:
            return Trajectory(_points(points))
        case {"region": {"size": [width, height], "runs": [*runs], **more}, **rest} if not rest and not more:
            return Region(ImageSize(_length(width), _length(height)), tuple(_length(run) for run in runs))
        case {"choice": str(letter), **rest} if not rest:
            return Choice(letter)
        case {"yes_no": bool(yes), **rest} if not rest:
            return YesNo(yes)
        case {"text": str(text), **rest} if not rest:
            return Text(text)
        case _:
            raise DataError(
                f"{str(record)[:200]} is not an answer as records hold it, such as {{'box': [x1, y1, x2, y2]}}."
            )


def _points(points: list[object]) -> tuple[Point, ...]:
    found = []
    for point in points:
        match point:
            case [x, y]:
                found.append((_number(x), _number(y)))
            case _:
                raise DataError(f"{str(point)[:200]} is not a point [x, y].")
    return tuple(found)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{str(value)[:200]} is not a coordinate.")
    return float(value)


def _length(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{str(value)[:200]} is not a number of pixels.")
    return value
