"""Trajectories: the ten waypoints the gripper will pass, with its present position in the question or without.

The headline is DTW, the number of the published tables ("Trace").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.answer import Answer, Trajectory
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.reading import read_trajectory
from robointervlm.core.writing import write_answer
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
from robointervlm.metrics.penalty import one_diagonal
from robointervlm.tasks.styles import TRAJECTORY
from robointervlm.tasks.task import Case, Metric, Task

_KEY = "future_traj"


def _path(answer: Answer) -> Path:
    assert isinstance(answer, Trajectory)
    return answer.array


def _between(
    distance: Callable[[Path, Path], float], predicted: Answer, reference: Answer, _image: ImageSize | None
) -> float:
    return distance(_path(predicted), _path(reference))


def _rmse(predicted: Answer, reference: Answer, image: ImageSize | None) -> float:
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
    prices = [one_diagonal(case.reference, case.image) for case in cases]
    return _between_all(partial(rmse_many, missing=prices), cases)


def _metric(name: str, one: Callable[[Path, Path], float], many: Many) -> Metric:
    penalty = _diagonal_each if name == "DTW" else one_diagonal
    alike = partial(_between_all, many)
    return Metric(name, "lower", partial(_between, one), worst=None, penalty=penalty, measure_many=alike)


_METRICS = (
    _metric("DTW", dtw, dtw_many),
    _metric("Frechet", discrete_frechet, discrete_frechet_many),
    _metric("Hausdorff", hausdorff, hausdorff_many),
    Metric("RMSE", "lower", _rmse, worst=None, penalty=one_diagonal, measure_many=_all_rmse),
)

_TRAJ = Task(
    name="traj",
    reading=partial(read_trajectory, key=_KEY),
    write=partial(write_answer, key=_KEY),
    metrics=_METRICS,
    stems=("full_single_multi_contact_obj_traj_qa",),
    places_in_question=True,
    column="Trace",
    wordings=TRAJECTORY,
)

TASKS = (
    _TRAJ,
    replace(
        _TRAJ,
        name="traj_wo_init_pos",
        stems=("full_single_multi_contact_obj_traj_qa_wo_init_pos",),
        places_in_question=False,
        column="",
    ),
)
