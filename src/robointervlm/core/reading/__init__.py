"""Answers out of what a model wrote: any text gives an answer, or `Unparsed` with a reason, and never an exception.

`read_box`, `read_points`, `read_trajectory`, `read_choice`, `read_yes_no` and `read_text` each give a `Reading`: the
answer in pixels of the stored image, the tier (the form it was found in) and notes. The time is linear in the text.

No number that is not a coordinate becomes one: coordinates stand in brackets, or have labels (`x1: 10`), or are four
and more in a row with nothing but separators between them. Everything else (`Step 1`, `2 boxes`, `95%`, `2D`) is text.
"""

from __future__ import annotations

from robointervlm.core.reading.places import read_box, read_points, read_trajectory
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
    "read_points",
    "read_text",
    "read_trajectory",
    "read_yes_no",
    "without_question",
]
