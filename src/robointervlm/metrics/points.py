"""Answers that are points: the distance of two pairs of contact points, and the share of points inside a mask."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def contact_distance(predicted: ArrayLike, reference: ArrayLike) -> float:
    """The mean distance of the two fingertips, each matched with one of the reference so that it is smallest.

    Shape (2, 2) as x, y; which finger is named first makes no difference. `ValueError` for any other shape.
    """
    first, second = np.asarray(predicted, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.shape != (2, 2) or second.shape != (2, 2):
        raise ValueError(f"a contact is two points x, y, got the shapes {first.shape} and {second.shape}")
    (a, b), (c, d) = first.tolist(), second.tolist()
    return min(math.dist(a, c) + math.dist(b, d), math.dist(a, d) + math.dist(b, c)) / 2


def points_inside(points: ArrayLike, mask: ArrayLike) -> NDArray[np.bool_]:
    """For each point, shape (N, 2) as x, y, whether it lies in a mask of shape (height, width).

    A point belongs to the pixel it lies in; what lies outside of the mask's picture is not inside.
    """
    inside = np.asarray(mask, dtype=np.bool_)
    places = np.floor(np.asarray(points, dtype=np.float64).reshape(-1, 2))
    height, width = inside.shape
    x, y = places[:, 0], places[:, 1]
    known = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    found = np.zeros(len(places), dtype=np.bool_)
    found[known] = inside[y[known].astype(np.int64), x[known].astype(np.int64)]
    return found


def share_inside(points: ArrayLike, mask: ArrayLike) -> float:
    """The share of the points, shape (N, 2) as x, y, that lie in the mask; `ValueError` without a point.

    Source: the Where2Place benchmark (RoboPoint), whose score is the mean of this over the questions.
    """
    found = points_inside(points, mask)
    if not len(found):
        raise ValueError("the share of no points is not defined")
    return float(found.mean())
