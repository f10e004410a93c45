"""Where the files of a data set lie: the published folders and names."""

from __future__ import annotations

_GENERATION = "Generation/meta/{split}/{source}/origin_format/full_single_multi_contact_obj_"
_UNDERSTANDING = "Understanding/meta/{split}/{source}/"
_FILES: dict[str, str] = {
    "current_box": _GENERATION + "current_box_qa.json",
    "final_box": _GENERATION + "final_box_qa.json",
    "contact_box": _GENERATION + "contact_box_qa.json",
    "gripper_det": _GENERATION + "gripper_det_qa.json",
    "contact_point": _GENERATION + "contact_point_qa.json",
    "traj": _GENERATION + "traj_qa.json",
    "traj_wo_init_pos": _GENERATION + "traj_qa_wo_init_pos.json",
    "grounding": _UNDERSTANDING + "grounding_qa.json",
    "naming": _UNDERSTANDING + "naming_qa.json",
}
_EPISODES = "Episodes/meta/{split}/{source}/episodes.jsonl"
# In validation the three families of planning questions are published apart, in training in one file.
_FAMILIES = {"planning": "planning", "planning_choice": "choice", "planning_decide": "decide"}


def annotation_file(task: str, split: str, source: str) -> str:
    """The file of a task's records, relative to the data root; several tasks may share one."""
    if task in _FAMILIES:
        folder = source if split == "train" else f"{source}/{_FAMILIES[task]}"
        return f"Task_planning/meta/{split}/{folder}/task_planning.json"
    return _FILES.get(task, _UNDERSTANDING + f"{task}.json").format(split=split, source=source)


def published_task(task: str) -> str:
    """The task that a file's records are of; two files may ask the same one in two ways."""
    return {"traj_direction_words": "traj_direction_choice"}.get(task, task)


def episodes_file(split: str, source: str) -> str:
    """The file of the episodes with all their labels."""
    return _EPISODES.format(split=split, source=source)
