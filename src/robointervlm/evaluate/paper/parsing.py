"""How the published scorer finds numbers in an answer, with everything it gets wrong. Only for the paper column.

Source of the behaviour: the public RoboInter release, commit 481acfbf; what it does wrong is deliberate here and named
by its trap number (docs/scoring.md lists them).
"""

from __future__ import annotations

import json
import re

from robointervlm.core.coordinates import MAX_ASPECT, RESIZE_FACTOR, ImageSize, smart_resize

# Trap 3: no sign, so -5 is 5. Traps 2 and 4: digits anywhere in the text count, those of words and list numbers too.
_UNSIGNED = re.compile(r"\d+\.?\d*|\.\d+")
# Possessive, and no number starts inside another: what the published patterns find, in time linear in the text.
_SIGNED = r"(?:-|(?<!\d))(?:\d++\.?+\d*+|\.\d++)"
_COMMA = r"\s*+,\s*+"
_FLAT = re.compile(rf"(?:\[\s*+)?+{_SIGNED}{_COMMA}{_SIGNED}{_COMMA}{_SIGNED}{_COMMA}{_SIGNED}\s*+\]?+")
# Trap 2: whole numbers only, so [[1.5, 2.0], [3.0, 4.0]] is left to the digits of the whole text.
_WHOLE_PAIR = rf"\[\s*+(\d++){_COMMA}(\d++)\s*+\]"
_NESTED = re.compile(rf"\[\s*+{_WHOLE_PAIR}{_COMMA}{_WHOLE_PAIR}\s*+\]")
# Trap 12: the pixel limit is fixed, whatever the processor used.
_MAX_PIXELS = 1_003_520

Number = int | float


def published_numbers(text: str) -> list[float]:
    """Every unsigned number of a text (`extract_number`). `TypeError` for None, as published (trap 5)."""
    return [float(number) for number in _UNSIGNED.findall(text)]


def published_path(text: str) -> list[float]:
    """x, y, x, y … of a text (`extract_traj_answer`): all its numbers; an odd one at the end is dropped (trap 10)."""
    numbers = published_numbers(text)
    return numbers[: len(numbers) // 2 * 2]


def published_box(text: str) -> list[Number]:
    """Four numbers out of a text (`extract_bbox_answer`).

    They are integers if the text holds [a, b, c, d] or [[a, b], [c, d]] of them, which is what makes the conversion cut
    them off later (trap 1). Without four numbers they are four zeros, which overlap nothing.
    """
    flat = _FLAT.search(text)
    if flat:
        try:
            read = json.loads(flat[0])
        except ValueError:  # without its brackets, which is every tuple and every row of bare numbers
            read = None
        if isinstance(read, list):
            return read
    nested = _NESTED.search(text)
    if nested:
        return [int(number) for number in nested.groups()]
    numbers = published_numbers(text)
    return [*numbers[:4]] if len(numbers) >= 4 else [0, 0, 0, 0]


def published_resize(height: int, width: int) -> tuple[int, int]:
    """The height and width that the scorer takes the processor to have made (`smart_resize`).

    `ValueError` for a side under 28 pixels or an aspect over 200, which ends the scoring of the whole file (trap 5).
    """
    if min(height, width) < RESIZE_FACTOR:
        raise ValueError(f"height:{height} or width:{width} must be larger than factor:{RESIZE_FACTOR}")
    if max(height, width) / min(height, width) > MAX_ASPECT:
        raise ValueError(f"the aspect ratio of {width}x{height} is over {MAX_ASPECT}")
    resized = smart_resize(ImageSize(width, height), max_pixels=_MAX_PIXELS)
    return resized.height, resized.width
