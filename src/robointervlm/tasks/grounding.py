"""Grounding: where something that is named is, written as Qwen2.5-VL writes boxes; and naming, its reverse."""

from __future__ import annotations

from robointervlm.core.answer import Text
from robointervlm.core.writing import write_answer
from robointervlm.tasks.boxes import box_task
from robointervlm.tasks.task import Task, text_reading

TASKS = (
    box_task("grounding", "bbox_2d", file_stems=("grounding_qa",)),
    Task(
        name="naming",
        reading=text_reading,
        write=write_answer,
        metrics=Text.metrics,
        file_stems=("naming_qa",),
        places_in_question=True,
        max_new_tokens=32,
    ),
)
