"""How much two boxes overlap, and where a box was hit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def iou(first: ArrayLike, second: ArrayLike) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2 (flat or as two corners); 1 if they are the same, 0 if apart.

    A box whose second corner is not below and to the right of its first covers nothing and overlaps nothing, itself
    included: put corners in order first, as `Box.spanning` does.
    """
    ax1, ay1, ax2, ay2 = np.asarray(first, dtype=np.float64).reshape(4).tolist()
    bx1, by1, bx2, by2 = np.asarray(second, dtype=np.float64).reshape(4).tolist()
    common = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
    union = max(0.0, ax2 - ax1) * max(0.0, ay2 - ay1) + max(0.0, bx2 - bx1) * max(0.0, by2 - by1) - common
    return common / union if common > 0 else 0.0


def iou_many(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """`iou` of every pair of boxes of two arrays of shape (N, 4) or (N, 2, 2), in order; shape (N,)."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _columns(first), _columns(second)
    if ax1.shape != bx1.shape:
        raise ValueError(f"{len(ax1)} boxes are compared with {len(bx1)}: one with one is needed")
    width = np.maximum(0.0, np.minimum(ax2, bx2) - np.maximum(ax1, bx1))
    common = width * np.maximum(0.0, np.minimum(ay2, by2) - np.maximum(ay1, by1))
    areas = np.maximum(0.0, ax2 - ax1) * np.maximum(0.0, ay2 - ay1)
    areas += np.maximum(0.0, bx2 - bx1) * np.maximum(0.0, by2 - by1)
    overlaps: NDArray[np.float64] = np.divide(common, areas - common, out=np.zeros_like(common), where=common > 0)
    return overlaps


def _columns(boxes: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(boxes, dtype=np.float64)
    if array.shape[1:] not in {(4,), (2, 2)}:
        raise ValueError(f"boxes have the shape (N, 4) or (N, 2, 2), got {array.shape}")
    return array.reshape(-1, 4).T


def acc_at(overlap: float, threshold: float) -> float:
    """1 if an overlap is over the threshold, else 0; the threshold itself is not over it, as published."""
    return float(overlap > threshold)
