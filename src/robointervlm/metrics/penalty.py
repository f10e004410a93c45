"""What a failure is charged on a distance that has no upper bound.

The column of charged values holds one number per requested sample. An unreadable answer is charged as if every waypoint
had been wrong by the diagonal of the image; a readable one is charged its own value, but never more than that, so that
a failure is never better than an answer.
"""

from __future__ import annotations

import math

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import ImageSize


def diagonal(image: ImageSize) -> float:
    """The length of the image's diagonal in pixels: the farthest apart that two places in it can be."""
    return math.hypot(*image)


def one_diagonal(_reference: Answer, image: ImageSize | None) -> float:
    """The penalty of a distance that is one waypoint's: the image's diagonal, whatever the reference is."""
    assert image is not None  # an answer with places has an image
    return diagonal(image)


def charged(value: float | None, penalty: float) -> float:
    """The value of one sample in the charged column; None is an unreadable answer."""
    return penalty if value is None else min(value, penalty)
