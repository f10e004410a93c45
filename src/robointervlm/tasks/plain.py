"""Kinds of answers without a benchmark: what predictions are scored as when nobody says which task they are of.

They measure what the benchmark's tasks of the kind measure and feed no column of the published tables.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from robointervlm.core.answer import Points
from robointervlm.core.reading import read_points
from robointervlm.core.writing import write_answer
from robointervlm.tasks.boxes import box_task
from robointervlm.tasks.chat import TASKS as CHAT
from robointervlm.tasks.choice import TASKS as CHOICES
from robointervlm.tasks.decide import TASKS as DECISIONS
from robointervlm.tasks.task import Task
from robointervlm.tasks.trajectory import TASKS as TRAJECTORIES


def _plain(task: Task, name: str) -> Task:
    return replace(task, name=name, file_stems=(), places_in_question=False, column="", task_of_record=None)


TASKS = (
    box_task("any_box", "bbox_2d", file_stems=()),
    _plain(TRAJECTORIES[0], "any_traj"),
    Task(
        name="any_points",
        reading=read_points,
        write=partial(write_answer, key="point_2d"),
        metrics=Points.metrics,
        max_new_tokens=256,
    ),
    _plain(CHOICES[0], "any_choice"),
    _plain(DECISIONS[0], "any_decide"),
    _plain(CHAT[0], "any_text"),
)
