"""How much two boxes overlap, and where a box was hit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


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


def acc_at(overlap: float, threshold: float) -> float:
    """1 if an overlap is over the threshold, else 0; the threshold itself is not over it, as published."""
    return float(overlap > threshold)
