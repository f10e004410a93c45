"""What `robointer app` does with a question about a visitor's own pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from robointervlm.app.own_question import blanks, own_question
from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Decoding
from robointervlm.evaluate.infer import ask, image_question
from robointervlm.models.model import Model
from robointervlm.report.fragments import figure
from robointervlm.report.overlay import in_words
from robointervlm.tasks import all_tasks

FREE = "free question"


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
        assert said.picture is not None  # there is a picture, so there is a first one
        return Shown(
            figure(said.picture, answer), _read_as(said.answer) + f" ({time.monotonic() - began:.1f} s)", said.text
        )


def questions() -> dict[str, str]:
    """Every task with its own question, those that have one first; blanks such as `{name}` are to be filled in."""
    own = {task: own_question(task) for task in all_tasks()}
    return {FREE: ""} | dict(sorted(own.items(), key=lambda entry: not entry[1]))


def _read_as(answer: Answer | Unparsed | None) -> str:
    if answer is None:
        return "a text: choose a task to have places read and drawn"
    if isinstance(answer, Unparsed):
        return f"no answer could be read: {answer.reason}"
    return in_words(answer)
