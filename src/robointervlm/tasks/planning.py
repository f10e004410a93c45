"""Task planning: plans in words, choices between them, and whether something was done, over frames of a video.

They are published in one file, told apart by the kind that the id names. Every answer is kept as the text it is, since
some references are words where others are letters; the letter, or the yes or no, is read when it is compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from robointervlm.core.answer import Answer, Choice, Text, YesNo
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.reading import Reading, read_choice, read_text, read_yes_no
from robointervlm.core.writing import write_answer
from robointervlm.metrics.text import Smoothing, sacre_bleu, strict_bleu
from robointervlm.tasks.task import Column, Metric, Task, text_reading

Family = Literal["planning", "planning_choice", "planning_decide"]


@dataclass(frozen=True)
class Kind:
    """A kind of planning question by its published name, and the task it belongs to."""

    family: Family
    name: str


# As the public release names them in its ids.
KINDS = (
    *(
        Kind("planning", name)
        for name in (
            "Planning_Task",
            "Past_Description_Task",
            "Planning_with_Context_Task",
            "Planning_Remaining_Steps_Task",
            "Generative_Affordance_Task",
            "Future_Prediction_Task",
        )
    ),
    *(
        Kind("planning_choice", name)
        for name in (
            "Scene_Understanding",
            "Past_Multi_task_Selection",
            "Past_Primitive_Selection",
            "Future_Multi_task_Selection",
            "Future_Primitive_Selection",
            "Temporal_Understanding",
        )
    ),
    *(
        Kind("planning_decide", name)
        for name in (
            "Success_Negative_Task",
            "Success_Positive_Task",
            "Discriminative_Affordance_Negative_Task",
            "Discriminative_Affordance_Positive_Task",
        )
    ),
)
_BY_NAME = {kind.name.lower(): kind for kind in KINDS}
_NAMED = re.compile("|".join(re.escape(name) for name in _BY_NAME))


def planning_kind(identifier: str) -> Kind | None:
    """The kind of question that an id names, also in parentheses (`Success_(Negative)_Task`) and in any case.

    None if it names none, or kinds of two tasks: which of them it is would be a guess (the published scorer takes
    choices first, trap 20).
    """
    plain = identifier.lower().replace("(", "").replace(")", "").replace(" ", "_").replace("-", "_")
    found = [_BY_NAME[name] for name in _NAMED.findall(plain)]
    return found[0] if len({kind.family for kind in found}) == 1 else None


def _told_apart(record: Mapping[str, object]) -> str | None:
    """The task of a record by its id, or by its `task` where the id names no kind."""
    for field in ("id", "task"):
        value = record.get(field)
        kind = planning_kind(value) if isinstance(value, str) else None
        if kind is not None:
            return kind.family
    return None


_LIST_ITEM = re.compile(r"\s*+(?:(?:step\s++)?\d++\s*+[.):-]|[-*•])\s*+\S", re.I)


def final_answer(text: str) -> str:
    """The lines of an answer that are its plan: the list at its end, one item a line, or else its last line.

    What stands in front of them is how the model came to it. Empty lines do not count.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    start = len(lines)
    while start and _LIST_ITEM.match(lines[start - 1]):
        start -= 1
    return "\n".join(lines[start:] if start < len(lines) else lines[-1:])


def _plans(predicted: Answer, reference: Answer) -> tuple[str, str]:
    """Both plans as they are compared: a reference of several lines is compared with the whole answer."""
    answer, wanted = _text(predicted), _text(reference)
    return (answer if "\n" in wanted.strip() else final_answer(answer)), wanted


def _text(answer: Answer) -> str:
    assert isinstance(answer, Text)
    return answer.text


