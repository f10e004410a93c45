"""Answers into text, in the coordinates of somebody else, and into record files. The inverse of `reading`."""

from __future__ import annotations

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import Space


def write_answer(answer: Answer, space: Space | None = None, key: str = "") -> str:
    """The answer as the published data writes it: `{"current_bbox": [[x1, y1], [x2, y2]]}`, `B`, `Yes`, or its text.

    Places are written in `space`, rounded as that format is, under `key`, or as a plain list without one. Reading the
    text in the same space gives the answer back up to that rounding. A region is written as one point inside it.
    """
    return answer.written(space, key)


def answer_to_json(answer: Answer) -> dict[str, object]:
    """The answer for a record file: one tag and the exact value, pixels as floats; `answer_from_json` reads it."""
    return {answer.key: answer.to_json()}
