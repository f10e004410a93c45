"""Answers out of what a model wrote: any text gives an answer, or `Unparsed` with a reason, and never an exception.

`read_box`, `read_points`, `read_trajectory`, `read_choice`, `read_yes_no`, `read_number` and `read_text` each give a
`Reading`: the answer in pixels of the stored image, the tier (the form it was found in) and notes.

The time is linear in the text.

No number that is not a coordinate becomes one: coordinates stand in brackets, or have labels (`x1: 10`), or are four
and more in a row with nothing but separators between them. Everything else (`Step 1`, `2 boxes`, `95%`, `2D`) is text.
"""

from __future__ import annotations

from robointervlm.core.answer import Box, Choice, Number, Points, Text, Trajectory, YesNo
from robointervlm.core.coordinates import Space
from robointervlm.core.reading.places import read_box, read_points, read_trajectory
from robointervlm.core.reading.quantity import read_number
from robointervlm.core.reading.question import find_places
from robointervlm.core.reading.record import answer_from_json
from robointervlm.core.reading.text import Reading, Tier, without_question
from robointervlm.core.reading.words import options_in, read_choice, read_text, read_yes_no

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
