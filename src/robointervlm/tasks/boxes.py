"""Boxes: where the object is, where to grasp it, where it will end, where the gripper is.

The headline is ACC@IoU>0.1, the number of the published tables; the stricter ACC@IoU>0.5 and the mean IoU follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from robointervlm.core.answer import Answer, Box
from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.core.reading import read_box
from robointervlm.core.writing import write_answer
from robointervlm.metrics.overlap import acc_at, iou, iou_many
from robointervlm.tasks.styles import GROUNDING, GROUNDING_GRIPPER
from robointervlm.tasks.task import Case, Column, Metric, Task


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
    return Metric(f"ACC@IoU>{threshold}", "higher", partial(_over, threshold), worst=0.0, measure_many=many)


BOX_METRICS = (_acc(0.1), _acc(0.5), Metric("IoU", "higher", _iou, worst=0.0, measure_many=_ious))


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
        wordings=GROUNDING,
    )


TASKS = (
    box_task("contact_box", "contact_bbox", column="Grasp"),
    box_task("current_box", "current_bbox", column="Object"),
    box_task("final_box", "final_bbox", column="Place"),
    replace(box_task("gripper_det", "gripper_det_bbox", column="Gripper"), wordings=GROUNDING_GRIPPER),
)
