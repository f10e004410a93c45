"""The places inside a question, which are converted with its answer."""

from __future__ import annotations

import re

from robointervlm.core.coordinates import Space, pairs
from robointervlm.core.reading.numbers import LARGEST, NUMBER
from robointervlm.core.sample import Place, Question

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
