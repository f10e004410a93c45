"""What a failure is charged on a distance that has no upper bound.

The column of charged values holds one number per requested sample. An unreadable answer is charged as if every waypoint
had been wrong by the diagonal of the image; a readable one is charged its own value, but never more than that, so that
a failure is never better than an answer (`core.metric.charged`).
"""

from __future__ import annotations

import math

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import ImageSize


def diagonal(image: ImageSize) -> float:
    """The length of the image's diagonal in pixels: the farthest apart that two places in it can be."""
    return math.hypot(*image)


def one_diagonal(_reference: Answer, image: ImageSize | None) -> float:
    """The penalty of a distance that is one waypoint's: the image's diagonal, whatever the reference is.

    NaN without an image: there is nothing to charge by.
    """
    return math.nan if image is None else diagonal(image)
