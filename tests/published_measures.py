"""The published helpers of the language script that no score is made by: its metrics and its parsers.

None of them can be reached with a working command line there (trap 38), but their numbers are quoted, so they are here
as they are, and the golden vectors hold them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.exceptions import AxisError
from numpy.typing import ArrayLike, NDArray

from robointervlm.metrics import curves
from robointervlm.metrics.text import published_bleu

# Trap 29: in units of the coordinates, so a normalised box of 0.001 x 0.001 overlaps itself by half.
_ADDED = 1e-6
_MULTIPLE = ("current_bbox", "target_bbox", "grasp_point", "future_traj", "action")
# Trap 35: the published function calls itself once per step of the alignment, and Python stops it here.
_DEEPEST = 1000


def published_frechet(predicted: ArrayLike, reference: ArrayLike) -> float:
    """The discrete Fréchet distance; `RecursionError` from about a thousand points of both paths on (trap 35)."""
    first, second = np.asarray(predicted), np.asarray(reference)
    if not len(first) or not len(second):
        raise IndexError("index -1 is out of bounds for axis 1 with size 0")
    if len(first) + len(second) >= _DEEPEST:
        raise RecursionError("maximum recursion depth exceeded")
    return curves.discrete_frechet(first, second)


def published_hausdorff(predicted: ArrayLike, reference: ArrayLike) -> float:
    """The Hausdorff distance; `ValueError` for an empty path."""
    return curves.hausdorff(predicted, reference)


def published_dtw(predicted: ArrayLike, reference: ArrayLike) -> float:
    """The DTW distance; infinite if one path is empty, 0 if both are."""
    first, second = np.asarray(predicted), np.asarray(reference)
    if not len(first) or not len(second):
        return 0.0 if len(first) == len(second) else math.inf
    return curves.dtw(first, second)


def published_rmse(predicted: ArrayLike, reference: ArrayLike) -> float:
    """The mean over x and y of the root of the mean squared difference, which is not the usual RMSE (trap 33).

    `ValueError` for paths of other lengths, but a path of one point is compared with every point of the other.
    """
    first, second = np.asarray(predicted, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    return float(np.sqrt(((first[None] - second[None]) ** 2).mean(axis=1)).mean())


def published_overlaps(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """IoU of boxes, pair by pair (`compute_iou_batch`), with a constant added to the union (trap 29)."""
    a, b = np.asarray(first), np.asarray(second)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.prod(np.clip(sides, 0, None), axis=-1)
    areas = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1)
    overlaps: NDArray[np.float64] = common / (areas - common + _ADDED)
    return overlaps


def seg_metric(predicted: Any, reference: Any) -> dict[str, float]:
    """The IoU of a box (`compute_seg_metric`): -1 for more than one reference (trap 28), 0 for what is no box.

    An empty list and numbers written as texts raise, and the script then drops the record (trap 30).
    """
    references = np.array(reference).reshape(-1, 4)
    if len(references) != 1:
        return {"iou": -1}
    try:
        boxes = np.array(predicted).reshape(-1, 4)
    except (ValueError, TypeError):
        return {"iou": 0.0}
    np.maximum(boxes[:1], references)  # texts that look like numbers fail here
    return {"iou": published_overlaps(boxes[:1], references).item()}


def trajectory_metric(predicted: Any, reference: Any) -> dict[str, float]:
    """Fréchet, Hausdorff, DTW and RMSE of a path (`compute_trajectory_metric`); -1 for what is no path.

    RMSE is 0, its best value, whenever the lengths differ (trap 31). None raises `TypeError`, a dictionary without
    `future_traj` raises `IndexError` (trap 32), one bare point raises `AxisError` (trap 33).
    """
    if "future_traj" in predicted:
        predicted = predicted["future_traj"]
    first, second = _array(predicted), _array(reference)
    if first is None or second is None or first.shape[-1] != 2 or second.shape[-1] != 2:
        return dict.fromkeys(("dfd", "hd", "dtw", "rmse"), -1)
    if first.ndim != 2 or second.ndim != 2:
        raise AxisError("axis 2 is out of bounds for array of dimension 2")
    measures: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
        "dfd": published_frechet,
        "hd": published_hausdorff,
        "dtw": published_dtw,
    }
    values = {name: measure(first, second) for name, measure in measures.items()}
    return values | {"rmse": published_rmse(first, second) if len(first) == len(second) else 0}


def contact_point_metric(predicted: Any, reference: Any) -> dict[str, float]:
    """The RMSE of two fingertips (`compute_contact_point_metric`): 0, its best value, for what is no pair of points
    (trap 34), -1 for such a reference. The fingers are not matched, and None raises `TypeError` (trap 32).
    """
    if "contact_point" in predicted:
        predicted = predicted["contact_point"]
    first, second = _array(predicted), _array(reference)
    if second is None or second.shape != (2, 2):
        return {"point": -1}
    if first is None or first.shape != (2, 2):
        return {"point": 0}
    return {"point": published_rmse(first, second)}


def _array(points: Any) -> NDArray[Any] | None:
    """An array of what is given; None for None and for lists of different lengths."""
    if points is None:
        return None
    try:
        return np.array(points)
    except ValueError:
        return None


def language_metric(predicted: str | list[str], reference: str | list[Any]) -> dict[str, list[float]]:
    """BLEU without smoothing (`compute_language_metric`), a list with one value for each pair.

    A missing order of n-grams makes its value 1e-77 or less (trap 26), and a reference of None raises `AttributeError`
    (trap 32).
    """
    answers = [predicted] if isinstance(predicted, str) else predicted
    references = [reference] if isinstance(reference, str) else reference
    bleus = []
    for answer, wanted in zip(answers, references, strict=False):
        if not isinstance(wanted, str):
            raise AttributeError(f"'{type(wanted).__name__}' object has no attribute 'split'")
        bleus.append(published_bleu(answer, wanted, "none"))
    names = ("bleu1", "bleu2", "bleu3", "bleu4")
    return {"score": [bleu.mean for bleu in bleus]} | {name: [getattr(bleu, name) for bleu in bleus] for name in names}


def published_single(text: str, key: str) -> object:
    """What `parse_output_single` makes of a text: a list from JSON, but a dictionary from anything else (trap 36)."""
    content = _json_object(text)
    if content.get(key) is not None:
        return content[key]
    return {key: _loose_value(text, key)}


def published_multiple(text: str) -> dict[str, object]:
    """What `parse_output_multi` makes of a text: the values of five keys, None for each it does not find (trap 36)."""
    content = _json_object(text)
    found = {key: content.get(key) if content else _loose_value(text, key) for key in _MULTIPLE}
    if found["action"] is not None:  # trap 36: an action lands in the trajectory
        found["future_traj"], found["action"] = found["action"], None
    return found


def _json_object(text: str) -> Mapping[str, object]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _loose_value(text: str, key: str) -> object:
    """The list after a key, up to the first closing bracket: lists within lists are never read (trap 36)."""
    match = re.search(rf'"{key}"\s*:\s*(\[[^\]]*\])', text)
    if match is None:
        return None
    try:
        read = json.loads(match[1])
    except ValueError:
        return None
    return read if isinstance(read, list) else None
