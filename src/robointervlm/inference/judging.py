"""From a reply to a status: what a model's answer to one question counts as, and why.

A failure is a value that is counted, never a reason to leave a question out.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.coordinates import Space
from robointervlm.core.errors import RefusedError
from robointervlm.core.prompt import Reply
from robointervlm.tasks import Task

Status = Literal["ok", "unparsable", "model_error", "input_error", "refused", "missing"]
STATUSES: tuple[Status, ...] = ("ok", "unparsable", "model_error", "input_error", "refused", "missing")
"""What becomes of a question. `missing` is one that an unfinished run has not come to; it counts as a failure."""

ANSWERED: frozenset[str] = frozenset({"ok", "unparsable"})
"""The statuses that are final: asking again would cost the same answer again."""


class Problem(NamedTuple):
    """Why a question ends without an answer."""

    status: Status
    reason: str


class Judged(NamedTuple):
    """What became of a question: its status, why (empty for `ok`), the reply's text, the answer in stored pixels."""

    status: Status
    reason: str
    text: str | None = None
    answer: Answer | None = None


def judged(task: Task, result: Reply | Exception | Problem, space: Space | None, question: str) -> Judged:
    """What a reply, or what came in its place, counts as. `space` and `question` are those of the prompt."""
    if isinstance(result, Problem):
        return Judged(result.status, result.reason)
    if isinstance(result, Exception):
        return Judged("refused" if isinstance(result, RefusedError) else "model_error", one_line(result))
    if result.finish_reason == "refused":
        return Judged("refused", "the model declined to answer", result.text)
    if result.finish_reason == "error":
        return Judged("model_error", "the model stopped with an error", result.text)
    answer = task.reading_of(result.text, space, question).answer
    if isinstance(answer, Unparsed):
        return Judged("unparsable", answer.reason, result.text)
    return Judged("ok", "", result.text, answer)


def unasked(error: Exception) -> Problem:
    """What a question counts as whose record or image raised this before a model was asked."""
    return Problem("refused" if isinstance(error, RefusedError) else "input_error", one_line(error))


def one_line(error: BaseException) -> str:
    """What an error says, on one line and of at most 500 letters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 500 else text[:499] + "…"
