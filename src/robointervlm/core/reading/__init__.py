"""Answers out of what a model wrote: any text gives an answer, or `Unparsed` with a reason, and never an exception.

`read_box`, `read_points`, `read_trajectory`, `read_choice`, `read_yes_no`, `read_number` and `read_text` each give a
`Reading`: the answer in pixels of the stored image, the tier (the form it was found in) and notes.

The time is linear in the text.

No number that is not a coordinate becomes one: coordinates stand in brackets, or have labels (`x1: 10`), or are four
and more in a row with nothing but separators between them. Everything else (`Step 1`, `2 boxes`, `95%`, `2D`) is text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

from robointervlm.core import plugins
from robointervlm.core.answer import Answer, Box, Choice, Number, Points, Text, Trajectory, YesNo, answer_type
from robointervlm.core.coordinates import Space, pairs
from robointervlm.core.errors import DataError
from robointervlm.core.reading.numbers import LARGEST, NUMBER
from robointervlm.core.reading.places import read_box, read_points, read_trajectory
from robointervlm.core.reading.quantity import read_number
from robointervlm.core.reading.text import Reading, Tier, without_question
from robointervlm.core.reading.words import options_in, read_choice, read_text, read_yes_no
from robointervlm.core.sample import Place, Question

__all__ = [
    "Reading",
    "Tier",
    "answer_from_json",
    "find_places",
    "options_in",
    "read_box",
    "read_choice",
    "read_number",
    "read_points",
    "read_text",
    "read_trajectory",
    "read_yes_no",
    "without_question",
]

_PLACE = re.compile(
    rf"\[\s*+{NUMBER}\s*+,\s*+{NUMBER}\s*+(?:,\s*+{NUMBER}\s*+,\s*+{NUMBER}\s*+)?+\]"
    rf"|\(\s*+{NUMBER}\s*+,\s*+{NUMBER}\s*+(?:,\s*+{NUMBER}\s*+,\s*+{NUMBER}\s*+)?+\)"
)
_ONE = re.compile(NUMBER)


def find_places(text: str, space: Space) -> Question:
    """A question's text with the bracketed pairs and fours of numbers in it held apart as places, in pixels.

    Everything else stays text, single numbers and rows without brackets included. Written back in the same space it
    is the same text up to the rounding of that space.
    """
    parts: list[str | Place] = []
    position = 0
    for match in _PLACE.finditer(text):
        numbers = [float(number) for number in match[0][1:-1].split(",")]
        if not all(abs(number) <= LARGEST for number in numbers):
            continue
        if match.start() > position:
            parts.append(text[position : match.start()])
        parts.append(Place(space.to_pixels(pairs(numbers)), _ONE.sub("{}", match[0])))
        position = match.end()
    if position < len(text) or not parts:
        parts.append(text[position:])
    return tuple(parts)


def answer_from_json(record: Mapping[str, object]) -> Answer:
    """The answer that `answer_to_json` wrote, to the last digit. Anything else is a `DataError`."""
    if len(record) == 1:
        [(key, value)] = record.items()
        if answer_type(key) is None:  # it may be of a plugin that nobody has asked for yet
            plugins.load_all("robointervlm.tasks")
        if (kind := answer_type(key)) is not None:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                return kind.from_json(value)
    raise DataError(
        f"{str(dict(record))[:200]} is not an answer as records hold it, such as {{'box': [x1, y1, x2, y2]}}."
    )


def _choice(text: str, _space: Space | None = None, *, key: str = "") -> Reading:
    del key
    return read_choice(text)


def _yes_no(text: str, _space: Space | None = None, *, key: str = "") -> Reading:
    del key
    return read_yes_no(text)


def _text(text: str, _space: Space | None = None, *, key: str = "") -> Reading:
    del key
    return read_text(text)


# The readers make these answers, so that they cannot stand in their classes.
Box.read, Points.read, Trajectory.read = read_box, read_points, read_trajectory
Choice.read, YesNo.read, Text.read, Number.read = _choice, _yes_no, _text, read_number
