"""Trajectories: the ten waypoints the gripper will pass, with its present position in the question or without.

The headline is DTW, the number of the published tables ("Trace").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from robointervlm.core.answer import Answer, Trajectory
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.reading import read_trajectory
from robointervlm.core.writing import write_answer
from robointervlm.metrics.curves import Path, discrete_frechet, dtw, hausdorff, rmse
from robointervlm.metrics.penalty import diagonal
from robointervlm.tasks.task import Metric, Task

_KEY = "future_traj"


def _path(answer: Answer) -> Path:
    assert isinstance(answer, Trajectory)
    return answer.array


def _between(
    distance: Callable[[Path, Path], float], predicted: Answer, reference: Answer, _image: ImageSize | None
) -> float:
    return distance(_path(predicted), _path(reference))


def _rmse(predicted: Answer, reference: Answer, image: ImageSize | None) -> float:
    return rmse(_path(predicted), _path(reference), missing=_one_diagonal(reference, image))


def _one_diagonal(_reference: Answer, image: ImageSize | None) -> float:
    """For distances that are those of single waypoints."""
    assert image is not None  # an answer with places has an image
    return diagonal(image)


def _diagonal_each(reference: Answer, image: ImageSize | None) -> float:
    """For a distance that is a sum over waypoints."""
    return len(_path(reference)) * _one_diagonal(reference, image)


_METRICS = (
    Metric("DTW", "lower", partial(_between, dtw), worst=None, penalty=_diagonal_each),
    Metric("Frechet", "lower", partial(_between, discrete_frechet), worst=None, penalty=_one_diagonal),
    Metric("Hausdorff", "lower", partial(_between, hausdorff), worst=None, penalty=_one_diagonal),
    Metric("RMSE", "lower", _rmse, worst=None, penalty=_one_diagonal),
)

_TRAJ = Task(
    name="traj",
    reading=partial(read_trajectory, key=_KEY),
    write=partial(write_answer, key=_KEY),
    metrics=_METRICS,
    stems=("full_single_multi_contact_obj_traj_qa",),
    places_in_question=True,
    column="Trace",
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
