"""The distance between two pairs of contact points, whose order means nothing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def contact_distance(predicted: ArrayLike, reference: ArrayLike) -> float:
    """The mean distance of the two fingertips, each matched with one of the reference so that it is smallest.

    Shape (2, 2) as x, y; which finger is named first makes no difference. `ValueError` for any other shape.
    """
    first, second = np.asarray(predicted, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.shape != (2, 2) or second.shape != (2, 2):
        raise ValueError(f"a contact is two points x, y, got the shapes {first.shape} and {second.shape}")
    (a, b), (c, d) = first.tolist(), second.tolist()
    return min(math.dist(a, c) + math.dist(b, d), math.dist(a, d) + math.dist(b, c)) / 2
