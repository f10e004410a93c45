"""Trajectories: the ten waypoints the gripper will pass, with its present position in the question or without.

The headline is DTW, the number of the published tables ("Trace").
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from robointervlm.core.answer import Trajectory
from robointervlm.core.reading import read_trajectory
from robointervlm.core.writing import write_answer
from robointervlm.tasks.styles import TRAJECTORY
from robointervlm.tasks.task import Task

_KEY = "future_traj"

_TRAJ = Task(
    name="traj",
    reading=partial(read_trajectory, key=_KEY),
    write=partial(write_answer, key=_KEY),
    metrics=Trajectory.metrics,
    file_stems=("full_single_multi_contact_obj_traj_qa",),
    places_in_question=True,
    column="Trace",
    wordings=TRAJECTORY,
)

TASKS = (
    _TRAJ,
    replace(
        _TRAJ,
        name="traj_wo_init_pos",
        file_stems=("full_single_multi_contact_obj_traj_qa_wo_init_pos",),
        places_in_question=False,
        column="",
    ),
)
