"""What a task is: how its answers are read and written, what they are scored by, and how its question is put.

A task file never names a model and never looks at the dataset a sample came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.coordinates import Space
from robointervlm.core.metric import Case, Metric
from robointervlm.core.prompt import Message
from robointervlm.core.reading import Reading, read_text, without_question
from robointervlm.core.sample import Sample, written_question
from robointervlm.metrics import standard  # noqa: F401 - gives the answer types their metrics
from robointervlm.tasks.styles import styled

__all__ = ["Case", "Column", "Metric", "Task", "ThirdPartyColumn", "conversation", "text_reading"]

Column = Literal[
    "",
    "Object",
    "Grasp",
    "Place",
    "Gripper",
    "Grasp pose",
    "Grounding choice",
    "Contact",
    "Trace",
    "Planning BLEU",
    "Visual trace",
    "Planning choice",
    "Planning T/F",
]
"""The columns of the paper's Table 3 (ICLR 2026), in its order; "" is none of them."""

ThirdPartyColumn = Literal["Where2Place", "RoboRefIt", "RoboVQA", "RefCOCOg val", "RefCOCO+ val", "RefCOCO val"]
"""The columns of the paper's Table 2 that are scored here, in its order."""


@dataclass(frozen=True)
class Task:
    """One kind of question. The first metric is the headline.

    `reading` takes a model's text and the space it writes in; `read` gives its answer alone. `file_stems` are the names
    of the published annotation files (without `.json`) that hold this task; `places_in_question` says that bracketed
    numbers in the question are places in the image and are converted with the answer. `reading_to` is for tasks whose
    question says how its answers may be worded: it takes the question, too. `column` is the column of the paper's
    Table 3 or Table 2 that the task feeds, empty for none. `wordings` are the task's own ways of putting its question,
    by style (see `tasks.styles`).

    `task_of_record` is for a family of tasks whose questions are published together, in one file: the name of the task
    that a record is of, None where the record does not say (then it is of the task its dataset names).
    """

    name: str
    reading: Callable[[str, Space | None], Reading]
    write: Callable[[Answer, Space | None], str]
    metrics: tuple[Metric, ...]
    file_stems: tuple[str, ...] = ()
    places_in_question: bool = False
    max_new_tokens: int = 512
    reading_to: Callable[[str, Space | None, str], Reading] | None = None
    column: Column | ThirdPartyColumn = ""
    task_of_record: Callable[[Mapping[str, object]], str | None] | None = None
    wordings: Mapping[str, str] = field(default_factory=dict, hash=False)

    def reading_of(self, text: str, space: Space | None, question: str = "") -> Reading:
        """The reading of a reply to this question; a repetition of the question in front of it is no part of it."""
        reply, echoed = without_question(text, question)
        found = self.reading(reply, space) if self.reading_to is None else self.reading_to(reply, space, question)
        return replace(found, notes=("after the question", *found.notes)) if echoed else found

    def read(self, text: str, space: Space | None) -> Answer | Unparsed:
        """The answer in a text, in pixels, or why there is none; `reading` also says in which form it was found."""
        return self.reading(text, space).answer


def text_reading(text: str, _space: Space | None) -> Reading:
    """The `reading` of a task whose answers are any text; no number in it is a place."""
    return read_text(text)


def conversation(sample: Sample, task: Task, space: Space | None, style: str) -> tuple[Message, ...]:
    """The sample as it is put to a model that writes in `space`: all its turns, the answer to the last one left out."""
    system = sample.extra.get("system")
    messages = [Message("system", system)] if isinstance(system, str) and system else []
    for turn in sample.turns[:-1]:
        messages.append(Message("user", written_question(turn.question, space)))
        messages.append(Message("assistant", task.write(turn.answer, space)))
    messages.append(Message("user", styled(written_question(sample.question, space), style, task.wordings)))
    return tuple(messages)
