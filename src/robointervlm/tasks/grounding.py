"""Grounding: where something that is named is, written as Qwen2.5-VL writes boxes."""

from __future__ import annotations

from robointervlm.tasks.boxes import box_task

TASKS = (box_task("grounding", "bbox_2d", stems=("grounding_qa",)),)
