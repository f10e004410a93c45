"""A question about a user's own pictures, worded as the datasets made here word it, and its answer on the page."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from robointervlm.core.answer import Unparsed
from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Decoding
from robointervlm.episodes.questions.wordings import WORDINGS
from robointervlm.evaluate.infer import ask, image_question
from robointervlm.models.model import Model
from robointervlm.report.fragments import figure
from robointervlm.report.overlay import in_words
from robointervlm.tasks import all_tasks, task_named

FREE = "free question"

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


class Shown(NamedTuple):
    """An answer as the page shows it: drawn, as it was read, and as the model wrote it."""

    drawn: Markup
    read_as: str
    text: str


class ModelDemo:
    """A model that visitors may ask; `name` is what they know it by."""

    def __init__(self, name: str, model: Model, decoding: Decoding) -> None:
        self.name = name
        self._model = model
        self._decoding = decoding

    def ask(self, pictures: Sequence[Path], task: str, question: str) -> Shown:
        """The answer, read as the task's unless the question is a free one. A `RecipeError` says what is missing."""
        if not pictures:
            raise RecipeError("Choose a picture first.")
        if not question.strip():
            raise RecipeError("Write a question first.")
        if missing := blanks(question):
            raise RecipeError(f"Fill in {', '.join(missing)} in the question first.")
        asked = image_question(question, pictures, task=None if task == FREE else task)
        began = time.monotonic()
        said = ask(self._model, asked, self._decoding)
        answer = None if isinstance(said.answer, Unparsed) else said.answer
        if isinstance(said.answer, Unparsed):
            read_as = f"no answer could be read: {said.answer.reason}"
        elif said.answer is None:
            read_as = "a text: choose a task to have places read and drawn"
        else:
            read_as = in_words(said.answer)
        assert said.picture is not None  # there is a picture, so there is a first one
        drawn = figure(said.picture, answer)
        return Shown(drawn, f"{read_as} ({time.monotonic() - began:.1f} s)", said.text)


def questions() -> dict[str, str]:
    """Every task with its own question, those that have one first; blanks such as `{name}` are to be filled in."""
    own = {task: own_question(task) for task in all_tasks()}
    return {FREE: ""} | dict(sorted(own.items(), key=lambda entry: not entry[1]))


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