def _bleu(smoothing: Smoothing, predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    # Case does not count, as in the published planning scorer.
    answer, wanted = _plans(predicted, reference)
    return strict_bleu(answer.lower(), wanted.lower(), smoothing).mean


def _sacre_bleu(predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    return sacre_bleu(*_plans(predicted, reference))


def _words(text: str) -> list[str]:
    """The words of a text in lower case, without the signs around them."""
    return re.findall(r"\w++(?:['’-]\w++)*+", text.lower())


_LABEL = re.compile(r"\s*+[\s\"'`*_(\[]*+(?P<letter>[A-HJa-hj])(?:[*_\"']*+[)\].:]|$)\s*+(?P<words>.*+)", re.S)


def chosen(predicted: Answer, reference: Answer, _image: ImageSize | None = None) -> float:
    """1 if the answer chooses the option of the reference, by its letter or by its words, else 0.

    For a reference that is a letter ("D", "D. open the drawer") the letter of the answer counts, or the words of the
    option; for one that is words, the words of the whole answer or of its last line, with or without a letter in front.
    """
    answer, wanted = _text(predicted), _text(reference)
    label = _LABEL.fullmatch(wanted)
    words = _words(label["words"] if label else wanted)
    letter = read_choice(answer).answer
    if label and isinstance(letter, Choice):
        return float(letter.letter == label["letter"].upper())
    for said in (answer, final_answer(answer)):
        option = _LABEL.fullmatch(said)  # its letter in front of its words does not count
        if words and _words(option["words"] if option else said) == words:
            return 1.0
    return 0.0


_SAYS = frozenset(("is", "are", "was", "were", "be", "looks", "seems", "answer"))


def decided(predicted: Answer, reference: Answer, _image: ImageSize | None = None) -> float:
    """1 if the answer says what the reference says, else 0: the same yes or no, in any wording.

    A few references are another word ("graspable"): then the last line is that word, or says "… is graspable".
    """
    answer, wanted = _text(predicted), _text(reference)
    right = read_yes_no(wanted).answer
    if isinstance(right, YesNo):
        said = read_yes_no(answer).answer
        return float(isinstance(said, YesNo) and said == right)
    words, last = _words(wanted), _words(final_answer(answer))
    if not words or last[-len(words) :] != words:
        return 0.0
    before = last[: -len(words)]
    return float(not before or before[-1] in _SAYS)


def _choice_reading(text: str, _space: Space | None) -> Reading:
    return _noted(read_text(text), read_choice(text), Choice, "no letter")


def _decide_reading(text: str, _space: Space | None) -> Reading:
    return _noted(read_text(text), read_yes_no(text), YesNo, "no yes or no")


def _noted(whole: Reading, found: Reading, kind: type[Choice | YesNo], note: str) -> Reading:
    """The text as it is, with the form in which its letter (or yes or no) was found, or a note that there is none."""
    if not isinstance(whole.answer, Text):
        return whole
    if isinstance(found.answer, kind):
        return Reading(whole.answer, found.tier, found.notes)
    return Reading(whole.answer, "text", (note,))


def _accuracy(name: Family, column: Column) -> Task:
    measure, reading = {"planning_choice": (chosen, _choice_reading), "planning_decide": (decided, _decide_reading)}[
        name
    ]
    return Task(
        name=name,
        reading=reading,
        write=write_answer,
        metrics=(Metric("Accuracy", "higher", measure, "share", worst=0.0),),
        max_new_tokens=256,
        column=column,
        task_of_record=_told_apart,
    )


TASKS = (
    Task(
        name="planning",
        reading=text_reading,
        write=write_answer,
        metrics=(
            Metric("BLEU", "higher", partial(_bleu, "method1"), "share", worst=0.0),
            Metric("BLEU unsmoothed", "higher", partial(_bleu, "none"), "share", worst=0.0),
            Metric("sacreBLEU", "higher", _sacre_bleu, "share", worst=0.0),
        ),
        file_stems=("task_planning", "all_plan_VQA"),
        column="Planning BLEU",
        task_of_record=_told_apart,
    ),
    _accuracy("planning_choice", "Planning choice"),
    _accuracy("planning_decide", "Planning T/F"),
)
