"""The question that a task asks, worded as the datasets made here word it."""

from __future__ import annotations

import re

from robointervlm.core.errors import RecipeError
from robointervlm.episodes.questions.wordings import WORDINGS
from robointervlm.tasks import task_named

_BLANK = re.compile(r"\{[a-z ]+\}")
# As `episodes.questions` begins the questions whose answer depends on what the robot is told to do.
_TOLD = "Task: {instruction}. "
_BEFORE = {
    **dict.fromkeys(("current_box", "final_box", "contact_box", "contact_point", "traj_wo_init_pos"), _TOLD),
    **dict.fromkeys(("grounding_choice", "grasppose_choice", "traj_choice"), _TOLD),
    "traj": _TOLD + "The gripper is now at {point}. ",
}
# The pictures of these hold the four choices; the others list them in words.
_DRAWN = {"grounding_choice", "grasppose_choice", "traj_choice", "traj_direction_choice"}
_LETTERS = " Answer with A, B, C or D."


def own_question(task: str) -> str:
    """The first wording of a task's question, empty if there is none; `{name}` and the like are blanks to fill in."""
    wordings = WORDINGS.get(task_named(task).name)
    if wordings is None:
        return ""
    after = ""
    if task.endswith("_choice"):
        after = _LETTERS if task in _DRAWN else " {choices}" + _LETTERS
    return _BEFORE.get(task, "") + wordings[0] + after


def blanks(question: str) -> tuple[str, ...]:
    """The blanks that are still in a question, such as `{name}`."""
    return tuple(dict.fromkeys(_BLANK.findall(question)))


def complete_question(task: str) -> str:
    """The task's own question, where it is one without blanks; a `RecipeError` says what to write otherwise."""
    question = own_question(task)
    if not question:
        raise RecipeError(f"'{task}' has no wording of its own; give the question with --prompt.")
    if missing := blanks(question):
        raise RecipeError(
            f"the question of '{task}' has {', '.join(missing)} to be filled in; give it with --prompt, such as "
            f'--prompt "{question}".'
        )
    return question
