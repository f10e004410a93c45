"""What answers of each type are measured by, unless their task says otherwise: the `metrics` of the types.

A distance has no upper bound, so an unreadable answer is charged as if every waypoint had been wrong by the diagonal of
the image; a readable one is charged its own value, but never more than that, so that a failure is never better than an
answer (`core.metric.charged`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.answer import Answer, Box, Choice, Number, Points, Text, Trajectory, YesNo
from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.core.metric import Case, Metric, Penalty
from robointervlm.metrics.curves import (
    Path,
    discrete_frechet,
    discrete_frechet_many,
    dtw,
    dtw_many,
    hausdorff,
    hausdorff_many,
    rmse,
    rmse_many,
)
from robointervlm.metrics.overlap import acc_at, iou, iou_many


def one_diagonal(_reference: Answer, image: ImageSize | None) -> float:
    """The penalty of a distance that is one waypoint's: the image's diagonal in pixels, whatever the reference is.

    Two places in the image cannot be farther apart. NaN without an image: there is nothing to charge by.
    """
    return math.nan if image is None else math.hypot(*image)


def exact(predicted: Answer, reference: Answer, _image: ImageSize | None = None) -> float:
    """1 if both are the same answer, else 0; in texts, white space counts as one space and not at all at the ends."""
    if isinstance(predicted, Text) and isinstance(reference, Text):
        return float(predicted.text.split() == reference.text.split())
    return float(predicted == reference)


def _corners(answer: Answer) -> tuple[Point, Point]:
    assert isinstance(answer, Box)
    return answer.corners


def _iou(predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    return iou(_corners(predicted), _corners(reference))


def _over(threshold: float, predicted: Answer, reference: Answer, image: ImageSize | None) -> float:
    return acc_at(_iou(predicted, reference, image), threshold)


def _ious(cases: Sequence[Case]) -> list[float]:
    corners = [[_corners(answer) for answer in (case.predicted, case.reference)] for case in cases]
    overlaps: list[float] = iou_many([pair[0] for pair in corners], [pair[1] for pair in corners]).tolist()
    return overlaps


def _all_over(threshold: float, cases: Sequence[Case]) -> list[float]:
    return [acc_at(overlap, threshold) for overlap in _ious(cases)]


def _acc(threshold: float) -> Metric:
    many = partial(_all_over, threshold)
    return Metric(f"ACC@IoU>{threshold}", "higher", partial(_over, threshold), "share", worst=0.0, measure_many=many)


def _path(answer: Answer) -> Path:
    assert isinstance(answer, Trajectory)
    return answer.array


def _between(
    distance: Callable[[Path, Path], float], predicted: Answer, reference: Answer, _image: ImageSize | None
) -> float:
    return distance(_path(predicted), _path(reference))


def _rmse(predicted: Answer, reference: Answer, image: ImageSize | None) -> float:
    assert image is not None  # an answer with places has an image
    return rmse(_path(predicted), _path(reference), missing=one_diagonal(reference, image))


def _diagonal_each(reference: Answer, image: ImageSize | None) -> float:
    """For a distance that is a sum over waypoints."""
    return len(_path(reference)) * one_diagonal(reference, image)


Many = Callable[[list[Path], list[Path]], NDArray[np.float64]]


def _between_all(distances: Many, cases: Sequence[Case]) -> list[float]:
    found: list[float] = distances(
        [_path(case.predicted) for case in cases], [_path(case.reference) for case in cases]
    ).tolist()
    return found


def _all_rmse(cases: Sequence[Case]) -> list[float]:
    assert all(case.image is not None for case in cases)  # an answer with places has an image
    prices = [one_diagonal(case.reference, case.image) for case in cases]
    return _between_all(partial(rmse_many, missing=prices), cases)


def _distance(name: str, one: Callable[[Path, Path], float], many: Many, penalty: Penalty = one_diagonal) -> Metric:
    alike = partial(_between_all, many)
    return Metric(name, "lower", partial(_between, one), "px", penalty=penalty, measure_many=alike)


def _farthest(predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    """The farthest that a point is from the nearest of the other answer; of two single points, their distance."""
    assert isinstance(predicted, Points)
    assert isinstance(reference, Points)
    return hausdorff(predicted.array, reference.array)


def absolute_error(unit: str, *, penalty: float | None = None, name: str = "MAE") -> Metric:
    """The absolute error of a `Number`, in its unit; a failed answer is charged the penalty."""
    return Metric(name, "lower", _error, unit, penalty=penalty)


def _error(predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    assert isinstance(predicted, Number)
    assert isinstance(reference, Number)
    return abs(predicted.value - reference.value)


def equal(name: str) -> Metric:
    """Whether an answer is the reference."""
    return Metric(name, "higher", exact, "share", worst=0.0)


# They measure these answers, so that they cannot stand in their classes, which no metric may be known to.
Box.metrics = (_acc(0.1), _acc(0.5), Metric("IoU", "higher", _iou, "share", worst=0.0, measure_many=_ious))
Points.metrics = (Metric("Distance", "lower", _farthest, "px", penalty=one_diagonal),)
Trajectory.metrics = (
    _distance("DTW", dtw, dtw_many, _diagonal_each),
    _distance("Frechet", discrete_frechet, discrete_frechet_many),
    _distance("Hausdorff", hausdorff, hausdorff_many),
    Metric("RMSE", "lower", _rmse, "px", penalty=one_diagonal, measure_many=_all_rmse),
)
Choice.metrics = YesNo.metrics = (equal("Accuracy"),)
Text.metrics = (equal("Exact"),)
Number.metrics = (absolute_error(""),)
