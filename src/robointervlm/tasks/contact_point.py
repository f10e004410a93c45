"""Contact points: the two places where the fingers touch the object."""

from __future__ import annotations

from functools import partial

from robointervlm.core.answer import Answer, Points
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.reading import read_points
from robointervlm.core.writing import write_answer
from robointervlm.metrics.points import contact_distance
from robointervlm.metrics.standard import one_diagonal
from robointervlm.tasks.task import Metric, Task

_KEY = "contact_point"


def _distance(predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    assert isinstance(predicted, Points)
    assert isinstance(reference, Points)
    return contact_distance(predicted.array, reference.array)


TASKS = (
    Task(
        name="contact_point",
        reading=partial(read_points, key=_KEY, count=2),
        write=partial(write_answer, key=_KEY),
        metrics=(Metric("Distance", "lower", _distance, "px", penalty=one_diagonal),),
        file_stems=("full_single_multi_contact_obj_contact_point_qa",),
        max_new_tokens=256,
    ),
)
