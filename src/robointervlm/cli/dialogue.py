"""Questions asked one after another at a terminal. Each stands for itself, as those that models are trained on do."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import typer

from robointervlm.app.ask import complete_question, own_question
from robointervlm.core.answer import Unparsed
from robointervlm.core.errors import RecipeError, RoboInterError
from robointervlm.core.prompt import Decoding
from robointervlm.evaluate.infer import Said, ask, image_question
from robointervlm.models.model import Model
from robointervlm.report.overlay import in_words, save_overlay
from robointervlm.tasks import all_tasks, task_named

_HELP = """\
Write a question, or one of:
  /image FILE…   the pictures that are asked about, in order; without a file: which they are
  /task NAME     read answers as this task's; without a name: which tasks there are; /task none: as text
  /ask           the task's own question
  /save FILE     the last answer over its picture, as PNG
  /new           forget pictures, task and answer
  /quit          leave, as Ctrl-D does; Ctrl-C gives up a line or an answer"""


class Dialogue:
    """The pictures and the task at hand, and what was said last."""

    def __init__(self, model: Model, decoding: Decoding, pictures: Sequence[Path] = ()) -> None:
        self.model = model
        self._decoding = decoding
        self._pictures = list(pictures)
        self._task: str | None = None
        self._last: Said | None = None
        self._commands: dict[str, Callable[[str], str]] = {
            "/image": self._image,
            "/task": self._choose_task,
            "/ask": self._ask_own,
            "/save": self._save,
            "/new": self._new,
            "/help": lambda _: _HELP,
        }

    def answer(self, line: str) -> str:
        """What is said to a line: a command's effect or the model's answer. Raises what goes wrong."""
        if not line.startswith("/"):
            return self._ask(line)
        name, _, rest = line.partition(" ")
        if name not in self._commands:
            raise RecipeError(f"'{name}' is no command; /help shows them.")
        return self._commands[name](rest.strip())

    def _ask(self, question: str) -> str:
        said = ask(self.model, image_question(question, self._pictures, task=self._task), self._decoding)
        self._last = said
        if said.answer is None:
            return said.text
        if isinstance(said.answer, Unparsed):
            return f"{said.text}\n{self._task}: no answer could be read: {said.answer.reason}"
        return f"{said.text}\n{self._task}: {in_words(said.answer)}"

    def _ask_own(self, _: str) -> str:
        if self._task is None:
            raise RecipeError("no task is chosen; /task NAME chooses one.")
        question = complete_question(self._task)
        return f"{question}\n{self._ask(question)}"

    def _image(self, written: str) -> str:
        try:
            files = [Path(name).expanduser() for name in shlex.split(written)]
        except ValueError as error:
            raise RecipeError(f"/image {written}: {error}.") from None
        if files:
            image_question("", files)
            self._pictures = files
        return ", ".join(map(str, self._pictures)) or "no picture; /image FILE… sets them."

    def _choose_task(self, name: str) -> str:
        if not name:
            return f"{self._task or 'no task'}; there are: {', '.join(all_tasks())}"
        self._task = None if name == "none" else task_named(name).name
        if self._task is None:
            return "answers are not read."
        own = own_question(self._task)
        return f"answers are read as {self._task}'s." + (f" /ask asks: {own}" if own else "")

    def _save(self, name: str) -> str:
        if not name or self._last is None or self._last.answer is None:
            raise RecipeError("/save FILE.png draws the last answer that a task read; choose one with /task, and ask.")
        path = Path(name).expanduser()
        save_overlay(path, self._last.picture, self._last.answer)
        return str(path)

    def _new(self, _: str) -> str:
        self._pictures, self._task, self._last = [], None, None
        return "forgotten."


def hold(dialogue: Dialogue) -> None:
    """Reads lines until there are no more. A mistake is said, and the dialogue goes on."""
    with suppress(ImportError):  # lines can be edited and called back; Windows has no readline
        importlib.import_module("readline")
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        typer.echo(f"{dialogue.model.name} is ready. /help says what can be written.")
    while True:
        try:
            line = input("> " if at_terminal else "").strip()
        except KeyboardInterrupt:
            typer.echo()
            continue
        except EOFError:
            if at_terminal:
                typer.echo()
            return
        if line in {"/quit", "/exit"}:
            return
        if not line:
            continue
        try:
            typer.echo(dialogue.answer(line))
        except RoboInterError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        except KeyboardInterrupt:
            typer.echo("given up.", err=True)
