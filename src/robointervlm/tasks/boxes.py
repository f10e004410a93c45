"""Boxes: where the object is, where to grasp it, where it will end, where the gripper is.

The headline is ACC@IoU>0.1, the number of the published tables; the stricter ACC@IoU>0.5 and the mean IoU follow it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from robointervlm.core.answer import Box
from robointervlm.core.reading import read_box
from robointervlm.core.writing import write_answer
from robointervlm.tasks.styles import GROUNDING, GROUNDING_GRIPPER
from robointervlm.tasks.task import Column, Task

BOX_METRICS = Box.metrics


def box_task(name: str, key: str, file_stems: tuple[str, ...] | None = None, column: Column = "") -> Task:
    """A task whose answer is one box under `key`; `file_stems`: those published of a generation task by default."""
    return Task(
        name=name,
        reading=partial(read_box, key=key),
        write=partial(write_answer, key=key),
        metrics=BOX_METRICS,
        file_stems=(f"full_single_multi_contact_obj_{name}_qa",) if file_stems is None else file_stems,
        max_new_tokens=256,
        column=column,
        wordings=GROUNDING,
    )


TASKS = (
    box_task("contact_box", "contact_bbox", column="Grasp"),
    box_task("current_box", "current_bbox", column="Object"),
    box_task("final_box", "final_bbox", column="Place"),
    replace(box_task("gripper_det", "gripper_det_bbox", column="Gripper"), wordings=GROUNDING_GRIPPER),
)
