"""Answers into text, in the coordinates of somebody else, and into record files. The inverse of `reading`."""

from __future__ import annotations

from collections.abc import Iterable

from robointervlm.core.answer import Answer, Box, Choice, Points, Region, Text, Trajectory, YesNo
from robointervlm.core.coordinates import Point, Space
from robointervlm.core.errors import DataError


def write_answer(answer: Answer, space: Space | None = None, key: str = "") -> str:
    """The answer as the published data writes it: `{"current_bbox": [[x1, y1], [x2, y2]]}`, `B`, `Yes`, or its text.

    Places are written in `space`, rounded as that format is, under `key`, or as a plain list without one. Reading the
    text in the same space gives the answer back up to that rounding. A region is written as one point inside it.
    """
    match answer:
        case Box():
            return _keyed(key, _list(answer.corners, space))
        case Points() | Trajectory():
            return _keyed(key, _list(answer.points, space))
        case Region():
            return _keyed(key, _list([answer.inner_point], space))
        case Choice():
            return answer.letter
        case YesNo():
            return "Yes" if answer.yes else "No"
        case Text():
            return answer.text


def _keyed(key: str, written: str) -> str:
    return f'{{"{key}": {written}}}' if key else written


def _list(points: Iterable[Point], space: Space | None) -> str:
    if space is None:
        raise DataError(
            "an answer with coordinates is written in the space of its image, and this sample has no image."
        )
    written = (f"[{space.number(x)}, {space.number(y)}]" for x, y in space.from_pixels(points))
    return f"[{', '.join(written)}]"


def answer_to_json(answer: Answer) -> dict[str, object]:  # noqa: PLR0911 - one per kind
    """The answer for a record file: one tag and the exact value, pixels as floats; `answer_from_json` reads it."""
    match answer:
        case Box():
            return {"box": [answer.x1, answer.y1, answer.x2, answer.y2]}
        case Points():
            return {"points": [list(point) for point in answer.points]}
        case Trajectory():
            return {"trajectory": [list(point) for point in answer.points]}
        case Region():
            return {"region": {"size": list(answer.size), "runs": list(answer.runs)}}
        case Choice():
            return {"choice": answer.letter}
        case YesNo():
            return {"yes_no": answer.yes}
        case Text():
            return {"text": answer.text}
