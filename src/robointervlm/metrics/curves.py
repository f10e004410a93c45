"""Distances between two paths: arrays of shape (N, 2) as x, y; results in the unit of their coordinates.

Each raises `ValueError` for a path without points. All are iterative and keep one diagonal or block in memory, so two
paths of 5,000 points take about half a second.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Path = NDArray[np.float64]

_BLOCK = 512  # rows of the distance matrix at a time: 512 x 5,000 float64 are 20 MB


def dtw(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Dynamic-time-warping distance: the sum of point distances along the cheapest alignment; 0 if the paths coincide.

    No window, and not divided by the length of the alignment, so it grows with the number of waypoints: compare only
    paths of one task. The paths may differ in length.
    Source: Sakoe and Chiba 1978, symmetric steps without weights, as the published evaluation does.
    """
    return _aligned(_path(predicted), _path(reference), np.add)


def discrete_frechet(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Discrete Fréchet distance: the longest leash needed when both paths are walked in order, waypoint by waypoint.

    Source: Eiter and Mannila 1994.
    """
    return _aligned(_path(predicted), _path(reference), np.maximum)


def hausdorff(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Hausdorff distance of the waypoints: how far the point of either path is that lies farthest from the other path.

    The order of the points does not count.
    """
    first, second = _path(predicted), _path(reference)
    nearest = np.full(len(second), math.inf)
    farthest = 0.0
    for start in range(0, len(first), _BLOCK):
        block = first[start : start + _BLOCK]
        squares = (block[:, None, 0] - second[None, :, 0]) ** 2 + (block[:, None, 1] - second[None, :, 1]) ** 2
        farthest = max(farthest, float(squares.min(axis=1).max()))
        nearest = np.minimum(nearest, squares.min(axis=0))
    return math.sqrt(max(farthest, float(nearest.max())))


def rmse(predicted: ArrayLike, reference: ArrayLike, missing: float = math.inf) -> float:
    """Root of the mean squared distance between the waypoints, first with first, second with second, and so on.

    It is defined for paths of one length. For others, each waypoint that is missing or too many counts as one that is
    `missing` away, and the mean is over the longer path; so a wrong number of waypoints is never the best value, and
    infinitely bad unless a price is given. (A task gives the image diagonal, which is what an unreadable one costs.)
    """
    first, second = _path(predicted), _path(reference)
    shared, longer = min(len(first), len(second)), max(len(first), len(second))
    squares = float(((first[:shared] - second[:shared]) ** 2).sum())
    if longer > shared:
        squares += (longer - shared) * missing**2
    return math.sqrt(squares / longer)


def _path(points: ArrayLike) -> Path:
    path = np.asarray(points, dtype=np.float64)
    if path.ndim != 2 or path.shape[1] != 2 or not len(path):
        raise ValueError(f"a path has the shape (N, 2) with at least one point, got {path.shape}")
    return path


def _aligned(first: Path, second: Path, combine: np.ufunc) -> float:
    """The cheapest alignment of two paths, costs combined along it by `combine` (their sum, or the largest).

    cost[i, j] = combine(distance[i, j], min(cost[i-1, j], cost[i, j-1], cost[i-1, j-1])), by anti-diagonals i + j = d,
    each of which depends on the two before it only. `before[i + 1]` holds cost[i, d - 1 - i].
    """
    n, m = len(first), len(second)
    xs, ys = first[:, 0].copy(), first[:, 1].copy()
    back_xs, back_ys = second[::-1, 0].copy(), second[::-1, 1].copy()
    earlier, before, now = (np.full(n + 1, math.inf) for _ in range(3))
    earlier[0] = 0.0  # the empty alignment, before cost[0, 0]
    for diagonal in range(n + m - 1):
        low, high = max(0, diagonal - m + 1), min(n - 1, diagonal) + 1
        shift = m - 1 - diagonal  # second[diagonal - i] is back[i + shift]
        distance = np.hypot(
            xs[low:high] - back_xs[low + shift : high + shift], ys[low:high] - back_ys[low + shift : high + shift]
        )
        best = np.minimum(np.minimum(before[low:high], before[low + 1 : high + 1]), earlier[low:high])
        now[low + 1 : high + 1] = combine(distance, best)
        now[low] = math.inf
        now[high + 1 : high + 2] = math.inf
        earlier, before, now = before, now, earlier
    return float(before[n])
