"""Boxes: where the object is, where to grasp it, where it will end, where the gripper is.

The headline is ACC@IoU>0.1, the number of the published tables; the stricter ACC@IoU>0.5 and the mean IoU follow it.
"""

from __future__ import annotations

from functools import partial

from robointervlm.core.answer import Answer, Box
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.reading import read_box
from robointervlm.core.writing import write_answer
from robointervlm.metrics.overlap import acc_at, iou
from robointervlm.tasks.task import Column, Metric, Task


def _iou(predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    assert isinstance(predicted, Box)
    assert isinstance(reference, Box)
    return iou(predicted.corners, reference.corners)


def _over(threshold: float, predicted: Answer, reference: Answer, image: ImageSize | None) -> float:
    return acc_at(_iou(predicted, reference, image), threshold)


BOX_METRICS = (
    Metric("ACC@IoU>0.1", "higher", partial(_over, 0.1), worst=0.0),
    Metric("ACC@IoU>0.5", "higher", partial(_over, 0.5), worst=0.0),
    Metric("IoU", "higher", _iou, worst=0.0),
)


def box_task(name: str, key: str, stems: tuple[str, ...] | None = None, column: Column = "") -> Task:
    """A task whose answer is one box under `key`; `stems` are the published ones of a generation task by default."""
    return Task(
        name=name,
        reading=partial(read_box, key=key),
        write=partial(write_answer, key=key),
        metrics=BOX_METRICS,
        stems=(f"full_single_multi_contact_obj_{name}_qa",) if stems is None else stems,
        max_new_tokens=256,
        column=column,
    )


TASKS = (
    box_task("contact_box", "contact_bbox", column="Grasp"),
    box_task("current_box", "current_bbox", column="Object"),
    box_task("final_box", "final_bbox", column="Place"),
    box_task("gripper_det", "gripper_det_bbox", column="Gripper"),
)
