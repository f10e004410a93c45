"""Distances between two paths: arrays of shape (N, 2) as x, y; results in the unit of their coordinates.

Each raises `ValueError` for a path without points. All are iterative and keep one diagonal or block in memory, so two
paths of 5,000 points take about half a second. `dtw_many` and its like take many pairs at once: those of one shape are
measured together, with the same arithmetic, so they give what the single functions give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized

import numpy as np
from numpy.typing import ArrayLike, NDArray

Path = NDArray[np.float64]

# Numbers held at once: 2 million float64 are 16 MB.
_BLOCK = 2_000_000
# Numbers of one row or diagonal of many pairs at once: 8,192 float64 are 64 KB, which stay in the processor's cache.
_ROW = 8_192
# Cells of one pair up to which numpy's calls cost more than the cells.
_FEW = 400


def dtw(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Dynamic-time-warping distance: the sum of point distances along the cheapest alignment; 0 if the paths coincide.

    No window, and not divided by the length of the alignment, so it grows with the number of waypoints: compare only
    paths of one task. The paths may differ in length.
    Source: Sakoe and Chiba 1978, symmetric steps without weights, as the published evaluation does.
    """
    return _one_aligned(_path(predicted), _path(reference), np.add)


def discrete_frechet(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Discrete Fréchet distance: the longest leash needed when both paths are walked in order, waypoint by waypoint.

    Source: Eiter and Mannila 1994.
    """
    return _one_aligned(_path(predicted), _path(reference), np.maximum)


def hausdorff(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Hausdorff distance of the waypoints: how far the point of either path is that lies farthest from the other path.

    The order of the points does not count.
    """
    return float(_farthest(*_pair(predicted, reference))[0])


def rmse(predicted: ArrayLike, reference: ArrayLike, missing: float = math.inf) -> float:
    """Root of the mean squared distance between the waypoints, first with first, second with second, and so on.

    It is defined for paths of one length. For others, each waypoint that is missing or too many counts as one that is
    `missing` away, and the mean is over the longer path; so a wrong number of waypoints is never the best value, and
    infinitely bad unless a price is given. (A task gives the image diagonal, which is what an unreadable one costs.)
    """
    return float(_root_mean_square(*_pair(predicted, reference), np.array([missing], dtype=np.float64))[0])


def dtw_many(predicted: Sequence[ArrayLike], reference: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """`dtw` of every pair, in order. Paths of any lengths; two arrays of shape (B, N, 2) are fastest."""
    return _measured(predicted, reference, lambda first, second, _: _aligned(first, second, np.add))


def discrete_frechet_many(predicted: Sequence[ArrayLike], reference: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """`discrete_frechet` of every pair, in order."""
    return _measured(predicted, reference, lambda first, second, _: _aligned(first, second, np.maximum))


def hausdorff_many(predicted: Sequence[ArrayLike], reference: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """`hausdorff` of every pair, in order."""
    return _measured(predicted, reference, lambda first, second, _: _farthest(first, second))


def rmse_many(
    predicted: Sequence[ArrayLike], reference: Sequence[ArrayLike], missing: ArrayLike = math.inf
) -> NDArray[np.float64]:
    """`rmse` of every pair, in order; `missing` is one price for all of them or one for each."""
    prices = np.broadcast_to(np.asarray(missing, dtype=np.float64), (len(predicted),))
    return _measured(predicted, reference, lambda first, second, where: _root_mean_square(first, second, prices[where]))


def _measured(
    predicted: Sequence[ArrayLike],
    reference: Sequence[ArrayLike],
    measure: Callable[[Path, Path, NDArray[np.intp]], Path],
) -> Path:
    """Pairs of one shape at once, in blocks of bounded size; `measure` is given two (B, N, 2) and their places."""
    if len(predicted) != len(reference):
        raise ValueError(f"{len(predicted)} paths are compared with {len(reference)}: one with one is needed")
    shapes: dict[tuple[int, int], list[int]] = {}
    for index, lengths in enumerate(zip(_lengths(predicted), _lengths(reference), strict=True)):
        shapes.setdefault(lengths, []).append(index)
    values = np.empty(len(predicted))
    for shape, indices in shapes.items():
        size = max(1, _ROW // (max(shape) + 1))
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            where = np.array(chosen, dtype=np.intp)
            values[where] = measure(_stacked(predicted, chosen), _stacked(reference, chosen), where)
    return values


def _lengths(paths: Sequence[ArrayLike]) -> list[int]:
    if isinstance(paths, np.ndarray) and paths.ndim > 1:
        return [paths.shape[1]] * len(paths)
    return [len(path) if isinstance(path, Sized) else 0 for path in paths]


def _stacked(paths: Sequence[ArrayLike], chosen: Sequence[int]) -> Path:
    """The chosen paths, all of one length, as one array; converted together, since that is what costs time."""
    try:
        several = paths[chosen] if isinstance(paths, np.ndarray) else [paths[index] for index in chosen]
        stacked = np.asarray(several, dtype=np.float64)
    except ValueError:  # one of them has points of other lengths
        stacked = np.empty(0)
    if stacked.ndim != 3 or stacked.shape[2] != 2 or not stacked.shape[1]:
        return np.array([_path(paths[index]) for index in chosen])  # says what is none of a path
    return stacked


def _pair(predicted: ArrayLike, reference: ArrayLike) -> tuple[Path, Path]:
    """One pair as a group of one."""
    return _path(predicted)[None], _path(reference)[None]


def _path(points: ArrayLike) -> Path:
    path = np.asarray(points, dtype=np.float64)
    if path.ndim != 2 or path.shape[1] != 2 or not len(path):
        raise ValueError(f"a path has the shape (N, 2) with at least one point, got {path.shape}")
    return path


def _one_aligned(first: Path, second: Path, combine: np.ufunc) -> float:
    if len(first) * len(second) > _FEW:
        return float(_aligned(first[None], second[None], combine)[0])
    # A few cells are faster one by one; the operations on each are the same, so the result is, to the last bit.
    others = second.tolist()
    before = [0.0] + [math.inf] * len(others)
    for x, y in first.tolist():
        now = [math.inf]
        for j, (u, v) in enumerate(others):
            dx, dy = x - u, y - v
            distance = math.sqrt(dx * dx + dy * dy)
            best = min(before[j], before[j + 1], now[j])
            now.append(distance + best if combine is np.add else max(distance, best))
        before = now
    return before[-1]


def _aligned(first: Path, second: Path, combine: np.ufunc) -> Path:
    """The cheapest alignment of each pair of (B, N, 2) and (B, M, 2), costs combined along it by `combine`.

    cost[i, j] = combine(distance[i, j], min(cost[i-1, j], cost[i, j-1], cost[i-1, j-1])), by anti-diagonals i + j = d,
    each of which depends on the two before it only. `before[i + 1]` holds cost[i, d - 1 - i] of every pair.
    """
    pairs, n, m = len(first), first.shape[1], second.shape[1]
    xs, ys = (np.ascontiguousarray(first[:, :, axis].T) for axis in (0, 1))
    back_xs, back_ys = (np.ascontiguousarray(second[:, ::-1, axis].T) for axis in (0, 1))
    earlier, before, now = (np.full((n + 1, pairs), math.inf) for _ in range(3))
    earlier[0] = 0.0  # the empty alignment, before cost[0, 0]
    for diagonal in range(n + m - 1):
        low, high = max(0, diagonal - m + 1), min(n - 1, diagonal) + 1
        shift = m - 1 - diagonal  # second[diagonal - i] is back[i + shift]
        distance = _length(
            xs[low:high] - back_xs[low + shift : high + shift], ys[low:high] - back_ys[low + shift : high + shift]
        )
        best = np.minimum(before[low:high], before[low + 1 : high + 1])
        np.minimum(best, earlier[low:high], out=best)
        combine(distance, best, out=now[low + 1 : high + 1])
        now[low] = math.inf
        now[high + 1 : high + 2] = math.inf
        earlier, before, now = before, now, earlier
    return before[n].copy()


def _length(dx: Path, dy: Path) -> Path:
    """The root of dx² + dy²; overwrites both. Several times faster than hypot, which also serves lengths of 1e160."""
    dx *= dx
    dy *= dy
    dx += dy
    return np.sqrt(dx, out=dx)


def _farthest(first: Path, second: Path) -> Path:
    """Of each pair, how far the point of either path is that lies farthest from the other path."""
    pairs, n, m = len(first), first.shape[1], second.shape[1]
    nearest = np.full((pairs, m), math.inf)
    farthest = np.zeros(pairs)
    rows = max(1, _BLOCK // (pairs * m))
    for start in range(0, n, rows):
        block = first[:, start : start + rows, None]
        squares = (block[..., 0] - second[:, None, :, 0]) ** 2 + (block[..., 1] - second[:, None, :, 1]) ** 2
        farthest = np.maximum(farthest, squares.min(axis=2).max(axis=1))
        nearest = np.minimum(nearest, squares.min(axis=1))
    distances: Path = np.sqrt(np.maximum(farthest, nearest.max(axis=1)))
    return distances


def _root_mean_square(first: Path, second: Path, missing: NDArray[np.float64]) -> Path:
    n, m = first.shape[1], second.shape[1]
    shared, longer = min(n, m), max(n, m)
    squares = ((first[:, :shared] - second[:, :shared]) ** 2).sum(axis=(1, 2))
    if longer > shared:
        squares += (longer - shared) * missing**2
    distances: Path = np.sqrt(squares / longer)
    return distances
