"""ms-swift's grounding records: `<bbox>` and `<ref-object>` in the texts, and `objects` with what stands there.

A box of four numbers is two corners, one of two numbers a point. `bbox_type` says what they are in: `real` (also if it
is left out) is pixels of the stored picture, `norm1` is 0 to 1. ms-swift puts the numbers into the texts itself, in the
coordinates of the model it trains.
Source: its documentation of custom datasets, and what version 4.6.0 does with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from robointervlm.core.answer import Answer, Box, Points, Trajectory
from robointervlm.core.coordinates import CoordinateFormat, Point, Space
from robointervlm.core.errors import RecipeError
from robointervlm.core.sample import Question
from robointervlm.data.annotations import FieldError, is_finite_number

OBJECTS = "objects"
BOX, NAME = "<bbox>", "<ref-object>"
_MARKER = re.compile(f"{BOX}|{NAME}")
_FORMATS = {"real": CoordinateFormat.PIXEL, "norm1": CoordinateFormat.UNIT}
_TYPES = {kind: name for name, kind in _FORMATS.items()}
# A written list of points, whatever stands around it.
_LIST = re.compile(r"\[\[.*\]\]")
# Of a number of `objects`, which no model sees as it is: fine enough to come back exactly.
_DECIMALS = 4


def filled(record: Mapping[str, Any], declared: CoordinateFormat) -> Mapping[str, Any]:
    """The record with names and numbers in the place of its markers; itself if it has no `objects` or no markers.

    Raises `FieldError` where the record's numbers are not in the format that the dataset declares, where they are of
    another picture than the first, or where there are more or fewer of them than markers.
    """
    objects = record.get(OBJECTS)
    texts = "messages" if record.get("messages") is not None else "conversations"
    # Other projects have a field of this name, too.
    if not isinstance(objects, dict) or "bbox" not in objects or not _MARKER.search(json.dumps(record.get(texts))):
        return record
    _refuse_other_format(objects, declared)
    boxes = []
    for box in _listed(objects, "bbox"):
        if not isinstance(box, list) or not all(map(is_finite_number, box)) or len(box) not in {2, 4}:
            raise FieldError(f"{OBJECTS}.bbox", f"holds {box!r:.60}; two or four numbers are expected")
        boxes.append(json.dumps([_shortest(value) for value in box]))
    names = _listed(objects, "ref")
    if not all(isinstance(name, str) for name in names):
        raise FieldError(f"{OBJECTS}.ref", f"is {names!r:.60}; texts are expected")
    written = {BOX: iter(boxes), NAME: iter(names)}
    messages = record.get(texts)
    said = [_filled_message(message, written) for message in (messages if isinstance(messages, list) else ())]
    for marker, left in written.items():
        if more := len(list(left)):
            raise FieldError(OBJECTS, f"has {more} more places or names than the text has {marker} markers")
    return {key: value for key, value in record.items() if key != OBJECTS} | {texts: said}


def _refuse_other_format(objects: Mapping[str, Any], declared: CoordinateFormat) -> None:
    kind = objects.get("bbox_type") or "real"
    if not isinstance(kind, str) or kind not in _FORMATS:
        raise FieldError(f"{OBJECTS}.bbox_type", f"is {kind!r:.40}; one of {', '.join(_FORMATS)} is expected")
    if _FORMATS[kind] is not declared:
        raise FieldError(
            f"{OBJECTS}.bbox_type",
            f"is {kind}, whose numbers are in '{_FORMATS[kind].value}' format; the dataset declares '{declared.value}'",
        )
    if any(_listed(objects, "image_id")):
        raise FieldError(f"{OBJECTS}.image_id", "names another picture than the first; places are those of the first")


def _listed(objects: Mapping[str, Any], name: str) -> list[Any]:
    value = objects.get(name) or []
    if not isinstance(value, list):
        raise FieldError(f"{OBJECTS}.{name}", f"is {value!r:.40}; a list is expected")
    return value


def _shortest(value: float) -> float:
    """A whole number as an `int`, which is written without a point."""
    return int(value) if value == int(value) else value


def _filled_message(message: Any, written: Mapping[str, Iterator[str]]) -> Any:
    """The message with its markers replaced, in order; what is no message is left to the reader of records."""
    text = next((key for key in ("content", "value") if isinstance(message, dict) and key in message), "")
    if not text or not isinstance(message[text], str):
        return message

    def following(match: re.Match[str]) -> str:
        value = next(written[match[0]], None)
        if value is None:
            raise FieldError(OBJECTS, f"has fewer places or names than the text has {match[0]} markers")
        return value

    return {**message, text: _MARKER.sub(following, message[text])}


@dataclass
class Marking:
    """Writes a conversation with markers and collects the places that they stand for.

    Raises `RecipeError` for a format that ms-swift has no name for.
    """

    space: Space | None
    target: CoordinateFormat
    boxes: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.target not in _TYPES:
            raise RecipeError(
                f"ms-swift takes pixel or unit numbers, not {self.target.value}; it converts them itself."
            )

    def question(self, question: Question) -> str:
        """The question with a marker for each place in it."""
        return "".join(_plain(part) if isinstance(part, str) else self._mark(part.points) for part in question)

    def answer(self, answer: Answer, write: Callable[[Answer, Space | None], str]) -> str:
        """The answer as `write` writes it, a marker in the place of its box or of each of its points."""
        if isinstance(answer, Box):
            places = self._mark(answer.corners)
        elif isinstance(answer, Points | Trajectory):
            places = f"[{', '.join(self._mark((point,)) for point in answer.points)}]"
        elif answer.places:
            raise FieldError("answer", f"is a {type(answer).__name__}, for whose places ms-swift has no name")
        else:
            return _plain(write(answer, self.space))
        return _LIST.sub(places, write(answer, self.space))

    def objects(self) -> dict[str, Any]:
        """The record's `objects`, as a dictionary with that key; empty if there are no places."""
        if not self.boxes:
            return {}
        return {OBJECTS: {"ref": [], "bbox": self.boxes, "bbox_type": _TYPES[self.target]}}

    def _mark(self, points: tuple[Point, ...]) -> str:
        assert self.space is not None  # there are no places without a picture
        converted = self.space.from_pixels(points)
        self.boxes.append([_shortest(round(value, _DECIMALS)) for point in converted for value in point])
        return BOX


def _plain(text: str) -> str:
    if found := _MARKER.search(text):
        raise FieldError("conversations", f"holds {found[0]}, which ms-swift would put a place or a name for")
    return text
