"""Which fault of the published scorer changed a record's result, by name.

A quirk is named only where the published number differs from the one that a straight reading of the same texts in the
same units gives: that of the strict column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from robointervlm.core.answer import Answer, Box, Trajectory, Unparsed
from robointervlm.core.coordinates import Point, Space
from robointervlm.evaluate.paper.answers import (
    PlanType,
    Record,
    assumed_spaces,
    box_overlap,
    published_box,
    published_numbers,
    published_path,
)
from robointervlm.tasks import Task, task_named


@dataclass(frozen=True)
class Quirk:
    """What the published scorer does, and the traps (numbers of the list in docs/scoring.md) that it is; none of them
    where it is a fault that the list does not hold.
    """

    explanation: str
    traps: tuple[int, ...]


INTEGERS: Final = "integers cut off"
DIGITS: Final = "digits of the text are coordinates"
MINUS: Final = "minus signs lost"
NUMBERING: Final = "list numbers are coordinates"
STOPPED: Final = "a record stops the file"
EMPTY: Final = "an empty answer is correct"
PART: Final = "a part of the reference is correct"
INSIDE: Final = "the reference inside other words is correct"
WORDING: Final = "other wordings are wrong"
UNREAD: Final = "an unreadable path is left out"
PERFECT: Final = "a perfect path is left out"
ODD: Final = "an odd number is dropped"
SWAPPED: Final = "swapped corners overlap nothing"
LAST_LINE: Final = "only the last line counts"
YES_NO: Final = "yes and no inside other words count"
SPACES: Final = "spaces are words"
OTHERWISE: Final = "read otherwise"

QUIRKS: Mapping[str, Quirk] = {
    INTEGERS: Quirk("A box of whole numbers stays one when it is converted, which cuts off its decimals.", (1,)),
    DIGITS: Quirk(
        "The first digits of the text are taken, also those of words such as bbox_2d, x1 or Step 1, and of an echoed "
        "prompt.",
        (2,),
    ),
    MINUS: Quirk("Numbers are read without their sign.", (3,)),
    NUMBERING: Quirk("The numbers of a list of waypoints are read as coordinates.", (4,)),
    STOPPED: Quirk("The record raises an exception, and no number is printed for its whole file.", (5, 20)),
    EMPTY: Quirk("An empty text is in every text, so an empty answer, or an empty last line, is correct.", (6, 17)),
    PART: Quirk("Any part of the reference is correct, even a single letter of it.", (6, 18)),
    INSIDE: Quirk("The reference is looked for as a piece of text, also inside other words and lists.", (7, 18)),
    WORDING: Quirk("Case, synonyms and what stands before the last 100 characters make a right answer wrong.", (8, 19)),
    UNREAD: Quirk("A path without numbers has the distance 0, and zeros are left out of the mean.", (9,)),
    PERFECT: Quirk("A perfect path has the distance 0, and zeros are left out of the mean.", (9,)),
    ODD: Quirk(
        "Of an odd number of numbers the last is dropped, and x and y change places after a missing one.", (10,)
    ),
    SWAPPED: Quirk("A box whose corners are written the other way round overlaps nothing.", ()),
    LAST_LINE: Quirk("Only what stands after the last line break is scored, even if that is nothing.", (17,)),
    YES_NO: Quirk(
        'Yes and no are looked for inside words: "yesterday" is yes, "unknown" and "not sure" are no.', (19,)
    ),
    SPACES: Quirk("Two spaces in a row hold an empty word.", (24,)),
    OTHERWISE: Quirk(
        "The published scorer finds other numbers or words in the texts, for none of the reasons here.", ()
    ),
}


# Answers in the published form, which everybody reads alike; most are, and reading them again would take longer than
# all else.
_NUMBER = r"\d{1,6}+(?:\.\d{1,9}+)?+"
_LIST = rf"\[\[{_NUMBER}, {_NUMBER}\](?:, \[{_NUMBER}, {_NUMBER}\])*+\]"
_PLAIN = re.compile(rf'\{{"[a-z_]++": {_LIST}\}}|{_LIST}')


def _plain(text: str) -> bool:
    return len(text) < 1_000 and _PLAIN.fullmatch(text.strip()) is not None


def _plain_box(text: str) -> bool:
    if not _plain(text):
        return False
    numbers = published_numbers(text)
    return len(numbers) == 4 and numbers[0] <= numbers[2] and numbers[1] <= numbers[3]


def box_quirks(task: Task, record: Record, source: str, value: float) -> tuple[str, ...]:
    """The quirks that changed the IoU of a box."""
    if _plain_box(record["pred"]) and _plain_box(record["gt"]):
        return () if _same(box_overlap(record, source, cut_off=False), value) else (INTEGERS,)
    predicted, reference = _read_places(task, record, source)
    if not isinstance(reference.answer, Box):
        return (OTHERWISE,)
    straight = _measured(task, "IoU", predicted.answer, reference.answer) or 0.0
    if _same(straight, value):
        return ()
    found = [INTEGERS] if not _same(box_overlap(record, source, cut_off=False), value) else []
    if isinstance(predicted.answer, Box):
        found += _box_misread(published_box(record["pred"]), predicted.numbers)
    else:
        found.append(DIGITS)
    if not _equal(published_numbers(record["gt"])[:4], reference.numbers):
        found.append(DIGITS)
    return tuple(dict.fromkeys(found or [OTHERWISE]))


def _box_misread(found: Sequence[float], written: Sequence[float]) -> list[str]:
    """Why four numbers are not the corners as they are written; nothing if they are."""
    if _equal(found, written):
        return []
    if _equal(found, [abs(number) for number in written]):
        return [MINUS]
    x1, y1, x2, y2 = found
    if _equal([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)], written):
        return [SWAPPED]
    return [DIGITS]


_NUMBERED = re.compile(r"^\s*+(?:[A-Za-z]++\s++)?\d++\s*+[.:)]\s*+[(\[]", re.M)


def path_quirks(task: Task, record: Record, source: str, value: float) -> tuple[str, ...]:
    """The quirks that changed the DTW of a path, or that leave it out."""
    if not published_path(record["pred"]) or not published_path(record["gt"]):
        return (UNREAD,)
    left_out = (PERFECT,) if value == 0 else ()
    if _plain(record["pred"]) and _plain(record["gt"]):
        return left_out
    predicted, reference = _read_places(task, record, source)
    found = [
        *_path_misread(record["pred"], predicted.numbers),
        *_path_misread(record["gt"], reference.numbers),
    ]
    if found:
        straight = _measured(task, "DTW", predicted.answer, reference.answer)
        if straight is not None and _same(straight, value):
            found = []
    return (*dict.fromkeys(found), *left_out)


def _path_misread(text: str, written: Sequence[float]) -> list[str]:
    """Why the numbers of a text are not the waypoints as they are written; nothing if they are."""
    numbers = published_path(text)
    if _equal(numbers, written):
        return []
    lost = [MINUS] if any(number < 0 for number in written) else []
    if lost and _equal(numbers, [abs(number) for number in written]):
        return lost
    if len(_NUMBERED.findall(text)) > 1:
        return [NUMBERING, *lost]
    if not written and len(published_numbers(text)) % 2:
        return [ODD]
    return [DIGITS, *lost]


def contained_quirks(task: Task, record: Record, value: float) -> tuple[str, ...]:
    """The quirks that changed whether a letter, or yes or no, is correct."""
    straight = _measured(task, "Accuracy", task.read(record["pred"], None), task.read(record["gt"], None))
    if (straight or 0.0) == value:
        return ()
    predicted, reference = record["pred"].strip(), record["gt"].strip()
    return (_text_quirk(predicted, reference, value),)


def _text_quirk(predicted: str, reference: str, value: float) -> str:
    if value == 0:
        return WORDING
    if not predicted:
        return EMPTY
    return PART if predicted in reference else INSIDE


def plan_quirks(kind: PlanType, record: Record, value: float) -> tuple[str, ...]:
    """The quirks that changed the score of a planning record."""
    task = task_named({"planning": "planning", "choice": "planning_choice", "decide": "planning_decide"}[kind])
    metric = "BLEU" if kind == "planning" else "Accuracy"
    straight = _measured(task, metric, task.read(record["pred"], None), task.read(record["gt"], None))
    if _same(straight or 0.0, value):
        return ()
    last, reference = record["pred"].split("\n")[-1].lower(), record["gt"].lower()
    lines = record["pred"].strip().splitlines() or [""]
    if last.strip() != lines[-1].strip().lower():
        return (LAST_LINE,)
    if kind == "planning":
        return (SPACES,) if "" in [*last.split(" "), *reference.split(" ")] else (LAST_LINE,)
    if kind == "decide":
        return (YES_NO if "yes" in last or "no" in last else WORDING,)
    return (_text_quirk(last, reference, value),)


@dataclass(frozen=True)
class _Places:
    """An answer in pixels, and its numbers x, y, x, y … as they were written (up to rounding); none if unread."""

    answer: Answer | Unparsed
    numbers: tuple[float, ...]


def _read_places(task: Task, record: Record, source: str) -> tuple[_Places, _Places]:
    predicted_in, reference_in = assumed_spaces(record, source)
    return _places(task, record["pred"], predicted_in), _places(task, record["gt"], reference_in)


def _places(task: Task, text: str, space: Space) -> _Places:
    answer = task.read(text, space)
    points: tuple[Point, ...] = ()
    match answer:
        case Box():
            points = answer.corners
        case Trajectory():
            points = answer.points
    return _Places(answer, tuple(number for point in space.from_pixels(points) for number in point))


def _measured(task: Task, name: str, predicted: Answer | Unparsed, reference: Answer | Unparsed) -> float | None:
    if isinstance(predicted, Unparsed) or isinstance(reference, Unparsed):
        return None
    metric = next(metric for metric in task.metrics if metric.name == name)
    return metric.measure(predicted, reference, None)


def _same(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)


def _equal(first: Sequence[float], second: Sequence[float]) -> bool:
    # The written number went through pixels and back.
    return len(first) == len(second) and all(
        math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) for one, other in zip(first, second, strict=True)
    )
