"""What a record of another tool's prediction file says, under whatever names: id, prediction, reference, picture, size.

Known are the published `eval_details_*.json`, lmms-eval's samples (`doc`, `target`, `filtered_resps`), Qwen-VL's
RefCOCO results (`gt_bbox`, `hw`), and plain JSON or JSON lines. docs/foreign_files.md lists the names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from robointervlm.core.coordinates import ImageSize
from robointervlm.data.third_party import corners_of

IDS = ("id", "question_id", "sample_id", "doc_id", "uid", "index")
PREDICTIONS = (
    *("pred", "prediction", "pred_response", "predicted", "response", "model_response", "output", "model_output"),
    *("filtered_resps", "resps", "answer"),
)
REFERENCES = ("gt", "ground_truth", "gt_response", "gt_bbox", "label", "target", "reference", "answer")
IMAGES = ("image_path", "image", "images", "image_file", "img_path")
QUESTIONS = ("question", "prompt", "query", "input", "text", "sent")

BoxMeaning = Literal["xywh", "xyxy"]


@dataclass(frozen=True)
class ForeignRecord:
    """One record, counted from 0, its values as text. None is a prediction or reference that is not there.

    `question` is what was asked, empty if the record does not say; `size` is the picture's (width, height) and
    `processed` the size the model's processor made of it, where the record says them. `raw` holds prediction,
    reference, id and size as they stand in the file, for the published arithmetic, which depends on their types.
    """

    position: int
    id: str
    prediction: str | None
    reference: str | None
    image: str
    question: str
    size: ImageSize | None
    processed: ImageSize | None
    episode: str
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class FieldNames:
    """Which fields of a file are its prediction and its reference, where the known names do not fit.

    `box` says how the four numbers of a reference given as a list are meant; None is a corner with width and height for
    `gt_bbox`, and two corners for every other field.
    """

    prediction: str = ""
    reference: str = ""
    box: BoxMeaning | None = None


def foreign_record(record: Mapping[str, Any], position: int, names: FieldNames) -> ForeignRecord:
    """What the record at this position of its file says; nothing it lacks is an error here."""
    inner = record.get("doc")
    doc: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    predicted_by = names.prediction or _first(record, PREDICTIONS)
    references = (names.reference,) if names.reference else tuple(name for name in REFERENCES if name != predicted_by)
    prediction = _unwrapped(record.get(predicted_by))
    holder = record if _first(record, references) else doc
    referred_by = _first(holder, references)
    reference = holder.get(referred_by)
    meaning = names.box or ("xywh" if referred_by == "gt_bbox" else "xyxy")
    corners = corners_of(reference, meaning) if meaning == "xywh" else None
    both = {**doc, **record}
    image = next((both[field] for field in IMAGES if both.get(field)), "")
    while isinstance(image, list) and image:  # of several pictures the first
        image = image[0]
    name = next((both[field] for field in IDS if both.get(field) is not None), None)
    return ForeignRecord(
        position=position,
        id=str(name) if isinstance(name, str | int) else f"record {position}",
        prediction=_text(prediction),
        reference=_text(reference if corners is None else [list(corners[:2]), list(corners[2:])]),
        image=image if isinstance(image, str) else "",
        question=next((both[field] for field in QUESTIONS if isinstance(both.get(field), str)), ""),
        size=size_of(both),
        processed=_pair(both.get("new_w"), both.get("new_h")) or _listed(both.get("processed_size")),
        episode=str(both.get("episode") or ""),
        raw={
            "id": record.get("id"),
            "pred": prediction,
            "gt": reference,
            "image_size": record.get("image_size"),
            "task": record.get("task"),
        },
    )


def _first(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of these fields that the record has, with a value if any has one; "" without any."""
    there = [name for name in names if name in record]
    return next((name for name in there if record[name] is not None), there[0] if there else "")


def _unwrapped(value: Any) -> Any:
    """The one text of lmms-eval's lists of lists of replies; other lists stay lists."""
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        if isinstance(value[0], list) and not _holds_text(value[0]):
            break  # [[x1, y1, x2, y2]] is a list of numbers
        value = value[0]
    return value


def _holds_text(values: list[Any]) -> bool:
    return any(isinstance(value, str) or (isinstance(value, list) and _holds_text(value)) for value in values[:1])


def _text(value: Any) -> str | None:
    """A value as the text that would have said it: numbers and lists as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def size_of(record: Mapping[str, Any]) -> ImageSize | None:
    """The picture's size as a record says it: image_size [w, h], w and h, width and height, or hw [h, w]."""
    found = _listed(record.get("image_size"))
    found = found or _pair(record.get("w"), record.get("h")) or _pair(record.get("width"), record.get("height"))
    turned = _listed(record.get("hw"))
    return found or (ImageSize(turned.height, turned.width) if turned else None)


def _listed(value: Any) -> ImageSize | None:
    return _pair(value[0], value[1]) if isinstance(value, list) and len(value) == 2 else None


def _pair(width: Any, height: Any) -> ImageSize | None:
    sides = [side for side in (width, height) if isinstance(side, int | float) and not isinstance(side, bool)]
    if len(sides) != 2 or not all(1 <= side <= 10**6 and side == int(side) for side in sides):
        return None
    return ImageSize(int(sides[0]), int(sides[1]))
