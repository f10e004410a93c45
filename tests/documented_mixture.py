"""Generated data of every dataset that the documented training script names, in the published layout and form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robointervlm.data.mixture import parse_entries
from robointervlm.data.spec import Catalog
from scripted_benchmark import ROOT

SIZE = (84, 56)
PICTURES = 8
KEYS = {
    "contact_box": "contact_bbox",
    "current_box": "current_bbox",
    "final_box": "final_bbox",
    "gripper_det": "gripper_det_bbox",
    "contact_point": "contact_point",
    "traj": "future_traj",
    "traj_wo_init_pos": "future_traj",
}
# One of each family of planning questions, by the kind that the id names.
PLANS = (
    ("Planning_Task", "What is to be done to tidy the table?", "1. Pick up the cup. 2. Put it into the box."),
    ("Scene_Understanding", "What stands on the table? A. a cup B. a lamp C. a book D. a shoe", "A"),
    ("Success_Positive_Task", "Was the cup put into the box?", "Yes"),
)


def documented_names() -> list[str]:
    """The datasets of the five lists of sft.sh, without their percentages."""
    text = (ROOT / "qwen-vl-finetune/scripts/sft.sh").read_text().replace("\\\n", "")
    lists = re.findall(r'^\w+_datasets="\$\{\w+_datasets-([^}]+)\}"', text, re.MULTILINE)
    return [entry.name for entry in parse_entries(",".join(lists))]


def make_mixture(root: Path, names: Sequence[str], count: int = 10) -> None:
    """`count` records of each dataset under the data root, all on the same eight small pictures."""
    catalog = Catalog()
    (root / "image").mkdir(parents=True)
    for number in range(PICTURES):
        picture = np.full((SIZE[1], SIZE[0], 3), 40 + 20 * number, dtype=np.uint8)
        (x, y), (right, bottom) = _box(number)
        picture[y:bottom, x:right] = (200, 30, 30)
        Image.fromarray(picture).save(root / f"image/{number}.png")
    for name in names:
        spec = catalog[name]
        file = spec.candidates(root)[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        record = _RECORDS.get(spec.task, _localised if spec.task in KEYS else _choice)
        file.write_text(json.dumps([record(spec.task, number) for number in range(count)]))


def _box(number: int) -> list[list[int]]:
    x, y = 5 * (number % 8), 3 * (number % 8)
    return [[x, y], [x + 30, y + 20]]


def _record(task: str, number: int, question: str, answer: str, pictures: int = 1) -> dict[str, Any]:
    images = [f"image/{(number + offset) % PICTURES}.png" for offset in range(pictures)]
    return {
        "id": f"{task}_{number}",
        "task": task,
        "conversations": [
            {"from": "human", "value": "<image>\n" * pictures + question},
            {"from": "gpt", "value": answer},
        ],
        "images": images if pictures > 1 else images[0],
        "gt": answer,
        "h": SIZE[1],
        "w": SIZE[0],
    }


def _localised(task: str, number: int) -> dict[str, Any]:
    points = _box(number)
    question = f"Where is the {task}?"
    if KEYS[task] == "future_traj":
        points = [[8 * step, 5 * step] for step in range(10)]
    if task == "traj":
        question += " The gripper is at [0, 0]."
    return _record(task, number, question, json.dumps({KEYS[task]: points}))


def _choice(task: str, number: int) -> dict[str, Any]:
    # Options that are pictures come after the scene, options in words stand in the question.
    pictures = 4 if task in ("traj_choice", "grasppose_choice") else 1
    return _record(task, number, "Which one is right? A. up B. down C. left D. right", "ABCD"[number % 4], pictures)


def _decide(task: str, number: int) -> dict[str, Any]:
    return _record(task, number, "Does the gripper touch the cup?", ("Yes", "No")[number % 2])


def _plan(_task: str, number: int) -> dict[str, Any]:
    kind, question, answer = PLANS[number % len(PLANS)]
    return _record(kind, number, question, answer, PICTURES)


_RECORDS: dict[str, Callable[[str, int], dict[str, Any]]] = {"contact_decide": _decide, "planning": _plan}
